"""Nearest neighbours: by hand, against plain NumPy bit for bit, against scipy's tree, and against float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from triform.kernels.nearest_neighbors import nearest_neighbors, nearest_neighbors_gradient


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


def test_agrees_with_scipys_tree_in_float64() -> None:
    generator = np.random.default_rng(0)
    queries, points = generator.normal(size=(1, 500, 3)), generator.normal(size=(1, 2000, 3))
    distance, index = cKDTree(points[0]).query(queries[0])
    squared, indices = nearest_neighbors(queries, points)
    np.testing.assert_array_equal(indices[0], index)
    np.testing.assert_allclose(np.sqrt(squared[0]), distance, rtol=1e-14)


def test_each_float32_distance_is_near_float64s_least() -> None:
    generator = np.random.default_rng(0)
    points = generator.normal(size=(2, 1000, 3)).astype(np.float32)
    queries = (points + generator.normal(size=points.shape) * 0.02).astype(np.float32)
    least, _ = reference(queries.astype(np.float64), points.astype(np.float64))
    squared, indices = nearest_neighbors(queries, points)
    chosen = np.take_along_axis(points, indices[..., None], 1).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(queries - chosen, axis=2), np.sqrt(least), rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(squared), np.sqrt(least), rtol=1e-6)


def test_coordinates_too_great_to_square() -> None:
    queries, points = (np.random.default_rng(0).uniform(-1e38, 1e38, (2, 1, 70, 3))).astype(np.float32)
    with np.errstate(over="ignore"):
        expected_squared, expected_indices = reference(queries, points)
    squared, indices = nearest_neighbors(queries, points)
    np.testing.assert_array_equal(squared, expected_squared)
    np.testing.assert_array_equal(indices, expected_indices)


def test_gradients_by_hand_and_added_up_in_the_order_of_the_queries() -> None:
    queries, points = np.array([[[1, 0, 0], [0, 3, 0], [5, 0, 0]]], np.float32), np.array([[[0, 0, 0], [4, 0, 0], [9, 9, 9]]], np.float32)
    to_queries, to_points = nearest_neighbors_gradient(np.array([[1, 10, 100]], np.float32), queries, points, np.array([[0, 0, 1]]))
    np.testing.assert_array_equal(to_queries, [[[2, 0, 0], [0, 60, 0], [200, 0, 0]]])
    np.testing.assert_array_equal(to_points, [[[-2, -60, 0], [-200, 0, 0], [0, 0, 0]]])
    far = np.array([[[1e8, 0, 0], [1, 0, 0], [-1e8, 0, 0]]], np.float32)
    _, summed = nearest_neighbors_gradient(np.full((1, 3), 0.5, np.float32), far, points, np.zeros((1, 3), np.int64))
    assert summed[0, 0, 0] == 0, "(1e8 + 1) - 1e8 in float32: another order would give 1"


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
