"""Unit normals of vertices: from triangles where there are some, else from the neighbourhood of each point."""

import numpy as np
from jaxtyping import Float, Float64, Int

_FEWEST_NEIGHBORS = 3


def vertex_normals(coordinates: Float[np.ndarray, "vertex 3"], faces: Int[np.ndarray, "face 3"]) -> Float64[np.ndarray, "vertex 3"]:
    """Return unit normals, each the sum of the normals of its triangles weighted by their areas.

    A vertex without any area around it, which no triangle says anything about, points away from the centroid.

    Args:
        coordinates: finite, in any unit.
        faces: indices of vertices, counterclockwise seen from outside.

    Source: Gouraud, "Continuous shading of curved surfaces" (IEEE Trans. Computers 1971), with area weights.
    """
    points = np.asarray(coordinates, np.float64)
    a, b, c = (np.take(points, faces[:, corner], axis=0) for corner in range(3))
    doubled = np.cross(b - a, c - a)
    corners = faces.ravel()
    sums = [np.bincount(corners, np.repeat(doubled[:, axis], 3), minlength=len(points)) for axis in range(3)]
    return to_unit(np.stack(sums, axis=1), points)


def estimated_normals(coordinates: Float[np.ndarray, "vertex 3"], *, num_neighbors: int = 16) -> Float64[np.ndarray, "vertex 3"]:
    """Return unit normals of points without triangles: the direction of least spread of the nearest ones, turned outward.

    Outward is away from the centroid, which is right for star-shaped bodies and a guess in folds.

    Args:
        num_neighbors: points that a normal is estimated from, itself among them; 3 or more, all points where there are fewer.

    Source: Hoppe et al., "Surface reconstruction from unorganized points" (SIGGRAPH 1992), section 3.1.
    """
    from scipy.spatial import cKDTree

    points = np.asarray(coordinates, np.float64)
    num_neighbors = max(_FEWEST_NEIGHBORS, num_neighbors)
    if len(points) < _FEWEST_NEIGHBORS:
        return to_unit(np.zeros_like(points), points)
    _, nearest = cKDTree(points).query(points, k=min(num_neighbors, len(points)))
    around = points[nearest]
    around -= around.mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("vki,vkj->vij", around, around))
    normals = axes[:, :, 0]
    inward = ((points - points.mean(axis=0)) * normals).sum(axis=1) < 0
    return to_unit(np.where(inward[:, None], -normals, normals), points)


def to_unit(normals: Float[np.ndarray, "vertex 3"], coordinates: Float[np.ndarray, "vertex 3"]) -> Float64[np.ndarray, "vertex 3"]:
    """Return the normals at length one; a zero one points away from the centroid, or along z where the vertex lies there."""
    directions = np.asarray(normals, np.float64).copy()
    for fallback in (coordinates - coordinates.mean(axis=0, dtype=np.float64), np.array([[0.0, 0.0, 1.0]])):
        silent = ~directions.any(axis=1)
        directions[silent] = np.broadcast_to(fallback, directions.shape)[silent]
    directions /= np.abs(directions).max(axis=1, keepdims=True)
    return np.asarray(directions / _lengths(directions)[:, None])


def _lengths(vectors: Float64[np.ndarray, "vertex 3"]) -> Float64[np.ndarray, " vertex"]:
    return np.asarray(np.sqrt((vectors * vectors).sum(axis=1)))
