"""Batches of meshes for both frameworks: centred coordinates in units of the data set, pools by farthest point sampling, and graphs."""

from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int32
from numpy.typing import NDArray

from triform.data.augmentation import sample_generator
from triform.data.meshes.meshes import Meshes
from triform.errors import ExperimentError
from triform.tasks.mesh_identity.augmentation import Draws, draw, mirrored, patch, rotation_of, smoothed, with_loops, without
from triform.tasks.mesh_identity.config import MeshAugmentation, MeshIdentity
from triform.tasks.mesh_identity.graphs import Structure, k_nearest_in_space, mesh_graph, remembered, structure
from triform.tasks.mesh_identity.levels import levels

Batch = dict[str, NDArray[Any]]
Vertices = Float32[np.ndarray, "mesh vertex 3"]
Drawn = list[tuple[Draws, np.random.Generator]]
"""What each sample of a batch draws, and its generator for what is drawn later; empty where nothing is changed."""
STILL = MeshAugmentation(rotate="none")
"""Nothing is changed."""


def make_batch(config: MeshIdentity, data: Meshes, indices: Int[np.ndarray, " batch"], *, seed: int, epoch: int | None) -> Batch:
    """Return the meshes at `indices` as both frameworks take them, a pure function of the arguments.

    coordinates and normals (batch, vertex, 3) float32, the coordinates centred and divided by `data.scale`; subject and label (batch,)
    int64; `pool_<level>` (batch, vertex of the level) int32, indices among the vertices of the level before; `spatial_<level>` and
    `mesh_<level>` (batch, vertex of the level, k) int32, the vertex itself first; `draw` (batch, 2) float32 for random mining.

    Args:
        epoch: None leaves the meshes as they are. Otherwise each is changed by what (seed, epoch, sample) draws; a sample that comes
            twice in a batch is changed in two ways.

    Raises:
        ExperimentError: a setting wants what the data does not have, a mirror permutation or faces.
    """
    draws = draws_of(data, indices, seed=seed, epoch=epoch)
    plain, normals = centred(data, indices)
    coordinates, normals = augmented(config, data, plain, normals, draws=draws)
    if not draws or _keeps_neighbours(config.augmentation):
        names = [data.names[i] for i in indices]
        found = [remembered(config, one, key=(data.digest, name)) for one, name in zip(plain, names, strict=True)]
    else:
        found = [structure(config, one) for one in coordinates]
    batch = assemble(config, data, coordinates, normals, structures=found, draws=draws)
    batch |= {"subject": data.subjects[indices].astype(np.int64), "label": data.labels[indices].astype(np.int64)}
    if config.triplets.mining == "random":
        mining = np.array([one.mining for one, _ in draws]) if draws else np.zeros((len(indices), 2))
        batch["draw"] = np.minimum(mining.astype(np.float32), np.nextafter(np.float32(1), np.float32(0)))
    return batch


def draws_of(data: Meshes, indices: Int[np.ndarray, " batch"], *, seed: int, epoch: int | None) -> Drawn:
    """Return the numbers that change each sample, keyed by (seed, epoch, sample, how often it came before in this batch)."""
    if epoch is None:
        return []
    drawn, came = [], dict[int, int]()
    for sample in indices.tolist():
        generator = sample_generator(seed, epoch=epoch, sample=sample)
        # The counter's second word: 2^66 a visit, within the 2^128 that the sample has for itself.
        generator.bit_generator.advance(came.get(sample, 0) << 66)  # type: ignore[attr-defined, unused-ignore]
        came[sample] = came.get(sample, 0) + 1
        drawn.append((draw(generator, data.num_vertices), generator))
    return drawn


def centred(data: Meshes, indices: Int[np.ndarray, " batch"]) -> tuple[Vertices, Vertices]:
    """Return coordinates, each mesh centred and in units of the data's scale, and normals."""
    raw, normals = data.read(indices)
    offsets = raw - raw.mean(1, keepdims=True, dtype=np.float64)
    return np.asarray(offsets / data.scale, np.float32), np.asarray(normals, np.float32)


def augmented(config: MeshIdentity, data: Meshes, coordinates: Vertices, normals: Vertices, *, draws: Drawn) -> tuple[Vertices, Vertices]:
    """Return coordinates and normals changed by `draws`; as they are where it is empty.

    Raises: ExperimentError: meshes are to be mirrored and the data does not say how.
    """
    if not draws or config.augmentation == STILL:
        return coordinates, normals
    changed = [_augmented(config, data, c, n, one) for c, n, (one, _) in zip(coordinates, normals, draws, strict=True)]
    return np.stack([c for c, _ in changed]), np.stack([n for _, n in changed])


def _keeps_neighbours(wanted: MeshAugmentation) -> bool:
    """Whether meshes are at most turned and scaled, which changes no pool and no graph."""
    changes = (wanted.jitter_std, wanted.mirror_probability, wanted.vertex_dropout, wanted.smoothing_probability, wanted.patch_probability)
    return not any(changes)


def _augmented(
    config: MeshIdentity, data: Meshes, coordinates: NDArray[np.float32], normals: NDArray[np.float32], draws: Draws
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mirror before the rotation, while left and right are known; holes last, so that copies coincide."""
    wanted = config.augmentation
    if wanted.mirror_probability > 0:
        permutation = _mirror_of(data)
        if draws.mirror < wanted.mirror_probability:
            coordinates, normals = mirrored(coordinates, normals, permutation, up_axis=data.up_axis)
    turn = rotation_of(wanted, draws, up_axis=data.up_axis).T
    low, high = wanted.scale_range
    factor = np.float32(low + (high - low) * draws.scale)
    coordinates, normals = np.asarray(coordinates @ turn * factor), np.asarray(normals @ turn)
    if draws.smoothing < wanted.smoothing_probability:
        coordinates, normals = smoothed(coordinates, normals, k_nearest_in_space(coordinates, min(config.k, len(coordinates))))
    if wanted.jitter_std > 0:
        coordinates = np.asarray(coordinates + draws.jitter * np.float32(wanted.jitter_std / data.scale))
    if draws.patch < wanted.patch_probability:
        center = int(draws.patch_center * len(coordinates))
        coordinates, normals = without(coordinates, normals, patch(coordinates, center, fraction=wanted.patch_fraction))
    return without(coordinates, normals, draws.dropped < wanted.vertex_dropout)


def _mirror_of(data: Meshes) -> Int32[np.ndarray, " vertex"]:
    if data.mirror is None or not data.registered:
        why = "has no mirror permutation" if data.registered else "is not registered"
        raise ExperimentError(
            f"task.augmentation.mirror_probability is above 0, but the data {why}",
            expected="registered meshes that say which vertex mirrors which",
            do="give data.mirror_indices and prepare again, or set mirror_probability to 0",
        )
    return data.mirror


def assemble(
    config: MeshIdentity,
    data: Meshes,
    coordinates: Float32[np.ndarray, "batch vertex 3"],
    normals: Float32[np.ndarray, "batch vertex 3"],
    *,
    structures: list[Structure],
    draws: Drawn,
) -> Batch:
    """Return coordinates and normals with the pools and graphs that the layers use, thinned by `draws`.

    Raises: ExperimentError: a layer wants the mesh's graph and the data has no faces.
    """
    batch: Batch = {"coordinates": coordinates, "normals": normals}
    batch |= {name: np.stack([one[name] for one in structures]) for name in structures[0]}
    for layer, place in zip(config.layers, levels(config, coordinates.shape[1]), strict=True):
        if layer.graph == "mesh" and f"mesh_{place.level}" not in batch:
            batch[f"mesh_{place.level}"] = np.repeat(mesh_graph(data, place.k)[None], len(coordinates), axis=0)
    wanted = config.augmentation
    if draws and (wanted.edge_dropout > 0 or wanted.neighbor_dropout > 0):
        _thin(wanted, batch, draws)
    return batch


def _thin(wanted: MeshAugmentation, batch: Batch, draws: Drawn) -> None:
    """Drop edges and neighbours of every given graph, level by level."""
    count = batch["coordinates"].shape[1]
    for place, (one, generator) in enumerate(draws):
        sources, level = np.arange(count), 0
        while level == 0 or f"pool_{level}" in batch:
            sources = sources[batch[f"pool_{level}"][place]] if level else sources
            for name in (f"spatial_{level}", f"mesh_{level}"):
                if name in batch:
                    graph, vanished = batch[name][place], one.vanished[sources] < wanted.neighbor_dropout
                    edges = generator.random(graph.shape)
                    batch[name][place] = with_loops(graph, edge_uniforms=edges, edge_dropout=wanted.edge_dropout, vanished=vanished)
            level += 1
