"""Batches, baselines, evaluation and panels, on small clouds of the tests' own."""

import json
from dataclasses import replace

import numpy as np
import pytest

from triform.data.clouds import Clouds
from triform.report.panels import CloudPairs, Curves, Scatter, Table
from triform.run.metrics_log import Row
from triform.tasks.point_autoencoder.baselines import best_constant, cd_l2_gradient, cd_l2_matrix, nearest_cloud
from triform.tasks.point_autoencoder.config import Augmentation, PointAutoencoder
from triform.tasks.point_autoencoder.evaluation import Evaluation, evaluate
from triform.tasks.point_autoencoder.metrics import METRICS, cd_l2, nearest_distances
from triform.tasks.point_autoencoder.panels import panels, principal_components

TASK = PointAutoencoder().build()


def ellipsoids(seed: int, count: int, *, num_points: int = 64) -> np.ndarray:
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(count, num_points, 3))
    points /= np.linalg.norm(points, axis=2, keepdims=True)
    return (points * generator.uniform(0.2, 1, (count, 1, 3))).astype(np.float32)


def clouds(split: str, seed: int, count: int) -> Clouds:
    points = ellipsoids(seed, count)
    return Clouds(
        names=tuple(f"{split}-{i}" for i in range(count)),
        points=points,
        resampled=None if split == "train" else points + np.float32(0.003),
        centroid=np.zeros((count, 3)),
        scale=np.arange(2.0, 2.0 + count),
        up_axis="z",
        unit="m",
        digest="",
    )


SPLITS = {"train": clouds("train", 0, 9), "val": clouds("val", 1, 2), "test": clouds("test", 2, 12)}


def shifted_copy(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    points = batch["points"]
    return {"reconstruction": points + np.float32([0.001, 0, 0]), "embedding": points.mean(1)}


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(TASK, SPLITS, shifted_copy, batch_size=5, seed=0)


def mean_cd_l2(cloud: np.ndarray, points: np.ndarray) -> float:
    return float(cd_l2(nearest_distances(np.repeat(cloud[None], len(points), axis=0), points)).mean())


def test_batches_are_the_clouds_unless_an_epoch_augments_them() -> None:
    train, indices = SPLITS["train"], np.array([4, 1])
    plain = TASK.batch(train, indices, seed=0, epoch=None)["points"]
    np.testing.assert_array_equal(plain, train.points[[4, 1]])
    turned = TASK.batch(train, indices, seed=0, epoch=3)["points"]
    np.testing.assert_array_equal(turned[1:], TASK.batch(train, indices[1:], seed=0, epoch=3)["points"])
    np.testing.assert_array_equal(turned[..., 2], plain[..., 2])
    assert not np.allclose(turned, plain)
    assert turned.dtype == np.float32
    still = replace(TASK.config, augmentation=Augmentation(rotate_up=False)).build()
    np.testing.assert_array_equal(still.batch(train, indices, seed=0, epoch=3)["points"], plain)


def test_the_gradient_of_the_constant_is_that_of_finite_differences() -> None:
    targets = ellipsoids(3, 4).astype(np.float64)
    cloud = ellipsoids(4, 1, num_points=5)[0].astype(np.float64)
    gradient = cd_l2_gradient(cloud, targets)
    for i, axis in ((0, 0), (2, 1), (4, 2)):
        step = np.zeros_like(cloud)
        step[i, axis] = 1e-6
        slope = (mean_cd_l2(cloud + step, targets) - mean_cd_l2(cloud - step, targets)) / 2e-6
        assert gradient[i, axis] == pytest.approx(slope, abs=1e-6)


def test_the_best_constant_is_better_than_every_training_cloud_and_than_the_mean_cloud() -> None:
    points = SPLITS["train"].points
    constant = best_constant(points, seed=0, iterations=100)
    score = mean_cd_l2(constant, points)
    assert score < mean_cd_l2(points.mean(0), points)
    assert score < min(mean_cd_l2(cloud, points) for cloud in points)
    np.testing.assert_array_equal(constant, best_constant(points, seed=0, iterations=100))


def test_the_nearest_cloud_is_exact_and_never_the_cloud_itself() -> None:
    train, test = SPLITS["train"].points, SPLITS["test"].points
    matrix = cd_l2_matrix(train, train)
    np.testing.assert_array_equal(nearest_cloud(test, train), cd_l2_matrix(test, train).argmin(1))
    np.testing.assert_array_equal(nearest_cloud(train, train), (matrix + np.diag(np.full(9, np.inf))).argmin(1))
    assert matrix[2, 5] == pytest.approx(mean_cd_l2(train[2], train[5:6]))
    np.testing.assert_array_equal(nearest_cloud(train[:1], train[:1].copy()), [0])


def test_every_split_is_measured_beside_its_floor_and_baselines(evaluation: Evaluation) -> None:
    assert list(evaluation.splits) == ["train", "val", "test"]
    assert list(evaluation.splits["train"].scores) == ["model", "best_constant", "nearest_training_cloud"]
    test = evaluation.splits["test"]
    assert list(test.scores) == ["model", "sampling_floor", "best_constant", "nearest_training_cloud"]
    np.testing.assert_allclose(test.scores["model"]["cd_l2"], 0.002, rtol=1e-3)
    np.testing.assert_allclose(test.scores["model"]["cd_l2_unit"], 0.002 * SPLITS["test"].scale, rtol=1e-3)
    np.testing.assert_allclose(test.scores["model"]["cd_squared_unit"], 2e-6 * SPLITS["test"].scale ** 2, rtol=1e-3)
    np.testing.assert_allclose(test.scores["sampling_floor"]["cd_l2"], 2 * 0.003 * np.sqrt(3), rtol=1e-3)
    assert test.scores["model"]["f_score_0.01"].tolist() == [1] * 12
    assert test.embedding.shape == (12, 3)


def test_the_summary_can_be_written_as_json_and_ranks_the_clouds(evaluation: Evaluation) -> None:
    summary = json.loads(json.dumps(evaluation.summary(), allow_nan=False))
    assert summary["shown_split"] == "test"
    assert summary["num_clouds"] == {"train": 9, "val": 2, "test": 12}
    assert summary["means"]["val"]["model"]["cd_l2"] == pytest.approx(0.002, rel=1e-3)
    ranking = evaluation.ranking()
    assert summary["best"] == ranking[:10]
    assert summary["worst"] == ranking[:1:-1]
    table = evaluation.table()
    assert len(table) == 23
    assert json.dumps(table)
    assert table[0]["nearest_training_name"].startswith("train-")
    assert table[0]["nearest_training_name"] != table[0]["name"]
    assert set(METRICS) < set(table[0])


def test_it_comes_back_whole_from_its_arrays(evaluation: Evaluation) -> None:
    arrays = evaluation.arrays()
    assert arrays["test/scores/model/cd_l2"].shape == (12,)
    back = Evaluation.from_arrays(arrays)
    assert back.summary() == evaluation.summary()
    assert back.table() == evaluation.table()
    assert back.headline() == evaluation.headline()
    shown = [(exhibit.name, exhibit.rank, exhibit.cd_l2) for exhibit in evaluation.splits["test"].exhibits]
    assert [(exhibit.name, exhibit.rank, exhibit.cd_l2) for exhibit in back.splits["test"].exhibits] == shown
    for name, array in back.arrays().items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)


def test_evaluation_gives_equal_bits(evaluation: Evaluation) -> None:
    again = evaluate(TASK, SPLITS, shifted_copy, batch_size=3, seed=0).arrays()
    for name, array in evaluation.arrays().items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)


def test_empty_splits_are_left_out() -> None:
    empty = clouds("test", 0, 0)
    found = evaluate(TASK, {"train": SPLITS["train"], "test": empty}, shifted_copy, batch_size=4, seed=0)
    assert list(found.splits) == ["train"]
    assert found.shown == "train"


def test_panels_show_scores_clouds_curves_and_latents(evaluation: Evaluation) -> None:
    history = [Row(step, split, "cd_l2", 1 / step) for step in (1, 2) for split in ("train", "val")]
    metric_table, pairs, seen, chart, worst, best, latents = panels(evaluation, [*history, Row(1, "val", "other", 0.5)])
    assert isinstance(metric_table, Table)
    assert metric_table.emphasize is not None
    assert metric_table.rows[metric_table.emphasize][:3] == ("test", "this model", 12)
    assert all(len(row) == len(metric_table.columns) for row in metric_table.rows)
    assert isinstance(pairs, CloudPairs)
    assert isinstance(seen, CloudPairs)
    assert [panel.title for panel in (pairs, seen)] == ["Reconstructions, test", "Reconstructions, train"]
    assert [pair.caption.split(",")[0] for pair in pairs.pairs] == ["best", "median", "worst"]
    scale = SPLITS["test"].scale[SPLITS["test"].names.index(pairs.pairs[0].name)]
    assert pairs.pairs[0].error is not None
    np.testing.assert_allclose(pairs.pairs[0].error, 0.001 * scale, rtol=1e-3)
    assert isinstance(chart, Curves)
    assert [(line.name, list(line.steps), list(line.values)) for line in chart.series] == [
        ("train", [1, 2], [1, 0.5]),
        ("val", [1, 2], [1, 0.5]),
    ]
    assert isinstance(worst, Table)
    assert isinstance(best, Table)
    assert len(worst.rows) == 10
    assert worst.rows[0][1] >= best.rows[0][1]
    assert isinstance(latents, Scatter)
    assert latents.points.shape == (23, 2)
    assert len(latents.labels) == len(latents.groups) == 23


def test_principal_components_find_the_long_axis() -> None:
    along = np.linspace(-1, 1, 9)
    vectors = np.outer(along, [3, 4, 0]) + 7.0
    points, share = principal_components(vectors)
    np.testing.assert_allclose(points[:, 0], 5 * along, atol=1e-12)
    np.testing.assert_allclose(points[:, 1], 0, atol=1e-12)
    assert share == pytest.approx(1)
    assert principal_components(np.ones((3, 1)))[1] == 0
