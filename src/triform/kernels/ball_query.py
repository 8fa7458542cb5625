"""Exact ball query on the CPU: numba, NumPy in and out.

A cloud is cut into slabs of consecutive indices (the first 512, 2048, 8192 points ...), as many as a ball needs to be full, and each slab
into blocks along a Morton curve. A centre visits only the blocks whose bounding box its ball touches. Hits are marked as bits by their
original index, so that they are read off in index order, whatever the order of the blocks.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from numba import njit, prange

from triform.kernels.morton import FLAGS, block_bounds, distance_to_boxes, morton_blocks

_BLOCK = 64
"""Points of a block: its hits are the bits of one number."""
_CELLS = 16
_SLAB = 512
"""Points of the first slab, a multiple of 64. Two slabs instead of one for 2048 points: plants, whose balls are soon full, take 3.1 instead
of 4.8 ms, a filled sphere, where every slab is looked through, 4.6 instead of 3.9."""
_CENTERS = 64
"""Centres of one parallel task."""
_DE_BRUIJN = 0x03F79D71B4CB0A89
"""Each window of 6 of its bits is another number, so that a product with 2^n tells n from its highest 6 bits."""
_BIT = np.zeros(64, np.int64)
_BIT[[(_DE_BRUIJN << n & (2**64 - 1)) >> 58 for n in range(64)]] = np.arange(64)


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
    with np.errstate(over="ignore"):
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


@njit(cache=True, parallel=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _query_batch(points: Any, centers: Any, limit: Any, indices: Any) -> None:
    batch, (first_point, first_block) = points.shape[0], _slabs(points.shape[1])
    source = np.empty((batch, first_block[-1], _BLOCK), np.int32)
    places, bounds = np.empty((batch, 3, *source.shape[1:]), points.dtype), np.empty((batch, 2, 3, first_block[-1]), points.dtype)
    for cloud in prange(batch):
        _lay_out(points[cloud], first_point, first_block, source[cloud], places[cloud], bounds[cloud])
    tasks = (centers.shape[1] + _CENTERS - 1) // _CENTERS
    for task in prange(batch * tasks):
        cloud, first = task // tasks, task % tasks * _CENTERS
        part, rows = centers[cloud, first : first + _CENTERS], indices[cloud, first : first + _CENTERS]
        _query(source[cloud], places[cloud], bounds[cloud], first_point, first_block, part, limit, rows)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _slabs(num_points: int) -> Any:
    """The first point and the first block of each slab, and of what would come after the last."""
    first_point, first_block, stop = [0], [0], _SLAB
    while first_point[-1] < num_points:
        first_block.append(first_block[-1] + (min(stop, num_points) - first_point[-1] + _BLOCK - 1) // _BLOCK)
        first_point.append(min(stop, num_points))
        stop *= 4
    return np.array(first_point), np.array(first_block)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _lay_out(points: Any, first_point: Any, first_block: Any, source: Any, places: Any, bounds: Any) -> None:
    """Write the original indices, coordinates and bounds of the blocks of all slabs; by element, as slices take 7 s to compile."""
    for slab in range(len(first_point) - 1):
        found, x, y, z = morton_blocks(points[first_point[slab] : first_point[slab + 1]], _BLOCK, _CELLS)
        low, high = block_bounds(x, y, z)
        for block in range(len(found)):
            at = first_block[slab] + block
            for i in range(_BLOCK):
                source[at, i] = found[block, i] + first_point[slab]
                places[0, at, i], places[1, at, i], places[2, at, i] = x[block, i], y[block, i], z[block, i]
            for axis in range(3):
                bounds[0, axis, at], bounds[1, axis, at] = low[axis, block], high[axis, block]


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _query(source: Any, places: Any, bounds: Any, first_point: Any, first_block: Any, centers: Any, limit: Any, indices: Any) -> None:
    x, y, z, low, high = places[0], places[1], places[2], bounds[0], bounds[1]
    words = np.zeros((first_point[-1] + 63) // 64, np.uint64)
    to_box = np.empty(len(source), centers.dtype)
    for center in range(len(centers)):
        cx, cy, cz = centers[center, 0], centers[center, 1], centers[center, 2]
        found, slab = 0, 0
        while found < indices.shape[1] and slab < len(first_block) - 1:
            begin, end = first_block[slab], first_block[slab + 1]
            distance_to_boxes(low[:, begin:end], high[:, begin:end], cx, cy, cz, to_box[begin:end])
            for block in range(begin, end):
                if to_box[block] <= limit:
                    _mark(_hits(x, y, z, block, cx, cy, cz, limit), source, block, words)
            found = _take_lowest(words, first_point[slab] >> 6, (first_point[slab + 1] + 63) >> 6, indices[center], found)
            slab += 1
        indices[center, found:] = indices[center, 0] if found else 0


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def _hits(x: Any, y: Any, z: Any, block: int, cx: Any, cy: Any, cz: Any, limit: Any) -> Any:
    """The points of a block that are within, as bits."""
    hits = np.uint64(0)
    for i in range(_BLOCK):
        dx, dy, dz = x[block, i] - cx, y[block, i] - cy, z[block, i] - cz
        hits |= np.uint64((dx * dx + dy * dy) + dz * dz <= limit) << np.uint64(i)
    return hits


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _mark(hits: Any, source: Any, block: int, words: Any) -> None:
    """Set the bits of the original indices of a block's hits."""
    while hits:
        rest = hits & (hits - np.uint64(1))
        index = np.uint64(source[block, _BIT[((hits ^ rest) * np.uint64(_DE_BRUIJN)) >> np.uint64(58)]])
        words[index >> np.uint64(6)] |= np.uint64(1) << (index & np.uint64(63))
        hits = rest


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _take_lowest(words: Any, first: int, stop: int, row: Any, found: int) -> int:
    """Append the indices of the lowest bits of words[first:stop] to `row`, clear all of them and return how many indices it holds."""
    for number in range(first, stop):
        word = words[number]
        words[number] = 0
        while word and found < len(row):
            rest = word & (word - np.uint64(1))
            row[found] = number * 64 + _BIT[((word ^ rest) * np.uint64(_DE_BRUIJN)) >> np.uint64(58)]
            found += 1
            word = rest
    return found
