"""What the report shows of lifting and of pretraining."""

import numpy as np
import pytest

from triform.report.panels import Bars, Curves, Heatmaps, PoseClips, Table
from triform.run.metrics_log import Row
from triform.tasks.human_pose.config import Denoising, FrameTokens, MaskedAutoencoder, PoseLifting, PosePretraining
from triform.tasks.human_pose.evaluation import WHO, Evaluation
from triform.tasks.human_pose.measuring import evaluate_lifting, evaluate_pretraining
from triform.tasks.human_pose.panels import lifting_panels, pretraining_panels
from triform.tasks.human_pose.pretraining import PretrainingTask

HISTORY = [
    Row(step, split, name, value)
    for step in (1, 2)
    for split, name, value in (("train", "loss", 2.0 / step), ("train", "mpjpe", 0.1), ("val", "mpjpe", 90.0 / step), ("val", "other", 0.0))
]


@pytest.fixture(scope="module")
def evaluation(few_poses, exact) -> Evaluation:
    splits = {"train": few_poses(seed=1), "val": few_poses(seed=2), "test": few_poses(seed=3)}

    def attention(joints_2d: np.ndarray) -> dict[str, np.ndarray]:
        return {"0.joints": np.full((2, 17, 17), 1 / 17), "0.frames": np.full((2, 5, 5), 0.2)}

    splits["test"]._arrays[0]["confidence"][3, 2] = 0
    return evaluate_lifting(PoseLifting(encoder=FrameTokens()), splits, exact, attention, batch_size=4, seed=0)


def test_the_protocol_stands_beside_every_number(evaluation: Evaluation) -> None:
    shown = lifting_panels(evaluation, HISTORY)
    assert all(evaluation.protocol in panel.note for panel in shown if isinstance(panel, Table | Bars | PoseClips))
    table = shown[0]
    assert isinstance(table, Table)
    assert table.emphasize == 0
    assert table.rows[0][:3] == ("test", "this model", 3)
    assert [row[1] for row in table.rows] == [*WHO.values(), *WHO.values()]
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_bars_player_and_attention(evaluation: Evaluation) -> None:
    shown = lifting_panels(evaluation, [])
    actions, joints = (panel for panel in shown if isinstance(panel, Bars))
    assert actions.labels == ("Sitting", "Walking")
    assert [series.name for series in actions.series] == list(WHO.values())
    assert len(joints.labels) == 16
    assert "hip" not in joints.labels
    assert all(len(series.values) == 16 for series in joints.series)
    player = next(panel for panel in shown if isinstance(panel, PoseClips))
    assert (player.unit, player.up, len(player.parents)) == ("mm", (0, -1, 0), 17)
    assert sum(int(clip.hidden.sum()) for clip in player.clips if clip.hidden is not None) == 1
    for clip in player.clips:
        assert clip.truth is not None
        assert clip.prediction is not None
        np.testing.assert_allclose(clip.prediction, clip.truth, atol=0.1)
        np.testing.assert_allclose(clip.truth[:, 0], 0, atol=1e-3)
    maps = next(panel for panel in shown if isinstance(panel, Heatmaps))
    assert [(one.name, len(one.row_labels), one.values.shape) for one in maps.maps] == [("0.joints", 17, (17, 17)), ("0.frames", 0, (5, 5))]


def test_training_and_validation_stand_on_axes_of_their_own_unit(evaluation: Evaluation) -> None:
    charts = {panel.title: panel for panel in lifting_panels(evaluation, HISTORY) if isinstance(panel, Curves)}
    assert list(charts) == ["Loss", "Losses in training", "Validation"]
    assert [series.name for series in charts["Validation"].series] == ["mpjpe, val"]
    assert [series.name for series in charts["Losses in training"].series] == ["mpjpe, train"]
    assert charts["Validation"].y_label == "mm"


def test_hidden_joints_are_marked_in_the_clips_of_pretraining(few_poses) -> None:
    task = PretrainingTask(PosePretraining(encoder=FrameTokens(), objective=MaskedAutoencoder(frame_mask_ratio=0.4, masked_joints=3)))
    splits = {"train": few_poses(seed=1), "val": few_poses({"S1/Walking 1/a": 15}, seed=2)}
    found = evaluate_pretraining(task, splits, lambda batch: {"joints_2d": batch["target_2d"][..., :2] + 0.1}, batch_size=4, seed=0)
    table, player, *rest = pretraining_panels(found, [])
    assert isinstance(table, Table)
    assert isinstance(player, PoseClips)
    assert not rest
    assert [row[1] for row in table.rows] == ["this model", "linear interpolation in time"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    for clip in player.clips:
        assert clip.hidden is not None
        assert clip.hidden.sum() == 2 * 17 + 3 * 3
        assert clip.truth is not None
        assert clip.truth.shape == (5, 17, 3)
    assert player.unit == "half image widths"


def test_denoised_clips_are_shown_in_3d(few_poses) -> None:
    task = PretrainingTask(PosePretraining(encoder=FrameTokens(), objective=Denoising()))
    splits = {"train": few_poses(seed=1), "val": few_poses(seed=2)}
    found = evaluate_pretraining(task, splits, lambda batch: {"joints_3d": batch["joints_3d"] * 2}, batch_size=4, seed=0)
    table, player = pretraining_panels(found, [])
    assert isinstance(table, Table)
    assert isinstance(player, PoseClips)
    assert [row[1] for row in table.rows] == ["this model", "constant pose"]
    assert player.unit == "mm"
    for clip in player.clips:
        assert clip.truth is not None
        assert clip.prediction is not None
        known = np.isfinite(clip.truth)
        np.testing.assert_allclose(clip.prediction[known], 2 * clip.truth[known], rtol=1e-4, atol=1e-2)
