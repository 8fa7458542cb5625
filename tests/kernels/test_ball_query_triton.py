"""Ball query in Triton against a loop in NumPy: ragged sizes, more places than hits, no hit, points on the sphere itself."""

import os

import numpy as np
import pytest
import torch

if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
    pytest.skip("needs a GPU or TRITON_INTERPRET=1, which test_triton.py sets", allow_module_level=True)
pytest.importorskip("triton")
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


def query(points, centers, radius, num_neighbors) -> np.ndarray:
    from triform.kernels.ball_query_triton_torch import ball_query_cuda

    found = ball_query_cuda(torch.from_numpy(points).to(DEVICE), torch.from_numpy(centers).to(DEVICE), radius, num_neighbors)
    assert found.dtype == torch.int64
    return found.cpu().numpy()


def reference(points, centers, radius, num_neighbors) -> np.ndarray:
    limit = points.dtype.type(radius) * points.dtype.type(radius)
    x, y, z = np.moveaxis((points[:, None] - centers[:, :, None]) ** 2, -1, 0)
    indices = np.zeros((*centers.shape[:2], num_neighbors), np.int64)
    for cloud, center in np.ndindex(*centers.shape[:2]):
        hits = np.flatnonzero((x + y + z)[cloud, center] <= limit)[:num_neighbors]
        if len(hits):
            indices[cloud, center] = hits[0]
            indices[cloud, center, : len(hits)] = hits
    return indices


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("batch", "num_points", "num_centers", "radius", "num_neighbors"),
    [(1, 1, 1, 0.5, 3), (3, 40, 5, 0.7, 4), (1, 129, 17, 0.5, 32), (3, 300, 20, 0.9, 33), (1, 200, 9, 10.0, 1), (2, 70, 8, 1e-3, 5)],
)
def test_equals_a_loop(dtype, batch, num_points, num_centers, radius, num_neighbors) -> None:
    generator = np.random.default_rng(num_points)
    points = generator.normal(size=(batch, num_points, 3)).astype(dtype)
    centers = generator.normal(size=(batch, num_centers, 3)).astype(dtype)
    centers[:, : num_centers // 2] = points[:, : num_centers // 2]
    expected = reference(points, centers, radius, num_neighbors)
    np.testing.assert_array_equal(query(points, centers, radius, num_neighbors), expected)


def test_on_a_grid_with_copies_the_sphere_itself_counts() -> None:
    points = np.random.default_rng(0).integers(-3, 4, (2, 260, 3)).astype(np.float32)
    centers = np.ascontiguousarray(points[:, 5:260:20])
    for num_neighbors in (6, 100):
        np.testing.assert_array_equal(query(points, centers, 2.0, num_neighbors), reference(points, centers, 2.0, num_neighbors))


def test_by_hand() -> None:
    points = np.array([[[0, 0, 0], [3, 0, 0], [1, 0, 0], [0, 1, 0]]], np.float32)
    centers = np.array([[[0, 0, 0], [4, 0, 0], [9, 9, 9]]], np.float32)
    assert query(points, centers, 1.0, 2).tolist() == [[[0, 2], [1, 1], [0, 0]]]
