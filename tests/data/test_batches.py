"""Batches in threads, and the refusal of another recipe."""

from dataclasses import dataclass

import pytest

from triform.data.batches import in_threads, refuse_other_recipe
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
