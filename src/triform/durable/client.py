"""Start, attach to, ask and steer the workflow of a run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, CancelledError, FailureError, TerminatedError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from triform.durable.messages import PipelineRequest, PipelineResult
from triform.durable.policies import queue
from triform.errors import BY_EXIT_CODE, ConfigConflict, RunInUse, Stopped, TriformError, UsageError

Handle = WorkflowHandle[Any, PipelineResult]


def workflow_id(run_name: str, folder: Path | None = None) -> str:
    """`ml-pipeline/<run name>`; on the user's own server the folder tells apart equal names in two places."""
    import hashlib

    suffix = "" if folder is None else f"@{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    return f"ml-pipeline/{run_name}{suffix}"


async def start_or_attach(client: Client, request: PipelineRequest, *, identifier: str, own_server: bool) -> Handle:
    """The running workflow of this name, or a new one.

    Args: own_server: names of finished runs can be used again, because there the run's folder says whether it is finished.
    Raises: ConfigConflict: the name belongs to another experiment, or to a finished run whose folder is not here.
    """
    reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE if own_server else WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
    try:
        handle: Handle = await client.start_workflow(
            "MLPipelineWorkflow",
            request,
            id=identifier,
            task_queue=queue(request.prefix, "orchestrator"),
            result_type=PipelineResult,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=reuse,
            memo={"fingerprint": request.fingerprint, "run_folder": request.run_folder, "prefix": request.prefix},
            static_summary=f"Triform run {request.run_name}",
        )
    except WorkflowAlreadyStartedError as error:
        raise ConfigConflict(
            f"The server knows a finished run named {request.run_name!r}",
            expected="a new name: finished runs are final",
            do="give another --name, or read that run's report",
        ) from error
    known = await (await handle.describe()).memo()
    if known.get("fingerprint") != request.fingerprint:
        raise ConfigConflict(
            f"A run named {request.run_name!r} with other settings is under way (folder {known.get('run_folder')})",
            expected="the settings it was started with",
            do="give this one another --name, or stop that one with `triform stop`",
        )
    return handle


async def describe(client: Client, identifier: str) -> WorkflowExecutionDescription | None:
    """The workflow as the server knows it, or None."""
    try:
        return await client.get_workflow_handle(identifier).describe(rpc_timeout=timedelta(seconds=5))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def steer(client: Client, identifier: str, update: str, arguments: Sequence[Any] = ()) -> Any:
    """Send an update and wait for its acknowledgement. Raises: UsageError: not running, or refused."""
    found = await describe(client, identifier)
    if found is None or found.status is not WorkflowExecutionStatus.RUNNING:
        raise UsageError(f"{identifier} is not running", do="start it with `triform run`")
    handle = client.get_workflow_handle(identifier)
    try:
        return await handle.execute_update(update, args=list(arguments))
    except WorkflowUpdateFailedError as error:
        raise UsageError(f"{update} was refused: {root_message(error)}") from error


async def outcome(handle: Handle) -> PipelineResult:
    """Wait for the end. Raises: the TriformError that a worker reported, with its exit code; RPCError: the server is away."""
    try:
        return await handle.result(rpc_timeout=timedelta(seconds=10))
    except WorkflowFailureError as error:
        raise as_ours(error) from error
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise TriformError(
            f"The server no longer knows {handle.id}", expected="its history", do="start the same command again: the checkpoints are kept"
        ) from error


def as_ours(error: BaseException) -> TriformError:
    """The failure of a workflow as one of our own errors."""
    kinds: dict[str, type[TriformError]] = {cls.__name__: cls for cls in (*BY_EXIT_CODE.values(), RunInUse)}
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ApplicationError) and cause.type in kinds:
            return kinds[cause.type](cause.message)
        if isinstance(cause, CancelledError | TerminatedError):
            ended = "cancelled" if isinstance(cause, CancelledError) else "terminated"
            return Stopped(f"The workflow was {ended}; its last checkpoint is kept", do="start the same command again to go on")
        cause = cause.__cause__
    return TriformError(f"The run failed: {root_message(error)}", do="read the run's logs/ folder")


def root_message(error: BaseException) -> str:
    """The innermost message."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error.message if isinstance(error, FailureError) else str(error)


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment, for the terminal."""

    stage: str
    details: dict[str, Any]
    waiting: str = ""
    """What it waits for, if it does."""
    status: str = "RUNNING"

    @property
    def closed(self) -> bool:
        return self.status != "RUNNING"


async def snapshot(client: Client, identifier: str) -> Snapshot:
    """What the server knows: the pending activity, its heartbeat, and why it waits."""
    found = await describe(client, identifier)
    if found is None:
        return Snapshot("unknown", {}, status="NOT_FOUND")
    status = found.status.name if found.status else "UNKNOWN"
    pending = list(found.raw_description.pending_activities)
    if status != "RUNNING":
        return Snapshot("done", {}, status=status)
    if not pending:
        decides = found.raw_description.HasField("pending_workflow_task")
        return Snapshot("starting", {}, "a worker") if decides else Snapshot("paused", {}, "`triform resume`")
    newest = max(pending, key=lambda item: item.scheduled_time.ToNanoseconds())
    payloads = newest.heartbeat_details.payloads
    details = json.loads(payloads[0].data) if payloads else {}
    return Snapshot(_stage(newest.activity_type.name), details or {}, _waits_for(newest), status)


def _stage(activity_type: str) -> str:
    return activity_type.removesuffix("_activity").removesuffix("_preprocess") if activity_type else ""


def _waits_for(pending: Any) -> str:
    """Why a scheduled activity is not running; empty while it runs."""
    if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED:
        return "`temporal activity unpause`"
    if pending.state != PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        return ""
    kind, text = pending.last_failure.application_failure_info.type, pending.last_failure.message
    if kind == "DiskFull":
        return f"disk space ({text})"
    if kind:
        return f"the next try after {kind}: {text}"
    return "a worker"
