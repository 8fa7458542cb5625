import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform.geometry.rotations import about_axis, best_fit, from_euler, shortest, to_euler

ORDERS = ("xyz", "xzy", "yxz", "yzx", "zxy", "zyx")
angles = st.floats(-3.1, 3.1)
directions = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1).map(np.array)


def test_a_quarter_turn_about_each_axis_takes_the_next_axis_to_the_one_after() -> None:
    for axis, (source, target) in {"x": (1, 2), "y": (2, 0), "z": (0, 1)}.items():
        np.testing.assert_allclose(about_axis(axis, np.array(np.pi / 2)) @ np.eye(3)[source], np.eye(3)[target], atol=1e-15)


def test_the_last_axis_turns_first() -> None:
    turn = from_euler("zx", np.radians([90.0, 90.0]))
    np.testing.assert_allclose(turn @ [0, 1, 0], [0, 0, 1], atol=1e-15)


@pytest.mark.parametrize("order", ORDERS)
@given(first=angles, middle=st.floats(-1.57, 1.57), last=angles)
def test_euler_angles_come_back(order: str, first: float, middle: float, last: float) -> None:
    given_angles = np.array([[first, middle, last]])
    np.testing.assert_allclose(to_euler(order, from_euler(order, given_angles)), given_angles, atol=1e-9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("middle", [-np.pi / 2, np.pi / 2])
def test_where_angles_are_ill_defined_the_turn_is_right_all_the_same(order: str, middle: float) -> None:
    turn = from_euler(order, np.array([0.4, middle, -1.1]))
    found = to_euler(order, turn)
    assert found[2] == 0
    np.testing.assert_allclose(from_euler(order, found), turn, atol=1e-12)


@given(source=directions, target=directions)
def test_the_shortest_turn_takes_one_direction_to_the_other_by_their_angle(source: np.ndarray, target: np.ndarray) -> None:
    a, b = source / np.linalg.norm(source), target / np.linalg.norm(target)
    turn = shortest(source, target)
    np.testing.assert_allclose(turn @ a, b, atol=1e-7)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) > 0
    assert np.trace(turn) == pytest.approx(1 + 2 * a @ b, abs=1e-7)


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, -2, 0), (0.3, 0.4, -0.5)])
def test_opposite_directions_and_none_are_no_trouble(direction: tuple[float, ...]) -> None:
    source = np.array(direction)
    turn = shortest(source, -source)
    np.testing.assert_allclose(turn @ source, -source, atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    np.testing.assert_array_equal(shortest(source, np.zeros(3)), np.eye(3))
    np.testing.assert_allclose(shortest(source, 3 * source), np.eye(3), atol=1e-12)


@given(turn=st.tuples(angles, angles, angles))
def test_the_best_fit_finds_the_turn_and_never_a_mirror(turn: tuple[float, float, float]) -> None:
    points = np.array([[[1.0, 0, 0], [-0.9, 0, 0], [0, 2, 0]]])  # in a plane, as hips and spine in a T-pose
    true = from_euler("xyz", np.array([turn]))
    np.testing.assert_allclose(best_fit(points, points @ np.swapaxes(true, 1, 2)), true, atol=1e-9)
    assert np.linalg.det(best_fit(points, points * [1, 1, -1] + [0, 0, 1e-3]))[0] > 0
