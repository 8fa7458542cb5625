"""The stop ladder and the watchdog, with children that behave badly."""

import asyncio
import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from triform.durable.supervisor import Child, ShuttingDown, Stalled, Watch, supervise, triform_command

READY = "import faulthandler, os, signal, sys, time; faulthandler.register(signal.SIGUSR1)\n"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)\nwhile True: time.sleep(0.1)"
POLITE = (
    "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), os._exit(75))); print('ready', flush=True)\nwhile True: time.sleep(0.1)"
)
FAMILY = "import subprocess; print(subprocess.Popen(['/bin/sleep', '60']).pid, flush=True); print('ready', flush=True)\ntime.sleep(60)"
REDONE = "from triform.training.stopping import end_with_supervisor as f; f(); print('ready', flush=True); time.sleep(60)"
ORPHAN = "print('ready', flush=True); os.read(int(os.environ['TRIFORM_LIVENESS_FD']), 1); sys.exit(75)"


class Stub:
    """A child that runs the given Python, and what its supervisor saw."""

    def __init__(self, log: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
        monkeypatch.setenv("TRIFORM_COMMAND", shlex.join([sys.executable, "-c", READY + program]))
        self.log, self.beats, self.shutdown = log, 0, asyncio.Event()

    async def start(self) -> Child:
        child = await Child.start([], {}, self.log)
        deadline = time.monotonic() + 30
        while "ready" not in self.log.read_text():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        return child

    def watch(self, *, grace_s: float = 30.0, stall_s: float = 60.0, progress: Callable[[], object] = object) -> Watch:
        return Watch(
            beat=self._beat,
            progress=progress,
            shutdown=lambda: asyncio.ensure_future(self._asked()),
            beat_s=0.05,
            grace_s=grace_s,
            stall_s=stall_s,
        )

    def _beat(self) -> None:
        self.beats += 1

    async def _asked(self) -> None:
        await self.shutdown.wait()


async def test_its_exit_code_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub(tmp_path / "log", monkeypatch, "print('ready', flush=True); sys.exit(7)")
    assert await supervise(await stub.start(), stub.watch()) == 7


async def test_a_polite_child_is_waited_for_and_the_heartbeat_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub(tmp_path / "log", monkeypatch, POLITE)
    child = await stub.start()
    stub.shutdown.set()
    with pytest.raises(ShuttingDown):
        await supervise(child, stub.watch())
    assert child.process.returncode == 75
    assert stub.beats >= 5


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub(tmp_path / "log", monkeypatch, DEAF)
    child = await stub.start()
    stub.shutdown.set()
    begun = time.monotonic()
    with pytest.raises(ShuttingDown):
        await supervise(child, stub.watch(grace_s=0.5))
    assert child.process.returncode == -signal.SIGKILL
    assert time.monotonic() - begun >= 0.5


async def test_cancelled_twice_it_still_waits_for_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub(tmp_path / "log", monkeypatch, POLITE)
    child = await stub.start()
    supervising = asyncio.ensure_future(supervise(child, stub.watch()))
    for _ in range(2):
        await asyncio.sleep(0.1)
        supervising.cancel()
    with pytest.raises(asyncio.CancelledError):
        await supervising
    assert child.process.returncode == 75, "it was not killed while it committed"


async def test_what_the_child_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub(tmp_path / "log", monkeypatch, FAMILY)
    child = await stub.start()
    grandchild = psutil.Process(int(stub.log.read_text().split()[0]))
    stub.shutdown.set()
    with pytest.raises(ShuttingDown):
        await supervise(child, stub.watch())
    with contextlib.suppress(psutil.NoSuchProcess):
        await asyncio.to_thread(grandchild.wait, 10)


async def test_a_child_without_progress_says_where_it_hangs_and_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub(tmp_path / "log", monkeypatch, POLITE)
    child = await stub.start()
    with pytest.raises(Stalled):
        await supervise(child, stub.watch(stall_s=0.3, progress=lambda: "the same step"))
    assert child.process.returncode == 75
    assert "most recent call first" in stub.log.read_text()


async def test_progress_keeps_the_watchdog_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub(tmp_path / "log", monkeypatch, "print('ready', flush=True); time.sleep(1.5)")
    assert await supervise(await stub.start(), stub.watch(stall_s=0.3)) == 0


@pytest.mark.parametrize("program", [ORPHAN, REDONE])
async def test_the_pipe_tells_a_child_that_its_supervisor_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    child = await Stub(tmp_path / "log", monkeypatch, program).start()
    child.close()
    assert await child.process.wait() == 75


def test_without_the_variable_children_are_this_package_in_this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIFORM_COMMAND", raising=False)
    assert triform_command() == [sys.executable, "-m", "triform"]
