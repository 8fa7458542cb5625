"""Farthest point sampling of torch tensors: the operator `triform::farthest_point_sample`, numba on the CPU, Triton on
CUDA devices, a plain loop elsewhere."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from triform.geometry.sampling import check_sample_request
from triform.kernels.choice import fast, fast_on_cuda
from triform.kernels.precision_torch import wide


@torch.no_grad()
def farthest_point_sample(
    points: Float[Tensor, "batch point 3"], num_samples: int, *, start: Int64[Tensor, " batch"] | None = None
) -> Int64[Tensor, "batch sample"]:
    """Return, for each cloud, the indices of `num_samples` points, each the farthest from those before it; no gradient.

    All forms keep the definition of `geometry.sampling.farthest_point_sample_reference`, so their indices are the same. On the CPU from
    the main thread only. Half precision is sampled in float32.

    Args:
        points: finite (checked on the CPU only: elsewhere it would wait for the device).
        num_samples: 1 to the number of points.
        start: The first index of each cloud; None takes the point farthest from the centroid, the lowest index on ties.

    Raises:
        ValueError: Named after the argument that is wrong.
    """
    if points.dim() != 3 or points.shape[2] != 3 or not points.is_floating_point():
        raise ValueError(f"points must be (batch, point, 3) of floats, got {tuple(points.shape)} of {points.dtype}")
    if not 1 <= num_samples <= points.shape[1]:
        raise ValueError(f"num_samples must be 1 to the {points.shape[1]} points of the cloud, got {num_samples}")
    if start is not None and (start.shape != points.shape[:1] or start.dtype != torch.int64):
        raise ValueError(f"start must be {len(points)} int64 indices, got {tuple(start.shape)} of {start.dtype}")
    points = points.detach().to(torch.promote_types(points.dtype, torch.float32))
    indices: Tensor = farthest_point_sample_operator(points, num_samples, start)
    return indices


@torch.library.custom_op("triform::farthest_point_sample", mutates_args=())
def farthest_point_sample_operator(points: Tensor, num_samples: int, start: Tensor | None = None) -> Tensor:
    """The operator: the plain form, unless a kernel is registered for the device."""
    return farthest_point_sample_loop(points, num_samples, start=_farthest_from_centroid(points) if start is None else start)


@farthest_point_sample_operator.register_kernel("cpu")  # type: ignore[untyped-decorator, unused-ignore]
def _on_cpu(points: Tensor, num_samples: int, start: Tensor | None = None) -> Tensor:
    start = _farthest_from_centroid(points) if start is None else start
    if not fast():
        check_sample_request(points.numpy(), num_samples, start=start.numpy())
        return farthest_point_sample_loop(points, num_samples, start=start)
    from triform.kernels.farthest_point_sample import farthest_point_sample as sample_with_numba

    return torch.from_numpy(sample_with_numba(points.numpy(), num_samples, start=start.numpy()))


@farthest_point_sample_operator.register_kernel("cuda")  # type: ignore[untyped-decorator, unused-ignore]
def _on_cuda(points: Tensor, num_samples: int, start: Tensor | None = None) -> Tensor:
    start = _farthest_from_centroid(points) if start is None else start
    if not fast_on_cuda():
        return farthest_point_sample_loop(points, num_samples, start=start)
    from triform.kernels.farthest_point_sample_triton_torch import farthest_point_sample_cuda

    return farthest_point_sample_cuda(points, num_samples, start)


@farthest_point_sample_operator.register_fake  # type: ignore[untyped-decorator, unused-ignore]
def _shape(points: Tensor, num_samples: int, start: Tensor | None = None) -> Tensor:  # noqa: ARG001 (names of the schema)
    return points.new_empty((points.shape[0], num_samples), dtype=torch.int64)


def farthest_point_sample_loop(
    points: Float[Tensor, "batch point 3"], num_samples: int, *, start: Int64[Tensor, " batch"]
) -> Int64[Tensor, "batch sample"]:
    """The plain form, in torch's own operators. Memory: three distances a point."""
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
    """In float64, as `geometry.sampling` has it."""
    points = points.to(wide(points))
    x, y, z = (points - points.mean(dim=1, keepdim=True)).unbind(dim=2)
    return ((x * x + y * y) + z * z).argmax(dim=1)
