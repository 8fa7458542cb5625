"""`triform run`: one run from start to end beside its server and its worker, watched from a terminal."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

from triform.durable import client as runs
from triform.durable import embedded
from triform.durable.client import Handle, Snapshot
from triform.durable.connection import Target, connect, resolve_target
from triform.durable.dev_server import ServerLease, running, use_server
from triform.durable.messages import PipelineRequest, PipelineResult
from triform.durable.policies import CLUSTER, PREFIX, local
from triform.errors import ServerUnreachable, Stopped, TriformError, UsageError
from triform.experiment import Experiment, fingerprint, resolved
from triform.run.commit import commits
from triform.run.folder import RunFolder, to_json
from triform.run.ownership import claims, newest_generation
from triform.run.status import read_status

LOOK_S = 0.5
WORKER_DEATHS_ALLOWED = 5


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line asked for."""

    experiment: Experiment
    folder: RunFolder
    overrides: Sequence[str] = ()
    address: str | None = None
    detach: bool = False
    command: str = "the same command"
    """How to start this run again."""
    say: Callable[[str], None] = print
    show: Callable[[Snapshot], None] = lambda _: None
    """Called with each new look at the run."""


def showing(asked: Asked, *, say: Callable[[str], None], show: Callable[[Snapshot], None]) -> Asked:
    """The same, with a terminal to show itself on."""
    return replace(asked, say=say, show=show)


@dataclass
class _Watched:
    """A run under way, and what this command started for it."""

    asked: Asked
    client: Client
    handle: Handle
    own_server: bool
    worker: embedded.WorkerProcess | None = None
    deaths: list[float] = field(default_factory=list)
    told: int = 0
    """The newest generation whose warnings were said."""


async def run(asked: Asked) -> PipelineResult | None:
    """Start or attach, and watch to the end; None when detached.

    Raises: Stopped: Ctrl-C; the checkpoint is committed and what this command started has ended. Every error a worker reported.
    """
    target = resolve_target(asked.address)
    if target is not None:
        client = await connect(target)
        asked.say(f"Temporal at {target.address} ({target.source})")
        return await _follow(await _begin(asked, client, own_server=False))
    lease = await asyncio.to_thread(use_server, say=asked.say)
    with lease:
        client = await connect(Target(address=lease.address))
        watched = await _begin(asked, client, own_server=True)
        asked.say(f"Temporal UI: {lease.ui_url}/namespaces/default/workflows/{watched.handle.id.replace('/', '%2F')}")
        if asked.detach:
            await _leave_detached(watched)
            return None
        return await _follow(watched, lease)


async def _begin(asked: Asked, client: Client, *, own_server: bool) -> _Watched:
    path = asked.folder.path
    request = PipelineRequest(
        run_name=asked.experiment.name,
        run_folder=str(path),
        experiment=to_json(resolved(asked.experiment)).decode(),
        fingerprint=fingerprint(asked.experiment),
        overrides=list(asked.overrides),
        prefix=embedded.prefix(path) if own_server else PREFIX,
        max_parallel=max(2, os.cpu_count() or 1) if own_server else 32,
        policies=local() if own_server else CLUSTER,
    )
    identifier = runs.workflow_id(asked.experiment.name, path if own_server else None)
    handle = await runs.start_or_attach(client, request, identifier=identifier, own_server=own_server)
    return _Watched(asked, client, handle, own_server, told=newest_generation(asked.folder))


async def _leave_detached(watched: _Watched) -> None:
    """Start a worker that stays, and wait until it has its share in the server."""
    path, deadline = watched.asked.folder.path, time.monotonic() + 60
    if not embedded.worker_lives(path):
        worker = embedded.WorkerProcess.start(path, identifier=watched.handle.id, detach=True)
        while not embedded.worker_lives(path):
            if worker.process.poll() is not None or time.monotonic() > deadline:
                raise TriformError("The worker ended at once", do=f"read {path / 'logs' / 'worker.log'}")
            await asyncio.sleep(0.1)


async def _follow(watched: _Watched, lease: ServerLease | None = None) -> PipelineResult:
    interrupted = asyncio.Event()
    _listen(interrupted, watched)
    seen = time.monotonic()
    try:
        while not interrupted.is_set():
            if watched.own_server:
                await _keep_worker(watched)
            try:
                look = await runs.snapshot(watched.client, watched.handle.id)
                seen = time.monotonic()
                _tell(watched)
                if look.closed:
                    return await runs.outcome(watched.handle)
            except RPCError as error:
                look = Snapshot("server away", {}, "the Temporal server")
                if lease is not None:
                    await asyncio.to_thread(lease.revive, say=watched.asked.say)
                if lease is None and time.monotonic() - seen > 60:
                    raise ServerUnreachable(
                        "The Temporal server has been silent for 60 s", do="the run goes on there; attach again"
                    ) from error
            watched.asked.show(_with_status(look, watched.asked.folder))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(interrupted.wait(), LOOK_S)
        return await _interrupt(watched)
    finally:
        if watched.worker is not None:
            await asyncio.to_thread(watched.worker.stop, local().graceful_shutdown)


def _tell(watched: _Watched) -> None:
    """Say once what each new generation of the trainer took or warned of, where the run's folder is on this machine."""
    newest = newest_generation(watched.asked.folder)
    if newest > watched.told:
        for claim in claims(watched.asked.folder):
            if claim["generation"] > watched.told:
                for warning in claim["warnings"]:
                    watched.asked.say(warning["text"])
        watched.told = newest


def _listen(interrupted: asyncio.Event, watched: _Watched) -> None:
    def on_signal() -> None:
        if interrupted.is_set():
            if watched.worker is not None:
                watched.worker.kill()
            os._exit(130)
        interrupted.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


async def _interrupt(watched: _Watched) -> PipelineResult:
    asked = watched.asked
    if watched.worker is None:
        asked.say(f"To watch again: {asked.command}")
        raise Stopped("No longer watching; the run goes on elsewhere", do="`triform stop` ends it")
    asked.say("Stopping: the trainer commits a checkpoint (Ctrl-C again stops at once) ...")
    await asyncio.to_thread(watched.worker.stop, local().graceful_shutdown)
    newest = next((f"at step {commit.step}" for commit in commits(asked.folder)), "not there yet")
    asked.say(f"To go on: {asked.command}")
    raise Stopped(f"Stopped; the newest checkpoint is {newest}")


async def _keep_worker(watched: _Watched) -> None:
    """Start a worker where none serves the run; also after one was killed."""
    path = watched.asked.folder.path
    if watched.worker is not None and watched.worker.process.poll() is None:
        return
    if watched.worker is not None:
        watched.worker.close()
        watched.worker = None
        now = time.monotonic()
        watched.deaths = [moment for moment in watched.deaths if now - moment < 60] + [now]
        if len(watched.deaths) > WORKER_DEATHS_ALLOWED:
            raise TriformError(f"The worker died {len(watched.deaths)} times within a minute", do=f"read {path / 'logs' / 'worker.log'}")
    if not await asyncio.to_thread(embedded.worker_lives, path):
        watched.worker = embedded.WorkerProcess.start(path, identifier=watched.handle.id, detach=False)


def _with_status(look: Snapshot, folder: RunFolder) -> Snapshot:
    """The status file is newer than the heartbeat where the run's folder is on this machine."""
    status = read_status(folder)
    fresh = status is not None and status.get("time", 0) >= look.details.get("time", 0)
    return replace(look, details={**look.details, **(status or {})}) if fresh and look.stage == "train" else look


async def steer(name: str, path: Path, update: str, arguments: Sequence[object] = (), *, address: str | None = None) -> object:
    """Send an update to a running run. Raises: UsageError: it is not running."""
    target = resolve_target(address)
    if target is not None:
        return await runs.steer(await connect(target), runs.workflow_id(name), update, arguments)
    with await asyncio.to_thread(_running_server) as lease:
        client = await connect(Target(address=lease.address))
        return await runs.steer(client, runs.workflow_id(name, path), update, arguments)


async def look(name: str, path: Path, *, address: str | None = None) -> Snapshot | None:
    """A run as its server knows it; None where no server runs."""
    target = resolve_target(address)
    if target is not None:
        return await runs.snapshot(await connect(target), runs.workflow_id(name))
    if running() is None:
        return None
    with await asyncio.to_thread(_running_server) as lease:
        found = await runs.snapshot(await connect(Target(address=lease.address)), runs.workflow_id(name, path))
        return _with_status(found, RunFolder(path))


async def is_under_way(name: str, path: Path, *, address: str | None = None) -> bool:
    """True if the run's workflow is open and its server reachable."""
    found = await look(name, path, address=address)
    return found is not None and not found.closed


def _running_server() -> ServerLease:
    if running() is None:
        raise UsageError("No run is under way on this machine's own server", do="start one with `triform run`")
    return use_server()


async def work(kind: str, *, address: str | None, folder: Path | None = None, until_closed: str | None = None) -> None:
    """`triform worker`: serve a cluster, or, with `folder`, one run on the user's own server."""
    from triform.durable.worker import serve

    if folder is None:
        target = resolve_target(address)
        if target is None:
            raise ServerUnreachable(
                "No Temporal address is given", expected="a cluster to serve", do="give --address or set TEMPORAL_ADDRESS"
            )
        await serve(await connect(target), kind, prefix=PREFIX, policies=CLUSTER)  # type: ignore[arg-type]
        return
    with await asyncio.to_thread(use_server) as lease:
        held = await asyncio.to_thread(embedded.hold_worker_lock, folder, patience_s=2.0)
        if held is None:
            return
        client = await connect(Target(address=lease.address))
        reviving = asyncio.ensure_future(_revive(lease))
        try:
            await serve(client, "all", prefix=embedded.prefix(folder), policies=local(), until_closed=until_closed)
        finally:
            reviving.cancel()


async def _revive(lease: ServerLease) -> None:
    """Start the server again should its own supervisor be killed while a detached worker waits for it."""
    while True:
        await asyncio.sleep(5.0)
        with contextlib.suppress(TriformError):
            await asyncio.to_thread(lease.revive)
