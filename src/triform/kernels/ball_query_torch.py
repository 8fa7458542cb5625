"""Ball query in torch: the operator `triform::ball_query`, numba on the CPU, Triton on CUDA devices, torch's own
operators elsewhere."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from triform.kernels.choice import fast, fast_on_cuda
from triform.kernels.nearest_neighbors_torch import refuse_non_finite, squared_distances

_PAIRS = {"cpu": 2**20}
"""Pairs of a centre and a point at once in the plain form (each needs 30 bytes): on the CPU, so many that they stay in the cache."""
_MOST_PAIRS = 2**23


@torch.no_grad()
def ball_query(
    points: Float[Tensor, "batch point 3"], centers: Float[Tensor, "batch center 3"], *, radius: float, num_neighbors: int
) -> Int64[Tensor, "batch center neighbor"]:
    """Return the first `num_neighbors` points, in the order of their indices, within `radius` of each centre; no gradient.

    The rule and its source: `kernels.ball_query`, which does it on the CPU (main thread only); all forms give equal indices. Half
    precision is compared in float32.

    Args:
        points: finite (checked on the CPU only: elsewhere it would wait for the device).
        centers: finite.
        radius: above 0, in the points' unit.
        num_neighbors: 1 or more.

    Raises:
        ValueError: Named after the argument that is wrong.
    """
    for name, cloud in (("points", points), ("centers", centers)):
        if cloud.dim() != 3 or cloud.shape[2] != 3 or not cloud.is_floating_point():
            raise ValueError(f"{name} must be (batch, n, 3) of floats, got {tuple(cloud.shape)} of {cloud.dtype}")
    points, centers = (cloud.detach().to(torch.promote_types(cloud.dtype, torch.float32)) for cloud in (points, centers))
    if points.dtype != centers.dtype or points.shape[0] != centers.shape[0] or points.shape[1] == 0:
        raise ValueError(f"centers {tuple(centers.shape)} {centers.dtype} do not go with points {tuple(points.shape)} {points.dtype}")
    if not radius > 0:
        raise ValueError(f"radius must be above 0, got {radius}")
    if num_neighbors < 1:
        raise ValueError(f"num_neighbors must be 1 or more, got {num_neighbors}")
    indices: Tensor = ball_query_operator(points, centers, radius, num_neighbors)
    return indices


@torch.library.custom_op("triform::ball_query", mutates_args=())
def ball_query_operator(points: Tensor, centers: Tensor, radius: float, num_neighbors: int) -> Tensor:
    """The operator: the plain form, unless a kernel is registered for the device."""
    return ball_query_plain(points, centers, radius=radius, num_neighbors=num_neighbors)


@ball_query_operator.register_kernel("cpu")  # type: ignore[untyped-decorator, unused-ignore]
def _on_cpu(points: Tensor, centers: Tensor, radius: float, num_neighbors: int) -> Tensor:
    if not fast():
        refuse_non_finite(points=points, centers=centers)
        return ball_query_plain(points, centers, radius=radius, num_neighbors=num_neighbors)
    from triform.kernels.ball_query import ball_query as query_with_numba

    return torch.from_numpy(query_with_numba(points.numpy(), centers.numpy(), radius, num_neighbors))


@ball_query_operator.register_kernel("cuda")  # type: ignore[untyped-decorator, unused-ignore]
def _on_cuda(points: Tensor, centers: Tensor, radius: float, num_neighbors: int) -> Tensor:
    if not fast_on_cuda():
        return ball_query_plain(points, centers, radius=radius, num_neighbors=num_neighbors)
    from triform.kernels.ball_query_triton_torch import ball_query_cuda

    return ball_query_cuda(points, centers, radius, num_neighbors)


@ball_query_operator.register_fake  # type: ignore[untyped-decorator, unused-ignore]
def _shape(points: Tensor, centers: Tensor, radius: float, num_neighbors: int) -> Tensor:  # noqa: ARG001 (names of the schema)
    return points.new_empty((*centers.shape[:2], num_neighbors), dtype=torch.int64)


def ball_query_plain(
    points: Float[Tensor, "batch point 3"], centers: Float[Tensor, "batch center 3"], *, radius: float, num_neighbors: int
) -> Int64[Tensor, "batch center neighbor"]:
    """The plain form, in torch's own operators, on some of the centres at once."""
    limit = torch.tensor(radius, dtype=points.dtype, device=points.device).square()
    at_once = max(1, _PAIRS.get(points.device.type, _MOST_PAIRS) // max(1, points.shape[0] * points.shape[1]))
    return torch.cat([_first_within(points, block, limit, num_neighbors) for block in torch.split(centers, at_once, dim=1)], dim=1)


def _first_within(points: Tensor, centers: Tensor, limit: Tensor, num_neighbors: int) -> Tensor:
    num_points = points.shape[1]
    numbers = torch.arange(num_points, dtype=torch.int32, device=points.device)
    hits = torch.where(squared_distances(centers, points) <= limit, numbers, num_points)
    found = hits.topk(min(num_neighbors, num_points), dim=2, largest=False, sorted=True).values.long()
    first = found[..., :1]
    found = torch.where(found == num_points, first, found)
    padded = torch.cat([found, first.expand(-1, -1, max(0, num_neighbors - num_points))], dim=2)
    return torch.where(padded == num_points, 0, padded)
