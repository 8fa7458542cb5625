"""The operator of nearest neighbours: its two forms and the reference, its gradients, and what traces it."""

import pytest
import torch
from torch import Tensor

from triform.kernels import nearest_neighbors_torch
from triform.kernels.choice import use_kernels
from triform.kernels.gather_torch import gather_points
from triform.kernels.nearest_neighbors_torch import (
    nearest_neighbors,
    nearest_neighbors_backward,
    nearest_neighbors_backward_plain,
    nearest_neighbors_operator,
    nearest_neighbors_plain,
)

DTYPES = [torch.float32, torch.float64]


def clouds(kind: str, dtype: torch.dtype, num_queries: int = 70, num_points: int = 45) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries, points = (torch.randn(3, n, 3, generator=generator, dtype=torch.float64) for n in (num_queries, num_points))
    if kind == "grid":
        queries, points = queries.round(), points.round()
    if kind == "duplicates":
        points = points[:, :5].repeat(1, num_points // 5, 1)
    return queries.to(dtype), points.to(dtype)


@pytest.fixture(params=["fast", "reference"])
def form(request):
    use_kernels(request.param)
    yield request.param
    use_kernels("auto")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["blob", "grid", "duplicates"])
def test_both_forms_are_one_bit_for_bit(form, kind, dtype) -> None:
    queries, points = (cloud.requires_grad_() for cloud in clouds(kind, dtype))
    squared, indices = nearest_neighbors(queries, points)
    with torch.no_grad():
        everything = nearest_neighbors_torch.squared_distances(queries, points)
    assert squared.equal(everything.min(2).values)
    assert indices.equal(torch.from_numpy(everything.numpy().argmin(2))), "the lowest index on ties"
    weights = torch.randn(squared.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    found = torch.autograd.grad((squared * weights).sum(), (queries, points))
    expected = nearest_neighbors_backward_plain(weights, queries.detach(), points.detach(), indices)
    assert all(ours.equal(plain) for ours, plain in zip(found, expected, strict=True))
    assert not indices.requires_grad


def test_the_plain_form_keeps_ties_at_the_lowest_index_from_block_to_block(monkeypatch) -> None:
    queries, points = clouds("grid", torch.float32)
    expected = nearest_neighbors(queries, points)
    monkeypatch.setitem(nearest_neighbors_torch._PAIRS, "cpu", 7 * 3 * 70)
    found = nearest_neighbors_plain(queries, points)
    assert all(ours.equal(plain) for ours, plain in zip(expected, found, strict=True))


@pytest.mark.parametrize("sizes", [(1, 1), (33, 1), (5, 64)])
def test_gradients_are_those_of_finite_differences(form, sizes) -> None:
    queries, points = (cloud[:2].requires_grad_() for cloud in clouds("blob", torch.float64, *sizes))
    assert torch.autograd.gradcheck(lambda q, p: nearest_neighbors(q, p)[0], (queries, points))


def test_float32_gradients_are_near_float64s_for_the_same_neighbours() -> None:
    queries, points = (cloud.requires_grad_() for cloud in clouds("blob", torch.float32, 500, 300))
    squared, indices = nearest_neighbors(queries, points)
    found = torch.autograd.grad(squared.mean(), (queries, points))
    weights = torch.full(squared.shape, 1 / squared.numel(), dtype=torch.float64)
    expected = nearest_neighbors_backward_plain(weights, queries.detach().double(), points.detach().double(), indices)
    for ours, exact in zip(found, expected, strict=True):
        assert float((ours - exact).abs().max()) <= 1e-6 * float(exact.abs().max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_operators_are_well_made(form, dtype) -> None:
    queries, points = clouds("grid", dtype, 6, 5)
    torch.library.opcheck(nearest_neighbors_operator, (queries.clone().requires_grad_(), points.clone().requires_grad_()))
    squared, indices = nearest_neighbors(queries, points)
    for turned in (queries, queries.transpose(1, 2).contiguous().transpose(1, 2)):
        torch.library.opcheck(nearest_neighbors_backward, (squared, turned, points, indices))


def test_no_queries(form) -> None:
    squared, indices = nearest_neighbors(torch.zeros(2, 0, 3), torch.zeros(2, 4, 3))
    assert squared.shape == indices.shape == (2, 0)


def test_compiled_and_exported_it_is_the_same() -> None:
    class Nearest(torch.nn.Module):
        def forward(self, queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
            return nearest_neighbors(queries, points)

    queries, points = (cloud.requires_grad_() for cloud in clouds("blob", torch.float32))
    squared, indices = nearest_neighbors(queries, points)
    expected = torch.autograd.grad(squared.sum(), (queries, points))
    compiled = torch.compile(Nearest(), fullgraph=True, backend="aot_eager")(queries, points)
    assert compiled[0].equal(squared)
    assert compiled[1].equal(indices)
    found = torch.autograd.grad(compiled[0].sum(), (queries, points))
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))
    exported = torch.export.export(Nearest(), (queries.detach(), points.detach())).module()
    assert exported(queries, points)[1].equal(indices)


def test_equal_bits_each_time_with_one_thread_or_two() -> None:
    import numba

    queries, points = (cloud.requires_grad_() for cloud in clouds("blob", torch.float32, 300, 20))
    results = []
    for number in (1, min(2, numba.config.NUMBA_NUM_THREADS), 1):
        numba.set_num_threads(number)
        squared, indices = nearest_neighbors(queries, points)
        results.append([squared.detach(), indices, *torch.autograd.grad(squared.square().sum(), (queries, points))])
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert all(one.equal(other) for result in results[1:] for one, other in zip(results[0], result, strict=True))


def test_half_precision_is_compared_in_float32() -> None:
    queries, points = clouds("blob", torch.bfloat16)
    queries.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        squared, indices = nearest_neighbors(queries, points.float())
    assert squared.dtype == torch.float32
    assert indices.equal(nearest_neighbors(queries.float(), points.float())[1])
    (gradient,) = torch.autograd.grad(squared.sum(), queries)
    assert gradient.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("queries", "points", "message"),
    [
        (torch.full((1, 1, 3), torch.nan), torch.zeros(1, 1, 3), "queries must be finite"),
        (torch.zeros(1, 1, 3), torch.full((1, 1, 3), torch.inf), "points must be finite"),
        (torch.zeros(1, 1, 3), torch.zeros(1, 1, 3, dtype=torch.float64), "points .* do not go with"),
        (torch.zeros(1, 1, 3), torch.zeros(2, 1, 3), "points .* do not go with"),
        (torch.zeros(1, 1, 3), torch.zeros(1, 0, 3), "points .* do not go with"),
        (torch.zeros(1, 3), torch.zeros(1, 1, 3), "queries must be"),
        (torch.zeros(1, 1, 3), torch.zeros(1, 1, 3, dtype=torch.int64), "points must be"),
    ],
)
def test_refuses_what_has_no_answer(form, queries, points, message) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_neighbors(queries, points)


def test_gathering_picks_and_sends_gradients_back() -> None:
    values = torch.arange(12, dtype=torch.float64).view(2, 3, 2).requires_grad_()
    indices = torch.tensor([[[0, 0]], [[2, 1]]])
    expected = torch.tensor([[[[0, 1], [0, 1]]], [[[10, 11], [8, 9]]]], dtype=torch.float64)
    rows = gather_points(values, indices)
    assert rows.equal(expected)
    (from_rows,) = torch.autograd.grad(rows.sum(), values)
    assert from_rows[:, :, 0].tolist() == [[2, 0, 0], [0, 1, 1]]
