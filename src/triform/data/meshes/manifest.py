"""The manifest of a folder of prepared meshes: every mesh with its digest and split, what made them, and one digest over all."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from triform.data.manifest import MANIFEST_NAME, digest_of, read_object
from triform.data.meshes.config import MeshRecipe
from triform.data.meshes.indices import digest_of_indices, read_indices
from triform.data.meshes.sampled_mesh import STEP_VERSION
from triform.data.quarantine import Quarantined
from triform.data.split import Split
from triform.errors import DataError

_FORMAT = "triform prepared meshes"


@dataclass(frozen=True, slots=True)
class MeshRecord:
    """One prepared mesh."""

    name: str
    """`subject/mesh`."""
    subject: str
    split: Split
    label: int
    """As the data numbers its subjects."""
    source_sha256: str
    """Of the raw content."""
    content_sha256: str
    """Of all raw coordinates in float32."""
    sha256: str
    """Of the prepared coordinates and normals."""
    mean_square: float
    """Mean squared distance of a vertex from the centroid, in the square of the unit."""

    def as_tree(self) -> dict[str, Any]:
        """The fields by name; `asdict` copies each deeply and takes ten times as long."""
        return {name: getattr(self, name) for name in MeshRecord.__slots__}


@dataclass(frozen=True, slots=True)
class MeshManifest:
    """A prepared folder. The digest says nothing of paths and times: the same raw content gives the same one anywhere."""

    prepared_dir: Path
    digest: str
    recipe: MeshRecipe
    """As it was asked for; in the place of a list's path stands the digest of its content."""
    num_vertices: int
    scale: float
    """Root of the mean squared distance of a vertex from its mesh's centroid, over the training meshes."""
    shared_sha256: str
    """Of what all meshes share: triangles, and which vertex mirrors which."""
    meshes: tuple[MeshRecord, ...]
    quarantined: tuple[Quarantined, ...]
    step_version: int = STEP_VERSION

    @property
    def num_samples(self) -> int:
        """Meshes in all splits."""
        return len(self.meshes)

    def count(self, split: Split) -> int:
        """Meshes in one split."""
        return len(self.of_split(split))

    def of_split(self, split: Split) -> tuple[MeshRecord, ...]:
        """The meshes of one split, sorted by name."""
        return tuple(mesh for mesh in self.meshes if mesh.split == split)

    def as_json(self) -> bytes:
        """The content of `manifest.json`."""
        tree = {"format": _FORMAT, "digest": self.digest, **_body(self), "quarantined": [asdict(file) for file in self.quarantined]}
        return (json.dumps(tree, indent=1) + "\n").encode()


def make_manifest(
    prepared_dir: Path,
    recipe: MeshRecipe,
    *,
    num_vertices: int,
    shared_sha256: str,
    meshes: Iterable[MeshRecord],
    quarantined: Iterable[Quarantined],
) -> MeshManifest:
    """Sort the meshes, measure their scale and take the digest over all of them."""
    in_order = tuple(sorted(meshes, key=lambda mesh: mesh.name))
    squares = [mesh.mean_square for mesh in in_order if mesh.split == "train"]
    scale = math.sqrt(math.fsum(squares) / len(squares))
    made = MeshManifest(prepared_dir, "", recipe, num_vertices, scale, shared_sha256, in_order, tuple(quarantined))
    return replace(made, digest=digest_of(_body(made)))


def load_manifest(prepared_dir: Path | str) -> MeshManifest | None:
    """Read the manifest of a prepared folder, or return None where there is none of this version.

    Raises: DataError: It was changed by hand or by a broken disk: its digest isn't that of its content.
    """
    path = Path(prepared_dir) / MANIFEST_NAME
    tree = read_object(path)
    if tree.get("format") != _FORMAT or tree.get("step_version") != STEP_VERSION:
        return None
    try:
        manifest = MeshManifest(
            prepared_dir=Path(prepared_dir),
            recipe=MeshRecipe(**tree["recipe"]),
            meshes=tuple(MeshRecord(**mesh) for mesh in tree["meshes"]),
            quarantined=tuple(Quarantined(**file) for file in tree["quarantined"]),
            **{name: tree[name] for name in ("digest", "num_vertices", "scale", "shared_sha256")},
        )
    except (KeyError, TypeError):
        manifest = None
    if manifest is None or manifest.digest != digest_of(_body(manifest)):
        raise DataError(
            f"{path} is not as it was written", expected="the content its digest was taken of", do="run `triform prepare` again"
        )
    return manifest


def recipe_of(settings: MeshRecipe) -> MeshRecipe:
    """The part of some settings that decides the result, with lists named by content. Raises: DataError: a list can't be read."""
    made = MeshRecipe(**{field.name: getattr(settings, field.name) for field in fields(MeshRecipe)})
    return replace(
        made,
        vertex_indices=_named_by_content(made.vertex_indices, what="vertex_indices"),
        mirror_indices=_named_by_content(made.mirror_indices, what="mirror_indices"),
    )


def _named_by_content(path: str, *, what: str) -> str:
    return digest_of_indices(read_indices(Path(path).expanduser(), what=what)) if path else ""


def _body(made: MeshManifest) -> dict[str, Any]:
    plain = {name: getattr(made, name) for name in ("step_version", "num_vertices", "scale", "shared_sha256")}
    return {**plain, "recipe": asdict(made.recipe), "meshes": [mesh.as_tree() for mesh in made.meshes]}
