"""Batches are pure functions of (poses, seed, epoch, sample), and hold what they say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triform.data.poses.poses import Poses
from triform.geometry.camera import Camera
from triform.tasks.human_pose.batch import AS_IT_IS, denoising_batch, lifting_batch, masked_batch
from triform.tasks.human_pose.config import Denoising, MaskedAutoencoder, PoseAugmentation

EVERYTHING = PoseAugmentation(
    rotate_up_degrees=90, scale_range=(0.8, 1.2), speed_range=(0.5, 2), noise_std=0.02, joint_dropout=0.1, frame_dropout=0.1
)
MASKS, NOISE = MaskedAutoencoder(frame_mask_ratio=0.4, masked_joints=3), Denoising(joint_mask_ratio=0.1, frame_mask_ratio=0.2)
CAMERA = Camera((1000, 1000), (1145.0, 1143.0), (512.0, 515.0))
SEEDS = st.integers(0, 2**32 - 1)


def filmed(poses: Poses) -> Poses:
    """The same tracks with a camera, so that the person can be turned."""
    tracks = tuple(replace(track, camera=CAMERA.as_tree(), up_camera=(0.0, -1.0, 0.0)) for track in poses.tracks)
    return replace(poses, tracks=tracks)


@pytest.fixture(scope="session")
def poses(few_poses) -> Poses:
    return filmed(few_poses())


def lifting(poses, indices, *, augmentation=EVERYTHING, seed=0, epoch=0):
    return lifting_batch(poses, np.asarray(indices), augmentation, seed=seed, epoch=epoch)


def denoising(poses, indices, *, augmentation=EVERYTHING, objective=NOISE, seed=0, epoch=0):
    return denoising_batch(poses, np.asarray(indices), augmentation, objective, seed=seed, epoch=epoch)


def masked(poses, indices, *, augmentation=EVERYTHING, objective=MASKS, seed=0, epoch=0):
    return masked_batch(poses, np.asarray(indices), augmentation, objective, seed=seed, epoch=epoch)


BATCHES = pytest.mark.parametrize("batch", [lifting, denoising, masked])


def equal(one, other) -> bool:
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


@BATCHES
def test_the_same_arguments_give_the_same_bits_and_any_other_gives_others(poses, batch):
    one = batch(poses, [0, 3, 5], seed=1, epoch=2)
    assert equal(one, batch(poses, [0, 3, 5], seed=1, epoch=2))
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}, {"seed": 1, "epoch": None}):
        told = batch(poses, [0, 3, 5], **other)
        for row in range(3):  # every clip is drawn anew
            assert not np.array_equal(one["joints_2d"][row], told["joints_2d"][row])


@BATCHES
@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(6)), epoch=st.none() | st.integers(0, 1000))
def test_neither_order_nor_company_changes_a_clip(poses, batch, order, epoch):
    together = batch(poses, range(6), epoch=epoch)
    shuffled = batch(poses, order, epoch=epoch)
    for name, rows in together.items():
        np.testing.assert_array_equal(shuffled[name], rows[list(order)])
        np.testing.assert_array_equal(batch(poses, [4], epoch=epoch)[name][0], rows[4])


def test_where_nothing_is_trained_nothing_is_augmented(poses):
    told = lifting(poses, range(6), epoch=None)
    assert equal(told, lifting(poses, range(6), augmentation=AS_IT_IS, epoch=7))
    assert equal(told, lifting(poses, range(6), seed=99, epoch=None))
    np.testing.assert_array_equal(told["joints_2d"], told["target_2d"] * told["seen"][..., None, None])
    plain = masked(poses, range(6), epoch=None)
    np.testing.assert_array_equal(plain["joints_2d"], told["joints_2d"])


@pytest.mark.parametrize("batch", [denoising, masked])
def test_masks_and_noise_of_validation_are_fixed_but_those_of_each_clip_are_its_own(poses, batch):
    told = batch(poses, range(6), epoch=None)
    assert equal(told, batch(poses, range(6), epoch=None))
    assert equal(told, batch(poses, range(6), epoch=None, augmentation=AS_IT_IS))
    hidden = told["joint_mask"] if batch is masked else (told["joints_2d"] == 0).all(-1)
    assert len({row.tobytes() for row in hidden}) == 6


def test_what_a_clip_holds(poses):
    told = lifting(poses, [1], epoch=None)
    track, start = int(poses.clip_track[1]), int(poses.clip_start[1])
    frames = poses.read(track, np.arange(start, start + 5))
    np.testing.assert_array_equal(told["joints_2d"][0, ..., :2], frames.joints_2d)
    np.testing.assert_array_equal(told["joints_2d"][0, ..., 2], frames.confidence)
    np.testing.assert_allclose(told["joints_3d"][0], (frames.joints_3d_mm - frames.joints_3d_mm[:, :1]) / 1000, atol=1e-6)
    assert told["weight"].all()
    assert told["seen"].all()
    assert {name: array.dtype for name, array in told.items()} == dict.fromkeys(told, np.dtype(np.float32))


@BATCHES
def test_frames_that_pad_a_clip_are_0_and_count_nothing(poses, batch):
    lengths = np.array([track.num_frames for track in poses.tracks])[poses.clip_track]
    last = int(np.flatnonzero((lengths == 11) & (poses.clip_start == 10))[0])  # one frame is left for the last clip of five
    for epoch in (None, 3):
        config = AS_IT_IS if epoch is None else replace(EVERYTHING, speed_range=(1, 1))
        told = batch(poses, [last], epoch=epoch, augmentation=config)
        np.testing.assert_array_equal(told["seen"][0], [1, 0, 0, 0, 0])
        assert not told["joints_2d"][0, 1:].any()
        if "weight" in told:
            np.testing.assert_array_equal(told["weight"][0], [1, 0, 0, 0, 0])
            assert not told["joints_3d"][0, 1:].any()


def test_3d_that_is_not_valid_or_not_there_counts_nothing(few_poses):
    known = few_poses()
    holed = replace(known, _arrays=tuple({**arrays, "valid": np.arange(len(arrays["valid"])) % 2 == 0} for arrays in known._arrays))
    holed = replace(holed, _arrays=tuple({**arrays, "valid": arrays["valid"].astype(np.uint8)} for arrays in holed._arrays))
    told = lifting(holed, [0], epoch=None)
    np.testing.assert_array_equal(told["weight"][0], [1, 0, 1, 0, 1])
    assert not told["joints_3d"][0, 1::2].any()
    without = tuple({name: array for name, array in arrays.items() if name != "joints_3d_camera_mm"} for arrays in known._arrays)
    alone = replace(known, _arrays=without, labelled=np.zeros(len(known.names), bool))
    told = lifting(alone, [0, 1], epoch=2)
    assert not told["weight"].any()
    assert not told["joints_3d"].any()
    assert told["seen"].any()


@pytest.mark.parametrize("stride", [1, 2])
def test_a_clip_at_double_speed_is_every_second_frame(few_poses, stride):
    poses = few_poses({"S1/Walking 1/a": 60}, num_frames=9, frame_stride=stride)
    fast = lifting(poses, [0], augmentation=replace(AS_IT_IS, speed_range=(2, 2)), epoch=1)
    sparse = lifting(replace(poses, frame_stride=2 * stride), [0], epoch=None)
    assert equal(fast, sparse)


def test_a_clip_at_half_speed_lies_on_straight_lines_between_frames(few_poses):
    poses = few_poses({"S1/Walking 1/a": 30}, num_frames=9)
    slow = lifting(poses, [0], augmentation=replace(AS_IT_IS, speed_range=(0.5, 0.5)), epoch=1)
    plain = lifting(poses, [0], epoch=None)
    for name in ("target_2d", "joints_3d"):
        np.testing.assert_array_equal(slow[name][0, ::2], plain[name][0, :5])
        np.testing.assert_allclose(slow[name][0, 1::2], (plain[name][0, :4] + plain[name][0, 1:5]) / 2, atol=1e-6)


def test_a_fast_clip_that_runs_past_its_track_is_padded(few_poses):
    poses = few_poses({"S1/Walking 1/a": 12}, num_frames=9)
    told = lifting(poses, [0], augmentation=replace(AS_IT_IS, speed_range=(2, 2)), epoch=1)
    np.testing.assert_array_equal(told["seen"][0], [1] * 6 + [0] * 3)


def test_a_turned_clip_keeps_its_bones_and_moves_in_2d(poses):
    turned = lifting(poses, [0], augmentation=replace(AS_IT_IS, rotate_up_degrees=90), epoch=1)
    plain = lifting(poses, [0], epoch=None)
    lengths = [np.linalg.norm(told["joints_3d"][0], axis=-1) for told in (turned, plain)]
    np.testing.assert_allclose(lengths[0], lengths[1], atol=1e-5)
    np.testing.assert_allclose(turned["joints_3d"][..., 1], plain["joints_3d"][..., 1], atol=1e-5)
    assert np.abs(turned["joints_2d"] - plain["joints_2d"]).max() > 0.01


def test_without_a_camera_nobody_is_turned(few_poses):
    turned = lifting(few_poses(), [0], augmentation=replace(AS_IT_IS, rotate_up_degrees=90), epoch=1)
    assert equal(turned, lifting(few_poses(), [0], epoch=None))


def test_target_and_input_are_flipped_together(poses):
    for batch in (lifting, denoising, masked):
        flip = batch(poses, [0], augmentation=replace(AS_IT_IS, flip_probability=1), epoch=1)
        plain = batch(poses, [0], augmentation=AS_IT_IS, epoch=1)
        mirrored = plain["target_2d"][:, :, [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13]] * np.array([-1, 1, 1], np.float32)
        np.testing.assert_array_equal(flip["target_2d"], mirrored)
    np.testing.assert_array_equal(flip["joints_2d"], flip["target_2d"])  # of the masked one: nothing else is switched on


def test_a_masked_batch_holds_nothing_of_3d(few_poses):
    poses = few_poses()
    told = masked(poses, range(4))
    assert told.keys() == {"joints_2d", "target_2d", "seen", "visible", "restore", "joint_mask"}
    other = tuple({**arrays, "joints_3d_camera_mm": arrays["joints_3d_camera_mm"] * 2 + 7} for arrays in poses._arrays)
    assert equal(told, masked(replace(poses, _arrays=other), range(4)))  # another 3D changes no bit


@settings(max_examples=60, deadline=None)
@given(
    ratio=st.floats(0, 0.99),
    num_frames=st.integers(1, 30),
    joints=st.integers(0, 16),
    seed=SEEDS,
    epoch=st.none() | st.integers(0, 10**6),
)
def test_as_many_frames_and_joints_are_hidden_as_the_settings_say(few_poses, ratio, num_frames, joints, seed, epoch):
    poses = few_poses({"S1/Walking 1/a": 40}, num_frames=num_frames)
    objective = MaskedAutoencoder(frame_mask_ratio=ratio, masked_joints=joints)
    told = masked(poses, [0, 1], objective=objective, seed=seed, epoch=epoch)
    num_visible = max(num_frames - round(ratio * num_frames), 1)
    assert told["visible"].shape == (2, num_visible)
    assert (np.diff(told["visible"], axis=1) > 0).all()
    np.testing.assert_array_equal(told["joint_mask"].sum(-1), np.full((2, num_frames), joints))
    for visible, restore in zip(told["visible"], told["restore"], strict=True):
        np.testing.assert_array_equal(restore[visible], np.arange(num_visible))
        hidden = np.setdiff1d(np.arange(num_frames), visible)
        np.testing.assert_array_equal(restore[hidden], np.full(len(hidden), num_visible))


def test_a_denoised_clip_keeps_its_truth_and_hides_whole_frames_and_joints(poses):
    objective = Denoising(joint_mask_ratio=0.3, frame_mask_ratio=0.3)
    told = denoising(poses, range(6), objective=objective, augmentation=AS_IT_IS)
    plain = lifting(poses, range(6), epoch=None)
    for name in ("target_2d", "joints_3d", "weight", "seen"):
        np.testing.assert_array_equal(told[name], plain[name])
    hidden = (told["joints_2d"] == 0).all(-1)[plain["seen"] > 0]
    assert hidden.all(-1).any()
    assert hidden[~hidden.all(-1)].any()
    seen = ~(told["joints_2d"] == 0).all(-1) & (plain["seen"] > 0)[..., None]
    offsets = (told["joints_2d"] - plain["joints_2d"])[seen]
    assert (offsets[:, :2] != 0).any(-1).all()
    assert np.abs(offsets[:, :2]).mean() < 0.1


def test_without_noise_and_masks_only_confidence_is_made_up(poses):
    objective = Denoising(noise=0, joint_mask_ratio=0, frame_mask_ratio=0)
    told = denoising(poses, range(6), objective=objective, augmentation=AS_IT_IS)
    np.testing.assert_array_equal(told["joints_2d"][..., :2], lifting(poses, range(6), epoch=None)["joints_2d"][..., :2])
