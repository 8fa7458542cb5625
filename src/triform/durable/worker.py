"""A worker: takes workflow and activity tasks from its queues until it is asked to stop."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Literal

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from triform.durable.activities import ALL_CPU, ALL_GPU
from triform.durable.policies import Policies, queue
from triform.durable.workflows import MLPipelineWorkflow
from triform.training.stopping import LIVENESS_FD

STICKY_S = 2.0
"""How long the server waits for the worker that knows a workflow already; with the default a killed worker costs ten seconds."""

Kind = Literal["cpu", "gpu", "all"]


def workers(client: Client, kind: Kind, *, prefix: str, policies: Policies) -> Sequence[Worker]:
    """The workers of a process: workflows and preprocessing for `cpu`, one training at a time for `gpu`."""
    shared = {
        "identity": f"{socket.gethostname()}:{os.getpid()}",
        "graceful_shutdown_timeout": timedelta(seconds=policies.graceful_shutdown),
        "max_heartbeat_throttle_interval": timedelta(seconds=policies.throttle),
        "default_heartbeat_throttle_interval": timedelta(seconds=policies.throttle),
    }
    made = []
    if kind in {"cpu", "all"}:
        made.append(
            Worker(
                client,
                task_queue=queue(prefix, "orchestrator"),
                workflows=[MLPipelineWorkflow],
                sticky_queue_schedule_to_start_timeout=timedelta(seconds=STICKY_S),
                **shared,  # type: ignore[arg-type]
            )
        )
        made.append(Worker(client, task_queue=queue(prefix, "cpu"), activities=ALL_CPU, **shared))  # type: ignore[arg-type]
    if kind in {"gpu", "all"}:
        made.append(Worker(client, task_queue=queue(prefix, "gpu"), activities=ALL_GPU, max_concurrent_activities=1, **shared))  # type: ignore[arg-type]
    return made


async def serve(client: Client, kind: Kind, *, prefix: str, policies: Policies, until_closed: str | None = None) -> None:
    """Work until SIGTERM, SIGINT, the end of the process that started this one, or the end of workflow `until_closed`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watchers = [asyncio.ensure_future(_watch_parent(stop))] if LIVENESS_FD in os.environ else []
    if until_closed is not None:
        watchers.append(asyncio.ensure_future(_watch_workflow(client, until_closed, stop)))
    async with AsyncExitStack() as stack:
        for worker in workers(client, kind, prefix=prefix, policies=policies):
            await stack.enter_async_context(worker)
        await stop.wait()
    for watcher in watchers:
        watcher.cancel()


async def _watch_parent(stop: asyncio.Event) -> None:
    """The pipe's other end closes when the parent dies; nobody writes to it."""
    descriptor = int(os.environ.pop(LIVENESS_FD))
    os.set_blocking(descriptor, False)
    asyncio.get_running_loop().add_reader(descriptor, stop.set)
    await stop.wait()


async def _watch_workflow(client: Client, workflow_id: str, stop: asyncio.Event) -> None:
    """Ask now and then: a long poll would fail with each restart of the server."""
    while True:
        await asyncio.sleep(1.0)
        with contextlib.suppress(RPCError, RuntimeError, asyncio.TimeoutError):
            if await _closed(client, workflow_id):
                stop.set()
                return


async def _closed(client: Client, workflow_id: str) -> bool:
    try:
        described = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=timedelta(seconds=5))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return True
        raise
    return described.status is not WorkflowExecutionStatus.RUNNING
