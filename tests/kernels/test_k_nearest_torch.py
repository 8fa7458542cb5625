"""Nearest vertices in feature space: by brute force, far from the origin, under autocast, and what is refused."""

import numpy as np
import pytest
import torch

from triform.kernels.k_nearest_torch import k_nearest


def brute_force(x: np.ndarray, k: int) -> np.ndarray:
    squared = ((x[:, :, None].astype(np.float64) - x[:, None]) ** 2).sum(3)
    return squared.argsort(axis=2, kind="stable")[:, :, :k]


@pytest.mark.parametrize(("channels", "k"), [(3, 1), (6, 20), (64, 57)])
def test_the_nearest_itself_first_then_from_near_to_far(channels, k) -> None:
    x = np.random.default_rng(0).normal(size=(2, 57, channels))
    found = k_nearest(torch.from_numpy(x), k)
    assert found.dtype == torch.int64
    assert np.array_equal(found, brute_force(x, k))


def test_by_hand() -> None:
    line = torch.tensor([[[0.0], [1.0], [3.0], [7.0]]])
    assert k_nearest(line, 2).tolist() == [[[0, 1], [1, 0], [2, 1], [3, 2]]]


def test_an_offset_changes_no_neighbour() -> None:
    """1000 off, |x|^2 takes all digits of float32; without the mean subtracted most sets are wrong. The grid has no near-ties lost to
    rounding of the input: its steps are binary fractions."""
    x = torch.from_numpy(np.random.default_rng(1).integers(0, 4096, (2, 200, 3)) / 1024).float()
    near, far = k_nearest(x.double(), 8), k_nearest(x + 1024, 8)
    distance = torch.cdist(x.double(), x.double())
    torch.testing.assert_close(distance.gather(2, far), distance.gather(2, near), rtol=1e-4, atol=1e-4)


def test_a_vertex_is_its_own_neighbour_among_more_copies_than_k() -> None:
    found = k_nearest(torch.zeros(1, 9, 4), 3)
    assert found[0, :, 0].tolist() == list(range(9))
    assert all(len(set(row)) == 3 for row in found[0].tolist())


def test_autocast_leaves_distances_in_float32() -> None:
    x = torch.randn(1, 100, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(k_nearest(x, 5), k_nearest(x.clone(), 5))
        found = k_nearest(x, 5)
    assert torch.equal(found, k_nearest(x, 5))


def test_no_gradient_passes() -> None:
    assert not k_nearest(torch.randn(1, 8, 3, requires_grad=True), 2).requires_grad


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value) -> None:
    x = torch.zeros(2, 5, 3)
    x[1, 2, 0] = value
    with pytest.raises(ValueError, match="x must be finite"):
        k_nearest(x, 2)


@pytest.mark.parametrize("k", [0, 6])
def test_k_is_1_to_the_number_of_vertices(k) -> None:
    with pytest.raises(ValueError, match="k must be 1 to the 5 vertices"):
        k_nearest(torch.zeros(1, 5, 3), k)
