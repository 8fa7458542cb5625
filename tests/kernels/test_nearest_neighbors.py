"""Nearest neighbours: by hand, against plain NumPy bit for bit, against scipy's tree, and torch against numba."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from triform.kernels import nearest_neighbors_torch
from triform.kernels.gather_torch import gather_channels, gather_points
from triform.kernels.nearest_neighbors import nearest_neighbors


def reference(queries, points):
    offsets = queries[:, :, None] - points[:, None]
    x, y, z = np.moveaxis(offsets * offsets, -1, 0)
    squared = (x + y) + z
    return squared.min(2), squared.argmin(2)


def test_by_hand_with_ties_to_the_lowest_index() -> None:
    points = np.array([[[1, 0, 0], [-1, 0, 0], [1, 0, 0], [0, 3, 0]]], np.float32)
    queries = np.array([[[0, 0, 0], [2, 0, 0], [0, 2, 0]]], np.float32)
    squared, indices = nearest_neighbors(queries, points)
    np.testing.assert_array_equal(squared, [[1, 1, 1]])
    np.testing.assert_array_equal(indices, [[0, 0, 3]])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    num_queries=st.sampled_from([1, 2, 100]),
    num_points=st.sampled_from([1, 2, 31, 32, 33, 200]),
    dtype=st.sampled_from([np.float32, np.float64]),
    shape=st.sampled_from(["blob", "grid", "one place", "far away"]),
)
def test_equals_plain_numpy_bit_for_bit(seed, num_queries, num_points, dtype, shape) -> None:
    generator = np.random.default_rng(seed)
    queries, points = generator.normal(size=(2, num_queries, 3)), generator.normal(size=(2, num_points, 3))
    if shape == "grid":
        queries, points = np.round(queries), np.round(points)
    if shape == "one place":
        queries, points = np.ones_like(queries), np.ones_like(points)
    if shape == "far away":
        queries = queries + 1e6
    queries, points = queries.astype(dtype), points.astype(dtype)
    squared, indices = nearest_neighbors(queries, points)
    expected_squared, expected_indices = reference(queries, points)
    np.testing.assert_array_equal(squared, expected_squared)
    np.testing.assert_array_equal(indices, expected_indices)
    assert squared.dtype == dtype
    tensors = torch.from_numpy(queries), torch.from_numpy(points)
    np.testing.assert_array_equal(nearest_neighbors_torch.nearest_neighbors(*tensors).numpy(), expected_indices)
    np.testing.assert_array_equal(nearest_neighbors_torch._nearest_in(*tensors)[1].numpy(), expected_indices)


def test_agrees_with_scipys_tree_in_float64() -> None:
    generator = np.random.default_rng(0)
    queries, points = generator.normal(size=(1, 500, 3)), generator.normal(size=(1, 2000, 3))
    distance, index = cKDTree(points[0]).query(queries[0])
    squared, indices = nearest_neighbors(queries, points)
    np.testing.assert_array_equal(indices[0], index)
    np.testing.assert_allclose(np.sqrt(squared[0]), distance, rtol=1e-14)


def test_torch_in_blocks_keeps_ties_at_the_lowest_index(monkeypatch) -> None:
    monkeypatch.setattr(nearest_neighbors_torch, "_BLOCK", 7)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    generator = np.random.default_rng(0)
    queries, points = (np.round(generator.normal(size=(2, n, 3))).astype(np.float32) for n in (40, 50))
    found = nearest_neighbors_torch.nearest_neighbors(torch.from_numpy(queries), torch.from_numpy(points))
    np.testing.assert_array_equal(found.numpy(), reference(queries, points)[1])


def test_gathering_picks_and_sends_gradients_back() -> None:
    values = torch.arange(12, dtype=torch.float64).view(2, 3, 2).requires_grad_()
    indices = torch.tensor([[[0, 0]], [[2, 1]]])
    expected = torch.tensor([[[[0, 1], [0, 1]]], [[[10, 11], [8, 9]]]], dtype=torch.float64)
    rows = gather_points(values, indices)
    channels = gather_channels(values.transpose(1, 2), indices)
    assert rows.equal(expected)
    assert channels.equal(expected.permute(0, 3, 1, 2))
    (from_rows,) = torch.autograd.grad(rows.sum(), values)
    (from_channels,) = torch.autograd.grad(channels.sum(), values)
    assert from_rows[:, :, 0].tolist() == [[2, 0, 0], [0, 1, 1]]
    assert from_channels.equal(from_rows)


@pytest.mark.parametrize(
    ("queries", "points", "message"),
    [
        (np.full((1, 1, 3), np.nan), np.zeros((1, 1, 3)), "queries must be finite"),
        (np.zeros((1, 1, 3)), np.full((1, 1, 3), np.inf), "points must be finite"),
        (np.zeros((1, 1, 3)), np.zeros((1, 0, 3)), "do not go with"),
        (np.zeros((2, 1, 3)), np.zeros((1, 1, 3)), "do not go with"),
        (np.zeros((1, 1, 3), int), np.zeros((1, 1, 3)), "queries must be float32"),
    ],
)
def test_refuses_what_has_no_answer(queries, points, message) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_neighbors(queries, points)
