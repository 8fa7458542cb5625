"""What evaluation and validation say of models whose errors are known."""

import io
from dataclasses import replace

import numpy as np
import pytest

from triform.errors import DataError, Diverged
from triform.tasks.human_pose.config import Denoising, FrameTokens, MaskedAutoencoder, PoseLifting, PosePretraining
from triform.tasks.human_pose.evaluation import Evaluation
from triform.tasks.human_pose.measuring import MOST_SHOWN, evaluate_lifting, evaluate_pretraining
from triform.tasks.human_pose.pretraining import PretrainingTask
from triform.tasks.human_pose.pretraining_evaluation import PretrainingEvaluation
from triform.tasks.human_pose.validation import validation_lifting, validation_pretraining

CONFIG = PoseLifting(encoder=FrameTokens())
TRAIN = {f"S{i}/Walking {i}/a": 60 + i for i in range(3)}
TEST = {"S8/Walking 1/a": 23, "S8/Walking 2/a": 3, "S8/Sitting 1/a": 12, "S9/Eating 1/a": MOST_SHOWN + 7}


def shifted(exact, by: tuple[float, float, float]):
    """Exact but for all joints besides the root, which are off by so many metres."""

    def predict(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        off = np.array(by, np.float32) * (np.arange(17) > 0)[:, None]
        return {"joints_3d": exact(batch)["joints_3d"] + off.astype(np.float32)}

    return predict


def measured(few_poses, predict, **changes) -> Evaluation:
    splits = {"train": few_poses(TRAIN, seed=1, **changes), "val": few_poses(seed=2, **changes), "test": few_poses(TEST, seed=3, **changes)}
    return evaluate_lifting(CONFIG, splits, predict, batch_size=2, seed=0)


def test_a_perfect_model_has_no_error_and_baselines_have(few_poses, exact) -> None:
    found = measured(few_poses, exact).headline()
    assert list(found) == ["val", "test"]
    assert next(iter(found["test"])) == "mpjpe_mm"
    for told in found.values():
        for name in ("mpjpe_mm", "p_mpjpe_mm", "n_mpjpe_mm", "mpjpe_mm_flip", "mpjve_mm_frame"):
            assert told[name] == pytest.approx(0, abs=1e-2)
        assert told["pck_150mm"] == 1
        assert told["mpjpe_mm_constant"] > told["mpjpe_mm_ridge"] > 0.1


def test_flip_averaging_takes_out_a_shift_to_the_side(few_poses, exact) -> None:
    found = measured(few_poses, shifted(exact, (0.02, 0, 0))).headline()["test"]
    assert found["mpjpe_mm"] == pytest.approx(20 * 16 / 17, rel=1e-3)
    assert found["mpjpe_mm_flip"] == pytest.approx(0, abs=1e-2)
    assert found["mpjve_mm_frame"] == pytest.approx(0, abs=1e-2)


def test_the_root_and_the_average_over_actions_are_as_the_protocol_says(few_poses, exact) -> None:
    """Frames whose 2D was not detected are off by 170 mm: 6 of 26 walking, none of the others."""
    splits = {"train": few_poses(TRAIN, seed=1), "test": few_poses(TEST, seed=3)}
    walking = [track.action for track in splits["test"].tracks].index("Walking")
    splits["test"]._arrays[walking]["confidence"][:6] = 0

    def predict(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        unseen = batch["joints_2d"][..., 2:] == 0
        return {"joints_3d": exact(batch)["joints_3d"] + np.where(unseen & (np.arange(17)[:, None] == 3), np.float32(0.17), 0) * [0, 0, 1]}

    by_action = evaluate_lifting(CONFIG, splits, predict, batch_size=2, seed=0)
    per_frame = 6 * 10 / 26
    assert by_action.headline()["test"]["mpjpe_mm"] == pytest.approx(per_frame / 3, rel=1e-3)
    split = by_action.splits["test"]
    assert split.per_action("model")["Walking"]["mpjpe_mm"] == pytest.approx(per_frame, rel=1e-3)
    assert split.per_joint("model", "action")[3] == pytest.approx(17 * per_frame / 3, rel=1e-3)
    every = evaluate_lifting(CONFIG, {name: replace(data, average="frame") for name, data in splits.items()}, predict, batch_size=2, seed=0)
    assert every.headline()["test"]["mpjpe_mm"] == pytest.approx(6 * 10 / sum(TEST.values()), rel=1e-3)


def test_units_of_frames_and_frames_that_are_not_valid(few_poses, exact) -> None:
    splits = {"train": few_poses(TRAIN, seed=1), "val": few_poses(seed=3)}
    for arrays in splits["val"]._arrays:
        arrays["mm_per_unit"] = np.full(len(arrays["valid"]), 500, np.float32)
        arrays["valid"][2] = 0
        arrays["joints_3d_camera_mm"][2] = np.nan

    def doubled(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"joints_3d": 2 * exact(batch)["joints_3d"]}

    found = evaluate_lifting(CONFIG, splits, doubled, batch_size=2, seed=0)
    assert found.headline()["val"]["mpjpe_mm"] == pytest.approx(0, abs=1e-2)
    assert validation_lifting(splits["val"], doubled, batch_size=2)["mpjpe"] == pytest.approx(0, abs=1e-2)
    assert all(np.isnan(one.truth[2]).all() and np.isfinite(one.truth[3]).all() for one in found.exhibits)


def test_all_of_it_comes_back_from_its_arrays(few_poses, exact) -> None:
    splits = {"train": few_poses(TRAIN, seed=1), "test": few_poses(TEST, seed=3)}
    looked: list[np.ndarray] = []

    def attention(joints_2d: np.ndarray) -> dict[str, np.ndarray]:
        looked.append(joints_2d)
        return {"0.joints": np.ones((4, 17, 17)), "0.frames": np.stack([np.eye(5), 3 * np.eye(5)]), "joints_3d": joints_2d}

    found = evaluate_lifting(CONFIG, splits, shifted(exact, (0, 0.01, 0)), attention, batch_size=2, seed=0)
    assert looked[0].shape == (1, 5, 17, 3)
    assert list(found.attention) == ["0.joints", "0.frames"]
    np.testing.assert_array_equal(found.attention["0.frames"], 2 * np.eye(5))
    assert [one.rank for one in found.exhibits] == ["best", "median", "worst"]
    assert max(len(one.truth) for one in found.exhibits) <= MOST_SHOWN
    packed = io.BytesIO()
    np.savez(packed, **found.arrays())
    packed.seek(0)
    with np.load(packed, allow_pickle=False) as arrays:
        again = Evaluation.from_arrays(dict(arrays))
    assert again.headline() == found.headline()
    assert again.summary() == found.summary()
    assert again.table() == found.table()
    assert again.facts() == found.facts()
    assert again.protocol in again.title
    assert [one.name for one in again.exhibits] == [one.name for one in found.exhibits]
    for one, other in zip(again.exhibits, found.exhibits, strict=True):
        np.testing.assert_array_equal(one.prediction, other.prediction)
        assert (one.mpjpe_mm, one.frame_rate) == (other.mpjpe_mm, other.frame_rate)


def test_the_table_has_a_row_for_each_track(few_poses, exact) -> None:
    rows = measured(few_poses, exact).table()
    assert [row["name"] for row in rows if row["split"] == "test"] == sorted(TEST)
    short = next(row for row in rows if row["name"] == "S8/Walking 2/a")
    assert (short["sequence"], short["action"], short["camera"], short["frames"]) == ("S8/Walking 2", "Walking", "a", 3)
    assert short["mpjpe_mm"] == pytest.approx(0, abs=1e-2)
    assert short["mpjpe_mm_ridge"] > 0


def test_validation_says_the_same_as_evaluation(few_poses, exact) -> None:
    """Where windows do not overlap; velocity lacks the displacements between clips, so that a standing error is asked."""
    lengths = {"S1/Walking 1/a": 20, "S1/Sitting 1/a": 10}
    predict = shifted(exact, (0, 0.01, 0.02))
    val = few_poses(lengths, seed=2)
    told = validation_lifting(val, predict, batch_size=3)
    found = evaluate_lifting(CONFIG, {"train": few_poses(TRAIN, seed=1), "val": val}, predict, batch_size=3, seed=0).headline()["val"]
    assert told == pytest.approx(
        {"mpjpe": found["mpjpe_mm"], "p_mpjpe": found["p_mpjpe_mm"], "n_mpjpe": found["n_mpjpe_mm"], "mpjve": 0}, abs=1e-2
    )
    assert told["mpjpe"] == pytest.approx(np.hypot(10, 20) * 16 / 17, rel=1e-3)


def test_validation_counts_every_frame_once_and_no_padding(few_poses, exact) -> None:
    val = few_poses({"S1/Walking 1/a": 7}, seed=2, frame_stride=2, num_frames=3)

    def predict(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        padded = batch["seen"] == 0
        return {"joints_3d": exact(batch)["joints_3d"] + np.where(padded[..., None, None], np.float32(9), 0)}

    assert len(val.names) > 2
    assert validation_lifting(val, predict, batch_size=2)["mpjpe"] == pytest.approx(0, abs=1e-2)


def test_what_is_not_finite_or_not_there_is_told(few_poses, exact) -> None:
    val = few_poses(seed=2)
    with pytest.raises(Diverged, match="not finite"):
        validation_lifting(val, lambda batch: {"joints_3d": np.full_like(batch["joints_2d"], np.inf)}, batch_size=3)
    blind = replace(val, labelled=np.zeros(len(val.names), bool), tracks=tuple(replace(track, labelled=False) for track in val.tracks))
    with pytest.raises(DataError, match="no clip"):
        validation_lifting(blind, exact, batch_size=3)
    with pytest.raises(DataError, match="no track with 3D"):
        evaluate_lifting(CONFIG, {"train": val, "val": blind}, exact, batch_size=3, seed=0)


def masked_task() -> PretrainingTask:
    return PretrainingTask(PosePretraining(encoder=FrameTokens(), objective=MaskedAutoencoder(frame_mask_ratio=0.4, masked_joints=3)))


def off_where_hidden(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """3 and 4 tenths of a unit off in hidden frames, 0.1 in hidden joints of visible ones."""
    frames = (batch["restore"] == batch["visible"].shape[1])[..., None, None]
    joints = (batch["joint_mask"] > 0)[..., None] & ~frames
    return {"joints_2d": batch["target_2d"][..., :2] + np.where(frames, [0.3, 0.4], 0) + np.where(joints, [0.1, 0], 0)}


def test_masked_clips_are_measured_where_they_were_hidden(few_poses) -> None:
    lengths = {"S1/Walking 1/a": 20, "S1/Sitting 1/a": 10}
    splits = {"train": few_poses(TRAIN, seed=1), "val": few_poses(lengths, seed=2)}
    found = evaluate_pretraining(masked_task(), splits, off_where_hidden, batch_size=4, seed=0)
    headline, told = found.headline()["val"], found.scores("val", "model")
    hidden = (0.5 * 2 * 17 + 0.1 * 3 * 3) / (2 * 17 + 3 * 3)
    assert list(headline) == ["hidden", "hidden_interpolation", "visible", "reconstruction", "hidden_px"]
    assert told["hidden"] == pytest.approx(hidden, rel=1e-5)
    assert told["hidden_frames"] == pytest.approx(0.5, rel=1e-5)
    assert told["hidden_joints"] == pytest.approx(0.1, rel=1e-5)
    assert told["visible"] == pytest.approx(0, abs=1e-6)
    assert told["hidden_px"] == pytest.approx(500 * hidden, rel=1e-5)
    assert 0 < headline["hidden_interpolation"] < 0.5
    validated = validation_pretraining(masked_task(), splits["val"], off_where_hidden, batch_size=4, seed=0)
    assert validated == pytest.approx({"hidden": told["hidden"], "reconstruction": told["reconstruction"]})
    assert found.protocol == "2D of a made-up world; mean over all joints of all clips"
    assert [label for label, *_ in found.facts()] == ["Hidden joints, val"]
    assert len(found.table()) == 6
    again = PretrainingEvaluation.from_arrays(found.arrays())
    assert again.summary() == found.summary()
    assert again.table() == found.table()
    assert [(one.name, one.rank) for one in again.exhibits] == [(one.name, one.rank) for one in found.exhibits]


def test_denoising_is_measured_in_millimetres_beside_the_constant_pose(few_poses) -> None:
    task = PretrainingTask(PosePretraining(encoder=FrameTokens(), objective=Denoising()))
    splits = {"train": few_poses(TRAIN, seed=1), "val": few_poses(seed=2)}

    def predict(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"joints_3d": batch["joints_3d"] + np.array([0.01, 0, 0], np.float32) * (np.arange(17) > 0)[:, None].astype(np.float32)}

    told = evaluate_pretraining(task, splits, predict, batch_size=4, seed=0).headline()["val"]
    assert told["mpjpe_mm"] == pytest.approx(10 * 16 / 17, rel=1e-4)
    assert told["mpjpe_mm_constant"] > 10
    assert validation_pretraining(task, splits["val"], predict, batch_size=4, seed=0) == pytest.approx({"mpjpe": told["mpjpe_mm"]})
