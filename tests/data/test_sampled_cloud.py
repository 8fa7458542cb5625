import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triform.data.quarantine import BadFile
from triform.data.sampled_cloud import sample_cloud
from triform.geometry.ply import write_ply
from triform.geometry.sampling import farthest_point_sample_reference

SHARED = Path(__file__).parents[2] / "../shared/data"


def ply_bytes(folder: Path, points: np.ndarray) -> bytes:
    path = folder / "cloud.ply"
    write_ply(path, points)
    return path.read_bytes()


def test_hand_computed_line(tmp_path: Path) -> None:
    # Mean of 0, 1, 2, 3, 14 is 4; the farthest is 14 at distance 10, then 0, then the one in the middle of what is left.
    points = np.zeros((5, 3))
    points[:, 0] = [0, 1, 2, 3, 14]
    cloud = sample_cloud(ply_bytes(tmp_path, points), num_points=3, resample=True)
    assert cloud.centroid.tolist() == [4, 0, 0]
    assert cloud.scale == 10
    assert cloud.points[:, 0].tolist() == np.array([1.0, -0.4, -0.1], np.float32).tolist()
    assert cloud.resampled is not None
    assert cloud.resampled[:, 0].tolist() == np.array([-0.1, 1.0, -0.4], np.float32).tolist()


def test_start_on_a_tie_is_the_lowest_point_whatever_the_order(tmp_path: Path) -> None:
    square = np.array([[1.0, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0], [0, 0, 0]])
    for order in ([0, 1, 2, 3, 4], [3, 4, 2, 0, 1], [4, 3, 2, 1, 0]):
        cloud = sample_cloud(ply_bytes(tmp_path, square[order]), num_points=2, resample=False)
        np.testing.assert_allclose(cloud.points, np.array([[-1, -1, 0], [1, 1, 0]]) / math.sqrt(2), rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_points=st.integers(2, 60), scale=st.floats(1e-6, 1e6))
def test_laws(tmp_path_factory: pytest.TempPathFactory, seed: int, num_points: int, scale: float) -> None:
    raw = np.random.default_rng(seed).normal(size=(60, 3)) * scale + [3 * scale, 0, 0]
    cloud = sample_cloud(ply_bytes(tmp_path_factory.mktemp("law"), raw), num_points=num_points, resample=True)
    assert abs(np.linalg.norm(cloud.points, axis=1).max() - 1) < 1e-6
    back = cloud.points.astype(np.float64) * cloud.scale + cloud.centroid
    nearest = np.linalg.norm(back[:, None] - raw[None], axis=2).min(axis=1)
    assert nearest.max() < 1e-5 * scale
    assert len(np.unique(cloud.points, axis=0)) == num_points
    normal = ((raw - raw.mean(0)) / cloud.scale).astype(np.float32)
    start = int(np.linalg.norm(raw - raw.mean(0), axis=1).argmax())
    expected = farthest_point_sample_reference(normal, num_points, start=start)
    np.testing.assert_allclose(cloud.points, normal[expected], atol=2e-6)


def test_duplicates_are_never_sampled_while_another_place_is_left(tmp_path: Path) -> None:
    distinct = np.random.default_rng(0).normal(size=(50, 3))
    points = np.concatenate([distinct, distinct, distinct[:10]])
    cloud = sample_cloud(ply_bytes(tmp_path, points), num_points=50, resample=False)
    assert len(np.unique(cloud.points, axis=0)) == 50
    with pytest.raises(BadFile, match="fewer than 51 distinct points among 110"):
        sample_cloud(ply_bytes(tmp_path, points), num_points=51, resample=False)


def test_points_that_are_not_finite_are_dropped_and_counted(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(200, 3))
    clean = sample_cloud(ply_bytes(tmp_path, points), num_points=64, resample=False)
    dirty = np.insert(points, [7, 90], [[np.nan, 0, 0], [0, np.inf, 0]], axis=0)
    cloud = sample_cloud(ply_bytes(tmp_path, dirty), num_points=64, resample=False)
    assert (cloud.num_source_points, cloud.num_dropped, clean.num_dropped) == (202, 2, 0)
    np.testing.assert_array_equal(cloud.points, clean.points)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.full((100, 3), 2.0), "coincide"),
        (np.concatenate([np.zeros((97, 3)), np.full((3, 3), np.nan)]), "3 of 100 points are not finite, more than 1 percent"),
        (np.random.default_rng(0).normal(size=(63, 3)), "63 points, fewer than 64"),
        (np.random.default_rng(0).normal(size=(100, 3)) * 1e200, "too large"),
        (np.empty((0, 3)), "0 points, fewer than 64"),
    ],
)
def test_reasons(tmp_path: Path, points: np.ndarray, reason: str) -> None:
    with pytest.raises(BadFile, match=reason):
        sample_cloud(ply_bytes(tmp_path, points), num_points=64, resample=False)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    data = ply_bytes(tmp_path, np.random.default_rng(0).normal(size=(200, 3)))
    first, second = (sample_cloud(data, num_points=64, resample=True).as_npz(source_sha256="00") for _ in range(2))
    assert first == second
    assert first != sample_cloud(data, num_points=64, resample=False).as_npz(source_sha256="00")


@pytest.mark.parametrize("name", ["10.ply", "11.ply", "12.ply"])
def test_two_samplings_of_a_scanned_plant_differ_by_the_floor(name: str) -> None:
    path = SHARED / "corn" / name
    if not path.exists():
        pytest.skip("the scans lie beside the repository only")
    from scipy.spatial import KDTree

    cloud = sample_cloud(path.read_bytes(), num_points=2048, resample=True)
    assert cloud.resampled is not None
    cd_l2 = KDTree(cloud.points).query(cloud.resampled)[0].mean() + KDTree(cloud.resampled).query(cloud.points)[0].mean()
    assert 0.002 < cd_l2 < 0.02
