"""Picking the k least of each row of distances on the CPU: numba, NumPy in and out.

A row is cut into groups; the k-th least of the groups' minima is no less than the k-th least of the row, so only groups with a minimum
up to it are looked into, and what is found there is put into order. The bound comes from halving an interval, where counting is vectorised;
any bound with k minima below it will do. The order comes from counting, for each candidate, how many come before it: for a few of them
that is faster than any sorting, because nothing is guessed. `nnan` and `nsz` let the minima be vectorised and alter no value.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from numba import njit, prange

_FLAGS = {"nnan", "nsz"}

_GROUPS = 128
"""At least: 14 numbers a group for 1723 vertices. More groups find fewer candidates, and take longer to count."""

_ROWS = 64
"""Rows of one task."""

_HALVINGS = 12

_COUNTED = 256
"""Candidates up to which counting puts them into order. There are more where many distances are equal, or k is large."""


def select_nearest(
    products: Float[np.ndarray, "row vertex"], squares: Float[np.ndarray, " vertex"], first: int, nearest: Int64[np.ndarray, "row k"]
) -> None:
    """Write, for each row, its own vertex and then the k - 1 others least in squares - 2 products, the lowest index first on ties.

    Runs in parallel: never call this from several threads at once, nor in a forked child.

    Args:
        products: x_i x_j, contiguous, finite (not checked); overwritten.
        squares: |x_j|^2.
        first: the vertex of the first row; the others follow.
        nearest: k is 1 to the number of vertices.
    """
    _select(products, squares, first, nearest)


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def _select(products: Any, squares: Any, first: int, nearest: Any) -> None:
    num_vertices, k = products.shape[1], nearest.shape[1] - 1
    groups = min(num_vertices, max(_GROUPS, 2 * k))
    for task in prange((len(products) + _ROWS - 1) // _ROWS):
        minima, values = np.empty(groups, products.dtype), np.empty(num_vertices, products.dtype)
        indices = np.empty(num_vertices, np.int32)
        for i in range(task * _ROWS, min(len(products), (task + 1) * _ROWS)):
            row, found = products[i], nearest[i, 1:]
            nearest[i, 0] = first + i
            if k > 0:
                row[first + i] = -np.inf  # as a distance, the largest
                _to_distances(row, squares, minima)
                bound = _bound(minima, k)
                count = _candidates(row, minima, bound, values, indices)
                if count <= _COUNTED:
                    _in_order(values[:count], indices[:count], found)
                else:
                    _sorted_least(row, minima, bound, values[:k], found)


@njit(cache=True, nogil=True, fastmath=_FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _to_distances(row: Any, squares: Any, minima: Any) -> None:
    """Turn products into distances, and find each group's least: group g has the places g, g + groups, g + 2 groups ...

    Twice a number is exact: rounded once, with a multiply-add or without.
    """
    groups = len(minima)
    minima[:] = np.inf
    for start in range(0, len(row), groups):
        for g in range(min(groups, len(row) - start)):
            j = np.uint64(start + g)  # not negative: nothing tests for indices from the end, and the loop is vectorised
            distance = squares[j] - (row[j] + row[j])
            row[j] = distance
            minima[g] = min(minima[g], distance)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _bound(minima: Any, k: int) -> Any:
    """A number with at least k minima up to it, and seldom many more."""
    low, high = minima[0], -np.inf
    for value in minima:
        low = min(low, value)
        high = max(high, value) if value < np.inf else high
    low, high = minima.dtype.type(low), minima.dtype.type(high)
    for _ in range(_HALVINGS):
        middle = minima.dtype.type(0.5) * (low + high)
        count = np.int32(0)
        for value in minima:
            count += np.int32(value <= middle)
        if count < k:
            low = middle
        else:
            high = middle
            if count <= k + 3:
                break
    return high


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _candidates(row: Any, minima: Any, bound: Any, values: Any, indices: Any) -> Any:
    """Write what is up to the bound, and return how many that are. Each is written, and kept if it counts: there is no branch to guess."""
    count = np.uint64(0)
    for g in range(len(minima)):
        if minima[g] <= bound:
            for i in range(g, len(row), len(minima)):
                values[count], indices[count] = row[i], i
                count += np.uint64(row[i] <= bound)
    return np.int64(count)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _in_order(values: Any, indices: Any, nearest: Any) -> None:
    """Each candidate goes to the place that is the number of those before it."""
    for a in range(len(values)):
        value, index, before = values[a], indices[a], np.int32(0)
        for b in range(len(values)):
            before += np.int32((values[b] < value) | ((values[b] == value) & (indices[b] < index)))
        if before < len(nearest):
            nearest[before] = index


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sorted_least(row: Any, minima: Any, bound: Any, values: Any, indices: Any) -> None:
    """Insert what is up to the bound into a list sorted by value and index, as long as `indices`."""
    values[:] = np.inf
    indices[:] = len(row)
    last = len(values) - 1
    for g in range(len(minima)):
        if minima[g] <= bound:
            for i in range(g, len(row), len(minima)):
                if row[i] <= bound and (row[i] < values[last] or (row[i] == values[last] and i < indices[last])):
                    _insert(row[i], i, values, indices)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _insert(value: Any, index: int, values: Any, indices: Any) -> None:
    """In place of the last."""
    place = len(values) - 1
    while place > 0 and (values[place - 1] > value or (values[place - 1] == value and indices[place - 1] > index)):
        values[place], indices[place] = values[place - 1], indices[place - 1]
        place -= 1
    values[place], indices[place] = value, index
