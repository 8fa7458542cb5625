"""Which vertices tell whose mesh it is: how far the embedding moves when the patches that hold a vertex are removed."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32
from numpy.typing import NDArray

from triform.data.meshes.meshes import Meshes
from triform.geometry.sampling import farthest_from_centroid
from triform.tasks.mesh_identity.augmentation import patch, without
from triform.tasks.mesh_identity.batch import assemble
from triform.tasks.mesh_identity.config import MeshIdentity
from triform.tasks.mesh_identity.graphs import structure

Predict = Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]


def occlusion(
    config: MeshIdentity,
    data: Meshes,
    coordinates: Float32[np.ndarray, "vertex 3"],
    normals: Float32[np.ndarray, "vertex 3"],
    predict: Predict,
    *,
    batch_size: int,
    num_patches: int = 64,
) -> Float32[np.ndarray, " vertex"]:
    """Return each vertex's value: the mean distance (0 to 2) that the embedding moves when a patch that holds it is removed.

    Args:
        coordinates: one mesh as the network sees it, centred and scaled.
        num_patches: patches, spread evenly over the mesh; each as large as those of the augmentation.

    Source: occlusion sensitivity: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), section 4.2.
    """
    patches = cover(coordinates, num_patches=num_patches, fraction=config.augmentation.patch_fraction)
    holed = [without(coordinates, normals, one) for one in patches]
    surfaces = [(coordinates, normals), *holed]
    embeddings = []
    for first in range(0, len(surfaces), batch_size):
        part = surfaces[first : first + batch_size]
        vertices, directions = (np.stack([surface[i] for surface in part]) for i in range(2))
        found = [structure(config, one) for one in vertices]
        batch = assemble(config, data, vertices, directions, structures=found, draws=[])
        none = np.full(len(part), -1)
        embeddings.append(predict(batch | {"subject": none, "label": none})["embedding"])
    whole, *without_patch = np.concatenate(embeddings).astype(np.float64)
    moved = np.linalg.norm(np.stack(without_patch) - whole, axis=1)
    return np.asarray((patches * moved[:, None]).sum(0) / patches.sum(0), np.float32)


def cover(coordinates: Float32[np.ndarray, "vertex 3"], *, num_patches: int, fraction: float) -> Bool[np.ndarray, "patch vertex"]:
    """Return patches about centres spread over the mesh, which together hold every vertex: one that no patch holds joins that of the
    nearest centre."""
    from scipy.spatial import cKDTree

    from triform.kernels.farthest_point_sample import farthest_point_sample_one

    count = min(num_patches, len(coordinates))
    centers = farthest_point_sample_one(coordinates, count, start=int(farthest_from_centroid(coordinates)))
    patches = np.stack([patch(coordinates, int(center), fraction=fraction) for center in centers])
    bare = np.flatnonzero(~patches.any(0))
    _, owner = cKDTree(coordinates[centers]).query(coordinates[bare])
    patches[owner, bare] = True
    return patches
