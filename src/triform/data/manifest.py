"""The manifest of a folder of prepared clouds: every cloud with its digest and split, what made them, and one digest over all."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from triform.data.bookkeeping import Book, ManifestOf, read_manifest
from triform.data.config import CloudRecipe
from triform.data.quarantine import Quarantined
from triform.data.sampled_cloud import STEP_VERSION
from triform.data.split import Split


@dataclass(frozen=True, slots=True)
class CloudRecord:
    """One prepared cloud."""

    name: str
    split: Split
    group: str
    """What it must not be separated from: genotype or plant, joined where contents are equal."""
    source_sha256: str
    num_source_points: int
    num_dropped: int
    """Points that were not finite."""
    sha256: str
    """Of the .npz file."""

    def path(self, prepared_dir: Path) -> Path:
        """Where the cloud lies."""
        return cloud_path(prepared_dir, self.name)


@dataclass(frozen=True, slots=True)
class Manifest(ManifestOf[CloudRecord]):
    """A folder of prepared clouds."""

    BOOK = Book("triform prepared clouds", STEP_VERSION, "clouds", ("recipe", "clouds"))

    recipe: CloudRecipe
    clouds: tuple[CloudRecord, ...]


def cloud_path(prepared_dir: Path, name: str) -> Path:
    """Where a cloud of this name lies."""
    return prepared_dir / "clouds" / f"{name}.npz"


def make_manifest(prepared_dir: Path, recipe: CloudRecipe, *, clouds: list[CloudRecord], quarantined: list[Quarantined]) -> Manifest:
    """Sort the clouds and take the digest over all of them."""
    in_order = tuple(sorted(clouds, key=lambda cloud: cloud.name))
    return Manifest(prepared_dir, "", tuple(quarantined), recipe, in_order).sealed()


def load_manifest(prepared_dir: Path | str) -> Manifest | None:
    """Read the manifest of a prepared folder, or return None where there is none of this version. Raises: DataError: It was changed."""
    return read_manifest(Manifest, Path(prepared_dir), _parse)


def recipe_of(settings: CloudRecipe) -> CloudRecipe:
    """The part of some settings that decides the result."""
    return CloudRecipe(**{field.name: getattr(settings, field.name) for field in fields(CloudRecipe)})


def _parse(tree: dict[str, Any]) -> dict[str, Any]:
    return {"recipe": CloudRecipe(**tree["recipe"]), "clouds": tuple(CloudRecord(**cloud) for cloud in tree["clouds"])}
