"""The layers of set abstraction over all edges on the CPU, in blocks of groups that stay in the cache: products by oneDNN, loops by numba.

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
from triform.kernels.products_torch import rows_times, sum_of_outer_products
from triform.kernels.set_abstraction_first_torch import First
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
    norm_of,
    norms_of,
    pooled_gradient,
    signs,
    widths_of,
)
from triform.kernels.set_abstraction_torch import groups_at_once

_OUTER = 1 << 21
"""Numbers of all partial sums of the last layer's weight."""

_KEPT: dict[torch.dtype, Tensor] = {}


class _Stack:
    """The layers over all edges, a block of whole groups at a time. `stored` has the blocks of some layers."""

    def __init__(self, points: Points, centers: Centers, projected: Projected, neighbors: Neighbors, weights: Sequence[Tensor]) -> None:
        self.widths, self.k, self.dtype = widths_of(weights), neighbors.shape[2], points.dtype
        self.num_groups, self.num_edges = neighbors.shape[0] * neighbors.shape[1], neighbors.numel()
        self.first = First(points, centers, projected, weights[0], neighbors)
        self.weights = [weight.detach().contiguous() for weight in weights]
        self.norms: list[Norm] = []
        self.stored: dict[int, list[Rows]] = {}
        self._size = groups_at_once(self.num_groups, self.k, self.widths)
        self._scratch: dict[tuple[str, int], Tensor] = {}

    def blocks(self, *, backwards: bool = False) -> Iterator[slice]:
        """Groups, as many at a time as a block has."""
        firsts = range(0, self.num_groups, self._size)
        for first in reversed(firsts) if backwards else firsts:
            yield slice(first, min(first + self._size, self.num_groups))

    def rows(self, block: slice) -> slice:
        return slice(block.start * self.k, block.stop * self.k)

    def part(self, flow: Tensor, width: int, block: slice) -> Rows:
        """The block's rows in a flat tensor that holds `width` numbers a row."""
        rows = self.rows(block)
        return flow[rows.start * width : rows.stop * width].view(-1, width)

    def scratch(self, name: str, width: int, block: slice) -> Rows:
        """Room for a block's rows, the same each time under one name."""
        if (name, width) not in self._scratch:
            self._scratch[name, width] = torch.empty(self._size * self.k, width, dtype=self.dtype)
        return self._scratch[name, width][: (block.stop - block.start) * self.k]

    def before(self, layer: int, block: slice) -> Rows:
        """A layer but the first before its BatchNorm: stored, or the product of the layer below."""
        if layer in self.stored:
            rows: Rows = self.stored[layer][block.start // self._size]
            return rows
        return rows_times(self.after(layer - 1, block), self.weights[layer])

    def after(self, layer: int, block: slice, before: Rows | None = None) -> Rows:
        """A layer after BatchNorm and ReLU."""
        out = self.scratch(f"after {layer}", self.widths[layer], block)
        if layer == 0:
            return self.first.activated(self.norms[0], block, out)
        h, (scale, shift) = self.before(layer, block) if before is None else before, self.norms[layer].affine(self.dtype)
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
    """As `set_abstraction_plain_torch.forward`, for two layers or more."""
    stack = _Stack(points, centers, projected, neighbors, weights)
    gammas, betas = (torch.split(packed.detach(), stack.widths) for packed in (gamma, beta))
    given = [None] * len(weights) if known is None else [each.clone() for each in torch.split(known, stack.widths, dim=1)]
    largest = torch.empty(*neighbors.shape[:2], stack.widths[-1], dtype=points.dtype)
    slot = torch.empty_like(largest, dtype=torch.int32)
    found: list[Tensor] = []
    for layer, moments in enumerate(given):
        if layer == len(weights) - 1:
            measured = _pool(stack, signs(gammas[layer], points.dtype), largest, slot)
        elif moments is None:
            measured = _measure(stack, layer) if layer else stack.first.moments()
        found.append(measured if moments is None else moments)
        stack.norms.append(norm_of(gammas[layer], betas[layer], found[layer], eps))
    pooled, (scale, shift) = torch.empty_like(largest), stack.norms[-1].affine(points.dtype)
    loops.activate(largest.flatten(0, 1).numpy(), scale.numpy(), shift.numpy(), pooled.flatten(0, 1).numpy())
    return pooled, torch.cat(found, dim=1), [rows for blocks in stack.stored.values() for rows in blocks], largest, slot


def _measure(stack: _Stack, layer: int) -> Tensor:
    """The moments of a hidden layer but the first, whose blocks are stored: one by one, since one large tensor would find no hole in the
    heap that is large enough once a small one has settled in it."""
    sums, blocks = _Sums(stack.widths[layer]), []
    for block in stack.blocks():
        blocks.append(stack.before(layer, block))
        loops.add_moments(blocks[-1].numpy(), sums.around(blocks[-1].numpy()), sums.parts)
    stack.stored[layer] = blocks
    return sums.moments(stack.num_edges)


def _pool(stack: _Stack, sign: Tensor, largest: Pooled, slot: Tensor) -> Tensor:
    """Write each group's largest value of the last layer, and return the layer's moments."""
    sums, values, slots = _Sums(stack.widths[-1]), largest.flatten(0, 1).numpy(), slot.flatten(0, 1).numpy()
    for block in stack.blocks():
        h = stack.before(len(stack.weights) - 1, block).numpy()
        loops.pool(h, sums.around(h), sign.numpy(), values[block], slots[block], sums.parts)
    return sums.moments(stack.num_edges)


class _Sums:
    """Sums of h and its squares, around the mean of the first block: around a single row that is far out, all others would lose digits."""

    def __init__(self, width: int) -> None:
        self.parts = np.zeros((loops.CHUNKS, 2, width))
        self._origin: np.ndarray | None = None

    def around(self, h: np.ndarray) -> np.ndarray:
        if self._origin is None:
            self._origin = h.mean(axis=0, dtype=np.float64).astype(h.dtype)
        return self._origin

    def moments(self, num_rows: int) -> Tensor:
        mean, square = self.parts.sum(axis=0) / num_rows
        return torch.from_numpy(np.stack([mean + self._origin, np.maximum(square - mean * mean, 0)]))


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
    coordinates: bool,
) -> Backward:
    """As `set_abstraction_plain_torch.backward`, for two layers or more.

    Without `coordinates`, the gradients of points and centers are 0.
    """
    pooled, moments, hidden, largest, slot = saved
    stack = _Stack(points, centers, projected, neighbors, weights)
    stack.norms, number = norms_of(stack.widths, gamma, beta, moments, eps), len([*stack.blocks()])
    stack.stored = {1 + first // number: hidden[first : first + number] for first in range(0, len(hidden), number)}
    share = 1 / stack.num_edges if training else 0.0
    pull, d_gamma, d_beta = pooled_gradient(gradient, pooled, largest, stack.norms[-1])
    d_gammas, d_betas = [d_gamma], [d_beta]
    d_weights: list[Tensor] = []
    flow = _room(stack.num_edges * max(stack.widths[:-1]), points.dtype)
    for layer in reversed(range(1, len(stack.norms))):
        dense = stack.norms[layer].dense(d_gammas[0], d_betas[0], share)
        if layer == len(weights) - 1:
            d_weight, sums = _below_last(stack, pull.flatten(0, 1), slot.flatten(0, 1), dense, flow)
        else:
            keep = layer > 1 or stack.first.needs_rows(coordinates=coordinates)
            d_weight, sums = _below_hidden(stack, layer, dense, flow, keep=keep)
        d_weights.insert(0, d_weight.to(points.dtype))
        if layer > 1:
            first, second = torch.from_numpy(sums.sum(axis=0))
            d_betas.insert(0, first)
            d_gammas.insert(0, second * stack.norms[layer - 1].inverse_std)
    d = flow[: stack.num_edges * stack.widths[0]].view(-1, stack.widths[0])
    last = stack.first.gradients(stack.norms[0], d, sums, share, coordinates=coordinates)
    d_gamma, d_beta = torch.cat([last.gamma, *d_gammas]), torch.cat([last.beta, *d_betas])
    return last.points, last.centers, [last.weight, *d_weights], d_gamma.to(gamma.dtype), d_beta.to(beta.dtype), last.projected


def _room(size: int, dtype: torch.dtype) -> Tensor:
    """The largest scratch of all, kept between calls: taken and freed each time, it left holes in the heap that nothing else filled."""
    if dtype not in _KEPT or len(_KEPT[dtype]) < size:
        _KEPT.pop(dtype, None)
        _KEPT[dtype] = torch.empty(size, dtype=dtype)
    return _KEPT[dtype]


def _below_last(stack: _Stack, pull: Tensor, slot: Tensor, dense: tuple[Tensor, Tensor], flow: Tensor) -> tuple[Tensor, np.ndarray]:
    """Write into `flow` what reaches the layer below the last after its BatchNorm; return d weight (float64), and the sums that its
    BatchNorm needs."""
    layer, weight, (constant, slope) = len(stack.weights) - 2, stack.weights[-1], dense
    width, wide = stack.widths[layer], stack.weights[-1].double()
    offset = slope * stack.norms[-1].mean - constant
    shift, curve = (offset @ wide).to(stack.dtype), (-(wide.t() * slope) @ wide).to(stack.dtype)
    chunks = min(loops.CHUNKS, max(1, _OUTER // weight.numel()))
    gram, outer = torch.zeros_like(curve, dtype=torch.float64), np.zeros((chunks, *weight.shape))
    sums, below = np.zeros((chunks, 3, width)), stack.first.no_sums()
    mean = stack.norms[layer].mean.to(stack.dtype).numpy()
    for block in stack.blocks():
        h = stack.before(layer, block) if layer else None
        r, out = stack.after(layer, block, h), stack.part(flow, width, block)
        gram += sum_of_outer_products(r, r)
        d = rows_times(r, curve, shift)
        given = pull[block].numpy(), slot[block].numpy(), weight.numpy(), out.numpy()
        loops.through_last(d.numpy(), r.numpy(), (r if h is None else h).numpy(), mean, *given, outer, sums)
        if layer == 0:
            stack.first.through_relu(out, r, block, d, below)
    total = torch.from_numpy(sums[:, 2].sum(axis=0))
    d_weight = torch.from_numpy(outer.sum(axis=0)) + offset[:, None] * total - slope[:, None] * (wide @ gram)
    return d_weight, sums[:, :2] if layer else below


def _below_hidden(stack: _Stack, layer: int, dense: tuple[Tensor, Tensor], flow: Tensor, *, keep: bool) -> tuple[Tensor, np.ndarray]:
    """The same through a hidden layer. A block takes in `flow` the place of what has been read: if rows get wider, from the end on."""
    norm, weight = stack.norms[layer], stack.weights[layer]
    turned = weight.t().contiguous()
    numbers = [each.to(stack.dtype).numpy() for each in (norm.mean, norm.scale, *dense)]
    below, mean = stack.widths[layer - 1], stack.norms[layer - 1].mean.to(stack.dtype).numpy()
    sums = np.zeros((loops.CHUNKS, 2, below)) if layer > 1 else stack.first.no_sums()
    d_weight = torch.zeros(weight.shape, dtype=torch.float64)
    for block in stack.blocks(backwards=below > stack.widths[layer]):
        d = stack.part(flow, stack.widths[layer], block)
        loops.through_norm(d.numpy(), stack.before(layer, block).numpy(), *numbers)
        h = stack.before(layer - 1, block) if layer > 1 else None
        r = stack.after(layer - 1, block, h)
        d_weight += sum_of_outer_products(d, r)
        dr = rows_times(d, turned)
        out = stack.part(flow, below, block) if keep else stack.scratch("gradient", below, block)
        if h is not None:
            loops.through_relu(dr.numpy(), r.numpy(), h.numpy(), mean, out.numpy(), sums)
        else:
            stack.first.through_relu(dr, r, block, out, sums)
    return d_weight, sums
