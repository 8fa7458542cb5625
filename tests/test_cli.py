"""The command line as people and scripts meet it: help, wrong words, exit codes, texts, config and status."""

import json
import os
import subprocess
import sys
import time

import pytest
from ruamel.yaml import YAML

from triform import __version__, cli
from triform.errors import BY_EXIT_CODE, Diverged, LostOwnership, UsageError
from triform.terminal import LiveProgress, duration, training_line

VERBS = ("run", "prepare", "train", "evaluate", "report", "predict", "worker", "status", "pause", "resume", "stop", "set-epochs")
VERBS += ("config", "doctor", "profile", "grow-maize", "grow-bodies", "grow-faces", "grow-people")


@pytest.fixture
def told(tiny):
    before = len(tiny.output)
    return lambda: tiny.output[before:]


def test_help_names_every_verb_and_every_verb_has_help(capsys):
    cli.app(["--help"], result_action="return_value")
    listed = capsys.readouterr().out
    for verb in VERBS:
        assert f" {verb} " in listed
        cli.app([verb, "--help"], result_action="return_value")
        assert f"Usage: {cli.app.name[0]} {verb}" in capsys.readouterr().out
    assert {name for name in cli.app if not name.startswith("-")} == set(VERBS)


def test_no_word_is_a_call_for_help_and_the_version_is_told(tiny, told):
    assert tiny() == 0
    assert "Usage: triform COMMAND" in told()
    assert tiny("--version") == 0
    assert told().rstrip().endswith(__version__)


def test_the_train_help_tells_the_default_folder(tiny, told):
    assert tiny("train", "--help") == 0
    assert "runs/NAME" in told()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("trian",), ("trian", 'Did you mean "train"')),
        (("train",), ("no experiment file is named", "--resume a run")),
        (("train", "a.yaml", "b.yaml"), ("got 2 experiment files (a.yaml, b.yaml)", "Expected: one")),
        (("evaluate",), ("evaluate", "--run")),
        (("status", "nobody"), ("'nobody' is no run", "Expected: a run's folder, or its name under runs/")),
        (("set-epochs", "nobody", "many"), ("many",)),
        (("worker", "--queue", "tpu"), ("tpu", "cpu")),
    ],
)
def test_wrong_words_are_one_paragraph_and_exit_2(tiny, told, words, parts):
    assert tiny(*words) == 2
    assert told().startswith("triform: ")
    assert "Do this:" in told()
    assert told().count("\n") == 1
    for part in parts:
        assert part in told()


def test_a_worker_without_a_cluster_is_told_where_to_look(tiny, told):
    assert tiny("worker") == 69
    assert "TEMPORAL_ADDRESS" in told()


def test_every_error_ends_with_its_own_code_and_leaves_its_words(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TRIFORM_ERROR_FILE", str(tmp_path / "error.json"))
    for code, kind in BY_EXIT_CODE.items():
        error = kind("what was got", expected="what was expected", do="what to do")
        monkeypatch.setattr(cli, "app", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code == kind.exit_code
        assert capsys.readouterr().err == "triform: what was got. Expected: what was expected. Do this: what to do.\n"
        told = json.loads((tmp_path / "error.json").read_text())
        assert (told["kind"], told["retryable"]) == (kind.__name__, kind.retryable)


def test_the_codes_that_scripts_rely_on():
    assert {code: kind.__name__ for code, kind in sorted(BY_EXIT_CODE.items())} == {
        2: "UsageError",
        65: "DataError",
        69: "ServerUnreachable",
        70: "NoProgress",
        73: "CannotWrite",
        74: "DiskFull",
        75: "Stopped",
        76: "LostOwnership",
        77: "Diverged",
        78: "ExperimentError",
        79: "ConfigConflict",
    }
    assert not any(kind.retryable for kind in (LostOwnership, Diverged, UsageError))


def test_an_error_nobody_expected_keeps_its_traceback_and_tells_a_supervisor(monkeypatch, tmp_path):
    monkeypatch.setenv("TRIFORM_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.setattr(cli, "app", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main()
    assert json.loads((tmp_path / "error.json").read_text()) == {
        "kind": "",
        "retryable": True,
        "text": "ZeroDivisionError: division by zero",
    }


def test_config_prints_a_file_that_loads_to_the_same(tiny, told, tiny_experiment, tmp_path):
    assert tiny("config", tiny_experiment, "--batch-size", 3) == 0
    assert "batch_size: 3  # Samples of a batch." in told()
    (tmp_path / "again.yaml").write_text(told())
    before = len(told())
    assert tiny("config", tmp_path / "again.yaml", "--json") == 0
    assert json.loads(told()[before:]) == YAML(typ="safe").load((tmp_path / "again.yaml").read_text())


def test_config_prints_a_schema_without_a_file(tiny, told):
    assert tiny("config", "--schema") == 0
    schema = json.loads(told())
    assert {"name", "data", "task", "training"} <= schema["properties"].keys()


def test_config_may_be_given_by_flag(tiny, told, tiny_experiment, tmp_path):
    assert tiny("train", "--config", tiny_experiment, "--output-dir", tmp_path / "run", "--num-epochs", 1) == 0
    assert "Trained 4 steps in 1 generation;" in told()
    assert str(tmp_path / "run" / "final" / "model.safetensors") in told()


def test_status_tells_what_happened_and_what_goes_on(tiny, told, tiny_experiment, tmp_path):
    path, state = tmp_path / "run", tmp_path / "state"
    assert tiny("train", tiny_experiment, "--output-dir", path, TINY_NAN_AT=17, TINY_SLEEP=0.02) == 77
    before = len(told())
    assert tiny("status", path, TRIFORM_STATE_DIR=state) == 0
    assert f"{path}: not finished, newest checkpoint g00000001-s0000000015" in told()[before:]
    assert "its last trainer ended: Diverged (Step 18 gave loss = nan" in told()[before:]
    assert f"to go on: triform train --resume {path}" in told()[before:]
    assert tiny("train", "--resume", path) == 0
    before = len(told())
    assert tiny("status", path, "--json", TRIFORM_STATE_DIR=state) == 0
    status = json.loads(told()[before:])
    assert (status["finished"], status["trainer"], status["workflow"]) == (True, None, None)
    assert status["newest_commit"] == "g00000002-s0000000032"


def test_grow_maize_writes_what_is_asked(tiny, told, tmp_path):
    assert tiny("grow-maize", tmp_path / "plants", "--num-plants", 3, "--num-points", 50, "--seed", 2) == 0
    assert sorted(path.name for path in (tmp_path / "plants").glob("*.ply")) == ["0001.ply", "0002.ply", "0003.ply"]
    assert "3 plants of 50 points" in told()


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0 s"), (59.9, "59 s"), (250, "4 m 10 s"), (3600, "1 h 00 m"), (90_180, "25 h 03 m")]
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


STATUS = {
    "epoch": 2,
    "epochs": 8,
    "step": 9,
    "steps": 32,
    "loss": 0.25,
    "monitor": "cd_l2",
    "best": None,
    "samples_per_second": 12.34,
    "seconds_left": 61.0,
    "checkpoint": {},
}


def test_a_line_of_progress():
    line = "train: epoch 2/8, step 9/32, loss 0.2500, best cd_l2 -, 12.3 samples/s, 1 m 01 s left, checkpoint none yet"
    assert training_line(STATUS) == line
    told = training_line({**STATUS, "best": 0.125, "checkpoint": {"step": 8, "time": time.time() - 70}})
    assert "best cd_l2 0.1250" in told
    assert told.endswith("checkpoint 1 m 10 s ago")


def test_where_output_is_no_terminal_progress_is_a_line_every_few_seconds(capsys, monkeypatch):
    moments = iter([100.0, 100.0, 101.0, 106.0, 106.0])
    monkeypatch.setattr("triform.terminal.time.monotonic", lambda: next(moments))
    monkeypatch.setattr("triform.terminal.console._file", sys.stdout)  # the property would give back another test's stdout afterwards
    with LiveProgress() as live:
        for step in (1, 2, 3):
            live.show_training({**STATUS, "step": step})
    assert [line.split(",")[1] for line in capsys.readouterr().out.splitlines()] == [" step 1/32", " step 3/32"]


def test_doctor_tells_every_part_as_json(tmp_path):
    env = {**os.environ, "TRIFORM_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "triform", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert {"Python", "packages", "processors", "memory", "Temporal server", "torch"} <= found.keys()
    assert all(check["do"] for check in found.values() if check["status"] != "ok")


def test_a_finished_run_is_not_shown_for_another_experiment(tiny, tiny_experiment, tmp_path):
    path = tmp_path / "run"
    assert tiny("train", tiny_experiment, "--output-dir", path) == 0
    assert tiny("run", tiny_experiment, "--output-dir", path, "--learning-rate", "0.5") == 79
    assert "training.learning_rate was 0.001 and is now 0.5" in tiny.output
