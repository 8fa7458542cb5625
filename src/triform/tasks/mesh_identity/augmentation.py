"""Random changes of training meshes: pure functions of a mesh and of numbers that are drawn once, all of them, for each sample."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from triform.tasks.mesh_identity.config import MeshAugmentation

Vertices = Float32[np.ndarray, "vertex 3"]
Graph = Int32[np.ndarray, "vertex k"]


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """What one sample's augmentation is made of, drawn in one order whatever is switched on: no setting shifts another's numbers."""

    mining: Float64[np.ndarray, " 2"]
    angle: float
    scale: float
    mirror: float
    smoothing: float
    patch: float
    patch_center: float
    dropped: Float64[np.ndarray, " vertex"]
    vanished: Float64[np.ndarray, " vertex"]
    axis: Float64[np.ndarray, " 3"]
    jitter: Float32[np.ndarray, "vertex 3"]


def draw(generator: np.random.Generator, num_vertices: int) -> Draws:
    """Return the numbers of one sample: uniform in [0, 1), but `axis` a random direction and `jitter` standard normal."""
    mining, (angle, scale, mirror, smoothing, hole, center) = generator.random(2), generator.random(6).tolist()
    dropped, vanished = generator.random(num_vertices), generator.random(num_vertices)
    axis = generator.standard_normal(3)
    jitter = generator.standard_normal((num_vertices, 3)).astype(np.float32)
    axis /= np.linalg.norm(axis)
    return Draws(mining, angle, scale, mirror, smoothing, hole, center, dropped, vanished, axis, jitter)


def rotation(axis: Float64[np.ndarray, " 3"], angle_rad: float) -> Float32[np.ndarray, "3 3"]:
    """Return the matrix that turns about a unit `axis`, counterclockwise seen from its tip (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * (cross @ cross)
    return np.asarray(matrix, np.float32)


def rotation_of(config: MeshAugmentation, draws: Draws, *, up_axis: str) -> Float32[np.ndarray, "3 3"]:
    """Return the sample's rotation: about the up axis or a random one, by up to `rotate_degrees` to either side; else the identity."""
    if config.rotate == "none":
        return np.eye(3, dtype=np.float32)
    axis = np.eye(3)["xyz".index(up_axis)] if config.rotate == "up" else draws.axis
    return rotation(axis, np.radians(config.rotate_degrees) * (2 * draws.angle - 1))


def lateral_axis(coordinates: Vertices, mirror: Int32[np.ndarray, " vertex"], *, up_axis: str) -> int:
    """Return the axis (0 to 2, not the up axis) along which vertices lie farthest from those that mirror them: left to right."""
    apart = np.square(coordinates - coordinates[mirror]).mean(0, dtype=np.float64)
    apart["xyz".index(up_axis)] = -1
    return int(apart.argmax())


def mirrored(coordinates: Vertices, normals: Vertices, mirror: Int32[np.ndarray, " vertex"], *, up_axis: str) -> tuple[Vertices, Vertices]:
    """Return the mesh with left and right swapped: reflected, and each vertex put where its mirror image was, so that it means the
    same place as before.

    Args:
        mirror: each vertex's mirror image.
    """
    sign = np.ones(3, np.float32)
    sign[lateral_axis(coordinates, mirror, up_axis=up_axis)] = -1
    return coordinates[mirror] * sign, normals[mirror] * sign


def smoothed(coordinates: Vertices, normals: Vertices, graph: Graph) -> tuple[Vertices, Vertices]:
    """Return the mesh with each vertex halfway to the mean of its neighbours (without itself, the first), normals likewise."""
    if graph.shape[1] < 2:
        return coordinates, normals
    moved, turned = ((values + values[graph[:, 1:]].mean(1)) / np.float32(2) for values in (coordinates, normals))
    return moved, unit(turned, otherwise=normals)


def unit(vectors: Vertices, *, otherwise: Vertices) -> Vertices:
    """Return the vectors at length 1, and those of `otherwise` where the length is 0."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > 0, vectors / np.where(length > 0, length, 1), otherwise).astype(np.float32)


def without(coordinates: Vertices, normals: Vertices, removed: Bool[np.ndarray, " vertex"]) -> tuple[Vertices, Vertices]:
    """Return the mesh whose removed vertices are copies of the nearest one that stays; the number of vertices stays.

    Where all are removed, the first stays.
    """
    if not removed.any():
        return coordinates, normals
    from scipy.spatial import cKDTree

    kept = np.flatnonzero(~removed) if not removed.all() else np.array([0])
    _, nearest = cKDTree(coordinates[kept]).query(coordinates[removed])
    source = np.arange(len(coordinates))
    source[removed] = kept[nearest]
    return coordinates[source], normals[source]


def patch(coordinates: Vertices, center: int, *, fraction: float) -> Bool[np.ndarray, " vertex"]:
    """Return which vertices are the `fraction` of all that lies nearest to vertex `center`, at least one; ties to the lowest."""
    offsets = coordinates - coordinates[center]
    count = max(1, round(fraction * len(coordinates)))
    inside = np.zeros(len(coordinates), bool)
    inside[np.argsort(np.square(offsets).sum(1), kind="stable")[:count]] = True
    return inside


def with_loops(
    graph: Graph,
    *,
    edge_uniforms: Float64[np.ndarray, "vertex k"],
    edge_dropout: float,
    vanished: Bool[np.ndarray, " source"],
) -> Graph:
    """Return the graph with loops for the edges that were dropped, and for those that lead to a vertex that vanished.

    Args:
        graph: neighbours among `source` vertices of the same level; the first is the vertex itself and stays.
        edge_uniforms: an edge is dropped where its number is below `edge_dropout`.
    """
    dropped = (edge_uniforms < edge_dropout) | vanished[graph]
    return np.where(dropped, graph[:, :1], graph)
