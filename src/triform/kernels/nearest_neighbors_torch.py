"""Nearest neighbours in torch: the operator `triform::nearest_neighbors`, whose squared distances are differentiable."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from triform.kernels.choice import fast, fast_on_cuda
from triform.kernels.gather_torch import gather_points

_PAIRS = {"cpu": 2**20}
"""Pairs of a query and a point at once in the plain form (each needs 12 bytes): on the CPU, so many that they stay in the cache."""
_MOST_PAIRS = 2**25


def nearest_neighbors(
    queries: Float[Tensor, "batch query 3"], points: Float[Tensor, "batch point 3"]
) -> tuple[Float[Tensor, "batch query"], Int64[Tensor, "batch query"]]:
    """Return each query's squared distance to its nearest point, differentiable in both clouds, and that point's index, the lowest on ties.

    s_i = |q_i - p_n(i)|^2; with n held constant, ds_i/dq_i = 2 (q_i - p_n(i)) and ds_i/dp_n(i) = -2 (q_i - p_n(i)), added up in the order
    of the queries. There is no second derivative. Exact differences, not the product form of `torch.cdist`, which picks wrong
    neighbours: 2.3e-3 to 4.7e-3 of error in a Chamfer gradient. Half precision is compared in float32. On the CPU by
    `kernels.nearest_neighbors` (main thread only); all forms give equal distances and indices.

    Args:
        queries: finite (checked on the CPU only: elsewhere it would wait for the device).
        points: finite, one point at least.

    Raises:
        ValueError: Named after the argument that is wrong.
    """
    for name, cloud in (("queries", queries), ("points", points)):
        if cloud.dim() != 3 or cloud.shape[2] != 3 or not cloud.is_floating_point():
            raise ValueError(f"{name} must be (batch, n, 3) of floats, got {tuple(cloud.shape)} of {cloud.dtype}")
    queries, points = (cloud.to(torch.promote_types(cloud.dtype, torch.float32)) for cloud in (queries, points))
    if points.dtype != queries.dtype or points.shape[0] != queries.shape[0] or points.shape[1] == 0:
        raise ValueError(f"points {tuple(points.shape)} {points.dtype} do not go with queries {tuple(queries.shape)} {queries.dtype}")
    squared, indices = nearest_neighbors_operator(queries, points)
    return squared, indices


@torch.library.custom_op("triform::nearest_neighbors", mutates_args=())
def nearest_neighbors_operator(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The operator: the plain form, unless a kernel is registered for the device."""
    return nearest_neighbors_plain(queries, points)


@nearest_neighbors_operator.register_kernel("cpu")  # type: ignore[untyped-decorator, unused-ignore]
def _on_cpu(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    if not fast():
        refuse_non_finite(queries=queries, points=points)
        return nearest_neighbors_plain(queries, points)
    from triform.kernels.nearest_neighbors import nearest_neighbors as search_with_numba

    squared, indices = search_with_numba(queries.numpy(), points.numpy())
    return torch.from_numpy(squared), torch.from_numpy(indices)


@nearest_neighbors_operator.register_kernel("cuda")  # type: ignore[untyped-decorator, unused-ignore]
def _on_cuda(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    if not fast_on_cuda():
        return nearest_neighbors_plain(queries, points)
    from triform.kernels.nearest_neighbors_triton_torch import nearest_neighbors_cuda

    return nearest_neighbors_cuda(queries, points)


@nearest_neighbors_operator.register_fake  # type: ignore[untyped-decorator, unused-ignore]
def _shapes(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001 (names of the schema)
    return queries.new_empty(queries.shape[:2]), queries.new_empty(queries.shape[:2], dtype=torch.int64)


@torch.library.custom_op("triform::nearest_neighbors_backward", mutates_args=())
def nearest_neighbors_backward(gradient: Tensor, queries: Tensor, points: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients to queries and points from that of the squared distances."""
    return nearest_neighbors_backward_plain(gradient, queries, points, indices)


@nearest_neighbors_backward.register_kernel("cpu")  # type: ignore[untyped-decorator, unused-ignore]
def _backward_on_cpu(gradient: Tensor, queries: Tensor, points: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    if not fast():
        return nearest_neighbors_backward_plain(gradient, queries, points, indices)
    from triform.kernels.nearest_neighbors import nearest_neighbors_gradient

    arrays = nearest_neighbors_gradient(gradient.numpy(), queries.numpy(), points.numpy(), indices.numpy())
    return torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])


@nearest_neighbors_backward.register_kernel("cuda")  # type: ignore[untyped-decorator, unused-ignore]
def _backward_on_cuda(gradient: Tensor, queries: Tensor, points: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    if not fast_on_cuda():
        return nearest_neighbors_backward_plain(gradient, queries, points, indices)
    from triform.kernels.nearest_neighbors_triton_torch import nearest_neighbors_backward_cuda

    return nearest_neighbors_backward_cuda(gradient, queries, points, indices)


@nearest_neighbors_backward.register_fake  # type: ignore[untyped-decorator, unused-ignore]
def _backward_shapes(
    gradient: Tensor,  # noqa: ARG001 (names of the schema)
    queries: Tensor,
    points: Tensor,
    indices: Tensor,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return queries.new_empty(queries.shape), points.new_empty(points.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
    queries, points, indices = ctx.saved_tensors
    found: tuple[Tensor, Tensor] = nearest_neighbors_backward(gradient, queries, points, indices)
    return found


nearest_neighbors_operator.register_autograd(_differentiate, setup_context=_keep)


def nearest_neighbors_plain(
    queries: Float[Tensor, "batch query 3"], points: Float[Tensor, "batch point 3"]
) -> tuple[Float[Tensor, "batch query"], Int64[Tensor, "batch query"]]:
    """The plain form, in torch's own operators, on some of the points at once."""
    at_once = max(1, _PAIRS.get(points.device.type, _MOST_PAIRS) // max(1, queries.shape[0] * queries.shape[1]))
    best, indices = _nearest_in(queries, points[:, :at_once])
    for first in range(at_once, points.shape[1], at_once):
        squared, found = _nearest_in(queries, points[:, first : first + at_once])
        indices = torch.where(squared < best, found + first, indices)
        best = torch.minimum(best, squared)
    return best, indices


def _nearest_in(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    squared = squared_distances(queries, points)
    indices = squared.argmin(dim=2)
    return squared.gather(2, indices[..., None])[..., 0], indices


def nearest_neighbors_backward_plain(
    gradient: Float[Tensor, "batch query"],
    queries: Float[Tensor, "batch query 3"],
    points: Float[Tensor, "batch point 3"],
    indices: Int64[Tensor, "batch query"],
) -> tuple[Float[Tensor, "batch query 3"], Float[Tensor, "batch point 3"]]:
    """The plain form. An embedding's backward pass adds up rows by index, in their order on the CPU, sorted and without atomics on CUDA."""
    pull = (gradient + gradient)[..., None] * (queries - gather_points(points, indices))
    batch, num_points, _ = points.shape
    rows = (indices + torch.arange(batch, device=indices.device)[:, None] * num_points).flatten()
    push = torch.ops.aten.embedding_dense_backward(-pull.flatten(0, 1), rows, batch * num_points, -1, False)
    return pull.contiguous(), push.view(points.shape)


def squared_distances(a: Float[Tensor, "batch i 3"], b: Float[Tensor, "batch j 3"]) -> Float[Tensor, "batch i j"]:
    """(dx*dx + dy*dy) + dz*dz of all pairs, each operation rounded, as the numba kernels have it."""
    x, y, z = ((a[..., axis, None] - b[:, None, :, axis]).square_() for axis in range(3))
    return x.add_(y).add_(z)


def refuse_non_finite(**clouds: Tensor) -> None:
    """What the plain forms can't see: a coordinate that is not finite.

    Raises:
        ValueError: Named after the first such cloud.
    """
    for name, cloud in clouds.items():
        if not bool(cloud.isfinite().all()):
            raise ValueError(f"{name} must be finite")
