"""Ball query on a GPU: Triton. A program takes a few centres through the cloud in the order of the points and stops when all are full.

A point's place in its row is the number of hits before it, so that no order of threads can change the result. The rule is that of
`kernels.ball_query`: (dx*dx + dy*dy) + dz*dz <= radius*radius without fused multiply-add, in the points' own dtype.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

_CENTERS = 8
_POINTS = 128


def ball_query_cuda(
    points: Float[Tensor, "batch point 3"], centers: Float[Tensor, "batch center 3"], radius: float, num_neighbors: int
) -> Int64[Tensor, "batch center neighbor"]:
    """Return the first `num_neighbors` points, in the order of their indices, within `radius` of each centre.

    Free places repeat the first hit; a centre with no hit at all gets index 0 throughout.

    Args:
        points: float32 or float64, finite (not checked: that would wait for the device).
        centers: of the same dtype, finite.
        radius: above 0, in the points' unit.
        num_neighbors: 1 or more.

    Source:
        PointNet++ (Qi et al., NeurIPS 2017), section 3.2, "grouping layer".
    """
    batch, num_centers, _ = centers.shape
    indices = torch.empty(batch, num_centers, num_neighbors, dtype=torch.int64, device=points.device)
    if indices.numel() == 0:
        return indices
    axes, center_axes = (t.detach().transpose(1, 2).contiguous() for t in (points, centers))
    limit = torch.full((1,), radius, dtype=points.dtype, device=points.device).square_()  # a number would be passed in float32
    with torch.cuda.device(points.get_device()):
        _first_within[(batch, triton.cdiv(num_centers, _CENTERS))](
            axes, center_axes, limit, indices, points.shape[1], num_centers, num_neighbors,
            SLOTS=triton.next_power_of_2(num_neighbors), CENTERS=_CENTERS, POINTS=_POINTS, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
    return indices


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _first_within(
    axes: tl.tensor,
    center_axes: tl.tensor,
    limit: tl.tensor,
    indices: tl.tensor,
    num_points: tl.tensor,
    num_centers: tl.tensor,
    num_neighbors: tl.tensor,
    SLOTS: tl.constexpr,
    CENTERS: tl.constexpr,
    POINTS: tl.constexpr,
) -> None:
    cloud = tl.program_id(0).to(tl.int64)
    axes += cloud * 3 * num_points
    center_axes += cloud * 3 * num_centers
    center = tl.program_id(1) * CENTERS + tl.arange(0, CENTERS)
    real = center < num_centers
    cx = tl.load(center_axes + center, mask=real, other=0.0)
    cy = tl.load(center_axes + num_centers + center, mask=real, other=0.0)
    cz = tl.load(center_axes + 2 * num_centers + center, mask=real, other=0.0)
    rows = indices + (cloud * num_centers + center) * num_neighbors
    squared_radius = tl.load(limit)
    lowest = tl.full((CENTERS,), 0, tl.int32)
    found = tl.where(real, 0, num_neighbors)
    first = 0
    while (first < num_points) & (tl.min(found, axis=0) < num_neighbors):
        point = first + tl.arange(0, POINTS)
        inside = point < num_points
        dx = tl.load(axes + point, mask=inside, other=0.0)[None, :] - cx[:, None]
        dy = tl.load(axes + num_points + point, mask=inside, other=0.0)[None, :] - cy[:, None]
        dz = tl.load(axes + 2 * num_points + point, mask=inside, other=0.0)[None, :] - cz[:, None]
        hit = ((dx * dx + dy * dy) + dz * dz <= squared_radius) & inside[None, :] & real[:, None]
        place = found[:, None] + tl.cumsum(hit.to(tl.int32), axis=1) - 1
        values = tl.broadcast_to(point[None, :], (CENTERS, POINTS))
        tl.store(rows[:, None] + place, values.to(tl.int64), mask=hit & (place < num_neighbors))
        number = tl.sum(hit.to(tl.int32), axis=1)
        lowest = tl.where((found == 0) & (number > 0), tl.min(tl.where(hit, values, num_points), axis=1), lowest)
        found += number
        first += POINTS
    slot = tl.arange(0, SLOTS)[None, :]
    free = (slot >= found[:, None]) & (slot < num_neighbors) & real[:, None]
    tl.store(rows[:, None] + slot, tl.broadcast_to(lowest[:, None], (CENTERS, SLOTS)).to(tl.int64), mask=free)
