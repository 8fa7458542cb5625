"""Each change of a mesh by itself, on meshes small enough to know the answer."""

from dataclasses import replace

import numpy as np
import pytest

from triform.data.augmentation import sample_generator
from triform.tasks.mesh_identity.augmentation import draw, mirrored, patch, rotation, rotation_of, smoothed, with_loops, without
from triform.tasks.mesh_identity.config import MeshAugmentation

LINE = np.array([[0, 0, 0], [1, 0, 0], [3, 0, 0], [7, 0, 0]], np.float32)
UP = np.tile(np.float32([0, 1, 0]), (4, 1))


def test_draws_are_keyed_and_fill_their_ranges() -> None:
    one, again, other = (draw(sample_generator(0, epoch=1, sample=sample), 50) for sample in (4, 4, 5))
    np.testing.assert_array_equal(one.jitter, again.jitter)
    assert one.angle == again.angle != other.angle
    assert np.linalg.norm(one.axis) == pytest.approx(1)
    assert 0 <= one.dropped.min() < one.dropped.max() < 1
    assert abs(one.jitter.std() - 1) < 0.2


def test_a_quarter_turn_about_y_takes_z_to_x() -> None:
    matrix = rotation(np.array([0.0, 1.0, 0.0]), np.pi / 2)
    np.testing.assert_allclose(matrix @ [0, 0, 1], [1, 0, 0], atol=1e-7)
    np.testing.assert_allclose(matrix @ [0, 1, 0], [0, 1, 0], atol=1e-7)
    np.testing.assert_allclose(rotation(np.array([0.6, 0.0, 0.8]), 1.2) @ [0.6, 0, 0.8], [0.6, 0, 0.8], atol=1e-6)


@pytest.mark.parametrize("up_axis", ["x", "y", "z"])
def test_rotation_keeps_the_up_axis_and_stays_within_its_degrees(up_axis: str) -> None:
    config = MeshAugmentation(rotate="up", rotate_degrees=30)
    up = np.eye(3)["xyz".index(up_axis)]
    angles = []
    for sample in range(200):
        matrix = rotation_of(config, draw(sample_generator(0, epoch=0, sample=sample), 1), up_axis=up_axis)
        np.testing.assert_allclose(matrix @ up, up, atol=1e-6)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
        angles.append(np.degrees(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1))))
    assert 25 < max(angles) <= 30.001
    draws = draw(sample_generator(0, epoch=0, sample=0), 1)
    np.testing.assert_array_equal(rotation_of(replace(config, rotate="none"), draws, up_axis=up_axis), np.eye(3))
    anyhow = rotation_of(replace(config, rotate="any", rotate_degrees=180), draws, up_axis=up_axis)
    np.testing.assert_allclose(anyhow @ anyhow.T, np.eye(3), atol=1e-6)
    assert not np.allclose(anyhow @ up, up, atol=1e-2)


def test_a_mirrored_mesh_is_reflected_and_each_vertex_keeps_its_place_in_the_template() -> None:
    left, right, nose = [2, 1, 0], [-1, 1, 0], [0.1, 0, 3]
    coordinates = np.array([left, right, nose], np.float32)
    normals = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0, 0.8]], np.float32)
    moved, turned = mirrored(coordinates, normals, np.array([1, 0, 2], np.int32), up_axis="y")
    np.testing.assert_allclose(moved, [[1, 1, 0], [-2, 1, 0], [-0.1, 0, 3]])
    np.testing.assert_allclose(turned, [[0, 1, 0], [-1, 0, 0], [-0.6, 0, 0.8]])
    back, _ = mirrored(moved, turned, np.array([1, 0, 2], np.int32), up_axis="y")
    np.testing.assert_array_equal(back, coordinates)


def test_smoothing_goes_halfway_to_the_mean_of_the_neighbours() -> None:
    graph = np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0], [3, 2, 1]], np.int32)
    moved, normals = smoothed(LINE, UP, graph)
    np.testing.assert_allclose(moved[:, 0], [1, 1.25, 1.75, 4.5])
    np.testing.assert_allclose(normals, UP)
    opposite = np.array([[0, 1, 0], [0, -1, 0]], np.float32)
    _, kept = smoothed(LINE[:2], opposite, np.array([[0, 1], [1, 0]], np.int32))
    np.testing.assert_array_equal(kept, opposite)


def test_removed_vertices_become_copies_of_the_nearest_that_stays() -> None:
    normals = np.eye(4, 3, dtype=np.float32)
    moved, turned = without(LINE, normals, np.array([False, True, True, False]))
    np.testing.assert_array_equal(moved[:, 0], [0, 0, 0, 7])
    np.testing.assert_array_equal(turned, normals[[0, 0, 0, 3]])
    everything, _ = without(LINE, normals, np.ones(4, bool))
    np.testing.assert_array_equal(everything, LINE[[0, 0, 0, 0]])


def test_a_patch_is_the_nearest_share_of_the_vertices() -> None:
    assert patch(LINE, 1, fraction=0.5).tolist() == [True, True, False, False]
    assert patch(LINE, 3, fraction=0.01).tolist() == [False, False, False, True]


def test_dropped_edges_and_those_to_vanished_vertices_become_loops() -> None:
    graph = np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0]], np.int32)
    uniforms = np.array([[0.0, 0.9, 0.9], [0.0, 0.1, 0.9], [0.0, 0.9, 0.9]])
    none = np.zeros(3, bool)
    kept = with_loops(graph, edge_uniforms=uniforms, edge_dropout=0.5, vanished=none)
    assert kept.tolist() == [[0, 1, 2], [1, 1, 2], [2, 1, 0]]
    gone = with_loops(graph, edge_uniforms=uniforms, edge_dropout=0.0, vanished=np.array([False, True, False]))
    assert gone.tolist() == [[0, 0, 2], [1, 0, 2], [2, 2, 0]]
    assert gone.dtype == np.int32
