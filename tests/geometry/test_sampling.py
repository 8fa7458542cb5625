import numpy as np
import pytest

from triform.geometry.sampling import farthest_from_centroid, farthest_point_sample_reference


def test_a_line_by_hand() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [10, 0, 0], [5, 0, 0]])
    np.testing.assert_array_equal(farthest_point_sample_reference(points, 5, start=0), [0, 3, 4, 2, 1])


def test_ties_go_to_the_lowest_index() -> None:
    square = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0.5, 0.5, 0]])
    np.testing.assert_array_equal(farthest_point_sample_reference(square, 4, start=4), [4, 0, 1, 2])


def test_no_two_chosen_are_nearer_than_the_rest_is_far() -> None:
    points = np.random.default_rng(0).normal(size=(200, 3))
    chosen = farthest_point_sample_reference(points, 30, start=3)
    distance = np.linalg.norm(points[:, None] - points[chosen], axis=-1)
    between = distance[chosen] + np.diag(np.full(30, np.inf))
    assert between.min() >= distance.min(axis=1).max()


def test_the_farthest_from_the_centroid() -> None:
    square = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [4, 4, 0]])
    assert farthest_from_centroid(square) == 0
    kite = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 0]])
    np.testing.assert_array_equal(farthest_from_centroid(np.stack([square, kite])), [0, 3])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"num_samples": 0}, "num_samples"),
        ({"num_samples": 5}, "num_samples"),
        ({"start": -1}, "start"),
        ({"start": 4}, "start"),
        ({"points": np.zeros((4, 2))}, "points"),
        ({"points": np.zeros((4, 3), int)}, "points"),
        ({"points": np.full((4, 3), np.nan)}, "points"),
    ],
)
def test_wrong_arguments_are_named(change: dict, name: str) -> None:
    arguments = {"points": np.zeros((4, 3)), "num_samples": 2, "start": 0} | change
    with pytest.raises(ValueError, match=f"^{name} must be"):
        farthest_point_sample_reference(arguments["points"], arguments["num_samples"], start=arguments["start"])
