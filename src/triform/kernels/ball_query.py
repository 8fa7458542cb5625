"""Exact ball query on the CPU: numba, NumPy in and out.

A cloud is laid out by coordinate and visited in runs of 64 points; a run without a point in the ball costs one vectorised minimum.
`nnan` and `nsz` allow that and alter no value: neither multiply-add nor reassociation is allowed, so hits are those of plain NumPy.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from numba import njit, prange

_FLAGS = {"nnan", "nsz"}
_RUN = 64
_CENTERS = 64
"""Centres of one parallel task."""


def ball_query(
    points: Float[np.ndarray, "batch point 3"], centers: Float[np.ndarray, "batch center 3"], radius: float, num_neighbors: int
) -> Int64[np.ndarray, "batch center neighbor"]:
    """Return the first `num_neighbors` points, in the order of their indices, within `radius` of each centre.

    A point is within when (dx*dx + dy*dy) + dz*dz <= radius*radius, all in the points' own dtype. Free places repeat the first
    hit; a centre with no hit at all gets index 0 throughout.
    Runs in parallel: never call this from several threads at once, nor in a forked child.

    Args:
        points: float32 or float64, finite.
        centers: of the same dtype, finite.
        radius: above 0, in the points' unit.
        num_neighbors: 1 or more.

    Raises:
        ValueError: Named after the argument that is wrong.

    Source:
        PointNet++ (Qi et al., NeurIPS 2017), section 3.2, "grouping layer".
    """
    _check(points, centers, radius, num_neighbors)
    indices = np.empty((*centers.shape[:2], num_neighbors), np.int64)
    limit = points.dtype.type(radius) * points.dtype.type(radius)
    _query_batch(np.ascontiguousarray(points), np.ascontiguousarray(centers), limit, indices)
    return indices


def _check(points: Any, centers: Any, radius: float, num_neighbors: int) -> None:
    for name, array in (("points", points), ("centers", centers)):
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name} must be float32 or float64 (batch, n, 3), got {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite")
    if len(points) != len(centers) or points.dtype != centers.dtype or points.shape[1] == 0:
        raise ValueError(f"centers {centers.dtype} {centers.shape} do not go with points {points.dtype} {points.shape}")
    if not radius > 0 or num_neighbors < 1:
        raise ValueError(f"radius must be above 0 and num_neighbors 1 or more, got {radius} and {num_neighbors}")


@njit(cache=True, parallel=True, fastmath=_FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _query_batch(points: Any, centers: Any, limit: Any, indices: Any) -> None:
    tasks = (centers.shape[1] + _CENTERS - 1) // _CENTERS
    for task in prange(len(points) * tasks):
        cloud, first = task // tasks, task % tasks * _CENTERS
        _query(points[cloud], centers[cloud, first : first + _CENTERS], limit, indices[cloud, first : first + _CENTERS])


@njit(cache=True, nogil=True, fastmath=_FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _query(points: Any, centers: Any, limit: Any, indices: Any) -> None:
    x, y, z = _in_runs(points[:, 0]), _in_runs(points[:, 1]), _in_runs(points[:, 2])
    squared = np.empty(_RUN, points.dtype)
    for center in range(len(centers)):
        cx, cy, cz = centers[center, 0], centers[center, 1], centers[center, 2]
        found, run = 0, 0
        while found < indices.shape[1] and run < len(x):
            if _fill(x, y, z, run, cx, cy, cz, squared) <= limit:
                found = _collect(squared, limit, run * _RUN, len(points), indices[center], found)
            run += 1
        indices[center, found:] = indices[center, 0] if found else 0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _in_runs(values: Any) -> Any:
    """The values as (run, place), filled up with infinity; loops over such rows are vectorised: 22 against 40 ms for
    32 clouds of 2048 points with 512 centres each."""
    runs = np.full((len(values) + _RUN - 1) // _RUN * _RUN, np.inf, values.dtype)
    runs[: len(values)] = values
    return runs.reshape(-1, _RUN)


@njit(cache=True, nogil=True, fastmath=_FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _fill(x: Any, y: Any, z: Any, run: int, cx: Any, cy: Any, cz: Any, squared: Any) -> Any:
    """Write the squared distances of one run and return the least."""
    dx, dy, dz = x[run, 0] - cx, y[run, 0] - cy, z[run, 0] - cz
    least = (dx * dx + dy * dy) + dz * dz
    for i in range(_RUN):
        dx, dy, dz = x[run, i] - cx, y[run, i] - cy, z[run, i] - cz
        squared[i] = (dx * dx + dy * dy) + dz * dz
        least = min(least, squared[i])
    return least


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _collect(squared: Any, limit: Any, first: int, num_points: int, row: Any, found: int) -> int:
    """Append the run's hits to `row` and return how many it holds."""
    for i in range(min(_RUN, num_points - first)):
        if squared[i] <= limit:
            row[found] = first + i
            found += 1
            if found == len(row):
                break
    return found
