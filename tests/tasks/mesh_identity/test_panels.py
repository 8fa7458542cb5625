"""What the report shows of an evaluation."""

from dataclasses import replace

import numpy as np
import pytest

from triform.report.panels import Curves, Histogram, MeshViews, Scatter, Table
from triform.run.metrics_log import Row
from triform.tasks.mesh_identity.config import EdgeLayer, MeshIdentity
from triform.tasks.mesh_identity.evaluation import Evaluation
from triform.tasks.mesh_identity.measuring import evaluate
from triform.tasks.mesh_identity.panels import panels

CONFIG = MeshIdentity(k=4, layers=(EdgeLayer(width=4, graph="spatial"),), gallery_draws=2)
HISTORY = [
    Row(step, split, name, value)
    for step in (1, 2)
    for split, name, value in (
        ("train", "loss", 2.0 / step),
        ("train", "triplet_loss", 1.0 / step),
        ("train", "positive_distance", 0.2),
        ("val", "rank_1", 0.4 * step),
        ("val", "unheard_of", 0.0),
    )
]


@pytest.fixture(scope="module")
def evaluation(few_meshes, vertices) -> Evaluation:
    faces = np.array([[i, i + 1, i + 2] for i in range(22)], np.int32)
    splits = {split: few_meshes(split, seed=i, faces=faces) for i, split in enumerate(("train", "val", "test"))}
    return evaluate(CONFIG, splits, vertices, batch_size=8, seed=0)


def test_the_models_row_is_the_one_that_matters(evaluation: Evaluation) -> None:
    table, verification = panels(evaluation, [])[:2]
    assert isinstance(table, Table)
    assert isinstance(verification, Table)
    assert table.title == "Identification of subjects that were never seen"
    assert table.emphasize == 0
    assert table.rows[0][:3] == ("test", "turned about y", "this model")
    assert all(len(row) == len(one.columns) for one in (table, verification) for row in one.rows)
    assert table.columns[3:] == ("rank_1", "rank_5", "rank_10", "map")
    assert verification.columns[3:] == ("eer", "tar_far_0.01", "tar_far_0.001", "auc")
    kabsch = next(i for i, row in enumerate(table.rows) if row[:3] == ("test", "turned about y", "Kabsch"))
    assert table.rows[kabsch][3] == "1.000"
    assert verification.rows[kabsch][verification.columns.index("tar_far_0.001")] is None
    assert verification.rows[kabsch][3] == "0.000"


def test_meshes_curves_distances_maps_and_confusions_are_shown(evaluation: Evaluation) -> None:
    shown = panels(evaluation, HISTORY)
    views, histogram = (next(one for one in shown if isinstance(one, kind)) for kind in (MeshViews, Histogram))
    assert [view.caption for view in views.views] == ["clearest", "middling", "least clear"]
    assert all(view.vertices.shape == (24, 3) and view.values.shape == (24,) for view in views.views)
    assert views.views[0].faces is not None
    np.testing.assert_allclose(views.views[0].vertices.mean(0), 0, atol=1e-5)
    assert views.views[0].vertices.std() == pytest.approx(2, rel=0.3)
    assert [int(np.sum(series.counts)) for series in histogram.series] == [4 * 3, 66 - 12]
    charts = {chart.title: chart for chart in shown if isinstance(chart, Curves)}
    assert list(charts) == ["Loss", "Validation", "Distances within and between subjects"]
    assert [line.name for line in charts["Loss"].series] == ["loss, train", "triplet_loss, train"]
    assert list(charts["Validation"].series[0].values) == [0.4, 0.8]
    scatter = next(one for one in shown if isinstance(one, Scatter))
    assert scatter.points.shape == (12, 2)
    assert len(scatter.labels) == len(scatter.groups) == 12
    confusions = shown[-1]
    assert isinstance(confusions, Table)
    assert confusions.title == "Worst confusions, test"


def test_an_evaluation_without_confusions_or_views_shows_none(evaluation: Evaluation) -> None:
    test = replace(evaluation.splits["test"], confusions=())
    bare = replace(evaluation, splits={"test": test}, exhibits=(), maps={})
    assert [type(panel) for panel in panels(bare, [])] == [Table, Table, Histogram]
