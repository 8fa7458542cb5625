"""Chamfer distances and their kin: by hand, by law, by finite differences, and torch against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triform.kernels.choice import use_kernels
from triform.kernels.gather_torch import gather_points
from triform.kernels.nearest_neighbors_torch import nearest_neighbors
from triform.tasks.point_autoencoder.loss_torch import chamfer_distances
from triform.tasks.point_autoencoder.metrics import METRICS, NearestDistances, all_metrics, f_score, hausdorff_95, nearest_distances

A = np.array([[[0, 0, 0], [2, 0, 0]]], np.float64)
B = np.array([[[0, 0, 1], [2, 0, 0], [5, 0, 4]]], np.float64)
"""Nearest distances: from A 1 and 0; from B 1, 0 and 5."""


def clouds(seed: int, num_points: int, *, batch: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, num_points, 3))


def test_chamfer_by_hand() -> None:
    found = all_metrics(nearest_distances(A, B))
    assert tuple(found) == METRICS
    assert found["cd_l2"] == pytest.approx([0.5 + 2])
    assert found["cd_squared"] == pytest.approx([0.5 + 26 / 3])


def test_a_cloud_is_its_own_perfect_reconstruction() -> None:
    found = all_metrics(nearest_distances(A, A))
    assert {name: float(value[0]) for name, value in found.items()} == {
        "cd_l2": 0,
        "cd_squared": 0,
        "f_score_0.01": 1,
        "f_score_0.02": 1,
        "hausdorff_95": 0,
    }


def test_f_score_by_hand() -> None:
    distances = NearestDistances(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0, 5.0]]))
    precision, recall = 0.5, 1 / 3
    assert f_score(distances, threshold=0.5) == pytest.approx([2 * precision * recall / (precision + recall)])
    assert f_score(distances, threshold=1.0) == pytest.approx([2 * precision * recall / (precision + recall)]), "nearer than, not at"
    assert f_score(distances, threshold=6.0) == [1]
    assert f_score(NearestDistances(np.ones((1, 2)), np.ones((1, 2))), threshold=0.5) == [0]


def test_hausdorff_takes_the_worse_direction() -> None:
    rising = np.arange(101, dtype=np.float64)[None]
    assert hausdorff_95(NearestDistances(rising, rising * 2)) == [190]
    assert hausdorff_95(NearestDistances(rising, rising * 0.5)) == [95]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 100), factor=st.sampled_from([0.5, 3.0]))
def test_chamfer_is_symmetric_ignores_order_and_scales(seed: int, factor: float) -> None:
    a, b = clouds(seed, 40), clouds(seed + 1000, 50)
    found, swapped, scaled = (all_metrics(nearest_distances(*pair)) for pair in ((a, b[:, ::-1]), (b, a), (a * factor, b * factor)))
    for name in ("cd_l2", "cd_squared", "hausdorff_95"):
        np.testing.assert_allclose(found[name], swapped[name], rtol=1e-12)
        np.testing.assert_allclose(scaled[name], found[name] * factor ** (2 if name == "cd_squared" else 1), rtol=1e-12)


@pytest.mark.parametrize("name", ["cd_l2", "cd_squared"])
def test_torch_equals_numpy_in_float64(name: str) -> None:
    a, b = clouds(0, 40), clouds(1, 50)
    found = chamfer_distances(torch.from_numpy(a), torch.from_numpy(b))[name]
    np.testing.assert_allclose(found.numpy(), all_metrics(nearest_distances(a, b))[name], rtol=1e-13)


@pytest.mark.parametrize("name", ["cd_l2", "cd_squared"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    a, b = (torch.from_numpy(clouds(seed, 7)).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: chamfer_distances(a, b)[name], (a, b))


def test_where_points_meet_exactly_the_gradient_is_zero() -> None:
    a = torch.from_numpy(A).requires_grad_()
    chamfer_distances(a, torch.from_numpy(A))["cd_l2"].sum().backward()
    assert a.grad is not None
    assert a.grad.equal(torch.zeros_like(a))


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("name", ["cd_l2", "cd_squared"])
def test_float32_gradients_are_float64s_for_the_same_neighbours(name: str, kernels: str) -> None:
    """Also where some points are met exactly."""
    drawn, given = (torch.from_numpy(clouds(seed, 200)).float() for seed in (0, 1))
    drawn[:, :20] = given[:, :20]
    pair = [drawn.requires_grad_(), given.requires_grad_()]
    use_kernels(kernels)  # type: ignore[arg-type]
    found = torch.autograd.grad(chamfer_distances(*pair)[name].sum(), pair)
    use_kernels("auto")
    exact = [each.detach().double().requires_grad_() for each in pair]
    (_, forth), (_, back) = nearest_neighbors(*pair), nearest_neighbors(*pair[::-1])
    offsets = exact[0] - gather_points(exact[1], forth), exact[1] - gather_points(exact[0], back)
    lengths = [each.norm(dim=2) if name == "cd_l2" else each.square().sum(2) for each in offsets]
    expected = torch.autograd.grad(lengths[0].mean(1).sum() + lengths[1].mean(1).sum(), exact)
    for ours, wanted in zip(found, expected, strict=True):
        assert float((ours - wanted).abs().max()) <= 1e-6 * float(wanted.abs().max())
