"""Workers and trainers die in every way; the finished model and its history are the same, bit for bit."""

import json
import signal
from dataclasses import replace

import pytest
from stage import EVERY, STEPS, Outcome, Stage, until

from triform.run.commit import commits

pytestmark = pytest.mark.server


async def test_a_killed_trainer_is_started_again_from_its_last_commit(stage: Stage, undisturbed: Outcome) -> None:
    stage.worker(pace=0.1)
    await stage.start()
    trainer = await stage.at_step(12)
    trainer.send_signal(signal.SIGKILL)
    await until(lambda: stage.generations == 2)
    assert await stage.trained() == undisturbed
    assert STEPS < len(stage.steps) <= STEPS + 2 * EVERY, "a commit may be skipped while the one before is written"


@pytest.mark.long
async def test_a_killed_workers_trainer_commits_and_exits_and_the_next_worker_goes_on(stage: Stage, undisturbed: Outcome) -> None:
    stage.worker(pace=0.1)
    await stage.start()
    trainer = await stage.at_step(12)
    stage.workers[0].kill()
    await until(lambda: not trainer.is_running())
    stage.worker()
    assert await stage.trained() == undisturbed
    assert stage.generations == 2
    assert [done.step for done in stage.steps] == list(range(STEPS)), "no step is repeated"


@pytest.mark.long
async def test_worker_and_trainer_killed_together_cost_a_checkpoint_period_at_most(stage: Stage, undisturbed: Outcome) -> None:
    await kill_worker_and_trainer(stage)
    stage.worker()
    assert await stage.trained() == undisturbed
    assert stage.generations == 2
    assert len(stage.steps) <= STEPS + 2 * EVERY


@pytest.mark.long
async def test_a_torn_newest_checkpoint_is_passed_over(stage: Stage, undisturbed: Outcome) -> None:
    await kill_worker_and_trainer(stage)
    newest, before = commits(stage.folder)[:2]
    data = newest.payload(stage.folder).read_bytes()
    newest.payload(stage.folder).write_bytes(data[: len(data) // 2])
    stage.worker()
    assert await stage.trained() == undisturbed
    claim = json.loads(stage.folder.claim(2).read_text())
    assert claim["base"]["step"] == before.step
    assert newest.name in claim["warnings"][0]["text"]


async def kill_worker_and_trainer(stage: Stage) -> None:
    worker = stage.worker(pace=0.1)
    await stage.start()
    trainer = await stage.at_step(12)
    await until(lambda: len(commits(stage.folder)) >= 2)
    worker.send(signal.SIGKILL)
    trainer.send_signal(signal.SIGKILL)
    worker.process.wait()
    await until(lambda: not trainer.is_running())


async def test_a_worker_asked_to_stop_hands_its_training_to_the_next_without_repeating_a_step(stage: Stage, undisturbed: Outcome) -> None:
    first, second = stage.worker("gpu", pace=0.1), None
    stage.worker("cpu")
    await stage.start()
    await stage.at_step(8)
    second = stage.worker("gpu")
    first.send(signal.SIGTERM)
    assert await until(lambda: first.process.poll() is not None) is True
    assert first.process.returncode == 0
    assert await stage.trained() == undisturbed
    assert second.process.poll() is None
    assert stage.generations == 2
    assert [done.step for done in stage.steps] == list(range(STEPS))


@pytest.mark.long
async def test_a_trainer_stuck_in_a_step_is_killed_after_the_grace_and_its_worker_ends(stage: Stage, undisturbed: Outcome) -> None:
    stage.policies = replace(stage.policies, stop_grace=1.0)
    worker = stage.worker(pace=0.1)
    await stage.start()
    await stage.at_step(8)
    stage.pace(600.0)
    await until(lambda: stage.steps[-1].seconds == 600.0)
    worker.send(signal.SIGTERM)
    await until(lambda: worker.process.poll() is not None, seconds=20)
    assert worker.process.returncode == 0
    assert stage.trainer() is None
    stage.pace(0.0)
    stage.worker()
    assert await stage.trained() == undisturbed
