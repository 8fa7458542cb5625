"""Ball query: by hand, and against plain NumPy index by index."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triform.kernels.ball_query import ball_query

DTYPES = [np.float32, np.float64]


def reference(points, centers, radius, num_neighbors):
    offsets = points[:, None] - centers[:, :, None]
    x, y, z = np.moveaxis(offsets * offsets, -1, 0)
    inside = (x + y) + z <= points.dtype.type(radius) * points.dtype.type(radius)
    found = np.zeros((*centers.shape[:2], num_neighbors), np.int64)
    for cloud, center in np.ndindex(*centers.shape[:2]):
        hits = np.flatnonzero(inside[cloud, center])[:num_neighbors]
        if len(hits):
            found[cloud, center] = hits[0]
            found[cloud, center, : len(hits)] = hits
    return found


def line(*x, dtype=np.float32):
    return np.array([[[value, 0, 0] for value in x]], dtype)


def test_takes_the_first_hits_in_index_order_and_repeats_the_first() -> None:
    points = line(3, 0.5, 0, 2, -1, 1)
    found = ball_query(points, line(0, 2.5), 1.0, 3)
    np.testing.assert_array_equal(found, [[[1, 2, 4], [0, 3, 0]]])


def test_a_point_on_the_sphere_is_inside() -> None:
    np.testing.assert_array_equal(ball_query(line(0, 2), line(0), 2.0, 2), [[[0, 1]]])


def test_without_any_hit_all_is_index_zero() -> None:
    np.testing.assert_array_equal(ball_query(line(5, 6), line(0), 1.0, 2), [[[0, 0]]])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    num_points=st.sampled_from([1, 2, 63, 64, 65, 130]),
    num_neighbors=st.sampled_from([1, 5, 200]),
    radius=st.sampled_from([0.1, 0.5, 1.0, 30.0]),
    dtype=st.sampled_from(DTYPES),
    grid=st.booleans(),
)
def test_equals_plain_numpy_also_on_the_sphere_of_a_grid(seed, num_points, num_neighbors, radius, dtype, grid) -> None:
    points = np.random.default_rng(seed).normal(size=(2, num_points, 3))
    points = (np.round(points * 2) / 2 if grid else points).astype(dtype)
    centers = np.ascontiguousarray(points[:, ::2])
    expected = reference(points, centers, radius, num_neighbors)
    np.testing.assert_array_equal(ball_query(points, centers, radius, num_neighbors), expected)


@pytest.mark.parametrize("num_points", [511, 512, 513, 2048, 2100, 9000])
@pytest.mark.parametrize("num_neighbors", [3, 64, 3000])
def test_hits_go_on_from_slab_to_slab(num_points, num_neighbors) -> None:
    points = np.random.default_rng(0).normal(size=(1, num_points, 3)).astype(np.float32)
    centers = np.ascontiguousarray(points[:, :: num_points // 7])
    np.testing.assert_array_equal(ball_query(points, centers, 0.8, num_neighbors), reference(points, centers, 0.8, num_neighbors))


def test_coordinates_too_great_to_square() -> None:
    points = np.random.default_rng(0).uniform(-1e38, 1e38, (1, 70, 3)).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = reference(points, points, 1e38, 9)
    np.testing.assert_array_equal(ball_query(points, points, 1e38, 9), expected)


@pytest.mark.parametrize(
    ("points", "centers", "radius", "num_neighbors", "message"),
    [
        (line(np.nan), line(0), 1.0, 1, "points must be finite"),
        (line(0), line(np.inf), 1.0, 1, "centers must be finite"),
        (line(0), line(0, dtype=np.float64), 1.0, 1, "do not go with"),
        (line(0)[:, :0], line(0), 1.0, 1, "do not go with"),
        (line(0)[0], line(0), 1.0, 1, "points must be float32"),
        (line(0), line(0), 0.0, 1, "radius"),
        (line(0), line(0), 1.0, 0, "num_neighbors"),
    ],
)
def test_refuses_what_has_no_answer(points, centers, radius, num_neighbors, message) -> None:
    with pytest.raises(ValueError, match=message):
        ball_query(points, centers, radius, num_neighbors)
