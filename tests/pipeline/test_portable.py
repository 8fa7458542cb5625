"""What a run leaves beside its commits: the best model as one file, the commits that settings promise, drawings by epoch."""

import json
import shutil
import signal

import numpy as np
import pytest

from triform.run.commit import commits, read_commit
from triform.run.folder import RunFolder


@pytest.fixture(scope="module")
def finished(tiny, tiny_experiment, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("portable") / "run")
    assert tiny("train", tiny_experiment, "--output-dir", folder.path, "--save-frequency", 3, "--keep-best-n", 2, "--plot-every", 4) == 0
    return folder


def record_of(path):
    with np.load(path, allow_pickle=False) as arrays:
        return json.loads(arrays["record"].tobytes()), {name: arrays[name] for name in arrays.files if name != "record"}


def test_the_file_holds_the_best_validation_with_its_optimizer(finished):
    record, arrays = record_of(finished.best_model)
    result = finished.result()
    assert record["progress"]["step"] == record["progress"]["best"]["step"] == result["metrics"]["best_step"]
    assert record["metrics"] == result["metrics"]["best"]
    assert arrays.keys() == {"model/cloud", "model/mean", "m/cloud", "v/cloud", "updates"}
    assert arrays["updates"] == result["metrics"]["best_step"]


def test_it_is_the_same_after_a_kill(tiny, tiny_experiment, finished, tmp_path):
    words = ("train", tiny_experiment, "--output-dir", tmp_path / "run", "--save-frequency", 3, "--keep-best-n", 2)
    assert tiny(*words, TINY_KILL_AT=150, TINY_COMMITS=1) == -signal.SIGKILL
    assert tiny(*words) == 0
    assert RunFolder(tmp_path / "run").best_model.read_bytes() == finished.best_model.read_bytes()


def test_promised_commits_stay(finished):
    """Four steps an epoch: the ends of epochs 3 and 6, the two best validations, and the newest three."""
    kept = {commit.step for commit in commits(finished)}
    values = {step: value for _, step, value in validations(finished)}
    best = sorted(values, key=values.__getitem__)[:2]
    assert {12, 24, *best} <= kept
    assert len(kept) <= 3 + 2 + 2
    newest = read_commit(finished, commits(finished)[0])
    assert [step for _, step in newest[1]["leaders"]] == best


def validations(folder):
    rows = json.loads((folder.path / "metrics_history.json").read_text())
    return [(row["name"], row["step"], row["value"]) for row in rows if row["split"] == "val" and row["name"] == "cd_l2"]


def test_drawings_by_epoch(finished):
    names = {path.name for path in (finished.path / "plots").iterdir()}
    assert {"training_curves_epoch_0004.png", "training_curves_epoch_0008.png", "curves.png", "loss_distribution.png"} <= names


def test_a_new_run_begins_from_the_file(tiny, tiny_experiment, finished, tmp_path):
    path = tmp_path / "branch"
    words = ("train", "--config", tiny_experiment, "--resume", finished.best_model, "--output-dir", path, "--num-epochs", 12)
    assert tiny(*words, "--learning-rate", 5e-4, "--verbose") == 0, tiny.output[-2000:]
    branch, best = RunFolder(path), finished.result()["metrics"]["best_step"]
    assert branch.identity()["parent"]["file"] == str(finished.best_model)
    assert branch.result()["steps"] == 48
    assert f"from step {best}" in branch.log(1).read_text() or best == 32
    assert tiny(*words, "--learning-rate", 5e-4) == 0  # the same command again


def test_a_file_that_is_none_is_refused(tiny, tiny_experiment, finished, tmp_path):
    torn = tmp_path / "best_model.npz"
    torn.write_bytes(finished.best_model.read_bytes()[:-40])
    assert tiny("train", tiny_experiment, "--resume", torn, "--output-dir", tmp_path / "run") == 65
    assert "a best_model.npz that a run left" in tiny.output
    assert not (tmp_path / "run").exists()


def test_a_file_away_from_its_run_needs_an_experiment(tiny, finished, tmp_path):
    shutil.copy(finished.best_model, tmp_path / "best_model.npz")
    assert tiny("train", "--resume", tmp_path / "best_model.npz", "--output-dir", tmp_path / "run") == 2
    assert "does not lie in its run's folder" in tiny.output


@pytest.mark.long
def test_a_branch_that_never_gets_better_leaves_the_file_too(tiny, tiny_experiment, finished, tmp_path):
    words = ("--min-delta", 1, "--num-epochs", 12)
    assert tiny("train", tiny_experiment, "--resume", finished.best_model, "--output-dir", tmp_path / "branch", *words) == 0
    (before, arrays), (record, copied) = record_of(finished.best_model), record_of(RunFolder(tmp_path / "branch").best_model)
    assert record["progress"]["best"] == before["progress"]["best"]
    assert {name: array.tobytes() for name, array in copied.items()} == {name: array.tobytes() for name, array in arrays.items()}
    checkpoint = commits(finished)[0].payload(finished)
    assert tiny("train", "--resume", checkpoint, "--output-dir", tmp_path / "other", *words) == 0
    other = RunFolder(tmp_path / "other")
    assert record_of(other.best_model)[0]["progress"]["step"] == other.result()["metrics"]["best_step"]
    assert tiny("train", "--resume", other.best_model, "--output-dir", tmp_path / "third", *words) == 0


def test_a_lost_file_comes_back_when_the_run_goes_on(tiny, tiny_experiment, tmp_path):
    folder = RunFolder(tmp_path / "run")
    words = ("train", tiny_experiment, "--output-dir", folder.path, "--min-delta", 1)
    assert tiny(*words, TINY_KILL_AT=150, TINY_COMMITS=1) == -signal.SIGKILL
    before = record_of(folder.best_model)
    folder.best_model.unlink()
    assert tiny(*words) == 0
    record, arrays = record_of(folder.best_model)
    assert record["progress"] == before[0]["progress"]
    assert arrays["model/cloud"].tobytes() == before[1]["model/cloud"].tobytes()


def test_a_file_is_known_by_its_content(tiny, tiny_experiment, finished, tmp_path):
    """Moved, it is the same; another one in its place is not what the run began from."""
    parent, path = tmp_path / "best_model.npz", tmp_path / "branch"
    shutil.copy(finished.best_model, parent)
    words = ("train", tiny_experiment, "--output-dir", path, "--num-epochs", 12)
    deadly = next(n for n in range(4, 100, 4) if tiny(*words, "--resume", parent, TINY_KILL_AT=n) < 0 and (path / "run.json").exists())
    assert not commits(RunFolder(path)), deadly
    parent.rename(tmp_path / "moved.npz")
    other = tmp_path / "other"
    assert tiny("train", tiny_experiment, "--output-dir", other, "--seed", 1) == 0
    shutil.copy(RunFolder(other).best_model, parent)
    assert tiny(*words) == 65
    assert f"{parent} is not what it was" in tiny.output
    assert tiny(*words, "--resume", parent) == 79
    assert "(sha256 " in tiny.output.splitlines()[-1]
    assert tiny(*words, "--resume", tmp_path / "moved.npz") == 0, tiny.output[-2000:]
    assert RunFolder(path).result()["steps"] == 48


@pytest.mark.parametrize("word", [("--seed", 5), ("--task.loss", "cd_squared"), ("--monitor", "cd_squared")])
def test_a_best_that_was_measured_in_another_way_does_not_count(tiny, tiny_experiment, finished, tmp_path, word):
    words = ("--min-delta", 1, "--num-epochs", 12, *word)
    assert tiny("train", tiny_experiment, "--resume", finished.best_model, "--output-dir", tmp_path / "run", *words) == 0
    assert RunFolder(tmp_path / "run").result()["metrics"]["best_step"] > finished.result()["metrics"]["best_step"]


def test_an_array_under_that_name_is_refused(tiny, tiny_experiment, tmp_path):
    with (tmp_path / "best_model.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert tiny("train", tiny_experiment, "--resume", tmp_path / "best_model.npz", "--output-dir", tmp_path / "run") == 65
