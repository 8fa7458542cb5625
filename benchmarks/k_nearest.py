"""How fast the nearest vertices in feature space are found, beside the usual formulation.

    python benchmarks/k_nearest.py [--quick] [--json] [--heap default|kept]

20 neighbours of each of 1723 vertices with 6, 64 and 128 features, 32 samples (--quick: 4, of 64). The usual formulation takes all squared
distances of the batch at once and `topk`; faiss (IndexFlatL2) joins where it is installed. Each way runs in a process of its own, in turns;
medians of their times; memory is the peak of a process without its inputs. They agree if each k-th distance, in float64, is as great as
the usual one's to within 1e-5: near-ties may fall either way.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor

from triform.kernels.k_nearest_torch import k_nearest

NUM_VERTICES, K, CHANNELS, NUM_THREADS = 1723, 20, (6, 64, 128), 2
KEPT_HEAP = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
HEAPS: dict[str, dict[str, str]] = {"default": {}, "kept": KEPT_HEAP}


def usual(x: Tensor, k: int) -> Tensor:
    """All squared distances of the batch, and topk."""
    x = x.transpose(1, 2)
    squares = (x**2).sum(dim=1, keepdim=True)
    negative = -squares - (-2 * torch.matmul(x.transpose(2, 1), x)) - squares.transpose(2, 1)
    return negative.topk(k, dim=-1).indices


def by_faiss(x: Tensor, k: int) -> Tensor:
    import faiss

    found = []
    for sample in x.numpy():
        index = faiss.IndexFlatL2(sample.shape[1])
        index.add(sample)
        found.append(torch.from_numpy(index.search(sample, k)[1]))
    return torch.stack(found)


WAYS: dict[str, Callable[[Tensor, int], Tensor]] = {"ours": k_nearest, "usual": usual}
if find_spec("faiss"):
    WAYS["faiss"] = by_faiss


def features(batch: int, channels: int) -> Tensor:
    return torch.randn(batch, NUM_VERTICES, channels, generator=torch.Generator().manual_seed(0))


def peak_kb() -> int:
    """Of this process alone (Linux): `ru_maxrss` would begin with what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def child(way: str, channels: int, batch: int, repeats: int) -> dict[str, Any]:
    """One process: a search to warm up, then `repeats` more."""
    torch.set_num_threads(NUM_THREADS)
    x, search = features(batch, channels), WAYS[way]
    search(x[:1, :64], K)
    at_start, times = peak_kb(), []
    for _ in range(1 + repeats):
        begin = time.perf_counter()
        search(x, K)
        times.append(time.perf_counter() - begin)
    return {"times": times[1:], "mb": (peak_kb() - at_start) / 1024}


def run_child(way: str, heap: str, channels: int, batch: int, repeats: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--child", way, "--channels", str(channels), "--batch", str(batch), "--repeats", str(repeats)]
    done = subprocess.run(words, env=os.environ | HEAPS[heap], check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def agree(way: str, channels: int) -> bool:
    """Distances near to far, in float64."""
    x = features(2, channels)
    wide = x.double()
    distances = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist")
    ours, theirs = (distances.gather(2, search(x, K)).sort(dim=2).values for search in (k_nearest, WAYS[way]))
    return bool(torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5))


def measured_rows(heap: str, *, channels: int, batch: int, rounds: int, repeats: int, agreed: dict[str, bool]) -> list[dict[str, Any]]:
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, found in runs.items():
            found.append(run_child(way, heap, channels, batch, repeats))
    seconds = {way: statistics.median(each for run in found for each in run["times"]) for way, found in runs.items()}
    peaks = {way: max(run["mb"] for run in found) for way, found in runs.items()}
    rows = []
    for way, same in agreed.items():
        name = f"k nearest, {channels} features, {batch} samples, {heap} heap, against {way}"
        row: dict[str, Any] = {"name": name, "ours": seconds["ours"], "reference": seconds[way], "ratio": seconds[way] / seconds["ours"]}
        rows.append(row | {"ours_mb": peaks["ours"], "reference_mb": peaks[way], "agree": same})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 samples of 64 features")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--heap", choices=[*HEAPS, "both"], default="both", help="the allocator's heap")
    parser.add_argument("--child", choices=list(WAYS), help=argparse.SUPPRESS)
    for name in ("--channels", "--batch", "--repeats"):
        parser.add_argument(name, type=int, default=1, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(child(asked.child, asked.channels, asked.batch, asked.repeats)))
        return
    size = {"batch": 4, "rounds": 1, "repeats": 3} if asked.quick else {"batch": 32, "rounds": 3, "repeats": 2}
    heaps, rows = [heap for heap in HEAPS if asked.heap in (heap, "both")], []
    for channels in (64,) if asked.quick else CHANNELS:
        agreed = {way: agree(way, channels) for way in WAYS if way != "ours"}
        rows += [row for heap in heaps for row in measured_rows(heap, channels=channels, **size, agreed=agreed)]
    if asked.json:
        print(json.dumps(rows, indent=1))
        return
    print(
        f"OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}; {NUM_THREADS} threads; load {os.getloadavg()[0]:.1f}; seconds: ours, reference"
    )
    for one in rows:
        memory = f"{one['ours_mb']:6.0f} {one['reference_mb']:6.0f} MB"
        verdict = "same" if one["agree"] else "DIFFERENT"
        print(f"{one['name']:<64} {one['ours']:7.3f} {one['reference']:7.3f} {one['ratio']:5.1f}x {memory} {verdict}")


if __name__ == "__main__":
    main()
