"""The loops over the edges of set abstraction's first layer on the CPU: numba, NumPy arrays in, results written in place.

An edge goes from a centre i to its neighbour n: offset = x_n - x_i, layer = offset W + projected_n. `points` is (batch * point, 3),
`centers` (batch * center, 3), `neighbors` (batch * center, neighbor) and counted within the sample, `weight` (3, channel), `projected`
(batch * point, channel), or (0, channel) where there is none. Differences first: where all is far from the origin, or balls are small,
products of coordinates would round them away.

All of them run in parallel: never call them from several threads at once, nor in a forked child. Equal bits whatever their number.
"""

from typing import Any

import numpy as np
from numba import njit, prange

from triform.kernels.set_abstraction import FLAGS, FLUSH


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def sum_offsets(points: Any, centers: Any, neighbors: Any, at_points: Any, at_centers: Any, products: Any) -> None:
    """Add the offsets of the edges that end at each point and, in a fourth column, their number; of those that begin at each centre; and
    their outer products, a sample (3, 3). All in float64 and 0 at first."""
    num_points, num_centers = len(points) // len(products), len(centers) // len(products)
    for sample in prange(len(products)):
        start = sample * num_points
        for group in range(sample * num_centers, (sample + 1) * num_centers):
            for neighbor in neighbors[group]:
                _add_offset(points[start + neighbor], centers[group], at_points[start + neighbor], at_centers[group], products[sample])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_offset(point: Any, center: Any, at_point: Any, at_center: Any, products: Any) -> None:
    for a in range(3):
        offset = np.float64(point[a] - center[a])
        at_point[a] += offset
        at_center[a] += offset
        for b in range(3):
            products[a, b] += offset * np.float64(point[b] - center[b])
    at_point[3] += 1


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def activate_first(
    points: Any, centers: Any, projected: Any, weight: Any, neighbors: Any, first: int, num_centers: int, scale: Any, shift: Any, out: Any
) -> None:
    """out[(group, j)] = max(layer * scale + shift, 0), for whole groups from `first` on."""
    k, num_points = neighbors.shape[1], len(points) // (len(centers) // num_centers)
    for place in prange(len(out) // k):
        group = first + place
        start, rows = group // num_centers * num_points, slice(place * k, (place + 1) * k)
        _activate_group(points, centers[group], projected, weight, neighbors[group], start, scale, shift, out[rows])


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _activate_group(
    points: Any, center: Any, projected: Any, weight: Any, neighbors: Any, start: int, scale: Any, shift: Any, out: Any
) -> None:
    zero = out.dtype.type(0)
    for j in range(len(neighbors)):
        n = np.uint64(start + neighbors[j])  # not negative: nothing tests for indices from the end
        x, y, z = points[n, 0] - center[0], points[n, 1] - center[1], points[n, 2] - center[2]
        if len(projected):
            for c in range(len(scale)):
                layer = projected[n, c] + ((x * weight[0, c] + y * weight[1, c]) + z * weight[2, c])
                value = layer * scale[c] + shift[c]
                out[j, c] = zero if value <= zero else value
        else:
            for c in range(len(scale)):
                value = ((x * weight[0, c] + y * weight[1, c]) + z * weight[2, c]) * scale[c] + shift[c]
                out[j, c] = zero if value <= zero else value


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def through_first_relu(
    d: Any, r: Any, points: Any, centers: Any, neighbors: Any, first: int, num_centers: int, out: Any, sums: Any
) -> None:
    """out = d where r > 0, else 0, for whole groups from `first` on; add to `sums` (chunk, 4, channel) the rows' out times the offset's
    three coordinates, and out. `out` is not d."""
    k, num_points = neighbors.shape[1], len(points) // (len(centers) // num_centers)
    num_groups = len(d) // k
    for chunk in prange(len(sums)):
        part = np.empty(sums.shape[1:], d.dtype)
        for place in range(num_groups * chunk // len(sums), num_groups * (chunk + 1) // len(sums)):
            group = first + place
            start = group // num_centers * num_points
            for begin in range(0, k, FLUSH):
                stop = min(k, begin + FLUSH)
                rows = slice(place * k + begin, place * k + stop)
                _let_through(d[rows], r[rows], points, centers[group], neighbors[group, begin:stop], start, out[rows], part)
                sums[chunk] += part


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _let_through(d: Any, r: Any, points: Any, center: Any, neighbors: Any, start: int, out: Any, sums: Any) -> None:
    zero = d.dtype.type(0)
    sums[:] = 0
    for j in range(len(d)):
        n = np.uint64(start + neighbors[j])
        x, y, z = points[n, 0] - center[0], points[n, 1] - center[1], points[n, 2] - center[2]
        for c in range(d.shape[1]):
            out[j, c] = zero if r[j, c] <= zero else d[j, c]
        for c in range(d.shape[1]):
            sums[0, c] += x * out[j, c]
        for c in range(d.shape[1]):
            sums[1, c] += y * out[j, c]
        for c in range(d.shape[1]):
            sums[2, c] += z * out[j, c]
        for c in range(d.shape[1]):
            sums[3, c] += out[j, c]


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def scatter(d: Any, projected: Any, neighbors: Any, at_points: Any, at_centers: Any, projected_at_centers: Any, batch: int) -> None:
    """Add d to the point where each edge ends. Where `at_centers` is not (0, channel), also to the centre where it begins, and there the
    projected features of its point. All are 0 at first."""
    num_points, num_centers, k = len(at_points) // batch, len(neighbors) // batch, neighbors.shape[1]
    for sample in prange(batch):
        points = slice(sample * num_points, (sample + 1) * num_points)
        for group in range(sample * num_centers, (sample + 1) * num_centers):
            _add_to(at_points[points], d[group * k : (group + 1) * k], neighbors[group])
            if len(at_centers):
                _sum_rows(d[group * k : (group + 1) * k], at_centers[group])
                if len(projected):
                    _sum_chosen(projected[points], neighbors[group], projected_at_centers[group])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_to(sums: Any, rows: Any, chosen: Any) -> None:
    for j in range(len(rows)):
        n = np.uint64(chosen[j])
        for c in range(rows.shape[1]):
            sums[n, c] += rows[j, c]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sum_rows(rows: Any, sums: Any) -> None:
    for j in range(len(rows)):
        for c in range(len(sums)):
            sums[c] += rows[j, c]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sum_chosen(rows: Any, chosen: Any, sums: Any) -> None:
    for j in range(len(chosen)):
        n = np.uint64(chosen[j])
        for c in range(len(sums)):
            sums[c] += rows[n, c]
