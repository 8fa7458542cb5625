"""Nearest neighbours in torch: the indices, to which no gradient belongs."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from triform.kernels.nearest_neighbors import nearest_neighbors as nearest_neighbors_cpu

_BLOCK = 512
"""Points compared at once where there is no numba: 32 x 2048 queries need 134 MB."""


def nearest_neighbors(queries: Float[Tensor, "batch query 3"], points: Float[Tensor, "batch point 3"]) -> Int64[Tensor, "batch query"]:
    """Return the index of each query's nearest point, the lowest on ties; no gradient passes.

    On the CPU by `kernels.nearest_neighbors` (main thread only), elsewhere in torch; the indices are equal. Exact differences, not
    the product form of `torch.cdist`, which picks wrong neighbours: 2.3e-3 to 4.7e-3 of error in a Chamfer gradient.

    Raises:
        ValueError: On the CPU: an input is not finite, or the shapes do not go together.
    """
    queries, points = queries.detach(), points.detach()
    if queries.device.type == "cpu" and not torch.compiler.is_compiling():
        return torch.from_numpy(nearest_neighbors_cpu(queries.numpy(), points.numpy())[1])
    best, indices = _nearest_in(queries, points[:, :_BLOCK])
    for first in range(_BLOCK, points.shape[1], _BLOCK):
        squared, found = _nearest_in(queries, points[:, first : first + _BLOCK])
        indices = torch.where(squared < best, found + first, indices)
        best = torch.minimum(best, squared)
    return indices


def _nearest_in(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    squared = squared_distances(queries, points)
    indices = squared.argmin(dim=2)
    return squared.gather(2, indices[..., None])[..., 0], indices


def squared_distances(a: Float[Tensor, "batch i 3"], b: Float[Tensor, "batch j 3"]) -> Float[Tensor, "batch i j"]:
    """(dx*dx + dy*dy) + dz*dz of all pairs, each operation rounded, as the numba kernels have it."""
    x, y, z = ((a[..., axis, None] - b[:, None, :, axis]).square_() for axis in range(3))
    return x.add_(y).add_(z)
