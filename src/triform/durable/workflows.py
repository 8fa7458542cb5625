"""The pipeline as a workflow: it decides, activities do."""

import asyncio
import json
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from triform.durable.messages import (
        BatchRequest,
        Desired,
        EpochsRequest,
        EvaluateResult,
        PipelineRequest,
        PipelineResult,
        Prepared,
        RunRequest,
        TrainResult,
        View,
    )
    from triform.durable.policies import Policies, queue

FEW = RetryPolicy(initial_interval=timedelta(seconds=2), maximum_interval=timedelta(seconds=60), maximum_attempts=5)


@workflow.defn
class MLPipelineWorkflow:
    """prepare -> train -> evaluate and report. Pause, resume, stop and a new length are one primitive: cancel the training, wait for
    its acknowledged checkpoint, and go on."""

    def __init__(self) -> None:
        self._stage, self._desired, self._segments = "waiting", Desired.RUN, 0
        self._done_batches, self._num_batches = 0, 0
        self._train: workflow.ActivityHandle[TrainResult] | None = None
        self._interrupted = self._trained = False
        self._changing = 0
        self._prepared: Prepared | None = None
        self._request: PipelineRequest | None = None

    @workflow.run
    async def run(self, request: PipelineRequest) -> PipelineResult:
        self._request = request
        self._prepared = prepared = await self._preprocess(request)
        trained = await self._training(request, prepared)
        if workflow.cancellation_reason() is not None:  # it came as the training ended, whose result then hid it
            raise asyncio.CancelledError
        evaluated = await self._evaluate(request, prepared)
        self._stage = "done"
        await workflow.wait_condition(workflow.all_handlers_finished)
        return PipelineResult(
            model_path=trained.model_path,
            metrics=evaluated.metrics,
            dataset_digest=prepared.digest,
            quarantined=prepared.quarantined,
            generations=trained.generations,
            state_digest=trained.state_digest,
            report_path=evaluated.report_path,
        )

    async def _preprocess(self, request: PipelineRequest) -> Prepared:
        self._stage = "preprocess"
        planned: Prepared = await self._cpu("plan_preprocess", request, Prepared, request.policies)
        self._num_batches = planned.num_batches
        slots = asyncio.Semaphore(request.max_parallel)

        async def batch(index: int) -> None:
            async with slots:
                await self._cpu("preprocess_activity", BatchRequest(planned.prepared_dir, index), None, request.policies)
            self._done_batches += 1

        await asyncio.gather(*(batch(index) for index in range(planned.num_batches)))
        finished: Prepared = await self._cpu("finalize_preprocess", planned, Prepared, request.policies)
        return finished

    async def _cpu(self, name: str, argument: Any, result_type: type[Any] | None, policies: Policies) -> Any:
        return await workflow.execute_activity(
            name,
            argument,
            task_queue=queue(self._asked().prefix, "cpu"),
            result_type=result_type,
            start_to_close_timeout=timedelta(seconds=policies.batch_timeout),
            heartbeat_timeout=timedelta(seconds=policies.heartbeat_timeout),
            retry_policy=FEW,
        )

    async def _training(self, request: PipelineRequest, prepared: Prepared) -> TrainResult:
        """Segments of training, between which the user may pause, stop or change the length."""
        backend = json.loads(request.experiment).get("backend", "")
        argument = RunRequest(request.run_folder, prepared.prepared_dir, request.policies, backend=backend)
        while True:
            self._stage = "paused" if self._desired is Desired.PAUSE else "train"
            await workflow.wait_condition(lambda: self._desired is not Desired.PAUSE and not self._changing)
            if self._desired is Desired.STOP:
                self._stage = "conclude"
                concluded: TrainResult = await self._cpu("conclude_activity", argument, TrainResult, request.policies)
                return concluded
            self._stage, self._interrupted = "train", False
            self._segments += 1
            self._train = self._start_training(request, argument)
            try:
                result = await self._train
                self._trained = True
                return result
            except ActivityError as error:
                # A worker lost while it stopped surfaces as its own failure: the server does not retry a cancelled activity.
                if not (is_cancelled_exception(error) or _was_cancelling(error)):
                    raise
                if workflow.cancellation_reason() is not None:
                    raise asyncio.CancelledError from error
                if not self._interrupted:
                    raise
            finally:
                self._train = None

    def _start_training(self, request: PipelineRequest, argument: RunRequest) -> "workflow.ActivityHandle[TrainResult]":
        policies, wait = request.policies, timedelta(seconds=request.policies.retry)
        return workflow.start_activity(
            "train_activity",
            argument,
            task_queue=queue(request.prefix, "gpu"),
            result_type=TrainResult,
            start_to_close_timeout=timedelta(seconds=policies.train_timeout),
            heartbeat_timeout=timedelta(seconds=policies.heartbeat_timeout),
            # Stops and preemptions burn attempts, so their number is not limited; errors that trying can't help are not retried.
            retry_policy=RetryPolicy(initial_interval=wait, maximum_interval=wait, backoff_coefficient=1.0, maximum_attempts=0),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )

    async def _evaluate(self, request: PipelineRequest, prepared: Prepared) -> EvaluateResult:
        self._stage = "evaluate"
        while True:
            try:
                evaluated: EvaluateResult = await workflow.execute_activity(
                    "evaluate_activity",
                    RunRequest(request.run_folder, prepared.prepared_dir, request.policies),
                    task_queue=queue(request.prefix, "gpu"),
                    result_type=EvaluateResult,
                    start_to_close_timeout=timedelta(seconds=request.policies.evaluate_timeout),
                    heartbeat_timeout=timedelta(seconds=request.policies.heartbeat_timeout),
                    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=request.policies.retry), maximum_attempts=5),
                )
                return evaluated
            except ActivityError as error:
                if not _was_preempted(error):  # workers that stopped burn attempts too, and say nothing of the evaluation
                    raise

    async def _interrupt(self) -> None:
        """Stop the running segment, if any, and wait until its checkpoint is acknowledged. Raises: ApplicationError: it came too late."""
        handle = self._train
        if handle is not None:
            self._interrupted = True
            handle.cancel()
            await workflow.wait_condition(lambda: self._train is not handle)
        if self._trained:
            raise ApplicationError("the training ended before it could be interrupted", type="TooLate")

    @workflow.update
    async def pause(self) -> View:
        """Commit a checkpoint and hold the training."""
        self._desired = Desired.PAUSE
        await self._interrupt()
        return self.view()

    @workflow.update
    async def resume(self) -> View:
        """Go on after `pause`."""
        self._desired = Desired.RUN
        return self.view()

    @workflow.update
    async def stop(self) -> View:
        """End the training here and evaluate what is there."""
        self._desired = Desired.STOP
        await self._interrupt()
        return self.view()

    @workflow.update
    async def set_epochs(self, num_epochs: int) -> int:
        """Change the run's length; returns the step from which it holds."""
        prepared, request = self._prepared, self._asked()
        if prepared is None:
            raise ApplicationError("the data is still being prepared: try again once training has begun", type="TooEarly")
        self._changing += 1
        try:
            await self._interrupt()
            argument = EpochsRequest(request.run_folder, prepared.prepared_dir, num_epochs, workflow.uuid4().hex)
            step: int = await self._cpu("set_epochs_activity", argument, int, request.policies)
            return step
        finally:
            self._changing -= 1

    @pause.validator
    def _may_pause(self) -> None:
        self._require_open()

    @resume.validator
    def _may_resume(self) -> None:
        self._require_open()

    @stop.validator
    def _may_stop(self) -> None:
        self._require_open()

    @set_epochs.validator
    def _may_set_epochs(self, num_epochs: int) -> None:
        self._require_open()
        if num_epochs < 1:
            raise ApplicationError(f"got {num_epochs} epochs, expected one at least", type="BadRequest")

    @workflow.query
    def view(self) -> View:
        """Stage, what is wanted, and how far preprocessing is."""
        return View(self._stage, self._desired, self._segments, self._done_batches, self._num_batches)

    def _require_open(self) -> None:
        if self._stage in {"conclude", "evaluate", "done"}:
            raise ApplicationError(f"training is over (stage: {self._stage})", type="TooLate")

    def _asked(self) -> PipelineRequest:
        assert self._request is not None, "handlers run after the first line of run()"
        return self._request


def _was_cancelling(error: ActivityError) -> bool:
    return error.retry_state is not None and error.retry_state.name == "CANCEL_REQUESTED"


def _was_preempted(error: ActivityError) -> bool:
    return isinstance(error.cause, ApplicationError) and error.cause.type == "TrainerPreempted"
