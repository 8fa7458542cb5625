"""The graph of a dynamic layer: the nearest vertices in feature space."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_DISTANCES = 2**26
"""Distances at once where there is no cache to stay in: 268 MB."""


@torch.compiler.disable  # type: ignore[untyped-decorator]
@torch.no_grad()
def k_nearest(x: Float[Tensor, "batch vertex channel"], k: int) -> Int64[Tensor, "batch vertex {k}"]:
    """Return the k nearest vertices of each vertex by Euclidean distance, itself first, then from near to far; no gradient.

    Distances come from |x_j|^2 - 2 x_i x_j in float32 (float64 for float64), under autocast and where TF32 is allowed too. The sample's
    mean is subtracted first: without that, features 20 off their centre got 2.6 % to 47 % wrong neighbour sets. Where vertices are
    equally far, `torch.topk` decides which comes first, the same way each time; it promises no lowest index.

    Args:
        x: finite (checked on the CPU only: elsewhere it would wait for the device).
        k: 1 to the number of vertices.

    Raises:
        ValueError: named after the argument that is wrong.
    """
    batch, num_vertices, _ = x.shape
    if not 1 <= k <= num_vertices:
        raise ValueError(f"k must be 1 to the {num_vertices} vertices, got {k}")
    if x.device.type == "cpu" and not bool(x.isfinite().all()):
        raise ValueError("x must be finite")
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    x = x - x.mean(dim=1, keepdim=True)
    squares = x.square().sum(dim=2)
    at_once = 1 if x.device.type == "cpu" else max(1, min(batch, _DISTANCES // num_vertices**2))
    distances, nearest = x.new_empty(at_once, num_vertices, num_vertices), x.new_empty(batch, num_vertices, k, dtype=torch.int64)
    with _full_precision(x.device.type):
        for first in range(0, batch, at_once):
            part = slice(first, min(first + at_once, batch))
            scores = torch.baddbmm(squares[part, None], x[part], x[part].mT, alpha=-2, out=distances[: part.stop - first])
            scores.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
            nearest[part] = scores.topk(k, dim=2, largest=False).indices
    return nearest


@contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """No autocast and no TF32, whose 10 bits scramble neighbours."""
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    try:
        if device == "cuda":
            settings.fp32_precision = "ieee"
        with torch.autocast(device, enabled=False):
            yield
    finally:
        if device == "cuda":
            settings.fp32_precision = before
