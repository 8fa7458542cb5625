"""The plan of a preparation of clouds: which files, in which batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triform.data.batches import PlanOf, read_plan
from triform.data.bookkeeping import Book
from triform.data.config import CloudRecipe, CloudSettings
from triform.data.manifest import recipe_of
from triform.data.raw_files import RawFile, RawFiles
from triform.data.sampled_cloud import STEP_VERSION
from triform.data.split import Split, assign_splits

_BATCH_SIZE = 32
_WRITTEN = ("root", "recipe", "max_quarantine_fraction", "files", "groups", "batch_size")


@dataclass(frozen=True, slots=True)
class Plan(PlanOf[RawFile]):
    """What to prepare."""

    BOOK = Book("triform preparation plan", STEP_VERSION, "files", _WRITTEN)

    recipe: CloudRecipe
    files: tuple[RawFile, ...]
    groups: dict[str, str]
    """Cloud -> genotype or plant."""
    batch_size: int = _BATCH_SIZE

    @property
    def starts(self) -> Sequence[int]:
        """Place of each batch's first file."""
        return range(0, len(self.files), self.batch_size)

    def split_of(self, groups: dict[str, str]) -> dict[str, Split]:
        """Deal the clouds that `groups` names to the splits. Raises: DataError: fewer than three."""
        recipe = self.recipe
        return assign_splits(groups, val_fraction=recipe.val_fraction, test_fraction=recipe.test_fraction, seed=recipe.split_seed)


def plan(settings: CloudSettings, source: RawFiles | None = None) -> Plan:
    """List the files in their batches and write the list to `plan/plan.json` in the prepared folder.

    Args:
        source: What `settings.raw_files()` gives, where it is known already.

    Raises:
        DataError: There are fewer than three files or groups.
        CannotWrite: The prepared folder can't be made, or holds something else.
        DiskFull.
    """
    source = source or settings.raw_files()
    groups = {file.name: source.group_of.get(file.name, f"plant {file.name}") for file in source.files}
    made = Plan(settings.prepared_folder(), source.root, settings.max_quarantine_fraction, recipe_of(settings), source.files, groups)
    made.split_of(groups)
    return made.write()


def load_plan(prepared_dir: Path | str) -> Plan:
    """Read what `plan` wrote. Raises: DataError: there is no plan, or it was made by another version."""
    return read_plan(Plan, Path(prepared_dir), _parse)


def _parse(tree: dict[str, Any]) -> dict[str, Any]:
    files = tuple(RawFile(**file) for file in tree["files"])
    return {"recipe": CloudRecipe(**tree["recipe"]), "files": files, "groups": tree["groups"], "batch_size": tree["batch_size"]}
