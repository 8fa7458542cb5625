"""Deals clouds to train, val and test: by whole groups, the same way every time."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Literal

from triform.errors import DataError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def join_groups(group_of: Mapping[str, str], content_of: Mapping[str, str]) -> dict[str, str]:
    """Cloud -> group, where clouds of one content belong to one group, and so do the groups that they join.

    Args:
        group_of: Cloud -> genotype or plant.
        content_of: Cloud -> digest of its raw file.
    """
    parent = {group: group for group in group_of.values()}

    def find(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    first: dict[str, str] = {}
    for name in sorted(group_of):
        one, other = sorted((find(group_of[name]), find(first.setdefault(content_of[name], group_of[name]))))
        parent[other] = one
    return {name: find(group) for name, group in group_of.items()}


def assign_splits(group_of: Mapping[str, str], *, val_fraction: float, test_fraction: float, seed: int) -> dict[str, Split]:
    """Cloud -> split. No group spans two splits; each split has a cloud at least.

    Groups are taken in the order of SHA-256 of (seed, group), so that a cloud more or less moves only few others. Each goes to
    val, then to test, where it still fits, and else to train. With groups of one cloud, val and test get the rounded shares.

    Raises: DataError: There are fewer than three clouds, or fewer than three groups.
    """
    sizes = Counter(group_of.values())
    if len(sizes) < 3:
        what = "clouds" if len(group_of) < 3 else "groups of plants"
        raise DataError(
            f"There are {len(group_of)} usable clouds in {len(sizes)} groups",
            expected=f"three {what} at least, one each for train, val and test",
            do="add plants" if what == "clouds" else "add plants, or split genotypes with --group-by plant",
        )
    room = _shares(len(group_of), val_fraction, test_fraction)
    dealt: dict[Split, list[str]] = {split: [] for split in SPLITS}
    for group in sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest()):
        split: Split = "val" if sizes[group] <= room["val"] else "test" if sizes[group] <= room["test"] else "train"
        dealt[split].append(group)
        room[split] -= sizes[group]
    _fill_empty(dealt, sizes)
    split_of = {group: split for split, groups in dealt.items() for group in groups}
    return {name: split_of[group] for name, group in group_of.items()}


def _shares(num_clouds: int, val_fraction: float, test_fraction: float) -> dict[Split, int]:
    val, test = (max(1, round(num_clouds * fraction)) for fraction in (val_fraction, test_fraction))
    while val + test >= num_clouds:
        val, test = (val - 1, test) if val >= test else (val, test - 1)
    return {"train": num_clouds, "val": val, "test": test}


def _fill_empty(dealt: dict[Split, list[str]], sizes: Mapping[str, int]) -> None:
    """Give each empty split the smallest group of the split that has most groups."""
    for split in SPLITS:
        if not dealt[split]:
            giver = dealt[max(SPLITS, key=lambda split: len(dealt[split]))]
            smallest = min(giver, key=lambda group: sizes[group])
            giver.remove(smallest)
            dealt[split].append(smallest)
