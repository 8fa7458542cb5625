"""Ask the server whether this attempt still owns its activity.

An ordinary heartbeat does not tell: it is queued, throttled and, while the server is away, silently dropped. This one returns after
the server accepted it.
"""

import asyncio

from temporalio import activity
from temporalio.client import AsyncActivityCancelledError
from temporalio.service import RPCError, RPCStatusCode

RPC_TIMEOUT_S = 12.0


class LeaseLost(Exception):
    """The server gave this activity to another attempt, or forgot it."""


class WorkerStopping(Exception):
    """The worker was asked to stop before the server answered."""


async def confirmed(details: object) -> bool:
    """True if the server acknowledged this attempt, False if it can't be reached. Raises: LeaseLost."""
    handle = activity.client().get_async_activity_handle(task_token=activity.info().task_token)
    try:
        await asyncio.wait_for(handle.heartbeat(details), RPC_TIMEOUT_S)
    except AsyncActivityCancelledError:
        return True  # still ours; the cancellation arrives by the ordinary road
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise LeaseLost from error
        return False
    except TimeoutError:
        return False
    return True


async def confirm(details: object, *, pause_s: float = 1.0) -> None:
    """Wait until the server acknowledges this attempt. Raises: LeaseLost, WorkerStopping."""
    while not await confirmed(details):
        if activity.is_worker_shutdown():
            raise WorkerStopping
        activity.heartbeat(details)
        await asyncio.sleep(pause_s)
