"""The checkpoint thread: copies at once, skips when busy, never loses an error."""

import threading
import time

import numpy as np
import pytest

from triform.errors import DiskFull
from triform.training.checkpoint import Checkpointer
from triform.training.config import Checkpoints


def state(value):
    return {"w": np.full(4, value)}


def test_the_snapshot_is_a_copy_of_the_moment():
    seen = []
    gate = threading.Event()

    def commit(step, arrays, meta):
        gate.wait(5)
        seen.append((step, arrays["w"].copy(), meta))

    keeper = Checkpointer(commit, Checkpoints(), step=0)
    live = state(1.0)
    keeper.offer(1, live, {"n": 1})
    live["w"][:] = 2.0
    gate.set()
    keeper.close()
    assert seen[0][0] == 1
    assert np.array_equal(seen[0][1], np.full(4, 1.0))


def test_one_that_comes_due_while_busy_is_skipped_and_logged_and_the_final_one_waits(caplog):
    seen = []
    gate = threading.Event()

    def commit(step, arrays, meta):
        gate.wait(5)
        seen.append(step)

    keeper = Checkpointer(commit, Checkpoints(), step=0)
    keeper.offer(1, state(1.0), {})
    keeper.offer(2, state(2.0), {})
    assert "step 2 skipped" in caplog.text
    threading.Timer(0.1, gate.set).start()
    keeper.commit_now(3, state(3.0), {})
    keeper.close()
    assert seen == [1, 3]


def test_an_error_of_the_thread_reaches_the_loop():
    def commit(step, arrays, meta):
        raise DiskFull("full")

    keeper = Checkpointer(commit, Checkpoints(), step=0)
    keeper.offer(1, state(1.0), {})
    deadline = time.monotonic() + 5
    with pytest.raises(DiskFull):
        while time.monotonic() < deadline:
            keeper.check()
    keeper.close()


def test_due_by_steps_and_by_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    keeper = Checkpointer(lambda *_: None, Checkpoints(every_steps=5, every_seconds=60.0), step=10)
    assert not keeper.due(14)
    assert keeper.due(15)
    now[0] += 61
    assert keeper.due(11)
    keeper.close()
