"""Training in this process: what is final, what goes on, what is refused, and with which exit code."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from triform.errors import DataError, LostOwnership
from triform.pipeline.local import find_run
from triform.run.commit import Commit, commits, newest_good
from triform.run.folder import RunFolder, sealed, to_json
from triform.run.metrics_log import history
from triform.run.ownership import claims, take_claim

TINY_COMMAND = Path(__file__).parents[1] / "tiny" / "command.py"


def outcome(path):
    """What must be equal: the state's digest, and every row of the metrics."""
    folder = RunFolder(path)
    result = folder.result()
    return result["state_digest"], history(folder, result["history"]["generation"], result["history"]["metrics_bytes"])


@pytest.fixture(scope="module")
def finished(tiny, tiny_experiment, tmp_path_factory):
    """A whole run that keeps a checkpoint of every fifth step."""
    path = tmp_path_factory.mktemp("finished") / "run"
    assert tiny("train", tiny_experiment, "--output-dir", path, "--keep-last", 99, TINY_SLEEP=0.02) == 0
    return RunFolder(path)


@pytest.fixture
def told(tiny):
    """What was printed since the test began."""
    before = len(tiny.output)
    return lambda: tiny.output[before:]


def checkpoint(folder, step):
    return Commit(1, step).payload(folder)


def files_of(folder):
    return {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file() and path != folder.lock}


def killed_at_a_commit(tiny, experiment, path, *words):
    """A run that was killed after at least one commit."""
    assert tiny("train", experiment, "--output-dir", path, *words, TINY_KILL_AT=150, TINY_COMMITS=1) == -signal.SIGKILL
    assert commits(RunFolder(path))
    return RunFolder(path)


def test_a_finished_run_is_final_and_says_so(tiny, tiny_experiment, finished, told):
    before = files_of(finished)
    for arguments in ((tiny_experiment, "--output-dir", finished.path), ("--resume", finished.path)):
        assert tiny("train", *arguments) == 0
    assert told().count("is finished, and finished runs are final") == 2
    assert finished.result()["state_digest"] in told()
    assert files_of(finished) == before


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_an_edited_experiment_is_refused_by_the_field(tiny, tiny_experiment, finished, told, tmp_path, state):
    path = finished.path if state == "finished" else killed_at_a_commit(tiny, tiny_experiment, tmp_path / "run").path
    before = files_of(RunFolder(path))
    assert tiny("train", tiny_experiment, "--output-dir", path, "--learning-rate", 0.5) == 79
    assert "training.learning_rate was 0.001 and is now 0.5" in told()
    assert "--name" in told()
    assert files_of(RunFolder(path)) == before


def test_operational_fields_may_change(tiny, tiny_experiment, finished, tmp_path):
    path = killed_at_a_commit(tiny, tiny_experiment, tmp_path / "run").path
    changed = ("--every-steps", 7, "--keep-last", 2, "--plot-every", 3, "--loader-workers", 2, "--name", "other")
    assert tiny("train", tiny_experiment, "--output-dir", path, *changed) == 0
    assert outcome(path) == outcome(finished.path)
    assert (path / "plots" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_resume_by_folder_needs_no_experiment_file(tiny, tiny_experiment, finished, tmp_path):
    folder = killed_at_a_commit(tiny, tiny_experiment, tmp_path / "run")
    assert tiny("train", "--resume", folder.path) == 0
    assert outcome(folder.path) == outcome(finished.path)
    assert claims(folder)[1]["base"]["step"] > 0


def test_a_run_is_found_by_its_name(finished, tmp_path, monkeypatch):
    shutil.copytree(finished.path, tmp_path / "runs" / "tiny")
    monkeypatch.chdir(tmp_path)
    assert find_run("tiny").path == tmp_path / "runs" / "tiny"
    command = [sys.executable, str(TINY_COMMAND), "train", "--resume", "tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{tmp_path}/runs/tiny is finished" in done.stdout


def test_resume_and_output_dir_of_two_runs_is_no_guess(tiny, finished, told, tmp_path):
    assert tiny("train", "--resume", finished.path, "--output-dir", tmp_path / "other") == 2
    assert str(finished.path) in told()
    assert str(tmp_path / "other") in told()
    assert not (tmp_path / "other").exists()


def test_a_checkpoint_starts_a_new_run_that_ends_like_its_parent(tiny, finished, told, tmp_path):
    path = tmp_path / "branch"
    assert tiny("train", "--resume", checkpoint(finished, 20), "--output-dir", path) == 0
    branch = RunFolder(path)
    assert branch.identity()["parent"] == {"run": str(finished.path), "commit": "g00000001-s0000000020"}
    assert branch.result()["state_digest"] == finished.result()["state_digest"]
    rows = history(branch, 1)
    assert rows == [row for row in history(finished, 1) if row.step > 20]
    best = finished.result()["metrics"]["best"]["cd_l2"]
    assert branch.result()["metrics"]["best"]["cd_l2"] == best
    assert f"cd_l2 {best:.4f}" in told()


@pytest.mark.long
def test_a_branch_that_dies_before_its_first_commit_still_begins_from_its_parent(tiny, finished, tmp_path):
    died_early = 0
    for deadly in range(4, 100, 4):
        path = tmp_path / f"branch{deadly}"
        tiny("train", "--resume", checkpoint(finished, 20), "--output-dir", path, TINY_KILL_AT=deadly)
        if not (path / "run.json").exists():
            continue
        if commits(RunFolder(path)):
            break
        died_early += 1
        assert tiny("train", "--resume", path) == 0
        assert RunFolder(path).result()["state_digest"] == finished.result()["state_digest"], deadly
        assert {row.step for row in outcome(path)[1] if row.split == "train"} == set(range(21, 33)), deadly
    assert died_early >= 3


def test_a_checkpoint_of_the_same_run_is_refused(tiny, finished, told):
    assert tiny("train", "--resume", checkpoint(finished, 20), "--output-dir", finished.path) == 2
    assert "belongs to the run" in told()


def test_a_run_that_began_from_one_checkpoint_is_not_begun_from_another(tiny, finished, told, tmp_path):
    path = tmp_path / "branch"
    assert tiny("train", "--resume", checkpoint(finished, 20), "--output-dir", path) == 0
    assert tiny("train", "--resume", checkpoint(finished, 20), "--output-dir", path) == 0
    assert tiny("train", "--resume", checkpoint(finished, 25), "--output-dir", path) == 79
    assert "began from g00000001-s0000000020" in told()


def test_a_branch_needs_epochs_that_reach_beyond_its_checkpoint(tiny, finished, told, tmp_path):
    assert tiny("train", "--resume", checkpoint(finished, 20), "--output-dir", tmp_path / "a", "--num-epochs", 4) == 2
    assert "at step 20, and this run has 16 steps" in told()
    assert "5 epochs at least" in told()
    assert tiny("train", "--resume", checkpoint(finished, 20), "--output-dir", tmp_path / "b", "--num-epochs", 9) == 0
    assert RunFolder(tmp_path / "b").result()["steps"] == 36


def test_a_branch_with_another_monitor_forgets_the_old_best(tiny, finished, tmp_path):
    path = tmp_path / "branch"
    assert tiny("train", "--resume", checkpoint(finished, 20), "--output-dir", path, "--monitor", "cd_squared") == 0
    metrics = RunFolder(path).result()["metrics"]
    assert metrics["best_step"] > 20
    values = [row.value for row in outcome(path)[1] if row.name == "cd_squared" and row.split == "val"]
    assert metrics["best"]["cd_squared"] == min(values)


def test_what_is_no_checkpoint_is_told_with_those_that_are(tiny, finished, told):
    assert tiny("train", "--resume", finished.checkpoints / "g00000001-s0000000021.safetensors") == 65
    assert "is no checkpoint of a run" in told()
    assert str(checkpoint(finished, 32)) in told()


def test_a_folder_in_use_is_refused_with_its_process_and_host(tiny, tiny_experiment, told, tmp_path):
    path = tmp_path / "run"
    command = [sys.executable, str(TINY_COMMAND), "train", str(tiny_experiment), "--output-dir", str(path)]
    with subprocess.Popen(command, env={**os.environ, "TINY_SLEEP": "0.3"}, stdout=subprocess.DEVNULL) as live:
        try:
            deadline = time.monotonic() + 60
            while not RunFolder(path).status(1).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert tiny("train", tiny_experiment, "--output-dir", path) == 73
            assert f"process {live.pid} on {os.uname().nodename} trains in {path}" in told()
            assert tiny("set-epochs", path, 9, TRIFORM_STATE_DIR=tmp_path) == 73
            assert tiny("stop", path, TRIFORM_STATE_DIR=tmp_path) == 73
            assert tiny("status", path, TRIFORM_STATE_DIR=tmp_path) == 0
            assert f"process {live.pid} on {os.uname().nodename} trains in it; train: epoch " in told()
            assert len(claims(RunFolder(path))) == 1
        finally:
            live.kill()


def test_every_mistake_of_an_experiment_is_told_at_once(tiny, tmp_path, told):
    path = tmp_path / "bad.yaml"
    path.write_text("name: a b\ndata: {kind: ply_clouds, num_point: 5}\ntask: {kind: point_autoencoder}\ntraining: {batch_size: 0}\n")
    assert tiny("train", path, "--lerning-rate", 1, "--output-dir", tmp_path / "run") == 78
    for part in ('bad.yaml:1:1 name: got "a b"', "num_point: is no field; did you mean num_points", "batch_size: got 0", "--lerning-rate"):
        assert part in told()
    assert "Traceback" not in told()
    assert not (tmp_path / "run").exists()


def test_data_that_is_not_there_or_no_data(tiny, tiny_experiment, tmp_path, told):
    (tmp_path / "empty").mkdir()
    for data in ("nowhere", "empty"):
        assert tiny("train", tiny_experiment, "--data-dir", tmp_path / data, "--output-dir", tmp_path / "run") == 65
        assert str(tmp_path / data) in told()
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_last_commit(tiny, tiny_experiment, finished, told, tmp_path):
    path = tmp_path / "run"
    arguments = ("train", tiny_experiment, "--output-dir", path)
    assert tiny(*arguments, TINY_NAN_AT=17, TINY_SLEEP=0.02) == 77
    assert "Step 18 gave loss = nan" in told()
    folder = RunFolder(path)
    commit, _, record = newest_good(folder)
    assert (commit.step, record["skipped"]) == (15, [])
    assert json.loads(folder.outcome(1).read_text())["kind"] == "Diverged"
    assert tiny(*arguments) == 0
    assert outcome(path) == outcome(finished.path)


def test_a_crash_is_recorded_with_its_reason(tiny, finished, tmp_path):
    """The tests' backend asserts that a state has its own arrays; nothing in the tree of errors."""
    path = tmp_path / "run"
    assert tiny("train", "--resume", checkpoint(finished, 20), "--output-dir", path, "--num-points", 50) == 1
    assert json.loads(RunFolder(path).outcome(1).read_text())["kind"] == "ValueError"


FULL_DISK = """
import errno, os, runpy, sys
import triform.files, triform.run.metrics_log
class Full:
    def __getattr__(self, name):
        return getattr(os, name)
    def fsync(self, descriptor):
        if os.path.exists(os.environ["FULL_ONCE_THERE_IS"]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.fsync(descriptor)
triform.files.os = triform.run.metrics_log.os = Full()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_disk_that_fills_up(tiny, tiny_experiment, finished, tmp_path):
    """From the first commit on, nothing can be made durable any more."""
    folder = RunFolder(tmp_path / "run")
    words = ["train", str(tiny_experiment), "--output-dir", str(folder.path)]
    command = [sys.executable, "-c", FULL_DISK, str(TINY_COMMAND), *words]
    env = {**os.environ, "FULL_ONCE_THERE_IS": str(Commit(1, 5).record(folder)), "TINY_SLEEP": "0.02"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 74, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"triform: The disk that holds {folder.path}")
    assert "Traceback" not in done.stderr
    commit, _, record = newest_good(folder)
    assert (commit, record["skipped"]) == (Commit(1, 5), [])
    assert tiny(*words) == 0
    assert outcome(folder.path) == outcome(finished.path)
    assert claims(folder)[1]["base"]["step"] == 5


def test_a_small_disk(tiny, tiny_experiment, told, tmp_path):
    """A real file system of 250 kB, then of 30 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=250k", "tmpfs", place]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting takes root on Linux")
    words = ("train", tiny_experiment, "--num-epochs", 60, "--keep-last", 999, "--output-dir")
    try:
        for _ in range(2):
            assert tiny(*words, place / "run") == 74
        assert "Traceback" not in told()
        assert newest_good(RunFolder(place / "run"))[2]["skipped"] == []
        subprocess.run(["mount", "-o", "remount,size=30m", place], check=True)
        assert tiny(*words, place / "run") == 0
        assert tiny(*words, tmp_path / "roomy") == 0
        assert outcome(place / "run") == outcome(tmp_path / "roomy")
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_folder_that_can_not_be_written(tiny, tiny_experiment, told, tmp_path):
    file = tmp_path / "file"
    file.touch()
    places = [file, file / "run", *([Path("/proc/run")] if sys.platform == "linux" else [])]
    for place in places:
        assert tiny("train", tiny_experiment, "--output-dir", place) == 73, place
    assert told().count("triform:") == len(places)
    assert "Traceback" not in told()


def test_another_generation_takes_the_run_away(tiny_experiment, tmp_path, monkeypatch):
    """In this process: a later claim appears in the middle, and the next commit is refused."""
    import triform.pipeline.train as training
    from triform.experiment import load
    from triform.pipeline.prepare import located, prepare

    sys.path.insert(0, str(TINY_COMMAND.parent))
    monkeypatch.setattr(sys, "path", [*sys.path])
    from numpy_backend import NumpyBackend

    monkeypatch.setattr(training, "build_backend", lambda experiment, facts, num_threads: (NumpyBackend(num_points=48, seed=0), "cpu"))
    experiment, folder, asked = located(load(tiny_experiment, []).experiment), RunFolder(tmp_path / "run"), []

    def stop():
        asked.append(1)
        if len(asked) == 12:
            take_claim(folder, {"base": None})

    with pytest.raises(LostOwnership, match="Generation 2 owns") as caught:
        training.train(experiment, folder, prepared_dir=prepare(experiment).prepared_dir, stop_requested=stop)
    assert caught.value.exit_code == 76
    assert all(commit.step < 15 for commit in commits(folder))
    assert json.loads(folder.outcome(1).read_text())["exit_code"] == 76


def test_other_data_under_a_run_is_refused(tiny, tiny_experiment, plants, told, tmp_path):
    data, path = tmp_path / "plants", tmp_path / "run"
    shutil.copytree(plants, data)
    words = ("train", tiny_experiment, "--data-dir", data, "--output-dir", path)
    assert tiny("prepare", tiny_experiment, "--data-dir", data) == 0
    assert tiny(*words, TINY_KILL_AT=150, TINY_COMMITS=1) == -signal.SIGKILL
    before, step = files_of(RunFolder(path)), commits(RunFolder(path))[0].step
    shutil.copy(sorted(data.glob("*.ply"))[0], data / "another.ply")
    assert tiny("prepare", tiny_experiment, "--data-dir", data) == 0
    assert tiny(*words) == 65
    assert f"is not what {path} was trained on until step {step}" in told()
    assert files_of(RunFolder(path)) == before
    (data / "another.ply").unlink()
    assert tiny("prepare", tiny_experiment, "--data-dir", data) == 0
    assert tiny(*words) == 0


def test_no_checkpoint_can_be_read(tiny, tiny_experiment, told, tmp_path):
    folder = killed_at_a_commit(tiny, tiny_experiment, tmp_path / "run")
    for commit in commits(folder):
        commit.payload(folder).write_bytes(b"torn")
    assert tiny("train", "--resume", folder.path) == 65
    assert f"None of the {len(commits(folder))} checkpoints" in told()


def test_a_run_keeps_the_number_of_threads_it_began_with(tiny, tiny_experiment, tmp_path):
    folder = killed_at_a_commit(tiny, tiny_experiment, tmp_path / "run")
    for commit in commits(folder):
        record = json.loads(commit.record(folder).read_text())
        del record["seal"]
        record["environment"]["num_threads"] = 7
        commit.record(folder).write_bytes(to_json(sealed(record)))
    assert tiny("train", tiny_experiment, "--output-dir", folder.path) == 0
    assert claims(folder)[1]["environment"]["num_threads"] == 7
    assert claims(folder)[1]["warnings"] == []
    assert folder.result()["not_bit_exact_from"] is None


def test_early_stopping_is_the_same_after_kills(tiny, tiny_experiment, tmp_path):
    words = ("train", tiny_experiment, "--num-epochs", 40, "--patience", 2, "--min-delta", 0.02, "--output-dir")
    assert tiny(*words, tmp_path / "straight") == 0
    result = RunFolder(tmp_path / "straight").result()
    assert result["finished"] == "early"
    assert result["steps"] == result["metrics"]["best_step"] + 2 * 4 < 160
    for deadly in (120, 150, 180):
        tiny(*words, tmp_path / "killed", TINY_KILL_AT=deadly)
    assert tiny(*words, tmp_path / "killed") == 0
    assert RunFolder(tmp_path / "killed").result()["generations"] > 1
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")


def test_each_generation_keeps_a_log(finished):
    log = finished.log(1).read_text()
    assert "generation 1 from the beginning" in log
    assert "epoch 8, step 32: cd_l2 0." in log
    assert "checkpoint at step 20" in log


def test_a_run_without_data_is_no_run(tmp_path):
    from triform.pipeline.local import experiment_of

    with pytest.raises(DataError, match="holds no run"):
        experiment_of(RunFolder(tmp_path))
