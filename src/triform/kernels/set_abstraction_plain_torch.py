"""The layers of set abstraction over all edges, in plain torch: what other implementations are held against, and what runs without them.

Layers are counted from 0. The first is W_x (x_j - x_i) + projected_j, where projected = W_f f is the features' share of it, found once a
point, and W_x is `weights[0]`. An edge is a row; those of a group stand together. gamma, beta and the moments of all layers stand one
behind the other. Gradients of parameters and all moments are summed in float64 (float32 on MPS, which has none), whatever the
activations are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from triform.kernels.precision_torch import wide

Points = Float[Tensor, "batch point 3"]
Projected = Float[Tensor, "batch point first"] | None
Centers = Float[Tensor, "batch center 3"]
Neighbors = Int[Tensor, "batch center neighbor"]
Rows = Float[Tensor, "edge channel"]
Pooled = Float[Tensor, "batch center width"]
Slots = Int[Tensor, "batch center width"]
Packed = Float[Tensor, " widths"]
Moments = Float[Tensor, "2 widths"]

Forward = tuple[Tensor, Tensor, list[Tensor], Tensor, Tensor]
"""max over each group after BatchNorm and ReLU; the moments; in training, the hidden layers but the first before BatchNorm; the
largest of the last layer before it (smallest where gamma < 0), and the slot where it stands first."""
Backward = tuple[Tensor, Tensor, list[Tensor], Tensor, Tensor, Tensor]
"""Gradients of points, centers, weights, gamma, beta and of what is projected."""

_ROWS = 65_536
"""Rows whose moments are summed at once: their copy in float64 is small."""


class Norm(NamedTuple):
    """BatchNorm of one layer, h * scale + shift, in float64."""

    mean: Float[Tensor, " channel"]
    inverse_std: Float[Tensor, " channel"]
    scale: Float[Tensor, " channel"]
    shift: Float[Tensor, " channel"]

    def affine(self, dtype: torch.dtype) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
        return self.scale.to(dtype), self.shift.to(dtype)

    def dense(self, d_gamma: Tensor, d_beta: Tensor, share: float) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
        """constant and slope: d loss / dh = scale * dy - constant - slope * (h - mean) (Ioffe and Szegedy, ICML 2015, section 3)."""
        return share * self.scale * d_beta, share * self.scale * self.inverse_std * d_gamma


def widths_of(weights: Sequence[Tensor]) -> list[int]:
    return [len(weight) for weight in weights]


def norm_of(gamma: Tensor, beta: Tensor, moments: Float[Tensor, "2 channel"], eps: float) -> Norm:
    mean, var = moments
    inverse_std = (var + eps).rsqrt()
    scale = gamma * inverse_std
    return Norm(mean, inverse_std, scale, beta - mean * scale)


def norms_of(widths: Sequence[int], gamma: Packed, beta: Packed, moments: Moments, eps: float) -> list[Norm]:
    gammas, betas, parts = (torch.split(packed.detach(), list(widths), dim=-1) for packed in (gamma, beta, moments))
    return [norm_of(*each, eps) for each in zip(gammas, betas, parts, strict=True)]


def signs(gamma: Tensor, dtype: torch.dtype) -> Tensor:
    """-1 where gamma < 0, else 1: the smallest value is the largest after such a scale."""
    return torch.where(gamma < 0, -1.0, 1.0).to(dtype)


def forward(
    points: Points,
    centers: Centers,
    projected: Projected,
    neighbors: Neighbors,
    weights: Sequence[Tensor],
    gamma: Packed,
    beta: Packed,
    known: Moments | None,
    eps: float,
) -> Forward:
    """Layer by layer over all edges; moments are those of the edges where none are known."""
    widths, last = widths_of(weights), len(weights) - 1
    gammas, betas = torch.split(gamma, widths), torch.split(beta, widths)
    hidden: list[Tensor] = []
    found: list[Tensor] = []
    h = _first_layer(points, centers, projected, weights[0], neighbors)
    for layer in range(len(weights)):
        found.append(_moments(h) if known is None else torch.split(known, widths, dim=1)[layer].clone())
        norm = norm_of(gammas[layer], betas[layer], found[layer], eps)
        if layer < last:
            h = F.linear(_activated(h, norm), weights[layer + 1])
            hidden += [h] if known is None and layer + 1 < last else []
    sign = signs(gammas[last], h.dtype)
    largest, slot = h.mul(sign).view(*neighbors.shape, -1).max(dim=2)
    largest = largest * sign
    return _activated(largest, norm), torch.cat(found, dim=1), hidden, largest, slot.to(torch.int32)


def backward(
    gradient: Pooled,
    points: Points,
    centers: Centers,
    projected: Projected,
    neighbors: Neighbors,
    weights: Sequence[Tensor],
    gamma: Packed,
    beta: Packed,
    saved: Forward,
    eps: float,
    training: bool,
) -> Backward:
    """The adjoint of `forward`, from the last layer down; the other layers' activations are computed again."""
    pooled, moments, hidden, largest, slot = saved
    norms, share = norms_of(widths_of(weights), gamma, beta, moments, eps), 1 / neighbors.numel() if training else 0.0
    before = _hidden_again(points, centers, projected, neighbors, weights, norms, hidden)
    pull, d_gamma, d_beta = pooled_gradient(gradient, pooled, largest, norms[-1])
    d_gammas, d_betas = [d_gamma], [d_beta]
    d_weights: list[Tensor] = []
    d = _at_slots(pull, slot, neighbors.shape[2])
    for layer in reversed(range(len(norms))):
        h, norm = before[layer], norms[layer]
        if layer < len(weights) - 1:
            d = torch.where(_activated(h, norm) <= 0, 0, d)
            d_gamma, d_beta = _norm_gradients(d, h, norm)
            d_gammas.insert(0, d_gamma)
            d_betas.insert(0, d_beta)
            d = d * norm.scale.to(d.dtype)
        constant, slope = (each.to(d.dtype) for each in norm.dense(d_gammas[0], d_betas[0], share))
        d = d - constant - slope * (h - norm.mean.to(d.dtype))
        if layer:
            d_weights.insert(0, d.t() @ _activated(before[layer - 1], norms[layer - 1]))
            d = d @ weights[layer]
    at_points, at_centers = _point_sums(d, neighbors, points.shape[1]), d.view(*neighbors.shape, -1).sum(dim=2)
    d_points, d_centers, d_first = first_gradients(at_points, at_centers, points, centers, weights[0])
    return d_points, d_centers, [d_first, *d_weights], torch.cat(d_gammas).to(gamma.dtype), torch.cat(d_betas).to(beta.dtype), at_points


def first_gradients(
    at_points: Tensor, at_centers: Tensor, points: Points, centers: Centers, weight: Float[Tensor, "first 3"]
) -> tuple[Points, Centers, Float[Tensor, "first 3"]]:
    """From the sums of the first layer's gradient over the edges that end at each point and that begin at each centre.

    The weight's is summed in float64: it is a small difference of two large sums.
    """
    there, here = (
        at.flatten(0, 1).to(wide(at)).t() @ x.flatten(0, 1).to(wide(at)) for at, x in ((at_points, points), (at_centers, centers))
    )
    return at_points @ weight, -(at_centers @ weight), (there - here).to(weight.dtype)


def pooled_gradient(gradient: Pooled, pooled: Pooled, largest: Pooled, norm: Norm) -> tuple[Pooled, Tensor, Tensor]:
    """What reaches each group's largest value of the last layer, without BatchNorm's share of all edges; and d gamma, d beta."""
    dy = torch.where(pooled <= 0, 0, gradient)
    d_gamma = (dy * (largest - norm.mean)).sum((0, 1)) * norm.inverse_std
    return (dy * norm.scale.to(dy.dtype)).contiguous(), d_gamma, dy.sum((0, 1), dtype=wide(dy))


def _first_layer(points: Points, centers: Centers, projected: Projected, weight: Tensor, neighbors: Neighbors) -> Rows:
    chosen = _global(neighbors, points.shape[1])
    differences = points.flatten(0, 1).index_select(0, chosen).view(*neighbors.shape, 3) - centers[:, :, None]
    h = F.linear(differences.flatten(0, 2), weight)
    return h if projected is None else h.add_(projected.flatten(0, 1).index_select(0, chosen))


def _global(neighbors: Neighbors, num_points: int) -> Int[Tensor, " edge"]:
    first = torch.arange(len(neighbors), device=neighbors.device)[:, None, None] * num_points
    return (neighbors + first).flatten()


def _activated(h: Tensor, norm: Norm) -> Tensor:
    scale, shift = norm.affine(h.dtype)
    return torch.addcmul(shift, h, scale).relu_()


def _moments(h: Rows) -> Float[Tensor, "2 channel"]:
    """Mean and biased variance, summed in float64 around the first row."""
    origin = h[0].to(wide(h))
    first, second = torch.zeros_like(origin), torch.zeros_like(origin)
    for rows in torch.split(h, _ROWS):
        off = rows - origin
        first += off.sum(0)
        second += off.square_().sum(0)
    mean = first / len(h)
    return torch.stack([mean + origin, (second / len(h) - mean.square()).clamp_(min=0)])


def _norm_gradients(d: Rows, h: Rows, norm: Norm) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
    """d gamma and d beta, summed in float64."""
    first, second = torch.zeros_like(norm.mean), torch.zeros_like(norm.mean)
    for rows, before in zip(torch.split(d, _ROWS), torch.split(h, _ROWS), strict=True):
        first += rows.sum(0, dtype=wide(d))
        second += (before - norm.mean).mul_(rows).sum(0)
    return second * norm.inverse_std, first


def _hidden_again(
    points: Points,
    centers: Centers,
    projected: Projected,
    neighbors: Neighbors,
    weights: Sequence[Tensor],
    norms: Sequence[Norm],
    hidden: Sequence[Tensor],
) -> list[Rows]:
    """All layers before BatchNorm, those that are not kept computed again."""
    before = [_first_layer(points, centers, projected, weights[0], neighbors), *hidden]
    for layer in range(len(before), len(norms)):
        before.append(F.linear(_activated(before[layer - 1], norms[layer - 1]), weights[layer]))
    return before


def _at_slots(pull: Pooled, slot: Slots, num_neighbors: int) -> Rows:
    slots = torch.arange(num_neighbors, device=slot.device)[:, None]
    return torch.where(slot[:, :, None] == slots, pull[:, :, None], 0).flatten(0, 2)


def _point_sums(d: Rows, neighbors: Neighbors, num_points: int) -> Points:
    """The sum over the edges that end at each point: a bag of the edges sorted by their end, so that they are added in order."""
    ends, order = _global(neighbors, num_points).sort(stable=True)
    numbers = torch.arange(len(neighbors) * num_points, device=ends.device)
    return F.embedding_bag(order, d, torch.searchsorted(ends, numbers), mode="sum").view(len(neighbors), num_points, -1)
