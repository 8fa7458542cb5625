"""The server dies and comes back: a short absence is not noticed, a long one costs a generation, and nothing is trained twice."""

import asyncio
import json

import pytest
from stage import STEPS, Outcome, Stage, until

from triform.durable import client as runs

pytestmark = pytest.mark.server


async def test_a_short_absence_goes_unnoticed_by_the_trainer(stage: Stage, undisturbed: Outcome) -> None:
    stage.worker(pace=0.1)
    await stage.start()
    trainer = await stage.at_step(6)
    stage.server.kill()
    await stage.at_step(16)
    stage.server.start()
    assert await stage.trained() == undisturbed
    assert {done.process for done in stage.steps} == {trainer.pid}
    assert stage.generations == 1
    assert json.loads(stage.folder.claim(1).read_text())["asked_by"]["attempt"] == "1"


@pytest.mark.long
async def test_after_a_long_absence_the_old_attempt_commits_and_the_next_goes_on(stage: Stage, undisturbed: Outcome) -> None:
    stage.worker(pace=0.5)
    await stage.start()
    trainer = await stage.at_step(6)
    stage.server.kill()
    await stage.at_step(stage.steps[-1].step + 8)  # 4 s at least: longer than the heartbeat timeout
    stage.server.start()
    await until(lambda: not trainer.is_running())
    assert await stage.trained() == undisturbed
    assert stage.generations == 2
    assert json.loads(stage.folder.claim(2).read_text())["asked_by"]["attempt"] == "2"
    assert [done.step for done in stage.steps] == list(range(STEPS)), "one writer after the other, and no step is repeated"


@pytest.mark.long
async def test_a_training_that_ended_while_the_server_was_away_is_not_trained_again(stage: Stage, undisturbed: Outcome) -> None:
    stage.worker(pace=0.1)
    handle = await stage.start()
    await stage.at_step(6)
    stage.server.kill()
    assert await stage.trained() == undisturbed
    await asyncio.sleep(stage.policies.heartbeat_timeout + 1.0)  # the absence itself
    stage.server.start()
    result = await runs.outcome(handle)
    assert result.state_digest == undisturbed[0]
    assert stage.generations == result.generations == 1
    assert len(stage.steps) == STEPS
    history = await handle.fetch_history()
    started = [
        event.activity_task_started_event_attributes for event in history.events if event.HasField("activity_task_started_event_attributes")
    ]
    assert 2 in {attempt.attempt for attempt in started}
