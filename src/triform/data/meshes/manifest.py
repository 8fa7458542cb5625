"""The manifest of a folder of prepared meshes: every mesh with its digest and split, what made them, and one digest over all."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from triform.data.bookkeeping import Book, ManifestOf, read_manifest
from triform.data.meshes.config import MeshRecipe
from triform.data.meshes.indices import digest_of_indices, read_indices
from triform.data.meshes.sampled_mesh import STEP_VERSION
from triform.data.quarantine import Quarantined
from triform.data.split import Split

_PLAIN = ("num_vertices", "scale", "shared_sha256")


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


@dataclass(frozen=True, slots=True)
class MeshManifest(ManifestOf[MeshRecord]):
    """A folder of prepared meshes."""

    BOOK = Book("triform prepared meshes", STEP_VERSION, "meshes", (*_PLAIN, "recipe", "meshes"))

    recipe: MeshRecipe
    """As it was asked for; in the place of a list's path stands the digest of its content."""
    num_vertices: int
    scale: float
    """Root of the mean squared distance of a vertex from its mesh's centroid, over the training meshes."""
    shared_sha256: str
    """Of what all meshes share: triangles, and which vertex mirrors which."""
    meshes: tuple[MeshRecord, ...]


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
    return MeshManifest(prepared_dir, "", tuple(quarantined), recipe, num_vertices, scale, shared_sha256, in_order).sealed()


def load_manifest(prepared_dir: Path | str) -> MeshManifest | None:
    """Read the manifest of a prepared folder, or return None where there is none of this version. Raises: DataError: It was changed."""
    return read_manifest(MeshManifest, Path(prepared_dir), _parse)


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


def _parse(tree: dict[str, Any]) -> dict[str, Any]:
    plain = {name: tree[name] for name in _PLAIN}
    return {**plain, "recipe": MeshRecipe(**tree["recipe"]), "meshes": tuple(MeshRecord(**mesh) for mesh in tree["meshes"])}
