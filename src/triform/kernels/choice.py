"""Which form of the kernels a process runs: the fast ones, or the plain ones that they are held against."""

from functools import cache
from importlib.util import find_spec
from typing import Literal

Kernels = Literal["auto", "fast", "reference"]

_chosen: Kernels = "auto"


def use_kernels(chosen: Kernels) -> None:
    """Choose for this process, before anything is trained. "auto": fast where they are installed.

    Raises: ValueError: "fast" without numba.
    """
    global _chosen  # noqa: PLW0603 (one choice a process, as with threads)
    if chosen == "fast" and not _installed():
        raise ValueError('kernels "fast" needs numba, which is not installed')
    _chosen = chosen


def fast() -> bool:
    """Whether the fast kernels of the CPU run."""
    return _chosen != "reference" and _installed()


@cache
def _installed() -> bool:
    return find_spec("numba") is not None
