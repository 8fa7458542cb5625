"""Tracks are lifted frame by frame, whatever their length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform.errors import Diverged
from triform.geometry.skeletons import H36M_17
from triform.tasks.human_pose.inference import lift, mirrored, padding


def track(num_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_frames, 17, 3)).astype(np.float32)


def same(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What comes out is what went in."""
    return {"joints_3d": batch["joints_2d"]}


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_every_frame_is_lifted_in_its_place(length: int, num_frames: int, frame_stride: int, batch_size: int, flip: bool) -> None:
    joints = track(length)
    found = lift(same, joints, num_frames=num_frames, frame_stride=frame_stride, batch_size=batch_size, flip=flip)
    np.testing.assert_array_equal(found, joints)


def test_overlapping_predictions_are_averaged() -> None:
    def number(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"joints_3d": np.broadcast_to(np.arange(len(batch["joints_2d"]), dtype=np.float32)[:, None, None, None], (2, 4, 17, 3))}

    found = lift(number, track(5), num_frames=4, frame_stride=1, batch_size=8, flip=False)
    np.testing.assert_array_equal(found[:, 3, 1], [0, 0.5, 0.5, 0.5, 1])


def test_frames_that_fill_up_a_window_are_shown_as_nothing_and_not_counted() -> None:
    seen = {}

    def look(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.update(batch)
        frames = np.arange(4, dtype=np.float32)[None, :, None, None]
        return {"joints_3d": np.broadcast_to(frames, batch["joints_2d"].shape)}

    joints = track(2)
    found = lift(look, joints, num_frames=4, frame_stride=1, batch_size=8, flip=False)
    np.testing.assert_array_equal(found[:, 0, 0], [0, 1])
    np.testing.assert_array_equal(seen["seen"], [[1, 1, 0, 0]])
    np.testing.assert_array_equal(seen["joints_2d"][0, :2], joints)
    assert not seen["joints_2d"][0, 2:].any()
    np.testing.assert_array_equal(padding(np.array([[3, 5, 5]])), [[False, False, True]])


def test_mirroring_swaps_left_and_right_and_is_its_own_inverse() -> None:
    joints = track(3)
    found = mirrored(joints)
    left, right = H36M_17.joints.index("l_knee"), H36M_17.joints.index("r_knee")
    np.testing.assert_array_equal(found[:, left], joints[:, right] * np.array([-1, 1, 1], np.float32))
    np.testing.assert_array_equal(mirrored(found), joints)


def test_flip_averaging_takes_out_what_breaks_the_symmetry() -> None:
    def shifted(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"joints_3d": batch["joints_2d"] + np.array([0.25, 0.5, 0], np.float32)}

    joints = track(6)
    found = lift(shifted, joints, num_frames=3, frame_stride=1, batch_size=2, flip=True)
    np.testing.assert_allclose(found, joints + np.array([0, 0.5, 0], np.float32), atol=1e-6)


def test_a_prediction_that_is_not_finite_is_told() -> None:
    with pytest.raises(Diverged, match="not finite"):
        lift(lambda batch: {"joints_3d": batch["joints_2d"] * np.nan}, track(4), num_frames=3, frame_stride=1, batch_size=2, flip=False)
