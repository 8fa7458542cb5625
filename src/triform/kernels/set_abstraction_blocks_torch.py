"""The layers of set abstraction over all edges on the CPU, in blocks of groups that stay in the cache: products by torch, loops by numba.

Of the layers over all edges only the hidden ones but the first are ever stored. The first is computed again for each block, and the last,
h = r W^T with r the activation below, is a block's scratch: its moments and each group's largest value are all that is kept. In the
backward pass it isn't needed either. With BatchNorm's d loss / dh = (pull at the largest) - constant - slope * (h - mean) over n edges,

    d loss / dr = pull W at the largest + (slope * mean - constant) W - r W^T diag(slope) W
    d loss / dW = pull^T r at the largest + (slope * mean - constant)^T sum(r) - diag(slope) W (r^T r)

where r^T r is as small as W. What is stored in the forward pass is read in the order in which it was written.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from triform.kernels import set_abstraction as loops
from triform.kernels.set_abstraction_plain_torch import (
    Backward,
    Centers,
    Forward,
    Moments,
    Neighbors,
    Norm,
    Packed,
    Points,
    Pooled,
    Projected,
    Rows,
    first_gradients,
    norm_of,
    norms_of,
    pooled_gradient,
    signs,
    widths_of,
)

_NUMBERS = 1 << 19
"""Numbers in a block's widest layer: 2 MB in float32."""


class _Stack:
    """The layers over all edges, a block of whole groups at a time. `stored` has some whole, by their layer."""

    def __init__(self, points: Points, centers: Centers, projected: Projected, neighbors: Neighbors, weights: Sequence[Tensor]) -> None:
        self.widths, (self.batch, self.num_centers, self.k) = widths_of(weights), neighbors.shape
        self.num_groups, self.num_edges = self.batch * self.num_centers, neighbors.numel()
        self.weights, self.dtype = [weight.detach().contiguous() for weight in weights], points.dtype
        given = points.new_empty(1, 0, self.widths[0]) if projected is None else projected
        whole = (each.detach().contiguous().flatten(0, 1).numpy() for each in (points, centers, given, neighbors))
        self.points, self.centers, self.projected, self.neighbors = whole
        self.first_weight = self.weights[0].t().contiguous().numpy()
        self.norms: list[Norm] = []
        self.stored: dict[int, Rows] = {}
        self._size = min(self.num_groups, max(1, _NUMBERS // max(self.widths) // self.k))
        self._scratch: dict[tuple[str, int], Tensor] = {}

    def blocks(self) -> Iterator[slice]:
        """Groups, as many at a time as a block has."""
        for first in range(0, self.num_groups, self._size):
            yield slice(first, min(first + self._size, self.num_groups))

    def rows(self, block: slice) -> slice:
        return slice(block.start * self.k, block.stop * self.k)

    def scratch(self, name: str, width: int, block: slice) -> Rows:
        """Room for a block's rows, the same each time under one name."""
        if (name, width) not in self._scratch:
            self._scratch[name, width] = torch.empty(self._size * self.k, width, dtype=self.dtype)
        return self._scratch[name, width][: (block.stop - block.start) * self.k]

    def before(self, layer: int, block: slice, out: Rows | None = None) -> Rows:
        """A layer before its BatchNorm: stored, the first, or the product of the layer below."""
        if out is None and layer in self.stored:
            return self.stored[layer][self.rows(block)]
        out = self.scratch(f"before {layer}", self.widths[layer], block) if out is None else out
        if layer == 0:
            given = self.points, self.centers, self.projected, self.first_weight, self.neighbors
            loops.first_layer(*given, block.start, self.num_centers, out.numpy())
            return out
        return torch.mm(self.after(layer - 1, block), self.weights[layer].t(), out=out)

    def after(self, layer: int, block: slice, before: Rows | None = None) -> Rows:
        """A layer after BatchNorm and ReLU."""
        h = self.before(layer, block) if before is None else before
        out = self.scratch(f"after {layer}", self.widths[layer], block)
        scale, shift = self.norms[layer].affine(self.dtype)
        loops.activate(h.numpy(), scale.numpy(), shift.numpy(), out.numpy())
        return out


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
    """As `set_abstraction_plain_torch.forward`, for two layers or more.

    Raises:
        ValueError: a neighbour is not the index of a point.
    """
    if neighbors.numel() and (neighbors.min() < 0 or neighbors.max() >= points.shape[1]):
        raise ValueError(f"neighbors must be indices from 0 to {points.shape[1] - 1}, got {neighbors.min()} to {neighbors.max()}")
    stack = _Stack(points, centers, projected, neighbors, weights)
    gammas, betas = (torch.split(packed.detach(), stack.widths) for packed in (gamma, beta))
    found: list[Tensor] = []
    largest = torch.empty(*neighbors.shape[:2], stack.widths[-1], dtype=points.dtype)
    slot = torch.empty_like(largest, dtype=torch.int32)
    for layer, (scales, shifts) in enumerate(zip(gammas, betas, strict=True)):
        if layer == len(weights) - 1:
            moments = _pool(stack, signs(scales, points.dtype), largest, slot, known is None)
        elif known is None:
            moments = _measure(stack, layer)
        found.append(moments if known is None else torch.split(known, stack.widths, dim=1)[layer].clone())
        stack.norms.append(norm_of(scales, shifts, found[layer], eps))
    pooled, (scale, shift) = torch.empty_like(largest), stack.norms[-1].affine(points.dtype)
    loops.activate(largest.flatten(0, 1).numpy(), scale.numpy(), shift.numpy(), pooled.flatten(0, 1).numpy())
    return pooled, torch.cat(found, dim=1), list(stack.stored.values()), largest, slot


def _measure(stack: _Stack, layer: int) -> Tensor:
    """The moments of a hidden layer, which is stored unless it is the first."""
    whole = torch.empty(stack.num_edges, stack.widths[layer], dtype=stack.dtype) if layer else None
    sums = _Sums(stack.widths[layer])
    for block in stack.blocks():
        sums.add(stack.before(layer, block, None if whole is None else whole[stack.rows(block)]))
    if whole is not None:
        stack.stored[layer] = whole
    return sums.moments(stack.num_edges)


def _pool(stack: _Stack, sign: Tensor, largest: Pooled, slot: Tensor, measured: bool) -> Tensor:
    """Write each group's largest value of the last layer; the layer's moments, if asked for."""
    sums, values, slots = _Sums(stack.widths[-1]), largest.flatten(0, 1).numpy(), slot.flatten(0, 1).numpy()
    for block in stack.blocks():
        h = stack.before(len(stack.weights) - 1, block)
        if measured:
            sums.add(h)
        loops.pool(h.numpy(), sign.numpy(), values[block], slots[block])
    return sums.moments(stack.num_edges)


class _Sums:
    """Sums of h and its squares, around the first row."""

    def __init__(self, width: int) -> None:
        self.parts, self.origin = np.zeros((loops.CHUNKS, 2, width)), np.zeros(width)
        self.begun = False

    def add(self, h: Rows) -> None:
        if not self.begun:
            self.origin, self.begun = h[0].to(torch.float64, copy=True).numpy(), True
        loops.add_moments(h.numpy(), self.origin, self.parts)

    def moments(self, num_rows: int) -> Tensor:
        mean, square = self.parts.sum(axis=0) / num_rows
        return torch.from_numpy(np.stack([mean + self.origin, np.maximum(square - mean * mean, 0)]))


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
    """As `set_abstraction_plain_torch.backward`, for two layers or more."""
    pooled, moments, hidden, largest, slot = saved
    stack = _Stack(points, centers, projected, neighbors, weights)
    stack.norms, stack.stored = norms_of(stack.widths, gamma, beta, moments, eps), dict(enumerate(hidden, start=1))
    share = 1 / stack.num_edges if training else 0.0
    pull, d_gamma, d_beta = pooled_gradient(gradient, pooled, largest, stack.norms[-1])
    d_gammas, d_betas = [d_gamma], [d_beta]
    d_weights: list[Tensor] = []
    flow = torch.empty(stack.num_edges * stack.widths[-2], dtype=points.dtype)
    for layer in reversed(range(1, len(stack.norms))):
        dense = stack.norms[layer].dense(d_gammas[0], d_betas[0], share)
        sums = np.zeros((loops.CHUNKS, 2, stack.widths[layer - 1]))
        if layer == len(weights) - 1:
            d_weight = _below_last(stack, pull.flatten(0, 1), slot.flatten(0, 1), dense, flow, sums)
        else:
            given, flow = (
                flow,
                flow if stack.widths[layer - 1] <= stack.widths[layer] else flow.new_empty(stack.num_edges * stack.widths[layer - 1]),
            )
            d_weight = _below_hidden(stack, layer, dense, given, flow, sums)
        d_weights.insert(0, d_weight.to(points.dtype))
        first, second = torch.from_numpy(sums.sum(axis=0))
        d_betas.insert(0, first)
        d_gammas.insert(0, second * stack.norms[layer - 1].inverse_std)
    at_points, at_centers = _scattered(stack, flow, stack.norms[0].dense(d_gammas[0], d_betas[0], share))
    d_points, d_centers, d_first = first_gradients(at_points, at_centers, points, centers, weights[0])
    return d_points, d_centers, [d_first, *d_weights], torch.cat(d_gammas).to(gamma.dtype), torch.cat(d_betas).to(beta.dtype), at_points


def _below_last(stack: _Stack, pull: Tensor, slot: Tensor, dense: tuple[Tensor, Tensor], flow: Tensor, sums: np.ndarray) -> Tensor:
    """Write into `flow` what reaches the layer below the last after its BatchNorm, add to its sums, and return d weight (float64)."""
    layer, weight, (constant, slope) = len(stack.weights) - 2, stack.weights[-1], dense
    width, mean, wide = stack.widths[layer], stack.norms[layer].mean.to(stack.dtype).numpy(), stack.weights[-1].double()
    offset = slope * stack.norms[-1].mean - constant
    shift, curve = (offset @ wide).to(stack.dtype), (-(wide.t() * slope) @ wide).to(stack.dtype)
    gram, total, sparse = torch.zeros_like(curve, dtype=torch.float64), torch.zeros_like(shift, dtype=torch.float64), np.zeros(weight.shape)
    for block in stack.blocks():
        h = stack.before(layer, block)
        r, d = stack.after(layer, block, h), stack.scratch("gradient", width, block)
        gram += torch.mm(r.t(), r)
        total += r.sum(0)
        torch.addmm(shift, r, curve, out=d)
        pulled, slots = pull[block].numpy(), slot[block].numpy()
        loops.add_at_largest(d.numpy(), pulled, slots, weight.numpy())
        loops.add_outer_at_largest(sparse, pulled, slots, r.numpy())
        loops.through_relu(d.numpy(), r.numpy(), h.numpy(), mean, _part(stack, flow, width, block), sums)
    return torch.from_numpy(sparse) + offset[:, None] * total - slope[:, None] * (wide @ gram)


def _below_hidden(stack: _Stack, layer: int, dense: tuple[Tensor, Tensor], given: Tensor, flow: Tensor, sums: np.ndarray) -> Tensor:
    """The same through a hidden layer. `flow` may be where `given` is: a block is read before narrower rows take its place."""
    norm, weight = stack.norms[layer], stack.weights[layer]
    numbers = [each.to(stack.dtype).numpy() for each in (norm.mean, norm.scale, *dense)]
    below, mean = stack.widths[layer - 1], stack.norms[layer - 1].mean.to(stack.dtype).numpy()
    d_weight = torch.zeros(weight.shape, dtype=torch.float64)
    for block in stack.blocks():
        d = torch.from_numpy(_part(stack, given, stack.widths[layer], block))
        loops.through_norm(d.numpy(), stack.before(layer, block).numpy(), *numbers)
        h = stack.before(layer - 1, block)
        r = stack.after(layer - 1, block, h)
        d_weight += torch.mm(d.t(), r)
        dr = torch.mm(d, weight, out=stack.scratch("gradient", below, block))
        loops.through_relu(dr.numpy(), r.numpy(), h.numpy(), mean, _part(stack, flow, below, block), sums)
    return d_weight


def _part(stack: _Stack, flow: Tensor, width: int, block: slice) -> np.ndarray:
    rows = stack.rows(block)
    return flow[rows.start * width : rows.stop * width].view(-1, width).numpy()


def _scattered(stack: _Stack, flow: Tensor, dense: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The first layer's gradient, summed over the edges that end at each point and that begin at each centre."""
    width, norm = stack.widths[0], stack.norms[0]
    numbers = tuple(each.to(stack.dtype).numpy() for each in (norm.mean, norm.scale, *dense))
    at_points, at_centers = (
        torch.empty(stack.batch, len(each) // stack.batch, width, dtype=stack.dtype) for each in (stack.points, stack.centers)
    )
    d = flow[: stack.num_edges * width].view(-1, width).numpy()
    given = stack.points, stack.centers, stack.projected, stack.first_weight, stack.neighbors
    loops.scatter(d, *given, numbers, at_points.flatten(0, 1).numpy(), at_centers.flatten(0, 1).numpy(), stack.batch)
    return at_points, at_centers
