"""The loops of set abstraction on the CPU that are no matrix products: numba, NumPy arrays in, results written in place.

An edge is a row; the rows of a group, its `neighbor` edges, stand together. Coordinates and activations are float32 or float64 and
contiguous; moments and gradients of parameters are summed in float64. Rows are cut into a fixed number of chunks, each summed in order by
one thread, so no result depends on how many threads there are. No operation is reordered or contracted, and what is not a number stays
so: a diverged network must look diverged.

All of them run in parallel: never call them from several threads at once, nor in a forked child.
"""

from typing import Any

import numpy as np
from numba import njit, prange

CHUNKS = 16
"""Partial sums of each block: more than that many threads have nothing to do in them."""


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def first_layer(points: Any, centers: Any, projected: Any, weight: Any, neighbors: Any, first: int, num_centers: int, out: Any) -> None:
    """out[(group, j)] = (points[n] - centers[group]) weight + projected[n], n = neighbors[group, j], for the groups from `first` on.

    `points` is (batch * point, 3), `weight` (3, channel), `neighbors` (batch * center, neighbor), counted within the sample. `projected` is
    (batch * point, channel), or (0, channel) where there is none. `out` has rows for whole groups.
    """
    k = neighbors.shape[1]
    num_points = len(points) // (len(centers) // num_centers)
    for place in prange(len(out) // k):
        group = first + place
        start = group // num_centers * num_points
        _first_of_group(points, centers[group], projected, weight, neighbors[group], start, out[place * k : (place + 1) * k])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _first_of_group(points: Any, center: Any, projected: Any, weight: Any, neighbors: Any, start: int, out: Any) -> None:
    for j in range(len(neighbors)):
        _first_of_edge(points, center, projected, weight, start + neighbors[j], out[j])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _first_of_edge(points: Any, center: Any, projected: Any, weight: Any, n: int, row: Any) -> None:
    """Differences first: where all is far from the origin, or balls are small, products of coordinates would round them away."""
    x, y, z = points[n, 0] - center[0], points[n, 1] - center[1], points[n, 2] - center[2]
    if len(projected):
        given = projected[n]
        for c in range(len(row)):
            row[c] = given[c] + ((x * weight[0, c] + y * weight[1, c]) + z * weight[2, c])
    else:
        for c in range(len(row)):
            row[c] = (x * weight[0, c] + y * weight[1, c]) + z * weight[2, c]


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def activate(h: Any, scale: Any, shift: Any, out: Any) -> None:
    """out = max(h * scale + shift, 0)."""
    for chunk in prange(CHUNKS):
        _activate_rows(h, scale, shift, out, len(h) * chunk // CHUNKS, len(h) * (chunk + 1) // CHUNKS)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _activate_rows(h: Any, scale: Any, shift: Any, out: Any, start: int, stop: int) -> None:
    zero = h.dtype.type(0)
    for i in range(start, stop):
        given, row = h[i], out[i]
        for c in range(len(scale)):
            value = given[c] * scale[c] + shift[c]
            row[c] = zero if value <= zero else value


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_moments(h: Any, origin: Any, sums: Any) -> None:
    """Add to `sums` (chunk, 2, channel) the rows' h - origin and its squares."""
    for chunk in prange(CHUNKS):
        _add_row_moments(h, origin, sums[chunk, 0], sums[chunk, 1], len(h) * chunk // CHUNKS, len(h) * (chunk + 1) // CHUNKS)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_row_moments(h: Any, origin: Any, first: Any, second: Any, start: int, stop: int) -> None:
    for i in range(start, stop):
        row = h[i]
        for c in range(len(origin)):
            off = np.float64(row[c]) - origin[c]
            first[c] += off
            second[c] += off * off


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def pool(h: Any, sign: Any, largest: Any, slot: Any) -> None:
    """For each group the largest row of h * sign, times sign, and where it stands: the first of equal ones.

    `largest` and `slot` are (group, channel); the first value that is not a number counts as the largest.
    """
    k = len(h) // len(largest)
    for group in prange(len(largest)):
        _pool_group(h[group * k : (group + 1) * k], sign, largest[group], slot[group])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _pool_group(h: Any, sign: Any, largest: Any, slot: Any) -> None:
    for c in range(len(sign)):
        largest[c] = h[0, c] * sign[c]
        slot[c] = 0
    for j in range(1, len(h)):
        row = h[j]
        for c in range(len(sign)):
            value, best = row[c] * sign[c], largest[c]
            larger = (best == best) & (not value <= best)  # true too of a first value that is not a number
            slot[c] = j if larger else slot[c]
            largest[c] = value if larger else best
    for c in range(len(sign)):
        largest[c] *= sign[c]


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_at_largest(d: Any, pull: Any, slot: Any, weight: Any) -> None:
    """d[(group, slot[group, o])] += pull[group, o] * weight[o], for each output o in order."""
    k = len(d) // len(pull)
    for group in prange(len(pull)):
        _add_group_at_largest(d[group * k : (group + 1) * k], pull[group], slot[group], weight)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_group_at_largest(d: Any, pull: Any, slot: Any, weight: Any) -> None:
    for o in range(len(pull)):
        factor, row, weights = pull[o], d[slot[o]], weight[o]
        if factor != 0:
            for c in range(len(weights)):
                row[c] += factor * weights[c]


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_outer_at_largest(gradient: Any, pull: Any, slot: Any, r: Any) -> None:
    """gradient[o] += pull[group, o] * r[(group, slot[group, o])], over the groups in order; `gradient` is float64."""
    k = len(r) // len(pull)
    for o in prange(len(gradient)):
        _add_products(gradient[o], pull[:, o], slot[:, o], r, k)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_products(gradient: Any, pull: Any, slot: Any, r: Any, k: int) -> None:
    for group in range(len(pull)):
        factor, row = pull[group], r[group * k + slot[group]]
        if factor != 0:
            for c in range(len(gradient)):
                gradient[c] += factor * row[c]


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def through_relu(d: Any, r: Any, h: Any, mean: Any, out: Any, sums: Any) -> None:
    """out = d where r > 0, else 0; and add to `sums` (chunk, 2, channel) the rows' out and out * (h - mean)."""
    for chunk in prange(CHUNKS):
        start, stop = len(h) * chunk // CHUNKS, len(h) * (chunk + 1) // CHUNKS
        _rows_through_relu(d, r, h, mean, out, sums[chunk, 0], sums[chunk, 1], start, stop)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _rows_through_relu(d: Any, r: Any, h: Any, mean: Any, out: Any, first: Any, second: Any, start: int, stop: int) -> None:
    zero = d.dtype.type(0)
    for i in range(start, stop):
        given, active, before, row = d[i], r[i], h[i], out[i]
        for c in range(len(mean)):
            value = zero if active[c] <= zero else given[c]
            row[c] = value
            first[c] += value
            second[c] += value * (before[c] - mean[c])


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def through_norm(d: Any, h: Any, mean: Any, scale: Any, constant: Any, slope: Any) -> None:
    """d = d * scale - constant - slope * (h - mean), in place."""
    for chunk in prange(CHUNKS):
        _rows_through_norm(d, h, mean, scale, constant, slope, len(h) * chunk // CHUNKS, len(h) * (chunk + 1) // CHUNKS)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _rows_through_norm(d: Any, h: Any, mean: Any, scale: Any, constant: Any, slope: Any, start: int, stop: int) -> None:
    for i in range(start, stop):
        row, before = d[i], h[i]
        for c in range(len(mean)):
            row[c] = row[c] * scale[c] - constant[c] - slope[c] * (before[c] - mean[c])


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def scatter(
    d: Any,
    points: Any,
    centers: Any,
    projected: Any,
    weight: Any,
    neighbors: Any,
    norm: Any,
    at_points: Any,
    at_centers: Any,
    batch: int,
) -> None:
    """`through_norm` with its four `norm` = (mean, scale, constant, slope), for the first layer, which is computed again; then the sums of
    the edges that end at each point and that begin at each centre, in order."""
    num_points, num_centers = len(points) // batch, len(centers) // batch
    for sample in prange(batch):
        start, first = sample * num_points, sample * num_centers
        at_points[start : start + num_points] = 0
        h = np.empty(weight.shape[1], d.dtype)
        for group in range(first, first + num_centers):
            _scatter_group(
                d, points, centers[group], projected, weight, neighbors[group], norm, at_points, at_centers[group], start, group, h
            )


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _scatter_group(
    d: Any,
    points: Any,
    center: Any,
    projected: Any,
    weight: Any,
    neighbors: Any,
    norm: Any,
    at_points: Any,
    at_center: Any,
    start: int,
    group: int,
    h: Any,
) -> None:
    mean, scale, constant, slope = norm
    at_center[:] = 0
    for j in range(len(neighbors)):
        n = start + neighbors[j]
        _first_of_edge(points, center, projected, weight, n, h)
        row, sums = d[group * len(neighbors) + j], at_points[n]
        for c in range(len(h)):
            value = row[c] * scale[c] - constant[c] - slope[c] * (h[c] - mean[c])
            sums[c] += value
            at_center[c] += value
