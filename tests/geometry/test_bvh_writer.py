from pathlib import Path

import numpy as np
import pytest

from triform.errors import DataError
from triform.geometry.bvh import Bvh, read_bvh
from triform.geometry.bvh_writer import rest_direction, upright, write_bvh
from triform.geometry.rotations import from_euler
from triform.geometry.skeletons import H36M_17, MPI_28, Skeleton


def tumbling(skeleton: Skeleton, *, num_frames: int = 40, seed: int = 0) -> np.ndarray:
    """Bones of constant lengths, each turning by itself to anywhere."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 0.3, (num_frames, len(skeleton.joints), 3)).cumsum(axis=0)
    turns = from_euler("xyz", rng.uniform(-3, 3, (len(skeleton.joints), 3)) + steps)
    bones = turns @ np.array([1.0, 0, 0]) * rng.uniform(80, 450, (len(skeleton.joints), 1))
    places = np.zeros_like(bones)
    order = [skeleton.root]
    for joint in order:
        children = [child for child, parent in skeleton.bones if parent == joint]
        order += children
        for child in children:
            places[:, child] = places[:, joint] + bones[:, child]
    return places + rng.normal(0, 1000, (num_frames, 1, 3))


def again(path: Path, joints: np.ndarray, skeleton: Skeleton = H36M_17) -> tuple[np.ndarray, Bvh]:
    write_bvh(path, joints, frame_rate=50, skeleton=skeleton)
    bvh = read_bvh(path)
    at = {joint.name: index for index, joint in enumerate(bvh.joints)}
    return bvh.positions()[:, [at[name] for name in skeleton.joints]], bvh


@pytest.mark.parametrize("skeleton", [H36M_17, MPI_28], ids=lambda skeleton: skeleton.name)
def test_joints_come_back_where_bones_keep_their_lengths(tmp_path: Path, skeleton: Skeleton) -> None:
    joints = tumbling(skeleton)
    found, bvh = again(tmp_path / "a.bvh", joints, skeleton)
    assert np.linalg.norm(found - joints, axis=-1).max() < 0.1
    assert bvh.frame_rate == 50


def test_directions_and_mean_lengths_come_back_where_lengths_change(tmp_path: Path) -> None:
    joints = tumbling(H36M_17) + np.random.default_rng(1).normal(0, 15, (40, 17, 3))
    found, _ = again(tmp_path / "a.bvh", joints)
    np.testing.assert_allclose(found[:, 0], joints[:, 0], atol=1e-4)
    for joint, parent in H36M_17.bones:
        true, made = joints[:, joint] - joints[:, parent], found[:, joint] - found[:, parent]
        lengths = np.linalg.norm(true, axis=1)
        np.testing.assert_allclose(np.linalg.norm(made, axis=1), lengths.mean(), atol=1e-3)
        np.testing.assert_allclose(made / lengths.mean(), true / lengths[:, None], atol=1e-5)


def test_a_t_pose_needs_no_turn(tmp_path: Path) -> None:
    joints = np.zeros((2, 17, 3))
    for joint, parent in H36M_17.bones:
        joints[:, joint] = joints[:, parent] + 100 * rest_direction(H36M_17.joints[joint])
    found, bvh = again(tmp_path / "a.bvh", joints)
    np.testing.assert_allclose(bvh.motion, 0, atol=1e-6)
    np.testing.assert_allclose(found, joints, atol=1e-6)


def test_angles_go_on_past_half_a_turn(tmp_path: Path) -> None:
    joints = np.zeros((60, 17, 3))
    for joint, parent in H36M_17.bones:
        joints[:, joint] = joints[:, parent] + 100 * rest_direction(H36M_17.joints[joint])
    joints = joints @ np.swapaxes(from_euler("y", np.linspace(0, 4 * np.pi, 60)[:, None]), 1, 2)
    _, bvh = again(tmp_path / "a.bvh", joints)
    assert np.abs(np.diff(bvh.motion[:, 3:6], axis=0)).max() < 15
    assert bvh.motion[-1, 5] == pytest.approx(720, abs=1e-3)


def test_a_camera_s_frame_is_turned_upright_and_not_mirrored() -> None:
    np.testing.assert_array_equal(upright(np.eye(3)), np.diag([1.0, -1, -1]))
    assert np.linalg.det(upright(np.eye(3))) == 1


@pytest.mark.parametrize("joints", [np.zeros((0, 17, 3)), np.full((2, 17, 3), np.nan)])
def test_nothing_and_nan_are_refused(tmp_path: Path, joints: np.ndarray) -> None:
    with pytest.raises(DataError, match="empty or hold NaN"):
        write_bvh(tmp_path / "a.bvh", joints, frame_rate=50)
    assert not list(tmp_path.iterdir())
