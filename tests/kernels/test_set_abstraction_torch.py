"""Set abstraction, plain and in blocks, against the usual formulation and float64; equal bits; what compiles; what is refused."""

from collections.abc import Sequence

import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from triform.kernels import choice
from triform.kernels import set_abstraction_torch as operator
from triform.kernels.set_abstraction_torch import set_abstraction

DEPTHS = [(6,), (6, 7), (6, 7, 8), (8, 7, 6, 5), (5, 9, 4, 12)]
Case = tuple[Tensor, Tensor | None, Tensor, Tensor, list[tuple[Tensor, ...]]]


@pytest.fixture(params=["reference", "fast"])
def kernels(request, monkeypatch) -> str:
    monkeypatch.setattr(choice, "_chosen", request.param)
    monkeypatch.setattr(operator, "_NUMBERS", 200)  # several blocks, the last one ragged
    return request.param


def case(batch=3, num_points=30, num_centers=11, k=5, channels=4, widths=(6, 7, 8), dtype=torch.float64) -> Case:
    """Scales of both signs, repeated neighbours."""
    generator = np.random.default_rng(0)

    def draw(*shape: int, learned: bool = True) -> Tensor:
        return torch.tensor(generator.normal(size=shape), dtype=dtype, requires_grad=learned)

    points = draw(batch, num_points, 3, learned=False)
    neighbors = torch.from_numpy(generator.integers(0, num_points, (batch, num_centers, k)))
    neighbors[:, ::2, k // 2 :] = neighbors[:, ::2, :1]
    features = draw(batch, num_points, channels) if channels else None
    before = (3 + channels, *widths)
    layers = [(draw(width, inputs), draw(width), draw(width)) for inputs, width in zip(before, widths, strict=False)]
    return points, features, points[:, :num_centers].clone(), neighbors, layers


def known_for(layers: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, Tensor]]:
    return [(torch.linspace(-1, 1, len(gamma)).to(gamma), torch.linspace(0.5, 2, len(gamma)).to(gamma)) for _, gamma, _ in layers]


def usual(points, features, centers, neighbors, layers, known=None) -> tuple[Tensor, list[Tensor]]:
    """The published equations, on all edges; also the running statistics after one step with momentum 1."""
    batch = torch.arange(len(points))[:, None, None]
    x = points[batch, neighbors] - centers[:, :, None]
    x = (x if features is None else torch.cat([x, features[batch, neighbors]], dim=3)).permute(0, 3, 2, 1)
    running: list[Tensor] = []
    for number, (weight, gamma, beta) in enumerate(layers):
        moments = [torch.zeros_like(gamma).detach(), torch.ones_like(gamma).detach()] if known is None else list(known[number])
        x = F.conv2d(x, weight[:, :, None, None])
        x = F.batch_norm(x, *moments, gamma, beta, training=known is None, momentum=1.0).relu()
        running += moments
    return x.max(dim=2).values.transpose(1, 2), running


def learned(found: Case) -> list[Tensor]:
    return [*([] if found[1] is None else [found[1]]), *(each for layer in found[4] for each in layer)]


def gradients(out: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    pull = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(out)
    return list(torch.autograd.grad(out, inputs, pull))


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize("channels", [0, 4])
@pytest.mark.parametrize("widths", DEPTHS)
def test_outputs_moments_and_gradients_are_those_of_the_usual_formulation(kernels, widths, channels, evaluation) -> None:
    given = case(widths=widths, channels=channels)
    known = known_for(given[4]) if evaluation else None
    out, moments = set_abstraction(*given, known)
    wanted, running = usual(*given, known)
    num_edges = given[3].numel()
    share = 1.0 if evaluation else num_edges / (num_edges - 1)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close([each for mean, var in moments for each in (mean, var * share)], running, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(out, learned(given)), gradients(wanted, learned(given)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize("widths", [(2,), (2, 3), (3, 2, 2)])
def test_gradients_are_those_of_finite_differences(kernels, widths, evaluation) -> None:
    """In coordinates too."""
    points, features, centers, neighbors, layers = case(2, 6, 3, 3, 2, widths)
    known = known_for(layers) if evaluation else None

    def run(points: Tensor, centers: Tensor, features: Tensor, *flat: Tensor) -> Tensor:
        return set_abstraction(points, features, centers, neighbors, [flat[i : i + 3] for i in range(0, len(flat), 3)], known)[0]

    flat = [each for layer in layers for each in layer]
    assert torch.autograd.gradcheck(run, (points.requires_grad_(), (centers + 0.1).requires_grad_(), features, *flat))


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operator_keeps_the_rules_of_its_kind(kernels, dtype, evaluation) -> None:
    points, _, centers, neighbors, layers = case(2, 12, 5, 3, 0, (3, 4, 5), dtype)
    weights, gammas, betas = zip(*layers, strict=True)
    projected = torch.ones(2, 12, 3, dtype=dtype, requires_grad=True)
    known = torch.rand(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) if evaluation else None
    packed = torch.cat(gammas).detach().requires_grad_(), torch.cat(betas).detach().requires_grad_()
    torch.library.opcheck(operator._edges, (points, centers, projected, neighbors, list(weights), *packed, known, 1e-5))
    torch.library.opcheck(
        operator._edges, (points, centers, None, neighbors, list(weights), *packed, known, 1e-5), test_utils="test_faketensor"
    )


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize("widths", DEPTHS)
def test_its_gradient_keeps_them_too(kernels, widths, evaluation) -> None:
    points, _, centers, neighbors, layers = case(2, 12, 5, 3, 0, widths, torch.float32)
    weights, gammas, betas = ([each.detach() for each in part] for part in zip(*layers, strict=True))
    packed = torch.cat(gammas), torch.cat(betas)
    known = torch.ones(2, sum(widths), dtype=torch.float64) if evaluation else None
    for projected in (None, torch.ones(2, 12, widths[0])):
        given = points, centers, projected, neighbors, weights, *packed
        pooled, moments, hidden, largest, slot = operator._edges(*given, known, 1e-5)
        saved = pooled, moments, hidden, largest, slot
        arguments = torch.ones_like(pooled), *given, *saved, 1e-5, not evaluation, True
        torch.library.opcheck(operator._edges_backward, arguments)


def test_float32_is_as_near_to_float64_as_the_usual_formulation(kernels, monkeypatch) -> None:
    """On small balls around the surface of a sphere."""
    monkeypatch.setattr(operator, "_NUMBERS", 1 << 15)
    points, _, centers, _, layers = case(4, 400, 60, 16, 0, (16, 16, 32))
    points, centers = (F.normalize(each, dim=2).float().double() for each in (points, centers))
    neighbors = torch.cdist(centers, points).topk(16, largest=False).indices
    layers = [tuple(each.detach().float().double().requires_grad_() for each in layer) for layer in layers]
    exact = points, None, centers, neighbors, layers
    single = (
        points.float(),
        None,
        centers.float(),
        neighbors,
        [tuple(each.detach().float().requires_grad_() for each in one) for one in layers],
    )
    wanted, _ = usual(*exact)
    truth = torch.cat([each.flatten() for each in gradients(wanted, learned(exact))])
    errors = []
    for out in (set_abstraction(*single)[0], usual(*single)[0]):
        found = torch.cat([each.flatten() for each in gradients(out, learned(single))])
        errors.append(float((found - truth).norm() / truth.norm()))
        torch.testing.assert_close(out.double(), wanted, rtol=0, atol=1e-5)
    assert errors[0] <= 1.2 * errors[1]


def test_moments_of_half_a_million_rows_are_exact(kernels, monkeypatch) -> None:
    """An identity of a layer: its moments are those of the coordinates."""
    monkeypatch.setattr(operator, "_NUMBERS", 1 << 19)
    points = torch.randn(8, 65_536, 3, generator=torch.Generator().manual_seed(0))
    neighbors, centers = torch.arange(65_536).expand(8, 1, 65_536), torch.zeros(8, 1, 3)
    one, zero = torch.ones(3), torch.zeros(3)
    _, moments = set_abstraction(points, None, centers, neighbors, [(torch.eye(3), one, zero)] * 2)
    rows = points.double().flatten(0, 1)
    torch.testing.assert_close(moments[0][0], rows.mean(0), rtol=0, atol=2e-7)
    torch.testing.assert_close(moments[0][1], rows.var(0, correction=0), rtol=2e-7, atol=0)


@pytest.mark.parametrize("place", [0, -1])
def test_one_point_far_out_costs_the_others_no_digits(kernels, monkeypatch, place) -> None:
    """A hundred standard deviations, in the first row or the last."""
    monkeypatch.setattr(operator, "_NUMBERS", 1 << 15)
    exact = case(4, 400, 60, 16, 0, (16, 16, 16))
    exact[0][place, place] = 100
    exact[3][place, place, place] = place % 400
    single = exact[0].float(), None, exact[2].float(), exact[3], [tuple(each.float() for each in layer) for layer in exact[4]]
    torch.testing.assert_close(set_abstraction(*single)[0].double(), set_abstraction(*exact)[0], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_of_equal_neighbours_the_first_slot_gets_the_gradient(kernels, sign) -> None:
    """Points 1 and 2 are the same, and the best whatever the sign of gamma is; slot 1 holds point 2."""
    points, centers = torch.zeros(1, 3, 3).double(), torch.zeros(1, 1, 3).double()
    features = sign * torch.tensor([[[1.0], [3.0], [3.0]]], dtype=torch.float64)
    features.requires_grad_()
    one, zero = torch.ones(1).double(), torch.zeros(1).double()
    positive = [(torch.tensor([[0.0, 0, 0, sign]]).double(), one, zero), (torch.tensor([[sign]]).double(), sign * one, zero)]
    out, _ = set_abstraction(points, features, centers, torch.tensor([[[0, 2, 1]]]), positive, [(zero, one), (zero, one)])
    out.sum().backward()
    assert out.item() == pytest.approx(3.0, rel=1e-4)
    assert features.grad.flatten().nonzero().flatten().tolist() == [2]


def test_far_from_the_origin_differences_are_not_rounded_away(kernels) -> None:
    points, _, centers, neighbors, layers = case(channels=0, dtype=torch.float32)
    far = torch.round(points * 1024) / 1024, torch.round(centers * 1024) / 1024
    outs = [set_abstraction(far[0] + shift, None, far[1] + shift, neighbors, layers)[0] for shift in (0.0, 4096.0)]
    assert torch.equal(*outs)


def test_blocks_and_plain_form_agree_whatever_the_block(monkeypatch) -> None:
    given = case(widths=(6, 9, 4, 8))
    outs = []
    for numbers in (1, 60, 1 << 20):
        monkeypatch.setattr(operator, "_NUMBERS", numbers)
        out, _ = set_abstraction(*given)
        outs.append([out.detach(), *gradients(out, learned(given))])
    for found in outs[1:]:
        torch.testing.assert_close(found, outs[0], rtol=1e-10, atol=1e-12)


def test_equal_bits_each_time_and_on_one_thread_or_two(kernels) -> None:
    """The threads of our own loops; those of the products are PyTorch's."""
    given = case(batch=2, num_points=200, num_centers=40, k=9, widths=(16, 16, 24), dtype=torch.float32)
    results = []
    for number in (1, 2, 2, 2):
        numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))
        out, moments = set_abstraction(*given)
        results.append([out, *(each for pair in moments for each in pair), *gradients(out, learned(given))])
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))


def test_without_gradients_the_outputs_are_the_same(kernels) -> None:
    given = case()
    with torch.no_grad():
        out, _ = set_abstraction(*given)
    assert not out.requires_grad
    assert torch.equal(out, set_abstraction(*given)[0])


def test_what_is_kept_can_be_used_twice(kernels) -> None:
    given = case()
    out, _ = set_abstraction(*given)
    first = torch.autograd.grad(out.sum(), learned(given), retain_graph=True)
    assert all(torch.equal(one, other) for one, other in zip(first, torch.autograd.grad(out.sum(), learned(given)), strict=True))


def test_it_compiles_in_one_graph_and_exports(kernels) -> None:
    points, features, centers, neighbors, layers = case(dtype=torch.float32)
    layers = [tuple(each.detach() for each in layer) for layer in layers]

    class Net(torch.nn.Module):
        def forward(self, points: Tensor, features: Tensor, centers: Tensor, neighbors: Tensor) -> Tensor:
            return set_abstraction(points, features, centers, neighbors, layers)[0]

    given = points, features, centers, neighbors
    wanted, compiled = Net()(*given), torch.compile(Net(), fullgraph=True, backend="aot_eager")
    found = compiled(*given)
    assert torch.equal(found, wanted)
    assert torch.equal(*(torch.autograd.grad(each.sum(), features)[0] for each in (found, wanted)))
    with torch.no_grad():
        assert torch.equal(torch.export.export(Net(), given).module()(*given), wanted)


def test_what_was_compiled_with_one_form_runs_with_the_other(monkeypatch) -> None:
    """As it may be after a run with another setting: compiled graphs are kept on disk."""
    monkeypatch.setattr(operator, "_NUMBERS", 200)
    points, features, centers, neighbors, layers = case()
    layers = [tuple(each.detach() for each in layer) for layer in layers]
    compiled = torch.compile(lambda x: set_abstraction(points, x, centers, neighbors, layers)[0], fullgraph=True, backend="aot_eager")
    results = []
    for form in ("reference", "fast"):
        monkeypatch.setattr(choice, "_chosen", form)
        out = compiled(features)
        results.append([out.detach(), torch.autograd.grad(out.sum(), features)[0]])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-11)


def test_autocast_leaves_it_in_the_layers_dtype(kernels) -> None:
    points, features, centers, neighbors, layers = case(dtype=torch.float32)
    wanted, _ = set_abstraction(points, features, centers, neighbors, layers)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(set_abstraction(points, features, centers, neighbors, layers)[0], wanted)


@pytest.mark.parametrize("evaluation", [False, True])
def test_what_is_not_a_number_stays_so(kernels, evaluation) -> None:
    """A diverged network must look diverged."""
    points, features, centers, neighbors, layers = case()
    broken = features.detach().clone()
    broken[1, neighbors[1, 4, 2]] = float("nan")
    out, _ = set_abstraction(points, broken, centers, neighbors, layers, known_for(layers) if evaluation else None)
    assert out[1, 4].isnan().all()


def test_what_cannot_be_is_refused(kernels) -> None:
    points, features, centers, neighbors, layers = case(dtype=torch.float32)
    wrong = {
        "points": (points[..., :2], features, centers, neighbors, layers),
        "features": (points, features[:, 1:], centers, neighbors, layers),
        "centers": (points, features, centers[1:], neighbors, layers),
        "neighbors": (points, features, centers[:, 1:], neighbors, layers),
        r"layers\[0\]": (points, None, centers, neighbors, layers),
        r"layers\[2\]": (points, features, centers, neighbors, [*layers[:2], (layers[2][0].double(), *layers[2][1:])]),
        "layers": (points, features, centers, neighbors, []),
        "known": (points, features, centers, neighbors, layers, known_for(layers[:2])),
        "neighbors must hold": (points[:1], features[:1], centers[:1, :1], neighbors[:1, :1, :1], layers),
    }
    for name, arguments in wrong.items():
        with pytest.raises(ValueError, match=f"^{name}"):
            set_abstraction(*arguments)


@pytest.mark.parametrize("wrong", [-1, 30])
@pytest.mark.parametrize("widths", [(6,), (6, 7)])
def test_a_neighbour_that_is_no_point_is_refused(kernels, widths, wrong) -> None:
    given = case(widths=widths)
    given[3][1, 2, 3] = wrong
    with pytest.raises(ValueError, match=r"neighbors must be 0 to 29, got (-1 to|\d+ to 30)"):
        set_abstraction(*given)
