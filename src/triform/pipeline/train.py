"""Train a run to its end from wherever it stands."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from triform.data.clouds import Clouds, load_clouds
from triform.data.loader import load
from triform.data.order import batch_indices, steps_per_epoch
from triform.errors import DataError, ExperimentError, Stopped, TriformError
from triform.experiment import Experiment, fingerprint, resolved
from triform.files import remove_litter
from triform.pipeline.build import build_backend
from triform.pipeline.observers import PlotObserver, StatusObserver, TensorBoardObserver
from triform.run import provenance
from triform.run.commit import Commit, State, collect, commits, newest_good, read_commit, state_digest, write_commit
from triform.run.folder import Json, RunFolder
from triform.run.horizon import read_horizons
from triform.run.metrics_log import MetricsLog, history
from triform.run.ownership import Ownership, acquire_lock, lineage, newest_generation, take_claim
from triform.run.status import write_outcome
from triform.training.backend import Backend
from triform.training.checkpoint import Checkpointer
from triform.training.loop import Loop, Observer, Plan, Progress
from triform.training.schedule import Horizon, rate_function

logger = logging.getLogger(__name__)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Base:
    """What a generation goes on from."""

    state: State
    progress: Progress
    environment: Json
    data_digest: str
    pointer: Json | None
    """generation, step and metrics_bytes of the commit in this run; None if it came from another run."""
    warnings: tuple[str, ...] = ()


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
) -> Json:
    """Train to the end and return the result; a finished run's result comes back at once.

    Args:
        prepared_dir: prepared clouds.
        parent: a checkpoint of another run to start from, where this run has none of its own yet.
        take_over_after_s: None: refuse a folder in use; else stop its owner, by force after this many seconds.
        stop_requested: asked after each step.
    Raises: Stopped and every other kind of TriformError; the outcome is recorded in the folder.
    """
    folder.found(identity(experiment, overrides=overrides, parent=_pointer_to(parent)))
    if (result := folder.result()) is not None:
        return result
    lock = acquire_lock(folder, take_over_after_s=take_over_after_s)
    try:
        return _Session(experiment, folder, prepared_dir, stop_requested).run(parent)
    finally:
        lock.release()


def find_checkpoint(path: Path) -> tuple[RunFolder, Commit]:
    """The run and the commit that a path under `ckpt/` or `commits/` names. Raises: DataError."""
    name, folder = path.name.split(".")[0], RunFolder(path.resolve().parent.parent)
    found = [commit for commit in commits(folder) if commit.name == name]
    if not found:
        raise DataError(
            f"{path} is no checkpoint of a run",
            expected="a file under a run's ckpt/ or commits/",
            do=f"name one of: {', '.join(str(commit.payload(folder)) for commit in commits(folder)[:5]) or 'none is there'}",
        )
    return folder, found[0]


def _pointer_to(parent: Path | None) -> Json | None:
    if parent is None:
        return None
    folder, commit = find_checkpoint(parent)
    return {"run": str(folder.path), "commit": commit.name}


def _read_base(folder: RunFolder, parent: Path | None) -> Base | None:
    if (found := newest_good(folder)) is not None:
        commit, state, record = found
        pointer = {"generation": commit.generation, "step": commit.step, "metrics_bytes": record["metrics_bytes"]}
        warnings = tuple(f"checkpoint {text}; went on from {commit.name}" for text in record["skipped"])
        return Base(state, Progress.from_json(record["progress"]), record["environment"], record["data_digest"], pointer, warnings)
    if broken := commits(folder):
        raise DataError(
            f"None of the {len(broken)} checkpoints in {folder.checkpoints} can be read ({read_commit(folder, broken[0])})",
            expected="one that fits its recorded digest",
            do="restore the folder from a copy, or start again under another run name",
        )
    if parent is None:
        return None
    other, commit = find_checkpoint(parent)
    contents = read_commit(other, commit)
    if isinstance(contents, str):
        raise DataError(f"{parent} can't be used: {contents}", do="name an earlier checkpoint of that run")
    state, record = contents
    return Base(state, Progress.from_json(record["progress"]), record["environment"], record["data_digest"], None)


class _Session:
    """One generation: from claim to outcome."""

    def __init__(self, experiment: Experiment, folder: RunFolder, prepared_dir: Path, stop_requested: Callable[[], str | None]) -> None:
        self.experiment, self.folder, self.prepared_dir, self.stop_requested = experiment, folder, prepared_dir, stop_requested
        self.settings = experiment.training

    def run(self, parent: Path | None) -> Json:
        base = _read_base(self.folder, parent)
        train_clouds, val_clouds = (load_clouds(self.prepared_dir, split) for split in ("train", "val"))
        if base is not None and base.pointer is not None and base.data_digest != train_clouds.digest:
            raise DataError(
                f"The prepared data in {self.prepared_dir} is not what this run was trained on until step {base.progress.step}",
                expected=f"digest {base.data_digest}, got {train_clouds.digest}",
                do="give the folder of the old data with --prepared-dir, or start a run with another name",
            )
        backend, environment, warnings = self._open_backend(base)
        record = {"base": base.pointer if base else None, "environment": environment, "warnings": warnings, "asked_by": _asked_by()}
        owner = take_claim(self.folder, record)
        with self._outcome(owner):
            begun = f"from step {base.progress.step}" if base else "from the beginning"
            logger.info("generation %d %s; %s", owner.generation, begun, environment)
            for warning in warnings:
                logger.warning("%s", warning["text"])
            return self._train(owner, backend, environment, base, train_clouds, val_clouds)

    def _open_backend(self, base: Base | None) -> tuple[Backend, Json, list[Json]]:
        """The backend under the thread count the run began with, and what is no longer as it was."""
        before = base.environment if base else None
        num_threads = before["num_threads"] if before else self.settings.num_threads or provenance.usable_threads()
        backend, device = build_backend(self.experiment, num_threads=num_threads)
        environment = provenance.environment(num_threads=num_threads, device=device)
        warnings: list[Json] = [{"kind": "fallback", "text": text} for text in (base.warnings if base else ())]
        if base and before and (changed := provenance.changes(before, environment)):
            text = f"from step {base.progress.step} on the run is not bit-exact: {'; '.join(changed)}"
            warnings.append({"kind": "inexact", "step": base.progress.step, "text": text})
        return backend, environment, warnings

    def _train(
        self, owner: Ownership, backend: Backend, environment: Json, base: Base | None, train_clouds: Clouds, val_clouds: Clouds
    ) -> Json:
        log = MetricsLog(self.folder, owner.generation)
        log.open()
        per_epoch = steps_per_epoch(len(train_clouds.names), self.settings.batch_size)
        plan = self._plan(backend, log, per_epoch, train_clouds, val_clouds)
        status = StatusObserver(owner, self.settings, steps_per_epoch=per_epoch, total_steps=plan.total_steps)
        meta = {"environment": environment, "data_digest": train_clouds.digest}
        checkpointer = Checkpointer(
            self._committer(owner, log, meta, status), self.settings.checkpoints, step=base.progress.step if base else 0
        )
        loop = Loop(plan, backend, checkpointer, self._observers(owner, base, per_epoch, status), lambda: {"metrics_bytes": log.position})
        if base is not None:
            _load(loop, base)
            if base.pointer is None:  # the parent's own folder may go; this run's first commit is its copy
                checkpointer.commit_now(loop.progress.step, loop.state(), loop.meta())
        try:
            progress = loop.run()
        finally:
            checkpointer.close()
            backend.close()
        return conclude_with(owner, loop.state(), progress, data_digest=train_clouds.digest, position=log.position)

    def _plan(self, backend: Backend, log: MetricsLog, per_epoch: int, train_clouds: Clouds, val_clouds: Clouds) -> Plan:
        task, settings, seed = self.experiment.task.build(), self.settings, self.experiment.seed
        known = (Horizon(0, settings.num_epochs), *(Horizon(*change) for change in read_horizons(self.folder)))
        total = known[-1].num_epochs * per_epoch

        def make(step: int) -> Mapping[str, Any]:
            epoch, indices = batch_indices(seed, step, num_samples=len(train_clouds.names), batch_size=settings.batch_size)
            return task.batch(train_clouds, indices, seed=seed, epoch=epoch)

        def validate() -> dict[str, float]:
            found: dict[str, list[Any]] = {}
            for first in range(0, len(val_clouds.names), settings.batch_size):
                indices = np.arange(first, min(first + settings.batch_size, len(val_clouds.names)))
                batch = task.batch(val_clouds, indices, seed=seed, epoch=None)
                for name, values in task.validation_metrics(batch, backend.predict(batch)).items():
                    found.setdefault(name, []).append(values)
            return {name: float(np.concatenate(values).mean(dtype=np.float64)) for name, values in found.items()}

        return Plan(
            settings=settings,
            steps_per_epoch=per_epoch,
            total_steps=total,
            rate=rate_function(settings.schedule, known, peak=settings.learning_rate, steps_per_epoch=per_epoch),
            batches=lambda first, last: load(make, first, last, workers=settings.loader_workers),
            validate=validate,
            record=log.append,
            stop_requested=self.stop_requested,
        )

    def _committer(self, owner: Ownership, log: MetricsLog, meta: Json, status: StatusObserver) -> Callable[[int, State, Json], None]:
        keep = self.settings.checkpoints

        def commit(step: int, state: State, numbers: Json) -> None:
            log.sync()
            write_commit(owner, step, state, {**meta, **numbers})
            logger.info("checkpoint at step %d", step)
            status.on_commit(step)
            collect(owner, keep_last=keep.keep_last, keep_every=keep.keep_every, best_step=numbers["progress"]["best"]["step"])

        return commit

    def _observers(self, owner: Ownership, base: Base | None, per_epoch: int, status: StatusObserver) -> tuple[Observer, ...]:
        step = base.progress.step if base else 0
        events = TensorBoardObserver(self.folder, step=step, log_interval=self.settings.log_interval)
        return (status, events, PlotObserver(owner, self.settings, steps_per_epoch=per_epoch))

    @contextmanager
    def _outcome(self, owner: Ownership) -> Iterator[None]:
        """Keep the generation's log, and record how it ended; one that says nothing was killed."""
        try:
            with _logging_to(self.folder.log(owner.generation)):
                yield
        except TriformError as error:
            ending = {"exit_code": error.exit_code, "kind": type(error).__name__, "text": error.got, "time": time.time()}
            with suppress(TriformError):
                write_outcome(self.folder, owner.generation, ending)
            raise
        write_outcome(self.folder, owner.generation, {"exit_code": 0, "kind": "finished", "text": "", "time": time.time()})


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Write what the package logs to `path` too."""
    path.parent.mkdir(exist_ok=True)
    handler, root = logging.FileHandler(path), logging.getLogger("triform")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.setLevel(logging.INFO)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def _load(loop: Loop, base: Base) -> None:
    try:
        loop.load(base.state, base.progress)
    except (ValueError, KeyError) as error:
        raise ExperimentError(
            f"The checkpoint does not fit this experiment's model ({error})",
            expected="the model it was saved from",
            do="use the experiment of that checkpoint's run",
        ) from error


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


def stopped_message(error: Stopped, command: str) -> str:
    """What a person reads after Ctrl-C."""
    return f"{error.got}. To go on: {command}"
