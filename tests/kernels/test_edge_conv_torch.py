"""EdgeConv by its algebra against the usual formulation, in everything that comes back, in both forms; equal bits; and what it refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from triform.kernels import choice
from triform.kernels.edge_conv_torch import edge_conv, edge_conv_backward_operator, edge_conv_operator


@pytest.fixture(params=["fast", "reference"])
def form(request, monkeypatch):
    monkeypatch.setattr(choice, "_chosen", request.param)
    return request.param


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
    norm = torch.nn.BatchNorm2d(len(gamma), momentum=1.0).to(gamma.dtype)
    norm.running_mean, norm.running_var = torch.linspace(-1, 1, len(gamma)).to(gamma), torch.linspace(0.5, 2, len(gamma)).to(gamma)
    norm.weight, norm.bias = torch.nn.Parameter(gamma.detach().clone()), torch.nn.Parameter(beta.detach().clone())
    return norm


def everything(inputs: tuple[Tensor, ...], *known: Tensor) -> list[Tensor]:
    """Outputs, moments and gradients."""
    x, neighbors, weight, gamma, beta = inputs
    out, mean, var = edge_conv(x, neighbors, weight, gamma, beta, *known)
    pull = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(out.dtype)
    return [out.detach(), mean, var, *torch.autograd.grad((out * pull).sum(), (x, weight, gamma, beta))]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("k", "width"), [(1, 3), (7, 9), (8, 130)])
def test_outputs_moments_and_gradients_are_those_of_the_usual_formulation(form, known, k, width) -> None:
    x, neighbors, weight, gamma, beta = inputs = case(k=k, width=width)
    assert (gamma < 0).any()
    assert (gamma > 0).any()
    norm = norm_of(gamma, beta).train(not known)
    given = (norm.running_mean, norm.running_var) if known else ()
    out, mean, var, *found = everything((x, neighbors.to(torch.int32 if k == 7 else torch.int64), *inputs[2:]), *given)
    reference = usual(x, neighbors, weight, norm)
    pull = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(0))
    wanted = torch.autograd.grad((reference * pull).sum(), (x, weight, norm.weight, norm.bias))
    torch.testing.assert_close(out, reference, rtol=0, atol=1e-11)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    count = neighbors.numel()
    unbiased = var if known else var * count / (count - 1)
    torch.testing.assert_close((mean, unbiased), (norm.running_mean, norm.running_var), rtol=1e-12, atol=1e-12)
    assert not mean.requires_grad


@pytest.mark.parametrize("known", [False, True])
def test_gradients_are_those_of_finite_differences(form, known) -> None:
    x, neighbors, weight, gamma, beta = case(batch=2, num_vertices=6, k=3, channels=2, width=3)
    given = (torch.zeros(3).double(), torch.ones(3).double()) if known else ()
    assert torch.autograd.gradcheck(lambda x, *rest: edge_conv(x, neighbors, *rest, *given)[0], (x, weight, gamma, beta))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("known", [False, True])
def test_the_operator_keeps_the_rules_of_operators(form, dtype, known) -> None:
    x, neighbors, weight, gamma, beta = case(batch=2, num_vertices=6, k=3, channels=2, width=3, dtype=dtype)
    given = (torch.zeros(3, dtype=dtype), torch.ones(3, dtype=dtype)) if known else (None, None)
    torch.library.opcheck(edge_conv_operator, (x, neighbors, weight, gamma, beta, *given, 1e-5, 0.2))
    turned = weight.detach().t().contiguous().t()
    out, _, _, z, slot, affine = edge_conv_operator(x, neighbors, turned, gamma, beta, *given, 1e-5, 0.2)
    kept = [each.detach() for each in (x, neighbors, turned, gamma, z, slot, affine)]
    torch.library.opcheck(edge_conv_backward_operator, (torch.ones_like(out).detach(), *kept, known, 0.2))


def test_both_forms_are_as_near_to_float64(monkeypatch) -> None:
    """More samples than are worked on at once, and more channels than a task has."""
    precise = case(batch=40, num_vertices=300, k=6, channels=12, width=260)
    wanted = everything(precise)
    rough = tuple(each if each.dtype == torch.int64 else each.detach().float().requires_grad_() for each in precise)
    for form in ("fast", "reference"):
        monkeypatch.setattr(choice, "_chosen", form)
        for ours, theirs in zip(everything(rough), wanted, strict=True):
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-3
        torch.testing.assert_close(everything(rough)[0].double(), wanted[0], rtol=0, atol=2e-5)


def test_of_equal_neighbours_the_first_slot_gets_the_gradient(form) -> None:
    """Two vertices with equal features: slot 0 of vertex 2 is vertex 1. Zero weight on x_i keeps u out of it."""
    x = torch.tensor([[[3.0], [3.0], [0.0]]], dtype=torch.float64, requires_grad=True)
    neighbors = torch.tensor([[[0, 0], [1, 1], [1, 0]]])
    one, zero = torch.ones(1).double(), torch.zeros(1).double()
    out, _, _ = edge_conv(x, neighbors, torch.tensor([[1.0, 1.0]]).double(), one, zero, zero, one)
    out[0, 2].sum().backward()
    assert x.grad.flatten().tolist() == pytest.approx([0, 1 / np.sqrt(1 + 1e-5), 0], abs=0)


@pytest.mark.parametrize("k", [1, 255])
def test_the_slot_fits_its_byte(form, k) -> None:
    """The largest stands in the last slot, 254."""
    num_vertices = max(k, 2)
    x = torch.arange(num_vertices, dtype=torch.float64).view(1, -1, 1).requires_grad_()
    neighbors = torch.arange(num_vertices - k, num_vertices).expand(1, num_vertices, k)
    one, zero = torch.ones(1).double(), torch.zeros(1).double()
    edge_conv(x, neighbors, torch.tensor([[1.0, 1.0]]).double(), one, zero, zero, one)[0].sum().backward()
    assert x.grad.flatten().nonzero().flatten().tolist() == [num_vertices - 1]


def test_moments_stay_accurate_in_float32_far_from_the_origin(form) -> None:
    """x is 100 times larger than its spread."""
    x, neighbors, *rest = case(batch=2, num_vertices=700, k=4, channels=3, width=64)
    far, rest = (x.detach() + 100.0).float(), [each.detach().float() for each in rest]
    _, mean, var = edge_conv(far, neighbors, *rest)
    _, precise_mean, precise_var = edge_conv(far.double(), neighbors, *(each.double() for each in rest))
    torch.testing.assert_close(mean.double(), precise_mean, rtol=3e-7, atol=1e-5)
    torch.testing.assert_close(var.double(), precise_var, rtol=2e-6, atol=0)


def test_the_mean_over_half_a_million_edges_is_exact(form) -> None:
    """Standard normal edges: torch's channels-last BatchNorm on the CPU is off by 2.4e-5."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 8192, 8)).astype(np.float32))
    neighbors = torch.arange(8192)[:, None].expand(4, 8192, 16)
    weight = torch.cat([torch.zeros(8, 8), torch.eye(8)], dim=1)
    _, mean, var = edge_conv(x, neighbors, weight, torch.ones(8), torch.zeros(8))
    assert float((mean - x.double().mean((0, 1))).abs().max()) < 2e-7
    assert float((var - x.double().var((0, 1), correction=0)).abs().max()) < 5e-7


@pytest.mark.parametrize("known", [False, True])
def test_equal_bits_each_time_on_two_threads(form, known) -> None:
    inputs = case(batch=3, num_vertices=600, k=9, channels=16, width=64, dtype=torch.float32)
    given = (torch.zeros(64), torch.ones(64)) if known else ()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, *others = [everything(inputs, *given) for _ in range(4)]
    finally:
        torch.set_num_threads(threads)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(other, first, strict=True))


def test_a_sample_does_not_depend_on_the_others_when_moments_are_known(form) -> None:
    x, neighbors, *rest = case(dtype=torch.float32)
    known = torch.linspace(-1, 1, 9), torch.linspace(0.5, 2, 9)
    other = torch.cat([x[:1] + 50, x[1:]])
    assert torch.equal(edge_conv(other, neighbors, *rest, *known)[0][1:], edge_conv(x, neighbors, *rest, *known)[0][1:])


def test_autocast_leaves_it_in_float32(form) -> None:
    x, *rest = case(dtype=torch.float32)
    wanted = edge_conv(x.bfloat16(), *rest)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(edge_conv(x.bfloat16(), *rest)[0], wanted)
    assert wanted.dtype == torch.float32


def test_nothing_is_updated(form) -> None:
    inputs = case()
    given = torch.zeros(9).double(), torch.ones(9).double()
    before = [each.detach().clone() for each in (*inputs, *given)]
    everything(inputs, *given)
    assert all(torch.equal(a, b) for a, b in zip((*inputs, *given), before, strict=True))


@pytest.mark.long
def test_compiled_in_one_graph_it_is_the_same(form) -> None:
    x, *rest = case(dtype=torch.float32)
    compiled = torch.compile(lambda x: edge_conv(x, *rest)[0].square().sum(), fullgraph=True, backend="aot_eager")
    wanted, found = (torch.autograd.grad(run(x), x)[0] for run in (lambda x: edge_conv(x, *rest)[0].square().sum(), compiled))
    assert torch.equal(found, wanted)


def test_what_is_not_finite_or_out_of_range_is_refused_by_name(form) -> None:
    x, neighbors, *rest = (each.detach() for each in case(dtype=torch.float32))
    for value in (np.nan, np.inf):
        bad = x.clone()
        bad[1, 2, 0] = value
        with pytest.raises(ValueError, match="x must be finite"):
            edge_conv(bad, neighbors, *rest)
    for place in (-1, 41):
        bad = neighbors.clone()
        bad[0, 3, 1] = place
        with pytest.raises(ValueError, match="neighbors must be 0 to 40"):
            edge_conv(x, bad, *rest)


def test_what_cannot_be_is_refused() -> None:
    x, neighbors, weight, gamma, beta = (each.detach() for each in case(num_vertices=3, k=7, dtype=torch.float32))
    one = torch.ones(9)
    for message, wrong in {
        "neighbors must be 1 to 255": (x, neighbors.repeat(1, 1, 40), weight, gamma, beta),
        "more than one edge": (x[:1, :1], neighbors[:1, :1, :1], weight, gamma, beta),
        "x must be": (x[0], neighbors, weight, gamma, beta),
        "neighbors must be integers": (x, neighbors.float(), weight, gamma, beta),
        "weight must be": (x, neighbors, weight[:, 1:], gamma, beta),
        "gamma must be": (x, neighbors, weight, gamma[1:], beta),
        "given together": (x, neighbors, weight, gamma, beta, one),
    }.items():
        with pytest.raises(ValueError, match=message):
            edge_conv(*wrong)
    with pytest.raises(ValueError, match="negative_slope"):
        edge_conv(x, neighbors, weight, gamma, beta, negative_slope=-0.1)
