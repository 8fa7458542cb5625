"""Checks that raw arrays of joints are what their format says; each names the file and the sequence."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from jaxtyping import Shaped

from triform.data.quarantine import BadFile
from triform.errors import DataError


def joints_of(
    value: object, *, num_joints: Collection[int], num_axes: Collection[int], where: str
) -> Shaped[np.ndarray, "frame joint axis"]:
    """The array itself. Raises: DataError: it is no array of numbers, or has another number of joints or axes."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.ndim != 3:
        got = f"an array {value.shape} of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise DataError(f"{where} is {got}", expected="numbers by frame, joint and axis", do="get the file again from its publisher")
    if value.shape[1] not in num_joints:
        raise _another(where, "joints", value.shape[1], num_joints)
    if value.shape[2] not in num_axes:
        raise _another(where, "values a joint", value.shape[2], num_axes)
    if not len(value):
        raise DataError(f"{where} has no frames", expected="at least one", do="get the file again from its publisher")
    return value


def _another(where: str, what: str, got: int, expected: Collection[int]) -> DataError:
    return DataError(
        f"{where} has {got} {what}",
        expected=" or ".join(str(number) for number in expected),
        do="use the data set that this file belongs to, or get the file in its published form",
    )


def refuse_other_length(num_2d: int, num_3d: int, *, where: str) -> None:
    """Raises: DataError: 2D and 3D have other numbers of frames."""
    if num_2d != num_3d:
        raise DataError(f"{where} has {num_2d} frames in 2D and {num_3d} in 3D", expected="as many", do="get both in one version")


def refuse_not_finite(where: str, *arrays: Shaped[np.ndarray, "frame *rest"] | None) -> None:
    """Raises: BadFile: a number is NaN or infinite."""
    for array in arrays:
        if array is None or np.isfinite(array.sum()):
            continue
        wrong = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
        if len(wrong):
            raise BadFile(f"{where} has numbers that are NaN or infinite, first in frame {wrong[0]}")


def field_of(table: object, name: str, *, where: str) -> Any:
    """`table[name]`. Raises: DataError: `table` is no dict, or lacks it."""
    if not isinstance(table, dict) or name not in table:
        there = f"it has {listed(map(str, table))}" if isinstance(table, dict) else f"it is {type(table).__name__}"
        raise DataError(f'{where} has no "{name}": {there}', expected="the published form of this file", do="get the file again")
    return table[name]


def listed(names: Iterable[str]) -> str:
    """The first few of the names, and how many more."""
    names = list(names)
    shown = ", ".join(names[:8]) or "nothing"
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
