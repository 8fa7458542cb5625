"""The plan of a preparation of meshes: which, in which batches, and what they share. It lies in the prepared folder."""

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from triform.data.manifest import MANIFEST_NAME, digest_of, read_object
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
from triform.errors import CannotWrite, DataError
from triform.files import disk_errors, write_all

_BATCH_SIZE = 64
_FORMAT = "triform mesh preparation plan"


@dataclass(frozen=True, slots=True)
class MeshPlan:
    """What to prepare."""

    prepared_dir: Path
    root: Path
    """Folder of the raw meshes."""
    kind: SourceKind
    recipe: MeshRecipe
    max_quarantine_fraction: float
    meshes: tuple[RawMesh, ...]
    template: Template
    batch_size: int = _BATCH_SIZE

    @property
    def num_batches(self) -> int:
        """Batches of `batch_size` meshes; the last may be smaller."""
        return -(-len(self.meshes) // self.batch_size)

    @property
    def digest(self) -> str:
        """Of the meshes' names, labels and splits, the template and the settings; not of the paths."""
        tree = _tree(self)
        return digest_of({key: tree[key] for key in tree if key != "root"})

    @property
    def step(self) -> str:
        """What decides a mesh's arrays, beside its raw content and its name."""
        key = f"seed {self.recipe.split_seed}" if not self.recipe.registered else "registered"
        return f"{STEP_VERSION}/{self.template.sha256}/{key}"

    def batch(self, number: int) -> tuple[RawMesh, ...]:
        """The meshes of one batch. Raises: IndexError."""
        if not 0 <= number < self.num_batches:
            raise IndexError(f"batch {number} of {self.num_batches}")
        return self.meshes[number * self.batch_size : (number + 1) * self.batch_size]

    def batch_path(self, number: int) -> Path:
        """Where the outcome of a batch is recorded; its arrays lie beside it until they are gathered, as .npz."""
        return self.prepared_dir / "plan" / f"batch-{number:05d}.json"


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
    made = MeshPlan(settings.prepared_folder(), found.root, found.kind, recipe, settings.max_quarantine_fraction, found.meshes, template)
    _claim_folder(made.prepared_dir)
    tree = json.dumps(_tree(made), indent=1).encode()
    write_all({_template_path(made.prepared_dir, template.sha256): template.as_npz(), _plan_path(made.prepared_dir): tree})
    return made


def is_planned(prepared_dir: Path | str) -> bool:
    """Whether what lies in this folder is a plan of meshes."""
    return read_object(_plan_path(Path(prepared_dir))).get("format") == _FORMAT


def load_plan(prepared_dir: Path | str) -> MeshPlan:
    """Read what `plan` wrote. Raises: DataError: there is no plan, or it was made by another version."""
    folder = Path(prepared_dir)
    tree = read_object(_plan_path(folder))
    if tree.get("format") != _FORMAT or tree.get("step_version") != STEP_VERSION:
        raise DataError(f"{_plan_path(folder)} is no plan of this version", expected="a planned preparation", do="run `triform prepare`")
    return MeshPlan(
        prepared_dir=folder,
        root=Path(tree["root"]),
        kind=tree["kind"],
        recipe=MeshRecipe(**tree["recipe"]),
        max_quarantine_fraction=tree["max_quarantine_fraction"],
        meshes=tuple(RawMesh(**mesh) for mesh in tree["meshes"]),
        template=_load_template(folder, tree["template_sha256"]),
        batch_size=tree["batch_size"],
    )


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


def _claim_folder(folder: Path) -> None:
    """Make the folder. One that holds other things is refused: raw data must never be written over."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        ours = (folder / MANIFEST_NAME).exists() or (folder / "plan").exists()
        if not ours and any(folder.iterdir()):
            raise CannotWrite(f"{folder} holds other files", expected="an empty folder or a prepared one", do="give another --prepared-dir")


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


def _plan_path(folder: Path) -> Path:
    return folder / "plan" / "plan.json"


def _template_path(folder: Path, sha256: str) -> Path:
    return folder / "plan" / f"template-{sha256[:16]}.npz"


def _tree(made: MeshPlan) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "step_version": STEP_VERSION,
        "root": str(made.root),
        "kind": made.kind,
        "recipe": asdict(made.recipe),
        "max_quarantine_fraction": made.max_quarantine_fraction,
        "template_sha256": made.template.sha256,
        "meshes": [asdict(mesh) for mesh in made.meshes],
        "batch_size": made.batch_size,
    }
