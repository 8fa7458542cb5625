"""Fewer vertices for all meshes of one topology: chosen once, on a template, so that vertex i stays the same place on each."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int32, Int64

from triform.geometry.sampling import farthest_from_centroid


def farthest_vertices(
    coordinates: Float[np.ndarray, "vertex 3"], num_vertices: int, *, mirror: Int[np.ndarray, " vertex"] | None = None
) -> Int64[np.ndarray, "{num_vertices}"]:
    """Return vertices by farthest point sampling, in ascending order, which keeps neighbours of the mesh near one another in memory.

    With `mirror` each vertex brings its mirror image along, so that the choice is as symmetric as the template. Where one place is
    left and a pair would be next, the farthest vertex that is its own image is taken, if there is one.

    Args:
        num_vertices: 1 to the number of vertices.

    Source: Eldar et al., "The farthest point strategy for progressive image sampling" (1997).
    """
    if not 1 <= num_vertices <= len(coordinates):
        raise ValueError(f"num_vertices must be 1 to {len(coordinates)}, got {num_vertices}")
    image = np.arange(len(coordinates)) if mirror is None else np.asarray(mirror)
    axes = np.ascontiguousarray(coordinates.T, np.float64)
    nearest = np.full(len(coordinates), np.inf)
    chosen: list[int] = []
    current = int(farthest_from_centroid(coordinates))
    while len(chosen) < num_vertices:
        for vertex in _with_image(current, image, nearest, room=num_vertices - len(chosen)):
            chosen.append(vertex)
            _approach(nearest, axes, vertex)
        current = int(nearest.argmax())
    return np.array(sorted(chosen), np.int64)


def reduce_faces(faces: Int[np.ndarray, "face 3"], owner: Int[np.ndarray, " vertex"]) -> Int32[np.ndarray, "kept_face 3"]:
    """Return the triangles whose corners belong to three different kept vertices, each once, in their order and orientation.

    Args:
        owner: for each vertex, the place of the kept vertex that it belongs to (`mesh_graph.nearest_of`).
    """
    corners = np.asarray(owner)[faces]
    a, b, c = corners.T
    corners = corners[(a != b) & (b != c) & (c != a)]
    _, first = np.unique(np.sort(corners, axis=1), axis=0, return_index=True)
    return np.asarray(corners[np.sort(first)], np.int32)


def reduce_mirror(
    mirror: Int[np.ndarray, " vertex"], kept: Int[np.ndarray, " kept"], owner: Int[np.ndarray, " vertex"]
) -> Int32[np.ndarray, " kept"] | None:
    """Return which kept vertex mirrors which: the one nearest to the mirror image; None where that is no involution."""
    image = np.asarray(owner)[np.asarray(mirror)[kept]]
    return image.astype(np.int32) if is_involution(image) else None


def is_involution(mirror: Int[np.ndarray, " vertex"]) -> bool:
    """Whether these are indices of which each, taken twice, leads back."""
    inside = mirror.ndim == 1 and bool(((mirror >= 0) & (mirror < len(mirror))).all())
    return inside and bool((mirror[mirror] == np.arange(len(mirror))).all())


def mirror_by_place(coordinates: Float[np.ndarray, "vertex 3"], *, axis: int = 0) -> Int32[np.ndarray, " vertex"] | None:
    """Return which vertex lies nearest to each one's reflection at the plane where coordinate `axis` is 0; None if no involution."""
    from scipy.spatial import cKDTree

    reflected = np.array(coordinates, np.float64)
    reflected[:, axis] *= -1
    _, nearest = cKDTree(coordinates).query(reflected)
    image = np.asarray(nearest, np.int32)
    return image if is_involution(image) else None


def _with_image(vertex: int, image: Int[np.ndarray, " vertex"], nearest: Float64[np.ndarray, " vertex"], *, room: int) -> tuple[int, ...]:
    """The vertex and its mirror image, which may be itself; where only one fits, the farthest that is its own image."""
    pair = tuple(sorted({vertex, int(image[vertex])}))
    if len(pair) <= room:
        return pair
    alone: Bool[np.ndarray, " vertex"] = (image == np.arange(len(image))) & (nearest >= 0)
    return (int(np.where(alone, nearest, -1.0).argmax()),) if alone.any() else (vertex,)


def _approach(nearest: Float64[np.ndarray, " vertex"], axes: Float64[np.ndarray, "3 vertex"], vertex: int) -> None:
    """Lower the squared distances to the chosen by a new one, which is never chosen again, even where all others lie on chosen places."""
    offsets = axes - axes[:, vertex : vertex + 1]
    np.minimum(nearest, (offsets[0] ** 2 + offsets[1] ** 2) + offsets[2] ** 2, out=nearest)
    nearest[vertex] = -1.0
