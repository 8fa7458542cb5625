"""What `evaluate` and `stop` leave: metrics, a table, arrays that any reader opens."""

import csv
import json
import shutil

import numpy as np
import pytest

from triform.run.commit import commits
from triform.run.folder import RunFolder
from triform.tasks.point_autoencoder.metrics import METRICS


@pytest.fixture(scope="module")
def trained(tiny, tiny_experiment, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("trained") / "run")
    assert tiny("train", tiny_experiment, "--output-dir", folder.path) == 0
    return folder


@pytest.fixture(scope="module")
def measured(tiny, trained):
    assert tiny("evaluate", trained.path) == 0
    return json.loads((trained.evaluation / "metrics.json").read_text())


def names_by_split(prepared):
    manifest = json.loads((prepared / "manifest.json").read_text())
    return {split: sorted(cloud["name"] for cloud in manifest["clouds"] if cloud["split"] == split) for split in ("train", "val", "test")}


def test_metrics_stand_beside_floor_and_baselines(measured, trained):
    assert measured["num_clouds"] == {"train": 8, "val": 2, "test": 2}
    assert measured["state_digest"] == trained.result()["state_digest"]
    for split in ("val", "test"):
        assert set(measured["means"][split]) == {"model", "sampling_floor", "best_constant", "nearest_training_cloud"}
        for scores in measured["means"][split].values():
            assert set(METRICS) | {"cd_l2_unit", "hausdorff_95_unit"} <= set(scores)
        row = measured["headline"][split]
        assert 0 < row["sampling floor"] < min(row["model"], row["constant cloud"], row["nearest training cloud"])


def test_the_best_validation_is_measured_again(measured, trained):
    """The final model is the best one: its value in the metrics log is the one that evaluation finds."""
    assert measured["headline"]["val"]["model"] == pytest.approx(trained.result()["metrics"]["best"]["cd_l2"], rel=1e-6)


def test_a_row_a_cloud(measured, trained, plants):
    rows = list(csv.DictReader((trained.evaluation / "table.csv").read_text().splitlines()))
    found = {split: sorted(row["name"] for row in rows if row["split"] == split) for split in ("train", "val", "test")}
    assert found == names_by_split(plants.with_name("plants.prepared-48"))
    test = [float(row["cd_l2"]) for row in rows if row["split"] == "test"]
    assert np.mean(test) == pytest.approx(measured["headline"]["test"]["model"])


def test_embeddings_of_all_clouds_without_pickle(measured, trained, plants):
    with np.load(trained.evaluation / "arrays.npz", allow_pickle=False) as arrays:
        flat = dict(arrays)
    for split, names in names_by_split(plants.with_name("plants.prepared-48")).items():
        assert sorted(flat[f"{split}/names"]) == names
        assert flat[f"{split}/embedding"].shape == (len(names), 3)
        assert np.isfinite(flat[f"{split}/embedding"]).all()
    assert all(array.dtype.kind in "fiU" for array in flat.values())


def test_measuring_again_changes_nothing(tiny, measured, trained):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in trained.evaluation.iterdir()}
    assert tiny("evaluate", trained.path) == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in trained.evaluation.iterdir()} == before


@pytest.mark.long
def test_an_unfinished_run_is_not_measured_and_stop_ends_it(tiny, tiny_experiment, tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert tiny("train", tiny_experiment, "--output-dir", folder.path, TINY_NAN_AT=22, TINY_SLEEP=0.02) == 77
    assert tiny("evaluate", folder.path) == 65
    assert "is not finished" in tiny.output
    step = commits(folder)[0].step
    assert tiny("stop", folder.path, TRIFORM_STATE_DIR=tmp_path / "state") == 0
    result = folder.result()
    assert (result["steps"], result["finished"]) == (step, "stopped")
    assert json.loads((folder.evaluation / "metrics.json").read_text())["state_digest"] == result["state_digest"]
    assert folder.report.exists()
    assert tiny("train", tiny_experiment, "--output-dir", folder.path) == 0
    assert folder.result() == result


def test_stop_needs_a_checkpoint(tiny, tiny_experiment, tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert tiny("train", tiny_experiment, "--output-dir", folder.path, TINY_NAN_AT=1) == 77
    assert tiny("stop", folder.path, TRIFORM_STATE_DIR=tmp_path / "state") == 65
    assert "holds no checkpoint yet" in tiny.output
    assert folder.result() is None


def test_other_data_is_refused_and_moved_data_is_found(tiny, tiny_experiment, trained, plants, tmp_path):
    moved = RunFolder(tmp_path / "run")
    shutil.copytree(trained.path, moved.path)
    shutil.rmtree(moved.evaluation, ignore_errors=True)
    assert tiny("prepare", tiny_experiment, "--split-seed", 5, "--prepared-dir", tmp_path / "other") == 0
    assert tiny("evaluate", moved.path, "--prepared-dir", tmp_path / "other") == 65
    assert "is not the data that" in tiny.output
    shutil.copytree(plants.with_name("plants.prepared-48"), tmp_path / "moved")
    assert tiny("evaluate", moved.path, "--prepared-dir", tmp_path / "moved") == 0
