"""Files that are there whole or not at all, also after a power cut."""

import errno
import itertools
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from triform.errors import CannotWrite, DiskFull

_FULL = {errno.ENOSPC, errno.EDQUOT}
_serial = itertools.count()


def user_cache() -> Path:
    """This user's folder for what can be made again; not created here."""
    mac = Path.home() / "Library" / "Caches"
    base = os.environ.get("XDG_CACHE_HOME") or (mac if sys.platform == "darwin" else Path.home() / ".cache")
    return Path(base) / "triform"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusals to write `path` into DiskFull or CannotWrite."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(
                f"The disk that holds {path} is full ({error.strerror})",
                expected="room for what is to be written",
                do="free some space and start the same command again; what was there is intact",
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO}:
            raise CannotWrite(
                f"{path} can't be written ({error.strerror})",
                expected="a folder this user may write",
                do="change its permissions, or give another --output-dir or --prepared-dir",
            ) from error
        raise


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` as durable as the files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_temporary(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}-{next(_serial)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def write_all(files: Mapping[Path, bytes]) -> None:
    """Replace every file by its data: all to temporary names, fsynced, then all renamed, then their folders fsynced, which waits for
    a folder once. Safe beside another thread or process that writes the same files.

    Raises: DiskFull, CannotWrite.
    """
    temporaries: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporaries[path] = _write_temporary(path, data)
        for path, temporary in temporaries.items():
            with disk_errors(path):
                os.replace(temporary, path)
    except BaseException:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
        raise
    flush_folders(path.parent for path in files)


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path` by `data`. Raises: DiskFull, CannotWrite."""
    write_all({path: data})


def flush_folders(folders: Iterable[Path]) -> None:
    """Make the names in these folders as durable as the files."""
    for folder in set(folders):
        with disk_errors(folder):
            fsync_folder(folder)


def create_durably(path: Path, data: bytes) -> bool:
    """Create `path` with `data` unless the name is taken; True if it was created here.

    A hard link is the one way to create a whole file only if its name is free that also holds on NFS version 3.

    Raises: DiskFull, CannotWrite.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _write_temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(path.parent)
    return True


def replace_quickly(path: Path, data: bytes) -> None:
    """Replace `path` at once for readers, without waiting for the disk: for what a power cut may take."""
    with disk_errors(path):
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_serial)}.tmp")
        temporary.write_bytes(data)
        os.replace(temporary, path)


def remove_litter(folder: Path) -> None:
    """Remove temporary files that a killed process left in `folder`."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def remove_dead_litter(folder: Path) -> None:
    """Remove temporary files of processes that are no more, at any depth; another live one may be writing the same files."""
    import psutil

    for path in folder.rglob(".*.tmp"):
        number = re.search(r"\.(\d+)-[\d-]+\.tmp$", path.name)
        if number is None or not psutil.pid_exists(int(number[1])):
            path.unlink(missing_ok=True)
