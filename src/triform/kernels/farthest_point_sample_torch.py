"""Farthest point sampling of torch tensors: numba on the CPU, a plain loop elsewhere."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@torch.no_grad()
def farthest_point_sample(
    points: Float[Tensor, "batch point 3"], num_samples: int, *, start: Int64[Tensor, " batch"] | None = None
) -> Int64[Tensor, "batch sample"]:
    """Return, for each cloud, the indices of `num_samples` points, each the farthest from those before it; no gradient.

    Both ways keep the definition of `geometry.sampling.farthest_point_sample_reference`, so their indices are the same.

    Args:
        points: float32 or float64, finite (checked on the CPU only: elsewhere it would wait for the device).
        num_samples: 1 to the number of points.
        start: The first index of each cloud; None takes the point farthest from the centroid, the lowest index on ties.

    Raises:
        ValueError: Named after the argument that is wrong.
    """
    points = points.detach()
    if not 1 <= num_samples <= points.shape[1]:
        raise ValueError(f"num_samples must be 1 to the {points.shape[1]} points of the cloud, got {num_samples}")
    if start is None:
        start = _farthest_from_centroid(points)
    if points.device.type != "cpu" or torch.compiler.is_compiling():
        return farthest_point_sample_loop(points, num_samples, start=start)
    from triform.kernels.farthest_point_sample import farthest_point_sample as sample_with_numba

    return torch.from_numpy(sample_with_numba(points.numpy(), num_samples, start=start.numpy()))


def farthest_point_sample_loop(
    points: Float[Tensor, "batch point 3"], num_samples: int, *, start: Int64[Tensor, " batch"]
) -> Int64[Tensor, "batch sample"]:
    """The same, in torch operators alone: for other devices and for export. Memory: three distances a point."""
    x, y, z = points.unbind(dim=2)
    nearest = torch.full_like(x, torch.inf)
    chosen = start[:, None]
    indices = []
    for _ in range(num_samples):
        indices.append(chosen)
        dx, dy, dz = (axis - axis.gather(1, chosen) for axis in (x, y, z))
        nearest = torch.minimum(nearest, (dx * dx + dy * dy) + dz * dz)
        chosen = nearest.argmax(dim=1, keepdim=True)
    return torch.cat(indices, dim=1)


def _farthest_from_centroid(points: Float[Tensor, "batch point 3"]) -> Int64[Tensor, " batch"]:
    offsets = points - points.mean(dim=1, keepdim=True)
    x, y, z = offsets.unbind(dim=2)
    return ((x * x + y * y) + z * z).argmax(dim=1)
