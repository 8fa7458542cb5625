"""Deals sequences to the splits, and draws shares of them, the same way every time and everywhere."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from triform.data.poses.raw_poses import RawSequence
from triform.data.split import SPLITS
from triform.errors import DataError

if TYPE_CHECKING:
    from triform.data.poses.config import PoseSettings


def draw_sequences(action_of: Mapping[str, str], fraction: float, seed: int) -> set[str]:
    """Names of a share of the sequences, taken in the order of SHA-256 of (seed, name).

    Each action that has two or more gives its first one; then the others follow until the share is reached, and one at least is drawn.

    Args:
        action_of: Sequence -> action.
        fraction: Share of the sequences, 0 to 1.
    """
    in_order = sorted(action_of, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    sizes = Counter(action_of.values())
    first = {action_of[name]: name for name in reversed(in_order)}
    drawn = {name for action, name in first.items() if sizes[action] >= 2}
    wanted = max(round(fraction * len(action_of)), len(drawn), 1)
    others = [name for name in in_order if name not in drawn]
    return drawn.union(others[: wanted - len(drawn)])


def deal(sequences: Iterable[RawSequence], settings: "PoseSettings") -> tuple[RawSequence, ...]:
    """The sequences, each with its split.

    The data set's own split stands. Of the others, those of the named subjects and actions are tested, or a draw of them where nobody
    says who is; a draw of what is left validates.

    Raises: DataError: A named subject or action isn't there, or a split is empty.
    """
    found = tuple(sequences)
    _check_named("test_subjects", settings.test_subjects, {sequence.subject for sequence in found})
    _check_named("test_actions", settings.test_actions, {sequence.action for sequence in found})
    free = {sequence.name: sequence.action for sequence in found if sequence.split is None}
    test, val = {sequence.name for sequence in found if _is_named(sequence, settings)} & free.keys(), set[str]()
    if not (settings.test_subjects or settings.test_actions or _has(found, "test")):
        test = draw_sequences(free, settings.test_fraction, settings.split_seed)
    if not _has(found, "val"):
        rest = {name: action for name, action in free.items() if name not in test}
        val = draw_sequences(rest, settings.val_fraction, settings.split_seed)
    chosen = [replace(s, split=s.split or ("test" if s.name in test else "val" if s.name in val else "train")) for s in found]
    for split in SPLITS:
        if not _has(chosen, split):
            raise DataError(
                f"None of the {len(found)} sequences is in {split}",
                expected="one at least in each of train, val and test",
                do="add sequences, or change test_subjects, test_actions, test_fraction or val_fraction",
            )
    return tuple(chosen)


def keyed_generator(*words: object) -> np.random.Generator:
    """A generator that is a pure function of these words."""
    key = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(key[:16], "<u8").astype(np.uint64)))


def _is_named(sequence: RawSequence, settings: "PoseSettings") -> bool:
    return sequence.subject in settings.test_subjects or sequence.action in settings.test_actions


def _has(sequences: Iterable[RawSequence], split: str) -> bool:
    return any(sequence.split == split for sequence in sequences)


def _check_named(setting: str, named: Iterable[str], there: set[str]) -> None:
    if unknown := sorted(set(named) - there):
        raise DataError(
            f"{setting} names {', '.join(unknown)}, which no sequence has", expected=f"some of {', '.join(sorted(there))}", do="correct it"
        )
