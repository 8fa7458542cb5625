from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform.data.poses.draw import deal, draw_sequences, keyed_generator
from triform.data.poses.raw_poses import RawSequence
from triform.data.split import SPLITS
from triform.datasets.pose_npz import PoseNpz
from triform.errors import DataError

ACTIONS = ("walk", "run", "sit")
many = {f"s/{action} {n}": action for action in ACTIONS for n in range(20)} | {"s/once": "once"}


def sequences(*, split: str | None = None) -> list[RawSequence]:
    return [RawSequence(f"{who}/{name[2:]}", who, action, "", split) for who in ("ann", "bob") for name, action in many.items()]


@given(st.dictionaries(st.text(max_size=5), st.sampled_from(ACTIONS), min_size=1, max_size=40), st.floats(0.01, 1), st.integers(0, 9))
def test_the_share_and_one_of_each_action(action_of: dict[str, str], fraction: float, seed: int) -> None:
    drawn = draw_sequences(action_of, fraction, seed)
    sizes = Counter(action_of.values())
    needed = {action for action, size in sizes.items() if size >= 2}
    assert needed <= {action_of[name] for name in drawn}
    assert len(drawn) == max(round(fraction * len(action_of)), len(needed), 1)
    assert drawn == draw_sequences(dict(reversed(action_of.items())), fraction, seed)
    assert drawn <= draw_sequences(action_of, min(1.0, fraction * 1.5), seed)


def test_another_seed_draws_others() -> None:
    assert draw_sequences(many, 0.2, 0) != draw_sequences(many, 0.2, 1)


def test_everything_is_drawn_at_1() -> None:
    assert draw_sequences(many, 1.0, 3) == many.keys()


def test_nobody_is_named() -> None:
    dealt = deal(sequences(), PoseNpz(test_fraction=0.25, val_fraction=0.1))
    counts = Counter(sequence.split for sequence in dealt)
    assert (counts["test"], counts["val"]) == (round(0.25 * 122), round(0.1 * (122 - 30)))
    assert {s.action for s in dealt if s.split == "test"} >= {*ACTIONS}
    assert [s.name for s in dealt] == [s.name for s in sequences()]


@pytest.mark.parametrize("named", [{"test_subjects": ("bob",)}, {"test_actions": ("run", "once")}], ids=str)
def test_the_named_are_tested_and_nobody_else(named) -> None:
    dealt = deal(sequences(), PoseNpz(**named))
    for sequence in dealt:
        is_named = sequence.subject == "bob" if "test_subjects" in named else sequence.action in ("run", "once")
        assert (sequence.split == "test") == is_named
    assert {sequence.split for sequence in dealt} == {*SPLITS}


def test_the_data_sets_own_split_stands() -> None:
    own = [RawSequence("x/a", "x", "a", "", "test"), RawSequence("x/b", "x", "b", "", "train"), *sequences()[:10]]
    dealt = {sequence.name: sequence.split for sequence in deal(own, PoseNpz(val_fraction=0.5))}
    assert (dealt["x/a"], dealt["x/b"]) == ("test", "train")
    assert Counter(dealt.values()) == {"test": 1, "val": 5, "train": 6}


@pytest.mark.parametrize("setting", ["test_subjects", "test_actions"])
def test_a_name_that_is_not_there(setting: str) -> None:
    with pytest.raises(DataError, match=f"{setting} names eve, which no sequence has.*(ann, bob|once, run, sit, walk)"):
        deal(sequences(), PoseNpz(**{setting: ("eve",)}))


def test_an_empty_split() -> None:
    with pytest.raises(DataError, match="None of the 122 sequences is in train"):
        deal(sequences(), PoseNpz(test_subjects=("ann", "bob")))
    with pytest.raises(DataError, match="is in train"):
        deal(sequences()[:2], PoseNpz())


def test_a_generator_is_its_key() -> None:
    one, same, other = (keyed_generator(0, "a", n).random(4).tolist() for n in (1, 1, 2))
    assert one == same != other
