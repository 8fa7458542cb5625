"""A child process of an activity: started, watched, and stopped in steps.

Training runs in a process of its own because a thread can't be stopped inside a C call, a CUDA fault or an out-of-memory kill would
take the worker along, and a worker that dies must not take a checkpoint with it.
"""

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triform.training.stopping import LIVENESS_FD

Beat = Callable[[], None]


def triform_command() -> list[str]:
    """How a child is started: this interpreter, this package; `TRIFORM_COMMAND` names another program in its place."""
    named = os.environ.get("TRIFORM_COMMAND")
    return shlex.split(named) if named else [sys.executable, "-m", "triform"]


class Stalled(Exception):
    """The child made no progress for too long and was stopped."""


class ShuttingDown(Exception):
    """The worker was asked to stop, and the child has stopped."""


@dataclass
class Child:
    """A running child and the pipe whose end tells it that we are gone."""

    process: asyncio.subprocess.Process
    liveness: int

    @staticmethod
    async def start(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> "Child":
        """Start `triform ARGUMENTS` in a session of its own, its output appended to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        read_end, write_end = os.pipe()
        os.set_inheritable(read_end, True)
        try:
            with log.open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *triform_command(),
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **environment, LIVENESS_FD: str(read_end)},
                    pass_fds=(read_end,),
                    start_new_session=True,
                )
        finally:
            os.close(read_end)
        return Child(process, write_end)

    def signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    async def stop(self, *, grace_s: float, beat: Beat, beat_s: float) -> int:
        """Ask the child to stop, wait, then kill its whole group; the heartbeat goes on meanwhile."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        deadline = asyncio.get_running_loop().time() + grace_s
        while self.process.returncode is None and asyncio.get_running_loop().time() < deadline:
            beat()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), min(beat_s, grace_s))
        self.signal_group(signal.SIGKILL)
        return await self.process.wait()

    def close(self) -> None:
        os.close(self.liveness)


@dataclass(frozen=True)
class Watch:
    """How a child is watched."""

    beat: Beat
    progress: Callable[[], object]
    """Changes whenever the child gets on."""
    shutdown: Callable[[], "asyncio.Future[None]"]
    beat_s: float
    grace_s: float
    stall_s: float


async def supervise(child: Child, watch: Watch) -> int:
    """Wait for the child and return its exit code.

    Raises: CancelledError: the activity was cancelled, and the child has stopped. ShuttingDown, Stalled: likewise.
    """
    try:
        return await _watch(child, watch)
    except (asyncio.CancelledError, ShuttingDown, Stalled):
        await _uninterrupted(child.stop(grace_s=watch.grace_s, beat=watch.beat, beat_s=watch.beat_s))
        raise
    finally:
        child.close()


async def _watch(child: Child, watch: Watch) -> int:
    clock = asyncio.get_running_loop().time
    ended, shutdown = asyncio.ensure_future(child.process.wait()), watch.shutdown()
    either: set[asyncio.Future[Any]] = {ended, shutdown}
    seen, since = watch.progress(), clock()
    try:
        while True:
            watch.beat()
            await asyncio.wait(either, timeout=watch.beat_s, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return ended.result()
            if shutdown.done():
                raise ShuttingDown
            if (now := watch.progress()) != seen:
                seen, since = now, clock()
            elif clock() - since > watch.stall_s:
                child.signal_group(signal.SIGUSR1)  # every thread's stack goes to the log
                await asyncio.sleep(1.0)
                raise Stalled
    finally:
        shutdown.cancel()


async def _uninterrupted(ladder: Coroutine[object, object, int]) -> None:
    """Finish the ladder although the activity is cancelled a second time."""
    task = asyncio.ensure_future(ladder)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
