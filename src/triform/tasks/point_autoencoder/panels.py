"""What a report shows of a point autoencoder."""

from collections.abc import Iterable
from typing import Literal, cast

import numpy as np
from jaxtyping import Float, Float64

from triform.report.panels import Cell, CloudPair, CloudPairs, Curves, Panel, Scatter, Series, Table
from triform.tasks.point_autoencoder.evaluation import Evaluation, Exhibit, SplitEvaluation
from triform.tasks.point_autoencoder.metrics import METRICS
from triform.training.task import HistoryRow

WHO = {
    "model": "this model",
    "sampling_floor": "sampling floor",
    "best_constant": "best constant cloud",
    "nearest_training_cloud": "nearest training cloud",
}


def panels(evaluation: Evaluation, history: Iterable[HistoryRow]) -> tuple[Panel, ...]:
    """Return the panels in the order in which they are read."""
    rows = list(history)
    pairs = [cloud_pairs(evaluation, split) for split in dict.fromkeys((evaluation.shown, "train"))]
    found = (metric_table(evaluation), *pairs, *curves(rows), *extremes(evaluation), embedding_map(evaluation))
    return tuple(panel for panel in found if panel is not None)


def metric_table(evaluation: Evaluation) -> Table:
    """Means by split and by who drew; the model's row on the shown split is the one that matters."""
    lengths = ("cd_l2_unit",)
    rows: list[tuple[Cell, ...]] = []
    emphasize = 0
    for split_name, split in evaluation.splits.items():
        for who, scores in split.scores.items():
            if split_name == evaluation.shown and who == "model":
                emphasize = len(rows)
            rows.append((split_name, WHO[who], len(split.names), *(float(scores[name].mean()) for name in (*METRICS, *lengths))))
    units = tuple(f"{name.removesuffix('_unit')} ({evaluation.unit})" for name in lengths)
    return Table(
        "Reconstruction, mean over clouds",
        ("split", "drawn by", "clouds", *METRICS, *units),
        tuple(rows),
        note=(
            "Distances are in units of the unit sphere unless a unit is given. The sampling floor is the distance between two samplings "
            "of one scan: no model does better by more than chance. The best constant is one cloud, fitted to the training split, put "
            "for everything. A training cloud is compared with the nearest other one."
        ),
        emphasize=emphasize,
    )


def cloud_pairs(evaluation: Evaluation, name: str) -> CloudPairs:
    """Best, median and worst cloud of a split."""
    split = evaluation.splits[name]
    axis = cast(Literal["x", "y", "z"], evaluation.up_axis)
    pairs = tuple(_pair(exhibit) for exhibit in split.exhibits)
    return CloudPairs(f"Reconstructions, {name}", pairs, evaluation.unit, axis, note="Colour: distance to the nearest point.")


def _pair(exhibit: Exhibit) -> CloudPair:
    return CloudPair(
        name=exhibit.name,
        caption=f"{exhibit.rank}, cd_l2 {exhibit.cd_l2:.4f}",
        input=exhibit.input,
        reconstruction=exhibit.reconstruction,
        error=exhibit.error,
        input_error=exhibit.input_error,
    )


def extremes(evaluation: Evaluation) -> tuple[Table, Table]:
    """The ten worst and the ten best clouds of the shown split."""
    split, ranking = evaluation.splits[evaluation.shown], evaluation.ranking()
    worst, best = (_cloud_rows(split, names) for names in (ranking[::-1][:10], ranking[:10]))
    columns = ("cloud", "cd_l2", f"cd_l2 ({evaluation.unit})", "f_score_0.02", "best constant", "nearest training cloud", "its name")
    return (Table(f"Worst clouds, {evaluation.shown}", columns, worst), Table(f"Best clouds, {evaluation.shown}", columns, best))


def _cloud_rows(split: SplitEvaluation, names: list[str]) -> tuple[tuple[Cell, ...], ...]:
    model = split.scores["model"]
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        i = split.names.index(name)
        own = (float(model[metric][i]) for metric in ("cd_l2", "cd_l2_unit", "f_score_0.02"))
        others = (float(split.scores[who]["cd_l2"][i]) for who in ("best_constant", "nearest_training_cloud"))
        rows.append((name, *own, *others, split.nearest_names[i]))
    return tuple(rows)


def curves(history: list[HistoryRow]) -> tuple[Curves, ...]:
    """One chart for each kind of number in the history."""
    wanted = (("cd_l2", "Chamfer distance", True), ("learning_rate", "Learning rate", False), ("gradient_norm", "Gradient norm", True))
    charts = []
    for name, title, log_y in wanted:
        series = tuple(_series(history, split, name) for split in ("train", "val"))
        series = tuple(line for line in series if len(line.steps))
        if series:
            note = "Training clouds are augmented and measured in training mode." if name == "cd_l2" else ""
            charts.append(Curves(title, series, "step", name, log_y, note))
    return tuple(charts)


def _series(history: list[HistoryRow], split: str, name: str) -> Series:
    rows = [row for row in history if row.split == split and row.name == name]
    return Series(split, [row.step for row in rows], [row.value for row in rows])


def embedding_map(evaluation: Evaluation) -> Scatter | None:
    """Latent vectors of all clouds on their two main axes; None for fewer than three clouds."""
    embedding = np.concatenate([split.embedding for split in evaluation.splits.values()])
    if len(embedding) < 3:
        return None
    points, share = principal_components(embedding)
    labels = tuple(name for split in evaluation.splits.values() for name in split.names)
    groups = tuple(name for name, split in evaluation.splits.items() for _ in split.names)
    return Scatter("Latent vectors", points, labels, groups, note=f"The two main axes hold {share:.0%} of the variance.")


def principal_components(vectors: Float[np.ndarray, "vector value"]) -> tuple[Float64[np.ndarray, "vector 2"], float]:
    """Return coordinates on the two axes of greatest variance, and their share of it. Signs are fixed: each axis's greatest loading
    is positive."""
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    left, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1))[:, 0]
    total = float(np.square(sizes).sum())
    points = np.zeros((len(vectors), 2))
    count = min(2, len(sizes))
    points[:, :count] = (left * sizes * np.where(signs == 0, 1, signs))[:, :count]
    return points, float(np.square(sizes[:2]).sum()) / total if total > 0 else 0.0
