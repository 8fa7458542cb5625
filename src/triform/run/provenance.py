"""What a run was made with: packages, processor, threads, code. Where these differ, equal bits are no longer promised."""

import hashlib
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from triform.run.folder import Json

# The packages whose arithmetic reaches the weights.
ARITHMETIC = ("torch", "mlx", "numpy", "numba", "llvmlite", "scipy", "triform")


def packages(*, without: str = "") -> dict[str, str]:
    """Installed versions of the packages whose arithmetic reaches the weights. Args: without: the framework that is not used."""
    found = {}
    for name in ARITHMETIC:
        if name == without:
            continue
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"python": platform.python_version(), **found}


def processor() -> Json:
    """Architecture, model and a digest of the instruction sets, which choose the kernels that libraries run."""
    text = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    entry = {key.strip(): value.strip() for key, value in fields.items()}
    flags = " ".join(sorted(entry.get("flags", entry.get("Features", "")).split()))
    return {
        "machine": platform.machine(),
        "model": entry.get("model name", platform.processor()),
        "features": hashlib.sha256(flags.encode()).hexdigest()[:16],
    }


def environment(*, num_threads: int, device: str) -> Json:
    """What is compared when a run goes on. Args: device: `cpu`, or `mlx cpu` where MLX trains."""
    unused = "torch" if device.startswith("mlx") else "mlx"
    return {"packages": packages(without=unused), "processor": processor(), "num_threads": num_threads, "device": device}


def changes(before: Json, after: Json) -> list[str]:
    """What differs between two environments, in words."""

    def flat(tree: Json, prefix: str = "") -> dict[str, Any]:
        return {
            path: leaf
            for key, value in tree.items()
            for path, leaf in (flat(value, f"{prefix}{key} ") if isinstance(value, dict) else {f"{prefix}{key}": value}).items()
        }

    old, new = flat(before), flat(after)
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]


def usable_threads() -> int:
    """Processors this process may run on."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else (psutil.cpu_count() or 1)


def git_commit() -> str | None:
    """Commit of the folder the user works in, with `+changes` where files differ; None outside a repository."""
    try:
        told = subprocess.run(["git", "describe", "--always", "--abbrev=40", "--dirty=+changes"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None
