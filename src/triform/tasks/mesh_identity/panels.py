"""What a report shows of mesh identity."""

from collections.abc import Iterable, Iterator
from typing import Literal, cast

import numpy as np

from triform.report.panels import (
    Cell,
    Curves,
    Histogram,
    HistogramSeries,
    MeshView,
    MeshViews,
    Panel,
    Scatter,
    Series,
    Table,
)
from triform.tasks.mesh_identity.evaluation import METRICS, WHO, Evaluation, Exhibit
from triform.tasks.mesh_identity.metrics import Measure
from triform.training.task import HistoryRow

CHARTS = (
    ("loss", "Loss", ("loss", "classification_loss", "triplet_loss"), True),
    ("recognition", "Validation", ("rank_1", "eer"), False),
    ("accuracy", "Accuracy", ("accuracy",), False),
    (
        "pair distances",
        "Distances within and between subjects",
        ("positive_distance", "negative_distance", "genuine_distance", "impostor_distance"),
        False,
    ),
    ("share", "Active triplets", ("active_triplets",), False),
    ("learning_rate", "Learning rate", ("learning_rate",), False),
    ("gradient_norm", "Gradient norm", ("gradient_norm",), True),
)
"""Vertical axis, title, names in the metrics log, whether the axis is logarithmic."""


def panels(evaluation: Evaluation, history: Iterable[HistoryRow]) -> tuple[Panel, ...]:
    """Return the panels in the order in which they are read."""
    rows = list(history)
    found = (*metric_tables(evaluation), mesh_views(evaluation), *curves(rows), distance_histogram(evaluation))
    return tuple(panel for panel in (*found, *embedding_maps(evaluation), confusions(evaluation)) if panel is not None)


def metric_tables(evaluation: Evaluation) -> Iterator[Table]:
    """Every metric by split, pose and who, what counts first; the model's row there matters most."""
    scores = sorted(evaluation.scores(), key=lambda row: (row[0] != evaluation.shown, row[1] != evaluation.pose))
    for title, note, metrics in TABLES:
        names = [name for name in metrics if any(name in told for *_, told in scores)]
        if names:
            rows = ((split, pose, WHO[who], *(_cell(told.get(name)) for name in names)) for split, pose, who, told in scores)
            emphasize = next(i for i, (_, _, who, _) in enumerate(scores) if who == "model")
            yield Table(title, ("split", "meshes", "by", *names), tuple(rows), note=note, emphasize=emphasize)


ALIGNED = "Kabsch turns each mesh to the mean of the training meshes; LDA is learned on the training subjects."
TABLES = (
    (
        "Identification of subjects that were never seen",
        "Mean ± standard deviation over drawn galleries. One mesh of each subject is its gallery, the others are probes; rank_k is the "
        f"share of probes whose subject is among the k nearest in the gallery, map the mean of 1 / rank. {ALIGNED}",
        METRICS[:4],
    ),
    (
        "Verification of subjects that were never seen",
        "Over all pairs of meshes, ± the standard deviation over random halves of the subjects. eer is where as many pairs are falsely "
        "accepted as falsely rejected, tar_far the share of true pairs accepted at a false accept rate (left out where there are too "
        "few pairs), auc the area under the curve of both.",
        METRICS[4:-1],
    ),
    (
        "Recognition of the training subjects",
        "Share of meshes whose subject is named, ± the standard deviation over random halves of the subjects. Raw vertices and Kabsch "
        f"name the subject of the nearest training mesh. {ALIGNED}",
        METRICS[-1:],
    ),
)
"""Title, note and metrics."""


def _cell(measure: Measure | None) -> Cell:
    if measure is None:
        return None
    return f"{measure.mean:.3f} ± {measure.deviation:.3f}" if measure.deviation else f"{measure.mean:.3f}"


def mesh_views(evaluation: Evaluation) -> MeshViews | None:
    """A few meshes of the shown split, coloured by which vertices drive identity."""
    if not evaluation.exhibits:
        return None
    return MeshViews(
        "What drives identity",
        tuple(_view(evaluation, exhibit) for exhibit in evaluation.exhibits),
        evaluation.unit,
        cast(Literal["x", "y", "z"], evaluation.up_axis),
        value_label="distance the embedding moves",
        note=(
            "How far the embedding, a unit vector, moves when a patch around a vertex is removed; the mean over all patches that hold "
            f"it. The meshes of {evaluation.shown} that are told apart most, middling and least clearly."
        ),
    )


def _view(evaluation: Evaluation, exhibit: Exhibit) -> MeshView:
    return MeshView(exhibit.name, exhibit.rank, exhibit.vertices, evaluation.faces, exhibit.values)


def curves(history: list[HistoryRow]) -> tuple[Curves, ...]:
    """One chart for each kind of number in the history; a series for each name and split."""
    charts = []
    for y_label, title, names, log_y in CHARTS:
        several = len(names) > 1
        lines = (_series(history, split, name, several=several) for name in names for split in ("train", "val"))
        series = tuple(line for line in lines if len(line.steps))
        if series:
            charts.append(Curves(title, series, "step", y_label, log_y))
    return tuple(charts)


def _series(history: list[HistoryRow], split: str, name: str, *, several: bool) -> Series:
    rows = [row for row in history if row.split == split and row.name == name]
    return Series(f"{name}, {split}" if several else split, [row.step for row in rows], [row.value for row in rows])


def distance_histogram(evaluation: Evaluation) -> Histogram:
    """Distances of pairs of one subject beside those of pairs of two."""
    split = evaluation.splits[evaluation.shown]
    kinds = (("genuine: one subject", split.genuine), ("impostor: two subjects", split.impostor))
    series = tuple(HistogramSeries(name, evaluation.edges, counts) for name, counts in kinds)
    told = ", ".join(f"{int(counts.sum())} {name.split(':')[0]} pairs" for name, counts in kinds)
    return Histogram(
        f"Distances between embeddings, {evaluation.shown}",
        series,
        x_label="distance",
        y_label="share of pairs",
        note=f"{told}. Meshes {evaluation.pose}.",
    )


def embedding_maps(evaluation: Evaluation) -> tuple[Scatter, ...]:
    """The shown split's embedding in the plane by every method, coloured by subject."""
    split = evaluation.splits[evaluation.shown]
    notes = {"PCA": f"The two axes of greatest variance. {evaluation.map_note}"}
    other = "Near points were near; axes, sizes and far distances mean nothing."
    return tuple(
        Scatter(
            f"Embedding of {evaluation.shown}, {method}",
            points,
            split.names,
            split.subjects,
            note=notes.get(method, other).strip(),
            noun="subjects",
        )
        for method, points in evaluation.maps.items()
    )


def confusions(evaluation: Evaluation) -> Table | None:
    """The meshes of the shown split that are most surely taken for another subject."""
    told = evaluation.splits[evaluation.shown].confusions
    if not told:
        return None
    surely = "share of galleries" if evaluation.protocol == "open_set" else "probability"
    rows = tuple((one.mesh, one.subject, one.taken_for, float(np.round(one.share, 4))) for one in told)
    return Table(f"Worst confusions, {evaluation.shown}", ("mesh", "subject", "taken for", surely), rows)
