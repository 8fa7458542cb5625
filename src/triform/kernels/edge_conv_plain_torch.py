"""The passes over the edges of EdgeConv in plain torch, for any device. Two of them touch neighbours and can be given another form."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from triform.kernels.precision_torch import wide

Values = Float[Tensor, "sample vertex channel"]
Slots = UInt8[Tensor, "sample vertex channel"]
Graph = Int64[Tensor, "sample vertex neighbor"]

MaxAndSum = Callable[[Values, Graph], tuple[Values, Slots, Values]]
ReversedSums = Callable[[Values, Values, Graph, Slots], tuple[Int64[Tensor, "sample vertex"], Values, Values]]


class Passes(NamedTuple):
    """The passes of `kernels.edge_conv`, which says what each one does, over tensors."""

    largest_neighbors: Callable[..., Tensor]
    activate: Callable[..., None]
    gradient_sums: Callable[..., Tensor]
    edge_gradients: Callable[..., None]


def torch_passes(max_and_sum: MaxAndSum, reversed_sums: ReversedSums) -> Passes:
    """Return the passes with another form of `neighbor_max_and_sum` and `reversed_sums`, the two that touch neighbours."""
    return Passes(partial(_largest_neighbors, max_and_sum), _activate, _gradient_sums, partial(_edge_gradients, max_and_sum, reversed_sums))


def neighbor_max_and_sum(v: Values, neighbors: Graph) -> tuple[Values, Slots, Values]:
    """Return the largest of each vertex's neighbours, the first slot where it stands, and the sum over the slots in their order."""
    graph, values = _flat(neighbors), v.flatten(0, 1)
    largest = values.index_select(0, graph[:, 0])
    slot, total = torch.zeros_like(largest, dtype=torch.uint8), largest.clone()
    for j in range(1, graph.shape[1]):
        value = values.index_select(0, graph[:, j])
        slot.masked_fill_(value > largest, j)
        torch.maximum(largest, value, out=largest)
        total += value
    return largest.view_as(v), slot.view_as(v), total.view_as(v)


def reversed_sums(u: Values, dz: Values, neighbors: Graph, slot: Slots) -> tuple[Int64[Tensor, "sample vertex"], Values, Values]:
    """Return each vertex's degree, the sum of u over the vertices that have it as a neighbour, and of dz over those in whose slot it is.

    The first sum is a bag of the edges sorted by their end; the second is in one dimension, which is deterministic on CUDA too.
    """
    graph, channels = _flat(neighbors), u.shape[2]
    order = graph.flatten().sort(stable=True).indices
    degree = _degrees(graph)
    reached = F.embedding_bag(order // graph.shape[1], u.flatten(0, 1), degree.cumsum(0) - degree, mode="sum")
    target = graph.gather(1, slot.flatten(0, 1).to(torch.int64)).mul_(channels).add_(torch.arange(channels, device=slot.device))
    picked = torch.zeros_like(dz.flatten()).scatter_add_(0, target.flatten(), dz.flatten())
    return degree.view(neighbors.shape[:2]), reached.view_as(u), picked.view_as(u)


def _largest_neighbors(max_and_sum: MaxAndSum, u: Values, v: Values, neighbors: Graph, z: Values, slot: Slots, moments: bool) -> Tensor:
    largest, found, total = max_and_sum(v, neighbors)
    torch.add(u, largest, out=z)
    slot.copy_(found)
    if not moments:
        return u.new_empty(0, 2, u.shape[2])
    k, degree = neighbors.shape[2], _degrees(_flat(neighbors))
    a, b, s = (each.flatten(0, 1).to(wide(u)) for each in (u, v, total))
    squares = degree.to(b.dtype) @ b.square_() + (a * (k * a + 2 * s)).sum(0)
    return torch.stack([(k * a + s).sum(0), squares])[None]


def _activate(z: Tensor, scale: Tensor, shift: Tensor, negative_slope: float, out: Tensor) -> None:
    F.leaky_relu_(torch.addcmul(shift, z, scale, out=out), negative_slope)


def _gradient_sums(gradient: Tensor, z: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, negative_slope: float) -> Tensor:
    dy = _behind_relu(gradient, z, scale, shift, negative_slope)
    return torch.stack([dy.sum(0, dtype=wide(z)), (dy * (z - mean)).sum(0, dtype=wide(z))])


def _edge_gradients(
    max_and_sum: MaxAndSum,
    reversed_sums: ReversedSums,
    gradient: Values,
    z: Values,
    u: Values,
    v: Values,
    neighbors: Graph,
    slot: Slots,
    coefficients: Float[Tensor, "5 channel"],
    negative_slope: float,
    du: Values,
    dv: Values,
) -> None:
    scale, shift, mean, constant, slope = coefficients
    passed, k = _behind_relu(gradient, z, scale, shift, negative_slope) * scale, neighbors.shape[2]
    total = max_and_sum(v, neighbors)[2]
    torch.sub(passed, k * constant + slope * (k * (u - mean) + total), out=du)
    degree, reached, picked = reversed_sums(u, passed, neighbors, slot)
    torch.sub(picked, degree[..., None] * (constant + slope * (v - mean)) + slope * reached, out=dv)


def _behind_relu(gradient: Tensor, z: Tensor, scale: Tensor, shift: Tensor, negative_slope: float) -> Tensor:
    return torch.where(torch.addcmul(shift, z, scale) > 0, gradient, gradient * negative_slope)


def _degrees(graph: Tensor) -> Tensor:
    """How many edges end at each row."""
    return torch.bincount(graph.flatten(), minlength=len(graph))


def _flat(neighbors: Graph) -> Int64[Tensor, "row neighbor"]:
    """Indices into the rows of all samples."""
    batch, num_vertices, k = neighbors.shape
    first = torch.arange(batch, device=neighbors.device)[:, None, None] * num_vertices
    return (neighbors + first).view(-1, k)


PLAIN = torch_passes(neighbor_max_and_sum, reversed_sums)
