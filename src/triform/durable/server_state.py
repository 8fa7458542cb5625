"""The embedded server's state folder: its locks, the address card of the live server, and the database of one server version."""

import contextlib
import fcntl
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from triform.durable import server_binary
from triform.errors import CannotWrite, ServerUnreachable
from triform.files import write_durably

DATABASE = "temporal.db"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo:
    """The card `server.json`: it exists while a supervisor has a server that has been healthy."""

    address: str
    ui_url: str
    pid: int
    supervisor_pid: int
    version: str


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Paths of one user's embedded server, and the few files that are read and written as a whole."""

    root: Path

    @classmethod
    def of_this_user(cls) -> "StateFolder":
        """`TRIFORM_STATE_DIR`, else the platform's folder for state. It should be on a local disk: SQLite and flock live there."""
        mac = Path.home() / "Library" / "Application Support"
        platform = os.environ.get("XDG_STATE_HOME") or (mac if sys.platform == "darwin" else Path.home() / ".local" / "state")
        base = os.environ.get("TRIFORM_STATE_DIR") or Path(platform) / "triform"
        return cls(Path(base).expanduser().absolute() / "server")

    @property
    def supervisor_lock(self) -> Path:
        """Held exclusively by the one supervisor."""
        return self.root / "supervisor.lock"

    @property
    def in_use_lock(self) -> Path:
        """Held shared by every user of the server, exclusively by a supervisor that is ending it."""
        return self.root / "in_use.lock"

    @property
    def server_lock(self) -> Path:
        """Inherited by the server process itself: while it is held, somebody has the database open."""
        return self.root / "server.lock"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    def create(self) -> None:
        """Make the folder, closed to other users: the server has no authentication."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise CannotWrite(
                f"the state folder {self.root} can't be made: {error.strerror}",
                expected="a folder on a local disk",
                do="set TRIFORM_STATE_DIR to one you may write",
            ) from error

    def server_info(self) -> ServerInfo | None:
        try:
            return ServerInfo(**json.loads((self.root / "server.json").read_text()))
        except FileNotFoundError:
            return None

    def announce(self, info: ServerInfo) -> None:
        write_durably(self.root / "server.json", json.dumps(asdict(info), indent=1).encode())

    def withdraw(self) -> None:
        (self.root / "server.json").unlink(missing_ok=True)

    def ports(self) -> tuple[int, int] | None:
        """The server's and the web page's port of last time: bookmarks and waiting clients stay right."""
        try:
            port, ui_port = json.loads((self.root / "ports.json").read_text())
        except FileNotFoundError:
            return None
        return port, ui_port

    def remember_ports(self, port: int, ui_port: int) -> None:
        write_durably(self.root / "ports.json", json.dumps([port, ui_port]).encode())

    def start_log(self) -> None:
        """A new log for a new supervisor; the last one is kept beside it."""
        with contextlib.suppress(FileNotFoundError):
            self.log.replace(self.log.with_suffix(".log.1"))

    def log_tail(self, lines: int = 8) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """A file descriptor that holds the lock until its last copy is closed, or None when another holder is in the way.

    Never unlock it: an explicit unlock ends the lock of every process that inherited the descriptor; closing does not.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        raise CannotWrite(
            f"{path} can't be locked: {error.strerror}",
            expected="a disk that knows flock",
            do="set TRIFORM_STATE_DIR to a folder on a local disk",
        ) from error
    return descriptor


def refuse_other_version(folder: StateFolder, version: str) -> None:
    """A finished database belongs to the server version that made it: SQLite gets no migrations (temporalio/temporal#10488).

    Raises:
        ServerUnreachable: the database was made by another server version.
    """
    if not _is_ready(folder):
        return
    try:
        made_by = (folder.root / "VERSION").read_text().strip()
    except FileNotFoundError:
        made_by = "an unknown version"
    if server_binary.server_version(made_by) != server_binary.server_version(version):
        raise ServerUnreachable(
            f"the database {folder.root / DATABASE} was made by Temporal {made_by}, and the binary found is {version}",
            expected="the server version that made the database; Temporal can't upgrade a SQLite one",
            do=f"set TRIFORM_TEMPORAL to the old binary until the runs have ended, or move {folder.root} away: "
            "runs started again go on from their last checkpoint",
        )


def prepare_database(folder: StateFolder, version: str) -> None:
    """Call before each start of the server, holding `server_lock`.

    A server killed while it made its database leaves a file without tables, which it would trust for ever: without our READY
    mark, set after the first health check, the file is made anew.
    """
    refuse_other_version(folder, version)
    if _is_ready(folder):
        return
    for name in ("READY", DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal"):
        (folder.root / name).unlink(missing_ok=True)
    write_durably(folder.root / "VERSION", version.encode())


def mark_ready(folder: StateFolder) -> None:
    """The database has its tables: from now on it is kept."""
    if not _is_ready(folder):
        write_durably(folder.root / "READY", b"")


def _is_ready(folder: StateFolder) -> bool:
    return (folder.root / DATABASE).is_file() and (folder.root / "READY").is_file()
