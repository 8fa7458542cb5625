"""One embedded Temporal server for each user, shared by all runs: it comes with the first user and goes with the last."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from triform.durable import server_binary
from triform.durable.server_state import ServerInfo, StateFolder, refuse_other_version, try_lock
from triform.errors import ServerUnreachable


class ServerLease:
    """A share in the embedded server: while one is open anywhere, in any process, the server lives.

    The share is a kernel lock, so it ends with its process however that dies. A detached process takes it on with
    `Popen(..., pass_fds=(lease.fileno(),))`: it only has to leave that descriptor open.
    """

    def __init__(self, folder: StateFolder, lock: int, info: ServerInfo) -> None:
        self._folder, self._lock, self.info = folder, lock, info

    @property
    def address(self) -> str:
        """`host:port`; the same after every restart of the server."""
        return self.info.address

    @property
    def ui_url(self) -> str:
        return self.info.ui_url

    def revive(self, *, say: Callable[[str], None] = lambda _: None, timeout_s: float = 60.0) -> None:
        """Bring the server back where its supervisor was killed too; nobody else notices that while nobody new comes.

        0.3 ms while all is well, so a program that waits on the server can call it between its tries. Raises as `use_server`.
        """
        self.info = _wait_until_healthy(self._folder, say, time.monotonic() + timeout_s)

    def fileno(self) -> int:
        return self._lock

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def use_server(*, say: Callable[[str], None] = lambda _: None, timeout_s: float = 60.0) -> ServerLease:
    """Share the user's embedded server, starting it where none lives. Blocks; close the lease when done.

    A server that dies is restarted on its ports by its supervisor. Should that be killed too, `ServerLease.revive` starts both.

    Args:
        say: called with a line of text when a server is started.
        timeout_s: seconds until the server must be healthy.

    Raises:
        ServerUnreachable: no binary, a database of another server version, or no health in time (with the log's end).
        CannotWrite: the state folder can't be made or locked.
    """
    folder = StateFolder.of_this_user()
    folder.create()
    deadline = time.monotonic() + timeout_s
    lock = _join(folder, deadline)
    try:
        return ServerLease(folder, lock, _wait_until_healthy(folder, say, deadline))
    except BaseException:
        os.close(lock)
        raise


def running() -> ServerInfo | None:
    """The user's live embedded server, without taking part in it and without waiting for it."""
    folder = StateFolder.of_this_user()
    if not folder.supervisor_lock.exists():
        return None
    if (free := try_lock(folder.supervisor_lock)) is not None:
        os.close(free)
        return None
    return folder.server_info()


def _join(folder: StateFolder, deadline: float) -> int:
    """The shared lock; a supervisor that is just ending its server holds it for a second or two."""
    while (lock := try_lock(folder.in_use_lock, shared=True)) is None:
        if time.monotonic() > deadline:
            raise _unhealthy(folder, "the last server is still being stopped")
        time.sleep(0.05)
    return lock


def _wait_until_healthy(folder: StateFolder, say: Callable[[str], None], deadline: float) -> ServerInfo:
    started = False
    while time.monotonic() < deadline:
        if (lock := try_lock(folder.supervisor_lock)) is not None:
            if started:
                os.close(lock)
                raise _unhealthy(folder, "the embedded Temporal server can't be started")
            _start_supervisor(folder, lock, say)
            started = True
        elif (info := folder.server_info()) is not None and _listens(info.address):
            return info
        time.sleep(0.05)
    raise _unhealthy(folder, "the embedded Temporal server was not healthy in time")


def _start_supervisor(folder: StateFolder, lock: int, say: Callable[[str], None]) -> None:
    """Hand `lock` to a new supervisor: whoever holds it starts one, so two users in a race make one server."""
    try:
        folder.withdraw()
        binary = server_binary.find()
        if binary is None:
            raise ServerUnreachable("no Temporal server binary was found", expected="Temporal's CLI", do=server_binary.HOW_TO_GET_ONE)
        refuse_other_version(folder, server_binary.version(binary))
        say(f"Starting the embedded Temporal server (state in {folder.root}) ...")
        folder.start_log()
        command = [sys.executable, "-P", "-m", "triform.durable.server_supervisor", str(folder.root), str(binary), str(lock)]
        with folder.log.open("wb") as log:
            subprocess.run(
                command,
                cwd=folder.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
                check=True,
            )
    finally:
        os.close(lock)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True


def _unhealthy(folder: StateFolder, what: str) -> ServerUnreachable:
    return ServerUnreachable(
        f"{what}. Its log {folder.log} ends:\n{folder.log_tail()}\n",
        expected="a healthy server",
        do="read the log; `triform doctor` checks disk, binary and ports; TRIFORM_STATE_DIR moves the state to another (local) folder",
    )
