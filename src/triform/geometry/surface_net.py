"""A closed triangle mesh of the surface where a function on a grid changes its sign."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Int64

_CORNERS = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
_EDGES = np.array([(a, b) for a in range(8) for b in range(a + 1, 8) if (_CORNERS[a] != _CORNERS[b]).sum() == 1])


def surface_net(values: Float[np.ndarray, "x y z"]) -> tuple[Float64[np.ndarray, "vertex 3"], Int32[np.ndarray, "face 3"]]:
    """Return vertices, in cells of the grid, and triangles, counterclockwise seen from outside; inside is where `values` are negative.

    Each cell that the surface crosses gets a vertex, the mean of its crossings of the cell's edges; each crossed edge of the grid joins
    the four cells around it. The border of the grid must be outside.

    Source: Gibson, "Constrained elastic surface nets" (MICCAI 1998), without its relaxation.
    """
    inside = np.asarray(values) < 0
    vertex_of, vertices = _vertices(np.asarray(values, np.float64), inside)
    quads = np.concatenate([_quads(inside, vertex_of, axis) for axis in range(3)])
    # The shorter diagonal folds less.
    a, b, c, d = (vertices[quads[:, corner]] for corner in range(4))
    shorter = (((a - c) ** 2).sum(axis=1) <= ((b - d) ** 2).sum(axis=1))[:, None, None]
    faces = np.where(shorter, quads[:, [[0, 1, 2], [0, 2, 3]]], quads[:, [[0, 1, 3], [1, 2, 3]]])
    return vertices, faces.reshape(-1, 3).astype(np.int32)


def _vertices(
    values: Float64[np.ndarray, "x y z"], inside: Bool[np.ndarray, "x y z"]
) -> tuple[Int64[np.ndarray, "x y z"], Float64[np.ndarray, "vertex 3"]]:
    """The vertex of each cell (-1: none), and where it lies."""
    shape = tuple(size - 1 for size in values.shape)
    corners = [tuple(slice(o, o + n) for o, n in zip(corner, shape, strict=True)) for corner in _CORNERS]
    num_inside = np.sum([inside[corner] for corner in corners], axis=0)
    cells = np.nonzero((num_inside > 0) & (num_inside < 8))
    at = np.stack([values[corner][cells] for corner in corners], axis=1)
    total, count = np.zeros((len(at), 3)), np.zeros((len(at), 1))
    for a, b in _EDGES:
        crossed = (at[:, a] < 0) != (at[:, b] < 0)
        share = np.where(crossed, at[:, a] / np.where(crossed, at[:, a] - at[:, b], 1.0), 0.0)[:, None]
        total += crossed[:, None] * (_CORNERS[a] + share * (_CORNERS[b] - _CORNERS[a]))
        count += crossed[:, None]
    vertex_of = np.full(shape, -1)
    vertex_of[cells] = np.arange(len(at))
    return vertex_of, np.stack(cells, axis=1) + total / count


def _quads(inside: Bool[np.ndarray, "x y z"], vertex_of: Int64[np.ndarray, "x y z"], axis: int) -> Int64[np.ndarray, "quad 4"]:
    """The four cells around each crossed edge along one axis, counterclockwise seen from outside."""
    turned, cells = np.moveaxis(inside, axis, 0), np.moveaxis(vertex_of, axis, 0)
    if axis == 1:  # y, z, x keeps the hand that moveaxis changed
        turned, cells = turned.swapaxes(1, 2), cells.swapaxes(1, 2)
    i, j, k = np.nonzero(turned[:-1] != turned[1:])
    quads = np.stack([cells[i, j - 1, k - 1], cells[i, j, k - 1], cells[i, j, k], cells[i, j - 1, k]], axis=1)
    return np.where(turned[i, j, k][:, None], quads, quads[:, ::-1])
