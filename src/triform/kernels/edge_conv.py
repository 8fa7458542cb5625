"""The passes over the edges of EdgeConv, forward and backward, on the CPU: numba, NumPy in and out.

u = (B - A) x and v = A x come from outside (`edge_conv_torch`, where the algebra stands). A task is a sample and 128 of its channels: so
much of v, whose rows are read in any order, stays in the cache of a core. Tasks write to places of their own and add up in the order of
the rows, so that no bit depends on how many threads there are. No fast-math flag: a channel is a lane of its own, and nothing needs
reordering to be vectorised.
All run in parallel: never call them from several threads at once, nor in a forked child. Nothing here checks its arguments: floats of
one dtype, float32 or float64, all contiguous, neighbours in range.

Source: DGCNN (Wang et al., ACM TOG 2019), section 3 and equation 8.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8
from numba import njit, prange

_TILE = 128
"""Channels of one task."""

_ROWS = 256
"""Rows of one task where no neighbours are read."""

Rows = Float[np.ndarray, "sample vertex channel"]
Channels = Float[np.ndarray, " channel"]
Graph = Int64[np.ndarray, "sample vertex neighbor"]


def largest_neighbors(
    u: Rows, v: Rows, neighbors: Graph, z: Rows, slot: UInt8[np.ndarray, "sample vertex channel"], moments: bool
) -> Float64[np.ndarray, "sample 2 channel"]:
    """Write z_i = u_i + max_j v_j and the first slot where the largest stands.

    Returns:
        The sums of e_ij = u_i + v_j and of e_ij^2 over each sample's edges; nothing of use without `moments`.
    """
    sums = np.zeros((len(u), 2, u.shape[2]))
    neighbors = neighbors.view(np.uint64)  # not negative: nothing tests for indices from the end
    _forward(u, v, neighbors, _degrees(neighbors), z, slot, sums, moments)
    return sums


def gradient_sums(
    gradient: Float[np.ndarray, "row channel"],
    z: Float[np.ndarray, "row channel"],
    scale: Channels,
    shift: Channels,
    mean: Channels,
    negative_slope: float,
) -> Float64[np.ndarray, "2 channel"]:
    """Return the sums of dy_i and of dy_i (z_i - mean) over all rows, dy being the gradient behind LeakyReLU."""
    parts = np.zeros(((len(z) + _ROWS - 1) // _ROWS, 2, z.shape[1]))
    _sum_gradients(gradient, z, scale, shift, mean, z.dtype.type(negative_slope), parts)
    total: Float64[np.ndarray, "2 channel"] = parts.sum(0)
    return total


def edge_gradients(
    gradient: Rows,
    z: Rows,
    u: Rows,
    v: Rows,
    neighbors: Graph,
    slot: UInt8[np.ndarray, "sample vertex channel"],
    coefficients: Float[np.ndarray, "5 channel"],
    negative_slope: float,
    du: Rows,
    dv: Rows,
) -> None:
    """Write the sums over j and over i of dz_ij = scale dy_i [j is i's largest] - constant - slope (u_i + v_j - mean).

    Args: coefficients: scale, shift, mean, constant and slope.
    """
    neighbors = neighbors.view(np.uint64)
    _backward(gradient, z, u, v, neighbors, _degrees(neighbors), slot, coefficients, z.dtype.type(negative_slope), du, dv)


def activate(
    z: Float[np.ndarray, "row channel"], scale: Channels, shift: Channels, negative_slope: float, out: Float[np.ndarray, "row channel"]
) -> None:
    """Write LeakyReLU(z * scale + shift)."""
    _activate(z, scale, shift, z.dtype.type(negative_slope), out)


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def _degrees(neighbors: Any) -> Any:
    """How many edges end at each vertex."""
    degrees = np.zeros(neighbors.shape[:2], np.int64)
    for sample in prange(len(neighbors)):
        for i in range(neighbors.shape[1]):
            for j in neighbors[sample, i]:
                degrees[sample, j] += 1
    return degrees


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def _forward(u: Any, v: Any, neighbors: Any, degrees: Any, z: Any, slot: Any, sums: Any, moments: Any) -> None:
    tiles = (u.shape[2] + _TILE - 1) // _TILE
    for task in prange(len(u) * tiles):
        sample, first = task // tiles, task % tiles * _TILE
        last = min(first + _TILE, u.shape[2])
        values = _packed(v, sample, first, last)
        total, largest = np.empty(last - first, u.dtype), np.empty(last - first, u.dtype)
        best = np.empty(last - first, np.int32)
        for i in range(u.shape[1]):
            _scan(values, neighbors[sample, i], total, largest, best)
            here = u[sample, i, first:last]
            _store(here, largest, best, z[sample, i, first:last], slot[sample, i, first:last])
            if moments:
                k, degree = float(neighbors.shape[2]), float(degrees[sample, i])
                _add_moments(here, values[i], total, k, degree, sums[sample, 0, first:last], sums[sample, 1, first:last])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _packed(values: Any, sample: int, first: int, last: int) -> Any:
    """A task's channels side by side: rows that are a power of two apart would share few places of the cache."""
    packed = np.empty((values.shape[1], last - first), values.dtype)
    for i in range(len(packed)):
        packed[i, :] = values[sample, i, first:last]
    return packed


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _scan(values: Any, row: Any, total: Any, largest: Any, best: Any) -> None:
    """The sum of a row's neighbours, the largest and its slot. Four at a time: what is written is read and written less often."""
    start = values[row[0]]
    for c in range(len(total)):
        total[c], largest[c], best[c] = start[c], start[c], 0
    fours = (len(row) - 1) // 4 * 4 + 1
    for j in range(1, fours, 4):
        p, q, r, s = row[j], row[j + 1], row[j + 2], row[j + 3]
        for c in range(len(total)):
            top, where = largest[c], best[c]
            where = np.int32(j) if values[p, c] > top else where
            top = values[p, c] if values[p, c] > top else top
            where = np.int32(j + 1) if values[q, c] > top else where
            top = values[q, c] if values[q, c] > top else top
            where = np.int32(j + 2) if values[r, c] > top else where
            top = values[r, c] if values[r, c] > top else top
            where = np.int32(j + 3) if values[s, c] > top else where
            top = values[s, c] if values[s, c] > top else top
            largest[c], best[c] = top, where
            total[c] += (values[p, c] + values[q, c]) + (values[r, c] + values[s, c])
    for j in range(fours, len(row)):
        p = row[j]
        for c in range(len(total)):
            best[c] = np.int32(j) if values[p, c] > largest[c] else best[c]
            largest[c] = values[p, c] if values[p, c] > largest[c] else largest[c]
            total[c] += values[p, c]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _store(here: Any, largest: Any, best: Any, z: Any, slot: Any) -> None:
    for c in range(len(z)):
        z[c] = here[c] + largest[c]
    for c in range(len(z)):
        slot[c] = best[c]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_moments(here: Any, there: Any, total: Any, k: float, degree: float, sums: Any, squares: Any) -> None:
    """Of vertex i as the centre of k edges (u_i with each v_j), and as the end of `degree` edges (v_i^2)."""
    for c in range(len(sums)):
        a, b, t = np.float64(here[c]), np.float64(there[c]), np.float64(total[c])
        sums[c] += k * a + t
        squares[c] += a * (k * a + 2 * t) + degree * (b * b)


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def _activate(z: Any, scale: Any, shift: Any, negative_slope: Any, out: Any) -> None:
    for block in prange((len(z) + _ROWS - 1) // _ROWS):
        for i in range(block * _ROWS, min(len(z), (block + 1) * _ROWS)):
            values, results = z[i], out[i]
            for c in range(len(values)):
                y = values[c] * scale[c] + shift[c]
                results[c] = y if y > 0 else y * negative_slope


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sum_gradients(gradient: Any, z: Any, scale: Any, shift: Any, mean: Any, negative_slope: Any, parts: Any) -> None:
    for block in prange(len(parts)):
        sums, products = parts[block, 0], parts[block, 1]
        for i in range(block * _ROWS, min(len(z), (block + 1) * _ROWS)):
            incoming, values = gradient[i], z[i]
            for c in range(len(values)):
                dy = incoming[c] if values[c] * scale[c] + shift[c] > 0 else incoming[c] * negative_slope
                sums[c] += np.float64(dy)
                products[c] += np.float64(dy) * np.float64(values[c] - mean[c])


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
def _backward(
    gradient: Any,
    z: Any,
    u: Any,
    v: Any,
    neighbors: Any,
    degrees: Any,
    slot: Any,
    coefficients: Any,
    negative_slope: Any,
    du: Any,
    dv: Any,
) -> None:
    tiles = (u.shape[2] + _TILE - 1) // _TILE
    for task in prange(len(u) * tiles):
        sample, first = task // tiles, task % tiles * _TILE
        last = min(first + _TILE, u.shape[2])
        scale, shift, mean = coefficients[0, first:last], coefficients[1, first:last], coefficients[2, first:last]
        constant, slope = coefficients[3, first:last], coefficients[4, first:last]
        values = _packed(v, sample, first, last)
        gradients = np.empty_like(values)
        for i in range(len(values)):
            _start(values[i], u.dtype.type(degrees[sample, i]), mean, constant, slope, gradients[i])
        total, passed, pull = np.empty_like(scale), np.empty_like(scale), np.empty_like(scale)
        k = u.dtype.type(neighbors.shape[2])
        for i in range(len(values)):
            row, here = neighbors[sample, i], u[sample, i, first:last]
            _pass(gradient[sample, i, first:last], z[sample, i, first:last], scale, shift, negative_slope, passed)
            _add_up(values, row, total)
            _take_from(gradients, row, here, slope, pull)
            _finish(here, total, passed, k, mean, constant, slope, du[sample, i, first:last])
            _add_to_largest(gradients, row, slot[sample, i, first:last], passed)
        for i in range(len(values)):
            dv[sample, i, first:last] = gradients[i]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _start(values: Any, degree: Any, mean: Any, constant: Any, slope: Any, sums: Any) -> None:
    for c in range(len(sums)):
        sums[c] = -degree * (constant[c] + slope[c] * (values[c] - mean[c]))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _pass(gradient: Any, z: Any, scale: Any, shift: Any, negative_slope: Any, passed: Any) -> None:
    """scale * dy, the gradient behind LeakyReLU."""
    for c in range(len(z)):
        dy = gradient[c] if z[c] * scale[c] + shift[c] > 0 else gradient[c] * negative_slope
        passed[c] = scale[c] * dy


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_up(values: Any, row: Any, total: Any) -> None:
    """The sum of a row's neighbours."""
    total[:] = 0
    fours = len(row) // 4 * 4
    for j in range(0, fours, 4):
        p, q, r, s = row[j], row[j + 1], row[j + 2], row[j + 3]
        for c in range(len(total)):
            total[c] += (values[p, c] + values[q, c]) + (values[r, c] + values[s, c])
    for j in range(fours, len(row)):
        p = row[j]
        for c in range(len(total)):
            total[c] += values[p, c]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _take_from(gradients: Any, row: Any, here: Any, slope: Any, pull: Any) -> None:
    """Take slope * u_i from the gradient of each of i's neighbours."""
    for c in range(len(pull)):
        pull[c] = slope[c] * here[c]
    for j in row:
        for c in range(len(pull)):
            gradients[j, c] -= pull[c]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _finish(here: Any, total: Any, passed: Any, k: Any, mean: Any, constant: Any, slope: Any, result: Any) -> None:
    for c in range(len(result)):
        result[c] = passed[c] - (k * constant[c] + slope[c] * (k * (here[c] - mean[c]) + total[c]))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_to_largest(gradients: Any, row: Any, slot: Any, passed: Any) -> None:
    for c in range(len(slot)):
        gradients[row[slot[c]], c] += passed[c]
