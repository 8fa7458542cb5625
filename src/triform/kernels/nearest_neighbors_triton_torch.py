"""Nearest neighbours between clouds on a GPU, and the gradient of the squared distances: Triton.

Distances are (dx*dx + dy*dy) + dz*dz without fused multiply-add. With n(i) the neighbour of query i and g_i the gradient of its squared
distance, the gradients are 2 g_i (q_i - p_n(i)) in q_i and the sum of -2 g_i (q_i - p_j) over the queries with n(i) = j in p_j. That sum
is taken by looking through all queries for each block of points, which costs about as much as the search: no atomic addition, and the
order of the sum depends on nothing but the shapes.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

_ROWS = 32
_COLUMNS = 64
_THREADS = 256
"""Queries of one program in the gradient of the queries."""


def nearest_neighbors_cuda(
    queries: Float[Tensor, "batch query 3"], points: Float[Tensor, "batch point 3"]
) -> tuple[Float[Tensor, "batch query"], Int64[Tensor, "batch query"]]:
    """Return each query's squared distance to its nearest point, in the input's dtype, and that point's index; ties go to the lowest.

    Args:
        queries: float32 or float64, finite (not checked: that would wait for the device).
        points: of the same dtype, finite, one point at least.
    """
    batch, num_queries, _ = queries.shape
    query_axes, axes = (t.detach().transpose(1, 2).contiguous() for t in (queries, points))
    squared = axes.new_empty(batch, num_queries)
    indices = torch.empty(batch, num_queries, dtype=torch.int64, device=points.device)
    if squared.numel():
        with torch.cuda.device(points.get_device()):
            _search[(batch, triton.cdiv(num_queries, _ROWS))](
                query_axes, axes, squared, indices, num_queries, points.shape[1],
                QUERIES=_ROWS, POINTS=_COLUMNS, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
    return squared, indices


def nearest_neighbors_backward_cuda(
    gradient: Float[Tensor, "batch query"],
    queries: Float[Tensor, "batch query 3"],
    points: Float[Tensor, "batch point 3"],
    indices: Int64[Tensor, "batch query"],
) -> tuple[Float[Tensor, "batch query 3"], Float[Tensor, "batch point 3"]]:
    """Return the gradients in queries and points that belong to `gradient`, that of the squared distances; equal bits each time."""
    batch, num_queries, _ = queries.shape
    num_points = points.shape[1]
    query_axes, axes = (t.detach().transpose(1, 2).contiguous() for t in (queries, points))
    gradient, indices = gradient.contiguous(), indices.contiguous()
    of_queries, of_points = torch.empty_like(query_axes), torch.empty_like(axes)
    with torch.cuda.device(points.get_device()):
        if of_queries.numel():
            _gradient_of_queries[(batch, triton.cdiv(num_queries, _THREADS))](
                gradient, query_axes, axes, indices, of_queries, num_queries, num_points, QUERIES=_THREADS, enable_fp_fusion=False
            )
        if of_points.numel():
            _gradient_of_points[(batch, triton.cdiv(num_points, _ROWS))](
                gradient, query_axes, axes, indices, of_points, num_queries, num_points,
                POINTS=_ROWS, QUERIES=_COLUMNS, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
    return of_queries.transpose(1, 2).contiguous(), of_points.transpose(1, 2).contiguous()


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _search(
    query_axes: tl.tensor,
    axes: tl.tensor,
    squared: tl.tensor,
    indices: tl.tensor,
    num_queries: tl.tensor,
    num_points: tl.tensor,
    QUERIES: tl.constexpr,
    POINTS: tl.constexpr,
) -> None:
    """Each column of a tile keeps the nearest point it has seen, the first of equals; the columns are compared once, at the end."""
    cloud = tl.program_id(0).to(tl.int64)
    query_axes += cloud * 3 * num_queries
    axes += cloud * 3 * num_points
    query = tl.program_id(1) * QUERIES + tl.arange(0, QUERIES)
    real = query < num_queries
    qx = tl.load(query_axes + query, mask=real, other=0.0)[:, None]
    qy = tl.load(query_axes + num_queries + query, mask=real, other=0.0)[:, None]
    qz = tl.load(query_axes + 2 * num_queries + query, mask=real, other=0.0)[:, None]
    best = tl.full((QUERIES, POINTS), float("inf"), axes.dtype.element_ty)
    nearest = tl.full((QUERIES, POINTS), 0, tl.int32)
    for first in range(0, num_points, POINTS):
        point = first + tl.arange(0, POINTS)
        inside = point < num_points
        dx = tl.load(axes + point, mask=inside, other=float("inf"))[None, :] - qx
        dy = tl.load(axes + num_points + point, mask=inside, other=0.0)[None, :] - qy
        dz = tl.load(axes + 2 * num_points + point, mask=inside, other=0.0)[None, :] - qz
        distance = (dx * dx + dy * dy) + dz * dz
        nearer = distance < best
        nearest = tl.where(nearer, point[None, :], nearest)
        best = tl.where(nearer, distance, best)
    least = tl.min(best, axis=1)
    lowest = tl.min(tl.where(best == least[:, None], nearest, num_points), axis=1)
    tl.store(squared + cloud * num_queries + query, least, mask=real)
    tl.store(indices + cloud * num_queries + query, lowest.to(tl.int64), mask=real)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _gradient_of_queries(
    gradient: tl.tensor,
    query_axes: tl.tensor,
    axes: tl.tensor,
    indices: tl.tensor,
    of_queries: tl.tensor,
    num_queries: tl.tensor,
    num_points: tl.tensor,
    QUERIES: tl.constexpr,
) -> None:
    cloud = tl.program_id(0).to(tl.int64)
    query = tl.program_id(1) * QUERIES + tl.arange(0, QUERIES)
    real = query < num_queries
    twice = 2.0 * tl.load(gradient + cloud * num_queries + query, mask=real, other=0.0)
    nearest = tl.load(indices + cloud * num_queries + query, mask=real, other=0)
    for axis in tl.static_range(3):
        of_query = (cloud * 3 + axis) * num_queries + query
        offset = tl.load(query_axes + of_query, mask=real, other=0.0) - tl.load(axes + (cloud * 3 + axis) * num_points + nearest)
        tl.store(of_queries + of_query, twice * offset, mask=real)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _gradient_of_points(
    gradient: tl.tensor,
    query_axes: tl.tensor,
    axes: tl.tensor,
    indices: tl.tensor,
    of_points: tl.tensor,
    num_queries: tl.tensor,
    num_points: tl.tensor,
    POINTS: tl.constexpr,
    QUERIES: tl.constexpr,
) -> None:
    """Column c of a tile adds up the queries c, c + QUERIES, ... in this order; then the columns are added in a fixed tree."""
    cloud = tl.program_id(0).to(tl.int64)
    gradient += cloud * num_queries
    indices += cloud * num_queries
    query_axes += cloud * 3 * num_queries
    point = tl.program_id(1) * POINTS + tl.arange(0, POINTS)
    of_point = cloud * 3 * num_points + point
    real = point < num_points
    px = tl.load(axes + of_point, mask=real, other=0.0)[:, None]
    py = tl.load(axes + of_point + num_points, mask=real, other=0.0)[:, None]
    pz = tl.load(axes + of_point + 2 * num_points, mask=real, other=0.0)[:, None]
    sum_x = tl.full((POINTS, QUERIES), 0.0, axes.dtype.element_ty)
    sum_y, sum_z = sum_x, sum_x
    for first in range(0, num_queries, QUERIES):
        query = first + tl.arange(0, QUERIES)
        inside = query < num_queries
        nearest = tl.load(indices + query, mask=inside, other=-1).to(tl.int32)
        weight = -2.0 * tl.load(gradient + query, mask=inside, other=0.0)
        mine = nearest[None, :] == point[:, None]
        sum_x += tl.where(mine, weight[None, :] * (tl.load(query_axes + query, mask=inside, other=0.0)[None, :] - px), 0.0)
        sum_y += tl.where(mine, weight[None, :] * (tl.load(query_axes + num_queries + query, mask=inside, other=0.0)[None, :] - py), 0.0)
        sum_z += tl.where(
            mine, weight[None, :] * (tl.load(query_axes + 2 * num_queries + query, mask=inside, other=0.0)[None, :] - pz), 0.0
        )
    tl.store(of_points + of_point, tl.sum(sum_x, axis=1), mask=real)
    tl.store(of_points + of_point + num_points, tl.sum(sum_y, axis=1), mask=real)
    tl.store(of_points + of_point + 2 * num_points, tl.sum(sum_z, axis=1), mask=real)
