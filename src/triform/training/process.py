"""How a trainer's process treats the machine: its heap, its waiting threads, their number."""

import ctypes
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from triform.files import user_cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1


def tame_threads() -> None:
    """Let OpenMP's threads sleep while they wait, unless the user decided; must come before torch or numba is imported.

    A busy wait makes sampling 19 times slower as soon as another process holds a core.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def keep_kernels() -> None:
    """Let numba keep what it compiles in the user's cache folder, unless the user decided; must come before numba is imported.

    A folder for each state of their sources: numba knows a kernel by its own file's time, and would not see that one it calls has changed.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    files = (path for path in sorted((Path(__file__).parents[1] / "kernels").glob("*.py")) if not path.stem.endswith("_torch"))
    state = f"{zlib.crc32(b''.join(path.read_bytes() for path in files)):08x}"
    os.environ["NUMBA_CACHE_DIR"] = str(user_cache() / "kernels" / state)


def say_what_compiles(say: Callable[[str], None]) -> None:
    """The first start takes longer, because it compiles; later ones read what it kept."""
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    if not any(folder.glob("*/*.nbi")):
        say(f"Compiling the fast kernels, once on this machine (a minute at most); they are kept in {folder}")


def keep_heap() -> None:
    """Keep freed memory in the process instead of giving large blocks back at every free, unless the user decided.

    Training is about twice as fast for it (page faults), for 1.15 to 1.7 times the memory. glibc only.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST)
        libc.mallopt(M_TRIM_THRESHOLD, LARGEST)
