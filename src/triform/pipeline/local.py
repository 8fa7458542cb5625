"""The pipeline in this process, without a server."""

import faulthandler
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from triform.errors import DataError, Stopped, UsageError
from triform.experiment import Experiment, from_resolved, load
from triform.pipeline import initial
from triform.pipeline.observers import Show, unseen
from triform.pipeline.prepare import AnyManifest, load_manifest, located, prepare
from triform.run.commit import commits
from triform.run.folder import Json, RunFolder
from triform.training.process import say_what_compiles, tame_threads
from triform.training.stopping import LIVENESS_FD, StopRequest

Say = Callable[[str], None]


def run_folder(experiment: Experiment, output_dir: Path | None) -> RunFolder:
    """`output_dir`, or `runs/<name>` in the working directory."""
    return RunFolder((output_dir or Path("runs") / experiment.name).absolute())


def find_run(run: str) -> RunFolder:
    """A run by its folder, or by its name under `runs/`. Raises: UsageError."""
    for path in (Path(run), Path("runs") / run):
        if (path / "run.json").exists():
            return RunFolder(path.absolute())
    known = sorted(path.parent.name for path in Path("runs").glob("*/run.json"))
    raise UsageError(
        f"{run!r} is no run", expected="a run's folder, or its name under runs/", do=f"name one of: {', '.join(known) or 'none is here'}"
    )


def train_here(
    experiment_file: Path | None,
    overrides: Sequence[str],
    *,
    output_dir: Path | None,
    resume: str | None,
    verbose: bool,
    say: Say,
    show: Show = unseen,
) -> Json:
    """Prepare where needed, and train; goes on with what is in the run's folder."""
    from triform.pipeline import train as training

    tame_threads()
    _log_to(sys.stderr, verbose=verbose)
    stop = StopRequest()
    stop.listen()
    faulthandler.register(signal.SIGUSR1)
    experiment, folder, parent = _choose(experiment_file, overrides, output_dir=output_dir, resume=resume)
    if folder.result() is not None:
        result = training.train(experiment, folder, prepared_dir=Path(), parent=parent)
        say(f"{folder.path} is finished, and finished runs are final.")
        return result
    say_what_compiles(say)
    manifest = _begun_with(experiment, folder) or prepare(experiment, progress=lambda _done, _total: _heed(stop))
    try:
        return training.train(
            experiment,
            folder,
            prepared_dir=manifest.prepared_dir,
            overrides=overrides,
            parent=parent,
            take_over_after_s=_take_over(),
            stop_requested=stop,
            show=unseen if LIVENESS_FD in os.environ else show,
        )
    except Stopped as error:
        raise Stopped(error.got, do=f"go on with `triform train --resume {folder.path}`") from error


def _begun_with(experiment: Experiment, folder: RunFolder) -> AnyManifest | None:
    """The prepared data of a run that has begun: going on must not wait for a thousand raw scans to be read again."""
    return load_manifest(experiment.data.prepared_folder()) if commits(folder) else None


def _heed(stop: StopRequest) -> None:
    """Preparing has no state to commit: what is done is done, and the rest is done next time."""
    if stop.reason is not None:
        raise Stopped(f"Stopped while the data was prepared ({stop.reason})", do="start the same command again to go on")


def _choose(
    experiment_file: Path | None, overrides: Sequence[str], *, output_dir: Path | None, resume: str | None
) -> tuple[Experiment, RunFolder, Path | None]:
    """Which experiment, which folder, and from which checkpoint of another run."""
    if resume is None:
        if experiment_file is None:
            raise UsageError("no experiment file is named", expected="a word that ends in .yaml", do="name one, or --resume a run")
        experiment = located(load(experiment_file, overrides).experiment)
        return experiment, run_folder(experiment, output_dir), None
    if Path(resume).is_file() or Path(resume).suffix in (".safetensors", ".json", ".npz"):
        other = _owner_of(Path(resume))
        if experiment_file is None and other.identity() is None:
            raise UsageError(
                f"{resume} does not lie in its run's folder",
                expected="an experiment file beside it",
                do=f"start a new run: triform train EXPERIMENT.yaml --resume {resume} --name NAME",
            )
        experiment = _with(other, experiment_file, overrides)
        folder = run_folder(experiment, output_dir)
        if folder.path.resolve() == other.path.resolve():
            raise UsageError(
                f"{resume} belongs to the run {folder.path} itself",
                expected="a new run's folder",
                do=f"`triform train --resume {folder.path}` goes on with it; --name or --output-dir starts another from this checkpoint",
            )
        return experiment, folder, Path(resume)
    folder = find_run(resume)
    if output_dir is not None and output_dir.absolute() != folder.path:
        raise UsageError(
            f"--resume names the run {folder.path}, --output-dir another folder, {output_dir.absolute()}",
            expected="one of them",
            do="leave out --output-dir; to start a new run from this one, --resume one of its checkpoints",
        )
    return _with(folder, experiment_file, overrides), folder, None


def _owner_of(checkpoint: Path) -> RunFolder:
    """The run that a checkpoint, or a best_model.npz, lies in."""
    from triform.pipeline.base import find_checkpoint

    if checkpoint.suffix == ".npz":
        return RunFolder(checkpoint.resolve().parent.parent)
    return find_checkpoint(checkpoint)[0]


def _with(folder: RunFolder, experiment_file: Path | None, overrides: Sequence[str]) -> Experiment:
    """The experiment a run began with, or the named file; then the overrides."""
    if experiment_file is not None:
        return located(load(experiment_file, overrides).experiment)
    identity = folder.identity()
    if identity is None:
        raise DataError(f"{folder.path} holds no run", do="name a run that was started, or an experiment file beside")
    known = {**identity["experiment"], "init_from": ""}  # the folder says what the run began from; only a word asks for it anew
    return located(load(None, overrides, defaults=known).experiment)


def _take_over() -> float | None:
    """Set by the activity whose attempt the server just confirmed."""
    given = os.environ.get("TRIFORM_TAKE_OVER_AFTER_S")
    return float(given) if given else None


def _log_to(stream: Any, *, verbose: bool) -> None:
    """Warnings for a person, everything for a supervisor's log; the run's own log under `logs/` has everything too."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    if not verbose and LIVENESS_FD not in os.environ:
        handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name == initial.logger.name)
    logging.getLogger().addHandler(handler)


def any_task(overrides: list[str]) -> dict[str, object]:
    """Nothing is learned: a task that takes the data, of layers that fit any number of points, vertices or frames."""
    named = [" ".join(pair) for pair in zip(overrides, [*overrides[1:], ""], strict=True)]
    kind = next((found[1] for word in named if (found := re.match(r"--data\.kind[= ](\w+)", word))), "")
    if kind.startswith("mesh_"):
        return {"kind": "mesh_identity", "layers": [{"width": 1, "graph": "spatial"}]}
    if kind.startswith(("pose_", "cmu_", "h36m_", "mpi_")):
        return {"kind": "pose_lifting", "encoder": {"kind": "alternating"}}
    return {"kind": "point_autoencoder", "encoder": {"kind": "pointnet2_ssg", "levels": []}}


def experiment_of(folder: RunFolder, *, prepared_dir: Path | None = None) -> Experiment:
    """The experiment a run was started with; its prepared data may have moved. Raises: DataError."""
    identity = folder.identity()
    if identity is None:
        raise DataError(f"{folder.path} holds no run", do="name a run that was started")
    experiment = from_resolved(identity["experiment"])
    if prepared_dir is not None:
        experiment = replace(experiment, data=replace(experiment.data, data_dir="", prepared_dir=str(prepared_dir.absolute())))
    return located(experiment)


def stop_here(folder: RunFolder, *, say: Say) -> Json:
    """End an idle run at its newest commit, evaluate it and write its report."""
    from triform.pipeline.evaluate import evaluate
    from triform.pipeline.report import write_report
    from triform.pipeline.train import conclude

    result = conclude(folder)
    evaluate(folder, say=say)
    write_report(folder)
    return result


def set_epochs_here(folder: RunFolder, num_epochs: int) -> int:
    """Change an idle run's length. Raises: UsageError, RunInUse."""
    from triform.pipeline.lengthen import set_epochs

    return set_epochs(folder, experiment_of(folder).data.prepared_folder(), num_epochs, key=uuid4().hex)


def settings_of(folder: RunFolder) -> list[tuple[str, str]]:
    """Every field of the tree a run was started with, by its dotted path."""

    def flat(tree: Json, prefix: str) -> list[tuple[str, str]]:
        rows = []
        for key, value in tree.items():
            rows += flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", str(value))]
        return rows

    return flat((folder.identity() or {}).get("experiment", {}), "")
