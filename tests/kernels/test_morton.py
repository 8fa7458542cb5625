"""Blocks along the Morton curve: nothing is lost, boxes hold their points, and no box is farther than a point in it."""

import numpy as np
import pytest

from triform.kernels.morton import block_bounds, distance_to_boxes, morton_blocks, morton_order

CLOUDS = {
    "blob": np.random.default_rng(0).normal(size=(150, 3)),
    "grid": np.random.default_rng(0).integers(0, 4, (150, 3)) * 0.1,
    "one place": np.ones((150, 3)),
    "too far apart to subtract": np.random.default_rng(0).choice([-1.7e308, 0, 1.7e308], (150, 3)),
    "nearly one place": 1e-310 * np.random.default_rng(0).random((150, 3)),
}


@pytest.mark.parametrize("cells", [4, 16, 32])
@pytest.mark.parametrize("kind", list(CLOUDS))
def test_the_order_holds_each_point_once(kind, cells) -> None:
    order = morton_order(CLOUDS[kind], cells)
    assert sorted(order.tolist()) == list(range(150))


def test_neighbouring_cells_follow_one_another_and_equal_ones_keep_their_order() -> None:
    corners = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], np.float64)
    shuffled = np.random.default_rng(0).permutation(8)
    np.testing.assert_array_equal(corners[shuffled][morton_order(corners[shuffled], 2)], corners)
    np.testing.assert_array_equal(morton_order(np.repeat(corners, 2, axis=0), 2), np.arange(16))


@pytest.mark.parametrize("num_points", [1, 31, 32, 33])
def test_blocks_are_the_points_filled_up_with_the_last(num_points) -> None:
    points = np.random.default_rng(0).normal(size=(num_points, 3)).astype(np.float32)
    source, x, y, z = morton_blocks(points, 32, 16)
    assert source.shape == x.shape == ((num_points + 31) // 32, 32)
    np.testing.assert_array_equal(np.stack([x, y, z], axis=2), points[source])
    assert sorted(source.ravel()[:num_points].tolist()) == list(range(num_points))
    assert set(source.ravel()[num_points:].tolist()) <= {source.ravel()[num_points - 1]}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_point_is_nearer_than_its_box(dtype) -> None:
    generator = np.random.default_rng(0)
    points, queries = (np.round(generator.normal(size=(n, 3)), 2).astype(dtype) for n in (200, 50))
    source, x, y, z = morton_blocks(points, 16, 16)
    low, high = block_bounds(x, y, z)
    np.testing.assert_array_equal(low, points[source].min(1).T)
    np.testing.assert_array_equal(high, points[source].max(1).T)
    to_box = np.empty(len(source), dtype)
    for qx, qy, qz in queries:
        distance_to_boxes(low, high, qx, qy, qz, to_box)
        dx, dy, dz = x - qx, y - qy, z - qz
        assert (to_box[:, None] <= (dx * dx + dy * dy) + dz * dz).all()
    center = points[source[0, 0]]
    distance_to_boxes(low, high, *center, to_box)
    assert to_box[0] == 0
