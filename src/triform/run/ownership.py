"""Who may write to a run folder: a lock on this host, and a generation number that fences everywhere.

The lock keeps two trainers of one host apart and vanishes with its last holder. It is an optimisation; safety comes from the
claims: each trainer takes the next generation by creating a file only if its name is free, and commits are ordered by generation.
"""

import fcntl
import json
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from triform.errors import CannotWrite, DiskFull, LostOwnership, RunInUse
from triform.files import create_durably, disk_errors
from triform.run.folder import Json, RunFolder, read_json, to_json


def this_process() -> Json:
    """What tells this process from every other one, also after its number was given to another."""
    return {
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
    }


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else str(psutil.boot_time())


def lives_here(owner: Json) -> bool:
    """True if the process that `owner` describes runs on this host now."""
    if (owner.get("host"), owner.get("boot")) != (socket.gethostname(), _boot_id()):
        return False
    try:
        return bool(abs(psutil.Process(owner["pid"]).create_time() - owner["started"]) < 0.1)
    except psutil.Error:
        return False


@dataclass
class Lock:
    """The lock on a run folder, held until `release` or the end of the process."""

    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)


def acquire_lock(folder: RunFolder, *, take_over_after_s: float | None = None) -> Lock:
    """Lock the folder for this process.

    Args:
        take_over_after_s: None: refuse where a live process holds it. Else: ask that process to stop (it commits a checkpoint),
            wait this many seconds, then kill it. Only for a caller who knows that the run was given to it.
    Raises: RunInUse: another process holds the folder; CannotWrite.
    """
    with disk_errors(folder.lock):
        folder.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    owner: Json | None = None
    if not _try_lock(descriptor):
        owner = read_json(folder.lock)
        if take_over_after_s is None or not _remove_owner(descriptor, owner, take_over_after_s):
            os.close(descriptor)
            raise _in_use(folder, owner)
    lock = Lock(descriptor)
    try:
        with disk_errors(folder.lock):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(this_process()).encode(), 0)
    except (CannotWrite, DiskFull):
        lock.release()
        raise
    return lock


def live_owner(folder: RunFolder) -> Json | None:
    """The process on this host that trains in the folder now, or None."""
    owner = read_json(folder.lock)
    return owner if owner is not None and lives_here(owner) else None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without flock: the claims alone fence
        return True
    return True


def _remove_owner(descriptor: int, owner: Json | None, grace_s: float) -> bool:
    """Stop the process that holds the lock: politely, then by force; True once the lock is ours."""
    for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
        if owner is not None and lives_here(owner):
            try:
                os.kill(owner["pid"], signal.SIGCONT)  # a stopped process would not hear the next one
                os.kill(owner["pid"], number)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if _try_lock(descriptor):
                return True
            time.sleep(0.05)
    return False


def _in_use(folder: RunFolder, owner: Json | None) -> RunInUse:
    who = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
    return RunInUse(
        f"{who} trains in {folder.path}",
        expected="a folder that nobody writes to",
        do="wait for it, stop it, or give another --output-dir",
    )


@dataclass(frozen=True)
class Ownership:
    """The right to commit as `generation`, for as long as no later claim exists."""

    folder: RunFolder
    generation: int

    def confirm(self) -> None:
        """Raises: LostOwnership: a later generation owns the run."""
        newest = newest_generation(self.folder)
        if newest > self.generation:
            raise LostOwnership(
                f"Generation {newest} owns {self.folder.path}, this process is generation {self.generation}",
                expected="to be the newest",
                do="nothing: the run goes on there, and what this process did since then does not count",
            )


def newest_generation(folder: RunFolder) -> int:
    """The highest claimed generation; 0 before the first."""
    return max((int(path.stem) for path in folder.claims.glob("[0-9]*.json")), default=0)


def take_claim(folder: RunFolder, record: Json) -> Ownership:
    """Claim the next generation; `record` is kept with it (base commit, warnings, environment, who asked)."""
    while True:
        generation = newest_generation(folder) + 1
        claim = {**record, "generation": generation, "owner": this_process(), "time": time.time()}
        if create_durably(folder.claim(generation), to_json(claim)):
            return Ownership(folder, generation)


def claims(folder: RunFolder) -> list[Json]:
    """All claims, oldest first."""
    records = (read_json(path) for path in sorted(folder.claims.glob("[0-9]*.json")))
    return [record for record in records if record is not None]


def lineage(folder: RunFolder, generation: int) -> list[Json]:
    """The claims whose work is in `generation`, oldest first: each names the commit it went on from."""
    chain: list[Json] = []
    while generation:
        claim = read_json(folder.claim(generation)) or {"generation": generation, "base": None}
        chain.append(claim)
        generation = claim["base"]["generation"] if claim["base"] else 0
    return chain[::-1]
