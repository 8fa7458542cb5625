"""The operator of the ball query: its two forms are one, and what traces it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from triform.kernels import ball_query_torch
from triform.kernels.ball_query_torch import ball_query, ball_query_operator, ball_query_plain
from triform.kernels.choice import use_kernels

DTYPES = [torch.float32, torch.float64]


def cloud(kind: str, dtype: torch.dtype, num_points: int = 130) -> Tensor:
    points = torch.randn(2, num_points, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ((points * 2).round() / 2 if kind == "grid" else points).to(dtype)


def within(points: Tensor, centers: Tensor, radius: float, num_neighbors: int) -> Tensor:
    """One by one, by the definition."""
    found = torch.zeros(*centers.shape[:2], num_neighbors, dtype=torch.int64)
    limit = torch.tensor(radius, dtype=points.dtype).square()
    for b, c in np.ndindex(*centers.shape[:2]):
        dx, dy, dz = (points[b] - centers[b, c]).unbind(1)
        hits = ((dx * dx + dy * dy) + dz * dz <= limit).nonzero()[:num_neighbors, 0]
        if len(hits):
            found[b, c] = hits[0]
            found[b, c, : len(hits)] = hits
    return found


@pytest.fixture(params=["fast", "reference"])
def form(request):
    use_kernels(request.param)
    yield request.param
    use_kernels("auto")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["blob", "grid"])
@pytest.mark.parametrize(("radius", "num_neighbors"), [(0.5, 4), (1.0, 200), (0.01, 3), (50.0, 130)])
def test_both_forms_keep_the_definition(form, kind, dtype, radius, num_neighbors) -> None:
    points = cloud(kind, dtype).requires_grad_()
    centers = points[:, :9] + (0.1 if kind == "blob" else 0)
    found = ball_query(points, centers, radius=radius, num_neighbors=num_neighbors)
    assert found.equal(within(points, centers, radius, num_neighbors))
    assert not found.requires_grad


def test_the_plain_form_takes_some_centres_at_once(monkeypatch) -> None:
    points = cloud("grid", torch.float32)
    expected = ball_query(points, points, radius=0.7, num_neighbors=8)
    monkeypatch.setitem(ball_query_torch._PAIRS, "cpu", 7 * 2 * 130)
    assert ball_query_plain(points, points, radius=0.7, num_neighbors=8).equal(expected)


def test_no_clouds(form) -> None:
    assert ball_query(torch.zeros(0, 5, 3), torch.zeros(0, 4, 3), radius=1.0, num_neighbors=3).shape == (0, 4, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_operator_is_well_made(form, dtype) -> None:
    points = cloud("grid", dtype, 7)
    torch.library.opcheck(ball_query_operator, (points, points[:, :3].clone(), 0.7, 4))


def test_compiled_and_exported_it_is_the_same() -> None:
    class Query(torch.nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            return ball_query(points, points[:, :10], radius=0.7, num_neighbors=8)

    points = cloud("blob", torch.float32)
    expected = Query()(points)
    assert torch.compile(Query(), fullgraph=True, backend="aot_eager")(points).equal(expected)
    assert torch.export.export(Query(), (points,)).module()(points).equal(expected)


def test_equal_bits_each_time_with_one_thread_or_two() -> None:
    import numba

    points, results = cloud("blob", torch.float32, 700), []
    for number in (1, min(2, numba.config.NUMBA_NUM_THREADS), 1):
        numba.set_num_threads(number)
        results.append(ball_query(points, points, radius=0.5, num_neighbors=9))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert results[1].equal(results[0])
    assert results[2].equal(results[0])


def test_half_precision_is_compared_in_float32() -> None:
    points = cloud("blob", torch.bfloat16)
    found = ball_query(points, points[:, :5].float(), radius=0.5, num_neighbors=3)
    assert found.equal(ball_query(points.float(), points[:, :5].float(), radius=0.5, num_neighbors=3))


@pytest.mark.parametrize(
    ("points", "centers", "radius", "num_neighbors", "message"),
    [
        (torch.full((1, 1, 3), torch.nan), torch.zeros(1, 1, 3), 1.0, 1, "points must be finite"),
        (torch.zeros(1, 1, 3), torch.full((1, 1, 3), torch.inf), 1.0, 1, "centers must be finite"),
        (torch.zeros(1, 1, 3), torch.zeros(1, 1, 3, dtype=torch.float64), 1.0, 1, "centers .* do not go with"),
        (torch.zeros(1, 0, 3), torch.zeros(1, 1, 3), 1.0, 1, "centers .* do not go with"),
        (torch.zeros(1, 3), torch.zeros(1, 1, 3), 1.0, 1, "points must be"),
        (torch.zeros(1, 1, 3), torch.zeros(1, 1, 3), 0.0, 1, "radius must be"),
        (torch.zeros(1, 1, 3), torch.zeros(1, 1, 3), 1.0, 0, "num_neighbors must be"),
    ],
)
def test_refuses_what_has_no_answer(form, points, centers, radius, num_neighbors, message) -> None:
    with pytest.raises(ValueError, match=message):
        ball_query(points, centers, radius=radius, num_neighbors=num_neighbors)
