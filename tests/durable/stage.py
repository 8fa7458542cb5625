"""What the durable tests play with: a server to kill, workers to kill, and a run whose every step is written down."""

import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Replayer

from triform.durable.client import Handle, start_or_attach
from triform.durable.connection import Target, connect
from triform.durable.messages import PipelineRequest
from triform.durable.policies import Policies
from triform.durable.server_supervisor import HOST, server_environment, start_arguments
from triform.durable.workflows import MLPipelineWorkflow
from triform.experiment import Experiment, fingerprint, load, resolved
from triform.pipeline.prepare import located
from triform.run.commit import commits
from triform.run.folder import RunFolder, to_json
from triform.run.metrics_log import Row, history
from triform.run.ownership import claims, lives_here, newest_generation
from triform.training.stopping import LIVENESS_FD

HERE = Path(__file__).parent
STEPS = 32
EVERY = 5
"""Steps between two commits of the tiny experiment."""

SHORT = Policies(
    heartbeat_timeout=3.0,
    beat=0.1,
    throttle=0.3,
    retry=0.3,
    killed_retry=0.3,
    crashed_retry=0.3,
    preempted_retry=0.3,
    disk_retry=1.0,
    stop_grace=10.0,
    stall=60.0,
)
Outcome = tuple[str, list[Row]]


def outcome(path: Path) -> Outcome:
    """What must be equal: the state's digest, and every row of the metrics."""
    folder = RunFolder(path)
    result = folder.result()
    assert result is not None
    return result["state_digest"], history(folder, result["history"]["generation"], result["history"]["metrics_bytes"])


def paced(place: Path, *, seconds: float = 0.0) -> dict[str, str]:
    """The environment in which every child is `triform` on the paced NumPy backend."""
    place.mkdir(parents=True, exist_ok=True)
    set_pace(place, seconds)
    command = shlex.join([sys.executable, str(HERE / "paced.py")])
    return {**os.environ, "PACE_DIR": str(place), "TRIFORM_COMMAND": command}


def set_pace(place: Path, seconds: float) -> None:
    """Of every step from now on."""
    scratch = place / "pace.new"
    scratch.write_text(str(seconds))
    scratch.replace(place / "pace")


class Step(NamedTuple):
    """A step that was trained, or is under way."""

    process: int
    step: int
    seconds: float


def steps_of(place: Path) -> list[Step]:
    """Every step at this pace folder, in the order of time."""
    path = place / "steps"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [Step(int(process), int(step), float(seconds)) for process, step, seconds in map(str.split, lines)]


def run_paced(place: Path, *argv: object) -> int:
    """Run a `triform` command to its end."""
    command = [sys.executable, str(HERE / "paced.py"), *map(str, argv)]
    return subprocess.run(command, env=paced(place), stdout=subprocess.DEVNULL, check=False).returncode


async def until(condition: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)
    return found


async def replay(handle: Handle) -> None:
    """Run the workflow's code, in its sandbox, against the history that the server kept. Raises where they part."""
    await Replayer(workflows=[MLPipelineWorkflow]).replay_workflow(await handle.fetch_history())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A server process on its database and its port, started and killed as often as a test likes."""

    binary: Path
    folder: Path
    port: int = field(default_factory=free_port)
    ui_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        if self.process is None:
            arguments = start_arguments(self.binary, port=self.port, ui_port=self.ui_port)
            with (self.folder / "server.log").open("ab") as log:
                self.process = subprocess.Popen(arguments, cwd=self.folder, env=server_environment(), stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def client(self) -> Client:
        return await connect(Target(address=self.address))


@dataclass
class Worker:
    """A worker process and the pipe that ends it should the tests be killed."""

    process: subprocess.Popen[bytes]
    liveness: int

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        os.close(self.liveness)


@dataclass
class Stage:
    """One run: its folder, its request, its workers, its workflow."""

    server: Server
    experiment_file: Path
    place: Path
    policies: Policies = SHORT
    workers: list[Worker] = field(default_factory=list)

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.place / "run")

    @property
    def identifier(self) -> str:
        return f"ml-pipeline/{self.place.name}"

    @property
    def pace_dir(self) -> Path:
        return self.place / "pace"

    def experiment(self, overrides: Sequence[str] = ()) -> Experiment:
        return located(load(self.experiment_file, list(overrides)).experiment)

    def request(self, overrides: Sequence[str] = ()) -> PipelineRequest:
        experiment = self.experiment(overrides)
        return PipelineRequest(
            run_name=experiment.name,
            run_folder=str(self.folder.path),
            experiment=to_json(resolved(experiment)).decode(),
            fingerprint=fingerprint(experiment),
            overrides=list(overrides),
            prefix=self.place.name,
            policies=self.policies,
        )

    async def start(self, overrides: Sequence[str] = (), **changes: Any) -> Handle:
        """Start the workflow or attach to it."""
        client, request = await self.server.client(), replace(self.request(overrides), **changes)
        return await start_or_attach(client, request, identifier=self.identifier, own_server=True)

    def worker(self, kind: str = "all", *, pace: float | None = None, **env: str) -> Worker:
        """A new worker process. Args: pace: seconds of a step from now on, for all trainers of this run."""
        known = self.pace_dir / "pace"
        environment = paced(self.pace_dir, seconds=pace if pace is not None else float(known.read_text()) if known.exists() else 0.0)
        read_end, write_end = os.pipe()
        command = [sys.executable, str(HERE / "serve.py"), self.server.address, self.place.name, kind, json.dumps(asdict(self.policies))]
        with (self.place / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**environment, LIVENESS_FD: str(read_end), **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(read_end,),
                start_new_session=True,
            )
        os.close(read_end)
        self.workers.append(Worker(process, write_end))
        return self.workers[-1]

    def pace(self, seconds: float) -> None:
        """Of every step from now on."""
        set_pace(self.pace_dir, seconds)

    @property
    def steps(self) -> list[Step]:
        """Every step that was trained, in the order of time."""
        return steps_of(self.pace_dir)

    @property
    def generations(self) -> int:
        return newest_generation(self.folder)

    def trainer(self) -> psutil.Process | None:
        """The live trainer."""
        found = claims(self.folder)
        if not found or not lives_here(found[-1]["owner"]):
            return None
        with suppress(psutil.Error):
            return psutil.Process(found[-1]["owner"]["pid"])
        return None

    async def at_step(self, step: int) -> psutil.Process:
        """Wait until `step` is under way and something is committed; the trainer."""
        await until(lambda: any(done.step >= step for done in self.steps) and commits(self.folder))
        found = self.trainer()
        assert found is not None
        return found

    async def trained(self) -> Outcome:
        """Let the training run to its end as fast as it can."""
        self.pace(0.0)
        await until(self.folder.result)
        return outcome(self.folder.path)

    def processes(self) -> list[psutil.Process]:
        """Everything that works in this run's folder."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.place) in " ".join(process.cmdline()) or process.pid in {w.process.pid for w in self.workers}:
                    found.append(process)
        return [process for process in found if process.pid != os.getpid()]

    def close(self) -> None:
        """End the workflow and the workers; what they started ends by itself."""
        with suppress(RPCError):
            asyncio.run(self._terminate())
        self.pace_dir.mkdir(exist_ok=True)
        self.pace(0.0)
        for worker in self.workers:
            worker.close()
        deadline = time.monotonic() + 30
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.processes()
        for process in left:
            process.kill()
        assert not left, f"left behind: {left}"

    async def _terminate(self) -> None:
        client = await self.server.client()
        await client.get_workflow_handle(self.identifier).terminate()
