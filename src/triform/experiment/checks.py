"""Clashes: fields that are each right and don't fit each other."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from triform.data.config import CloudSettings
from triform.data.meshes.config import MeshSettings
from triform.data.poses.config import PoseSettings, WorldPoses
from triform.experiment.schema import Path
from triform.experiment.tree import Experiment
from triform.tasks.human_pose.config import LEAST_VIEWS, MaskedAutoencoder, MultiView, PoseAugmentation, PoseLifting, PosePretraining
from triform.tasks.mesh_identity.config import MeshIdentity
from triform.tasks.point_autoencoder.config import AbstractionLevel, FoldingDecoder, MultiScaleLevel, PointAutoencoder
from triform.training.config import Training

Better = Literal["lower", "higher"]
METRICS: dict[str, dict[str, Better]] = {
    "point_autoencoder": {"cd_l2": "lower", "cd_squared": "lower"},
    "mesh_identity": {"rank_1": "higher", "eer": "lower", "accuracy": "higher", "classification_loss": "lower"},
    "pose_pretraining": {"hidden": "lower", "reconstruction": "lower", "mpjpe": "lower"},
    "pose_lifting": {"mpjpe": "lower", "p_mpjpe": "lower", "n_mpjpe": "lower", "mpjve": "lower"},
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
    if isinstance(experiment.task, PosePretraining):
        return ("hidden", "reconstruction") if isinstance(experiment.task.objective, MaskedAutoencoder) else ("mpjpe",)
    return tuple(METRICS[experiment.task.kind])


class Clash(NamedTuple):
    """A field to change, why, and the field beside it that it does not fit."""

    path: Path
    text: str
    beside: Path


_POSES = "pose_npz, cmu_bvh, h36m_videopose3d, h36m_motionbert, mpi_inf_3dhp or mpi_inf_3dhp_npz"
DATA_OF = {
    "point_autoencoder": "ply_clouds or maize_field3d",
    "mesh_identity": "mesh_hdf5 or mesh_files",
    "pose_pretraining": _POSES,
    "pose_lifting": _POSES,
}
"""Kinds of data that each task takes."""

NUM_POINTS: Path = ("data", "num_points")


def clashes(experiment: Experiment) -> Iterator[Clash]:
    """Every clash of an experiment."""
    yield from _training(experiment.training)
    task, data = experiment.task, experiment.data
    if isinstance(task, PointAutoencoder) and isinstance(data, CloudSettings):
        yield from _point_autoencoder(task, num_points=data.num_points)
    elif isinstance(task, MeshIdentity) and isinstance(data, MeshSettings):
        yield from _mesh_identity(experiment, task, data)
    elif isinstance(task, PosePretraining | PoseLifting) and isinstance(data, PoseSettings):
        yield from _human_pose(task, data)
    else:
        yield Clash(("data", "kind"), f'got "{data.kind}", expected {DATA_OF[task.kind]}, which the task takes', ("task", "kind"))
        return
    metrics = _own_metrics(experiment)
    if experiment.training.monitor not in ("auto", *metrics):
        text = f'got "{experiment.training.monitor}", expected a metric of the task: {" or ".join(metrics)}'
        yield Clash(("training", "monitor"), text, ("task", "kind"))
    if experiment.backend == "mlx" and not isinstance(task, MeshIdentity):
        yield Clash(("backend",), 'got "mlx", expected auto or torch: this task has no model in MLX', ("task", "kind"))
    if experiment.init_from and not isinstance(task, PosePretraining | PoseLifting):
        text = "expected none: this task has no encoder that is pretrained (`triform train --resume` goes on from a checkpoint)"
        yield Clash(("init_from",), text, ("task", "kind"))


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


def _human_pose(task: PosePretraining | PoseLifting, data: PoseSettings) -> Iterator[Clash]:
    encoder: Path = ("task", "encoder")
    if task.encoder.width % task.encoder.heads:
        text = f"got {task.encoder.width}, expected a multiple of heads, {task.encoder.heads}"
        yield Clash((*encoder, "width"), text, (*encoder, "heads"))
    for name in ("scale_range", "speed_range"):
        yield from _range(task.augmentation, name)
    if isinstance(task, PoseLifting):
        if not any(getattr(task.losses, name) for name in ("mpjpe", "n_mpjpe", "velocity", "reprojection", "bone_length", "symmetry")):
            yield Clash(("task", "losses"), "all weights are 0, expected one at least above 0", ("task", "losses"))
    elif isinstance(task.objective, MaskedAutoencoder):
        yield from _masks(task.objective, data, width=task.encoder.width, heads=task.encoder.heads)
    elif isinstance(task.objective, MultiView):
        yield from _multi_view(task.augmentation, data)


def _multi_view(augmentation: PoseAugmentation, data: PoseSettings) -> Iterator[Clash]:
    kind: Path = ("task", "objective", "kind")
    if augmentation.rotate_up_degrees:
        text = f"got {augmentation.rotate_up_degrees:g}, expected 0: where the cameras stand is not known"
        yield Clash(("task", "augmentation", "rotate_up_degrees"), text, kind)
    if isinstance(data, WorldPoses) and data.virtual_cameras < LEAST_VIEWS:
        yield Clash(("data", "virtual_cameras"), f"got {data.virtual_cameras}, expected {LEAST_VIEWS} at least", kind)


def _range(augmentation: PoseAugmentation, name: str) -> Iterator[Clash]:
    smallest, largest = getattr(augmentation, name)
    if smallest > largest:
        path: Path = ("task", "augmentation", name)
        yield Clash(path, f"got {smallest:g} before {largest:g}, expected the smallest factor first", path)


def _masks(objective: MaskedAutoencoder, data: PoseSettings, *, width: int, heads: int) -> Iterator[Clash]:
    path: Path = ("task", "objective")
    if objective.masked_joints > 16:
        yield Clash((*path, "masked_joints"), f"got {objective.masked_joints}, expected at most 16 of the 17 joints", ("data", "kind"))
    if not objective.masked_joints and not round(objective.frame_mask_ratio * data.num_frames):
        text = f"got {objective.frame_mask_ratio:g}, which hides none of {data.num_frames} frames, and no joints are hidden"
        yield Clash((*path, "frame_mask_ratio"), f"{text}; expected something to give back", ("data", "num_frames"))
    decoder = objective.decoder_width or width // 2
    if decoder % heads:
        yield Clash((*path, "decoder_width"), f"got {decoder}, expected a multiple of heads, {heads}", ("task", "encoder", "heads"))


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
