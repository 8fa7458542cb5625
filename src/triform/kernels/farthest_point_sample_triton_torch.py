"""Farthest point sampling on a GPU: Triton, one program a cloud, with the loop over the samples inside it.

The definition is that of `geometry.sampling.farthest_point_sample_reference`, and so are the indices, one by one: squared distances are
(dx*dx + dy*dy) + dz*dz without fused multiply-add (`enable_fp_fusion=False`), and ties go to the lowest index.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

_HELD_BYTES = 65_536
"""Distances of one cloud in registers at most: a quarter of a multiprocessor's."""
_RESIDENT_BYTES = 32_768
"""Up to here the coordinates are in registers too, three times as much again; above, each step reads them from the L1 cache."""
_TILE = 4096


def farthest_point_sample_cuda(
    points: Float[Tensor, "batch point 3"], num_samples: int, start: Int64[Tensor, " batch"]
) -> Int64[Tensor, "batch sample"]:
    """Return, for each cloud, the indices of `num_samples` points, each the farthest from those before it; the first is `start`.

    Args:
        points: float32 or float64, finite (not checked: that would wait for the device).
        num_samples: 1 to the number of points.
        start: 0 to the number of points - 1.
    """
    batch, num_points, _ = points.shape
    axes = points.detach().transpose(1, 2).contiguous()
    indices = torch.empty(batch, num_samples, dtype=torch.int64, device=points.device)
    if batch == 0:
        return indices
    block = triton.next_power_of_2(num_points)
    held = block * axes.element_size()
    with torch.cuda.device(points.get_device()):
        if held <= _HELD_BYTES:
            _sample_held[(batch,)](
                axes, start, indices, num_points, num_samples,
                BLOCK=block, RESIDENT=held <= _RESIDENT_BYTES, num_warps=min(32, max(1, block // 256)), enable_fp_fusion=False,
            )  # fmt: skip
        else:
            nearest = axes.new_empty(batch, num_points)
            _sample_in_tiles[(batch,)](
                axes, start, nearest, indices, num_points, num_samples, TILE=_TILE, num_warps=32, enable_fp_fusion=False
            )
    return indices


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _sample_held(
    axes: tl.tensor,
    start: tl.tensor,
    indices: tl.tensor,
    num_points: tl.tensor,
    num_samples: tl.tensor,
    BLOCK: tl.constexpr,
    RESIDENT: tl.constexpr,
) -> None:
    """All distances of the cloud stay in registers; places behind the last point have -1 and are never chosen."""
    cloud = tl.program_id(0).to(tl.int64)
    axes += cloud * 3 * num_points
    indices += cloud * num_samples
    point = tl.arange(0, BLOCK)
    inside = point < num_points
    x = tl.load(axes + point, mask=inside, other=0.0)
    y = tl.load(axes + num_points + point, mask=inside, other=0.0)
    z = tl.load(axes + 2 * num_points + point, mask=inside, other=0.0)
    nearest = tl.where(inside, float("inf"), -1.0).to(x.dtype)
    chosen = tl.load(start + cloud).to(tl.int32)
    for sample in range(num_samples):
        tl.store(indices + sample, chosen.to(tl.int64))
        if not RESIDENT:
            x = tl.load(axes + point, mask=inside, other=0.0)
            y = tl.load(axes + num_points + point, mask=inside, other=0.0)
            z = tl.load(axes + 2 * num_points + point, mask=inside, other=0.0)
        dx = x - tl.load(axes + chosen)
        dy = y - tl.load(axes + num_points + chosen)
        dz = z - tl.load(axes + 2 * num_points + chosen)
        nearest = tl.minimum(nearest, (dx * dx + dy * dy) + dz * dz)
        chosen = tl.argmax(nearest, axis=0, tie_break_left=True)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _sample_in_tiles(
    axes: tl.tensor,
    start: tl.tensor,
    nearest: tl.tensor,
    indices: tl.tensor,
    num_points: tl.tensor,
    num_samples: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    """For larger clouds: distances lie in `nearest`, and each thread reads back only what it wrote itself."""
    cloud = tl.program_id(0).to(tl.int64)
    axes += cloud * 3 * num_points
    nearest += cloud * num_points
    indices += cloud * num_samples
    chosen = tl.load(start + cloud).to(tl.int32)
    for sample in range(num_samples):
        tl.store(indices + sample, chosen.to(tl.int64))
        cx = tl.load(axes + chosen)
        cy = tl.load(axes + num_points + chosen)
        cz = tl.load(axes + 2 * num_points + chosen)
        greatest = tl.full((), -1.0, cx.dtype)
        for first in range(0, num_points, TILE):
            point = first + tl.arange(0, TILE)
            inside = point < num_points
            dx = tl.load(axes + point, mask=inside, other=0.0) - cx
            dy = tl.load(axes + num_points + point, mask=inside, other=0.0) - cy
            dz = tl.load(axes + 2 * num_points + point, mask=inside, other=0.0) - cz
            squared = (dx * dx + dy * dy) + dz * dz
            known = tl.load(nearest + point, mask=inside & (sample > 0), other=float("inf"))
            squared = tl.minimum(known, squared)
            tl.store(nearest + point, squared, mask=inside)
            value, place = tl.max(tl.where(inside, squared, -1.0), axis=0, return_indices=True, return_indices_tie_break_left=True)
            chosen = tl.where(value > greatest, first + place, chosen)
            greatest = tl.maximum(greatest, value)
        tl.debug_barrier()
