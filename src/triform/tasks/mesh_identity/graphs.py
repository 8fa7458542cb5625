"""Pools and graphs of one mesh, in NumPy: what a layer is given rather than finds in its features."""

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Int64

from triform.data.meshes.meshes import Meshes
from triform.errors import ExperimentError
from triform.geometry.sampling import farthest_from_centroid
from triform.tasks.mesh_identity.config import MeshIdentity
from triform.tasks.mesh_identity.levels import levels

Structure = dict[str, Int32[np.ndarray, "vertex ..."]]
"""Of one mesh: `pool_<level>` and `spatial_<level>`."""

_mesh_graphs: dict[tuple[str, int], Int32[np.ndarray, "vertex k"]] = {}
"""By data set and k: the same for every batch, and a second to find."""

_MOST_BYTES = 256 * 2**20
_remembered: OrderedDict[tuple[Any, ...], Structure] = OrderedDict()
"""Structures of meshes as they are, the last used last: finding one takes 5 ms, and a training needs it in every epoch."""
_lock = threading.Lock()


def structure(config: MeshIdentity, coordinates: Float32[np.ndarray, "vertex 3"]) -> Structure:
    """Return the pools and spatial graphs that the layers use of a mesh."""
    found: Structure = {}
    present = coordinates
    for layer, place in zip(config.layers, levels(config, len(coordinates)), strict=True):
        if place.begins_level:
            chosen = pool(present, place.num_vertices)
            found[f"pool_{place.level}"] = chosen.astype(np.int32)
            present = present[chosen]
        if layer.graph == "spatial" and f"spatial_{place.level}" not in found:
            found[f"spatial_{place.level}"] = k_nearest_in_space(present, place.k)
    return found


def remembered(config: MeshIdentity, coordinates: Float32[np.ndarray, "vertex 3"], *, key: tuple[str, str]) -> Structure:
    """Return `structure`, found once for a data set and a mesh in it (`key`), as long as the memory for it lasts."""
    whole = (*key, config.k, config.layers)
    with _lock:
        if whole in _remembered:
            _remembered.move_to_end(whole)
            return _remembered[whole]
    found = structure(config, coordinates)
    with _lock:
        _remembered[whole] = found
        while _bytes_remembered() > _MOST_BYTES:
            _remembered.popitem(last=False)
    return found


def _bytes_remembered() -> int:
    return sum(array.nbytes for found in _remembered.values() for array in found.values())


def pool(coordinates: Float32[np.ndarray, "vertex 3"], num_vertices: int) -> Int64[np.ndarray, " kept"]:
    """Return the vertices that are kept, by farthest point sampling from the vertex farthest from the centroid.

    Neither the order of the vertices nor a rotation changes that start. One mesh at a time, because several loader threads may pool.
    """
    from triform.kernels.farthest_point_sample import farthest_point_sample_one

    return farthest_point_sample_one(coordinates, num_vertices, start=int(farthest_from_centroid(coordinates)))


def k_nearest_in_space(coordinates: Float32[np.ndarray, "vertex 3"], k: int) -> Int32[np.ndarray, "vertex k"]:
    """Return each vertex's k nearest by distance: itself first, then ties to the lowest index.

    Args:
        k: 1 to the number of vertices.
    """
    from scipy.spatial import cKDTree

    count = len(coordinates)
    tree = cKDTree(coordinates, balanced_tree=False)
    distances, indices = (np.reshape(found, (count, -1)) for found in tree.query(coordinates, min(k + 1, count)))
    tied = (distances[:, 1:] == distances[:, :-1]).any(1) | (indices[:, 0] != np.arange(count))
    rows = np.flatnonzero(tied)
    if len(rows):
        indices[rows, :k] = _settled(tree, coordinates, rows, k)
    return np.ascontiguousarray(indices[:, :k], np.int32)


def _settled(tree: Any, coordinates: Any, rows: Any, k: int) -> Int64[np.ndarray, "row k"]:
    """The k nearest of some vertices, ties settled: asks for more until none of the k-th's equals can be missing."""
    settled = np.empty((len(rows), k), np.int64)
    pending, wanted = np.arange(len(rows)), k
    while len(pending):
        wanted = min(2 * wanted + 1, len(coordinates))
        mine = rows[pending]
        distances, indices = tree.query(coordinates[mine], wanted)
        distances[indices == mine[:, None]] = -1
        whole = (distances[:, k - 1] < distances[:, -1]) | (wanted == len(coordinates))
        order = np.lexsort((indices, distances), axis=1)[:, :k]
        settled[pending[whole]] = np.take_along_axis(indices, order, axis=1)[whole]
        pending = pending[~whole]
    return settled


def mesh_graph(data: Meshes, k: int) -> Int32[np.ndarray, "vertex k"]:
    """Return the k nearest along the edges of the first training mesh, for all meshes of all splits.

    Raises: ExperimentError: the data has no faces.
    """
    if data.faces is None or data.template is None:
        raise ExperimentError(
            "A layer's graph is mesh, but the data has no faces",
            expected="registered meshes with faces",
            do='set the layer\'s graph to "spatial", or prepare from files that have faces',
        )
    key = (data.digest, k)
    if key not in _mesh_graphs:
        from triform.geometry.mesh_graph import ring_neighbors

        _mesh_graphs[key] = ring_neighbors(data.faces, data.template, k)
    return _mesh_graphs[key]
