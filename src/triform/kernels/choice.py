"""Which form of the kernels a process runs: the fast ones, or the plain ones that they are held against."""

from functools import cache
from importlib.util import find_spec
from typing import Literal

from triform.errors import ExperimentError

Kernels = Literal["auto", "fast", "reference"]

_chosen: Kernels = "auto"


def use_kernels(chosen: Kernels) -> None:
    """Choose for this process, before anything is trained. "auto": fast where they are installed.

    Raises: ExperimentError: "fast" without numba.
    """
    global _chosen
    if chosen == "fast" and not _installed("numba"):
        raise ExperimentError('kernels "fast" needs numba, which is not installed', do="install numba")
    _chosen = chosen


def fast() -> bool:
    """Whether the fast kernels of the CPU run."""
    return _chosen != "reference" and _installed("numba")


def fast_on_cuda() -> bool:
    """Whether the Triton kernels run where the tensors are on a CUDA device."""
    return _chosen != "reference" and _installed("triton")


@cache
def _installed(package: str) -> bool:
    return find_spec(package) is not None
