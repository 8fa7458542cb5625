"""Mesh identity on the whole road: prepare, train, stop, go on in either framework, evaluate, report, profile."""

import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from triform.errors import DataError, ExperimentError, Stopped
from triform.experiment import load, resolved
from triform.pipeline import train as training
from triform.pipeline.build import framework
from triform.pipeline.evaluate import evaluate
from triform.pipeline.prepare import finalize, load_splits, located, plan, prepare, prepare_batch
from triform.pipeline.profile import profile
from triform.pipeline.report import write_report
from triform.run.folder import RunFolder
from triform.run.metrics_log import history
from triform.run.ownership import claims
from triform.tasks.mesh_identity import embedding_map

MLX = pytest.param("mlx", marks=pytest.mark.skipif(importlib.util.find_spec("mlx") is None, reason="MLX is not installed"))


def loaded(experiment_file, *words):
    return located(load(experiment_file, [str(word) for word in words]).experiment)


def train(experiment_file, path, *words, stop_after=None):
    """Train in this process; with `stop_after` until so many steps are done here."""
    experiment, asked = loaded(experiment_file, *words), itertools.count(1)
    prepared = prepare(experiment).prepared_dir
    training.train(
        experiment, RunFolder(path), prepared_dir=prepared, stop_requested=lambda: "asked" if next(asked) == stop_after else None
    )


def outcome(path):
    folder = RunFolder(path)
    result = folder.result()
    return result["state_digest"], history(folder, result["history"]["generation"], result["history"]["metrics_bytes"])


@pytest.fixture(autouse=True)
def _quick_maps(monkeypatch):
    """UMAP compiles for 15 seconds; its own test draws it."""
    monkeypatch.setattr(embedding_map, "umap", lambda embedding, seed: embedding_map.pca(embedding))


@pytest.fixture(scope="module")
def trained(tiny_mesh_experiment, tmp_path_factory):
    path = tmp_path_factory.mktemp("mesh") / "run"
    train(tiny_mesh_experiment, path)
    return RunFolder(path)


@pytest.mark.parametrize("backend", ["torch", MLX])
def test_stopped_and_gone_on_with_is_bitwise_the_same(tiny_mesh_experiment, tmp_path, backend, monkeypatch):
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    words = ("--backend", backend, "--num-epochs", 3)
    train(tiny_mesh_experiment, tmp_path / "straight", *words)
    with pytest.raises(Stopped):
        train(tiny_mesh_experiment, tmp_path / "run", *words, stop_after=4)
    train(tiny_mesh_experiment, tmp_path / "run", *words, "--loader-workers", 2, "--cache-data")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")
    assert RunFolder(tmp_path / "run").result()["not_bit_exact_from"] is None


@pytest.mark.parametrize(("first", "then"), [("torch", "mlx"), ("mlx", "torch")])
@pytest.mark.skipif(importlib.util.find_spec("mlx") is None, reason="MLX is not installed")
def test_a_run_goes_on_in_the_other_framework_and_says_so(tiny_mesh_experiment, tmp_path, first, then, monkeypatch):
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    path = tmp_path / "run"
    with pytest.raises(Stopped):
        train(tiny_mesh_experiment, path, "--num-epochs", 3, "--backend", first, stop_after=4)
    train(tiny_mesh_experiment, path, "--num-epochs", 3, "--backend", then)
    result, (before, after) = RunFolder(path).result(), claims(RunFolder(path))
    assert result["not_bit_exact_from"] == 4
    assert [claim["environment"]["device"].startswith("mlx") for claim in (before, after)] == [first == "mlx", then == "mlx"]
    assert result["steps"] == 3 * 2


@pytest.mark.long
def test_killed_in_a_process_of_its_own(tiny_mesh_experiment, trained, tmp_path):
    command = [sys.executable, "-m", "triform", "train", "--config", str(tiny_mesh_experiment), "--output-dir", str(tmp_path / "run")]
    with subprocess.Popen(command, env={**os.environ, "OMP_WAIT_POLICY": "passive"}, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list((tmp_path / "run" / "commits").glob("*.json")):
            pass
        process.kill()
    train(tiny_mesh_experiment, tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(trained.path)


def test_it_learns_and_logs_what_a_triplet_loss_must_be_watched_by(trained):
    rows = outcome(trained.path)[1]
    names = {row.name for row in rows if row.split == "train"}
    assert {"loss", "classification_loss", "triplet_loss", "positive_distance", "negative_distance", "active_triplets"} <= names
    losses = [row.value for row in rows if row.name == "classification_loss" and row.split == "train"]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert {row.name for row in rows if row.split == "val"} >= {"rank_1", "eer"}  # what may be monitored


def test_higher_rank_1_is_better(trained):
    values = {row.step: row.value for row in outcome(trained.path)[1] if row.name == "rank_1"}
    assert trained.result()["metrics"]["best"]["rank_1"] == max(values.values())


def test_evaluation_stands_beside_chance_and_baselines_and_the_report_shows_it(trained):
    metrics = evaluate(trained)
    assert metrics["headline"].keys() == {"val", "test"}
    assert {"this model", "chance", "raw vertices", "Kabsch", "Kabsch + LDA"} == metrics["headline"]["test"].keys()
    assert all(0 <= value <= 1 for row in metrics["headline"].values() for value in row.values())
    assert metrics["order"]["splits"] == ["val", "test"]  # as they are shown, where JSON would sort them
    assert metrics["order"]["columns"][:2] == ["this model", "chance"]
    page = write_report(trained).read_text()
    drawn = {path.name for path in (trained.path / "plots").iterdir()}
    assert {"embedding_of_test_pca.png", "distances_between_embeddings_test.png"} <= drawn
    for part in ("rank-1", "Kabsch + LDA", "What drives identity", "Distances between embeddings", "Embedding of test, PCA"):
        assert part in page, part


@pytest.mark.parametrize("word", [("--backend", "mlx"), ("--device", "cuda"), ("--device", "metal")])
def test_a_run_is_measured_where_its_framework_or_device_is_not(tiny_mesh_experiment, trained, tmp_path, monkeypatch, word):
    """A run from another machine: its words can't be changed any more, and its model is the same everywhere."""
    path, told = tmp_path / "run", list[str]()
    shutil.copytree(trained.path, path, ignore=shutil.ignore_patterns("evaluation"))
    known = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(known | {"experiment": resolved(loaded(tiny_mesh_experiment, *word))}))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert evaluate(RunFolder(path), say=told.append)["headline"] == evaluate(trained)["headline"]
    assert "measured in PyTorch instead" in told[0]


def test_a_gpu_that_goes_on_is_not_called_bit_exact(tiny_mesh_experiment, tmp_path, monkeypatch):
    build = training.build_backend
    monkeypatch.setattr(training, "build_backend", lambda *args, **kwargs: (build(*args, **kwargs)[0], "cuda"))
    with pytest.raises(Stopped):
        train(tiny_mesh_experiment, tmp_path / "run", "--num-epochs", 2, stop_after=2)
    train(tiny_mesh_experiment, tmp_path / "run", "--num-epochs", 2)
    assert RunFolder(tmp_path / "run").result()["not_bit_exact_from"] == 2
    assert "order of its own" in claims(RunFolder(tmp_path / "run"))[1]["warnings"][0]["text"]


def test_closed_set(tiny_mesh_experiment, tmp_path):
    train(tiny_mesh_experiment, tmp_path / "run", "--protocol", "closed_set", "--num-epochs", 2, "--prepared-dir", tmp_path / "prepared")
    best = RunFolder(tmp_path / "run").result()["metrics"]["best"]
    assert {"accuracy", "classification_loss"} <= best.keys()
    assert evaluate(RunFolder(tmp_path / "run"))["title"].startswith("accuracy")


def test_the_pieces_of_a_workflow_prepare_the_same_data(tiny_mesh_experiment, trained, tmp_path):
    experiment = loaded(tiny_mesh_experiment, "--prepared-dir", tmp_path / "prepared")
    planned = plan(experiment)
    for number in range(planned.num_batches):
        prepare_batch(planned.prepared_dir, number)
    manifest = finalize(planned.prepared_dir, num_batches=planned.num_batches)
    assert manifest.digest == trained.result()["data_digest"]
    assert manifest.num_samples == 40
    splits = load_splits(experiment, planned.prepared_dir, ("train", "val", "test"))
    assert [len(splits[name].names) for name in splits] == [20, 10, 10]


def test_a_profile_names_every_part(tiny_mesh_experiment):
    text = profile(loaded(tiny_mesh_experiment))
    for part in ("forward", "backward", "samples a second", "knn", "edge_conv", "point", "head", "loss", "data", "memory", "multiply-adds"):
        assert part in text, part


def test_a_profile_is_of_one_batch(tiny_mesh_experiment):
    assert "8 samples a batch" in profile(loaded(tiny_mesh_experiment, "--gradient-accumulation-steps", 2))


@pytest.mark.skipif(importlib.util.find_spec("mlx") is None, reason="MLX is not installed")
def test_a_profile_of_mlx(tiny_mesh_experiment, monkeypatch):
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    assert "mlx on cpu" in profile(loaded(tiny_mesh_experiment, "--backend", "mlx"))


@pytest.mark.long
def test_the_command_as_people_write_it(tiny_mesh_experiment, bodies, tmp_path):
    words = ["--config", str(tiny_mesh_experiment), "--data-dir", str(bodies), "--output-dir", str(tmp_path / "a"), "--batch-size", "8"]
    words += ["--learning-rate", "0.0005", "--num-epochs", "2", "--embedding-dim", "16", "--cache-data", "--verbose"]
    command = [sys.executable, "-m", "triform", "train", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_WAIT_POLICY": "passive"}, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    again = [*command, "--resume", str(tmp_path / "a" / "checkpoints" / "best_model.npz"), "--output-dir", str(tmp_path / "b")]
    again[again.index(str(tmp_path / "a")) - 1 : again.index(str(tmp_path / "a")) + 1] = []
    done = subprocess.run(again, capture_output=True, text=True, env={**os.environ, "OMP_WAIT_POLICY": "passive"}, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "b" / "run.json").read_text())["parent"]["file"].endswith("a/checkpoints/best_model.npz")


def test_auto_is_mlx_on_apple_silicon_unless_the_device_is_pytorchs(tiny_mesh_experiment, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("sys.platform", "darwin")
    assert [framework(loaded(tiny_mesh_experiment, "--device", device)) for device in ("auto", "cpu", "mps")] == ["mlx", "mlx", "torch"]


def test_refusals(tiny_mesh_experiment, monkeypatch):
    with pytest.raises(ExperimentError, match="mesh_hdf5 or mesh_files"):
        loaded(tiny_mesh_experiment, "--data.kind", "ply_clouds")
    with pytest.raises(ExperimentError, match="multiple of meshes_per_subject"):
        loaded(tiny_mesh_experiment, "--batch-size", 5)
    with pytest.raises(ExperimentError, match="the mesh's edges"):
        loaded(tiny_mesh_experiment, "--layers.1.graph", "mesh")
    with pytest.raises(ExperimentError, match="a metric of the task: rank_1 or eer"):
        loaded(tiny_mesh_experiment, "--monitor", "accuracy")
    with pytest.raises(DataError, match="No data is named"):
        prepare(loaded(tiny_mesh_experiment, "--data-dir", ""))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ExperimentError, match="MLX is not installed"):
        profile(loaded(tiny_mesh_experiment, "--backend", "mlx"))
