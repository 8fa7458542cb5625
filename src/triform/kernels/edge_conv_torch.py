"""EdgeConv with BatchNorm and LeakyReLU, without ever building the features of the edges: operator `triform::edge_conv`.

With W = [A, B], W [x_j - x_i; x_i] = u_i + v_j, where u = (B - A) x and v = A x: two products a vertex instead of one an edge. BatchNorm
and LeakyReLU rise with their input where gamma > 0, so the largest neighbour is picked before them; where gamma < 0, the row of W is
negated first, which turns its smallest neighbour into the largest and leaves the function as it is. The moments of all edges follow from
u, v and the sum of each neighbourhood's v_j. With the batch's moments, x is taken relative to the first vertex: that moves all edges by
the same B x_0, and u and v keep their digits far from the origin. The backward pass computes u and v again, which is cheaper than to keep
them; kept are z_i = u_i + max_j v_j and the slot of the largest.

What is done edge by edge and row by row is four passes: numba's on the CPU (`kernels.edge_conv`), Triton's on CUDA devices (the two that
touch neighbours), else `kernels.edge_conv_plain_torch`.

Source: DGCNN (Wang et al., ACM TOG 2019), section 3 and equation 8.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from triform.kernels.choice import fast, fast_on_cuda
from triform.kernels.edge_conv_plain_torch import PLAIN, Passes
from triform.kernels.products_torch import rows_times, sum_of_outer_products

_AT_ONCE = 2**21
"""Numbers of u that the CPU works on at once: 8 MB stay in its cache, and are enough for its threads."""


def edge_conv(
    x: Float[Tensor, "batch vertex in"],
    neighbors: Int[Tensor, "batch vertex neighbor"],
    weight: Float[Tensor, "out 2*in"],
    gamma: Float[Tensor, " out"],
    beta: Float[Tensor, " out"],
    mean: Float[Tensor, " out"] | None = None,
    var: Float[Tensor, " out"] | None = None,
    *,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
) -> tuple[Float[Tensor, "batch vertex out"], Float[Tensor, " out"], Float[Tensor, " out"]]:
    """Return max over neighbours j of LeakyReLU(BatchNorm(weight [x_j - x_i; x_i])), and the mean and biased variance that it took.

    Differentiable in x, weight, gamma and beta (the moments are no outputs to differentiate); equal bits each time. Where several
    neighbours are largest, the first slot gets the gradient; where a gamma is 0, the one that is largest before it. Under autocast it
    stays in float32: u and v are large where their sum is small. On the CPU from the main thread only.

    Args:
        x: finite; cast to the dtype of weight, float32 or float64.
        neighbors: indices into the vertices of the same sample, 1 to 255 a vertex; repeated ones count as often as they stand there.
        mean: to normalise by, with `var`; None: those of all batch * vertex * neighbor edges, two at least.
        eps: added to the variance.
        negative_slope: of LeakyReLU, 0 or more: it must not fall.

    Raises:
        ValueError: named after the argument that is wrong; values (finite, in range) are looked at on the CPU only: elsewhere it would wait
            for the device.
    """
    _check(x, neighbors, weight, gamma, beta, mean, var)
    if negative_slope < 0:
        raise ValueError(f"negative_slope must be 0 or more, got {negative_slope}")
    with torch.autocast(x.device.type, enabled=False):
        known = (each if each is None else each.detach().to(weight.dtype) for each in (mean, var))
        x, neighbors = x.to(weight.dtype).contiguous(), neighbors.to(torch.int64).contiguous()
        out, mean, var, *_ = edge_conv_operator(x, neighbors, weight, gamma, beta, *known, eps, negative_slope)
    return out, mean, var


def _check(x: Tensor, neighbors: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor | None, var: Tensor | None) -> None:
    if x.dim() != 3 or 0 in x.shape:
        raise ValueError(f"x must be (batch, vertex, channel), none of them 0, got {tuple(x.shape)}")
    if neighbors.dim() != 3 or neighbors.shape[:2] != x.shape[:2] or neighbors.dtype.is_floating_point:
        raise ValueError(f"neighbors must be integers ({x.shape[0]}, {x.shape[1]}, k), got {neighbors.dtype} {tuple(neighbors.shape)}")
    if not 1 <= neighbors.shape[2] <= 255:
        raise ValueError(f"neighbors must be 1 to 255 a vertex, got {neighbors.shape[2]}")
    if weight.dtype not in (torch.float32, torch.float64) or weight.dim() != 2 or weight.shape[1] != 2 * x.shape[2]:
        raise ValueError(f"weight must be float32 or float64 (out, {2 * x.shape[2]}), got {weight.dtype} {tuple(weight.shape)}")
    for name, each in (("gamma", gamma), ("beta", beta), ("mean", mean), ("var", var)):
        if each is not None and each.shape != weight.shape[:1]:
            raise ValueError(f"{name} must be ({len(weight)},), got {tuple(each.shape)}")
    if (mean is None) != (var is None):
        raise ValueError("mean and var must be given together")
    if mean is None and neighbors.numel() < 2:
        raise ValueError("neighbors must hold more than one edge to have a variance, got 1")


def _passes() -> Passes:
    """Those of the CPU."""
    if not fast():
        return PLAIN
    from triform.kernels import edge_conv as in_numba

    return Passes(*(_in_numpy(getattr(in_numba, name)) for name in Passes._fields))


def _passes_on_cuda() -> Passes:
    if not fast_on_cuda():
        return PLAIN
    from triform.kernels.edge_conv_triton_torch import edge_gradients_cuda, largest_neighbors_cuda

    return PLAIN._replace(largest_neighbors=largest_neighbors_cuda, edge_gradients=edge_gradients_cuda)


def _in_numpy(function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any) -> Any:
        result = function(*(each.numpy() if isinstance(each, Tensor) else each for each in arguments))
        return torch.from_numpy(result) if isinstance(result, np.ndarray) else result

    return called


def _forward(
    passes: Passes,
    x: Tensor,
    neighbors: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return out, mean, var, and what the backward pass needs: z, slot and the rows scale, shift, mean and 1 / std, all where the signs
    of W are turned and x is relative to its origin."""
    sign, center, difference = _turned(weight, gamma)
    origin = _origin(x, known=mean is not None)
    z = x.new_empty(*x.shape[:2], len(weight))
    slot, sums = torch.empty_like(z, dtype=torch.uint8), []
    for part in _parts(z):
        near = x[part] - origin
        u, v = _product(near, center), _product(near, difference)
        sums.append(passes.largest_neighbors(u, v, neighbors[part], z[part], slot[part], mean is None))
    moved = torch.zeros_like(gamma)
    if mean is None or var is None:
        first, second = torch.cat(sums).sum(0) / neighbors.numel()
        turned_mean, var, moved = first, (second - first.square()).clamp(min=0), F.linear(origin, weight.chunk(2, dim=1)[1])
    else:
        turned_mean, var = mean.to(sign.dtype) * sign, var.clone()
    inverse_std = (var + eps).rsqrt()
    scale = gamma * sign * inverse_std
    affine = torch.stack([scale, beta - turned_mean * scale, turned_mean.to(scale.dtype), inverse_std.to(scale.dtype)]).to(x.dtype)
    out = torch.empty_like(z)
    passes.activate(z.flatten(0, 1), affine[0], affine[1], negative_slope, out.flatten(0, 1))
    return out, (turned_mean * sign + moved).to(x.dtype), var.to(x.dtype), z, slot, affine


def _backward(
    passes: Passes,
    gradient: Tensor,
    x: Tensor,
    neighbors: Tensor,
    weight: Tensor,
    gamma: Tensor,
    z: Tensor,
    slot: Tensor,
    affine: Tensor,
    known: bool,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """With n edges and z^ normalised, dz_ij = scale (dy_i [j largest] - dbeta / n - z^_ij dgamma / n), summed over j and over i.

    With the batch's moments these sums are 0 over the batch, so that the weight's gradient is that of x relative to its origin."""
    sign, center, difference = _turned(weight, gamma)
    scale, shift, mean, inverse_std = affine
    gradient = gradient.contiguous()
    d_beta, products = passes.gradient_sums(gradient.flatten(0, 1), z.flatten(0, 1), scale, shift, mean, negative_slope)
    d_gamma = products * inverse_std
    share = 0.0 if known else 1 / neighbors.numel()
    shared = torch.stack([scale * d_beta * share, scale * inverse_std * d_gamma * share]).to(x.dtype)
    coefficients = torch.cat([affine[:3], shared])
    dx, origin = torch.empty_like(x), _origin(x, known=known)
    d_center, d_difference = torch.zeros_like(center), torch.zeros_like(difference)
    scratch = _scratch(z, 2)
    for part in _parts(z):
        near = x[part] - origin
        u, v = _product(near, center), _product(near, difference)
        du, dv = scratch[:, : len(near)]
        passes.edge_gradients(gradient[part], z[part], u, v, neighbors[part], slot[part], coefficients, negative_slope, du, dv)
        torch.add(_product(du, center.t()), _product(dv, difference.t()), out=dx[part])
        near, du, dv = (each.flatten(0, 1) for each in (near, du, dv))
        d_center += sum_of_outer_products(du, near)
        d_difference += sum_of_outer_products(dv, near)
    d_weight = torch.cat([d_difference - d_center, d_center], dim=1) * sign[:, None]
    return dx, d_weight, (d_gamma * sign).to(x.dtype), d_beta.to(x.dtype)


def _turned(weight: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The signs of gamma, and with the rows of W turned by them B - A, which acts on x_i, and A, which acts on x_j."""
    sign = torch.where(gamma < 0, -1.0, 1.0).to(weight.dtype)
    difference, center = (weight * sign[:, None]).chunk(2, dim=1)
    return sign, center - difference, difference.contiguous()


def _origin(x: Tensor, *, known: bool) -> Tensor:
    """With known moments a sample must not depend on the one that happens to be first."""
    return torch.zeros_like(x[0, 0]) if known else x[0, 0]


def _at_once(z: Tensor) -> int:
    """Samples that are worked on at once: all, to launch few kernels, but on the CPU so few that they stay in its cache."""
    return min(len(z), max(1, _AT_ONCE // z[0].numel())) if z.device.type == "cpu" else len(z)


def _parts(z: Tensor) -> Iterator[slice]:
    step = _at_once(z)
    for first in range(0, len(z), step):
        yield slice(first, min(first + step, len(z)))


def _scratch(z: Tensor, count: int) -> Tensor:
    """Taken once, not part by part: what is freed and taken again in between leaves holes in the heap."""
    return z.new_empty(count, _at_once(z), *z.shape[1:])


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T."""
    return rows_times(x.flatten(0, 1), weight).view(*x.shape[:2], len(weight))


_SCHEMA = (
    "(Tensor x, Tensor neighbors, Tensor weight, Tensor gamma, Tensor beta, Tensor? mean, Tensor? var, float eps, float negative_slope)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_BACKWARD_SCHEMA = (
    "(Tensor gradient, Tensor x, Tensor neighbors, Tensor weight, Tensor gamma, Tensor z, Tensor slot, Tensor affine, bool known,"
    " float negative_slope) -> (Tensor, Tensor, Tensor, Tensor)"
)


@torch.library.custom_op("triform::edge_conv", mutates_args=(), schema=_SCHEMA)
def edge_conv_operator(*arguments: Any) -> Any:
    return _forward(PLAIN, *arguments)


@edge_conv_operator.register_kernel("cpu")
def _forward_on_cpu(x: Tensor, neighbors: Tensor, *rest: Any) -> Any:
    if not bool(x.sum().isfinite()) and not bool(x.isfinite().all()):  # the sum is faster, and seldom overflows
        raise ValueError("x must be finite")
    lowest, highest = neighbors.aminmax()
    if lowest < 0 or highest >= x.shape[1]:
        raise ValueError(f"neighbors must be 0 to {x.shape[1] - 1}, got {int(lowest)} to {int(highest)}")
    return _forward(_passes(), x, neighbors, *rest)


@torch.library.custom_op("triform::edge_conv_backward", mutates_args=(), schema=_BACKWARD_SCHEMA)
def edge_conv_backward_operator(*arguments: Any) -> Any:
    return _backward(PLAIN, *arguments)


@edge_conv_backward_operator.register_kernel("cpu")
def _backward_on_cpu(*arguments: Any) -> Any:
    return _backward(_passes(), *arguments)


@edge_conv_operator.register_kernel("cuda")
def _forward_on_cuda(*arguments: Any) -> Any:
    return _forward(_passes_on_cuda(), *arguments)


@edge_conv_backward_operator.register_kernel("cuda")
def _backward_on_cuda(*arguments: Any) -> Any:
    return _backward(_passes_on_cuda(), *arguments)


@edge_conv_operator.register_fake
def _forward_fake(x: Tensor, _: Tensor, weight: Tensor, gamma: Tensor, *__: Any) -> tuple[Tensor, ...]:
    z = x.new_empty(x.shape[0], x.shape[1], weight.shape[0])
    mean, var = torch.empty_like(gamma), torch.empty_like(gamma)
    return torch.empty_like(z), mean, var, z, torch.empty_like(z, dtype=torch.uint8), gamma.new_empty(4, weight.shape[0])


@edge_conv_backward_operator.register_fake
def _backward_fake(_: Tensor, x: Tensor, __: Tensor, weight: Tensor, gamma: Tensor, *___: Any) -> tuple[Tensor, ...]:
    return torch.empty_like(x), weight.new_empty(weight.shape), torch.empty_like(gamma), torch.empty_like(gamma)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, neighbors, weight, gamma, _, mean, _, _, ctx.negative_slope = inputs
    ctx.known = mean is not None
    ctx.save_for_backward(x, neighbors, weight, gamma, *output[3:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # no zeros as large as z


def _differentiate(ctx: Any, gradient: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return (None,) * 9
    found = edge_conv_backward_operator(gradient, *ctx.saved_tensors, ctx.known, ctx.negative_slope)
    dx, d_weight, d_gamma, d_beta = found
    return dx, None, d_weight, d_gamma, d_beta, None, None, None, None


edge_conv_operator.register_autograd(_differentiate, setup_context=_keep)
