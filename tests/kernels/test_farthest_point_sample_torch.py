import numpy as np
import pytest
import torch

from triform.geometry.sampling import farthest_from_centroid, farthest_point_sample_reference
from triform.kernels.choice import use_kernels
from triform.kernels.farthest_point_sample_torch import (
    farthest_point_sample,
    farthest_point_sample_loop,
    farthest_point_sample_operator,
)


def cloud(kind: str, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if kind == "grid with ties":
        return torch.randint(0, 5, (3, 130, 3), generator=generator).to(dtype) * 0.1
    return torch.randn(3, 130, 3, generator=generator, dtype=torch.float64).to(dtype)


@pytest.fixture(params=["fast", "reference"])
def form(request):
    use_kernels(request.param)
    yield request.param
    use_kernels("auto")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["gaussian", "grid with ties"])
def test_numba_loop_and_reference_are_one(form: str, kind: str, dtype: torch.dtype) -> None:
    points, start = cloud(kind, dtype), torch.tensor([0, 7, 129])
    chosen = farthest_point_sample(points, 100, start=start)
    assert chosen.dtype == torch.int64
    assert torch.equal(chosen, farthest_point_sample_loop(points, 100, start=start))
    expected = [farthest_point_sample_reference(one.numpy(), 100, start=int(first)) for one, first in zip(points, start, strict=True)]
    np.testing.assert_array_equal(chosen.numpy(), expected)


def test_without_a_start_it_begins_farthest_from_the_centroid(form: str) -> None:
    points = cloud("gaussian", torch.float64)
    np.testing.assert_array_equal(farthest_point_sample(points, 1)[:, 0].numpy(), farthest_from_centroid(points.numpy()))
    square = torch.tensor([[[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [4, 4, 0]]])
    assert farthest_point_sample(square, 4).tolist() == [[0, 3, 1, 2]]


def test_it_takes_part_in_no_gradient() -> None:
    points = cloud("gaussian", torch.float32).requires_grad_()
    assert not farthest_point_sample(points, 5).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("start", [None, torch.tensor([0, 7, 12])])
def test_the_operator_is_well_made(form: str, dtype: torch.dtype, start: torch.Tensor | None) -> None:
    torch.library.opcheck(farthest_point_sample_operator, (cloud("grid with ties", dtype)[:, :13].clone(), 4, start))


def test_compiled_and_exported_it_is_the_same() -> None:
    class Sample(torch.nn.Module):
        def forward(self, points: torch.Tensor) -> torch.Tensor:
            return farthest_point_sample(points, 8)

    points = cloud("gaussian", torch.float32)
    expected = farthest_point_sample(points, 8)
    assert torch.compile(Sample(), fullgraph=True, backend="aot_eager")(points).equal(expected)
    assert torch.export.export(Sample(), (points,)).module()(points).equal(expected)


def test_equal_bits_each_time_with_one_thread_or_two() -> None:
    import numba

    points, results = cloud("gaussian", torch.float32), []
    for number in (1, min(2, numba.config.NUMBA_NUM_THREADS), 1):
        numba.set_num_threads(number)
        results.append(farthest_point_sample(points, 60))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert results[1].equal(results[0])
    assert results[2].equal(results[0])


def test_half_precision_is_sampled_in_float32() -> None:
    points = cloud("gaussian", torch.bfloat16)
    assert farthest_point_sample(points, 20).equal(farthest_point_sample(points.float(), 20))


def test_wrong_arguments_are_named(form: str) -> None:
    points = cloud("gaussian", torch.float32)
    with pytest.raises(ValueError, match=r"^num_samples must be"):
        farthest_point_sample(points, 131)
    with pytest.raises(ValueError, match=r"^start must be"):
        farthest_point_sample(points, 3, start=torch.tensor([0, 0, 130]))
    with pytest.raises(ValueError, match=r"^start must be"):
        farthest_point_sample(points, 3, start=torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"^points must be finite"):
        farthest_point_sample(points / 0, 3)
    with pytest.raises(ValueError, match=r"^points must be"):
        farthest_point_sample(points[0], 3)
