"""A run's length may change on the way: recorded with its step, outside the fingerprint, and equal after kills."""

import json

import pytest

from triform.errors import UsageError
from triform.experiment import load
from triform.pipeline.lengthen import set_epochs
from triform.pipeline.local import set_epochs_here
from triform.run.commit import Commit, commits
from triform.run.folder import RunFolder
from triform.run.horizon import add_horizon, read_horizons
from triform.run.metrics_log import history
from triform.training.schedule import learning_rate


def outcome(path):
    folder = RunFolder(path)
    result = folder.result()
    return result["state_digest"], history(folder, result["history"]["generation"], result["history"]["metrics_bytes"])


def ended_at_step_20(tiny, tiny_experiment, path):
    """An unfinished run whose newest commit is that of step 20; it was planned for 32."""
    assert tiny("train", tiny_experiment, "--output-dir", path, TINY_NAN_AT=22, TINY_SLEEP=0.02) == 77
    assert commits(RunFolder(path))[0].step == 20
    return RunFolder(path)


def set_epochs_of(tiny, path, number, tmp_path):
    return tiny("set-epochs", path, number, TRIFORM_STATE_DIR=tmp_path / "state")


@pytest.fixture(scope="module")
def lengthened(tiny, tiny_experiment, tmp_path_factory):
    """A run that knew from its beginning that it would be lengthened at step 20, and that nothing disturbed."""
    folder = RunFolder(tmp_path_factory.mktemp("lengthened") / "run")
    add_horizon(folder, 10, from_step=20, key="known before")
    assert tiny("train", tiny_experiment, "--output-dir", folder.path, "--keep-last", 99, TINY_SLEEP=0.02) == 0
    return folder


def test_lengthened_after_one_kill_and_before_others_equals_undisturbed(tiny, tiny_experiment, lengthened, tmp_path):
    folder = ended_at_step_20(tiny, tiny_experiment, tmp_path / "run")
    before = (folder.path / "run.json").read_bytes()
    assert set_epochs_of(tiny, folder.path, 10, tmp_path) == 0
    assert "is planned for 10 epochs from step 20 on" in tiny.output
    (record,) = folder.horizons.iterdir()
    assert {key: json.loads(record.read_text())[key] for key in ("from_step", "num_epochs")} == {"from_step": 20, "num_epochs": 10}
    for deadly in (60, 90, 120):
        tiny("train", tiny_experiment, "--output-dir", folder.path, TINY_KILL_AT=deadly)
    assert tiny("train", tiny_experiment, "--output-dir", folder.path) == 0
    assert folder.result()["generations"] > 2
    assert folder.result()["steps"] == 40
    assert outcome(folder.path) == outcome(lengthened.path)
    assert (folder.path / "run.json").read_bytes() == before


def test_the_schedule_uses_the_new_length_from_that_step_on(tiny_experiment, lengthened):
    training = load(tiny_experiment).experiment.training
    rates = {row.step: row.value for row in outcome(lengthened.path)[1] if row.name == "learning_rate"}
    expected = {step: learning_rate(training, step - 1, steps_per_epoch=4, total_steps=32 if step <= 20 else 40) for step in range(1, 41)}
    assert rates == expected
    assert rates[21] > rates[20]


def test_shorter_than_what_is_done_is_refused_and_just_as_long_ends_there(tiny, tiny_experiment, tmp_path):
    folder = ended_at_step_20(tiny, tiny_experiment, tmp_path / "run")
    with pytest.raises(UsageError, match="4 epochs are 16 steps, and the run is at step 20") as caught:
        set_epochs_here(folder, 4)
    assert caught.value.expected == "5 epochs at least"
    assert read_horizons(folder) == []
    assert set_epochs_here(folder, 5) == 20
    assert tiny("train", "--resume", folder.path) == 0
    assert folder.result()["steps"] == 20


def test_the_last_of_several_changes_counts(tiny, tiny_experiment, tmp_path):
    folder = ended_at_step_20(tiny, tiny_experiment, tmp_path / "run")
    for number in (12, 7):
        set_epochs_here(folder, number)
    assert read_horizons(folder) == [(20, 12), (20, 7)]
    assert tiny("train", "--resume", folder.path) == 0
    assert folder.result()["steps"] == 28


def test_a_finished_run_is_not_lengthened(tiny, lengthened, tmp_path):
    assert set_epochs_of(tiny, lengthened.path, 20, tmp_path) == 2
    assert "finished runs are final" in tiny.output


def test_asking_twice_with_one_key_records_once(tiny, tiny_experiment, tmp_path):
    folder = ended_at_step_20(tiny, tiny_experiment, tmp_path / "run")
    prepared = load(tiny_experiment).experiment.data.prepared_folder()
    assert [set_epochs(folder, prepared, 9, key="same") for _ in range(2)] == [20, 20]
    assert read_horizons(folder) == [(20, 9)]


def test_a_branch_of_a_lengthened_run_ends_like_it_unless_it_names_a_length(tiny, lengthened, tmp_path):
    checkpoint = Commit(1, 35).payload(lengthened)
    assert tiny("train", "--resume", checkpoint, "--output-dir", tmp_path / "branch") == 0
    assert outcome(tmp_path / "branch")[0] == outcome(lengthened.path)[0]
    assert tiny("train", "--resume", checkpoint, "--output-dir", tmp_path / "other", "--num-epochs", 9) == 0
    assert RunFolder(tmp_path / "other").result()["steps"] == 36
