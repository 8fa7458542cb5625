"""The baselines find what can be found without a network."""

from dataclasses import replace

import numpy as np
import pytest

from triform.errors import DataError
from triform.tasks.human_pose.baselines import PENALTIES, Window, constant_pose, fit_ridge, interpolated
from triform.tasks.human_pose.metrics import mpjpe

TRAIN = {f"S{i}/Walking {i}/a": 90 + i for i in range(4)}


def test_the_constant_pose_is_the_mean_of_valid_root_relative_poses(few_poses) -> None:
    data = few_poses({"S1/Walking 1/a": 4, "S1/Sitting 1/a": 2})
    sitting, walking = data._arrays
    walking["valid"][1] = 0
    walking["joints_3d_camera_mm"][1] = np.nan
    told = np.concatenate([sitting["joints_3d_camera_mm"], walking["joints_3d_camera_mm"][[0, 2, 3]]]).astype(np.float64)
    expected = (told - told[:, :1]).mean(0)
    np.testing.assert_allclose(constant_pose(data), expected, rtol=1e-5, atol=1e-3)


def test_ridge_learns_a_linear_world(few_poses) -> None:
    data, other = few_poses(TRAIN, seed=1, num_frames=3), few_poses(seed=2, num_frames=3)
    ridge = fit_ridge(data, other)
    frames = other.read(0, np.arange(other.tracks[0].num_frames))
    assert ridge.penalty == PENALTIES[0]
    assert frames.joints_3d_mm is not None
    assert (
        mpjpe(ridge(frames.joints_2d), frames.joints_3d_mm)
        < 2.0
        < mpjpe(np.broadcast_to(constant_pose(data), (12, 17, 3)), frames.joints_3d_mm)
    )


def test_ridge_solves_its_normal_equations(few_poses) -> None:
    """Against least squares on rows that hold the penalty."""
    data = few_poses(TRAIN, seed=1, num_frames=3, frame_stride=2)
    ridge = fit_ridge(data)
    parts = [data.read(i, np.arange(track.num_frames)) for i, track in enumerate(data.tracks)]
    x = np.concatenate([Window(np.array([-2, 0, 2]), centred=False).rows(part.joints_2d, np.arange(len(part.valid))) for part in parts])
    y = np.concatenate([(part.joints_3d_mm - part.joints_3d_mm[:, :1]).reshape(-1, 51) for part in parts]).astype(np.float64)
    x, y = x - x.mean(0), y - y.mean(0)
    penalty = ridge.penalty * np.square(x).sum() / x.shape[1]
    rows = np.concatenate([x, np.sqrt(penalty) * np.eye(x.shape[1])])
    expected = np.linalg.lstsq(rows, np.concatenate([y, np.zeros((x.shape[1], 51))]))[0]
    np.testing.assert_array_equal(ridge.window.offsets, [-2, 0, 2])
    np.testing.assert_allclose(ridge.weights, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_centred_window_sees_neither_place_nor_size() -> None:
    joints = np.random.default_rng(0).normal(size=(20, 17, 2))
    window, middles = Window(np.array([-3, 0, 3]), centred=True), np.arange(20)
    rows = window.rows(joints, middles)
    np.testing.assert_allclose(window.rows(0.2 * joints + [0.5, -0.1], middles), rows)
    np.testing.assert_allclose(np.square(rows).sum(1), 3 * 17)  # the root of the mean square distance of a joint from the middle is 1
    assert not np.allclose(Window(window.offsets, centred=False).rows(0.2 * joints, middles), rows)


def test_centred_ridge_lifts_people_alike_wherever_they_stand(few_poses) -> None:
    data = few_poses(TRAIN, seed=1, num_frames=3)
    joints = data.read(0, np.arange(30)).joints_2d
    centred, plain = (fit_ridge(data, centred=choice) for choice in (True, False))
    np.testing.assert_allclose(centred(0.5 * joints + 0.3), centred(joints), rtol=1e-3, atol=0.1)
    assert mpjpe(plain(0.5 * joints + 0.3), plain(joints)) > 10


def test_ridge_leaves_out_frames_that_are_not_valid(few_poses) -> None:
    data = few_poses(TRAIN, seed=1, num_frames=1)
    for arrays in data._arrays:
        arrays["valid"][::3] = 0
        arrays["joints_3d_camera_mm"][::3] = np.nan
    assert np.isfinite(fit_ridge(data, most_samples=50).weights).all()


def test_an_even_subsample_learns_the_same_world(few_poses) -> None:
    data, other = few_poses(TRAIN, seed=1, num_frames=1), few_poses(seed=2, num_frames=1)
    frames = other.read(0, np.arange(other.tracks[0].num_frames))
    found = [mpjpe(fit_ridge(data, other, most_samples=most)(frames.joints_2d), frames.joints_3d_mm) for most in (10_000, 120)]
    assert max(found) < 20


def test_windows_stand_still_beyond_the_ends() -> None:
    joints = np.arange(3, dtype=np.float32)[:, None, None] * np.ones((17, 3), np.float32)
    rows = Window(np.array([-2, 0, 1]), centred=False).rows(joints, np.array([0, 2])).reshape(2, 3, 17, 2)
    np.testing.assert_array_equal(rows[..., 0, 0], [[0, 0, 1], [0, 2, 2]])


def test_without_3d_no_baseline_is_learned(few_poses) -> None:
    data = few_poses()
    blind = replace(data, tracks=tuple(replace(track, labelled=False) for track in data.tracks))
    for learn in (constant_pose, fit_ridge):
        with pytest.raises(DataError, match="No training frame has 3D"):
            learn(blind)


def test_hidden_joints_lie_on_the_line_between_the_frames_that_show_them() -> None:
    joints = np.zeros((5, 17, 2), np.float32)
    joints[:, 3, 0] = [0, 9, 9, 6, 9]
    joints[:, 4] = 7.0
    joints[:, 4, 1] = 99.0
    hidden = np.zeros((5, 17), bool)
    hidden[[1, 2, 4], 3] = True
    hidden[:, 4] = True
    known = np.ones((5, 17), bool)
    known[:, 5:] = False
    joints[:, 5:] = np.nan
    found = interpolated(joints, hidden, known)
    np.testing.assert_allclose(found[:, 3, 0], [0, 2, 4, 6, 6])
    np.testing.assert_allclose(found[:, 4], np.broadcast_to([6 / 17, 0], (5, 2)), atol=1e-6)
    np.testing.assert_array_equal(found[:, :3], joints[:, :3])
