"""The promise: killed anywhere, the finished model and its history are the same, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from triform.run.commit import commits
from triform.run.folder import RunFolder
from triform.run.metrics_log import history

TINY_COMMAND = Path(__file__).parents[1] / "tiny" / "command.py"


def outcome(path):
    """What must be equal: the state's digest, and every row of the metrics."""
    folder = RunFolder(path)
    result = folder.result()
    return result["state_digest"], history(folder, result["history"]["generation"], result["history"]["metrics_bytes"])


@pytest.fixture(scope="module")
def undisturbed(tiny, tiny_experiment, tmp_path_factory):
    path = tmp_path_factory.mktemp("straight") / "run"
    assert tiny("train", tiny_experiment, "--output-dir", path) == 0
    digest, rows = outcome(path)
    assert {row.step for row in rows if row.split == "train"} == set(range(1, 33))
    assert {row.split for row in rows} == {"train", "val"}
    return digest, rows


SHORT = ("--num-epochs", 2, "--every-steps", 3)


@pytest.mark.parametrize("stride", [pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(900)]), 23])
def test_killed_before_every_single_write(tiny, tiny_experiment, tmp_path, stride):
    """SIGKILL between each open, write, fsync, link, rename and removal of a whole run, then one run to the end."""
    place = tmp_path / "count"
    assert tiny("train", tiny_experiment, "--output-dir", tmp_path / "counted", *SHORT, TINY_COUNT_TO=place) == 0
    undisturbed, count = outcome(tmp_path / "counted"), int(place.read_text())
    assert count > 60
    for deadly in range(1, count + 1, stride):
        path = tmp_path / f"run{deadly}"
        ended = tiny("train", tiny_experiment, "--output-dir", path, *SHORT, TINY_KILL_AT=deadly)
        assert ended in (-signal.SIGKILL, 0), tiny.output[-2000:]  # the thread's timing moves the count a little
        assert tiny("train", tiny_experiment, "--output-dir", path, *SHORT) == 0, tiny.output[-2000:]
        assert outcome(path) == undisturbed, f"killed before write {deadly}"


@pytest.mark.long
def test_killed_again_and_again_in_one_run(tiny, tiny_experiment, undisturbed, tmp_path):
    """Twenty deaths and more in the same run, each a little further on."""
    path, deaths = tmp_path / "run", 0
    for _ in range(100):
        ended = tiny("train", tiny_experiment, "--output-dir", path, "--every-steps", 1, TINY_DIE_AFTER=2, TINY_SLEEP=0.01)
        deaths += ended == -signal.SIGKILL
        if ended == 0:
            break
    assert deaths >= 20
    assert tiny("train", tiny_experiment, "--output-dir", path) == 0
    assert outcome(path) == undisturbed
    assert RunFolder(path).result()["generations"] > 20


def test_killed_at_random_moments(tiny_experiment, undisturbed, tmp_path):
    """SIGKILL by the clock, from outside."""
    generator, path = random.Random(1), tmp_path / "run"
    command = [sys.executable, str(TINY_COMMAND), "train", str(tiny_experiment), "--output-dir", str(path), "--every-steps", "2"]
    for _ in range(4):
        process = subprocess.Popen(command, env={**os.environ, "TINY_SLEEP": "0.05"}, stderr=subprocess.DEVNULL)
        begun = time.monotonic()
        while not RunFolder(path).commits.exists() and time.monotonic() - begun < 30:
            time.sleep(0.01)
        time.sleep(generator.uniform(0.1, 1.2))
        process.kill()
        process.wait()
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert outcome(path) == undisturbed


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_any_number_of_loader_workers_gives_the_same_bits(tiny, tiny_experiment, undisturbed, tmp_path, workers):
    path = tmp_path / "run"
    arguments = ("train", tiny_experiment, "--output-dir", path, "--loader-workers", workers)
    assert tiny(*arguments, TINY_KILL_AT=60) == -signal.SIGKILL
    assert tiny(*arguments) == 0
    assert outcome(path) == undisturbed


def test_a_polite_stop_repeats_no_step(tiny_experiment, undisturbed, tmp_path):
    path = tmp_path / "run"
    command = [sys.executable, str(TINY_COMMAND), "train", str(tiny_experiment), "--output-dir", str(path), "--every-steps", "0"]
    process = subprocess.Popen(command, env={**os.environ, "TINY_SLEEP": "0.1"}, stderr=subprocess.PIPE, text=True)
    while not RunFolder(path).status(1).exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 75
    assert f"triform train --resume {path}" in told
    step = commits(RunFolder(path))[0].step
    assert 0 < step < 32
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert outcome(path) == undisturbed
    base = json.loads(RunFolder(path).claim(2).read_text())["base"]
    assert base["step"] == step


@pytest.mark.parametrize("damage", ["torn", "flipped"])
def test_a_damaged_newest_checkpoint_is_passed_over_and_told(tiny, tiny_experiment, undisturbed, tmp_path, damage):
    path = tmp_path / "run"
    assert tiny("train", tiny_experiment, "--output-dir", path, "--every-steps", 1, TINY_KILL_AT=150, TINY_COMMITS=2) == -signal.SIGKILL
    folder = RunFolder(path)
    newest, before = commits(folder)[:2]
    data = bytearray(newest.payload(folder).read_bytes())
    data[len(data) // 2] ^= 4
    newest.payload(folder).write_bytes(data[:-7] if damage == "torn" else data)
    assert tiny("train", tiny_experiment, "--output-dir", path) == 0
    assert outcome(path) == undisturbed
    claim = json.loads(folder.claim(2).read_text())
    assert claim["base"]["step"] == before.step
    assert newest.name in claim["warnings"][0]["text"]
    assert newest.name in tiny.output


def test_another_processor_or_package_goes_on_and_says_so(tiny, tiny_experiment, tmp_path, monkeypatch):
    from triform.run.folder import sealed, to_json

    path = tmp_path / "run"
    assert tiny("train", tiny_experiment, "--output-dir", path, TINY_KILL_AT=150, TINY_COMMITS=1) == -signal.SIGKILL
    folder = RunFolder(path)
    for commit in commits(folder):
        record = json.loads(commit.record(folder).read_text())
        del record["seal"]
        record["environment"]["packages"]["numpy"] = "1.0"
        commit.record(folder).write_bytes(to_json(sealed(record)))
    step = commits(folder)[0].step
    assert tiny("train", tiny_experiment, "--output-dir", path) == 0
    assert folder.result()["not_bit_exact_from"] == step
    assert f"from step {step} on the run is not bit-exact: packages numpy: 1.0 ->" in tiny.output
