"""The plan of a preparation of poses: which sequences, in which batches and splits, made of which files."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triform.data import batches
from triform.data.batches import PlanOf, read_plan
from triform.data.bookkeeping import Book, plain
from triform.data.poses.draw import deal
from triform.data.poses.prepared_track import STEP_VERSION
from triform.data.poses.raw_poses import Average, RawPoses, RawSequence
from triform.data.poses.stature import stature_factors
from triform.errors import DataError

if TYPE_CHECKING:
    from triform.data.poses.config import PoseSettings

_BATCH_SIZE = 8
_PLAIN = ("files", "scale_of", "protocol", "average")
_WRITTEN = ("recipe", "max_quarantine_fraction", *_PLAIN, "root", "batch_sizes", "sequences")


@dataclass(frozen=True, slots=True)
class PosePlan(PlanOf[RawSequence]):
    """What to prepare."""

    BOOK = Book("triform pose preparation plan", STEP_VERSION, "sequences", _WRITTEN)
    NOT_IN_DIGEST = ("root", "max_quarantine_fraction")

    recipe: dict[str, Any]
    sequences: tuple[RawSequence, ...]
    """In the order of the batches, each with its split."""
    batch_sizes: tuple[int, ...]
    """Sequences of each batch."""
    files: dict[str, str]
    """SHA-256 of each raw file, by its path below the root."""
    scale_of: dict[str, float]
    """Subject -> factor of what virtual cameras film."""
    protocol: str
    average: Average

    @property
    def starts(self) -> Sequence[int]:
        """Place of each batch's first sequence."""
        return list(accumulate(self.batch_sizes, initial=0))[:-1]


def plan(settings: "PoseSettings", source: RawPoses | None = None) -> PosePlan:
    """List the sequences in their splits and batches, hash the raw files, and write it all to `plan/` in the prepared folder.

    Args:
        source: What `settings.raw_poses()` gives, where it is known already.

    Raises:
        DataError: The data is not as its format says, a named subject or action isn't there, or a split is empty.
        CannotWrite: The prepared folder can't be made, or holds something else.
        DiskFull.
    """
    found = source or settings.raw_poses()
    _check_names(found.sequences)
    files = dict(sorted((Path(os.path.relpath(path, found.root)).as_posix(), _sha256_of_file(path)) for path in found.files))
    _refuse_copies(found.sequences, files)
    dealt = deal(found.sequences, settings)
    groups = list(_batches(dealt))
    made = PosePlan(
        prepared_dir=settings.prepared_folder(),
        root=found.root,
        recipe=plain(settings.recipe()),
        max_quarantine_fraction=settings.max_quarantine_fraction,
        sequences=tuple(sequence for group in groups for sequence in group),
        batch_sizes=tuple(map(len, groups)),
        files=files,
        scale_of=stature_factors(found, stature_m=float(settings.recipe().get("stature_m", 0.0))),
        protocol=found.protocol,
        average=found.average,
    )
    return made.write()


def is_planned(prepared_dir: Path | str) -> bool:
    """Whether what lies in this folder is a plan of poses."""
    return batches.is_planned(PosePlan, prepared_dir)


def load_plan(prepared_dir: Path | str) -> PosePlan:
    """Read what `plan` wrote. Raises: DataError: there is no plan, or it was made by another version."""
    return read_plan(PosePlan, Path(prepared_dir), _parse)


def _parse(tree: dict[str, Any]) -> dict[str, Any]:
    sequences = tuple(RawSequence(**sequence) for sequence in tree["sequences"])
    return {"sequences": sequences, "batch_sizes": tuple(tree["batch_sizes"]), **{name: tree[name] for name in ("recipe", *_PLAIN)}}


def _batches(sequences: Iterable[RawSequence]) -> Iterable[list[RawSequence]]:
    """Eight sequences at most; a subject that fits into a batch is not cut, because its sequences may share a file."""
    batch: list[RawSequence] = []
    for _, group in groupby(sorted(sequences, key=lambda one: (one.subject, one.name)), key=lambda one: one.subject):
        of_subject = list(group)
        if batch and len(batch) + len(of_subject) > _BATCH_SIZE:
            yield batch
            batch = []
        batch += of_subject
        while len(batch) > _BATCH_SIZE:
            yield batch[:_BATCH_SIZE]
            batch = batch[_BATCH_SIZE:]
    yield batch


def _check_names(sequences: Iterable[RawSequence]) -> None:
    seen: dict[str, RawSequence] = {}
    for sequence in sequences:
        # What can't be decoded in a file's name is there as a lone surrogate, which no digest can be taken of.
        if re.search("[\ud800-\udfff]", sequence.name + sequence.member):
            raise DataError(f"{sequence.member!r} has a name that is no text", expected="files' names in UTF-8", do="rename it")
        if (other := seen.setdefault(sequence.name, sequence)) is not sequence:
            raise DataError(
                f"{other.member} and {sequence.member} are both called {sequence.name}",
                expected="another subject or another name for each sequence",
                do="rename one of them",
            )


def _refuse_copies(sequences: Iterable[RawSequence], files: Mapping[str, str]) -> None:
    """Raises: DataError: two sequences are files of one content, so that what is tested could be trained on."""
    seen: dict[str, RawSequence] = {}
    for sequence in sequences:
        content = files.get(sequence.member)
        if content and (other := seen.setdefault(content, sequence)) is not sequence:
            raise DataError(
                f"{other.member} and {sequence.member} hold the same recording",
                expected="each recording once, or it may be trained on and tested",
                do="remove one of them",
            )


def _sha256_of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}", expected="the files that were listed", do="check --data-dir") from error
