"""What was read of a whole data set in one file, kept while a process prepares it: a workflow lists the recordings anew for each batch."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from triform.data.bookkeeping import sha256_of_file

T = TypeVar("T")
_lock = threading.Lock()
_kept: dict[tuple[object, ...], Any] = {}


def kept(read: Callable[[], T], files: Sequence[Path], *settings: object) -> T:
    """What `read` gives, from memory where the last that was read is the same: files of one content, settings of one value.

    Threads that ask at once wait for the first, so that there is one in memory.

    Args:
        settings: All that the result depends on beside the files.
    """
    key = (*settings, *map(str, files), *map(sha256_of_file, files))
    with _lock:
        if key not in _kept:
            _kept.clear()
            _kept[key] = read()
        found: T = _kept[key]
    return found


def forget() -> None:
    """Give the memory back."""
    with _lock:
        _kept.clear()
