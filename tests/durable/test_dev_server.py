"""The embedded server on a real binary: shared, ended with its last user, and back after every kind of death."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus

from triform.durable import server_binary, server_supervisor
from triform.durable.connection import Target, connect
from triform.durable.dev_server import ServerLease, running, use_server
from triform.durable.server_state import ServerInfo, StateFolder, prepare_database, refuse_other_version, try_lock
from triform.errors import ServerUnreachable

SERVER = "1.5.1 (Server 1.29.1, UI 2.42.1)"
needs_server = pytest.mark.server
if server_binary.find() is None:
    needs_server = pytest.mark.skip(reason="no Temporal server binary")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateFolder]:
    """An empty state folder; afterwards no process may live in it any more."""
    monkeypatch.setenv("TRIFORM_STATE_DIR", str(tmp_path))
    state = StateFolder.of_this_user()
    state.create()
    yield state
    try:
        wait_for(lambda: not processes_in(state), seconds=8)
    finally:
        for process in processes_in(state):
            process.kill()


def processes_in(folder: StateFolder) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(folder.root.resolve()):
                found.append(process)
    return found


def servers_in(folder: StateFolder) -> list[int]:
    return [process.pid for process in processes_in(folder) if "start-dev" in process.cmdline()]


def wait_for(condition: Callable[[], object], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


async def client_of(lease: ServerLease | ServerInfo) -> Client:
    return await connect(Target(address=lease.address), timeout_s=10)


async def start_workflow_for_nobody(client: Client) -> None:
    await client.start_workflow("nobody", id="kept", task_queue="nobody")


async def is_kept(client: Client) -> bool:
    return (await client.get_workflow_handle("kept").describe()).status is WorkflowExecutionStatus.RUNNING


@needs_server
@pytest.mark.long
async def test_it_is_shared_and_ends_with_its_last_user(folder: StateFolder) -> None:
    assert running() is None
    said: list[str] = []
    with use_server(say=said.append) as first:
        assert len(said) == 1
        assert running() == first.info
        client = await client_of(first)
        found = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
        assert found.config.workflow_execution_retention_ttl.ToTimedelta() == server_supervisor.RETENTION
        second = use_server(say=said.append)
        assert second.info == first.info
        assert len(said) == 1, "the second user starts nothing"
    detached = subprocess.Popen(["/bin/sleep", "60"], pass_fds=(second.fileno(),))
    second.close()
    time.sleep(2.2)
    assert running() == first.info, "a child that inherited the share keeps the server"
    detached.kill()
    detached.wait()
    wait_for(lambda: not processes_in(folder), seconds=5)
    assert running() is None
    assert folder.server_info() is None


@needs_server
async def test_a_killed_server_comes_back_on_its_port_with_its_data(folder: StateFolder) -> None:
    with use_server() as lease:
        await start_workflow_for_nobody(await client_of(lease))
        os.kill(lease.info.pid, signal.SIGKILL)
        again = await client_of(lease)
        assert await is_kept(again)
        wait_for(lambda: (info := folder.server_info()) and info.pid != lease.info.pid, seconds=5)
        now = running()
        assert now is not None
        assert (now.address, now.ui_url, now.supervisor_pid) == (lease.address, lease.ui_url, lease.info.supervisor_pid)
        os.kill(now.supervisor_pid, signal.SIGTERM)
        wait_for(lambda: not processes_in(folder), seconds=5)
        assert running() is None, "asked to stop, it stops, users or not"


@needs_server
async def test_after_the_supervisor_is_killed_the_orphan_is_ended_and_all_goes_on(folder: StateFolder) -> None:
    with use_server() as old:
        await start_workflow_for_nobody(await client_of(old))
        os.kill(old.info.pid, signal.SIGSTOP)  # so that the signal of its parent's death can't end it
        os.kill(old.info.supervisor_pid, signal.SIGKILL)
        wait_for(lambda: running() is None, seconds=2)
        assert servers_in(folder) == [old.info.pid]
        with use_server() as new:
            assert new.address == old.address
            assert servers_in(folder) == [new.info.pid] != [old.info.pid]
            assert await is_kept(await client_of(new))
            old.revive()
            assert old.info == new.info, "nothing to revive"


@needs_server
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_killed_supervisor_takes_the_server_with_it(folder: StateFolder) -> None:
    with use_server() as lease:
        os.kill(lease.info.supervisor_pid, signal.SIGKILL)
        wait_for(lambda: not processes_in(folder), seconds=5)
        lease.revive()
        assert servers_in(folder) == [lease.info.pid]


@needs_server
async def test_a_database_cut_off_in_its_first_creation_is_made_anew(folder: StateFolder) -> None:
    (folder.root / "temporal.db").write_bytes(b"")
    (folder.root / "temporal.db-wal").write_bytes(b"torn")
    with use_server() as lease:
        await start_workflow_for_nobody(await client_of(lease))
    assert (folder.root / "READY").exists()


@needs_server
def test_users_in_a_race_make_one_server(folder: StateFolder) -> None:
    program = (
        "from triform.durable.dev_server import use_server; lease = use_server(); print(lease.info.pid, lease.address, flush=True); input()"
    )
    users = [subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        lines = {user.stdout.readline() for user in users if user.stdout}
        assert len(lines) == 1
        assert servers_in(folder) == [int(lines.pop().split()[0])]
    finally:
        for user in users:
            user.communicate("\n", timeout=10)


@needs_server
def test_another_server_version_on_an_old_database_is_refused_at_once(folder: StateFolder) -> None:
    for name, text in (("temporal.db", "tables"), ("READY", ""), ("VERSION", "1.1.0 (Server 1.24.2, UI 2.30.0)")):
        (folder.root / name).write_text(text)
    with pytest.raises(ServerUnreachable, match=r"made by Temporal 1.1.0 \(Server 1.24.2.*old binary.*move .* away"):
        use_server()
    assert (folder.root / "temporal.db").read_text() == "tables"


def test_no_binary_says_how_to_get_one(folder: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIFORM_TEMPORAL", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    with pytest.raises(ServerUnreachable, match="triform doctor --get-server"):
        use_server()
    for path in (folder.in_use_lock, folder.supervisor_lock):
        held = try_lock(path)
        assert held is not None, "a user that failed holds nothing"
        os.close(held)


def test_a_server_that_never_gets_up_is_given_up_with_its_last_words(
    folder: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "temporal version {SERVER}" && exit\necho "disk on fire"; exit 3\n')
    broken.chmod(0o755)
    monkeypatch.setenv("TRIFORM_TEMPORAL", str(broken))
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    with pytest.raises(ServerUnreachable, match=r"(?s)can't be started.*disk on fire.*ended 5 times.*code 3"):
        use_server(timeout_s=30)
    assert not (folder.root / "READY").exists()


def test_the_shared_lock_waits_for_a_supervisor_that_is_ending(folder: StateFolder) -> None:
    ending = try_lock(folder.in_use_lock)
    assert ending is not None
    with pytest.raises(ServerUnreachable, match="still being stopped"):
        use_server(timeout_s=0.2)
    os.close(ending)


def test_a_finished_database_is_kept_and_an_unfinished_one_is_not(folder: StateFolder) -> None:
    database = folder.root / "temporal.db"
    database.write_text("no tables")
    prepare_database(folder, SERVER)
    assert not database.exists()
    assert (folder.root / "VERSION").read_text() == SERVER
    database.write_text("tables")
    (folder.root / "READY").touch()
    prepare_database(folder, "0.0.0-DEV (Server 1.29.1, UI 2.42.1)")
    assert database.read_text() == "tables"
    (folder.root / "VERSION").unlink()
    with pytest.raises(ServerUnreachable, match="unknown version"):
        refuse_other_version(folder, SERVER)


def test_ports_are_kept_while_free_and_chosen_anew_when_taken(tmp_path: Path) -> None:
    pairs = server_supervisor.port_pairs(tmp_path)
    assert len(set(pairs)) == server_supervisor.NUM_PORTS
    assert pairs != server_supervisor.port_pairs(tmp_path / "another"), "two users' servers begin at different ports"
    with server_supervisor.socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        chosen = server_supervisor.free_ports((port, port + 1), pairs)
        assert chosen[0] >= server_supervisor.FIRST_PORT
        assert chosen != (port, port + 1)
    assert server_supervisor.free_ports(chosen, pairs) == chosen


def test_the_server_is_told_nothing_of_client_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "secret")
    environment = server_supervisor.server_environment()
    assert "TEMPORAL_API_KEY" not in environment
    assert environment["TEMPORAL_VERSION_CHECK_DISABLED"] == "1"


def test_the_address_card_is_whole_json(folder: StateFolder) -> None:
    info = ServerInfo(address="127.0.0.1:1", ui_url="http://127.0.0.1:2", pid=3, supervisor_pid=4, version=SERVER)
    folder.announce(info)
    assert folder.server_info() == info
    assert json.loads((folder.root / "server.json").read_text())["address"] == "127.0.0.1:1"
    assert running() is None, "a card without a live supervisor counts for nothing"
