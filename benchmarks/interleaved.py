"""The frame of a benchmark: each way of doing something runs in a process of its own, and the processes take turns.

A benchmark file describes its cases and ends with `main(CASES, __doc__)`. The options are then the same everywhere:

    --quick         small sizes, on the kept heap unless another is named, under 40 s: shows that it works; bounds hold for the full size
    --json          a list of {name, ours, reference, ratio, ours_mb, reference_mb, agree}
    --heap WHICH    kept (as `triform train` keeps it), default (glibc's as it comes), or both (the full size's default)
    --only TEXT     cases whose name holds the text

Times are medians in seconds; the ratio is the median of the turns' ratios, reference / ours. Memory is the peak of the process over what it
held before the first run (VmHWM; Linux alone). Ours always runs as Triform starts it: waiting threads asleep, and its heap kept unless both
get the same one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NUM_THREADS = 2
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**34)}
HEAPS: dict[str, dict[str, str]] = {"default": {}, "kept": KEPT}
Run = Callable[[], object]
Setup = Callable[[bool], Run]
"""Given whether it is to be quick: prepares all that is not measured, and returns what is."""


@dataclass(frozen=True)
class Case:
    """One thing, done in several ways."""

    name: str
    ours: Setup
    reference: Setup
    others: Mapping[str, Setup] = field(default_factory=dict)
    """Well-kept libraries, by name; one whose import fails is left out."""
    agree: Callable[[bool], bool] = lambda _quick: True
    """Whether the results are as equal as is asked."""
    at_least: Mapping[str, float] = field(default_factory=dict)
    """Bounds on the ratio by heap: "default" (ours as Triform starts it) and "kept" (for both)."""
    memory_share: float | None = None
    """Largest share of the reference's memory on the default heap."""
    most_mb: float | None = None
    """Most memory of ours."""
    turns: tuple[int, int] = (5, 3)
    """Measured turns, full and quick."""
    threads: int = NUM_THREADS


def main(cases: Sequence[Case], text: str | None) -> None:
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--heap", choices=[*HEAPS, "both"])
    parser.add_argument("--only", default="")
    parser.add_argument("--child", nargs=2, metavar=("CASE", "WAY"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        number, way = asked.child
        serve(cases[int(number)], way, quick=asked.quick)
        return
    wanted = asked.heap or ("kept" if asked.quick else "both")
    heaps = [heap for heap in HEAPS if wanted in (heap, "both")]
    rows = []
    for number, case in enumerate(cases):
        if asked.only in case.name:
            rows += measured(number, case, heaps, quick=asked.quick)
    if asked.json:
        print(json.dumps([{name: row[name] for name in ROW} for row in rows], indent=1))
    else:
        print(f"OMP_WAIT_POLICY=passive, {NUM_THREADS} threads, load {os.getloadavg()[0]:.1f}{', quick' if asked.quick else ''}\n")
        print(table(rows, quick=asked.quick))


ROW = ("name", "ours", "reference", "ratio", "ours_mb", "reference_mb", "agree")


def measured(number: int, case: Case, heaps: Sequence[str], *, quick: bool) -> list[dict[str, Any]]:
    """One row a heap and a way that ours is held against."""
    agree = case.agree(quick)
    rows = []
    for heap in heaps:
        started = {name: Way(number, case, name, heap=heap, quick=quick) for name in ("ours", "reference", *case.others)}
        ways = {name: way for name, way in started.items() if way.prepared()}
        _, *turns = [{name: way.turn() for name, way in ways.items()} for _ in range(1 + case.turns[quick])]  # the first warms up
        for way in ways.values():
            way.close()
        rows += [_row(case, heap, name, turns, agree=agree) for name in ways if name != "ours"]
    return rows


def _row(case: Case, heap: str, rival: str, turns: list[dict[str, tuple[float, float]]], *, agree: bool) -> dict[str, Any]:
    ours, other = ([turn[name][0] for turn in turns] for name in ("ours", rival))
    which = "" if rival == "reference" else f", {rival}"
    row: dict[str, Any] = {
        "name": f"{case.name}{which}, {heap} heap",
        "ours": statistics.median(ours),
        "reference": statistics.median(other),
    }
    row["ratio"] = statistics.median(theirs / mine for mine, theirs in zip(ours, other, strict=True))
    row |= {f"{name}_mb": max(turn[way][1] for turn in turns) for name, way in (("ours", "ours"), ("reference", rival))}
    bound = case.at_least.get(heap) if rival == "reference" else None
    row |= {"agree": agree, "bound": bound}
    return row | {"kept": _keeps(case, row, bound, heap)}


def _keeps(case: Case, row: dict[str, Any], bound: float | None, heap: str) -> bool:
    """Whether the row holds what is promised."""
    if bound is None:
        return True
    little = case.memory_share is None or heap != "default" or row["ours_mb"] <= case.memory_share * row["reference_mb"]
    return bool(row["agree"] and row["ratio"] >= bound and little and (case.most_mb is None or row["ours_mb"] <= case.most_mb))


def table(rows: Sequence[dict[str, Any]], *, quick: bool) -> str:
    lines = ["| what | ours | reference | ratio | promised | ours MB | reference MB | results |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        promised = "" if row["bound"] is None else f"{row['bound']:g}" + ("" if row["kept"] or quick else " **missed**")
        cells = [row["name"], _seconds(row["ours"]), _seconds(row["reference"]), f"{row['ratio']:.1f}", promised]
        cells += [f"{row['ours_mb']:.0f}", f"{row['reference_mb']:.0f}", "agree" if row["agree"] else "**DIFFER**"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.3g} ms"


class Way:
    """A process that does one thing each time it is asked."""

    def __init__(self, number: int, case: Case, name: str, *, heap: str, quick: bool) -> None:
        words = [sys.executable, sys.argv[0], "--child", str(number), name, *(["--quick"] if quick else [])]
        threads = {name: str(case.threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS")}
        environment = os.environ | {"OMP_WAIT_POLICY": "passive"} | threads | HEAPS["kept" if name == "ours" else heap]
        self.process = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.before_mb = 0.0

    def prepared(self) -> bool:
        """Whether there is this way, once it is ready for its turns."""
        first = self._read()
        self.before_mb = 0.0 if first is None else first[1]
        return first is not None

    def turn(self) -> tuple[float, float]:
        """Seconds, and the peak (MB) over what was held before the first run."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        found = self._read()
        if found is None:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended")  # type: ignore[arg-type]
        return found[0], found[1] - self.before_mb

    def _read(self) -> tuple[float, float] | None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return None if not line.startswith("{") else tuple(json.loads(line)["told"])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(case: Case, way: str, *, quick: bool) -> None:
    """Be such a process: tell what is held at first, then run for each line."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    setups = {"ours": case.ours, "reference": case.reference, **case.others}
    try:
        run = setups[way](quick)
    except ImportError:
        return
    _tell(out, 0.0)
    for _ in sys.stdin:
        began = time.perf_counter()
        run()
        _tell(out, time.perf_counter() - began)


def _tell(out: Any, seconds: float) -> None:
    print(json.dumps({"told": (seconds, peak_mb())}), file=out, flush=True)


def peak_mb() -> float:
    """Of this process alone (Linux): `ru_maxrss` would begin with what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
