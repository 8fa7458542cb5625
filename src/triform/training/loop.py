"""The one training loop: it knows batches, five words of a backend, and when to commit; no framework and no task."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from triform.errors import DataError, Diverged, Stopped
from triform.training.backend import Arrays, Backend
from triform.training.checkpoint import Checkpointer
from triform.training.config import Training
from triform.training.early_stopping import Best

Batch = Mapping[str, Any]


class Observer(Protocol):
    """Watches a run: draws, logs, reports. What it does never reaches the weights."""

    def on_step(self, progress: "Progress", scalars: Mapping[str, float], lr: float, /) -> None: ...

    def on_validation(self, progress: "Progress", metrics: Mapping[str, float], /) -> None: ...


@dataclass(frozen=True)
class Progress:
    """Where a run stands; all of it is committed."""

    step: int = 0
    best: Best = field(default_factory=Best)
    finished_early: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> "Progress":
        return Progress(step=record["step"], best=Best(**record["best"]), finished_early=record["finished_early"])


@dataclass(frozen=True)
class Plan:
    """What the loop is to do, all of it pure functions of the step."""

    settings: Training
    steps_per_epoch: int
    total_steps: int
    rate: Callable[[int], float]
    batches: Callable[[int, int], Iterator[Batch]]
    """(first step, step after the last) -> the batches in between."""
    validate: Callable[[], Mapping[str, float]]
    record: Callable[[int, str, Mapping[str, float]], None]
    """Appends (step, split, values) to the metrics log."""
    stop_requested: Callable[[], str | None]
    """Why to stop after this step, or None."""
    monitor: str
    """Metric that picks the best model."""
    higher_is_better: bool = False


class Loop:
    """A run from one step to its end, or until somebody asks it to stop."""

    def __init__(
        self,
        plan: Plan,
        backend: Backend,
        checkpointer: Checkpointer,
        observers: tuple[Observer, ...],
        numbers: Callable[[], dict[str, Any]],
    ) -> None:
        """Args: numbers: what belongs into a commit beside the loop's own, taken at the same moment (the length of the metrics log)."""
        self.plan, self.backend, self.checkpointer, self.observers, self.numbers = plan, backend, checkpointer, observers, numbers
        self.progress = Progress()
        self.best_model: Arrays = {}
        self.leaders: list[tuple[float, int]] = []
        """(value, step) of the `keep_best_n` best validations, the best first."""

    def state(self) -> Arrays:
        """Everything the rest of the run depends on, as flat arrays: the backend's state and the best model's copy."""
        return {**self.backend.state(), **self.best_model}

    def meta(self) -> dict[str, Any]:
        """The numbers that belong to `state()`."""
        return {"progress": self.progress.to_json(), "leaders": self.leaders, **self.numbers()}

    def load(self, state: Arrays, progress: Progress, leaders: Sequence[tuple[float, int]] = ()) -> None:
        """Go on from a committed state."""
        self.leaders = [(value, step) for value, step in leaders]
        self.best_model = {name: array for name, array in state.items() if name.startswith("best/")}
        self.backend.load_state({name: array for name, array in state.items() if not name.startswith("best/")})
        self.progress = progress

    def run(self) -> Progress:
        """Train to the end.

        Raises: Stopped: a stop was asked for and the state is committed. Diverged: a number is not finite; nothing of that step is
            committed. DiskFull, LostOwnership, CannotWrite: a commit failed; the one before is intact.
        """
        start = self.progress.step
        if self._finished():
            return self.progress
        for step, batch in enumerate(self.plan.batches(start, self.plan.total_steps), start):
            self._step(step, batch)
            if self._finished():
                break
            self._checkpoint()
        self.checkpointer.commit_now(self.progress.step, self.state(), self.meta())
        return self.progress

    def _finished(self) -> bool:
        return self.progress.finished_early or self.progress.step >= self.plan.total_steps

    def _step(self, step: int, batch: Batch) -> None:
        lr = self.plan.rate(step)
        scalars = self.backend.train_step(batch, step, lr)
        self._require_finite(scalars, step)
        self.progress = replace(self.progress, step=step + 1)
        if (step + 1) % self.plan.settings.log_interval == 0:
            self.plan.record(step + 1, "train", {**scalars, "learning_rate": lr})
        epoch, within = divmod(step + 1, self.plan.steps_per_epoch)
        if within == 0 and (epoch % self.plan.settings.validate_every == 0 or step + 1 == self.plan.total_steps):
            self._validate()
        for observer in self.observers:
            observer.on_step(self.progress, scalars, lr)

    def _validate(self) -> None:
        settings, step = self.plan.settings, self.progress.step
        metrics = self.plan.validate()
        self._require_finite(metrics, step - 1)
        self.plan.record(step, "val", metrics)
        if self.plan.monitor not in metrics:
            raise DataError(
                f"The val split gives no {self.plan.monitor}, only {', '.join(metrics)}",
                expected="the metric that picks the best model",
                do="prepare more for val (eer needs two subjects), or set training.monitor to another metric, under a new run name",
            )
        value, higher = metrics[self.plan.monitor], self.plan.higher_is_better
        best = self.progress.best.after(value, step, min_delta=settings.min_delta, higher_is_better=higher)
        ranked = sorted([*self.leaders, (value, step)], key=lambda leader: (-leader[0] if higher else leader[0], leader[1]))
        self.leaders = ranked[: settings.checkpoints.keep_best_n]
        if best.step == step:
            self.best_model = {
                "best/" + name.removeprefix("model/"): np.array(array)
                for name, array in self.backend.state().items()
                if name.startswith("model/")
            }
        self.progress = replace(self.progress, best=best, finished_early=best.exhausted(settings.patience))
        for observer in self.observers:
            observer.on_validation(self.progress, metrics)

    def _checkpoint(self) -> None:
        self.checkpointer.check()
        reason = self.plan.stop_requested()
        if reason is not None:
            self.checkpointer.commit_now(self.progress.step, self.state(), self.meta())
            raise Stopped(f"Stopped at step {self.progress.step} ({reason}); a checkpoint is committed")
        if self._promised():
            self.checkpointer.commit_now(self.progress.step, self.state(), self.meta())
        elif self.checkpointer.due(self.progress.step):
            self.checkpointer.offer(self.progress.step, self.state(), self.meta())

    def _promised(self) -> bool:
        """Whether the settings name this step for a commit, which must then not be skipped."""
        epoch, within = divmod(self.progress.step, self.plan.steps_per_epoch)
        every = self.plan.settings.checkpoints.save_frequency
        return bool(every and within == 0 and epoch % every == 0) or any(step == self.progress.step for _, step in self.leaders)

    def _require_finite(self, values: Mapping[str, float], step: int) -> None:
        bad = {name: value for name, value in values.items() if not math.isfinite(value)}
        if bad:
            told = ", ".join(f"{name} = {value}" for name, value in bad.items())
            raise Diverged(
                f"Step {step + 1} gave {told}",
                expected="finite numbers",
                do="lower --learning-rate or set --gradient-clip, under a new run name; the last commit is from before this step",
            )
