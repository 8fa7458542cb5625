"""Clouds cut into compact blocks along a Morton curve, with bounding boxes: what the searches prune by.

Only speed depends on the order of the blocks, never a result. Rounding is monotonic: the squared distance to a box, taken with the same
operations in the same order, is never above that to a point in it, so pruning needs no margin. That holds only without fused
multiply-add or reassociation; `nnan` and `nsz` let minima be vectorised and alter no value.
"""

from typing import Any

import numpy as np
from numba import njit

FLAGS = {"nnan", "nsz"}
"""What all searches are compiled with: no fused multiply-add, no reassociation."""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def morton_order(points: Any, cells: int) -> Any:
    """Return point indices (int32) sorted by Morton cell, and by index within a cell (a counting sort).

    Args:
        points: (point, 3), finite, one point at least.
        cells: Cells per axis, a power of 2 up to 32, whose table of 32768 counts stays in the cache.

    Source:
        Morton, "A computer oriented geodetic data base and a new technique in file sequencing" (IBM, 1966).
    """
    codes = _morton_codes(points, cells)
    first = np.zeros(cells**3 + 1, np.int32)
    for code in codes:
        first[code + 1] += 1
    for code in range(cells**3):
        first[code + 1] += first[code]
    order = np.empty(len(points), np.int32)
    for i in range(len(points)):
        order[first[codes[i]]] = i
        first[codes[i]] += 1
    return order


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _morton_codes(points: Any, cells: int) -> Any:
    """The cell of each point: the bits of its three coordinates interleaved. Coordinates too far apart to subtract share one cell."""
    codes = np.zeros(len(points), np.int32)
    low, extent = np.empty(3), 0.0
    for axis in range(3):
        low[axis] = points[:, axis].min()
        extent = max(extent, float(points[:, axis].max()) - low[axis])
    scale = (cells - 0.001) / extent if 0.0 < extent < np.inf else 0.0
    if not 0.0 < scale < np.inf:
        return codes
    for i in range(len(points)):
        for axis in range(3):
            cell = int((float(points[i, axis]) - low[axis]) * scale) & (cells - 1)
            cell = (cell | (cell << 8)) & 0x0300F
            cell = (cell | (cell << 4)) & 0x030C3
            cell = (cell | (cell << 2)) & 0x09249
            codes[i] |= cell << axis
    return codes


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def morton_blocks(points: Any, size: int, cells: int) -> Any:
    """Return the original index (int32), x, y and z of the points in Morton order, each (block, place).

    The last block is filled up with its last point. Rows of a fixed array, and not slices, let loops over a block be vectorised.

    Args:
        points: (point, 3), finite, one point at least.
        size: Points of a block.
        cells: Cells per axis, as in `morton_order`.
    """
    order = morton_order(points, cells)
    num_blocks = (len(points) + size - 1) // size
    source = np.empty((num_blocks, size), np.int32)
    x, y = np.empty((num_blocks, size), points.dtype), np.empty((num_blocks, size), points.dtype)
    z = np.empty_like(x)
    for i in range(num_blocks * size):
        block, place, point = i // size, i % size, order[min(i, len(points) - 1)]
        source[block, place] = point
        x[block, place], y[block, place], z[block, place] = points[point, 0], points[point, 1], points[point, 2]
    return source, x, y, z


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def block_bounds(x: Any, y: Any, z: Any) -> Any:
    """Return the least and the greatest coordinates of each block, both (3, block)."""
    low, high = np.empty((3, len(x)), x.dtype), np.empty((3, len(x)), x.dtype)
    for axis, values in enumerate((x, y, z)):
        for block in range(len(x)):
            least = greatest = values[block, 0]
            for i in range(values.shape[1]):
                least, greatest = min(least, values[block, i]), max(greatest, values[block, i])
            low[axis, block], high[axis, block] = least, greatest
    return low, high


@njit(cache=True, nogil=True, fastmath=FLAGS)  # type: ignore[untyped-decorator, unused-ignore]
def distance_to_boxes(low: Any, high: Any, qx: Any, qy: Any, qz: Any, to_box: Any) -> None:
    """Write the squared distance from one point to each box into `to_box`; 0 inside."""
    low_x, low_y, low_z = low[0], low[1], low[2]  # `= low` would unpack slowly: 294 against 36 us for 2048 queries
    high_x, high_y, high_z = high[0], high[1], high[2]
    zero = qx - qx
    for block in range(len(to_box)):
        dx = max(max(low_x[block] - qx, qx - high_x[block]), zero)
        dy = max(max(low_y[block] - qy, qy - high_y[block]), zero)
        dz = max(max(low_z[block] - qz, qz - high_z[block]), zero)
        to_box[block] = (dx * dx + dy * dy) + dz * dz
