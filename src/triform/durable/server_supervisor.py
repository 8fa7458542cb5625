"""Keeps the embedded server up while anybody uses it, and ends it with the last user.

`python -m triform.durable.server_supervisor FOLDER BINARY LOCK`: started by `dev_server.use_server`, which hands over the
supervisor's lock as the open file descriptor LOCK. It leaves its starter at once, so that no process waits for it.
"""

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil

from triform.durable import server_binary
from triform.durable.server_state import DATABASE, ServerInfo, StateFolder, mark_ready, prepare_database, try_lock
from triform.errors import ServerUnreachable, TriformError

HOST = "127.0.0.1"
FIRST_PORT, NUM_PORTS = 17233, 500
"""Below every system's range for outgoing connections, so that the same port is free again after a restart; the web page is 1000 above."""

RETENTION = timedelta(days=90)
STARTS_BEFORE_GIVING_UP = 5
LONGEST_PAUSE_S = 10.0
STOP_GRACE_S = 10.0
"""Measured: the server ends 1.1 s after SIGTERM."""

DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""PR_SET_PDEATHSIG = SIGTERM, set by the child itself and kept over exec: a preexec_fn is unsafe once the SDK has threads."""


class EmbeddedServer:
    """One server process on one database, started again on the same ports whenever it dies."""

    def __init__(self, folder: StateFolder, binary: Path) -> None:
        self.folder, self.binary = folder, binary
        self.process: subprocess.Popen[bytes] | None = None
        self.healthy, self.was_healthy = False, False
        self._failed_starts, self._not_before = 0, 0.0
        self._port, self._ui_port, self._version = 0, 0, ""

    def tend(self) -> None:
        """One look: start the server, see it healthy, or see it dead.

        Raises:
            ServerUnreachable: it never came up, or its binary was exchanged for another version.
        """
        if self.process is None:
            if time.monotonic() >= self._not_before:
                self._start()
        elif (code := self.process.poll()) is not None:
            self._note_death(code)
        elif not self.healthy and self._answers():
            self._announce(self.process.pid)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL: every committed transaction survives both."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _start(self) -> None:
        database = take_database(self.folder)
        try:
            self._version = server_binary.version(self.binary)
            prepare_database(self.folder, self._version)
            if not self.was_healthy:
                self._port, self._ui_port = free_ports(self.folder.ports(), port_pairs(self.folder.root))
            arguments = start_arguments(self.binary, port=self._port, ui_port=self._ui_port)
            self.process = subprocess.Popen(
                arguments, cwd=self.folder.root, stdin=subprocess.DEVNULL, pass_fds=(database,), env=server_environment()
            )
        finally:
            os.close(database)

    def _note_death(self, code: int) -> None:
        self.process, self.healthy = None, False
        self._failed_starts += 1
        pause = min(0.1 * 2**self._failed_starts, LONGEST_PAUSE_S)
        self._not_before = time.monotonic() + pause
        tell(f"the server ended with code {code}; next start in {pause:.1f} s")
        if not self.was_healthy and self._failed_starts >= STARTS_BEFORE_GIVING_UP:
            raise ServerUnreachable(f"the server ended {self._failed_starts} times before it was healthy, the last time with code {code}")

    def _answers(self) -> bool:
        """Whether our own process, and no other program on that port, listens and has its namespace ready."""
        assert self.process is not None
        try:
            connections = psutil.Process(self.process.pid).net_connections(kind="tcp4")
            if not any(c.status == psutil.CONN_LISTEN and c.laddr.port == self._port for c in connections):
                return False
            asyncio.run(asyncio.wait_for(set_up_namespace(f"{HOST}:{self._port}"), timeout=5))
        except (psutil.Error, RuntimeError, TimeoutError):
            return False
        return True

    def _announce(self, pid: int) -> None:
        mark_ready(self.folder)
        self.folder.remember_ports(self._port, self._ui_port)
        self.folder.announce(
            ServerInfo(
                address=f"{HOST}:{self._port}",
                ui_url=f"http://{HOST}:{self._ui_port}",
                pid=pid,
                supervisor_pid=os.getpid(),
                version=self._version,
            )
        )
        self.healthy, self.was_healthy, self._failed_starts = True, True, 0


async def set_up_namespace(address: str) -> None:
    """Ask for the namespace, and keep finished workflows for 90 days instead of one (the flag acts only on a new namespace).

    Raises:
        RuntimeError, temporalio.service.RPCError (made a RuntimeError): the server is not ready.
    """
    from google.protobuf.duration_pb2 import Duration
    from temporalio.api.namespace.v1 import NamespaceConfig
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
    from temporalio.client import Client
    from temporalio.service import RPCError

    client = await Client.connect(address)
    try:
        found = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
        wanted = Duration(seconds=int(RETENTION.total_seconds()))
        if found.config.workflow_execution_retention_ttl != wanted:
            config = NamespaceConfig(workflow_execution_retention_ttl=wanted)
            await client.workflow_service.update_namespace(UpdateNamespaceRequest(namespace="default", config=config))
    except RPCError as error:
        raise RuntimeError(str(error)) from error


def start_arguments(binary: Path, *, port: int, ui_port: int) -> list[str]:
    """The command line; the database is named relative to the working folder, as the server pastes the name into a URI."""
    server = [str(binary), "server", "start-dev", "--ip", HOST, "--port", str(port), "--ui-port", str(ui_port), "--namespace", "default"]
    server += ["--db-filename", DATABASE, "--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=FULL"]
    server += ["--log-format", "json", "--log-level", "warn", "--disable-config-env", "--disable-config-file"]
    tied = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid())] if sys.platform == "linux" else []
    return tied + server


def server_environment() -> dict[str, str]:
    """Ours without the variables that configure Temporal's clients, and without its look for newer versions."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    return {**kept, "TEMPORAL_VERSION_CHECK_DISABLED": "1"}


def take_database(folder: StateFolder, *, timeout_s: float = 15.0) -> int:
    """The server's lock. Where a server outlived its supervisor, it is ended first: never two servers on one database."""
    deadline = time.monotonic() + timeout_s
    while (descriptor := try_lock(folder.server_lock)) is None:
        if time.monotonic() > deadline:
            raise ServerUnreachable(
                f"another process has {folder.root / DATABASE} open and does not end",
                expected="one server on one database",
                do="end that process, or set TRIFORM_STATE_DIR to another folder",
            )
        end_orphans(folder)
        time.sleep(0.05)
    return descriptor


def end_orphans(folder: StateFolder) -> None:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if DATABASE in process.cmdline() and Path(process.cwd()) == folder.root.resolve():
                tell(f"ending the server {process.pid}, whose supervisor is gone")
                process.kill()


def port_pairs(root: Path) -> list[tuple[int, int]]:
    """All pairs, beginning at one that the folder's name picks: were it the same for all, the new server of another user would take
    the port of one that is just being restarted, and its clients would speak with the wrong server."""
    first = int(hashlib.sha256(str(root).encode()).hexdigest(), 16) % NUM_PORTS
    ports = range(FIRST_PORT, FIRST_PORT + NUM_PORTS)
    return [(port, port + 1000) for port in (*ports[first:], *ports[:first])]


def free_ports(remembered: tuple[int, int] | None, pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The remembered pair if it is still free, else the first free one."""
    for pair in [remembered, *pairs] if remembered else pairs:
        if all(map(_is_free, pair)):
            return pair
    raise ServerUnreachable(
        f"ports {FIRST_PORT} to {FIRST_PORT + NUM_PORTS - 1} are all taken", expected="one free port and the one 1000 above it"
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def supervise(folder: StateFolder, binary: Path) -> None:
    """Until SIGTERM, or until nobody holds `in_use_lock`; that lock is then ours until this process is gone."""
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked_to_stop.append(number))
    server = EmbeddedServer(folder, binary)
    try:
        while not asked_to_stop and try_lock(folder.in_use_lock) is None:
            server.tend()
            time.sleep(1.0 if server.healthy else 0.05)
    finally:
        folder.withdraw()
        server.stop()


def tell(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} supervisor: {text}", flush=True)


def main(arguments: list[str]) -> int:
    root, binary, _lock = arguments
    if os.fork():
        return 0
    try:
        supervise(StateFolder(Path(root)), Path(binary))
    except TriformError as error:
        tell(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
