"""Runs every benchmark that needs no data of yours, one after the other, into docs/benchmarks.md.

    python benchmarks/everything.py [--only NAME,NAME] [--quick]

Run it on a quiet machine: it takes about half an hour, with --quick a few minutes (which writes no page, but prints the tables).
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numba
import numpy as np
import torch

from triform.run.provenance import processor
from triform.training.process import keep_kernels

FOLDER = Path(__file__).parent
OPERATORS = ("products", "farthest_point_sample", "ball_query", "chamfer", "set_abstraction", "batch_statistics", "k_nearest", "edge_conv")
TASKS = ("point_autoencoder", "dt_gcnn", "pose", "pose_loading", "prepare")
PAGE = FOLDER.parent / "docs" / "benchmarks.md"


def section(name: str, *, quick: bool) -> str:
    """What a benchmark says of itself, its command, and what it prints."""
    file = FOLDER / f"{name}.py"
    words = [sys.executable, str(file), *(["--quick"] if quick else [])]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | {"OMP_WAIT_POLICY": "passive"})
    printed = done.stdout.strip() if done.returncode == 0 else f"It failed:\n\n```\n{done.stderr.strip()[-2000:]}\n```"
    if "|---" not in printed and done.returncode == 0:
        printed = f"```\n{printed}\n```"
    first = file.read_text().split('"""')[1].splitlines()[0]
    return f"### {name}\n\n{first}\n\n```\npython benchmarks/{name}.py\n```\n\n{printed}\n"


def head() -> str:
    gpu = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else "none was available: the Triton kernels are tested by its interpreter"
    )
    versions = f"Python {sys.version.split()[0]}, PyTorch {torch.__version__}, numba {numba.__version__}, NumPy {np.__version__}"
    return (
        "# Benchmarks\n\n"
        "Written by `make bench`. Each table is what the command above it printed, on a machine with nothing else to do. Ways take turns\n"
        "in one run, in processes of their own; times are medians, the ratio is the median of the turns' ratios, reference / ours. Ours\n"
        "runs as Triform starts it (heap kept); the reference on glibc's default heap, as people run it, and on a kept heap. Memory is\n"
        "the process's peak over what it held before. What the reference is, and what agreement means, stands at each file's head.\n\n"
        f"Processor: {processor()['model']}, {len(os.sched_getaffinity(0))} cores used. {versions}. GPU: {gpu}.\n"
    )


def kept() -> dict[str, str]:
    """The sections of the page as it is, by name."""
    text = PAGE.read_text() if PAGE.exists() else ""
    parts = re.split(r"^### (\w+)\n", re.sub(r"^## .*\n\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)[1:]
    return {name: f"### {name}\n{body.rstrip()}\n" for name, body in zip(parts[::2], parts[1::2], strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="names, with commas between; what the page says of others stays")
    asked = parser.parse_args()
    keep_kernels()
    names = asked.only.split(",") if asked.only else [*OPERATORS, *TASKS]
    sections = {} if asked.quick else kept()
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        sections[name] = section(name, quick=asked.quick)
        if not asked.quick:
            PAGE.write_text(page(sections))
    if asked.quick:
        print(page(sections))


def page(sections: Mapping[str, str]) -> str:
    parts = [head()]
    for title, names in (("Operators", OPERATORS), ("Tasks", TASKS)):
        parts += [f"## {title}\n", *(sections[name] for name in names if name in sections)]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
