from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from triform.datasets.synthetic.maize import maize_plant, write_maize_folder
from triform.geometry.ply import read_ply


def test_a_plant_is_a_pure_function_of_its_seed() -> None:
    points, colors = maize_plant(5, num_points=500)
    maize_plant(6, num_points=500)
    again, colors_again = maize_plant(5, num_points=500)
    np.testing.assert_array_equal(points, again)
    np.testing.assert_array_equal(colors, colors_again)


@pytest.mark.parametrize("seed", range(12))
def test_a_plant_has_the_size_and_the_form_of_maize(seed: int) -> None:
    points, colors = maize_plant(seed, num_points=3000)
    assert points.shape == colors.shape == (3000, 3)
    assert (points.dtype, colors.dtype) == (np.float64, np.uint8)
    assert np.isfinite(points).all()
    width, depth, height = np.ptp(points, axis=0)
    assert 1.0 < height < 2.8
    assert 0.4 < max(width, depth) < 2.2
    assert np.linalg.norm(points.mean(axis=0)) > 0.2, "scans are not centred"
    foot = points[points[:, 2] < points[:, 2].min() + 0.05 * height]
    assert np.ptp(foot[:, :2], axis=0).max() < 0.3 * max(width, depth), "below the leaves there is only the stem"


def test_density_is_uneven_and_points_are_distinct() -> None:
    points, _ = maize_plant(1, num_points=5000)
    distance, _ = cKDTree(points).query(points, k=9)
    assert np.percentile(distance[:, 8], 95) > 2 * np.percentile(distance[:, 8], 5)
    assert len(np.unique(points, axis=0)) == 5000


def test_plants_differ_in_form() -> None:
    """Two plants, centred and scaled to the unit sphere, are several times as far apart as two samples of one plant."""

    def normalised(points: np.ndarray) -> np.ndarray:
        centred = points - points.mean(axis=0)
        return centred / np.linalg.norm(centred, axis=1).max()

    def chamfer(a: np.ndarray, b: np.ndarray) -> float:
        return float(cKDTree(a).query(b)[0].mean() + cKDTree(b).query(a)[0].mean())

    plants = [normalised(maize_plant(seed, num_points=4000)[0]) for seed in range(5)]
    own = max(chamfer(plant[::2], plant[1::2]) for plant in plants)
    other = min(chamfer(plants[i], plants[j]) for i in range(5) for j in range(i))
    assert other > 3 * own


def test_a_folder_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_maize_folder(tmp_path / name, num_plants=3, num_points=200, seed=9)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["0001.ply", "0002.ply", "0003.ply"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    clouds = [read_ply(tmp_path / "a" / name).points() for name in files]
    assert clouds[0].shape == (200, 3)
    assert not np.array_equal(clouds[0], clouds[1])


def test_only_what_is_missing_broken_or_of_other_settings_is_written(tmp_path: Path) -> None:
    write_maize_folder(tmp_path, num_plants=3, num_points=200, seed=9)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "0001.ply").write_bytes(whole["0001.ply"][:-1])
    (tmp_path / "0002.ply").unlink()
    untouched = (tmp_path / "0003.ply").stat()
    write_maize_folder(tmp_path, num_plants=3, num_points=200, seed=9)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole
    assert (tmp_path / "0003.ply").stat().st_ino == untouched.st_ino
    write_maize_folder(tmp_path, num_plants=3, num_points=200, seed=10)
    assert all((tmp_path / name).read_bytes() != content for name, content in whole.items())
