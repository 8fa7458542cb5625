"""How fast raw plants become prepared clouds, beside the usual NumPy way.

    python benchmarks/prepare.py [--quick] [--json]

It grows its own plants (1045 of 10,000 points; --quick: 96) in a temporary folder. The whole command is timed from outside, start-up
included, with the kernels compiled and the raw files in the page cache; the median of three. The NumPy way is timed on a few plants
and scaled, as if it ran on two cores without loss.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

from triform.data.sampled_cloud import sample_cloud
from triform.datasets.synthetic.maize import write_maize_folder
from triform.geometry.ply import read_ply

NUM_POINTS, NUM_SOURCE_POINTS, NUM_CORES = 2048, 10_000, 2


def naive_sample(points: np.ndarray, num_samples: int, start: int) -> np.ndarray:
    """Farthest point sampling as it is usually written."""
    indices, nearest = np.empty(num_samples, np.int64), np.full(len(points), np.inf, points.dtype)
    for i in range(num_samples):
        indices[i] = start
        nearest = np.minimum(nearest, ((points - points[start]) ** 2).sum(1))
        start = int(nearest.argmax())
    return indices


def naive_prepare(path: Path, target: Path, *, resample: bool) -> None:
    """One plant in the usual way, given our reader."""
    points = read_ply(path).points()
    centroid = points.mean(axis=0)
    points = (points - centroid).astype(np.float32)
    distance = np.linalg.norm(points, axis=1)
    points /= distance.max()
    samples = [points[naive_sample(points, NUM_POINTS, int(distance.argmax()))]]
    if resample:
        samples.append(points[naive_sample(points, NUM_POINTS, int(distance.argmin()))])
    np.savez(target, *samples, centroid=centroid, scale=distance.max())


def seconds(run: Callable[[], Any], repeats: int = 3) -> float:
    """Median wall time."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def row(
    name: str, ours: float, reference: float, *, agree: bool | None, megabytes: tuple[float | None, float | None] = (None, None)
) -> dict[str, Any]:
    ours_mb, reference_mb = megabytes
    return {
        "name": name, "ours": ours, "reference": reference, "ratio": reference / ours,
        "ours_mb": ours_mb, "reference_mb": reference_mb, "agree": agree,
    }  # fmt: skip


def run_command(raw: Path) -> tuple[float, float]:
    """Wall seconds and peak MB of `triform prepare`, start-up included."""
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "triform", "prepare", "--data-dir", str(raw)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"triform prepare ended with {child.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def end_to_end_rows(raw: Path, files: list[Path], *, num_naive: int) -> list[dict[str, Any]]:
    """The whole folder, first from nothing, then with nothing to do."""
    prepared = raw.with_name(f"{raw.name}.prepared-{NUM_POINTS}")
    run_command(raw)
    runs = []
    for _ in range(3):
        shutil.rmtree(prepared)
        runs.append(run_command(raw))
    whole, peak = statistics.median(wall for wall, _ in runs), max(mb for _, mb in runs)
    unchanged = statistics.median(run_command(raw)[0] for _ in range(3))
    with tempfile.TemporaryDirectory() as scratch:
        begin = time.perf_counter()
        for number, path in enumerate(files[:num_naive]):
            naive_prepare(path, Path(scratch, f"{number}.npz"), resample=number % 5 == 0)
        naive = (time.perf_counter() - begin) / num_naive * len(files) / NUM_CORES
    label = f"prepare {len(files)} plants, {NUM_CORES} cores, NumPy scaled from {num_naive}"
    agree = all(same_cloud(path, prepared / "clouds" / f"{path.stem}.npz") for path in files[:num_naive])
    return [
        row(label, whole, naive, agree=agree, megabytes=(peak, None)),
        row(f"prepare {len(files)} plants again, nothing changed, beside the first time", unchanged, whole, agree=None),
    ]


def same_cloud(path: Path, prepared: Path) -> bool:
    """Whether the prepared points are those that the NumPy loop picks from the same normalised cloud."""
    raw = read_ply(path).points()
    with np.load(prepared, allow_pickle=False) as arrays:
        points, centroid, scale = arrays["points"], arrays["centroid"], arrays["scale"]
    unit = np.ascontiguousarray((raw - centroid) / scale, np.float32)
    start = int(((raw - centroid) ** 2).sum(1).argmax())
    return np.array_equal(unit[naive_sample(unit, NUM_POINTS, start)], points)


def measure(*, quick: bool) -> list[dict[str, Any]]:
    num_plants, num_naive = (96, 4) if quick else (1045, 16)
    with tempfile.TemporaryDirectory(prefix="triform-benchmark-") as folder:
        raw = Path(folder, "plants")
        write_maize_folder(raw, num_plants=num_plants, num_points=NUM_SOURCE_POINTS, seed=0)
        files = sorted(raw.glob("*.ply"))
        sample_cloud(files[0].read_bytes(), num_points=NUM_POINTS, resample=False)
        return end_to_end_rows(raw, files, num_naive=num_naive)


def allocator() -> str:
    changed = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("MALLOC_") or name == "LD_PRELOAD"]
    return ", ".join(changed) or "as the system has it"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few plants, under 40 s")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    asked = parser.parse_args()
    rows = measure(quick=asked.quick)
    if asked.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"allocator: {allocator()}; OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}; {os.cpu_count()} cores; seconds")
    for one in rows:
        agree = {True: "same points", False: "OTHER POINTS", None: ""}[one["agree"]]
        print(f"{one['name']:<75} {one['ours']:9.4f} {one['reference']:9.4f} {one['ratio']:7.1f}x  {agree}")


if __name__ == "__main__":
    main()
