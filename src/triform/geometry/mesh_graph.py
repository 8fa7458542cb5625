"""The graph of a mesh's own edges, and who is near whom along it."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int, Int32, Int64

_NUM_SOURCES = 256
"""Sources a pass: scipy gives a dense row of all vertices for each."""


def ring_neighbors(faces: Int[np.ndarray, "face 3"], coordinates: Float[np.ndarray, "vertex 3"], k: int) -> Int32[np.ndarray, "vertex {k}"]:
    """Return the k nearest vertices of each along the mesh's edges, itself first, then by distance; ties go to the lowest index.

    A vertex that reaches fewer than k, itself counted, repeats itself in the places that are left.

    Args:
        k: 1 or more.

    Source: Dijkstra, "A note on two problems in connexion with graphs" (1959), on edge lengths.
    """
    graph = edge_graph(faces, coordinates)
    neighbors = np.tile(np.arange(len(coordinates), dtype=np.int32)[:, None], (1, k))
    wanted = np.minimum(k, _component_sizes(graph))
    todo = np.arange(len(coordinates))
    limit = _first_limit(graph, k)
    while len(todo):
        late = []
        for first in range(0, len(todo), _NUM_SOURCES):
            sources = todo[first : first + _NUM_SOURCES]
            enough = _fill(graph, sources, neighbors, wanted[sources], limit=limit)
            late.append(sources[~enough])
        todo, limit = np.concatenate(late), 2 * limit
    return neighbors


def edge_graph(faces: Int[np.ndarray, "face 3"], coordinates: Float[np.ndarray, "vertex 3"]) -> Any:
    """Return the symmetric sparse matrix (scipy csr) of edge lengths; an edge of length 0 is an entry of 0."""
    from scipy.sparse import csr_array

    points = np.asarray(coordinates, np.float64)
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    edges = np.unique(np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1), axis=0)
    lengths = np.sqrt(((points[edges[:, 0]] - points[edges[:, 1]]) ** 2).sum(axis=1))
    rows, columns = np.concatenate([edges, edges[:, ::-1]]).T
    return csr_array((np.tile(lengths, 2), (rows, columns)), shape=(len(points), len(points)))


def nearest_of(
    kept: Int[np.ndarray, " kept"], coordinates: Float[np.ndarray, "vertex 3"], faces: Int[np.ndarray, "face 3"] | None
) -> Int64[np.ndarray, " vertex"]:
    """Return for each vertex the place in `kept` of the nearest kept vertex along the mesh; straight, where no path leads to one."""
    from scipy.sparse.csgraph import dijkstra
    from scipy.spatial import cKDTree

    _, owner = cKDTree(coordinates[kept]).query(coordinates)
    owner = np.asarray(owner, np.int64)
    if faces is not None and len(faces):
        place = np.full(len(coordinates), -1)
        place[kept] = np.arange(len(kept))
        graph = edge_graph(faces, coordinates)
        distance, _, source = dijkstra(graph, directed=True, indices=kept, min_only=True, return_predecessors=True)
        reached = np.isfinite(distance)
        owner[reached] = place[source[reached]]
    owner[kept] = np.arange(len(kept))
    return owner


def _component_sizes(graph: Any) -> Int64[np.ndarray, " vertex"]:
    from scipy.sparse.csgraph import connected_components

    _, component = connected_components(graph, directed=False)
    return np.asarray(np.bincount(component)[component], np.int64)


def _first_limit(graph: Any, k: int) -> float:
    """A radius within which most vertices have k neighbours: k vertices of a regular mesh fill a disc of about this many edges."""
    lengths = graph.data[graph.data > 0]
    return float(lengths.mean() * (1.0 + np.sqrt(k / 2.0))) if len(lengths) else 1.0


def _fill(
    graph: Any,
    sources: Int64[np.ndarray, " source"],
    neighbors: Int32[np.ndarray, "vertex k"],
    wanted: Int64[np.ndarray, " source"],
    *,
    limit: float,
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Write the neighbours of those sources that reach as many as wanted within `limit`; return which they are."""
    from scipy.sparse.csgraph import dijkstra

    distance: Float64[np.ndarray, "source vertex"] = dijkstra(graph, directed=True, indices=sources, limit=limit)
    distance[np.arange(len(sources)), sources] = -1.0  # before all that lie on the same spot
    rows, columns = np.nonzero(np.isfinite(distance))
    order = np.lexsort((columns, distance[rows, columns], rows))
    counts = np.bincount(rows, minlength=len(sources))
    first = np.cumsum(counts) - counts
    enough = counts >= wanted
    for row in np.nonzero(enough)[0]:
        found = columns[order[first[row] : first[row] + wanted[row]]]
        neighbors[sources[row], : len(found)] = found
    return np.asarray(enough)
