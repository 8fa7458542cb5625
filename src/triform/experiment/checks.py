"""Clashes: fields that are each right and don't fit each other."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from triform.data.config import CloudSettings
from triform.data.meshes.config import MeshSettings
from triform.experiment.schema import Path
from triform.experiment.tree import Experiment
from triform.tasks.mesh_identity.config import MeshIdentity
from triform.tasks.point_autoencoder.config import AbstractionLevel, FoldingDecoder, MultiScaleLevel, PointAutoencoder
from triform.training.config import Training

Better = Literal["lower", "higher"]
METRICS: dict[str, dict[str, Better]] = {
    "point_autoencoder": {"cd_l2": "lower", "cd_squared": "lower"},
    "mesh_identity": {"rank_1": "higher", "eer": "lower", "accuracy": "higher", "classification_loss": "lower"},
}
"""Validation metrics of each task, which `training.monitor` may name, and which way is better."""


def monitor(experiment: Experiment) -> tuple[str, Better]:
    """The validation metric that picks the best model, and which way is better."""
    name = experiment.training.monitor
    if name == "auto":
        name = _own_metrics(experiment)[0]
    return name, METRICS[experiment.task.kind][name]


def _own_metrics(experiment: Experiment) -> tuple[str, ...]:
    """What validation gives; first what the task is judged by."""
    if isinstance(experiment.data, MeshSettings):
        return ("rank_1", "eer") if experiment.data.protocol == "open_set" else ("accuracy", "classification_loss")
    return tuple(METRICS[experiment.task.kind])


class Clash(NamedTuple):
    """A field to change, why, and the field beside it that it does not fit."""

    path: Path
    text: str
    beside: Path


NUM_POINTS: Path = ("data", "num_points")


def clashes(experiment: Experiment) -> Iterator[Clash]:
    """Every clash of an experiment."""
    yield from _training(experiment.training)
    task, data = experiment.task, experiment.data
    if isinstance(task, PointAutoencoder) and isinstance(data, CloudSettings):
        yield from _point_autoencoder(task, num_points=data.num_points)
    elif isinstance(task, MeshIdentity) and isinstance(data, MeshSettings):
        yield from _mesh_identity(experiment, task, data)
    else:
        wanted = "ply_clouds or maize_field3d" if isinstance(task, PointAutoencoder) else "mesh_hdf5 or mesh_files"
        yield Clash(("data", "kind"), f'got "{data.kind}", expected {wanted}, which the task takes', ("task", "kind"))
        return
    metrics = _own_metrics(experiment)
    if experiment.training.monitor not in ("auto", *metrics):
        text = f'got "{experiment.training.monitor}", expected a metric of the task: {" or ".join(metrics)}'
        yield Clash(("training", "monitor"), text, ("task", "kind"))
    if experiment.backend == "mlx" and not isinstance(task, MeshIdentity):
        yield Clash(("backend",), 'got "mlx", expected auto or torch: this task has no model in MLX', ("task", "kind"))


def _training(training: Training) -> Iterator[Clash]:
    if training.warmup_epochs > training.num_epochs:
        text = f"got {training.warmup_epochs:g}, expected at most num_epochs, {training.num_epochs}"
        yield Clash(("training", "warmup_epochs"), text, ("training", "num_epochs"))
    if training.scheduler_type == "cosine" and training.min_lr > training.learning_rate:
        text = f"got {training.min_lr:g}, expected at most learning_rate, {training.learning_rate:g}"
        yield Clash(("training", "min_lr"), text, ("training", "learning_rate"))


def _point_autoencoder(task: PointAutoencoder, *, num_points: int) -> Iterator[Clash]:
    smallest, largest = task.augmentation.scale_range
    if smallest > largest:
        path: Path = ("task", "augmentation", "scale_range")
        yield Clash(path, f"got {smallest:g} before {largest:g}, expected the smallest factor first", path)
    yield from _levels(task.encoder.levels, num_points=num_points)
    if isinstance(task.decoder, FoldingDecoder):
        yield from _grid(task.decoder, num_points=num_points)


def _levels(levels: Sequence[AbstractionLevel | MultiScaleLevel], *, num_points: int) -> Iterator[Clash]:
    most, limit = num_points, f"at most num_points, {num_points}"
    for index, level in enumerate(levels):
        if level.num_centers > most:
            path: Path = ("task", "encoder", "levels", index, "num_centers")
            yield Clash(path, f"got {level.num_centers}, expected {limit}", NUM_POINTS)
        most, limit = level.num_centers - 1, f"fewer than the level before, {level.num_centers}"


def _grid(decoder: FoldingDecoder, *, num_points: int) -> Iterator[Clash]:
    """A grid of half to twice the cloud's points: outside, one direction of the Chamfer distance outweighs the other."""
    least, most = math.ceil(math.sqrt(num_points / 2)), math.isqrt(2 * num_points)
    if not least <= decoder.grid_size <= most:
        points = f"({decoder.grid_size**2} points)"
        text = f"got {decoder.grid_size} {points}, expected {least} to {most}: half to twice num_points, {num_points}"
        yield Clash(("task", "decoder", "grid_size"), text, NUM_POINTS)


def _mesh_identity(experiment: Experiment, task: MeshIdentity, data: MeshSettings) -> Iterator[Clash]:
    path: Path = ("task", "augmentation")
    smallest, largest = task.augmentation.scale_range
    if smallest > largest:
        yield Clash(
            (*path, "scale_range"), f"got {smallest:g} before {largest:g}, expected the smallest factor first", (*path, "scale_range")
        )
    if task.augmentation.mirror_probability and not data.registered:
        yield Clash((*path, "mirror_probability"), "expected 0: unregistered meshes know no mirror vertices", ("data", "registered"))
    per_subject = task.triplets.meshes_per_subject
    if experiment.training.batch_size % per_subject or experiment.training.batch_size < 2 * per_subject:
        text = f"got {experiment.training.batch_size}, expected a multiple of meshes_per_subject, {per_subject}, two subjects at least"
        yield Clash(("training", "batch_size"), text, ("task", "triplets", "meshes_per_subject"))
    yield from _graphs(task, data)


def _graphs(task: MeshIdentity, data: MeshSettings) -> Iterator[Clash]:
    present, pooled = data.num_vertices or None, False
    for index, layer in enumerate(task.layers):
        path: Path = ("task", "layers", index)
        if present is not None and layer.keep_vertices > present:
            text = f"got {layer.keep_vertices}, expected at most {present}, the vertices that are left"
            yield Clash((*path, "keep_vertices"), text, ("data", "num_vertices"))
        if layer.keep_vertices and (present is None or layer.keep_vertices < present):
            present, pooled = layer.keep_vertices, True
        if layer.graph == "mesh" and (pooled or not data.registered):
            text = 'got "mesh", expected dynamic or spatial: the mesh\'s edges are known of registered meshes with all their vertices'
            yield Clash((*path, "graph"), text, ("data", "registered"))
