"""The books of a prepared folder, for all kinds of data: JSON of a known format and version, and the manifest."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from triform.data.quarantine import Quarantined
from triform.data.split import Split
from triform.errors import DataError
from triform.files import write_all

MANIFEST_NAME = "manifest.json"
_SCALARS = (str, int, float)  # first, because most values are: `asdict` takes more than three times as long
Parse = Callable[[dict[str, Any]], dict[str, Any]]
"""From the tree of a file to the fields that only this kind of data has. Raises: KeyError, TypeError."""


class Dealt(Protocol):
    """A sample that has a split."""

    @property
    def split(self) -> Split:
        """Where it was dealt."""
        ...


Record = TypeVar("Record", bound=Dealt)


@dataclass(frozen=True, slots=True)
class Book:
    """What a file is like. The step's version must be the same, or the file counts for nothing."""

    format: str
    step_version: int
    samples: str
    """The field that lists the samples."""
    written: tuple[str, ...]
    """Fields in the file, in its order."""

    def tree(self, one: Any) -> dict[str, Any]:
        """The written fields of `one`."""
        return {"step_version": self.step_version, **{name: plain(getattr(one, name)) for name in self.written}}

    def read(self, path: Path) -> dict[str, Any] | None:
        """The tree of a file of this format and version, or None."""
        tree = read_object(path)
        return tree if (tree.get("format"), tree.get("step_version")) == (self.format, self.step_version) else None


@dataclass(frozen=True, slots=True)
class ManifestOf(Generic[Record]):
    """A prepared folder. The digest says nothing of paths and times: the same raw content gives the same one anywhere."""

    BOOK: ClassVar[Book]

    prepared_dir: Path
    digest: str
    quarantined: tuple[Quarantined, ...]

    @property
    def samples(self) -> tuple[Record, ...]:
        """Records of all splits, sorted by name."""
        listed: tuple[Record, ...] = getattr(self, self.BOOK.samples)
        return listed

    @property
    def num_samples(self) -> int:
        """Samples of all splits."""
        return len(self.samples)

    def count(self, split: Split) -> int:
        """Samples of one split."""
        return len(self.of_split(split))

    def of_split(self, split: Split) -> tuple[Record, ...]:
        """The records of one split, sorted by name."""
        return tuple(one for one in self.samples if one.split == split)

    def sealed(self) -> Self:
        """The same with its digest."""
        return replace(self, digest=digest_of(self.BOOK.tree(self)))

    def as_json(self) -> bytes:
        """The content of `manifest.json`."""
        tree = {"format": self.BOOK.format, "digest": self.digest, **self.BOOK.tree(self), "quarantined": plain(self.quarantined)}
        return (json.dumps(tree, indent=1) + "\n").encode()

    def write(self) -> None:
        """Write `manifest.json`. Raises: CannotWrite, DiskFull."""
        write_all({self.prepared_dir / MANIFEST_NAME: self.as_json()})


M = TypeVar("M", bound=ManifestOf[Any])


def read_manifest(kind: type[M], folder: Path, parse: Parse) -> M | None:
    """The manifest of a prepared folder, or None where there is none of this version.

    Raises: DataError: It was changed by hand or by a broken disk: its digest isn't that of its content.
    """
    path = folder / MANIFEST_NAME
    if (tree := kind.BOOK.read(path)) is None:
        return None
    try:
        quarantined = tuple(Quarantined(**file) for file in tree["quarantined"])
        made = kind(prepared_dir=folder, digest=tree["digest"], quarantined=quarantined, **parse(tree))
    except (KeyError, TypeError):
        made = None
    if made is None or made.digest != made.sealed().digest:
        raise DataError(
            f"{path} is not as it was written", expected="the content its digest was taken of", do="run `triform prepare` again"
        )
    return made


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; what is missing, torn or something else reads as an empty one."""
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def plain(value: Any) -> Any:
    """A value as JSON gives it back; dataclasses by their fields."""
    if value is None or isinstance(value, _SCALARS):
        return value
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def digest_of(tree: Mapping[str, Any]) -> str:
    """SHA-256 of a tree's canonical JSON."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Of its content; empty where it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
