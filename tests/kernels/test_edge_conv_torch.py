"""EdgeConv by its algebra against the usual formulation, in everything that comes back; equal bits; and what it refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from triform.kernels.edge_conv_torch import edge_conv


def usual(x: Tensor, neighbors: Tensor, weight: Tensor, norm: torch.nn.BatchNorm2d) -> Tensor:
    """The published equations: features of all edges, a 1x1 convolution, BatchNorm, LeakyReLU, the largest."""
    batch, num_vertices, channels = x.shape
    k = neighbors.shape[2]
    there = x.gather(1, neighbors.flatten(1)[..., None].expand(-1, -1, channels)).view(batch, num_vertices, k, channels)
    here = x[:, :, None].expand_as(there)
    edges = torch.cat([there - here, here], dim=3).permute(0, 3, 1, 2)
    return F.leaky_relu(norm(F.conv2d(edges, weight[:, :, None, None])), 0.2).amax(dim=3).transpose(1, 2)


def case(batch=3, num_vertices=41, k=7, channels=5, width=9, dtype=torch.float64) -> tuple[Tensor, ...]:
    generator = np.random.default_rng(0)
    neighbors = generator.integers(0, num_vertices, (batch, num_vertices, k))
    neighbors[:, :, 0] = np.arange(num_vertices)
    arrays = (
        generator.normal(size=(batch, num_vertices, channels)) + 0.5,
        generator.normal(size=(width, 2 * channels)),
        generator.normal(size=width),
        generator.normal(size=width),
    )
    x, weight, gamma, beta = (torch.tensor(array, dtype=dtype, requires_grad=True) for array in arrays)
    return x, torch.from_numpy(neighbors), weight, gamma, beta


def norm_of(gamma: Tensor, beta: Tensor) -> torch.nn.BatchNorm2d:
    norm = torch.nn.BatchNorm2d(len(gamma)).to(gamma.dtype)
    norm.running_mean, norm.running_var = torch.linspace(-1, 1, len(gamma)).to(gamma), torch.linspace(0.5, 2, len(gamma)).to(gamma)
    norm.weight, norm.bias = torch.nn.Parameter(gamma.detach().clone()), torch.nn.Parameter(beta.detach().clone())
    return norm


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("index", [torch.int64, torch.int32])
def test_outputs_gradients_and_running_statistics_are_those_of_the_usual_formulation(training, index) -> None:
    x, neighbors, weight, gamma, beta = case()
    assert (gamma < 0).any()
    assert (gamma > 0).any()
    norm = norm_of(gamma, beta).train(training)
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    out = edge_conv(x, neighbors.to(index), weight, gamma, beta, mean, var, training=training)
    pull = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad((out * pull).sum(), (x, weight, gamma, beta))
    reference = usual(x, neighbors, weight, norm)
    wanted = torch.autograd.grad((reference * pull).sum(), (x, weight, norm.weight, norm.bias))
    torch.testing.assert_close(out, reference, rtol=0, atol=1e-11)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close((mean, var), (norm.running_mean, norm.running_var), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_finite_differences(training) -> None:
    x, neighbors, weight, gamma, beta = case(batch=2, num_vertices=6, k=3, channels=2, width=3)

    def run(*inputs: Tensor) -> Tensor:
        first, *rest = inputs
        return edge_conv(first, neighbors, *rest, torch.zeros(3).double(), torch.ones(3).double(), training=training)

    assert torch.autograd.gradcheck(run, (x, weight, gamma, beta))


def test_of_equal_neighbours_the_first_slot_gets_the_gradient() -> None:
    """Two vertices with equal features: slot 0 of vertex 2 is vertex 1. Zero weight on x_i keeps u out of it."""
    x = torch.tensor([[[3.0], [3.0], [0.0]]], dtype=torch.float64, requires_grad=True)
    neighbors = torch.tensor([[[0, 0], [1, 1], [1, 0]]])
    one, zero = torch.ones(1).double(), torch.zeros(1).double()
    out = edge_conv(x, neighbors, torch.tensor([[1.0, 1.0]]).double(), one, zero, zero.clone(), one.clone(), training=False)
    out[0, 2].sum().backward()
    gradient = x.grad.flatten().tolist()
    assert gradient[0] == 0
    assert gradient[1] == pytest.approx(1 / np.sqrt(1 + 1e-5))


@pytest.mark.parametrize("k", [1, 255])
def test_the_slot_fits_its_byte(k) -> None:
    """The largest stands in the last slot, 254."""
    num_vertices = max(k, 2)
    x = torch.arange(num_vertices, dtype=torch.float64).view(1, -1, 1).requires_grad_()
    neighbors = torch.arange(num_vertices - k, num_vertices).expand(1, num_vertices, k)
    one, zero = torch.ones(1).double(), torch.zeros(1).double()
    out = edge_conv(x, neighbors, torch.tensor([[1.0, 1.0]]).double(), one, zero, zero.clone(), one.clone(), training=False)
    out.sum().backward()
    assert x.grad.flatten().nonzero().flatten().tolist() == [num_vertices - 1]


def test_statistics_stay_accurate_in_float32_far_from_the_origin() -> None:
    """u and v are 1000 times larger than the spread of u + v; also with more vertices than a block holds."""
    x, neighbors, weight, gamma, beta = case(batch=2, num_vertices=700, k=4, channels=3, width=64)
    far = (x.detach() + 100.0).float()
    moments = []
    for dtype in (torch.float32, torch.float64):
        mean, var = torch.zeros(64, dtype=dtype), torch.zeros(64, dtype=dtype)
        rest = (each.detach().to(dtype) for each in (weight.float(), gamma, beta))
        edge_conv(far.to(dtype), neighbors, *rest, mean, var, training=True, momentum=1.0)
        moments.append((mean.double(), var.double()))
    torch.testing.assert_close(moments[0][0], moments[1][0], rtol=3e-7, atol=3e-5)
    torch.testing.assert_close(moments[0][1], moments[1][1], rtol=1e-4, atol=0)


def test_equal_bits_each_time_on_two_threads() -> None:
    x, neighbors, weight, gamma, beta = case(batch=2, num_vertices=600, k=9, channels=16, width=64, dtype=torch.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        results = []
        for _ in range(5):
            out = edge_conv(x, neighbors, weight, gamma, beta, torch.zeros(64), torch.ones(64), training=True)
            results.append((out, *torch.autograd.grad(out.square().sum(), (x, weight, gamma, beta))))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_without_gradients_the_outputs_are_the_same() -> None:
    x, neighbors, weight, gamma, beta = case()
    outs = []
    for tracked in (True, False):
        with torch.set_grad_enabled(tracked):
            outs.append(edge_conv(x, neighbors, weight, gamma, beta, torch.zeros(9).double(), torch.ones(9).double(), training=True))
    assert torch.equal(*outs)
    assert not outs[1].requires_grad


def test_autocast_leaves_it_in_float32() -> None:
    x, neighbors, weight, gamma, beta = case(dtype=torch.float32)
    outs = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outs.append(edge_conv(x, neighbors, weight, gamma, beta, torch.zeros(9), torch.ones(9), training=True))
    assert torch.equal(*outs)


def test_what_cannot_be_is_refused() -> None:
    x, neighbors, weight, gamma, beta = case(num_vertices=3, k=7, dtype=torch.float32)
    with pytest.raises(ValueError, match="neighbors must be 1 to 255"):
        edge_conv(x, neighbors.repeat(1, 1, 40), weight, gamma, beta, torch.zeros(9), torch.ones(9), training=True)
    with pytest.raises(ValueError, match="more than one edge"):
        edge_conv(x[:1, :1], neighbors[:1, :1, :1], weight, gamma, beta, torch.zeros(9), torch.ones(9), training=True)
