"""What each change does to a clip, and that 2D and 3D stay of one person."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triform.geometry.camera import Camera, normalise
from triform.geometry.skeletons import H36M_17
from triform.tasks.human_pose.augmentation import Clip, between, draw, flipped, observed, scaled, shaped, turned_up
from triform.tasks.human_pose.config import PoseAugmentation

SEEDS = st.integers(0, 2**32 - 1)
AS_IT_IS = PoseAugmentation(flip_probability=0)
CAMERA = Camera((1000, 1002), (1145.0, 1143.0), (512.0, 515.0), radial=(-0.2, 0.24, -0.002), tangential=(-0.0009, -0.0016))


def clip(seed: int = 0, num_frames: int = 6) -> Clip:
    rng = np.random.default_rng(seed)
    joints_3d = rng.normal(0, 0.5, (num_frames, 17, 3)).astype(np.float32)
    return Clip(
        joints_2d=rng.normal(0, 0.3, (num_frames, 17, 2)).astype(np.float32),
        confidence=rng.uniform(0.1, 1, (num_frames, 17)).astype(np.float32),
        joints_3d=joints_3d - joints_3d[:, :1],
        seen=np.ones(num_frames, bool),
        valid=np.ones(num_frames, bool),
    )


def same(one: Clip, other: Clip) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("joints_2d", "confidence", "joints_3d", "seen", "valid")
    )


@given(SEEDS)
def test_a_flip_undoes_itself(seed):
    assert same(flipped(flipped(clip(seed))), clip(seed))


def test_a_flip_swaps_left_and_right_in_all_that_is_told():
    before, after = clip(), flipped(clip())
    for left, right in zip(H36M_17.left, H36M_17.right, strict=True):
        np.testing.assert_array_equal(after.joints_2d[:, left], before.joints_2d[:, right] * [-1, 1])
        np.testing.assert_array_equal(after.joints_3d[:, left], before.joints_3d[:, right] * [-1, 1, 1])
        np.testing.assert_array_equal(after.confidence[:, left], before.confidence[:, right])
    middle = [joint for joint in range(17) if joint not in H36M_17.left + H36M_17.right]
    assert [H36M_17.joints[joint] for joint in middle] == ["hip", "spine", "thorax", "nose", "head"]
    np.testing.assert_array_equal(after.joints_2d[:, middle], before.joints_2d[:, middle] * [-1, 1])
    np.testing.assert_array_equal(after.confidence[:, middle], before.confidence[:, middle])


def person(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A detector's 2D, and joints (mm) four metres before the camera."""
    rng = np.random.default_rng(seed)
    joints = (rng.normal(0, 300, (5, 17, 3)) + rng.normal((100, -50, 4000), 40, (5, 1, 3))).astype(np.float32)
    detected = normalise(CAMERA.project(joints), CAMERA.size_px) + rng.normal(0, 0.01, (5, 17, 2))
    return detected.astype(np.float32), joints


def up_vector(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal((0, -1, 0), 0.2)
    return vector / np.linalg.norm(vector)


ANGLES = st.floats(-np.pi, np.pi)


@given(SEEDS, ANGLES)
def test_a_turn_keeps_bones_and_what_is_up(seed, angle):
    detected, joints = person(seed)
    up = up_vector(seed)
    turned = turned_up(detected, joints, camera=CAMERA, up=up, angle_rad=angle)[1].astype(np.float64)
    for joint, parent in H36M_17.bones:
        lengths = [np.linalg.norm(some[:, joint] - some[:, parent], axis=-1) for some in (joints.astype(np.float64), turned)]
        np.testing.assert_allclose(lengths[1], lengths[0], atol=2e-3)
    np.testing.assert_allclose(turned @ up, joints @ up, atol=2e-3)
    np.testing.assert_allclose(turned[:, 0].mean(0), joints[:, 0].mean(0), atol=2e-3)  # about the middle of the hip's path


@given(SEEDS, ANGLES)
def test_a_turned_person_is_seen_where_the_camera_has_them_and_the_detector_errs_as_before(seed, angle):
    detected, joints = person(seed)
    seen, turned = turned_up(detected, joints, camera=CAMERA, up=up_vector(seed), angle_rad=angle)
    exact = [normalise(CAMERA.project(some), CAMERA.size_px) for some in (joints, turned)]
    np.testing.assert_allclose(seen - exact[1], detected - exact[0], atol=2e-6)


@given(SEEDS)
def test_a_whole_turn_changes_nothing(seed):
    detected, joints = person(seed)
    seen, turned = turned_up(detected, joints, camera=CAMERA, up=up_vector(seed), angle_rad=2 * np.pi)
    np.testing.assert_allclose(seen, detected, atol=1e-7)
    np.testing.assert_allclose(turned, joints, atol=1e-3)


def test_a_quarter_turn_by_hand():
    """About an up axis against y, x becomes -z or z: a step to the right becomes one towards or away from the camera."""
    joints = np.zeros((1, 17, 3), np.float32) + np.array([0, 0, 4000], np.float32)
    joints[0, 3] += (500, 0, 0)
    _, turned = turned_up(np.zeros((1, 17, 2), np.float32), joints, camera=CAMERA, up=np.array([0.0, -1, 0]), angle_rad=np.pi / 2)
    np.testing.assert_allclose(turned[0, 3] - turned[0, 0], [0, 0, 500], atol=1e-3)


@given(SEEDS, st.floats(0.5, 2))
def test_scaling_is_about_the_root_in_2d_and_3d(seed, factor):
    before, after = clip(seed), scaled(clip(seed), factor)
    np.testing.assert_array_equal(after.joints_2d[:, 0], before.joints_2d[:, 0])
    for name in ("joints_2d", "joints_3d"):
        old, new = (getattr(some, name) - getattr(some, name)[:, :1] for some in (before, after))
        np.testing.assert_allclose(new, old * factor, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(after.confidence, before.confidence)


def test_2d_alone_is_flipped_and_scaled_too():
    alone = replace(clip(), joints_3d=None)
    np.testing.assert_array_equal(flipped(alone).joints_2d, flipped(clip()).joints_2d)
    np.testing.assert_array_equal(scaled(alone, 1.5).joints_2d, scaled(clip(), 1.5).joints_2d)
    assert flipped(alone).joints_3d is scaled(alone, 1.5).joints_3d is None


def test_factors_between_two_limits():
    assert [between((0.5, 2.0), share) for share in (0, 0.5, 1)] == [0.5, 1.0, 2.0]  # half is as likely as double
    assert between((1.5, 1.5), 0.3) == 1.5


def test_no_setting_shifts_anothers_numbers():
    one, other = (draw(np.random.default_rng(3), 6) for _ in range(2))
    assert one.noise.shape == (6, 17, 2)
    np.testing.assert_array_equal(one.noise, other.noise)
    plain = observed(clip(), AS_IT_IS, one)
    noisy = observed(clip(), replace(AS_IT_IS, noise_std=0.1), one)
    both = observed(clip(), replace(AS_IT_IS, noise_std=0.1, joint_dropout=0.5, frame_dropout=0.3), one)
    there = both.any(-1)
    assert 0 < there.mean() < 1
    np.testing.assert_array_equal(both[there], noisy[there])
    np.testing.assert_allclose((noisy - plain)[..., :2], one.noise * np.float32(0.1), atol=1e-6)
    np.testing.assert_array_equal(noisy[..., 2], plain[..., 2])


@given(SEEDS, st.floats(0, 0.99), st.floats(0, 0.99), st.integers(1, 6))
def test_what_is_not_seen_is_exactly_0(seed, joint_dropout, frame_dropout, num_seen):
    some, draws = replace(clip(seed), seen=np.arange(6) < num_seen), draw(np.random.default_rng(seed), 6)
    config = replace(AS_IT_IS, noise_std=0.1, joint_dropout=joint_dropout, frame_dropout=frame_dropout)
    told = observed(some, config, draws)
    missed = (draws.joints < joint_dropout) | (draws.frames < frame_dropout)[:, None] | ~some.seen[:, None]
    assert not told[missed].any()
    assert (told[~missed] != 0).all()
    assert told.dtype == np.float32


@settings(max_examples=30)
@given(st.floats(0, 1))
def test_a_flip_comes_as_often_as_it_is_asked_for(probability):
    draws = replace(draw(np.random.default_rng(0), 6), flip=0.5)
    told = shaped(clip(), replace(AS_IT_IS, flip_probability=probability), draws)
    assert same(told, flipped(clip()) if probability > 0.5 else clip())


@pytest.mark.parametrize("share", [0.0, 0.999])
def test_scale_is_drawn_within_its_range(share):
    draws = replace(draw(np.random.default_rng(0), 6), scale=share)
    told = shaped(clip(), replace(AS_IT_IS, scale_range=(0.8, 1.25)), draws)
    assert same(told, scaled(clip(), between((0.8, 1.25), share)))
