"""Activities: thin doors to the pipeline, and the translation of a child's end into what the workflow should do about it."""

import asyncio
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from triform.durable.breaker import TRIES, stuck_at
from triform.durable.lease import LeaseLost, WorkerStopping, confirm
from triform.durable.messages import (
    BatchRequest,
    EpochsRequest,
    EvaluateResult,
    PipelineRequest,
    Prepared,
    RunRequest,
    TrainResult,
)
from triform.durable.policies import Policies
from triform.durable.supervisor import Child, ShuttingDown, Stalled, Watch, supervise
from triform.errors import TriformError
from triform.run.folder import Json, RunFolder, read_json

ERROR_FILE = "TRIFORM_ERROR_FILE"


def refusal(error: TriformError) -> ApplicationError:
    """An error of ours as the server keeps it."""
    return ApplicationError(str(error), type=type(error).__name__, non_retryable=not error.retryable)


async def _in_thread(work: Callable[[], Any]) -> Any:
    """Run blocking work beside the event loop, heartbeats going on; a cancellation waits for its end."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        activity.heartbeat(_stage_details())
        try:
            await asyncio.wait({task}, timeout=1.0)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    try:
        return task.result()
    except TriformError as error:
        raise refusal(error) from error


def _stage_details() -> Json:
    return {"v": 1, "stage": activity.info().activity_type}


@activity.defn
async def plan_preprocess(request: PipelineRequest) -> Prepared:
    """Found the run folder, list the source files, write the plan."""
    from triform.experiment import from_resolved
    from triform.pipeline.prepare import plan
    from triform.pipeline.train import found

    def work() -> Prepared:
        experiment = from_resolved(json.loads(request.experiment))
        found(experiment, RunFolder(Path(request.run_folder)), overrides=request.overrides)
        made = plan(experiment)
        return Prepared(prepared_dir=str(made.prepared_dir), num_batches=made.num_batches, digest=made.digest)

    planned: Prepared = await _in_thread(work)
    return planned


@activity.defn
async def preprocess_activity(request: BatchRequest) -> None:
    """Prepare one batch of samples; what a killed worker had done is not done again."""
    from triform.pipeline.prepare import prepare_batch

    await _in_thread(lambda: prepare_batch(Path(request.prepared_dir), request.index))


@activity.defn
async def finalize_preprocess(planned: Prepared) -> Prepared:
    """Check and write the manifest."""
    from triform.pipeline.prepare import finalize

    def work() -> Prepared:
        manifest = finalize(Path(planned.prepared_dir), num_batches=planned.num_batches)
        return Prepared(
            prepared_dir=planned.prepared_dir,
            num_batches=planned.num_batches,
            digest=manifest.digest,
            num_samples=manifest.num_samples,
            quarantined=len(manifest.quarantined),
        )

    finished: Prepared = await _in_thread(work)
    return finished


@activity.defn
async def set_epochs_activity(request: EpochsRequest) -> int:
    """Record a new length from the newest commit on; returns its step."""
    from triform.pipeline.lengthen import set_epochs

    step: int = await _in_thread(
        lambda: set_epochs(RunFolder(Path(request.run_folder)), Path(request.prepared_dir), request.num_epochs, key=request.key)
    )
    return step


@activity.defn
async def conclude_activity(request: RunRequest) -> TrainResult:
    """Make the newest commit the final one."""
    from triform.pipeline.train import conclude

    return _trained(await _in_thread(lambda: conclude(RunFolder(Path(request.run_folder)))))


@activity.defn
async def train_activity(request: RunRequest) -> TrainResult:
    """Train in a child process to the end of the run.

    A finished run's result comes back at once: a result that was ready while the server was away is lost and asked for again.
    """
    folder = RunFolder(Path(request.run_folder))
    while folder.result() is None:
        await _own(folder, request.policies)
        _require_hope(folder)
        command = ["train", "--resume", str(folder.path), "--prepared-dir", request.prepared_dir]
        command += ["--backend", request.backend] if request.backend else []
        await _child(folder, command, request.policies, take_over=True)
    await _own(folder, request.policies)
    return _trained(folder.result() or {})


@activity.defn
async def evaluate_activity(request: RunRequest) -> EvaluateResult:
    """Evaluate the final model and write the report, each in a child process."""
    folder = RunFolder(Path(request.run_folder))
    for verb in ("evaluate", "report"):
        await _child(folder, [verb, str(folder.path), "--prepared-dir", request.prepared_dir], request.policies)
    metrics = read_json(folder.evaluation / "metrics.json") or {}
    await _own(folder, request.policies)
    return EvaluateResult(metrics=metrics.get("headline", {}), report_path=str(folder.report))


ALL_CPU = [plan_preprocess, preprocess_activity, finalize_preprocess, set_epochs_activity, conclude_activity]
ALL_GPU = [train_activity, evaluate_activity]


def _trained(result: Json) -> TrainResult:
    return TrainResult(**{name: result[name] for name in ("model_path", "state_digest", "steps", "generations")})


async def _own(folder: RunFolder, policies: Policies) -> None:
    """Raises: ApplicationError: the worker is stopping, or another attempt has this activity and nobody will read this."""
    try:
        await confirm(heartbeat_details(folder))
    except LeaseLost as error:
        raise ApplicationError("another attempt owns this activity", type="LostOwnership") from error
    except WorkerStopping as error:
        raise _again("TrainerPreempted", "the worker is stopping", policies.preempted_retry, quiet=True) from error


def _workflow() -> str:
    """What a trainer's claim says of who asked for it."""
    return f"{activity.info().workflow_id} {activity.info().workflow_run_id}"


def _require_hope(folder: RunFolder) -> None:
    """Raises: ApplicationError: the last trainers all died on the way from one and the same checkpoint."""
    if (step := stuck_at(folder, _workflow())) is not None:
        text = f"{TRIES} trainers in a row went on from step {step} and died before the next checkpoint"
        raise ApplicationError(text, type="NoProgress", non_retryable=True)


def heartbeat_details(folder: RunFolder) -> Json:
    """The newest status in less than a kibibyte, for people and the status command; never for resuming."""
    from triform.run.status import read_status

    status = read_status(folder) or {}
    names = (
        "generation",
        "epoch",
        "epochs",
        "step",
        "steps",
        "loss",
        "monitor",
        "best",
        "samples_per_second",
        "seconds_left",
        "checkpoint",
    )
    return {
        "v": 1,
        "stage": activity.info().activity_type.removesuffix("_activity"),
        **{name: status[name] for name in (*names, "host", "pid", "time") if name in status},
    }


@dataclass(frozen=True)
class _Ending:
    """How a child ended."""

    code: int
    error: Json


async def _child(folder: RunFolder, command: list[str], policies: Policies, *, take_over: bool = False) -> None:
    """Run a verb in a child process. Returns when it ends well; raises what the workflow should know otherwise."""
    info = activity.info()
    with tempfile.TemporaryDirectory(prefix="triform-") as place:
        error_file = Path(place) / "error.json"
        environment = {
            ERROR_FILE: str(error_file),
            "TRIFORM_WORKFLOW": _workflow(),
            "TRIFORM_ATTEMPT": str(info.attempt),
            **({"TRIFORM_TAKE_OVER_AFTER_S": str(policies.stop_grace)} if take_over else {}),
        }
        child = await Child.start(command, environment, folder.path / "logs" / f"{command[0]}.log")
        watch = _watch(folder, policies, watch_steps=command[0] == "train")
        try:
            code = await supervise(child, watch)
        except ShuttingDown as error:
            raise _again("TrainerPreempted", "the worker is stopping", policies.preempted_retry, quiet=True) from error
        except Stalled as error:
            raise _again("TrainerStalled", f"no step for {policies.stall:.0f} s", policies.crashed_retry) from error
        if code:
            raise translated(_Ending(code, read_json(error_file) or {}), policies)


def _watch(folder: RunFolder, policies: Policies, *, watch_steps: bool) -> Watch:
    def progress() -> object:
        details = heartbeat_details(folder)
        return (details.get("generation"), details.get("step")) if watch_steps else object()

    return Watch(
        beat=lambda: activity.heartbeat(heartbeat_details(folder)),
        progress=progress,
        shutdown=lambda: asyncio.ensure_future(activity.wait_for_worker_shutdown()),
        beat_s=policies.beat,
        grace_s=policies.stop_grace,
        stall_s=policies.stall,
    )


def translated(ending: _Ending, policies: Policies) -> ApplicationError:
    """A child's exit code and last words as an error with the right retry."""
    kind, text = ending.error.get("kind", ""), ending.error.get("text", "")
    if ending.code == 75:
        return _again("TrainerPreempted", text or "stopped with a checkpoint", policies.preempted_retry, quiet=True)
    if ending.code == 74:
        return _again("DiskFull", text, policies.disk_retry)
    if ending.code == 76:  # the server asks us, so a later owner is gone or a stray
        return _again("LostOwnership", text, policies.crashed_retry)
    if ending.code < 0:
        return _again("TrainerKilled", f"killed by signal {-ending.code}", policies.killed_retry)
    if kind:
        return ApplicationError(text, type=kind, non_retryable=not ending.error.get("retryable", False))
    return _again(
        "TrainerCrashed", f"exit code {ending.code}, {text or 'without a word'}; see the run's logs/ folder", policies.crashed_retry
    )


def _again(kind: str, text: str, delay_s: float, *, quiet: bool = False) -> ApplicationError:
    category = ApplicationErrorCategory.BENIGN if quiet else ApplicationErrorCategory.UNSPECIFIED
    return ApplicationError(text, type=kind, next_retry_delay=timedelta(seconds=delay_s), category=category)
