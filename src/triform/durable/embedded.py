"""The worker process that `triform run` starts beside the user's own server."""

import fcntl
import hashlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from triform.durable.policies import PREFIX
from triform.durable.supervisor import triform_command
from triform.files import disk_errors
from triform.training.stopping import LIVENESS_FD

WORKER_LOCK = ".worker.lock"


def prefix(folder: Path) -> str:
    """Queues of this run alone, so that a worker never takes work of a run that another command started."""
    return f"{PREFIX}-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def hold_worker_lock(folder: Path, *, patience_s: float = 0.0) -> int | None:
    """A worker's claim on the run's queues, held until its process ends; None where another worker has it.

    Args: patience_s: whoever only looks whether a worker lives holds the lock for a moment, which a new worker must sit out.
    """
    path = folder / WORKER_LOCK
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.02)
        else:
            return descriptor


def worker_lives(folder: Path) -> bool:
    """True if some worker serves this run."""
    descriptor = hold_worker_lock(folder)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


@dataclass
class WorkerProcess:
    """A worker of one run; it ends with its workflow, with this process, or when asked."""

    process: subprocess.Popen[bytes]
    liveness: int | None

    @staticmethod
    def start(folder: Path, *, identifier: str, detach: bool) -> "WorkerProcess":
        """Args: detach: it outlives this process, until its workflow ends."""
        log = folder / "logs" / "worker.log"
        with disk_errors(log):
            log.parent.mkdir(parents=True, exist_ok=True)
        read_end, write_end = os.pipe()
        environment = dict(os.environ) if detach else {**os.environ, LIVENESS_FD: str(read_end)}
        command = [*triform_command(), "worker", "--embedded", str(folder), "--until-closed", identifier]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                pass_fds=() if detach else (read_end,),
                start_new_session=True,
            )
        os.close(read_end)
        if detach:
            os.close(write_end)
        return WorkerProcess(process, None if detach else write_end)

    def stop(self, timeout_s: float) -> None:
        """Ask it to stop, its trainer to commit; wait, then end it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self.close()

    def kill(self) -> None:
        """End it at once; its trainer notices and commits what it has."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.liveness is not None:
            os.close(self.liveness)
            self.liveness = None
