"""Nearest neighbours in Triton against NumPy bit for bit, and the gradient of the squared distances against autograd in float64."""

import os

import numpy as np
import pytest
import torch

if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
    pytest.skip("needs a GPU or TRITON_INTERPRET=1, which test_triton.py sets", allow_module_level=True)
pytest.importorskip("triton")
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"

SIZES = [(1, 1, 1), (3, 2, 40), (1, 33, 65), (3, 100, 64), (1, 40, 300)]


def clouds(shape, dtype, batch, num_queries, num_points) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(num_points)
    queries, points = generator.normal(size=(batch, num_queries, 3)), generator.normal(size=(batch, num_points, 3))
    if shape == "grid":
        queries, points = np.round(queries), np.round(points)
    if shape == "one place":
        queries, points = np.zeros_like(queries), np.ones_like(points)
    return queries.astype(dtype), points.astype(dtype)


def on_device(*arrays) -> list[torch.Tensor]:
    return [torch.from_numpy(array).to(DEVICE) for array in arrays]


@pytest.mark.parametrize(("dtype", "shape"), [(np.float32, "blob"), (np.float32, "grid"), (np.float32, "one place"), (np.float64, "grid")])
@pytest.mark.parametrize(("batch", "num_queries", "num_points"), SIZES)
def test_equals_numpy_bit_for_bit(dtype, shape, batch, num_queries, num_points) -> None:
    from triform.kernels.nearest_neighbors_triton_torch import nearest_neighbors_cuda

    queries, points = clouds(shape, dtype, batch, num_queries, num_points)
    squared, indices = nearest_neighbors_cuda(*on_device(queries, points))
    x, y, z = np.moveaxis((points[:, None] - queries[:, :, None]) ** 2, -1, 0)
    np.testing.assert_array_equal(squared.cpu().numpy(), (x + y + z).min(2))
    np.testing.assert_array_equal(indices.cpu().numpy(), (x + y + z).argmin(2))
    assert (squared.dtype, indices.dtype) == (torch.from_numpy(points).dtype, torch.int64)


@pytest.mark.parametrize(("dtype", "shape"), [(np.float32, "blob"), (np.float32, "one place"), (np.float64, "grid")])
@pytest.mark.parametrize(("batch", "num_queries", "num_points"), SIZES)
def test_gradient_is_that_of_autograd(dtype, shape, batch, num_queries, num_points) -> None:
    from triform.kernels.nearest_neighbors_triton_torch import nearest_neighbors_backward_cuda, nearest_neighbors_cuda

    queries, points = on_device(*clouds(shape, dtype, batch, num_queries, num_points))
    (gradient,) = on_device(np.random.default_rng(1).normal(size=(batch, num_queries)).astype(dtype))
    _, indices = nearest_neighbors_cuda(queries, points)
    found = nearest_neighbors_backward_cuda(gradient, queries, points, indices)
    wide = [t.double().requires_grad_() for t in (queries, points)]
    met = wide[1].gather(1, indices[..., None].expand(-1, -1, 3))
    expected = torch.autograd.grad((wide[0] - met).square().sum(2), wide, gradient.double())
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)
    again = nearest_neighbors_backward_cuda(gradient, queries, points, indices)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
