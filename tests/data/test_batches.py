"""Plans in batches, their outcomes, batches in threads, and the refusal of another recipe."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from triform.data.batches import PlanOf, in_threads, is_planned, outcomes, plan_path, read_plan, refuse_other_recipe
from triform.data.bookkeeping import Book
from triform.data.quarantine import Quarantined
from triform.errors import DataError


def test_every_batch_is_done_and_every_file_is_counted():
    done, told = [], []

    def batch(number, one_more):
        for _ in range(number):
            one_more()
        done.append(number)

    in_threads(batch, 5, num_files=10, workers=3, progress=lambda count, total: told.append((count, total)))
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert told == [(count, 10) for count in range(1, 11)]


def test_the_first_error_comes_up_and_ends_what_has_not_begun():
    begun = []

    def batch(number, one_more):
        begun.append(number)
        raise DataError(f"batch {number}")

    with pytest.raises(DataError, match="batch 0"):
        in_threads(batch, 100, num_files=100, workers=1, progress=lambda *_: None)
    assert len(begun) < 100


@dataclass
class Recipe:
    size: int
    axis: str = "y"


def test_the_fields_that_differ_are_named():
    refuse_other_recipe("there", wanted=Recipe(3), found=Recipe(3))
    with pytest.raises(DataError, match="there was prepared by other settings: size is 4, not 3") as caught:
        refuse_other_recipe("there", wanted=Recipe(3), found=Recipe(4))
    assert "axis" not in caught.value.got


def test_recipes_that_lie_in_a_manifest_as_trees() -> None:
    refuse_other_recipe("there", wanted={"cameras": ("a", "b")}, found={"cameras": ["a", "b"]})
    with pytest.raises(DataError, match=r"kind is None, not 'npz'; noise is 1\.0, not None"):
        refuse_other_recipe("there", wanted={"kind": "npz"}, found={"noise": 1.0})


@dataclass(frozen=True, slots=True)
class Sample:
    name: str


@dataclass(frozen=True, slots=True)
class Samples(PlanOf[Sample]):
    BOOK = Book("plan of a test", 2, "listed", ("root", "listed", "first"))

    listed: tuple[Sample, ...]
    first: tuple[int, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        return self.first


def parse(tree: dict[str, Any]) -> dict[str, Any]:
    return {"listed": tuple(Sample(**one) for one in tree["listed"]), "first": tuple(tree["first"])}


@pytest.fixture
def made(tmp_path: Path) -> Samples:
    return Samples(tmp_path / "prepared", tmp_path / "raw", 0.4, tuple(map(Sample, "abcde")), (0, 1, 4))


def test_the_batches_of_a_plan(made: Samples) -> None:
    assert [[one.name for one in made.batch(number)] for number in range(made.num_batches)] == [["a"], ["b", "c", "d"], ["e"]]
    for number in (-1, 3):
        with pytest.raises(IndexError):
            made.batch(number)


def test_the_digest_of_a_plan_knows_no_paths(made: Samples, tmp_path: Path) -> None:
    assert replace(made, root=tmp_path, prepared_dir=tmp_path).digest == made.digest
    assert replace(made, first=(0, 2)).digest != made.digest


def test_a_plan_of_another_version_or_kind(made: Samples) -> None:
    made.write({made.prepared_dir / "beside": b"it"})
    assert (made.prepared_dir / "beside").read_bytes() == b"it"
    path = plan_path(made.prepared_dir)
    tree = json.loads(path.read_text()) | {"max_quarantine_fraction": 0.4}
    for change, planned in [({"step_version": 3}, True), ({"format": "another"}, False)]:
        path.write_text(json.dumps(tree | change))
        assert is_planned(Samples, made.prepared_dir) == planned
        with pytest.raises(DataError, match="is no plan of this version"):
            read_plan(Samples, made.prepared_dir, parse)
    path.write_text(json.dumps(tree))
    assert read_plan(Samples, made.prepared_dir, parse) == made


def test_the_outcomes_of_all_batches(made: Samples) -> None:
    bad = Quarantined("c", "c.file", "torn")
    for number, (names, others) in enumerate([("a", []), ("bd", [bad]), ("e", [])]):
        if number == 2:
            made.write_outcome(2, plan="of an earlier plan", done=[], quarantined=[])
            with pytest.raises(DataError, match="Batch 2 of 3 is not prepared"):
                outcomes(made, "done", Sample)
        made.write_outcome(number, plan=made.digest, done=list(map(Sample, names)), quarantined=others)
    assert outcomes(made, "done", Sample) == ([Sample("a"), Sample("b"), Sample("d"), Sample("e")], [bad])
    assert json.loads((made.prepared_dir / "quarantine.jsonl").read_text())["member"] == "c.file"


def test_too_many_are_set_aside(made: Samples) -> None:
    made.set_aside([Quarantined(name, name, "torn") for name in "ab"])
    with pytest.raises(DataError, match="3 of 5 files can't be used"):
        made.set_aside([Quarantined(name, name, "torn") for name in "abc"])
