"""What a report shows of lifting and of pretraining."""

from collections.abc import Iterable

import numpy as np

from triform.geometry.skeletons import H36M_17
from triform.report.panels import (
    Bars,
    BarSeries,
    Curves,
    Heatmap,
    Heatmaps,
    Panel,
    PoseClip,
    PoseClips,
    Series,
    Table,
)
from triform.tasks.human_pose.evaluation import WHO, Evaluation, Exhibit
from triform.tasks.human_pose.metrics import METRICS
from triform.tasks.human_pose.pretraining_evaluation import PARTS, PretrainingEvaluation, PretrainingExhibit
from triform.tasks.human_pose.pretraining_evaluation import WHO as PRETRAINING_WHO
from triform.training.task import HistoryRow

CHARTS = (
    ("loss", "Loss", ("loss",), True),
    ("network's unit", "Losses in training", ("mpjpe", "n_mpjpe", "velocity", "reprojection", "bone_length", "symmetry"), True),
    ("mm", "Validation", ("mpjpe", "p_mpjpe", "n_mpjpe"), False),
    ("mm a frame", "Validation of motion", ("mpjve",), False),
    ("image 2 wide", "2D distance", ("hidden", "visible", "reconstruction"), True),
    ("learning_rate", "Learning rate", ("learning_rate",), False),
    ("gradient_norm", "Gradient norm", ("gradient_norm",), True),
)
"""Vertical axis, title, names in the metrics log, whether the axis is logarithmic. Training's joints are in the network's unit, those of
validation in mm."""
_SPLITS = {"Losses in training": ("train",), "Validation": ("val",), "Validation of motion": ("val",)}
METRICS_NOTE = (
    "Root-relative; p_mpjpe after the best similarity of each frame, n_mpjpe after its best scale. pck_150mm: share of 14 joints that "
    "are off by less than 150 mm; auc: its mean over thresholds of 0 to 150 mm. Ridge regression sees the same frames of 2D and learns "
    "from the same sequences; the constant pose is the mean of theirs."
)


def lifting_panels(evaluation: Evaluation, history: Iterable[HistoryRow]) -> tuple[Panel, ...]:
    """Return the panels in the order in which they are read."""
    found = (metric_table(evaluation), pose_clips(evaluation), by_action(evaluation), by_joint(evaluation), *curves(list(history)))
    return tuple(panel for panel in (*found, action_table(evaluation), attention(evaluation)) if panel is not None)


def metric_table(evaluation: Evaluation) -> Table:
    """Every metric by split and by who lifts; the model's row on the shown split is the one that matters."""
    keys = [(split, who) for split in sorted(evaluation.splits, key=lambda name: name != evaluation.shown) for who in WHO]
    rows = []
    for split, who in keys:
        told = evaluation.splits[split]
        values = told.scores(who, evaluation.average)
        rows.append((split, WHO[who], len(told.names), *(_rounded(values[name]) for name in METRICS)))
    note = _joined(evaluation.protocol, METRICS_NOTE)
    return Table(
        "Errors", ("split", "lifted by", "tracks", *METRICS), tuple(rows), note=note, emphasize=keys.index((evaluation.shown, "model"))
    )


def by_action(evaluation: Evaluation) -> Bars:
    """MPJPE of each action of the shown split."""
    split = evaluation.splits[evaluation.shown]
    told = {who: split.per_action(who) for who in WHO}
    actions = tuple(told["model"])
    series = tuple(BarSeries(WHO[who], [_value(told[who][action]["mpjpe_mm"]) for action in actions]) for who in WHO)
    return Bars(f"MPJPE by action, {evaluation.shown}", actions, series, "mm", note=evaluation.protocol)


def by_joint(evaluation: Evaluation) -> Bars:
    """Error of each joint of the shown split; the root's is 0 by definition and left out."""
    split, joints = evaluation.splits[evaluation.shown], [i for i in range(len(H36M_17.joints)) if i != H36M_17.root]
    series = tuple(BarSeries(WHO[who], split.per_joint(who, evaluation.average)[joints]) for who in WHO)
    return Bars(f"Error by joint, {evaluation.shown}", tuple(H36M_17.joints[i] for i in joints), series, "mm", note=evaluation.protocol)


def action_table(evaluation: Evaluation) -> Table:
    """The model's metrics of each action of the shown split, the worst first."""
    told = evaluation.splits[evaluation.shown].per_action("model")
    order = sorted(told, key=lambda action: -_value(told[action]["mpjpe_mm"]))
    rows = tuple((action, *(_rounded(told[action][name]) for name in METRICS)) for action in order)
    return Table(f"By action, {evaluation.shown}", ("action", *METRICS), rows, note=evaluation.protocol)


def pose_clips(evaluation: Evaluation) -> PoseClips | None:
    """The tracks that were lifted best, middling and worst."""
    if not evaluation.exhibits:
        return None
    x, y, z = (float(value) for value in evaluation.up)
    clips = tuple(_clip(exhibit) for exhibit in evaluation.exhibits)
    about = f"The beginnings of the best, the middling and the worst track of {evaluation.shown}, without flip averaging"
    return _player("Lifted poses", clips, "mm", (x, y, z), _joined(about, evaluation.protocol))


def _clip(exhibit: Exhibit) -> PoseClip:
    caption = f"{exhibit.rank}, MPJPE {exhibit.mpjpe_mm:.1f} mm"
    unseen = exhibit.confidence == 0
    return PoseClip(exhibit.name, caption, exhibit.truth, exhibit.prediction, exhibit.input_2d, unseen, exhibit.frame_rate)


def _player(title: str, clips: tuple[PoseClip, ...], unit: str, up: tuple[float, float, float], note: str) -> PoseClips:
    return PoseClips(title, clips, H36M_17.parents, H36M_17.left, H36M_17.right, unit, up, note=note)


def attention(evaluation: Evaluation) -> Heatmaps | None:
    """What the layers look at in one window; None where it was not asked for."""
    if not evaluation.attention:
        return None
    maps = []
    for name, values in evaluation.attention.items():
        labels = H36M_17.joints if name.endswith("joints") and values.shape == (17, 17) else ()
        maps.append(Heatmap(name, "joints" if labels else "frames", values, labels, labels))
    note = f"Mean over heads, in the first window of the middling track of {evaluation.shown}. Rows look at columns; each row sums to 1."
    return Heatmaps(f"Attention ({evaluation.encoder})", tuple(maps), note=note)


def pretraining_panels(evaluation: PretrainingEvaluation, history: Iterable[HistoryRow]) -> tuple[Panel, ...]:
    """Return the panels in the order in which they are read."""
    found = (pretraining_table(evaluation), pretraining_clips(evaluation), *curves(list(history)))
    return tuple(panel for panel in found if panel is not None)


def pretraining_table(evaluation: PretrainingEvaluation) -> Table:
    """Every metric by split and by who fills in; the model's row on the shown split is the one that matters."""
    names = sorted(evaluation.splits, key=lambda name: name != evaluation.shown)
    keys = [(split, who) for split in names for who in evaluation.splits[split].sums]
    rows = tuple(
        (split, PRETRAINING_WHO[who], len(evaluation.splits[split].names), *map(_rounded, evaluation.scores(split, who).values()))
        for split, who in keys
    )
    masked = "2D distances where the image is 2 wide, and in pixels; hidden frames and hidden joints of visible frames apart as well."
    about = masked if _is_masked(evaluation) else "Joints that were lifted from 2D with an imitated detector's errors and hidden joints."
    title = "Hidden joints given back" if _is_masked(evaluation) else "Corrupted joints lifted"
    columns = ("split", "by", "clips", *evaluation.metrics)
    return Table(title, columns, rows, note=_joined(evaluation.protocol, about), emphasize=keys.index((evaluation.shown, "model")))


def pretraining_clips(evaluation: PretrainingEvaluation) -> PoseClips | None:
    """The clips that were filled in best, middling and worst."""
    if not evaluation.exhibits:
        return None
    unit = "half image widths" if _is_masked(evaluation) else "mm"
    metric = f"{PARTS[0]} {{:.4f}}" if _is_masked(evaluation) else "MPJPE {:.1f} mm"
    clips = tuple(_pretraining_clip(one, f"{one.rank}, {metric.format(one.error)}") for one in evaluation.exhibits)
    note = _joined("Marked joints were hidden from the network", evaluation.protocol)
    return _player(f"What was hidden, {evaluation.shown}", clips, unit, (0.0, -1.0, 0.0), note)


def _pretraining_clip(exhibit: PretrainingExhibit, caption: str) -> PoseClip:
    """2D joints stand in the plane that faces the camera."""
    width = ((0, 0), (0, 0), (0, 3 - exhibit.truth.shape[-1]))
    truth, prediction = (np.pad(part, width) for part in (exhibit.truth, exhibit.prediction))
    return PoseClip(exhibit.name, caption, truth, prediction, exhibit.input_2d, exhibit.hidden, exhibit.frame_rate)


def _is_masked(evaluation: PretrainingEvaluation) -> bool:
    return evaluation.objective == "masked_autoencoder"


def curves(history: list[HistoryRow]) -> tuple[Curves, ...]:
    """One chart for each kind of number in the history; a series for each name and split."""
    charts = []
    for y_label, title, names, log_y in CHARTS:
        splits = _SPLITS.get(title, ("train", "val"))
        lines = (_series(history, split, name, several=len(names) > 1) for name in names for split in splits)
        series = tuple(line for line in lines if len(line.steps))
        if series:
            charts.append(Curves(title, series, "step", y_label, log_y))
    return tuple(charts)


def _series(history: list[HistoryRow], split: str, name: str, *, several: bool) -> Series:
    rows = [row for row in history if row.split == split and row.name == name]
    return Series(f"{name}, {split}" if several else split, [row.step for row in rows], [row.value for row in rows])


def _joined(*sentences: str) -> str:
    return " ".join(f"{sentence.rstrip('.')}." for sentence in sentences)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _value(value: float | None) -> float:
    return float("nan") if value is None else value
