"""A file is either the old one or the new one, never half of one."""

import errno
import os
from pathlib import Path

from triform.errors import CannotWrite, DiskFull


def replace_bytes(path: Path, content: bytes) -> None:
    """Write `content` under a temporary name in the folder of `path`, then rename it; missing folders are made.

    Raises:
        DiskFull: No space is left; `path` is as it was.
        CannotWrite: The system refused for another reason; `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        _remove_quietly(temporary)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"No space is left for {path}", do="Free some space and write the report again") from error
        raise CannotWrite(
            f"{path} can't be written: {error.strerror}", expected="a writable folder", do="Check its permissions, or choose another path"
        ) from error


def _remove_quietly(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
