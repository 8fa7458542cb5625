"""The plan of a preparation of meshes: which, in which batches, and what they share."""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triform.data import batches
from triform.data.batches import PlanOf, read_plan
from triform.data.bookkeeping import Book
from triform.data.meshes.config import MeshRecipe, MeshSettings
from triform.data.meshes.indices import read_indices
from triform.data.meshes.manifest import recipe_of
from triform.data.meshes.raw_meshes import (
    MeshArrays,
    RawMesh,
    RawMeshes,
    SourceKind,
    check_names,
    check_protocol,
    open_raw_meshes,
    raw_mirror,
)
from triform.data.meshes.sampled_mesh import STEP_VERSION, check_raw
from triform.data.meshes.template import Template, make_template, template_from_npz
from triform.data.quarantine import BadFile
from triform.errors import DataError

_BATCH_SIZE = 64
_WRITTEN = ("root", "kind", "recipe", "max_quarantine_fraction", "template_sha256", "meshes", "batch_size")


@dataclass(frozen=True, slots=True)
class MeshPlan(PlanOf[RawMesh]):
    """What to prepare. A batch's arrays lie beside its outcome until they are gathered, as .npz."""

    BOOK = Book("triform mesh preparation plan", STEP_VERSION, "meshes", _WRITTEN)

    kind: SourceKind
    recipe: MeshRecipe
    meshes: tuple[RawMesh, ...]
    template: Template
    batch_size: int = _BATCH_SIZE

    @property
    def starts(self) -> Sequence[int]:
        """Place of each batch's first mesh."""
        return range(0, len(self.meshes), self.batch_size)

    @property
    def template_sha256(self) -> str:
        """Of what all meshes share."""
        return self.template.sha256

    @property
    def step(self) -> str:
        """What decides a mesh's arrays, beside its raw content and its name."""
        key = f"seed {self.recipe.split_seed}" if not self.recipe.registered else "registered"
        return f"{STEP_VERSION}/{self.template.sha256}/{key}"


def plan(settings: MeshSettings, source: RawMeshes | None = None) -> MeshPlan:
    """List the meshes in their batches, choose the vertices to keep, and write both to `plan/` in the prepared folder.

    Args:
        source: What `settings.raw_meshes()` gives, where it is known already.

    Raises:
        DataError: The data is not as its format and protocol say, or has too few vertices.
        CannotWrite: The prepared folder can't be made, or holds something else.
        DiskFull, UsageError.
    """
    found = source or settings.raw_meshes()
    check_names(found.meshes)
    check_protocol(found.meshes, settings.protocol)
    recipe = recipe_of(settings)
    template = _template(settings, recipe, found)
    made = MeshPlan(settings.prepared_folder(), found.root, settings.max_quarantine_fraction, found.kind, recipe, found.meshes, template)
    return made.write({_template_path(made.prepared_dir, template.sha256): template.as_npz()})


def is_planned(prepared_dir: Path | str) -> bool:
    """Whether what lies in this folder is a plan of meshes."""
    return batches.is_planned(MeshPlan, prepared_dir)


def load_plan(prepared_dir: Path | str) -> MeshPlan:
    """Read what `plan` wrote. Raises: DataError: there is no plan, or it was made by another version."""
    return read_plan(MeshPlan, Path(prepared_dir), lambda tree: _parse(tree, Path(prepared_dir)))


def _parse(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    shared = {"recipe": MeshRecipe(**tree["recipe"]), "template": _load_template(folder, tree["template_sha256"])}
    return {**shared, "kind": tree["kind"], "meshes": tuple(RawMesh(**mesh) for mesh in tree["meshes"]), "batch_size": tree["batch_size"]}


def _template(settings: MeshSettings, recipe: MeshRecipe, source: RawMeshes) -> Template:
    paths = {what: Path(path).expanduser() for what in ("vertex_indices", "mirror_indices") if (path := getattr(settings, what))}
    lists = {what: read_indices(path, what=what) for what, path in paths.items()}
    mirror = lists.get("mirror_indices")
    if mirror is None and recipe.registered:
        mirror = raw_mirror(source.root, source.kind)
    return make_template(_first_good(source), recipe, indices=lists.get("vertex_indices"), mirror=mirror)


def _first_good(source: RawMeshes) -> MeshArrays:
    """The first training mesh, by name, that can be used."""
    reasons: list[str] = []
    with open_raw_meshes(source.root, source.kind) as read:
        for mesh in source.meshes:
            if mesh.split == "train":
                try:
                    raw = read(mesh)
                    check_raw(raw)
                    return raw
                except BadFile as bad:
                    reasons.append(f"{mesh.member}: {bad}")
    raise DataError(f"No training mesh can be used; {reasons[0]}", expected="meshes", do="repair or export them again")


def _load_template(folder: Path, sha256: str) -> Template:
    path = _template_path(folder, sha256)
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError("its content is not what was planned")
        return template_from_npz(data)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} can't be used: {error}", expected="the template that was planned", do="run `triform prepare` again"
        ) from error


def _template_path(folder: Path, sha256: str) -> Path:
    return folder / "plan" / f"template-{sha256[:16]}.npz"
