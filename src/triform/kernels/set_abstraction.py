"""The loops of set abstraction on the CPU that are no matrix products: numba, NumPy arrays in, results written in place.

An edge is a row; the rows of a group, its `neighbor` edges, stand together. Coordinates and activations are float32 or float64 and
contiguous; moments and gradients of parameters are summed in float64, a few rows at a time. Rows are cut into a fixed number of chunks,
each summed in order by one thread, so no result depends on how many threads there are. A multiply-add may round once; nothing is reordered,
and what is not a number stays so: a diverged network must look diverged. The loops of the first layer stand in `set_abstraction_first`.
Inner loops index whole arrays: a view of each row would be counted as a reference, which takes four times as long as the row's work.

All of them run in parallel: never call them from several threads at once, nor in a forked child.
"""

from typing import Any

import numpy as np
from numba import njit, prange

CHUNKS = 16
"""Partial sums of each block: more than that many threads have nothing to do in them."""

FLUSH = 32
"""Rows that are summed in their own precision before they go on in float64."""

FLAGS = {"contract"}


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def activate(h: Any, scale: Any, shift: Any, out: Any) -> None:
    """out = max(h * scale + shift, 0)."""
    for chunk in prange(CHUNKS):
        _activate_rows(h, scale, shift, out, len(h) * chunk // CHUNKS, len(h) * (chunk + 1) // CHUNKS)


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _activate_rows(h: Any, scale: Any, shift: Any, out: Any, start: int, stop: int) -> None:
    zero = h.dtype.type(0)
    for i in range(start, stop):
        for c in range(len(scale)):
            value = h[i, c] * scale[c] + shift[c]
            out[i, c] = zero if value <= zero else value


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_moments(h: Any, origin: Any, sums: Any) -> None:
    """Add to `sums` (chunk, 2, channel) the rows' h - origin and its squares."""
    for chunk in prange(len(sums)):
        part = np.empty(sums.shape[1:], h.dtype)
        stop = len(h) * (chunk + 1) // len(sums)
        for begin in range(len(h) * chunk // len(sums), stop, FLUSH):
            _sum_moments(h[begin : min(stop, begin + FLUSH)], origin, part)
            sums[chunk] += part


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _sum_moments(rows: Any, origin: Any, sums: Any) -> None:
    sums[:] = 0
    for i in range(len(rows)):
        for c in range(len(origin)):
            off = rows[i, c] - origin[c]
            sums[0, c] += off
            sums[1, c] += off * off


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def pool(h: Any, origin: Any, sign: Any, largest: Any, slot: Any, sums: Any) -> None:
    """For each group the largest row of h * sign, times sign, and where it stands: the first of equal ones; and what `add_moments` adds.

    `largest` and `slot` are (group, channel); the first value that is not a number counts as the largest.
    """
    k, num_groups = len(h) // len(largest), len(largest)
    for chunk in prange(len(sums)):
        part = np.empty(sums.shape[1:], h.dtype)
        for group in range(num_groups * chunk // len(sums), num_groups * (chunk + 1) // len(sums)):
            rows = h[group * k : (group + 1) * k]
            for begin in range(0, k, FLUSH):
                _sum_moments(rows[begin : min(k, begin + FLUSH)], origin, part)
                sums[chunk] += part
            _pool_group(rows, sign, largest[group], slot[group])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _pool_group(h: Any, sign: Any, largest: Any, slot: Any) -> None:
    for c in range(len(sign)):
        largest[c] = h[0, c] * sign[c]
        slot[c] = 0
    for j in range(1, len(h)):
        for c in range(len(sign)):
            value, best = h[j, c] * sign[c], largest[c]
            larger = (best == best) & (not value <= best)  # true too of a first value that is not a number
            slot[c] = j if larger else slot[c]
            largest[c] = value if larger else best
    for c in range(len(sign)):
        largest[c] *= sign[c]


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def through_last(d: Any, r: Any, h: Any, mean: Any, pull: Any, slot: Any, weight: Any, out: Any, outer: Any, sums: Any) -> None:
    """Add to d what the largest edges of each group pull, and let it through the ReLU that gave r = relu(norm(h)).

    d[(group, slot[group, o])] += pull[group, o] * weight[o] for each output o in order; then out = d where r > 0, else 0. Adds to `outer`
    (chunk, out, channel) pull[group, o] * r[(group, slot[group, o])], and to `sums` (chunk, 3, channel) the rows' out, out * (h - mean)
    and r. `out` is not d.
    """
    k, num_groups = len(d) // len(pull), len(pull)
    for chunk in prange(len(sums)):
        part = np.empty(sums.shape[1:], d.dtype)
        for group in range(num_groups * chunk // len(sums), num_groups * (chunk + 1) // len(sums)):
            rows = slice(group * k, (group + 1) * k)
            _pull(d[rows], r[rows], pull[group], slot[group], weight, outer[chunk])
            for begin in range(group * k, (group + 1) * k, FLUSH):
                rows = slice(begin, min((group + 1) * k, begin + FLUSH))
                _let_through(d[rows], r[rows], h[rows], mean, out[rows], part)
                _sum_rows(r[rows], part[2])
                sums[chunk] += part


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _pull(d: Any, r: Any, pull: Any, slot: Any, weight: Any, outer: Any) -> None:
    for o in range(len(pull)):
        factor, i = pull[o], np.uint64(slot[o])  # not negative: nothing tests for indices from the end
        if factor != 0:
            for c in range(weight.shape[1]):
                d[i, c] += factor * weight[o, c]
            for c in range(weight.shape[1]):
                outer[o, c] += factor * r[i, c]


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _let_through(d: Any, r: Any, h: Any, mean: Any, out: Any, sums: Any) -> None:
    """out = d where r > 0, else 0; `sums` are those of out and out * (h - mean)."""
    zero = d.dtype.type(0)
    sums[:2] = 0
    for i in range(len(d)):
        for c in range(len(mean)):
            out[i, c] = zero if r[i, c] <= zero else d[i, c]
        for c in range(len(mean)):
            sums[0, c] += out[i, c]
        for c in range(len(mean)):
            sums[1, c] += out[i, c] * (h[i, c] - mean[c])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sum_rows(rows: Any, sums: Any) -> None:
    sums[:] = 0
    for i in range(len(rows)):
        for c in range(len(sums)):
            sums[c] += rows[i, c]


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def through_relu(d: Any, r: Any, h: Any, mean: Any, out: Any, sums: Any) -> None:
    """out = d where r > 0, else 0; and add to `sums` (chunk, 2, channel) the rows' out and out * (h - mean). `out` is not d."""
    for chunk in prange(len(sums)):
        part = np.empty(sums.shape[1:], d.dtype)
        stop = len(h) * (chunk + 1) // len(sums)
        for begin in range(len(h) * chunk // len(sums), stop, FLUSH):
            rows = slice(begin, min(stop, begin + FLUSH))
            _let_through(d[rows], r[rows], h[rows], mean, out[rows], part)
            sums[chunk] += part


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def through_norm(d: Any, h: Any, mean: Any, scale: Any, constant: Any, slope: Any) -> None:
    """d = d * scale - constant - slope * (h - mean), in place."""
    for chunk in prange(CHUNKS):
        _rows_through_norm(d, h, mean, scale, constant, slope, len(h) * chunk // CHUNKS, len(h) * (chunk + 1) // CHUNKS)


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _rows_through_norm(d: Any, h: Any, mean: Any, scale: Any, constant: Any, slope: Any, start: int, stop: int) -> None:
    for i in range(start, stop):
        for c in range(len(mean)):
            d[i, c] = d[i, c] * scale[c] - constant[c] - slope[c] * (h[i, c] - mean[c])
