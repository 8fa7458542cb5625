"""What a generation goes on from: a commit of its own run, or a checkpoint of another one."""

from dataclasses import dataclass
from pathlib import Path

from triform.errors import ConfigConflict, DataError
from triform.experiment import Experiment, from_resolved, monitor, resolved
from triform.pipeline.portable import read_portable
from triform.run.commit import Commit, State, commits, newest_good, read_commit
from triform.run.folder import Json, RunFolder
from triform.run.horizon import add_horizon, read_horizons
from triform.training.early_stopping import Best
from triform.training.loop import Progress


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
    leaders: tuple[tuple[float, int], ...] = ()
    """(value, step) of the best validations whose commits are kept."""


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


def pointer_to(parent: Path | None) -> Json | None:
    """What `run.json` keeps of the checkpoint that a run began from."""
    if parent is None:
        return None
    if parent.suffix == ".npz":
        return {"file": str(parent.resolve()), "sha256": read_portable(parent)[1]["sha256"]}
    folder, commit = find_checkpoint(parent)
    return {"run": str(folder.path), "commit": commit.name}


def refuse_other_parent(folder: RunFolder, *, recorded: Json | None, asked: Json | None) -> None:
    """Raises: ConfigConflict: the run began from something else than the checkpoint that is asked for."""
    if asked is not None and not _same(recorded, asked):
        began = f"from {_named(recorded)}" if recorded else "from the beginning"
        raise ConfigConflict(
            f"The run in {folder.path} began {began}, not from {_named(asked)}",
            expected="the checkpoint it began from, or a folder without a run",
            do=f"give another --name or --output-dir; `triform train --resume {folder.path}` goes on with this one",
        )


def _same(recorded: Json | None, asked: Json) -> bool:
    """A file is known by its content, wherever it lies."""
    if recorded is not None and "sha256" in asked:
        return bool(recorded.get("sha256") == asked["sha256"])
    return recorded == asked


def _named(pointer: Json) -> str:
    if "commit" in pointer:
        return f"{pointer['commit']} of {pointer['run']}"
    return f"{pointer.get('file') or pointer['weights']} (sha256 {pointer['sha256'][:12]})"


def measured_by(experiment: Experiment) -> Json:
    """What the monitored value depends on beside model and data: the task says in which pose and how often, the seed what is drawn."""
    return {"monitor": monitor(experiment)[0], "seed": experiment.seed, "task": resolved(experiment)["task"]}


def read_base(folder: RunFolder, experiment: Experiment, *, parent: Json | None, data_digest: str) -> Base | None:
    """The newest good commit; else the checkpoint that the run begins from; None where it begins at step 0, whatever its weights.

    Args:
        parent: what `run.json` keeps of that checkpoint.
        data_digest: of the prepared data to go on with.
    Raises: DataError: no checkpoint can be read, or the run was trained on other data.
    """
    if (found := newest_good(folder)) is not None:
        commit, state, record = found
        _refuse_other_data(folder, record, data_digest)
        pointer = {"generation": commit.generation, "step": commit.step, "metrics_bytes": record["metrics_bytes"]}
        warnings = tuple(f"checkpoint {text}; went on from {commit.name}" for text in record["skipped"])
        progress, leaders = Progress.from_json(record["progress"]), tuple((value, step) for value, step in record["leaders"])
        return Base(state, progress, record["environment"], record["data_digest"], pointer, warnings, leaders)
    if broken := commits(folder):
        raise DataError(
            f"None of the {len(broken)} checkpoints in {folder.checkpoints} can be read ({read_commit(folder, broken[0])})",
            expected="one that fits its recorded digest",
            do="restore the folder from a copy, or start again under another run name",
        )
    return None if parent is None or "weights" in parent else _from_parent(folder, experiment, parent, data_digest)


def _refuse_other_data(folder: RunFolder, record: Json, data_digest: str) -> None:
    if record["data_digest"] != data_digest:
        raise DataError(
            f"The prepared data is not what {folder.path} was trained on until step {record['step']}",
            expected=f"digest {record['data_digest']}, got {data_digest}",
            do="prepare it again by this run's settings (`triform prepare`), give the old data's folder with --prepared-dir, "
            "or start a run with another name",
        )


def _from_parent(folder: RunFolder, experiment: Experiment, parent: Json, data_digest: str) -> Base:
    """Another run's state. Its best model counts only where it was measured in the same way."""
    state, record, measured = _from_file(parent) if "file" in parent else _from_run(folder, experiment, parent)
    best = Progress.from_json(record["progress"]).best
    if measured != measured_by(experiment) or record["data_digest"] != data_digest:
        best, state = Best(), {name: array for name, array in state.items() if not name.startswith("best/")}
    progress = Progress(record["progress"]["step"], best, finished_early=best.exhausted(experiment.training.patience))
    return Base(state, progress, record["environment"], record["data_digest"], None)


def _from_file(parent: Json) -> tuple[State, Json, Json]:
    """A best model's state, which is its own best."""
    state, record = read_portable(Path(parent["file"]))
    if record["sha256"] != parent["sha256"]:
        raise DataError(
            f"{parent['file']} is not what it was when this run was to begin from it",
            expected=f"sha256 {parent['sha256']}, got {record['sha256']}",
            do="begin another run from it, under another --name; or put the former file back",
        )
    best = {name.replace("model/", "best/", 1): array for name, array in state.items() if name.startswith("model/")}
    return {**state, **best}, record, record.get("measured_by", {})


def _from_run(folder: RunFolder, experiment: Experiment, parent: Json) -> tuple[State, Json, Json]:
    """A commit of another run; that run's lengthening holds where this one does not name a length of its own."""
    other = RunFolder(Path(parent["run"]))
    found = {commit.name: commit for commit in commits(other)}.get(parent["commit"])
    contents = "it is gone" if found is None else read_commit(other, found)
    if isinstance(contents, str):
        raise DataError(f"{parent['commit']} of {other.path} can't be used: {contents}", do="start from another checkpoint of that run")
    state, record = contents
    before = from_resolved((other.identity() or {})["experiment"])
    if before.training.num_epochs == experiment.training.num_epochs:
        for number, (from_step, num_epochs) in enumerate(read_horizons(other)):
            if from_step <= record["step"]:
                add_horizon(folder, num_epochs, from_step=from_step, key=f"parent{number}")
    return state, record, measured_by(before)
