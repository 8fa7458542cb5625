"""EdgeConv with BatchNorm and LeakyReLU, without ever building the features of the edges.

With W = [A, B], W [x_j - x_i; x_i] = u_i + v_j, where u = (B - A) x and v = A x: two products a vertex instead of one an edge. BatchNorm
and LeakyReLU rise with their input where gamma > 0, so the largest neighbour is picked before them; where gamma < 0, the row of W is
negated first, which turns its smallest neighbour into the largest and leaves the function as it is. The moments of all edges follow from
u, v and the sum s_i of each neighbourhood's v_j.

On the CPU the work goes in pieces: a sample at a time, and inside it blocks of rows so small that PyTorch does not share them out among
its threads: waking them costs more than the work (two threads, 64 channels: 7.2 ms a sample in one piece, 1.9 ms in blocks).

Source: DGCNN (Wang et al., ACM TOG 2019), section 3 and equation 8.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable

Rows = Float[Tensor, "row channel"]
Channels = Float[Tensor, " channel"]
Graph = Int[Tensor, "row neighbor"]

_BLOCK = 32_767
"""Numbers in a block: PyTorch shares out from 32,768 on."""


@torch.compiler.disable  # type: ignore[untyped-decorator]
def edge_conv(
    x: Float[Tensor, "batch vertex in"],
    neighbors: Int[Tensor, "batch vertex neighbor"],
    weight: Float[Tensor, "out 2*in"],
    gamma: Float[Tensor, " out"],
    beta: Float[Tensor, " out"],
    running_mean: Float[Tensor, " out"],
    running_var: Float[Tensor, " out"],
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
) -> Float[Tensor, "batch vertex out"]:
    """Return max over neighbours j of LeakyReLU(BatchNorm(weight [x_j - x_i; x_i])); where several are largest, the first slot counts.

    Differentiable in x, weight, gamma and beta, with equal bits each time on the CPU. Under autocast it stays in float32: u and v are
    large where their sum is small. In training the running statistics are updated in place, the variance unbiased.

    Args:
        neighbors: indices into the vertices of the same sample, 1 to 255 a vertex; repeated ones count as often as they stand there.
        training: normalise by the moments of all batch * vertex * neighbor edges, else by the running ones.
        momentum: share of the new moments in the running ones, 0 to 1.

    Raises:
        ValueError: more than 255 neighbours, or a single edge to train on.
    """
    batch, num_vertices, k = neighbors.shape
    if not 1 <= k <= 255:
        raise ValueError(f"neighbors must be 1 to 255 a vertex, got {k}")
    if training and neighbors.numel() < 2:
        raise ValueError("neighbors must hold more than one edge in training, got 1")
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(weight.dtype)
        sign = torch.where(gamma.detach() < 0, -1.0, 1.0).to(weight.dtype)
        center, difference = _split(weight * sign[:, None])
        u, v = F.linear(x, center).flatten(0, 1), F.linear(x, difference).flatten(0, 1)
        known = None if training else (running_mean * sign, running_var)
        tracked = torch.is_grad_enabled() and any(t.requires_grad for t in (u, gamma, beta))
        out, mean, var = _NormalizedMax.apply(u, v, neighbors.to(torch.int64), gamma * sign, beta, known, eps, negative_slope, tracked)  # type: ignore[no-untyped-call]
    if training:
        num_edges = neighbors.numel()
        running_mean.mul_(1 - momentum).add_((mean * sign).to(running_mean.dtype), alpha=momentum)
        running_var.mul_(1 - momentum).add_((var * (num_edges / (num_edges - 1))).to(running_var.dtype), alpha=momentum)
    result: Tensor = out.view(batch, num_vertices, -1)
    return result


def _split(weight: Float[Tensor, "out 2*in"]) -> tuple[Float[Tensor, "out in"], Float[Tensor, "out in"]]:
    """B - A, which acts on x_i, and A, which acts on x_j."""
    difference, center = weight.chunk(2, dim=1)
    return center - difference, difference


class _NormalizedMax(torch.autograd.Function):
    """u, v -> LeakyReLU(BatchNorm(u_i + max_j v_j)) for gamma >= 0, and the moments of all u_i + v_j."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Rows,
        v: Rows,
        neighbors: Int[Tensor, "batch vertex neighbor"],
        gamma: Channels,
        beta: Channels,
        known: tuple[Channels, Channels] | None,
        eps: float,
        negative_slope: float,
        tracked: bool,
    ) -> tuple[Rows, Channels, Channels]:
        largest, slot = torch.empty_like(v), torch.empty_like(v, dtype=torch.uint8) if tracked else None
        for rows, graph in _pieces(neighbors):
            _largest_neighbor(v[rows], graph, largest[rows], None if slot is None else slot[rows])
        mean, var = known or _edge_moments(u, v, neighbors)
        z = largest.add_(u)
        scale, shift, inverse_std = _affine(gamma, beta, mean, var, eps)
        out = F.leaky_relu_(torch.addcmul(shift, z, scale), negative_slope)
        ctx.save_for_backward(u, v, z, slot, neighbors, scale, shift, mean.to(u.dtype), inverse_std)
        ctx.negative_slope, ctx.batch_moments = negative_slope, known is None
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Rows, *_: Any) -> tuple[Tensor | None, ...]:
        """With n edges and z^ normalised, dz_ij = scale (dy_i [j largest] - dbeta / n - z^_ij dgamma / n), summed over j and over i."""
        u, v, z, slot, neighbors, scale, shift, mean, inverse_std = ctx.saved_tensors
        k = neighbors.shape[2]
        y = torch.addcmul(shift, z, scale)
        dy = torch.ops.aten.leaky_relu_backward(gradient.contiguous(), y, ctx.negative_slope, False)
        d_beta = dy.sum(0)
        d_gamma = torch.sub(z, mean, out=y).mul_(dy).sum(0) * inverse_std
        du, dv = torch.mul(dy, scale, out=y), torch.zeros_like(v)
        for rows, graph in _pieces(neighbors):
            _add_to_largest(dv[rows], du[rows], graph, slot[rows])
        if ctx.batch_moments:
            constant, slope = scale * d_beta / neighbors.numel(), scale * inverse_std * d_gamma / neighbors.numel()
            for rows, graph in _pieces(neighbors):
                degree, reached = _reverse_sum(u[rows], graph)
                dv[rows] -= slope * (degree * (v[rows] - mean) + reached) + degree * constant
                du[rows] -= slope * (k * (u[rows] - mean) + _neighbor_sum(v[rows], graph)) + k * constant
        return du, dv, None, d_gamma, d_beta, None, None, None, None


def _pieces(neighbors: Int[Tensor, "batch vertex neighbor"]) -> Iterator[tuple[slice, Graph]]:
    """What is worked on at once, and its edges as indices into its own rows: a sample on the CPU, else all, to launch few kernels."""
    batch, num_vertices, k = neighbors.shape
    if neighbors.device.type == "cpu":
        for b in range(batch):
            yield slice(b * num_vertices, (b + 1) * num_vertices), neighbors[b]
    else:
        first = torch.arange(batch, device=neighbors.device)[:, None, None] * num_vertices
        yield slice(0, batch * num_vertices), (neighbors + first).view(-1, k)


def _largest_neighbor(v: Rows, graph: Graph, largest: Rows, slot: UInt8[Tensor, "row channel"] | None) -> None:
    """Write the largest neighbour of each row, and the first slot where it stands.

    The slot is kept as a float till the end, because PyTorch compares floats into floats three times as fast as into booleans.
    """
    num_rows, channels = largest.shape
    size = max(1, _BLOCK // channels) if v.device.type == "cpu" else num_rows
    columns = graph.t().contiguous()
    value, larger, best = (v.new_empty(min(size, num_rows), channels) for _ in range(3))
    for first in range(0, num_rows, size):
        block = slice(first, min(first + size, num_rows))
        length = block.stop - first
        _scan(v, columns[:, block], largest[block], None if slot is None else best[:length], value[:length], larger[:length])
        if slot is not None:
            slot[block] = best[:length]


def _scan(v: Rows, columns: Int[Tensor, "neighbor row"], largest: Rows, best: Rows | None, value: Rows, larger: Rows) -> None:
    """One block of `_largest_neighbor`; `value` and `larger` are scratch."""
    torch.index_select(v, 0, columns[0], out=largest)
    if best is not None:
        best.zero_()
    for j, column in enumerate(columns[1:], start=1):
        torch.index_select(v, 0, column, out=value)
        if best is not None:
            torch.gt(value, largest, out=larger)
            torch.maximum(best, larger.mul_(j), out=best)
        torch.maximum(largest, value, out=largest)


def _edge_moments(u: Rows, v: Rows, neighbors: Int[Tensor, "batch vertex neighbor"]) -> tuple[Channels, Channels]:
    """Mean and biased variance of u_i + v_j over all edges.

    Summed in float64 (but for MPS, which has none), around the first vertex, since u and v can be far larger than their sum.
    """
    k, wide = neighbors.shape[2], torch.float32 if u.device.type == "mps" else torch.float64
    u_zero, v_zero = u[0].to(wide), v[0].to(wide)
    sums, squares = torch.zeros_like(u_zero), torch.zeros_like(u_zero)
    for rows, graph in _pieces(neighbors):
        u_off, v_off, total_off = u[rows] - u_zero, v[rows] - v_zero, _neighbor_sum(v[rows], graph) - k * v_zero
        sums += k * u_off.sum(0) + total_off.sum(0)
        squares += _degrees(graph).to(wide) @ v_off.square_() + total_off.mul_(2).add_(u_off, alpha=k).mul_(u_off).sum(0)
    mean = sums / neighbors.numel()
    return mean + u_zero + v_zero, (squares / neighbors.numel() - mean.square()).clamp_(min=0)


def _affine(gamma: Channels, beta: Channels, mean: Channels, var: Channels, eps: float) -> tuple[Channels, Channels, Channels]:
    """BatchNorm as z * scale + shift, and 1 / std."""
    inverse_std = (var + eps).rsqrt()
    scale = gamma * inverse_std
    shift = beta - mean * scale
    return scale.to(gamma.dtype), shift.to(gamma.dtype), inverse_std.to(gamma.dtype)


def _neighbor_sum(v: Rows, graph: Graph) -> Rows:
    """The sum of v over each row's neighbours. Cheaper done again in the backward pass than kept."""
    return F.embedding_bag(graph, v, mode="sum")


def _degrees(graph: Graph) -> Int[Tensor, " row"]:
    """How many edges end at each row."""
    return torch.bincount(graph.flatten(), minlength=len(graph))


def _add_to_largest(sums: Rows, values: Rows, graph: Graph, slot: UInt8[Tensor, "row channel"]) -> None:
    """Add each row's values to its largest neighbour, channel by channel. In one dimension, which is deterministic on CUDA too."""
    channels = sums.shape[1]
    target = graph.gather(1, slot.to(torch.int64)).mul_(channels).add_(torch.arange(channels, device=slot.device))
    sums.view(-1).scatter_add_(0, target.flatten(), values.flatten())


def _reverse_sum(u: Rows, graph: Graph) -> tuple[Float[Tensor, "row 1"], Rows]:
    """The degree of each row, and the sum of u over the rows that have it as a neighbour: a bag of the edges sorted by their end."""
    ends, order = graph.flatten().sort(stable=True)
    degree = torch.bincount(ends, minlength=len(graph))
    reached = F.embedding_bag(order // graph.shape[1], u, degree.cumsum(0) - degree, mode="sum")
    return degree[:, None].to(u.dtype), reached
