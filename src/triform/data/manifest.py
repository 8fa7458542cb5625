"""The manifest of a prepared folder: every cloud with its digest and split, what made them, and one digest over all."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from triform.data.config import CloudRecipe
from triform.data.quarantine import Quarantined
from triform.data.sampled_cloud import STEP_VERSION
from triform.data.split import Split
from triform.errors import DataError

MANIFEST_NAME = "manifest.json"
_FORMAT = "triform prepared clouds"


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

    def as_tree(self) -> dict[str, Any]:
        """The fields by name; `asdict` copies each deeply and takes ten times as long."""
        return {name: getattr(self, name) for name in CloudRecord.__slots__}

    def path(self, prepared_dir: Path) -> Path:
        """Where the cloud lies."""
        return cloud_path(prepared_dir, self.name)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A prepared folder. The digest says nothing of paths and times: the same raw content gives the same one anywhere."""

    prepared_dir: Path
    digest: str
    recipe: CloudRecipe
    clouds: tuple[CloudRecord, ...]
    quarantined: tuple[Quarantined, ...]
    step_version: int = STEP_VERSION

    @property
    def num_samples(self) -> int:
        """Clouds of all splits."""
        return len(self.clouds)

    def count(self, split: Split) -> int:
        """Clouds of one split."""
        return len(self.of_split(split))

    def of_split(self, split: Split) -> tuple[CloudRecord, ...]:
        """The clouds of one split, sorted by name."""
        return tuple(cloud for cloud in self.clouds if cloud.split == split)

    def as_json(self) -> bytes:
        """The content of `manifest.json`."""
        body = _body(self.recipe, self.clouds, self.step_version)
        tree = {"format": _FORMAT, "digest": self.digest, **body, "quarantined": [asdict(file) for file in self.quarantined]}
        return (json.dumps(tree, indent=1) + "\n").encode()


def cloud_path(prepared_dir: Path, name: str) -> Path:
    """Where a cloud of this name lies."""
    return prepared_dir / "clouds" / f"{name}.npz"


def make_manifest(prepared_dir: Path, recipe: CloudRecipe, *, clouds: list[CloudRecord], quarantined: list[Quarantined]) -> Manifest:
    """Sort the clouds and take the digest over all of them."""
    in_order = tuple(sorted(clouds, key=lambda cloud: cloud.name))
    digest = digest_of(_body(recipe, in_order, STEP_VERSION))
    return Manifest(prepared_dir, digest, recipe, in_order, tuple(quarantined))


def load_manifest(prepared_dir: Path | str) -> Manifest | None:
    """Read the manifest of a prepared folder, or return None where there is none of this version.

    Raises: DataError: It was changed by hand or by a broken disk: its digest isn't that of its content.
    """
    path = Path(prepared_dir) / MANIFEST_NAME
    tree = read_object(path)
    if tree.get("format") != _FORMAT or tree.get("step_version") != STEP_VERSION:
        return None
    try:
        clouds = tuple(CloudRecord(**cloud) for cloud in tree["clouds"])
        quarantined = tuple(Quarantined(**file) for file in tree["quarantined"])
        recipe = CloudRecipe(**tree["recipe"])
        manifest = Manifest(Path(prepared_dir), str(tree["digest"]), recipe, clouds, quarantined)
    except (KeyError, TypeError):
        manifest = None
    if manifest is None or manifest.digest != digest_of(_body(recipe, clouds, STEP_VERSION)):
        raise DataError(
            f"{path} is not as it was written", expected="the content its digest was taken of", do="run `triform prepare` again"
        )
    return manifest


def recipe_of(settings: CloudRecipe) -> CloudRecipe:
    """The part of some settings that decides the result."""
    return CloudRecipe(**{field.name: getattr(settings, field.name) for field in fields(CloudRecipe)})


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; what is missing, torn or something else reads as an empty one."""
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def digest_of(tree: Mapping[str, Any]) -> str:
    """SHA-256 of a tree's canonical JSON."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _body(recipe: CloudRecipe, clouds: tuple[CloudRecord, ...], step_version: int) -> dict[str, Any]:
    return {"step_version": step_version, "recipe": asdict(recipe), "clouds": [cloud.as_tree() for cloud in clouds]}
