"""How fast DT-GCNN learns, beside itself with the usual formulation of its searches and EdgeConvs.

    python benchmarks/dt_gcnn.py [--quick] [--json] [--heap default|kept|both]

A training step (forward, cross-entropy, backward, AdamW) of the network as `MeshIdentity()` has it, on 32 meshes of 1723 vertices
(--quick: 2); the graphs of its spatial layers come with the batch. The usual formulation is that of `edge_conv.py` beside this file. Each
way runs in processes of its own, in turns; medians of their times; memory is the peak of a process without the inputs and what PyTorch
takes to start. Agreement is that of the logits and of the first layer's gradient in float64.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_conv import HEAPS, NUM_THREADS, NUM_VERTICES, meshes, peak_kb, usual_edges, usual_search
from triform.kernels.k_nearest_torch import k_nearest
from triform.tasks.mesh_identity import model_torch
from triform.tasks.mesh_identity.config import MeshIdentity

NUM_CLASSES, KEPT = 100, 512


def usual_edge_conv(
    x: Tensor, neighbors: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, *_: None, eps: float, negative_slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """In place of `triform.kernels.edge_conv_torch.edge_conv`, in training."""
    mean, var = torch.zeros_like(gamma), torch.zeros_like(gamma)
    edges = F.conv2d(usual_edges(x, neighbors), weight[:, :, None, None])
    normalized = F.batch_norm(edges, mean, var, gamma, beta, True, momentum=1.0, eps=eps)
    out = F.leaky_relu(normalized, negative_slope).max(dim=-1).values.transpose(1, 2)
    return out, mean, var * (neighbors.numel() - 1) / neighbors.numel()


def network(way: str, dtype: torch.dtype) -> model_torch.IdentityNet:
    """Puts this way's functions where the model looks for them."""
    own = (k_nearest, OUR_CONV) if way == "ours" else (usual_search, usual_edge_conv)
    model_torch.k_nearest, model_torch.edge_conv = own  # type: ignore[assignment]
    return model_torch.IdentityNet(MeshIdentity(), NUM_CLASSES).to(dtype)


OUR_CONV = model_torch.edge_conv


def batch_of(batch: int, num_vertices: int, dtype: torch.dtype) -> dict[str, Tensor]:
    coordinates, normals = meshes(batch, num_vertices, dtype).split(3, dim=2)
    pool = torch.arange(min(KEPT, num_vertices)).expand(batch, -1).contiguous()
    spatial = k_nearest(coordinates, MeshIdentity().k)
    return {"coordinates": coordinates, "normals": normals, "pool_1": pool, "spatial_0": spatial, "label": torch.arange(batch)}


def gradients(net: model_torch.IdentityNet, batch: dict[str, Tensor]) -> Tensor:
    """Fill the gradients; returns the logits."""
    torch.manual_seed(0)
    logits = net(batch)[2]
    F.cross_entropy(logits, batch["label"]).backward()
    return logits.detach()


def child(way: str, batch: int, repeats: int) -> dict[str, Any]:
    """One process: a step to warm up, then `repeats` more."""
    torch.set_num_threads(NUM_THREADS)
    net, inputs, times = network(way, torch.float32), batch_of(batch, NUM_VERTICES, torch.float32), []
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    at_start = peak_kb()
    for _ in range(1 + repeats):
        begin = time.perf_counter()
        optimizer.zero_grad()
        gradients(net, inputs)
        optimizer.step()
        times.append(time.perf_counter() - begin)
    return {"times": times[1:], "mb": (peak_kb() - at_start) / 1024}


def run_child(way: str, heap: str, batch: int, repeats: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--child", way, "--batch", str(batch), "--repeats", str(repeats)]
    done = subprocess.run(words, env=os.environ | HEAPS[heap], check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measured_row(heap: str, *, batch: int, repeats: int, agree: bool) -> dict[str, Any]:
    runs = {way: run_child(way, heap, batch, repeats) for way in ("ours", "usual")}
    ours, usual = (statistics.median(runs[way]["times"]) for way in ("ours", "usual"))
    row = {"name": f"DT-GCNN, training step, {batch} meshes, {heap} heap", "ours": ours, "reference": usual, "ratio": usual / ours}
    return row | {"ours_mb": runs["ours"]["mb"], "reference_mb": runs["usual"]["mb"], "agree": agree}


def agreement() -> bool:
    """Of the two ways in float64, on small meshes."""
    found = []
    for way in ("ours", "usual"):
        net = network(way, torch.float64)
        logits = gradients(net, batch_of(3, 600, torch.float64))
        found.append((logits, net.edge[0].linear.weight.grad))
    return all(bool(torch.allclose(ours, usual, rtol=1e-7, atol=1e-9)) for ours, usual in zip(*found, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 meshes")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--heap", choices=[*HEAPS, "both"], default="both", help="the allocator's heap")
    parser.add_argument("--child", choices=["ours", "usual"], help=argparse.SUPPRESS)
    for name in ("--batch", "--repeats"):
        parser.add_argument(name, type=int, default=1, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(child(asked.child, asked.batch, asked.repeats)))
        return
    size = {"batch": 2, "repeats": 1} if asked.quick else {"batch": 32, "repeats": 3}
    agree = agreement()
    rows = [measured_row(heap, **size, agree=agree) for heap in HEAPS if asked.heap in (heap, "both")]
    if asked.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}; {NUM_THREADS} threads; load {os.getloadavg()[0]:.1f}; seconds: ours, usual")
    for one in rows:
        memory = f"{one['ours_mb']:6.0f} {one['reference_mb']:6.0f} MB"
        verdict = "same" if one["agree"] else "DIFFERENT"
        print(f"{one['name']:<52} {one['ours']:7.3f} {one['reference']:7.3f} {one['ratio']:5.1f}x {memory} {verdict}")


if __name__ == "__main__":
    main()
