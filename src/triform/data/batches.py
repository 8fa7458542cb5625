"""What the preparations of all kinds of data share: a plan in batches, their outcomes, threads, and the refusal of another recipe."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from triform.data.bookkeeping import MANIFEST_NAME, Book, Parse, digest_of, plain, read_object
from triform.data.quarantine import Quarantined, as_lines, refuse_too_many
from triform.errors import CannotWrite, DataError
from triform.files import disk_errors, write_all

OneMore = Callable[[], None]


class Named(Protocol):
    """A sample."""

    @property
    def name(self) -> str:
        """Unique."""
        ...


Raw = TypeVar("Raw", bound=Named)


@dataclass(frozen=True, slots=True)
class PlanOf(Generic[Raw]):
    """What to prepare, in which batches. It lies in the prepared folder, so that any process can take a batch."""

    BOOK: ClassVar[Book]
    NOT_IN_DIGEST: ClassVar[tuple[str, ...]] = ("root",)

    prepared_dir: Path
    root: Path
    """Folder or archive of the raw data."""
    max_quarantine_fraction: float

    @property
    def samples(self) -> tuple[Raw, ...]:
        """What there is to prepare, in the order of the batches."""
        listed: tuple[Raw, ...] = getattr(self, self.BOOK.samples)
        return listed

    @property
    def starts(self) -> Sequence[int]:
        """Place of each batch's first sample."""
        raise NotImplementedError

    @property
    def num_batches(self) -> int:
        """Batches; the last may be smaller."""
        return len(self.starts)

    @property
    def digest(self) -> str:
        """Of what is to be prepared and how; not of the paths."""
        tree = self._tree()
        return digest_of({name: tree[name] for name in tree if name not in self.NOT_IN_DIGEST})

    def batch(self, number: int) -> tuple[Raw, ...]:
        """The samples of one batch. Raises: IndexError."""
        if not 0 <= number < self.num_batches:
            raise IndexError(f"batch {number} of {self.num_batches}")
        first, end = [*self.starts, len(self.samples)][number : number + 2]
        return self.samples[first:end]

    def batch_path(self, number: int) -> Path:
        """Where the outcome of a batch is recorded."""
        return self.prepared_dir / "plan" / f"batch-{number:05d}.json"

    def write(self, beside: Mapping[Path, bytes] | None = None) -> Self:
        """Claim the folder and write the plan, after what must lie `beside` it. Raises: CannotWrite, DiskFull."""
        _claim_folder(self.prepared_dir)
        write_all({**(beside or {}), plan_path(self.prepared_dir): json.dumps(self._tree(), indent=1).encode()})
        return self

    def write_outcome(self, number: int, **outcome: Any) -> None:
        """Record what became of a batch. Raises: CannotWrite, DiskFull."""
        write_all({self.batch_path(number): json.dumps(plain(outcome), indent=1).encode()})

    def set_aside(self, quarantined: Sequence[Quarantined]) -> None:
        """Write `quarantine.jsonl`. Raises: DataError: these are too many. CannotWrite, DiskFull."""
        write_all({self.prepared_dir / "quarantine.jsonl": as_lines(quarantined)})
        refuse_too_many(quarantined, len(self.samples), max_fraction=self.max_quarantine_fraction)

    def _tree(self) -> dict[str, Any]:
        return {"format": self.BOOK.format, **self.BOOK.tree(self)}


P = TypeVar("P", bound=PlanOf[Any])
R = TypeVar("R", bound=Named)
M = TypeVar("M")


def read_plan(kind: type[P], folder: Path, parse: Parse) -> P:
    """The plan in a prepared folder. Raises: DataError: there is none, or it was made by another version."""
    path = plan_path(folder)
    if (tree := kind.BOOK.read(path)) is None:
        raise DataError(f"{path} is no plan of this version", expected="a planned preparation", do="run `triform prepare`")
    return kind(prepared_dir=folder, root=Path(tree["root"]), max_quarantine_fraction=tree["max_quarantine_fraction"], **parse(tree))


def is_planned(kind: type[PlanOf[Any]], folder: Path | str) -> bool:
    """Whether what lies in this folder is a plan of this kind, of whatever version."""
    return read_object(plan_path(Path(folder))).get("format") == kind.BOOK.format


def outcomes(made: PlanOf[Any], samples: str, record: Callable[..., R]) -> tuple[list[R], list[Quarantined]]:
    """The records of all batches, which together name every planned sample once; what is quarantined is written.

    Args:
        samples: The outcomes' field that lists the records.

    Raises: DataError: a batch is missing, or too many samples are bad. CannotWrite, DiskFull.
    """
    records: list[R] = []
    quarantined: list[Quarantined] = []
    digest = made.digest
    for number in range(made.num_batches):
        outcome = read_object(made.batch_path(number))
        if outcome.get("plan") != digest:
            raise DataError(f"Batch {number} of {made.num_batches} is not prepared", do="run `triform prepare` again")
        records += [record(**tree) for tree in outcome[samples]]
        quarantined += [Quarantined(**tree) for tree in outcome["quarantined"]]
    assert sorted([r.name for r in records] + [q.name for q in quarantined]) == sorted(one.name for one in made.samples)
    made.set_aside(quarantined)
    return records, quarantined


def plan_path(folder: Path) -> Path:
    """Where a plan lies."""
    return folder / "plan" / "plan.json"


def prepare_all(
    made: P, do_batch: Callable[..., None], finalize: Callable[[P], M], *, workers: int, progress: Callable[[int, int], None]
) -> M:
    """Do every batch in threads, then finalize."""
    in_threads(
        lambda number, one_more: do_batch(made, number, on_file=one_more),
        made.num_batches,
        num_files=len(made.samples),
        workers=workers,
        progress=progress,
    )
    return finalize(made)


def in_threads(
    do_batch: Callable[[int, OneMore], None], num_batches: int, *, num_files: int, workers: int, progress: Callable[[int, int], None]
) -> None:
    """Do every batch; the first error cancels those that have not begun.

    Args:
        do_batch: Does the batch of this number and calls its second argument after each file.
        progress: Called with the number of files done and of all.
    """
    done, lock = 0, threading.Lock()

    def one_more() -> None:
        nonlocal done
        with lock:
            done += 1
            progress(done, num_files)

    with ThreadPoolExecutor(max(1, workers), "prepare") as pool:
        batches = [pool.submit(do_batch, number, one_more) for number in range(num_batches)]
        try:
            for batch in as_completed(batches):
                batch.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def refuse_other_recipe(data_dir: str, *, wanted: Any, found: Any) -> None:
    """Raises: DataError: a folder was prepared by another recipe; the message names the fields."""
    asked, made = plain(wanted), plain(found)
    names = [name for name in asked | made if asked.get(name) != made.get(name)]
    if other := [f"{name} is {made.get(name)!r}, not {asked.get(name)!r}" for name in names]:
        raise DataError(
            f"{data_dir} was prepared by other settings: {'; '.join(other)}",
            expected="the settings it was prepared by",
            do="give those settings, or prepare the raw files again",
        )


def _claim_folder(folder: Path) -> None:
    """Make the folder. One that holds other things is refused: they may be raw data, and `finalize` removes what it doesn't know."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        ours = (folder / MANIFEST_NAME).exists() or (folder / "plan").exists()
        if not ours and any(folder.iterdir()):
            raise CannotWrite(f"{folder} holds other files", expected="an empty folder or a prepared one", do="give another --prepared-dir")
