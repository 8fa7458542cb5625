"""Exact farthest point sampling on the CPU: numba, NumPy in and out.

Points are sorted along a Morton curve and cut into blocks of 64. A new sample visits only the blocks whose bounding box is nearer
to it than the farthest point of the block is to the samples so far, which changes no index (`kernels.morton` says why).
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int64
from numba import njit, prange

from triform.geometry.sampling import check_sample_request
from triform.kernels.morton import FLAGS, block_bounds, distance_to_boxes, morton_blocks

_BLOCK = 64
_CELLS = 32
"""Morton cells per axis: 5 bits, so that the counting sort's table (128 KiB) stays in the cache."""


def farthest_point_sample(
    points: Float[np.ndarray, "batch point 3"], num_samples: int, *, start: Int[np.ndarray, " batch"]
) -> Int64[np.ndarray, "batch sample"]:
    """Return, for each cloud, the indices of `num_samples` points, each the farthest from those before it; the first is `start`.

    Clouds are sampled in parallel: never call this from several threads at once, nor in a forked child.
    The definition is that of `geometry.sampling.farthest_point_sample_reference`, and so are the indices, one by one.

    Args:
        points: float32 or float64, finite.
        num_samples: 1 to the number of points.
        start: The first index of each cloud.

    Raises:
        ValueError: Named after the argument that is wrong.
    """
    start = np.asarray(start)
    check_sample_request(points, num_samples, start=start)
    indices = np.empty((len(points), num_samples), np.int64)
    _sample_batch(np.ascontiguousarray(points), start.astype(np.int64), indices)
    return indices


def farthest_point_sample_one(points: Float[np.ndarray, "point 3"], num_samples: int, *, start: int) -> Int64[np.ndarray, " sample"]:
    """Return the indices for one cloud: serial and without the interpreter lock, so that threads can call it at once.

    Raises:
        ValueError: Named after the argument that is wrong.
    """
    check_sample_request(points[None], num_samples, start=np.array([start]))
    indices = np.empty(num_samples, np.int64)
    _sample(np.ascontiguousarray(points), start, indices)
    return indices


@njit(cache=True, parallel=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _sample_batch(points: Any, start: Any, indices: Any) -> None:
    for cloud in prange(points.shape[0]):
        _sample(points[cloud], start[cloud], indices[cloud])


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _sample(points: Any, start: int, indices: Any) -> None:
    source, x, y, z = morton_blocks(points, _BLOCK, _CELLS)
    low, high = block_bounds(x, y, z)
    nearest = np.full(x.shape, np.inf, points.dtype)
    for i in range((len(points) - 1) % _BLOCK + 1, _BLOCK):
        nearest[-1, i] = -1  # what fills up the last block is never chosen
    farthest = np.full(len(source), np.inf, points.dtype)
    to_box = np.empty_like(farthest)
    block, place = _find(source, start)
    for sample in range(len(indices)):
        indices[sample] = source[block, place]
        cx, cy, cz = x[block, place], y[block, place], z[block, place]
        distance_to_boxes(low, high, cx, cy, cz, to_box)
        for other in range(len(source)):
            if to_box[other] < farthest[other]:
                farthest[other] = _visit(x[other], y[other], z[other], nearest[other], cx, cy, cz)
        block, place = _lowest_farthest(farthest, nearest, source)


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _find(source: Any, point: int) -> Any:
    for block in range(source.shape[0]):
        for place in range(_BLOCK):
            if source[block, place] == point:
                return block, place
    return 0, 0


@njit(inline="always", fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _visit(x: Any, y: Any, z: Any, nearest: Any, cx: Any, cy: Any, cz: Any) -> Any:
    """Lower `nearest` of one block by a new sample and return its greatest value. Inlined, as a call would count references to
    four rows: 2.0 -> 1.55 ms for 10,000 points to 2,048."""
    for i in range(_BLOCK):
        dx, dy, dz = x[i] - cx, y[i] - cy, z[i] - cz
        nearest[i] = min(nearest[i], (dx * dx + dy * dy) + dz * dz)
    greatest = nearest[0]
    for i in range(_BLOCK):
        greatest = max(greatest, nearest[i])
    return greatest


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _lowest_farthest(farthest: Any, nearest: Any, source: Any) -> Any:
    """Where the point with the greatest distance is; among equals, the one of the lowest original index."""
    greatest = farthest[0]
    for block in range(len(farthest)):
        greatest = max(greatest, farthest[block])
    lowest, best_block, best_place = np.iinfo(np.int32).max, 0, 0
    for block in range(len(farthest)):
        if farthest[block] == greatest:
            for place in range(_BLOCK):
                if nearest[block, place] == greatest and source[block, place] < lowest:
                    lowest, best_block, best_place = source[block, place], block, place
    return best_block, best_place
