from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triform.datasets.synthetic.maize import maize_plant
from triform.geometry.sampling import farthest_point_sample_reference
from triform.kernels.farthest_point_sample import farthest_point_sample, farthest_point_sample_one


def surface(rng: np.random.Generator, num_points: int) -> np.ndarray:
    u, v = rng.random((2, num_points))
    return np.stack([u, 0.3 * v, 0.3 * np.sin(6 * u) + 0.2 * np.cos(5 * v)], axis=1)


CLOUDS = {
    "uniform": lambda rng, n: rng.random((n, 3)),
    "thin surface": surface,
    "gaussian": lambda rng, n: rng.normal(size=(n, 3)),
    "far from the origin": lambda rng, n: rng.normal(size=(n, 3)) * 0.01 + 1000,
    "grid with ties": lambda rng, n: rng.integers(0, 7, (n, 3)) * 0.1,
    "duplicates": lambda rng, n: np.repeat(rng.normal(size=(n // 4 + 1, 3)), 4, axis=0)[:n],
    "a line": lambda rng, n: rng.random((n, 1)) * [0.0, 0.0, 1.0],
    "one place": lambda _rng, n: np.ones((n, 3)),
    "two scales": lambda rng, n: rng.normal(size=(n, 3)) * 10.0 ** rng.integers(-20, 15, (n, 1)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", list(CLOUDS))
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_index_is_that_of_the_reference(kind: str, dtype: type, data: st.DataObject) -> None:
    num_points = data.draw(st.sampled_from([1, 2, 63, 64, 65, 128, 129, 700]))
    start = data.draw(st.integers(0, num_points - 1))
    points = CLOUDS[kind](np.random.default_rng(data.draw(st.integers(0, 2**32))), num_points).astype(dtype)
    num_samples = data.draw(st.integers(1, num_points))
    chosen = farthest_point_sample_one(points, num_samples, start=start)
    np.testing.assert_array_equal(chosen, farthest_point_sample_reference(points, num_samples, start=start))
    assert chosen.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_maize_plant_of_full_size(dtype: type) -> None:
    points = maize_plant(3)[0].astype(dtype)
    chosen = farthest_point_sample_one(points, 2048, start=17)
    np.testing.assert_array_equal(chosen, farthest_point_sample_reference(points, 2048, start=17))


def test_a_batch_is_its_clouds_one_by_one() -> None:
    points = np.random.default_rng(1).normal(size=(5, 300, 3)).astype(np.float32)
    start = np.array([0, 299, 3, 17, 64])
    expected = [farthest_point_sample_one(cloud, 100, start=first) for cloud, first in zip(points, start.tolist(), strict=True)]
    np.testing.assert_array_equal(farthest_point_sample(points, 100, start=start), expected)
    strided = np.repeat(points, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(farthest_point_sample(strided, 100, start=start.astype(np.int32)), expected)


def test_threads_can_sample_at_once() -> None:
    clouds = [maize_plant(seed, num_points=2000)[0] for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda cloud: farthest_point_sample_one(cloud, 500, start=0), clouds))
    np.testing.assert_array_equal(together, [farthest_point_sample_one(cloud, 500, start=0) for cloud in clouds])


def test_coordinates_too_great_to_square() -> None:
    points = (np.random.default_rng(2).normal(size=(200, 3)) * 1e38).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = farthest_point_sample_reference(points, 50, start=0)
    np.testing.assert_array_equal(farthest_point_sample_one(points, 50, start=0), expected)


@pytest.mark.parametrize(
    ("points", "num_samples", "start", "name"),
    [
        (np.zeros((2, 4, 3)), 5, [0, 0], "num_samples"),
        (np.zeros((2, 4, 3)), 2, [0, 4], "start"),
        (np.zeros((2, 4, 3)), 2, [0], "start"),
        (np.zeros((2, 4, 3)), 2, [0.0, 0.0], "start"),
        (np.full((2, 4, 3), np.inf), 2, [0, 0], "points"),
        (np.zeros((4, 3)), 2, [0, 0], "points"),
    ],
)
def test_wrong_arguments_are_named(points: np.ndarray, num_samples: int, start: list, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        farthest_point_sample(points, num_samples, start=np.array(start))
