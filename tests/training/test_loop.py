"""The loop by itself, with a backend that counts: order of things, what a commit holds, how it ends."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from triform.data import order
from triform.data.loader import load
from triform.errors import DataError, DiskFull, Diverged, Stopped
from triform.training.checkpoint import Checkpointer
from triform.training.config import Checkpoints, Training
from triform.training.early_stopping import Best
from triform.training.loop import Loop, Plan, Progress

NEVER = Checkpoints(every_seconds=1e9)


class Counter:
    """A backend whose only weight is the sum of the batches it saw."""

    def __init__(self):
        self.arrays = {"model/sum": np.zeros(1), "m/sum": np.zeros(1)}
        self.seen = []
        self.bad_at = None

    def train_step(self, batch, step, lr):
        self.seen.append((step, float(batch["x"]), lr))
        self.arrays["model/sum"] += batch["x"]
        return {"loss": math.nan if step == self.bad_at else 1.0 / (step + 1)}

    def predict(self, batch):
        return batch

    def state(self):
        return dict(self.arrays)

    def load_state(self, state):
        self.arrays = {name: np.array(array) for name, array in state.items()}

    def close(self):
        pass


class Recorder:
    """Keeps what a run told: rows, commits, observations."""

    def __init__(self):
        self.rows, self.commits, self.heard = [], [], []

    def record(self, step, split, values):
        self.rows.append((step, split, dict(values)))

    def commit(self, step, state, meta):
        self.commits.append((step, {name: np.array(array) for name, array in state.items()}, meta))

    def on_step(self, progress, scalars, lr):
        self.heard.append(("step", progress.step))

    def on_validation(self, progress, metrics):
        self.heard.append(("validation", progress.step))


def make(recorder, *, total=12, validation=lambda: 1.0, stop=lambda: None, checkpoints=NEVER, higher=False, **settings):
    backend = Counter()
    plan = Plan(
        settings=Training(checkpoints=checkpoints, **settings),
        monitor="error",
        higher_is_better=higher,
        steps_per_epoch=4,
        total_steps=total,
        rate=lambda step: 0.1 * step,
        batches=lambda first, last: ({"x": np.float64(step)} for step in range(first, last)),
        validate=lambda: {"error": validation()},
        record=recorder.record,
        stop_requested=stop,
    )
    checkpointer = Checkpointer(recorder.commit, checkpoints, step=0)
    return Loop(plan, backend, checkpointer, (recorder,), lambda: {"rows": len(recorder.rows)}), backend


def test_each_step_gets_its_own_batch_and_rate_and_the_end_is_committed_once():
    recorder = Recorder()
    loop, backend = make(recorder)
    assert loop.run() == Progress(12, Best(1.0, 4, 2))
    assert backend.seen == [(step, float(step), 0.1 * step) for step in range(12)]
    assert [commit[0] for commit in recorder.commits] == [12]


def test_rows_come_at_log_interval_and_validations_at_epochs():
    recorder = Recorder()
    make(recorder, log_interval=3, validate_every=2)[0].run()
    assert [(step, split) for step, split, _ in recorder.rows] == [
        (3, "train"),
        (6, "train"),
        (8, "val"),
        (9, "train"),
        (12, "train"),
        (12, "val"),
    ]
    assert recorder.rows[0][2] == {"loss": pytest.approx(1 / 3), "learning_rate": pytest.approx(0.2)}


def test_observers_hear_a_validation_before_its_step():
    recorder = Recorder()
    make(recorder, total=4)[0].run()
    assert recorder.heard == [("step", 1), ("step", 2), ("step", 3), ("validation", 4), ("step", 4)]


def test_the_best_model_is_a_copy_of_its_own_step():
    recorder, values = Recorder(), iter([3.0, 1.0, 2.0])
    loop, _ = make(recorder, validation=lambda: next(values))
    progress = loop.run()
    assert (progress.best.value, progress.best.step) == (1.0, 8)
    _, state, meta = recorder.commits[-1]
    assert state["best/sum"] == sum(range(8))
    assert state["model/sum"] == sum(range(12))
    assert meta["progress"]["best"] == {"value": 1.0, "step": 8, "validations_since": 1}


def test_patience_ends_a_run_and_a_second_start_does_nothing():
    recorder, values = Recorder(), iter([2.0, 1.0, 1.0, 1.5])
    loop, backend = make(recorder, total=40, validation=lambda: next(values), patience=2)
    progress = loop.run()
    assert (progress.step, progress.finished_early) == (16, True)
    again, untouched = make(Recorder(), total=40, patience=2)
    again.load(loop.state(), progress)
    assert again.run() == progress
    assert untouched.seen == []
    assert len(backend.seen) == 16


@pytest.mark.parametrize("stop_at", range(1, 12))
def test_stopped_and_loaded_equals_straight(stop_at):
    """A stop after any step, a load in a new loop: same batches, same best, same end."""
    straight, values = Recorder(), [3.0, 1.0, 2.0]
    loop, _ = make(straight, validation=iter(values).__next__)
    end = loop.run()

    first, count = Recorder(), iter(range(1, 99))
    stopped, _ = make(first, validation=iter(values).__next__, stop=lambda: "asked" if next(count) == stop_at else None)
    with pytest.raises(Stopped, match=f"Stopped at step {stop_at} "):
        stopped.run()
    (step, state, meta), second = first.commits[-1], Recorder()
    assert (step, meta["rows"]) == (stop_at, len(first.rows))
    resumed, _ = make(second, validation=iter(values[stop_at // 4 :]).__next__)
    resumed.load(state, Progress.from_json(meta["progress"]))
    assert resumed.run() == end
    assert first.rows + second.rows == straight.rows
    assert {name: array.tobytes() for name, array in resumed.state().items()} == {
        name: array.tobytes() for name, array in loop.state().items()
    }


def test_a_number_that_is_not_finite_is_neither_recorded_nor_committed():
    recorder = Recorder()
    loop, backend = make(recorder, checkpoints=Checkpoints(every_steps=2, every_seconds=1e9))
    backend.bad_at = 5
    with pytest.raises(Diverged, match="Step 6 gave loss = nan"):
        loop.run()
    loop.checkpointer.close()
    assert max(step for step, _, _ in recorder.rows) == 5
    assert max(step for step, _, _ in recorder.commits) == 4


def test_a_validation_that_is_not_finite_ends_the_run():
    recorder = Recorder()
    loop, _ = make(recorder, validation=lambda: math.inf)
    with pytest.raises(Diverged, match="error = inf"):
        loop.run()
    assert recorder.commits == []


def test_a_validation_without_the_monitored_metric_ends_the_run_and_says_so():
    loop, _ = make(Recorder())
    loop.plan = replace(loop.plan, monitor="eer", validate=lambda: {"rank_1": 1.0})
    with pytest.raises(DataError, match="gives no eer, only rank_1"):
        loop.run()


def test_a_commit_that_failed_ends_the_run_with_its_error():
    recorder = Recorder()
    loop, _ = make(recorder, checkpoints=Checkpoints(every_steps=2, every_seconds=1e9))

    def refuse(step, _state, _meta):
        raise DiskFull(f"full at {step}")

    loop.checkpointer = Checkpointer(refuse, Checkpoints(every_steps=2, every_seconds=1e9), step=0)
    with pytest.raises(DiskFull, match="full at 2"):
        loop.run()


@pytest.mark.parametrize("step", [0, 10**9])
def test_seeking_costs_the_same_at_any_step(monkeypatch, step):
    """One permutation for the next batch, however far the run is; no step before it is visited."""
    calls = []
    monkeypatch.setattr(order, "epoch_order", lambda *arguments: calls.append(arguments) or np.arange(10))
    batches = load(lambda number: order.batch_indices(0, number, num_samples=10, batch_size=5), step, step + 3, workers=0)
    epoch, indices = next(batches)
    assert len(calls) == 1
    assert (epoch, list(indices)) == (step // 2, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_loader_looks_only_a_little_ahead(workers):
    made = []
    batches = load(lambda number: made.append(number) or number, 7, 10**9, workers=workers)
    assert [next(batches) for _ in range(3)] == [7, 8, 9]
    batches.close()
    assert all(after - before == 1 for before, after in pairwise(sorted(made)))
    assert max(made) <= 9 + 2 * workers


@pytest.mark.parametrize(("higher", "best"), [(False, [8, 16]), (True, [12, 4])])
def test_the_best_validations_are_committed_at_once_and_remembered(higher, best):
    recorder, values = Recorder(), iter([5.0, 1.0, 9.0, 2.0])
    checkpoints = Checkpoints(every_seconds=1e9, keep_best_n=2)
    loop, _ = make(recorder, total=16, validation=lambda: next(values), checkpoints=checkpoints, higher=higher)
    assert loop.run().best.step == best[0]
    assert [step for _, step in loop.leaders] == best
    assert set(best) <= {step for step, _, _ in recorder.commits}
    assert recorder.commits[-1][2]["leaders"] == loop.leaders


def test_epochs_named_by_save_frequency_are_committed():
    recorder = Recorder()
    loop, _ = make(recorder, total=20, checkpoints=Checkpoints(every_seconds=1e9, save_frequency=2))
    loop.run()
    assert [step for step, _, _ in recorder.commits] == [8, 16, 20]
