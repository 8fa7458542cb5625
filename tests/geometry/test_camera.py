import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform.geometry.camera import Camera, denormalise, looking_at, normalise

TABLE = Path(__file__).parents[3] / "shared" / "data" / "h36m_cameras.json"
PINHOLE = Camera((1000, 500), (100.0, 200.0), (500.0, 250.0))
angles = st.floats(-3, 3)


def turned(x: float, y: float, z: float) -> np.ndarray:
    (cx, cy, cz), (sx, sy, sz) = np.cos([x, y, z]), np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return about_x @ about_y @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])


def test_a_pinhole_by_hand() -> None:
    np.testing.assert_allclose(PINHOLE.project(np.array([[1.0, -2.0, 4.0], [0.0, 0.0, 9.0]])), [[525.0, 150.0], [500.0, 250.0]])


def test_distortion_by_hand() -> None:
    camera = replace(PINHOLE, radial=(0.5, 0.25, 2.0), tangential=(0.1, 0.2))
    # x = 1, y = 1: r2 = 2; radial 1 + 1 + 1 + 16; tangential 0.2 * 1 + 0.1 * 1; and once more p2, p1 times r2.
    np.testing.assert_allclose(camera.project(np.array([1.0, 1.0, 1.0])), [500 + 100 * (19.3 + 0.4), 250 + 200 * (19.3 + 0.2)])


@pytest.mark.skipif(not TABLE.exists(), reason="the camera table is not here")
def test_the_data_sets_own_check_point() -> None:
    table = json.loads(TABLE.read_text())
    check = table["check"]
    camera = Camera(**{name: tuple(value) for name, value in table["cameras"][check["camera"]].items()})
    np.testing.assert_allclose(camera.project(np.array(check["point_camera_mm"])), check["pixel"], atol=1e-9)


@given(angles, angles, angles, st.integers(0, 2**32 - 1))
def test_to_world_undoes_to_camera(x: float, y: float, z: float, seed: int) -> None:
    points, translation = np.random.default_rng(seed).normal(0, 1000, (2, 3, 3))
    camera = replace(PINHOLE, rotation=turned(x, y, z), translation_mm=translation[0])
    np.testing.assert_allclose(camera.to_world(camera.to_camera(points)), points, atol=1e-8)
    np.testing.assert_allclose(camera.to_camera(np.zeros(3)), translation[0])


def test_a_tree_holds_all_of_it() -> None:
    camera = replace(PINHOLE, radial=(1.0, 2.0, 3.0), tangential=(4.0, 5.0), rotation=turned(1, 2, 3), translation_mm=np.array([7.0, 8, 9]))
    again = Camera.from_tree(json.loads(json.dumps(camera.as_tree())))
    assert again.as_tree() == camera.as_tree()
    assert (again.size_px, again.radial) == ((1000, 500), (1.0, 2.0, 3.0))


def test_normalise_by_hand_and_back() -> None:
    pixels = np.array([[0.0, 0.0], [1000.0, 500.0], [500.0, 250.0]])
    np.testing.assert_allclose(normalise(pixels, (1000, 500)), [[-1, -0.5], [1, 0.5], [0, 0]])
    np.testing.assert_allclose(denormalise(normalise(pixels, (1000, 500)), (1000, 500)), pixels)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_looking_at_centres_its_target_upright(seed: int, axis: int) -> None:
    target, place = np.random.default_rng(seed).normal(0, 3000, (2, 3))
    up = np.eye(3)[axis]
    camera = looking_at(target, from_mm=place, up=up, size_px=(1000, 800), focal_px=1145.0)
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(camera.rotation) == pytest.approx(1)
    np.testing.assert_allclose(camera.to_camera(target), [0, 0, np.linalg.norm(target - place)], atol=1e-6)
    np.testing.assert_allclose(camera.project(camera.to_camera(target)), [500, 400], atol=1e-6)
    above = camera.project(camera.to_camera(target + up))
    assert above[0] == pytest.approx(500, abs=1e-4)
    assert above[1] < 400


def test_right_is_right() -> None:
    camera = looking_at(np.zeros(3), from_mm=np.array([0.0, 0.0, 1000.0]), up=np.array([0.0, 1.0, 0.0]), size_px=(1000, 1000), focal_px=1.0)
    np.testing.assert_allclose(camera.to_camera(np.array([1.0, 2.0, 0.0])), [1, -2, 1000], atol=1e-9)
