"""Train a run to its end from wherever it stands."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from triform.data.loader import load
from triform.data.order import steps_per_epoch
from triform.errors import DataError, ExperimentError, TriformError, UsageError
from triform.experiment import Experiment, fingerprint, from_resolved, monitor, resolved
from triform.files import remove_litter
from triform.pipeline import initial
from triform.pipeline.base import Base, measured_by, pointer_to, read_base, refuse_other_parent
from triform.pipeline.build import build_backend
from triform.pipeline.initial import initialise, pointer_to_weights
from triform.pipeline.observers import (
    CollapseObserver,
    LogObserver,
    PlotObserver,
    Show,
    StatusObserver,
    TensorBoardObserver,
    Watcher,
    unseen,
)
from triform.pipeline.portable import BestModelObserver
from triform.pipeline.prepare import load_splits
from triform.pipeline.run_log import logging_to
from triform.run import provenance
from triform.run.commit import State, collect, newest_good, state_digest, write_commit
from triform.run.folder import Json, RunFolder
from triform.run.horizon import read_horizons
from triform.run.metrics_log import MetricsLog, history
from triform.run.ownership import Ownership, acquire_lock, lineage, newest_generation, take_claim
from triform.run.status import write_outcome
from triform.training.backend import Backend, Facts
from triform.training.checkpoint import Checkpointer
from triform.training.config import Training
from triform.training.loop import Loop, Plan, Progress
from triform.training.schedule import Horizon, rate_function

logger = logging.getLogger(__name__)
Splits = Mapping[str, Any]


def samples_per_step(settings: Training) -> int:
    """Samples whose gradients make one optimizer step."""
    return settings.batch_size * settings.gradient_accumulation_steps


def identity(experiment: Experiment, *, overrides: Sequence[str] = (), parent: Json | None = None) -> Json:
    """What `run.json` keeps of a run's beginning."""
    return {
        "name": experiment.name,
        "fingerprint": fingerprint(experiment),
        "experiment": resolved(experiment),
        "overrides": list(overrides),
        "parent": parent,
        "git_commit": provenance.git_commit(),
        "packages": provenance.packages(),
        "created": time.time(),
    }


def train(
    experiment: Experiment,
    folder: RunFolder,
    *,
    prepared_dir: Path,
    overrides: Sequence[str] = (),
    parent: Path | None = None,
    take_over_after_s: float | None = None,
    stop_requested: Callable[[], str | None] = lambda: None,
    show: Show = unseen,
) -> Json:
    """Train to the end and return the result; a finished run's result comes back at once.

    Args:
        prepared_dir: prepared clouds.
        parent: a checkpoint of another run to begin from; recorded, so that only the first call must name it.
        take_over_after_s: None: refuse a folder in use; else stop its owner, by force after this many seconds.
        stop_requested: asked after each step.
        show: called with the status, at most twice a second.
    Raises: Stopped and every other kind of TriformError; the outcome is recorded in the folder.
    """
    begun_from = found(experiment, folder, overrides=overrides, parent=parent)
    if (result := folder.result()) is not None:
        return result
    lock = acquire_lock(folder, take_over_after_s=take_over_after_s)
    try:
        return _Session(experiment, folder, prepared_dir, stop_requested, show).run(begun_from)
    finally:
        lock.release()


def found(experiment: Experiment, folder: RunFolder, *, overrides: Sequence[str] = (), parent: Path | None = None) -> Json | None:
    """Record whose run this is and what it begins from, once; returns the latter, where it lies now.

    Args: parent: a checkpoint of another run.
    Raises: ConfigConflict: the run is another experiment's, or began otherwise. DataError: the weights to start with are not there.
    """
    asked = pointer_to(parent) or _initial(experiment, folder)
    recorded: Json | None = folder.found(identity(experiment, overrides=overrides, parent=asked))["parent"]
    refuse_other_parent(folder, recorded=recorded, asked=asked)
    return asked or recorded


def _initial(experiment: Experiment, folder: RunFolder) -> Json | None:
    """What to start with; a run that has begun needs it no more, so it may be gone. Raises: DataError."""
    if not experiment.init_from:
        return None
    try:
        return pointer_to_weights(experiment.init_from)
    except DataError:
        if folder.identity() is None:
            raise
        return None


class _Session:
    """One generation: from claim to outcome."""

    def __init__(
        self, experiment: Experiment, folder: RunFolder, prepared_dir: Path, stop_requested: Callable[[], str | None], show: Show
    ) -> None:
        self.experiment, self.folder, self.prepared_dir = experiment, folder, prepared_dir
        self.stop_requested, self.show = stop_requested, show
        self.settings = experiment.training
        self.initialised = False

    def run(self, parent: Json | None) -> Json:
        splits = load_splits(self.experiment, self.prepared_dir, ("train", "val"))
        base = read_base(self.folder, self.experiment, parent=parent, data_digest=splits["train"].digest)
        backend, environment, warnings = self._open_backend(base, splits["train"].facts)
        if base is None and parent is not None:
            warnings.append({"kind": "initialised", "text": self._initialise(backend, parent)})
            self.initialised = True
        record = {"base": base.pointer if base else None, "environment": environment, "warnings": warnings, "asked_by": _asked_by()}
        owner = take_claim(self.folder, record)
        with self._outcome(owner):
            begun = f"from step {base.progress.step}" if base else "from the beginning"
            logger.info("generation %d %s; %s", owner.generation, begun, environment)
            for warning in warnings:
                if warning["kind"] == "initialised":
                    initial.logger.info("%s", warning["text"])  # told to a person, though it is no warning
                else:
                    logger.warning("%s", warning["text"])
            return self._train(owner, backend, environment, base, splits)

    def _initialise(self, backend: Backend, pointer: Json) -> str:
        """Start with another run's weights. Where they don't fit, the name is free again: nothing of this run is there yet."""
        try:
            return initialise(backend, pointer)
        except ExperimentError:
            if not newest_generation(self.folder):
                self.folder.forget()
            raise

    def _open_backend(self, base: Base | None, facts: Facts) -> tuple[Backend, Json, list[Json]]:
        """The backend under the thread count the run began with, and what is no longer as it was."""
        before = base.environment if base else None
        num_threads = before["num_threads"] if before else self.settings.num_threads or provenance.usable_threads()
        backend, device = build_backend(self.experiment, facts, num_threads=num_threads)
        environment = provenance.environment(num_threads=num_threads, device=device)
        warnings: list[Json] = [{"kind": "fallback", "text": text} for text in (base.warnings if base else ())]
        if base and before and (changed := provenance.changes(before, environment)):
            text = f"from step {base.progress.step} on the run is not bit-exact: {'; '.join(changed)}"
            warnings.append({"kind": "inexact", "step": base.progress.step, "text": text})
        elif base and not device.endswith("cpu"):
            text = f"from step {base.progress.step} on the run is not bit-exact: {device} adds gradients up in an order of its own"
            warnings.append({"kind": "inexact", "step": base.progress.step, "text": text})
        return backend, environment, warnings

    def _train(self, owner: Ownership, backend: Backend, environment: Json, base: Base | None, splits: Splits) -> Json:
        log = MetricsLog(self.folder, owner.generation)
        log.open()
        data_digest = splits["train"].digest
        plan = self._plan(backend, log, splits)
        step = base.progress.step if base else 0
        meta: Json = {"environment": environment, "data_digest": data_digest}
        best_model = BestModelObserver(owner, backend, {**meta, "measured_by": measured_by(self.experiment)})
        watchers = (*self._watchers(owner, plan, step), best_model)
        commit = self._committer(owner, log, plan, watchers, meta)
        checkpointer = Checkpointer(commit, self.settings.checkpoints, step=step)
        loop = Loop(plan, backend, checkpointer, watchers, lambda: {"metrics_bytes": log.position})
        try:
            _begin(loop, base, best_model)
            if self.initialised:  # the pretrained run's own folder may go: this commit is its copy
                checkpointer.commit_now(0, loop.state(), loop.meta())
            progress = loop.run()
        finally:
            checkpointer.close()
            with suppress(TriformError):
                for watcher in watchers:
                    watcher.close()
            backend.close()
            log.close()
        return conclude_with(owner, loop.state(), progress, data_digest=data_digest, position=log.position)

    def _plan(self, backend: Backend, log: MetricsLog, splits: Splits) -> Plan:
        task, settings, seed = self.experiment.task.build(), self.settings, self.experiment.seed
        per_epoch = steps_per_epoch(len(splits["train"].names), samples_per_step(settings))
        known = (Horizon(0, settings.num_epochs), *(Horizon(*change) for change in read_horizons(self.folder)))
        metric, better = monitor(self.experiment)

        def make(step: int) -> Mapping[str, Any]:
            epoch, indices = task.select(splits["train"], step, seed=seed, batch_size=samples_per_step(settings))
            return task.batch(splits["train"], indices, seed=seed, epoch=epoch)

        return Plan(
            settings=settings,
            steps_per_epoch=per_epoch,
            total_steps=known[-1].num_epochs * per_epoch,
            rate=rate_function(settings, known, steps_per_epoch=per_epoch),
            batches=lambda first, last: load(make, first, last, workers=settings.loader_workers),
            validate=lambda: task.validate(splits, backend.predict, batch_size=settings.batch_size, seed=seed),
            record=log.append,
            stop_requested=self.stop_requested,
            monitor=metric,
            higher_is_better=better == "higher",
        )

    def _committer(
        self, owner: Ownership, log: MetricsLog, plan: Plan, watchers: tuple[Watcher, ...], meta: Json
    ) -> Callable[[int, State, Json], None]:
        keep = self.settings.checkpoints
        keep_every = (keep.keep_every, keep.save_frequency * plan.steps_per_epoch)

        def commit(step: int, state: State, numbers: Json) -> None:
            log.sync()
            for watcher in watchers:
                watcher.before_commit()
            write_commit(owner, step, state, {**meta, **numbers})
            for watcher in watchers:
                watcher.on_commit(step)
            keep_steps = {numbers["progress"]["best"]["step"], *(step for _, step in numbers["leaders"])}
            collect(owner, keep_last=keep.keep_last, keep_every=keep_every, keep_steps=keep_steps)

        return commit

    def _watchers(self, owner: Ownership, plan: Plan, step: int) -> tuple[Watcher, ...]:
        settings, per_epoch = self.settings, plan.steps_per_epoch
        return (
            StatusObserver(owner, plan, show=self.show),
            CollapseObserver(self.experiment.task.build().watch),
            LogObserver(steps_per_epoch=per_epoch),
            TensorBoardObserver(self.folder, step=step, log_interval=settings.log_interval),
            PlotObserver(owner, settings, steps_per_epoch=per_epoch),
        )

    @contextmanager
    def _outcome(self, owner: Ownership) -> Iterator[None]:
        """Keep the generation's log, and record how it ended; one that says nothing was killed."""
        try:
            with logging_to(self.folder.log(owner.generation)):
                yield
        except Exception as error:
            told = error.got if isinstance(error, TriformError) else str(error)
            ending = {"exit_code": getattr(error, "exit_code", 1), "kind": type(error).__name__, "text": told, "time": time.time()}
            with suppress(TriformError):
                write_outcome(self.folder, owner.generation, ending)
            raise
        write_outcome(self.folder, owner.generation, {"exit_code": 0, "kind": "finished", "text": "", "time": time.time()})


def _begin(loop: Loop, base: Base | None, best_model: BestModelObserver) -> None:
    """Put the loop where the run stands. Raises: ExperimentError: another run's checkpoint does not fit."""
    if base is None:
        return
    try:
        loop.load(base.state, base.progress, base.leaders)
    except (ValueError, KeyError) as error:
        raise ExperimentError(
            f"The checkpoint does not fit this experiment's model ({error})",
            expected="the model it was saved from",
            do="use the experiment of that checkpoint's run, under another --name",
        ) from error
    if base.pointer is not None:
        best_model.begin(loop.state(), base.progress)
        return
    if loop.plan.total_steps < base.progress.step:
        raise UsageError(
            f"The checkpoint is at step {base.progress.step}, and this run has {loop.plan.total_steps} steps",
            expected=f"{-(-base.progress.step // loop.plan.steps_per_epoch)} epochs at least",
            do="give more --num-epochs, under another --name",
        )
    best_model.begin(loop.state(), base.progress)
    # The parent's own folder may go: this run's first commit is its copy.
    loop.checkpointer.commit_now(base.progress.step, loop.state(), loop.meta())


def _asked_by() -> Json:
    """Which workflow, run and attempt started this process; empty without a server."""
    return {key.removeprefix("TRIFORM_").lower(): os.environ[key] for key in ("TRIFORM_WORKFLOW", "TRIFORM_ATTEMPT") if key in os.environ}


def conclude(folder: RunFolder) -> Json:
    """Make the newest good commit of a stopped run its final one. Raises: DataError: there is none; RunInUse."""
    if (result := folder.result()) is not None:
        return result
    lock = acquire_lock(folder)
    try:
        found = newest_good(folder)
        if found is None:
            raise DataError(f"{folder.path} holds no checkpoint yet", expected="one at least", do="let the run train some steps first")
        commit, state, record = found
        owner = Ownership(folder, newest_generation(folder))
        return conclude_with(
            owner,
            state,
            Progress.from_json(record["progress"]),
            data_digest=record["data_digest"],
            position=record["metrics_bytes"],
            generation=commit.generation,
            stopped=True,
        )
    finally:
        lock.release()


def conclude_with(
    owner: Ownership,
    state: State,
    progress: Progress,
    *,
    data_digest: str,
    position: int,
    generation: int | None = None,
    stopped: bool = False,
) -> Json:
    """Write `final/`: the best model's weights, and the result that ends the run."""
    owner.confirm()
    folder, chain = owner.folder, lineage(owner.folder, generation or owner.generation)
    rows = history(folder, generation or owner.generation, position)
    best = {row.name: row.value for row in rows if row.split == "val" and row.step == progress.best.step}
    if progress.best.value is not None and not best:  # measured in the run that this one began from
        best = {monitor(from_resolved((folder.identity() or {})["experiment"]))[0]: progress.best.value}
    last = {row.name: row.value for row in rows if row.split == "val"}
    prefix = "best/" if progress.best.step is not None else "model/"
    model = {name.removeprefix(prefix): np.asarray(array, order="C") for name, array in state.items() if name.startswith(prefix)}
    inexact = [warning["step"] for claim in chain for warning in claim.get("warnings", ()) if warning["kind"] == "inexact"]
    result = {
        "state_digest": state_digest(state, progress.to_json()),
        "model_path": str(folder.path / "final" / "model.safetensors"),
        "metrics": {"best_step": progress.best.step, "best": best, "last": last},
        "steps": progress.step,
        "generations": newest_generation(folder),
        "data_digest": data_digest,
        "finished": "stopped" if stopped else "early" if progress.finished_early else "whole",
        "not_bit_exact_from": min(inexact, default=None),
        "history": {"generation": generation or owner.generation, "metrics_bytes": position},
    }
    for place in (folder.path, folder.claims, folder.horizons):
        remove_litter(place)
    folder.finish(save(model), result)
    return result
