"""Set abstraction of PointNet++: a shared network over the neighbours of each centre, and its maximum.

With W = [W_x, W_f] the first layer is W [x_j - x_i; f_j] = W_x (x_j - x_i) + projected_j, where projected = W_f f is one product a point,
not one an edge. The rest is an operator of its own, because what it keeps for its backward pass is chosen by hand: of all layers over all
edges only the hidden ones but the first. BatchNorm and ReLU rise with their input where gamma > 0, so the
last layer's largest value is picked before them (its smallest where gamma < 0).

Source: PointNet++ (Qi et al., NeurIPS 2017), section 3.2.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from triform.kernels import set_abstraction_plain_torch as plain
from triform.kernels.choice import fast
from triform.kernels.precision_torch import wide

Layer = tuple[Float[Tensor, "out in"], Float[Tensor, " out"], Float[Tensor, " out"]]
"""Weight, and BatchNorm's gamma and beta. There is no bias: the mean that is taken away after it would take it along."""
LayerMoments = tuple[Float[Tensor, " out"], Float[Tensor, " out"]]
"""Mean and biased variance over all edges before BatchNorm."""

_NUMBERS = 1 << 20
"""Numbers in the widest layer of a block: 4 MB in float32. Smaller blocks stay in a nearer cache, but their products are slower."""


def set_abstraction(
    points: Float[Tensor, "batch point 3"],
    features: Float[Tensor, "batch point channel"] | None,
    centers: Float[Tensor, "batch center 3"],
    neighbors: Int[Tensor, "batch center neighbor"],
    layers: Sequence[Layer],
    known: Sequence[LayerMoments] | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[Float[Tensor, "batch center width"], list[LayerMoments]]:
    """Return max over neighbours j of MLP([x_j - x_i; f_j]), and the moments that BatchNorm took.

    Each layer is a product, BatchNorm and ReLU. Of equal neighbours the first slot gets the gradient; where a gamma is 0, the one that is
    largest before it. Differentiable in points, features, centers and the layers, once; not in the moments. Equal bits each time. On the
    CPU two layers and more run in blocks, by numba in parallel: never call this from several threads at once, nor in a forked child. Under
    autocast it runs in the layers' own dtype.

    Args:
        features: None where coordinates are all there is.
        neighbors: indices into the points of the same sample; repeated ones count as often as they stand there.
        layers: one or more, float32 or float64; the first takes 3 + channel values, coordinates first.
        known: moments to normalise by, as in evaluation; else those of all edges are taken, in float64.
        eps: added to the variance.

    Raises:
        ValueError: named after the argument that is wrong.
    """
    _check(points, features, centers, neighbors, layers, known)
    weights, gammas, betas = ([*each] for each in zip(*layers, strict=True))
    first, dtype = weights[0], weights[0].dtype
    given = None
    with torch.autocast(points.device.type, enabled=False):
        projected = None if features is None else F.linear(features.to(dtype), first[:, 3:])
        if known is not None:
            given = torch.stack([torch.cat([*each]).detach().to(wide(first)) for each in zip(*known, strict=True)])
        weights[0] = first[:, :3].contiguous()
        coordinates = points.to(dtype), centers.to(dtype)
        pooled, moments, *_ = _edges(*coordinates, projected, neighbors, weights, torch.cat(gammas), torch.cat(betas), given, eps)
    parts = moments.detach().split([len(weight) for weight in weights], dim=1)
    return pooled, [(part[0], part[1]) for part in parts]


def _check(
    points: Tensor,
    features: Tensor | None,
    centers: Tensor,
    neighbors: Tensor,
    layers: Sequence[Layer],
    known: Sequence[LayerMoments] | None,
) -> None:
    batch, num_points = points.shape[:2]
    for name, coordinates in (("points", points), ("centers", centers)):
        if coordinates.dim() != 3 or coordinates.shape[2] != 3 or coordinates.shape[0] != batch:
            raise ValueError(f"{name} must be (batch {batch}, n, 3), got {tuple(coordinates.shape)}")
    if features is not None and features.shape[:-1] != (batch, num_points):
        raise ValueError(f"features must be (batch {batch}, point {num_points}, channel), got {tuple(features.shape)}")
    if neighbors.dim() != 3 or neighbors.shape[:2] != centers.shape[:2] or neighbors.dtype.is_floating_point:
        raise ValueError(f"neighbors must be integers ({batch}, {centers.shape[1]}, k), got {neighbors.dtype} {tuple(neighbors.shape)}")
    if neighbors.numel() < (2 if known is None else 1):
        raise ValueError(f"neighbors must hold an edge, and two without known moments, got {neighbors.numel()}")
    _check_layers(3 + (0 if features is None else features.shape[2]), layers, known)


def _check_layers(channels: int, layers: Sequence[Layer], known: Sequence[LayerMoments] | None) -> None:
    if not layers or layers[0][0].dtype not in (torch.float32, torch.float64):
        raise ValueError("layers must be one or more, of float32 or float64")
    widths = [channels, *(len(weight) for weight, _, _ in layers)]
    for number, ((before, width), (weight, *norm)) in enumerate(zip(pairwise(widths), layers, strict=True)):
        if weight.shape != (width, before) or any(each.shape != (width,) for each in norm) or weight.dtype != layers[0][0].dtype:
            raise ValueError(
                f"layers[{number}] must be ({width}, {before}), ({width},), ({width},) of one dtype, got {tuple(weight.shape)}"
            )
    if known is not None and [len(mean) for mean, _ in known] != widths[1:]:
        raise ValueError(f"known must be moments of widths {widths[1:]}, got {[len(mean) for mean, _ in known]}")


def groups_at_once(num_groups: int, k: int, widths: Sequence[int]) -> int:
    """How many groups a block has, where layers are worked on in blocks."""
    return min(num_groups, max(1, _NUMBERS // max(widths) // k))


def _rows_of_blocks(neighbors: Tensor, widths: Sequence[int]) -> list[int]:
    """The rows of each block in which hidden layers are kept, by whatever form: a compiled graph of one may be used by another."""
    batch, num_centers, k = neighbors.shape
    num_groups = batch * num_centers
    step = groups_at_once(num_groups, k, widths) if neighbors.device.type == "cpu" else num_groups
    return [min(step, num_groups - first) * k for first in range(0, num_groups, step)]


@torch.library.custom_op("triform::set_abstraction", mutates_args=())
def _edges(
    points: Tensor,
    centers: Tensor,
    projected: Tensor | None,
    neighbors: Tensor,
    weights: Sequence[Tensor],
    gamma: Tensor,
    beta: Tensor,
    known: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, list[Tensor], Tensor, Tensor]:
    return plain.forward(points, centers, projected, neighbors, weights, gamma, beta, known, eps)


@_edges.register_kernel("cpu")
def _(
    points: Tensor,
    centers: Tensor,
    projected: Tensor | None,
    neighbors: Tensor,
    weights: Sequence[Tensor],
    gamma: Tensor,
    beta: Tensor,
    known: Tensor | None,
    eps: float,
) -> plain.Forward:
    lowest, highest = neighbors.aminmax()
    if lowest < 0 or highest >= points.shape[1]:
        raise ValueError(f"neighbors must be 0 to {points.shape[1] - 1}, got {int(lowest)} to {int(highest)}")
    if len(weights) < 2 or not fast():
        found = plain.forward(points, centers, projected, neighbors, weights, gamma, beta, known, eps)
        rows = _rows_of_blocks(neighbors, plain.widths_of(weights))
        return *found[:2], [part.clone() for layer in found[2] for part in torch.split(layer, rows)], *found[3:]
    from triform.kernels import set_abstraction_blocks_torch as blocks

    return blocks.forward(points, centers, projected, neighbors, weights, gamma, beta, known, eps)


@_edges.register_fake
def _(
    points: Tensor,
    centers: Tensor,
    _projected: Tensor | None,
    neighbors: Tensor,
    weights: Sequence[Tensor],
    gamma: Tensor,
    _beta: Tensor,
    known: Tensor | None,
    _eps: float,
) -> plain.Forward:
    pooled = points.new_empty(*centers.shape[:2], len(weights[-1]))
    rows = _rows_of_blocks(neighbors, plain.widths_of(weights)) if known is None else []
    moments = points.new_empty(2, len(gamma), dtype=wide(points))
    hidden = [points.new_empty(number, len(weight)) for weight in weights[1:-1] for number in rows]
    return pooled, moments, hidden, torch.empty_like(pooled), torch.empty_like(pooled, dtype=torch.int32)


@torch.library.custom_op("triform::set_abstraction_backward", mutates_args=())
def _edges_backward(
    gradient: Tensor,
    points: Tensor,
    centers: Tensor,
    projected: Tensor | None,
    neighbors: Tensor,
    weights: Sequence[Tensor],
    gamma: Tensor,
    beta: Tensor,
    pooled: Tensor,
    moments: Tensor,
    hidden: Sequence[Tensor],
    largest: Tensor,
    slot: Tensor,
    eps: float,
    training: bool,
    coordinates: bool,
) -> tuple[Tensor, Tensor, list[Tensor], Tensor, Tensor, Tensor]:
    given = gradient, points, centers, projected, neighbors, weights, gamma, beta
    if points.device.type == "cpu" and len(weights) > 1 and fast():
        from triform.kernels import set_abstraction_blocks_torch as blocks

        return blocks.backward(*given, (pooled, moments, [*hidden], largest, slot), eps, training, coordinates)
    number = len(_rows_of_blocks(neighbors, plain.widths_of(weights)))
    blocks_of_layers = [[*hidden[first : first + number]] for first in range(0, len(hidden), number)]
    whole = [rows[0] if number == 1 else torch.cat(rows) for rows in blocks_of_layers]
    return plain.backward(*given, (pooled, moments, whole, largest, slot), eps, training)


@_edges_backward.register_fake
def _(
    _gradient: Tensor,
    points: Tensor,
    centers: Tensor,
    _projected: Tensor | None,
    _neighbors: Tensor,
    weights: Sequence[Tensor],
    gamma: Tensor,
    beta: Tensor,
    *_: Any,
) -> plain.Backward:
    d_points, d_centers, d_gamma, d_beta = (each.new_empty(each.shape) for each in (points, centers, gamma, beta))
    d_projected = points.new_empty(*points.shape[:2], len(weights[0]))
    return d_points, d_centers, [weight.new_empty(weight.shape) for weight in weights], d_gamma, d_beta, d_projected


def _keep(ctx: Any, inputs: tuple[Any, ...], output: plain.Forward) -> None:
    points, centers, projected, neighbors, weights, gamma, beta, known, ctx.eps = inputs
    pooled, moments, hidden, largest, slot = output
    ctx.save_for_backward(points, centers, projected, neighbors, gamma, beta, pooled, moments, largest, slot, *weights, *hidden)
    ctx.num_layers, ctx.training = len(weights), known is None
    ctx.set_materialize_grads(False)  # zeros for the hidden layers would be as large as they are


def _differentiate(ctx: Any, gradient: Tensor | None, *_: Any) -> tuple[Any, ...]:
    if gradient is None:
        return None, None, None, None, [None] * ctx.num_layers, None, None, None, None
    points, centers, projected, neighbors, gamma, beta, pooled, moments, largest, slot, *rest = ctx.saved_tensors
    weights, hidden = rest[: ctx.num_layers], rest[ctx.num_layers :]
    given = points, centers, projected, neighbors, weights, gamma, beta
    saved, coordinates = (pooled, moments, hidden, largest, slot), any(ctx.needs_input_grad[:2])
    found = _edges_backward(gradient.contiguous(), *given, *saved, ctx.eps, ctx.training, coordinates)
    d_points, d_centers, d_weights, d_gamma, d_beta, d_projected = found
    return d_points, d_centers, None if projected is None else d_projected, None, d_weights, d_gamma, d_beta, None, None


_edges.register_autograd(_differentiate, setup_context=_keep)
