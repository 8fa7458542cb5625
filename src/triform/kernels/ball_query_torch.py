"""Ball query in torch."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from triform.kernels.ball_query import ball_query as ball_query_cpu
from triform.kernels.nearest_neighbors_torch import squared_distances

_BLOCK = 128
"""Centres at once where there is no numba: 32 clouds of 2048 points need 100 MB."""


def ball_query(
    points: Float[Tensor, "batch point 3"], centers: Float[Tensor, "batch center 3"], *, radius: float, num_neighbors: int
) -> Int64[Tensor, "batch center neighbor"]:
    """Return the first `num_neighbors` points, in the order of their indices, within `radius` of each centre.

    The rule and its source: `kernels.ball_query`, which does it on the CPU (main thread only); elsewhere, and for export, torch does,
    with equal indices.

    Raises:
        ValueError: On the CPU: an argument is wrong.
    """
    points, centers = points.detach(), centers.detach()
    if points.device.type == "cpu" and not torch.compiler.is_compiling():
        return torch.from_numpy(ball_query_cpu(points.numpy(), centers.numpy(), radius, num_neighbors))
    limit = torch.tensor(radius, dtype=points.dtype, device=points.device).square()
    return torch.cat([_first_within(points, block, limit, num_neighbors) for block in torch.split(centers, _BLOCK, dim=1)], dim=1)


def _first_within(points: Tensor, centers: Tensor, limit: Tensor, num_neighbors: int) -> Tensor:
    """`topk` of the hits' indices, because it can be exported where `searchsorted` can't."""
    num_points = points.shape[1]
    numbers = torch.arange(num_points, device=points.device)
    hits = torch.where(squared_distances(centers, points) <= limit, numbers, num_points)
    found = hits.topk(min(num_neighbors, num_points), dim=2, largest=False, sorted=True).values
    first = found[..., :1]
    found = torch.where(found == num_points, first, found)
    padded = torch.cat([found, first.expand(-1, -1, max(0, num_neighbors - num_points))], dim=2)
    return torch.where(padded == num_points, 0, padded)
