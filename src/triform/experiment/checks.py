"""Clashes: fields that are each right and don't fit each other."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from triform.experiment.schema import Path
from triform.experiment.tree import Experiment
from triform.tasks.point_autoencoder.config import AbstractionLevel, FoldingDecoder, MultiScaleLevel, PointAutoencoder
from triform.training.config import CosineSchedule, Training

METRICS: dict[str, tuple[str, ...]] = {"point_autoencoder": ("cd_l2", "cd_squared")}
"""Validation metrics of each task, which `training.monitor` may name."""


class Clash(NamedTuple):
    """A field to change, why, and the field beside it that it does not fit."""

    path: Path
    text: str
    beside: Path


NUM_POINTS: Path = ("data", "num_points")


def clashes(experiment: Experiment) -> Iterator[Clash]:
    """Every clash of an experiment."""
    yield from _training(experiment.training)
    metrics = METRICS[experiment.task.kind]
    if experiment.training.monitor not in metrics:
        text = f'got "{experiment.training.monitor}", expected a metric of the task: {" or ".join(metrics)}'
        yield Clash(("training", "monitor"), text, ("task", "kind"))
    if isinstance(experiment.task, PointAutoencoder):
        yield from _point_autoencoder(experiment.task, num_points=experiment.data.num_points)


def _training(training: Training) -> Iterator[Clash]:
    schedule = training.schedule
    path: Path = ("training", "schedule")
    if schedule.warmup_epochs > training.num_epochs:
        text = f"got {schedule.warmup_epochs:g}, expected at most num_epochs, {training.num_epochs}"
        yield Clash((*path, "warmup_epochs"), text, ("training", "num_epochs"))
    if isinstance(schedule, CosineSchedule) and schedule.min_lr > training.learning_rate:
        text = f"got {schedule.min_lr:g}, expected at most learning_rate, {training.learning_rate:g}"
        yield Clash((*path, "min_lr"), text, ("training", "learning_rate"))


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
