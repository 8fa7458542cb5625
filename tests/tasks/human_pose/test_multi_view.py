"""The pose on which cameras agree is the one that was filmed, and no given 3D has a part in it."""

from dataclasses import replace

import numpy as np
import pytest

from triform.data.poses.config import Clips
from triform.data.poses.poses import Frames, Poses, load_poses
from triform.data.poses.prepare import prepare
from triform.data.poses.stature import LEG_SHARE, leg_length_mm
from triform.datasets.pose_npz import PoseNpz
from triform.errors import DataError
from triform.tasks.human_pose.batch import AS_IT_IS, multi_view_batch
from triform.tasks.human_pose.config import FrameTokens, MultiView, PoseAugmentation, PosePretraining
from triform.tasks.human_pose.multi_view import agreed_frames
from triform.tasks.human_pose.pretraining import PretrainingTask

QUIET = MultiView(noise=0, joint_mask_ratio=0, frame_mask_ratio=0)


@pytest.fixture(scope="module")
def poses(people, tmp_path_factory) -> Poses:
    """People before four cameras that make no errors."""
    clips = {"num_frames": 9, "frame_stride": 2, "clip_stride": 20}
    folder = str(tmp_path_factory.mktemp("prepared") / "people")
    prepare(PoseNpz(data_dir=str(people), prepared_dir=folder, virtual_cameras=4, detection_noise=0.0, **clips), workers=1)
    return load_poses(folder, "train", Clips(**clips))


def agreed(poses: Poses, track: int, first: int = 0) -> tuple[Frames, Frames]:
    """As the cameras agree, and as given."""
    places = first + 2.0 * np.arange(9)
    return agreed_frames(poses, track, places, stature_m=1.7), poses.at(track, places)


def rooted(frames: Frames) -> np.ndarray:
    assert frames.joints_3d_mm is not None
    return frames.joints_3d_mm - frames.joints_3d_mm[:, :1]


def blinded(poses: Poses, **arrays: object) -> Poses:
    """Without 3D; or with other arrays in its place."""
    return replace(
        poses,
        _arrays=tuple({**{name: value for name, value in one.items() if name != "joints_3d_camera_mm"}, **arrays} for one in poses._arrays),
    )


def test_it_is_the_pose_that_was_filmed(poses):
    for track in range(len(poses.tracks)):
        found, given = agreed(poses, track)
        assert found.valid.all()
        true = rooted(given)
        scale = (rooted(found) * true).sum() / np.square(rooted(found)).sum()
        assert np.linalg.norm(scale * rooted(found) - true, axis=-1).mean() < 15  # of people of 1.7 m, before cameras without errors
        assert 0.8 < scale < 1.25


def test_the_size_is_the_statures(poses):
    frames = agreed_frames(poses, 0, np.arange(9.0), stature_m=1.5)
    assert leg_length_mm(rooted(frames)) == pytest.approx(LEG_SHARE * 1500)


def test_no_given_3d_is_read(poses):
    one, other = agreed(poses, 1)[0], agreed(blinded(poses), 1)[0]
    assert np.array_equal(one.joints_3d_mm, other.joints_3d_mm)


def test_where_the_cameras_stand_is_not_read(poses):
    turned = tuple(
        replace(track, camera={**track.camera, "rotation": np.eye(3).tolist(), "translation_mm": [0.0, 0.0, 0.0]}) for track in poses.tracks
    )
    one, other = agreed(poses, 2)[0], agreed(replace(poses, tracks=turned), 2)[0]
    assert np.array_equal(one.joints_3d_mm, other.joints_3d_mm)


def test_a_frame_that_a_camera_did_not_see_whole_counts_nowhere(poses):
    arrays = [dict(one) for one in poses._arrays]
    confidence = arrays[3]["confidence"].copy()
    confidence[4, 5] = 0
    arrays[3]["confidence"] = confidence
    found = agreed(replace(poses, _arrays=tuple(arrays)), 0)[0]
    assert found.valid.tolist() == [frame != 2 for frame in range(9)]
    assert not found.joints_3d_mm[2].any()


def test_where_cameras_saw_different_things_nothing_counts(poses):
    arrays = [dict(one) for one in poses._arrays]
    arrays[1]["joints_2d"] = np.random.default_rng(0).normal(scale=0.3, size=arrays[1]["joints_2d"].shape).astype(np.float32)
    found = agreed(replace(poses, _arrays=tuple(arrays)), 0)[0]
    assert not found.valid.any()


def test_too_few_cameras_are_refused_by_name(poses):
    pair = replace(poses, tracks=poses.tracks[:2], _arrays=poses._arrays[:2])
    with pytest.raises(DataError, match="was seen by 2 cameras"):
        agreed(pair, 0)


def test_a_track_without_a_camera_is_refused_by_name(poses):
    tracks = (replace(poses.tracks[0], camera=None), *poses.tracks[1:])
    with pytest.raises(DataError, match="has no camera"):
        agreed(replace(poses, tracks=tracks), 1)


def test_a_batch_holds_it_and_mirrors_it_with_the_2d(poses):
    flipped = PoseAugmentation(flip_probability=1.0)
    plain = multi_view_batch(poses, np.array([0, 5]), AS_IT_IS, QUIET, seed=0, epoch=0)
    mirrored = multi_view_batch(poses, np.array([0, 5]), flipped, QUIET, seed=0, epoch=0)
    frames = agreed_frames(poses, int(poses.clip_track[5]), poses.clip_start[5] + 2.0 * np.arange(9), stature_m=1.7)
    np.testing.assert_allclose(plain["joints_3d"][1], rooted(frames) / 1000, atol=1e-6)
    assert plain["weight"].all()
    for name in ("joints_2d", "joints_3d"):
        np.testing.assert_allclose(mirrored[name][:, :, 0, 0], -plain[name][:, :, 0, 0])
    np.testing.assert_allclose(mirrored["joints_3d"][..., 1, 2], plain["joints_3d"][..., 4, 2])  # the right hip is the left one's image


def test_clips_without_3d_are_learned_from_and_measured(poses):
    task = PretrainingTask(PosePretraining(encoder=FrameTokens(), objective=QUIET))
    unlabelled = replace(blinded(poses), labelled=np.zeros_like(poses.labelled))

    def exact(batch):
        return {"joints_3d": batch["joints_3d"]}

    assert task.validate({"val": unlabelled}, exact, batch_size=4, seed=0)["mpjpe"] == 0
    found = task.evaluate({"train": unlabelled, "test": unlabelled}, exact, batch_size=4, seed=0, say=lambda _: None)
    scores = found.scores("test", "model"), found.scores("test", "constant")
    assert scores[0]["mpjpe_mm"] == 0
    assert 50 < scores[1]["mpjpe_mm"] < 500
    assert "on which the cameras agree" in found.protocol
