"""How fast a stack of EdgeConvs learns, beside the usual formulation of the published equations.

    python benchmarks/edge_conv.py [--quick] [--json] [--heap default|kept|both]

Forward and backward of EdgeConvs 6-64-64-128-256 with the search for 20 neighbours in feature space before each, on 32 meshes of 1723
vertices (--quick: 2). The usual formulation: all distances at once and topk; features (x_j - x_i, x_i) of all edges, 1x1 convolution,
BatchNorm2d, LeakyReLU, max. Each way runs in processes of its own, in turns; medians of their times; memory is the peak of a process
without the inputs and what PyTorch takes to start. Each is measured with the allocator as the system has it and with a kept heap, where
freed memory is not given back. Agreement is that of outputs, gradients and batch statistics in float64 on the same graphs, with BatchNorm
scales of both signs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triform.kernels.edge_conv_torch import edge_conv
from triform.kernels.k_nearest_torch import k_nearest

NUM_VERTICES, K, CHANNELS, NUM_THREADS = 1723, 20, (6, 64, 64, 128, 256), 2
KEPT_HEAP = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
HEAPS: dict[str, dict[str, str]] = {"default": {}, "kept": KEPT_HEAP}

Conv = Callable[[Tensor, Tensor, nn.Conv2d, nn.BatchNorm2d], Tensor]
Search = Callable[[Tensor, int], Tensor]


def usual_search(x: Tensor, k: int) -> Tensor:
    """All squared distances of the batch, and topk."""
    x = x.transpose(1, 2)
    squares = (x**2).sum(dim=1, keepdim=True)
    negative = -squares - (-2 * torch.matmul(x.transpose(2, 1), x)) - squares.transpose(2, 1)
    return negative.topk(k, dim=-1).indices


def usual_edges(x: Tensor, neighbors: Tensor) -> Tensor:
    """DGCNN, section 3, as it is published: every edge has its features (batch, 2 channel, vertex, k)."""
    batch, num_vertices, channels = x.shape
    k = neighbors.shape[2]
    rows = (neighbors + torch.arange(batch)[:, None, None] * num_vertices).flatten()
    there = x.reshape(batch * num_vertices, channels)[rows].view(batch, num_vertices, k, channels)
    here = x[:, :, None].repeat(1, 1, k, 1)
    return torch.cat((there - here, here), dim=3).permute(0, 3, 1, 2).contiguous()


def usual_conv(x: Tensor, neighbors: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    return F.leaky_relu(norm(conv(usual_edges(x, neighbors))), 0.2).max(dim=-1).values.transpose(1, 2)


def our_conv(x: Tensor, neighbors: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    out, mean, var = edge_conv(x, neighbors, conv.weight[:, :, 0, 0], norm.weight, norm.bias)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    count = neighbors.numel()
    norm.running_mean.lerp_(mean, 0.1)
    norm.running_var.lerp_(var * (count / (count - 1)), 0.1)
    return out


WAYS: dict[str, tuple[Search, Conv]] = {"ours": (k_nearest, our_conv), "usual": (usual_search, usual_conv)}


def stack(dtype: torch.dtype) -> tuple[list[nn.Conv2d], list[nn.BatchNorm2d]]:
    """The same layers each time; every other scale is negative."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(2 * before, width, 1, bias=False).to(dtype) for before, width in pairwise(CHANNELS)]
    norms = [nn.BatchNorm2d(width).to(dtype) for width in CHANNELS[1:]]
    with torch.no_grad():
        for norm in norms:
            norm.weight.mul_(torch.tensor([1.0, -1.0], dtype=dtype).repeat(norm.num_features // 2))
    return convs, norms


def meshes(batch: int, num_vertices: int, dtype: torch.dtype) -> Tensor:
    """Bumpy spheres: coordinates and directions."""
    generator = np.random.default_rng(0)
    normals = generator.normal(size=(batch, num_vertices, 3))
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    bumps = 1 + 0.2 * np.sin(4 * normals[..., :1] + generator.uniform(0, 6, (batch, 1, 1)))
    return torch.from_numpy(np.concatenate([bumps * normals, normals], axis=2)).to(dtype)


def step(way: str, x: Tensor, layers: tuple[list[nn.Conv2d], list[nn.BatchNorm2d]]) -> dict[str, float]:
    """Seconds of one forward and backward pass, with and without its searches."""
    search, convolve = WAYS[way]
    begin, searching, outputs = time.perf_counter(), 0.0, []
    for conv, norm in zip(*layers, strict=True):
        before = time.perf_counter()
        with torch.no_grad():
            neighbors = search(x, K)
        searching += time.perf_counter() - before
        x = convolve(x, neighbors, conv, norm)
        outputs.append(x)
    torch.cat(outputs, dim=2).square().mean().backward()  # type: ignore[no-untyped-call]
    whole = time.perf_counter() - begin
    return {"step": whole, "without search": whole - searching}


def peak_kb() -> int:
    """Of this process alone (Linux): `ru_maxrss` would begin with what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def child(way: str, batch: int, repeats: int) -> dict[str, Any]:
    """One process: a step to warm up, then `repeats` more."""
    torch.set_num_threads(NUM_THREADS)
    x, layers = meshes(batch, NUM_VERTICES, torch.float32), stack(torch.float32)
    torch.randn(512, 512) @ torch.randn(512, 512)
    at_start = peak_kb()
    times = [step(way, x, layers) for _ in range(1 + repeats)][1:]
    peak = peak_kb()
    return {"times": times, "mb": (peak - at_start) / 1024, "whole_mb": peak / 1024}


def run_child(way: str, heap: str, batch: int, repeats: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--child", way, "--batch", str(batch), "--repeats", str(repeats)]
    done = subprocess.run(words, env=os.environ | HEAPS[heap], check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def median(runs: list[dict[str, Any]], part: str) -> float:
    return float(statistics.median(times[part] for run in runs for times in run["times"]))


def measured_rows(heap: str, *, batch: int, rounds: int, repeats: int, agree: bool) -> list[dict[str, Any]]:
    """The whole step, and the same without the searches."""
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, found in runs.items():
            found.append(run_child(way, heap, batch, repeats))
    rows = []
    for part in ("step", "without search"):
        ours, usual = median(runs["ours"], part), median(runs["usual"], part)
        row: dict[str, Any] = {
            "name": f"EdgeConv stack, {part}, {batch} meshes, {heap} heap",
            "ours": ours,
            "reference": usual,
            "ratio": usual / ours,
        }
        whole = part == "step"
        row |= {"ours_mb": max(run["mb"] for run in runs["ours"]) if whole else None}
        row |= {"reference_mb": max(run["mb"] for run in runs["usual"]) if whole else None}
        row |= {"agree": agree if whole else None}
        rows.append(row)
    return rows


def differences(batch: int = 2, num_vertices: int = 300) -> dict[str, float]:
    """The largest difference in float64, relative to the largest number, of outputs, gradients and running statistics."""
    results: dict[str, list[Tensor]] = {}
    graphs: list[Tensor] = []
    for way, (_, convolve) in WAYS.items():
        start = meshes(batch, num_vertices, torch.float64).requires_grad_()
        convs, norms = stack(torch.float64)
        x, outputs = start, []
        for number, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
            if number == len(graphs):
                graphs.append(k_nearest(x, K))
            x = convolve(x, graphs[number], conv, norm)
            outputs.append(x)
        torch.cat(outputs, dim=2).square().mean().backward()  # type: ignore[no-untyped-call]
        learned = [start, *(each for module in (*convs, *norms) for each in module.parameters())]
        running = [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
        results[way] = [*(each.detach() for each in outputs), *(each.grad for each in learned if each.grad is not None), *running]
    names = ["outputs"] * 4 + ["gradients"] * 13 + ["running statistics"] * 8
    found: dict[str, float] = {}
    for name, ours, usual in zip(names, results["ours"], results["usual"], strict=True):
        found[name] = max(found.get(name, 0.0), float((ours - usual).abs().max() / usual.abs().max()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 meshes")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--heap", choices=[*HEAPS, "both"], default="both", help="the allocator's heap")
    parser.add_argument("--child", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=32, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=1, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(child(asked.child, asked.batch, asked.repeats)))
        return
    size = {"batch": 2, "rounds": 1, "repeats": 1} if asked.quick else {"batch": 32, "rounds": 1, "repeats": 2}
    found = differences()
    agree = max(found.values()) <= 1e-9
    rows = [row for heap in HEAPS if asked.heap in (heap, "both") for row in measured_rows(heap, **size, agree=agree)]
    if asked.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}; {NUM_THREADS} threads; load {os.getloadavg()[0]:.1f}; seconds: ours, usual")
    print("; ".join(f"{name} differ by {value:.1e} in float64" for name, value in found.items()))
    for one in rows:
        memory = (
            f"{one['ours_mb']:6.0f} {one['reference_mb']:6.0f} MB, 1/{one['reference_mb'] / one['ours_mb']:.1f}"
            if one["ours_mb"] is not None
            else ""
        )
        verdict = {True: "same", False: "DIFFERENT", None: ""}[one["agree"]]
        print(f"{one['name']:<54} {one['ours']:8.3f} {one['reference']:8.3f} {one['ratio']:6.1f}x  {memory}  {verdict}")


if __name__ == "__main__":
    main()
