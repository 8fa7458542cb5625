"""What this machine has and lacks for Triform, and how to mend each lack. Nothing here downloads or changes anything."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

Status = Literal["ok", "warn", "fail"]
GIB = 2**30
LOW_DISK_GIB, LOW_RAM_GIB, TORCH_TIMEOUT_S = 5.0, 2.0, 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One line of the doctor's table; `do` is empty where nothing is to be done."""

    name: str
    status: Status
    found: str
    do: str = ""


Look = Callable[[], Iterator[Check]]


def checks(address: str | None = None) -> Iterator[Check]:
    """All findings, the quick ones first and torch's device (seconds of import) last. A check that breaks is itself a finding.

    Args:
        address: of a Temporal cluster, as `--address` gives it; without it the configured or the embedded server is looked at.
    """
    looks: list[tuple[str, Look]] = [
        ("Python", _python),
        ("packages", _packages),
        ("processors", _processors),
        ("memory", _memory),
        ("disk", _disk),
        ("numba cache", _numba_cache),
        ("Temporal binary", _server_binary),
        ("Temporal server", lambda: _server(address)),
        ("torch", _torch),
    ]
    return _every(looks)


def _every(looks: list[tuple[str, Look]]) -> Iterator[Check]:
    for name, look in looks:
        try:
            yield from look()
        except Exception as error:
            yield Check(name=name, status="fail", found=f"{type(error).__name__}: {error}", do="report this: the check itself broke")


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()} at {sys.executable}, {platform.system()} {platform.machine()}"
    if sys.platform not in ("linux", "darwin"):
        yield Check(
            name="Python", status="fail", found=found, do="use Linux or macOS (on Windows: WSL); flock and process groups are needed"
        )
    else:
        yield Check(name="Python", status="ok", found=found)


def _packages() -> Iterator[Check]:
    """Every declared requirement against what is installed, without importing any of it."""
    good: list[str] = []
    for requirement in metadata.requires("triform") or []:
        bounds, _, condition = requirement.partition(";")
        name, extra = bounds_of(bounds)[0], "extra" in condition
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if not extra:
                yield Check(name="packages", status="fail", found=f"{name} is missing", do=f"pip install '{bounds.strip()}'")
            continue
        if not satisfies(version, bounds):
            yield Check(name="packages", status="fail", found=f"{name} {version}", do=f"pip install '{bounds.strip()}'")
        else:
            good.append(f"{name} {version}")
    yield Check(name="packages", status="ok", found=", ".join(good))


def bounds_of(requirement: str) -> tuple[str, list[tuple[str, tuple[int, ...]]]]:
    """`torch<3,>=2.9` -> ("torch", [("<", (3,)), (">=", (2, 9))]); only the comparisons that pyproject.toml uses."""
    name = re.match(r"[A-Za-z0-9._-]*[A-Za-z0-9]", requirement.strip())
    bounds = re.findall(r"(>=|<=|==|<|>)\s*([0-9.]+)", requirement)
    return (name.group() if name else requirement), [(sign, _numbers(version)) for sign, version in bounds]


def satisfies(version: str, requirement: str) -> bool:
    """Whether a version such as `2.13.0+cpu` is within `torch>=2.9`."""
    have = _numbers(version)
    hold: dict[str, Callable[[tuple[int, ...]], bool]] = {
        ">=": lambda bound: have >= bound,
        ">": lambda bound: have > bound,
        "<": lambda bound: have < bound,
        "<=": lambda bound: have <= bound,
        "==": lambda bound: have == bound,
    }
    return all(hold[sign](bound) for sign, bound in bounds_of(requirement)[1])


def _numbers(version: str) -> tuple[int, ...]:
    """Trailing zeros are dropped: 2.0 is 2."""
    match = re.match(r"[0-9]+(\.[0-9]+)*", version)
    numbers = [int(part) for part in match.group().split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _processors() -> Iterator[Check]:
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota, load = cpu_quota(), os.getloadavg()[0]
    cores = min(allowed, quota or allowed)
    limits = f" (a cgroup allows {quota:g})" if quota is not None and quota < allowed else ""
    found = f"{allowed} of {os.cpu_count()} cores{limits}, load {load:.1f}"
    if load > 1.5 * cores:
        yield Check(
            name="processors", status="warn", found=found, do="other programs are busy here: training will be slower until they end"
        )
    else:
        yield Check(name="processors", status="ok", found=found)


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores a container may use at once, from cgroup v2 `cpu.max` or v1 `cpu.cfs_quota_us`; None without a limit."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    except (OSError, ValueError):
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def _memory() -> Iterator[Check]:
    import psutil

    memory = psutil.virtual_memory()
    limits = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    limit = next((int(text) for path in limits if path.exists() and (text := path.read_text().strip()).isdigit()), memory.total)
    free_gib = min(memory.available, limit) / GIB
    found = f"{free_gib:.1f} GiB free of {min(memory.total, limit) / GIB:.1f} GiB"
    if free_gib < LOW_RAM_GIB:
        yield Check(name="memory", status="warn", found=found, do="end other programs, or lower batch_size and the number of workers")
    else:
        yield Check(name="memory", status="ok", found=found)


def _disk() -> Iterator[Check]:
    from triform.durable.server_binary import cache_folder
    from triform.durable.server_state import StateFolder

    for name, folder in (("working", Path.cwd()), ("cache", cache_folder()), ("state", StateFolder.of_this_user().root)):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free_gib = shutil.disk_usage(there).free / GIB
        found = f"{free_gib:.1f} GiB free for {folder}"
        if not os.access(there, os.W_OK):
            yield Check(name=f"{name} folder", status="fail", found=f"{there} is not writable", do=_MOVE[name])
        elif free_gib < LOW_DISK_GIB:
            yield Check(name=f"{name} folder", status="warn", found=found, do=f"make space there, or {_MOVE[name]}")
        else:
            yield Check(name=f"{name} folder", status="ok", found=found)


_MOVE = {
    "working": "work in another folder",
    "cache": "set XDG_CACHE_HOME to a folder you may write",
    "state": "set TRIFORM_STATE_DIR to a folder on a local disk you may write",
}


def _numba_cache() -> Iterator[Check]:
    """Numba keeps compiled kernels in NUMBA_CACHE_DIR, which is the user's cache where it is not set; else beside the source."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    beside = Path(__file__).parent / "kernels"
    candidates = [Path(named)] if named else [beside, Path.home() / ".cache"]
    for folder in candidates:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if os.access(there, os.W_OK):
            yield Check(name="numba cache", status="ok", found=f"{folder} is writable")
            return
    found = f"{' and '.join(map(str, candidates))} can't be written: every start compiles the kernels again"
    yield Check(name="numba cache", status="warn", found=found, do="set NUMBA_CACHE_DIR to a folder you may write")


def _server_binary() -> Iterator[Check]:
    from triform.durable import server_binary
    from triform.errors import ServerUnreachable

    try:
        path = server_binary.find()
        if path is None:
            yield Check(name="Temporal binary", status="warn", found="none", do=f"for durable runs {server_binary.HOW_TO_GET_ONE}")
        else:
            yield Check(name="Temporal binary", status="ok", found=f"{path} {server_binary.version(path)}")
    except ServerUnreachable as error:
        yield Check(name="Temporal binary", status="fail", found=error.got, do=error.do)


def _server(address: str | None) -> Iterator[Check]:
    """The configured cluster, else the embedded server where one is up; its absence is no fault, it starts with a run."""
    import asyncio

    from triform.durable import server_binary
    from triform.durable.connection import Target, connect, resolve_target
    from triform.durable.dev_server import running
    from triform.durable.server_state import StateFolder, refuse_other_version
    from triform.errors import TriformError

    try:
        target, info = resolve_target(address), running()
        if target is None and info is None:
            if (binary := server_binary.find()) is not None:
                refuse_other_version(StateFolder.of_this_user(), server_binary.version(binary))
            yield Check(name="Temporal server", status="ok", found="no embedded server is up; one starts with the first durable run")
            return
        target = target or Target(address=info.address if info else "")
        asyncio.run(connect(target, timeout_s=3.0))
    except TriformError as error:
        yield Check(name="Temporal server", status="fail", found=error.got, do=error.do)
    else:
        yield Check(
            name="Temporal server", status="ok", found=f"{target.address} ({target.source}) answers, namespace {target.namespace!r}"
        )


_TORCH_PROGRAM = """
import torch
mps = torch.backends.mps.is_available()
gpu = torch.cuda.get_device_name() + " (cuda)" if torch.cuda.is_available() else "Apple GPU (mps)" if mps else "CPU"
print(f"torch {torch.__version__}, built for CUDA {torch.version.cuda}, {torch.get_num_threads()} threads, device {gpu}")
"""


def _torch() -> Iterator[Check]:
    """In a process of its own: a broken driver or library may end or stop the process that loads it."""
    reinstall = "install torch again for this machine's kind and driver (https://pytorch.org/get-started/locally)"
    try:
        done = subprocess.run([sys.executable, "-c", _TORCH_PROGRAM], capture_output=True, text=True, timeout=TORCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        yield Check(
            name="torch", status="fail", found=f"not loaded after {TORCH_TIMEOUT_S:g} s", do=f"check the GPU's driver, or {reinstall}"
        )
        return
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        yield Check(name="torch", status="fail", found=said[-1], do=reinstall)
    elif done.stdout.endswith("CPU\n") and shutil.which("nvidia-smi"):
        yield Check(
            name="torch", status="warn", found=done.stdout.strip(), do=f"this machine has an NVIDIA GPU that torch can't use: {reinstall}"
        )
    else:
        yield Check(name="torch", status="ok", found=done.stdout.strip())
