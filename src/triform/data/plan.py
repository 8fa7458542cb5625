"""The plan of a preparation: which files, in which batches. It lies in the prepared folder, so that any process can take a batch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from triform.data.config import CloudRecipe, CloudSettings
from triform.data.manifest import MANIFEST_NAME, digest_of, read_object, recipe_of
from triform.data.raw_files import RawFile, RawFiles
from triform.data.sampled_cloud import STEP_VERSION
from triform.data.split import Split, assign_splits
from triform.errors import CannotWrite, DataError
from triform.files import disk_errors, write_all

_BATCH_SIZE = 32
_FORMAT = "triform preparation plan"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to prepare."""

    prepared_dir: Path
    root: Path
    """Folder or archive of the raw files."""
    recipe: CloudRecipe
    max_quarantine_fraction: float
    files: tuple[RawFile, ...]
    groups: dict[str, str]
    """Cloud -> genotype or plant."""
    batch_size: int = _BATCH_SIZE

    @property
    def num_batches(self) -> int:
        """Batches of `batch_size` files; the last may be smaller."""
        return -(-len(self.files) // self.batch_size)

    @property
    def digest(self) -> str:
        """Of the files' names and sizes, the groups and the settings; not of the paths."""
        tree = _tree(self)
        return digest_of({key: tree[key] for key in tree if key != "root"})

    def batch(self, number: int) -> tuple[RawFile, ...]:
        """The files of one batch. Raises: IndexError."""
        if not 0 <= number < self.num_batches:
            raise IndexError(f"batch {number} of {self.num_batches}")
        return self.files[number * self.batch_size : (number + 1) * self.batch_size]

    def batch_path(self, number: int) -> Path:
        """Where the outcome of a batch is recorded."""
        return self.prepared_dir / "plan" / f"batch-{number:05d}.json"

    def split_of(self, groups: dict[str, str]) -> dict[str, Split]:
        """Deal the clouds that `groups` names to the splits. Raises: DataError: fewer than three."""
        recipe = self.recipe
        return assign_splits(groups, val_fraction=recipe.val_fraction, test_fraction=recipe.test_fraction, seed=recipe.split_seed)


def plan(settings: CloudSettings, source: RawFiles) -> Plan:
    """List the files in their batches and write the list to `plan/plan.json` in the prepared folder.

    Raises:
        DataError: There are fewer than three files or groups.
        CannotWrite: The prepared folder can't be made, or holds something else.
        DiskFull.
    """
    groups = {file.name: source.group_of.get(file.name, f"plant {file.name}") for file in source.files}
    made = Plan(settings.prepared_folder(), source.root, recipe_of(settings), settings.max_quarantine_fraction, source.files, groups)
    made.split_of(groups)
    _claim_folder(made.prepared_dir)
    write_all({_plan_path(made.prepared_dir): json.dumps(_tree(made), indent=1).encode()})
    return made


def load_plan(prepared_dir: Path | str) -> Plan:
    """Read what `plan` wrote. Raises: DataError: there is no plan, or it was made by another version."""
    folder = Path(prepared_dir)
    tree = read_object(_plan_path(folder))
    if tree.get("format") != _FORMAT or tree.get("step_version") != STEP_VERSION:
        raise DataError(f"{_plan_path(folder)} is no plan of this version", expected="a planned preparation", do="run `triform prepare`")
    return Plan(
        prepared_dir=folder,
        root=Path(tree["root"]),
        recipe=CloudRecipe(**tree["recipe"]),
        max_quarantine_fraction=tree["max_quarantine_fraction"],
        files=tuple(RawFile(**file) for file in tree["files"]),
        groups=tree["groups"],
        batch_size=tree["batch_size"],
    )


def _claim_folder(folder: Path) -> None:
    """Make the folder. One that holds other things is refused: `finalize` removes what the manifest doesn't name."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        ours = (folder / MANIFEST_NAME).exists() or (folder / "plan").exists()
        if not ours and any(folder.iterdir()):
            raise CannotWrite(f"{folder} holds other files", expected="an empty folder or a prepared one", do="give another --prepared-dir")


def _plan_path(folder: Path) -> Path:
    return folder / "plan" / "plan.json"


def _tree(made: Plan) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "step_version": STEP_VERSION,
        "root": str(made.root),
        "recipe": asdict(made.recipe),
        "max_quarantine_fraction": made.max_quarantine_fraction,
        "files": [{"name": file.name, "member": file.member, "num_bytes": file.num_bytes} for file in made.files],
        "groups": made.groups,
        "batch_size": made.batch_size,
    }
