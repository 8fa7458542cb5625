"""Nearest vertices in Triton: exactly on integers, where every distance is exact, and by distance on anything else."""

import os

import numpy as np
import pytest
import torch

if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
    pytest.skip("needs a GPU or TRITON_INTERPRET=1, which test_triton.py sets", allow_module_level=True)
pytest.importorskip("triton")
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


def nearest(x, k) -> np.ndarray:
    from triform.kernels.k_nearest_triton_torch import k_nearest_cuda

    found = k_nearest_cuda(torch.as_tensor(x).to(DEVICE), k)
    assert found.dtype == torch.int64
    return found.cpu().numpy()


def squared_distances(x) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return ((x[:, :, None] - x[:, None]) ** 2).sum(3)


def brute_force(x, k) -> np.ndarray:
    squared = squared_distances(x)
    squared[:, range(x.shape[1]), range(x.shape[1])] = -1
    return squared.argsort(axis=2, kind="stable")[:, :, :k]


@pytest.mark.parametrize(
    ("batch", "vertices", "channels", "k"), [(1, 1, 3, 1), (3, 5, 1, 5), (1, 64, 6, 20), (3, 40, 3, 16), (1, 130, 17, 9), (1, 33, 40, 32)]
)
def test_ties_and_copies_go_to_the_lowest_index(batch, vertices, channels, k) -> None:
    """Opposite pairs (and one zero) keep the mean at 0, so that the product form is exact on integers."""
    half = np.random.default_rng(k).integers(-2, 3, (batch, vertices // 2, channels))
    x = np.concatenate([half, -half, np.zeros((batch, vertices % 2, channels))], axis=1).astype(np.float32)
    np.testing.assert_array_equal(nearest(x, k), brute_force(x, k))


@pytest.mark.parametrize(
    ("batch", "vertices", "channels", "k", "far"),
    [(1, 100, 6, 20, 0.0), (1, 70, 6, 20, 1000.0), (2, 65, 64, 7, 0.0), (1, 70, 130, 64, 0.0)],
)
def test_from_near_to_far_with_itself_first(batch, vertices, channels, k, far) -> None:
    x = np.random.default_rng(channels).normal(far, 1, (batch, vertices, channels)).astype(np.float32)
    found = nearest(x, k)
    assert (found[:, :, 0] == np.arange(vertices)).all()
    assert all(len(set(row)) == k for row in found.reshape(-1, k).tolist())
    squared = squared_distances(x)
    reached = np.take_along_axis(squared, found, axis=2)
    np.testing.assert_allclose(reached, np.sort(squared, axis=2)[:, :, :k], atol=2e-6 * squared.max())


def test_more_copies_than_k() -> None:
    found = nearest(np.ones((1, 70, 4), np.float32), 3)
    assert found[0, :4].tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1]]
    assert found[0, 69].tolist() == [69, 0, 1]


def test_bfloat16_is_multiplied_in_float32() -> None:
    x = torch.randn(1, 50, 20, generator=torch.Generator().manual_seed(0)).bfloat16()
    np.testing.assert_array_equal(nearest(x, 9), nearest(x.float(), 9))


def test_float64_is_refused() -> None:
    with pytest.raises(ValueError, match="x must be float32"):
        nearest(np.zeros((1, 4, 3)), 2)
