"""How the workflow treats endings that real children show rarely: activities played by the test, on a real server."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from stage import Stage, replay
from temporalio import activity
from temporalio.client import WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from triform.durable import client as runs
from triform.durable.messages import EvaluateResult, PipelineRequest, Prepared, RunRequest, TrainResult
from triform.durable.policies import queue
from triform.durable.workflows import MLPipelineWorkflow
from triform.errors import Stopped, UsageError

pytestmark = pytest.mark.server
TRAINED = TrainResult("model", "digest", 32, 1)
Train = Callable[[], Awaitable[TrainResult]]


class Cast:
    """Plays the activities; `train` is what a test makes of training."""

    def __init__(self, train: Train, *, preemptions: int = 0) -> None:
        self.train, self.preemptions, self.evaluations = train, preemptions, 0

    @activity.defn
    async def plan_preprocess(self, _request: PipelineRequest) -> Prepared:
        return Prepared("prepared")

    @activity.defn
    async def finalize_preprocess(self, planned: Prepared) -> Prepared:
        return planned

    @activity.defn
    async def train_activity(self, _request: RunRequest) -> TrainResult:
        return await self.train()

    @activity.defn
    async def evaluate_activity(self, _request: RunRequest) -> EvaluateResult:
        self.evaluations += 1
        if self.evaluations <= self.preemptions:
            raise ApplicationError("the worker is stopping", type="TrainerPreempted", next_retry_delay=timedelta(seconds=0.01))
        return EvaluateResult({}, "report")


def workers(client: Any, prefix: str, cast: Cast) -> list[Worker]:
    throttle = {"max_heartbeat_throttle_interval": timedelta(seconds=0.2), "default_heartbeat_throttle_interval": timedelta(seconds=0.2)}
    played: dict[str, list[Any]] = {
        "cpu": [cast.plan_preprocess, cast.finalize_preprocess],
        "gpu": [cast.train_activity, cast.evaluate_activity],
    }
    made = [Worker(client, task_queue=queue(prefix, kind), activities=acts, **throttle) for kind, acts in played.items()]  # type: ignore[arg-type]
    return [*made, Worker(client, task_queue=queue(prefix, "orchestrator"), workflows=[MLPipelineWorkflow])]


async def quickly() -> TrainResult:
    return TRAINED


async def until_cancelled_then_finished() -> TrainResult:
    """A training whose last step was done when the cancellation came."""
    try:
        while True:
            activity.heartbeat()
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return TRAINED


@pytest.mark.long
async def test_workers_that_stop_do_not_use_up_the_tries_of_an_evaluation(stage: Stage) -> None:
    cast = Cast(quickly, preemptions=5)
    first, second, third = workers(await stage.server.client(), stage.request().prefix, cast)
    async with first, second, third:
        handle = await stage.start()
        assert (await runs.outcome(handle)).state_digest == "digest"
        await replay(handle)
    assert cast.evaluations == 6


async def test_a_cancellation_that_meets_the_end_of_the_training_still_cancels(stage: Stage) -> None:
    cast = Cast(until_cancelled_then_finished)
    first, second, third = workers(await stage.server.client(), stage.request().prefix, cast)
    async with first, second, third:
        handle = await stage.start()
        await training(handle)
        await handle.cancel()
        with pytest.raises(Stopped, match="was cancelled"):
            await runs.outcome(handle)
        assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
        await replay(handle)
    assert cast.evaluations == 0


async def test_a_pause_that_meets_the_end_of_the_training_is_refused_and_the_run_finishes(stage: Stage) -> None:
    client = await stage.server.client()
    first, second, third = workers(client, stage.request().prefix, Cast(until_cancelled_then_finished))
    async with first, second, third:
        handle = await stage.start()
        await training(handle)
        with pytest.raises(UsageError, match="pause was refused: the training ended before it could be interrupted"):
            await runs.steer(client, stage.identifier, "pause")
        assert (await runs.outcome(handle)).state_digest == "digest"
        await replay(handle)


async def training(handle: runs.Handle) -> None:
    """Wait until the training's activity runs."""
    while True:
        pending = (await handle.describe()).raw_description.pending_activities
        if any(one.activity_type.name == "train_activity" and one.HasField("last_started_time") and one.state == 2 for one in pending):
            return
        await asyncio.sleep(0.05)
