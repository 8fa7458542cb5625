"""EdgeConv's passes over the edges in Triton against gathered edges and autograd in float64: ties, repeated neighbours, a hub, bfloat16."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F

if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
    pytest.skip("needs a GPU or TRITON_INTERPRET=1, which test_triton.py sets", allow_module_level=True)
pytest.importorskip("triton")
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"

SIZES = [(1, 1, 1, 1), (3, 7, 3, 2), (1, 9, 65, 5), (2, 10, 64, 7), (1, 3, 4, 20)]


def normals(*shape) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).normal(size=shape)).to(DEVICE)


def graph_of(batch, vertices, k, *, hub=False) -> torch.Tensor:
    neighbors = np.random.default_rng(k).integers(0, vertices, (batch, vertices, k))
    if hub:
        neighbors[:, :, 0] = vertices // 2
    return torch.from_numpy(neighbors).to(DEVICE)


def gathered(values, neighbors) -> torch.Tensor:
    """(batch, vertex, neighbor, channel)"""
    return torch.stack(
        [sample.index_select(0, graph.flatten()).view(*graph.shape, -1) for sample, graph in zip(values, neighbors, strict=True)]
    )


def wide(dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def forward(u, v, neighbors, *, moments=True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    from triform.kernels.edge_conv_triton_torch import largest_neighbors_cuda

    z = torch.empty_like(u, dtype=wide(u.dtype))
    slot = torch.empty_like(u, dtype=torch.uint8)
    return z, slot, largest_neighbors_cuda(u, v, neighbors, z, slot, moments)


@pytest.mark.parametrize(("dtype", "ties"), [(torch.float32, False), (torch.float32, True), (torch.float64, False), (torch.bfloat16, True)])
@pytest.mark.parametrize(("batch", "vertices", "channels", "k"), SIZES)
def test_largest_neighbor_first_slot_and_moments(dtype, ties, batch, vertices, channels, k) -> None:
    u, v, neighbors = normals(batch, vertices, channels), normals(vertices, batch, channels).transpose(0, 1), graph_of(batch, vertices, k)
    u, v = (each.round().to(dtype) if ties else each.to(dtype) for each in (u, v))
    z, slot, sums = forward(u, v, neighbors)
    edges = gathered(v, neighbors).to(z.dtype)
    assert torch.equal(z, u.to(z.dtype) + edges.amax(2))
    assert torch.equal(slot.to(torch.int64), (edges == edges.amax(2, keepdim=True)).to(torch.int32).argmax(2))
    edges = edges.double() + u[:, :, None]
    expected = torch.stack([edges.sum((0, 1, 2)), edges.square().sum((0, 1, 2))])
    assert sums.dtype == torch.float64
    torch.testing.assert_close(sums.sum(0), expected, rtol=1e-12, atol=1e-12 * neighbors.numel())
    assert torch.equal(forward(u, v, neighbors)[2], sums)


def test_slots_count_to_254() -> None:
    v = torch.tensor([[[0.0], [1.0]]], device=DEVICE)
    neighbors = torch.zeros(1, 2, 255, dtype=torch.int64, device=DEVICE)
    neighbors[0, 1, 254] = 1
    assert forward(v, v, neighbors)[1].tolist() == [[[0], [254]]]


def test_without_moments_nothing_is_summed() -> None:
    u = normals(2, 9, 3)
    z, _, sums = forward(u, u, graph_of(2, 9, 4), moments=False)
    assert sums.shape == (0, 2, 3)
    assert torch.equal(z, forward(u, u, graph_of(2, 9, 4))[0])


def by_autograd(gradient, u, v, neighbors, coefficients, negative_slope) -> tuple[torch.Tensor, ...]:
    """The largest edge goes through the affine map and LeakyReLU; the moments' share is that of -(c e + s (e - mean)^2 / 2) on every
    edge e."""
    scale, shift, mean, constant, slope = coefficients
    u, v = u.detach().requires_grad_(), v.detach().requires_grad_()
    edges = u[:, :, None] + gathered(v, neighbors)
    slots = edges.argmax(2, keepdim=True)
    out = F.leaky_relu(edges.gather(2, slots)[:, :, 0] * scale + shift, negative_slope)
    shared = constant * edges + slope * (edges - mean).square() / 2
    return torch.autograd.grad((gradient * out).sum() - shared.sum(), (u, v))


@pytest.mark.parametrize(("dtype", "hub"), [(torch.float32, False), (torch.float32, True), (torch.float64, True), (torch.bfloat16, False)])
@pytest.mark.parametrize(("batch", "vertices", "channels", "k"), SIZES)
def test_gradients_are_those_of_autograd(dtype, hub, batch, vertices, channels, k) -> None:
    from triform.kernels.edge_conv_triton_torch import edge_gradients_cuda

    neighbors, coefficients = graph_of(batch, vertices, k, hub=hub), normals(5, channels).to(wide(dtype))
    u, v, gradient = (normals(batch, vertices + n, channels)[:, n:].to(dtype) for n in range(3))
    z, slot, _ = forward(u, v, neighbors)

    def found() -> tuple[torch.Tensor, torch.Tensor]:
        du, dv = torch.empty_like(z), torch.empty_like(z)
        edge_gradients_cuda(gradient, z, u, v, neighbors, slot, coefficients, 0.2, du, dv)
        return du, dv

    expected = by_autograd(gradient.double(), u.double(), v.double(), neighbors, coefficients.double(), 0.2)
    for ours, theirs, again in zip(found(), expected, found(), strict=True):
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()) + tolerance)
        assert torch.equal(ours, again)


def test_of_equal_neighbours_the_first_gets_the_gradient_and_a_stranger_none() -> None:
    from triform.kernels.edge_conv_triton_torch import edge_gradients_cuda

    u, neighbors = torch.zeros(1, 4, 1, device=DEVICE), torch.tensor([[[2, 1], [2, 1], [1, 2], [2, 2]]], device=DEVICE)
    z, slot, _ = forward(u, u, neighbors)
    du, dv = torch.empty_like(u), torch.empty_like(u)
    coefficients = torch.tensor([[1.0], [1.0], [0.0], [0.0], [0.0]], device=DEVICE)
    gradient = torch.tensor([[[1.0], [2.0], [4.0], [8.0]]], device=DEVICE)
    edge_gradients_cuda(gradient, z, u, u, neighbors, slot, coefficients, 0.2, du, dv)
    assert dv.flatten().tolist() == [0, 4, 11, 0]
    assert torch.equal(du, gradient)
