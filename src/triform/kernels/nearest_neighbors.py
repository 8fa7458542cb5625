"""Exact nearest neighbours between clouds on the CPU: numba, NumPy in and out.

Points are cut into blocks and queries into groups along a Morton curve. A group first looks into the block of points beside it, and then
only into those whose bounding box is no farther from one of its queries than what that query knows already, which changes no result
(`kernels.morton` says why).
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from numba import njit, prange

from triform.kernels.morton import FLAGS, block_bounds, morton_blocks

_BLOCK = 32
_GROUP = 32
"""Queries that are looked for together, in the lanes of vector instructions."""
_NONE = 2**31 - 1
_CELLS = 16
"""Morton cells per axis: 4 bits, a counting sort over 4096 cells."""


def nearest_neighbors(
    queries: Float[np.ndarray, "batch query 3"], points: Float[np.ndarray, "batch point 3"]
) -> tuple[Float[np.ndarray, "batch query"], Int64[np.ndarray, "batch query"]]:
    """Return each query's squared distance to its nearest point, in the input's dtype, and that point's index; ties go to the lowest.

    A squared distance is (dx*dx + dy*dy) + dz*dz. In float32 a near-tie may be decided otherwise than in float64 (about once in
    131,072 queries); the distance is off by rounding only.
    Clouds run in parallel: never call this from several threads at once, nor in a forked child.

    Args:
        queries: float32 or float64, finite.
        points: of the same dtype, finite, one point at least.

    Raises:
        ValueError: Named after the argument that is wrong.
    """
    _check(queries, points)
    squared = np.empty(queries.shape[:2], queries.dtype)
    indices = np.empty(queries.shape[:2], np.int64)
    if squared.size:
        _search_batch(np.ascontiguousarray(queries), np.ascontiguousarray(points), squared, indices)
    return squared, indices


def _check(queries: Any, points: Any) -> None:
    for name, array in (("queries", queries), ("points", points)):
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name} must be float32 or float64 (batch, n, 3), got {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite")
    if len(points) != len(queries) or points.dtype != queries.dtype or points.shape[1] == 0:
        raise ValueError(f"points {points.dtype} {points.shape} do not go with queries {queries.dtype} {queries.shape}")


@njit(cache=True, parallel=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _search_batch(queries: Any, points: Any, squared: Any, indices: Any) -> None:
    for cloud in prange(len(queries)):
        _search(queries[cloud], points[cloud], squared[cloud], indices[cloud])


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _search(queries: Any, points: Any, squared: Any, indices: Any) -> None:
    source, x, y, z = morton_blocks(points, _BLOCK, _CELLS)
    low, high = block_bounds(x, y, z)
    asked, qx, qy, qz = morton_blocks(queries, _GROUP, _CELLS)
    asked_low, asked_high = block_bounds(qx, qy, qz)
    gap, beside = np.empty(len(source), points.dtype), np.empty(len(source), points.dtype)
    found, best = np.empty(_GROUP, points.dtype), np.empty(_GROUP, points.dtype)
    place, tied = np.empty(_GROUP, np.int32), np.empty(_GROUP, np.int32)
    for group in range(len(asked)):
        best[:] = np.inf
        farthest = best[0]
        home = _compare_boxes(low, high, asked_low, asked_high, group, gap, beside)
        for step in range(len(source)):  # from the block beside the group up, then from it down
            block = home + step if home + step < len(source) else len(source) - 1 - step
            if gap[block] <= farthest and _any_nearer(low, high, block, qx, qy, qz, group, best):
                _least_of_block(x, y, z, block, qx, qy, qz, group, found)
                farthest = _keep_least(found, block, best, place, tied)
        for i in range(min(_GROUP, len(queries) - group * _GROUP)):
            block = -1 if tied[i] else place[i]
            nearest = _lowest_at(x, y, z, source, block, qx[group, i], qy[group, i], qz[group, i], best[i])
            squared[asked[group, i]], indices[asked[group, i]] = best[i], nearest


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _compare_boxes(low: Any, high: Any, asked_low: Any, asked_high: Any, group: int, gap: Any, beside: Any) -> int:
    """Write the squared distance from the group's box to each block's into `gap`, and return the block whose middle is the nearest: only
    speed depends on which that is."""
    gap[:] = 0
    beside[:] = 0
    for axis in range(3):
        least, greatest, below, above = asked_low[axis, group], asked_high[axis, group], low[axis], high[axis]
        zero = least - least
        for block in range(len(gap)):
            d = max(max(below[block] - greatest, least - above[block]), zero)
            gap[block] += d * d
            apart = (below[block] - least) + (above[block] - greatest)
            beside[block] += apart * apart
    return int(beside.argmin())


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _any_nearer(low: Any, high: Any, block: int, qx: Any, qy: Any, qz: Any, group: int, best: Any) -> bool:
    """Whether the block's box is no farther from one of the group's queries than what that query knows."""
    low_x, low_y, low_z = low[0, block], low[1, block], low[2, block]
    high_x, high_y, high_z = high[0, block], high[1, block], high[2, block]
    zero, count = low_x - low_x, np.int32(0)
    for i in range(_GROUP):
        dx = max(max(low_x - qx[group, i], qx[group, i] - high_x), zero)
        dy = max(max(low_y - qy[group, i], qy[group, i] - high_y), zero)
        dz = max(max(low_z - qz[group, i], qz[group, i] - high_z), zero)
        count += np.int32((dx * dx + dy * dy) + dz * dz <= best[i])
    return bool(count > 0)


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _least_of_block(x: Any, y: Any, z: Any, block: int, qx: Any, qy: Any, qz: Any, group: int, found: Any) -> None:
    """Write each query's least squared distance to a point of one block; four points at once, because `found` lies in memory."""
    for i in range(_GROUP):
        found[i] = np.inf
    for first in range(0, _BLOCK, 4):
        for i in range(_GROUP):
            ax, ay, az = qx[group, i], qy[group, i], qz[group, i]
            one = _squared(x, y, z, block, first, ax, ay, az)
            two = _squared(x, y, z, block, first + 1, ax, ay, az)
            three = _squared(x, y, z, block, first + 2, ax, ay, az)
            four = _squared(x, y, z, block, first + 3, ax, ay, az)
            found[i] = min(found[i], min(min(one, two), min(three, four)))


@njit(inline="always", fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _squared(x: Any, y: Any, z: Any, block: int, place: int, qx: Any, qy: Any, qz: Any) -> Any:
    dx, dy, dz = x[block, place] - qx, y[block, place] - qy, z[block, place] - qz
    return (dx * dx + dy * dy) + dz * dz


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _keep_least(found: Any, block: int, best: Any, place: Any, tied: Any) -> Any:
    """Take over what was found nearer; note where, and where another block is as near. Returns the greatest distance of all queries."""
    here = np.int32(block)
    for i in range(_GROUP):
        nearer, equal = found[i] < best[i], found[i] == best[i]
        place[i] = here if nearer else place[i]
        tied[i] = 0 if nearer else (1 if equal else tied[i])
        best[i] = min(best[i], found[i])
    farthest = best[0]
    for i in range(_GROUP):
        farthest = max(farthest, best[i])
    return farthest


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _lowest_at(x: Any, y: Any, z: Any, source: Any, block: int, qx: Any, qy: Any, qz: Any, least: Any) -> Any:
    """The lowest original index at squared distance `least`, in one block or (-1) in all."""
    if block >= 0:
        return _lowest(x, y, z, source, block, qx, qy, qz, least)
    lowest = np.int32(_NONE)
    for each in range(len(source)):
        lowest = min(lowest, _lowest(x, y, z, source, each, qx, qy, qz, least))
    return lowest


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _lowest(x: Any, y: Any, z: Any, source: Any, block: int, qx: Any, qy: Any, qz: Any, least: Any) -> Any:
    """The lowest original index at squared distance `least` in one block, or more than any."""
    lowest = np.int32(_NONE)
    for i in range(_BLOCK):
        dx, dy, dz = x[block, i] - qx, y[block, i] - qy, z[block, i] - qz
        lowest = min(lowest, source[block, i] if (dx * dx + dy * dy) + dz * dz == least else np.int32(_NONE))
    return lowest


def nearest_neighbors_gradient(
    gradient: Float[np.ndarray, "batch query"],
    queries: Float[np.ndarray, "batch query 3"],
    points: Float[np.ndarray, "batch point 3"],
    indices: Int64[np.ndarray, "batch query"],
) -> tuple[Float[np.ndarray, "batch query 3"], Float[np.ndarray, "batch point 3"]]:
    """Return the gradients to queries q and points p of the squared distances |q_i - p_n(i)|^2, given theirs, g.

    dq_i = 2 g_i (q_i - p_n(i)) and dp_j = -sum of dq_i over the i with n(i) = j, added up in the order of i.
    Clouds run in parallel: never call this from several threads at once, nor in a forked child.

    Args:
        gradient: of the dtype of `queries` and `points`, as is what comes back.
        indices: as `nearest_neighbors` found them.
    """
    to_queries, to_points = np.empty_like(queries, order="C"), np.zeros_like(points, order="C")
    gradient, queries, points, indices = (np.ascontiguousarray(array) for array in (gradient, queries, points, indices))
    _gradient_batch(gradient, queries, points, indices, to_queries, to_points)
    return to_queries, to_points


@njit(cache=True, parallel=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _gradient_batch(gradient: Any, queries: Any, points: Any, indices: Any, to_queries: Any, to_points: Any) -> None:
    for cloud in prange(len(queries)):
        for i in range(queries.shape[1]):
            nearest = indices[cloud, i]
            twice = gradient[cloud, i] + gradient[cloud, i]
            for axis in range(3):
                pull = twice * (queries[cloud, i, axis] - points[cloud, nearest, axis])
                to_queries[cloud, i, axis] = pull
                to_points[cloud, nearest, axis] -= pull
