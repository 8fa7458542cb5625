import string
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triform.data.split import assign_splits, join_groups
from triform.errors import DataError

names = st.lists(st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=6), min_size=3, max_size=80, unique=True)
fractions = st.floats(0.01, 0.49)


def alone(clouds: list[str]) -> dict[str, str]:
    return {name: f"plant {name}" for name in clouds}


@settings(max_examples=40, deadline=None)
@given(clouds=names, val=fractions, test=fractions, seed=st.integers(-5, 5))
def test_plants_alone(clouds: list[str], val: float, test: float, seed: int) -> None:
    split_of = assign_splits(alone(clouds), val_fraction=val, test_fraction=test, seed=seed)
    count = Counter(split_of.values())
    assert set(split_of) == set(clouds)
    assert set(count) == {"train", "val", "test"}
    if max(1, round(len(clouds) * val)) + max(1, round(len(clouds) * test)) < len(clouds):
        assert (count["val"], count["test"]) == (max(1, round(len(clouds) * val)), max(1, round(len(clouds) * test)))
    assert assign_splits(alone(clouds[::-1]), val_fraction=val, test_fraction=test, seed=seed) == split_of


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(0, 12), min_size=3, max_size=60), val=fractions, test=fractions, seed=st.integers(0, 3))
def test_no_group_spans_two_splits(labels: list[int], val: float, test: float, seed: int) -> None:
    groups = {f"{i:03d}": f"genotype {label}" for i, label in enumerate(labels)}
    if len(set(labels)) < 3:
        with pytest.raises(DataError, match="groups"):
            assign_splits(groups, val_fraction=val, test_fraction=test, seed=seed)
        return
    split_of = assign_splits(groups, val_fraction=val, test_fraction=test, seed=seed)
    assert len({(groups[name], split) for name, split in split_of.items()}) == len(set(labels))
    assert set(split_of.values()) == {"train", "val", "test"}


def test_one_cloud_less_moves_few_others() -> None:
    clouds = [f"{i:04d}" for i in range(1000)]
    before = assign_splits(alone(clouds), val_fraction=0.1, test_fraction=0.1, seed=0)
    after = assign_splits(alone(clouds[:-5]), val_fraction=0.1, test_fraction=0.1, seed=0)
    assert sum(before[name] != after[name] for name in after) <= 15


def test_another_seed_deals_otherwise() -> None:
    clouds = alone([f"{i}" for i in range(100)])
    one, other = (assign_splits(clouds, val_fraction=0.1, test_fraction=0.1, seed=seed) for seed in (0, 1))
    assert one != other


def test_a_genotype_larger_than_val_leaves_it_a_smaller_one() -> None:
    groups = {f"{i:02d}": "big" if i < 30 else f"small {i}" for i in range(33)}
    split_of = assign_splits(groups, val_fraction=0.05, test_fraction=0.05, seed=0)
    assert {split_of[f"{i:02d}"] for i in range(30)} == {"train"}


@pytest.mark.parametrize("clouds", [[], ["a"], ["a", "b"]])
def test_too_few(clouds: list[str]) -> None:
    with pytest.raises(DataError, match=f"{len(clouds)} usable clouds"):
        assign_splits(alone(clouds), val_fraction=0.1, test_fraction=0.1, seed=0)


def test_equal_contents_join_their_groups() -> None:
    groups = {"a": "g1", "b": "g1", "c": "g2", "d": "g2", "e": "g3", "f": "g4"}
    contents = {"a": "1", "b": "2", "c": "2", "d": "3", "e": "3", "f": "4"}
    assert join_groups(groups, contents) == {"a": "g1", "b": "g1", "c": "g1", "d": "g1", "e": "g1", "f": "g4"}
    assert join_groups(groups, {name: name for name in groups}) == groups
