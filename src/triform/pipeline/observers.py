"""What watches a run from outside: a status file, a log, TensorBoard, drawn curves. Nothing of it reaches the weights."""

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from triform.files import replace_quickly
from triform.run.folder import Json, RunFolder
from triform.run.metrics_log import Row, history
from triform.run.ownership import Ownership
from triform.run.status import write_status
from triform.training.config import Training
from triform.training.loop import Plan, Progress

if TYPE_CHECKING:
    from triform.report.panels import Curves

logger = logging.getLogger(__name__)
Show = Callable[[Json], None]
SECONDS_BETWEEN_STATUS = 0.5
LOGARITHMIC = ("loss", "norm", "rate", "cd_l2", "cd_squared")
"""Ends of the names whose values span decades."""


def unseen(_status: Json) -> None:
    """Where nobody looks on."""


class Watcher:
    """Does nothing; each kind overrides what it wants to know of."""

    def on_step(self, progress: Progress, scalars: Mapping[str, float], lr: float, /) -> None:
        """After each step."""

    def on_validation(self, progress: Progress, metrics: Mapping[str, float], /) -> None:
        """After each validation, before `on_step` of the same step."""

    def before_commit(self) -> None:
        """In the thread that commits: what was told of steps up to this commit must not be lost any more."""

    def on_commit(self, step: int, /) -> None:
        """In the thread that commits, once the commit counts."""

    def close(self) -> None:
        """When the run ends or stops."""


class StatusObserver(Watcher):
    """Keeps the status file true, at most twice a second."""

    def __init__(self, owner: Ownership, plan: Plan, *, show: Show = unseen) -> None:
        self.owner, self.settings, self.monitor = owner, plan.settings, plan.monitor
        self.steps_per_epoch, self.total_steps, self.show = plan.steps_per_epoch, plan.total_steps, show
        self.checkpoint: dict[str, Any] = {}
        self._begun, self._first_step, self._written = 0.0, -1, 0.0

    def on_step(self, progress: Progress, scalars: Mapping[str, float], lr: float) -> None:
        now = time.monotonic()
        if self._first_step < 0:  # the first step compiles kernels and is no measure of speed
            self._begun, self._first_step = now, progress.step
        if now - self._written < SECONDS_BETWEEN_STATUS and progress.step < self.total_steps:
            return
        self._written = now
        status = {**self._standing(progress), **self._speed(progress, now), "loss": scalars.get("loss"), "learning_rate": lr}
        write_status(self.owner.folder, self.owner.generation, status)
        self.show(status)

    def on_commit(self, step: int) -> None:
        self.checkpoint = {"step": step, "time": time.time()}

    def _standing(self, progress: Progress) -> Json:
        return {
            "stage": "train",
            "generation": self.owner.generation,
            "epoch": progress.step // self.steps_per_epoch,
            "epochs": self.total_steps // self.steps_per_epoch,
            "step": progress.step,
            "steps": self.total_steps,
            "monitor": self.monitor,
            "best": progress.best.value,
            "checkpoint": self.checkpoint,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "time": time.time(),
        }

    def _speed(self, progress: Progress, now: float) -> Json:
        steps_a_second = (progress.step - self._first_step) / max(now - self._begun, 1e-9)
        left = (self.total_steps - progress.step) / steps_a_second if steps_a_second > 0 else None
        return {
            "samples_per_second": steps_a_second * self.settings.batch_size * self.settings.gradient_accumulation_steps,
            "seconds_left": left,
        }


class LogObserver(Watcher):
    """Logs validations and checkpoints."""

    def __init__(self, *, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch

    def on_validation(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        told = ", ".join(f"{name} {value:.6g}" for name, value in metrics.items())
        epoch, best = progress.step // self.steps_per_epoch, ", the best so far" if progress.best.step == progress.step else ""
        logger.info("epoch %d, step %d: %s%s", epoch, progress.step, told, best)

    def on_commit(self, step: int) -> None:
        logger.info("checkpoint at step %d", step)


class CollapseObserver(Watcher):
    """Warns, once until it is over, when the task sees in its scalars that training goes wrong."""

    def __init__(self, watch: Callable[[Mapping[str, float]], str | None]) -> None:
        self.watch, self._warned = watch, False

    def on_step(self, progress: Progress, scalars: Mapping[str, float], _lr: float) -> None:
        told = self.watch(scalars)
        if told and not self._warned:
            logger.warning("step %d: %s", progress.step, told)
        self._warned = told is not None


class TensorBoardObserver(Watcher):
    """Writes TensorBoard events; on resume it takes back those of steps that are trained again."""

    def __init__(self, folder: RunFolder, *, step: int, log_interval: int) -> None:
        from triform.report.tensorboard import EventWriter

        self.writer = EventWriter(folder.path / "tensorboard", purge_step=step + 1)
        self.log_interval = log_interval

    def on_step(self, progress: Progress, scalars: Mapping[str, float], lr: float) -> None:
        if progress.step % self.log_interval == 0:
            self._write(progress.step, "train", {**scalars, "learning_rate": lr})

    def on_validation(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        self._write(progress.step, "val", metrics)
        self.writer.flush()

    def before_commit(self) -> None:
        """A later generation logs only what comes after the commit, so all before it must have left this process."""
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()

    def _write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.scalar(step, f"{split}/{name}", value)


class PlotObserver(Watcher):
    """Draws the curves so far under `plots/` every few epochs."""

    def __init__(self, owner: Ownership, settings: Training, *, steps_per_epoch: int) -> None:
        self.owner, self.settings, self.steps_per_epoch = owner, settings, steps_per_epoch

    def on_step(self, progress: Progress, _scalars: Mapping[str, float], _lr: float) -> None:
        epoch, within = divmod(progress.step, self.steps_per_epoch)
        if within == 0 and epoch % self.settings.plot_every == 0:
            draw(self.owner.folder, history(self.owner.folder, self.owner.generation), epoch=epoch)


def draw(folder: RunFolder, rows: list[Row], *, epoch: int | None = None) -> None:
    """Draw the history as `plots/curves.png`, which the epoch's own `training_curves_epoch_0010.png` repeats, and the losses as
    `plots/loss_distribution.png`; write it as `metrics_history.json`."""
    from triform.report.plots import draw_curves, draw_distribution

    told = [{"step": row.step, "split": row.split, "name": row.name, "value": row.value} for row in rows]
    replace_quickly(folder.path / "metrics_history.json", json.dumps(told).encode())
    place = folder.path / "plots"
    place.mkdir(exist_ok=True)
    draw_curves(place / "curves.png", curves(rows))
    if epoch is not None:
        replace_quickly(place / f"training_curves_epoch_{epoch:04d}.png", (place / "curves.png").read_bytes())
    losses: dict[str, list[float]] = {}
    for row in rows:
        if row.split == "train" and row.name.endswith("loss"):
            losses.setdefault(row.name, []).append(row.value)
    draw_distribution(place / "loss_distribution.png", losses)


def curves(rows: list[Row]) -> tuple["Curves", ...]:
    """One panel a quantity, its training and validation values as series."""
    from triform.report.panels import Curves, Series

    found: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for step, split, name, value in rows:
        steps, values = found.setdefault(name, {}).setdefault(split, ([], []))
        steps.append(step)
        values.append(value)
    return tuple(
        Curves(
            title=name.replace("_", " "),
            series=tuple(Series(name=split, steps=steps, values=values) for split, (steps, values) in splits.items()),
            log_y=name.endswith(LOGARITHMIC) and all(value > 0 for _, values in splits.values() for value in values),
        )
        for name, splits in found.items()
    )
