"""Farthest point sampling in Triton against the definition, index by index: clouds that fill no block, grids, copies, both kernels."""

import os

import numpy as np
import pytest
import torch

from triform.geometry.sampling import farthest_point_sample_reference

if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
    pytest.skip("needs a GPU or TRITON_INTERPRET=1, which test_triton.py sets", allow_module_level=True)
pytest.importorskip("triton")
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


def sample(points, num_samples, start) -> np.ndarray:
    from triform.kernels.farthest_point_sample_triton_torch import farthest_point_sample_cuda

    found = farthest_point_sample_cuda(torch.from_numpy(points).to(DEVICE), num_samples, torch.tensor(start, device=DEVICE))
    assert found.dtype == torch.int64
    return found.cpu().numpy()


def reference(points, num_samples, start) -> np.ndarray:
    return np.stack([farthest_point_sample_reference(cloud, num_samples, start=s) for cloud, s in zip(points, start, strict=True)])


def cloud_of(shape, batch, num_points) -> np.ndarray:
    generator = np.random.default_rng(num_points)
    points = generator.normal(size=(batch, num_points, 3))
    if shape == "grid":
        points = np.round(points)
    if shape == "copies":
        points[:, num_points // 2 :] = points[:, : num_points - num_points // 2]
    return points


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", ["blob", "grid", "copies"])
@pytest.mark.parametrize(("batch", "num_points", "num_samples"), [(1, 1, 1), (3, 2, 2), (1, 63, 63), (3, 65, 20), (1, 300, 30)])
def test_equals_the_definition(dtype, shape, batch, num_points, num_samples) -> None:
    points = cloud_of(shape, batch, num_points).astype(dtype)
    start = [(7 * cloud) % num_points for cloud in range(batch)]
    np.testing.assert_array_equal(sample(points, num_samples, start), reference(points, num_samples, start))


@pytest.mark.parametrize("shape", ["blob", "grid", "copies"])
@pytest.mark.parametrize("held", ["coordinates read again", "in tiles"])
def test_larger_clouds_go_the_same_way(monkeypatch, shape, held) -> None:
    from triform.kernels import farthest_point_sample_triton_torch as module

    monkeypatch.setattr(module, "_RESIDENT_BYTES", 0)
    if held == "in tiles":
        monkeypatch.setattr(module, "_HELD_BYTES", 0)
        monkeypatch.setattr(module, "_TILE", 32)
    points = cloud_of(shape, 2, 135).astype(np.float32)
    np.testing.assert_array_equal(sample(points, 20, [134, 60]), reference(points, 20, [134, 60]))


def test_all_points_in_one_place_give_the_lowest_index() -> None:
    assert sample(np.ones((1, 40, 3), np.float32), 4, [9]).tolist() == [[9, 0, 0, 0]]
