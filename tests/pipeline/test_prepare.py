"""Preparing by experiment: raw folders, prepared folders, moved folders; whole and in a workflow's pieces."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from triform.data.manifest import load_manifest
from triform.errors import DataError
from triform.experiment import load
from triform.pipeline import prepare as pipeline
from triform.run.folder import RunFolder

SCANS = Path(__file__).parents[2] / "../shared/data/corn"


@pytest.fixture
def experiment(tiny_experiment, plants, tmp_path):
    shutil.copytree(plants, tmp_path / "plants")
    return load(tiny_experiment, ["--data-dir", str(tmp_path / "plants")]).experiment


def test_a_located_experiment_means_the_same_everywhere(experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = replace(experiment, data=replace(experiment.data, data_dir="plants"))
    located = pipeline.located(relative)
    assert located.data.data_dir == str(tmp_path / "plants")
    assert located.data.prepared_dir == str(tmp_path / "plants.prepared-48")
    monkeypatch.chdir("/")
    assert pipeline.located(located) == located


def test_a_prepared_folder_may_be_given_as_the_data(experiment, tmp_path):
    manifest = pipeline.prepare(pipeline.located(experiment))
    shutil.move(manifest.prepared_dir, tmp_path / "moved")
    shutil.rmtree(tmp_path / "plants")
    again = pipeline.located(replace(experiment, data=replace(experiment.data, data_dir=str(tmp_path / "moved"))))
    assert again.data.prepared_dir == str(tmp_path / "moved")
    assert pipeline.prepare(again).digest == manifest.digest
    alone = replace(experiment, data=replace(experiment.data, data_dir="", prepared_dir=str(tmp_path / "moved")))
    assert pipeline.prepare(pipeline.located(alone)).digest == manifest.digest


def test_a_workflows_pieces_make_what_the_whole_makes(experiment, tmp_path):
    whole = pipeline.prepare(pipeline.located(experiment))
    shutil.move(whole.prepared_dir, tmp_path / "whole")
    planned = pipeline.plan(pipeline.located(experiment))
    assert planned.num_batches >= 1
    for number in range(planned.num_batches):
        pipeline.prepare_batch(planned.prepared_dir, number)
    pieces = pipeline.finalize(planned.prepared_dir, num_batches=planned.num_batches)
    assert pieces.digest == whole.digest
    assert [cloud.sha256 for cloud in pieces.clouds] == [cloud.sha256 for cloud in whole.clouds]


def test_a_prepared_folder_is_not_planned_again_and_a_vanished_one_is_told(experiment):
    manifest = pipeline.prepare(pipeline.located(experiment))
    given = replace(experiment, data=replace(experiment.data, data_dir=str(manifest.prepared_dir)))
    planned = pipeline.plan(pipeline.located(given))
    assert (planned.num_batches, planned.digest) == (0, manifest.digest)
    assert pipeline.finalize(planned.prepared_dir, num_batches=0).digest == manifest.digest
    (manifest.prepared_dir / "manifest.json").unlink()
    with pytest.raises(DataError, match="is not prepared any more"):
        pipeline.finalize(planned.prepared_dir, num_batches=0)


def test_progress_counts_every_file(experiment):
    seen = []
    pipeline.prepare(pipeline.located(experiment), progress=lambda done, total: seen.append((done, total)))
    assert max(seen) == (12, 12)


def test_training_prepares_what_is_missing(tiny, tiny_experiment, experiment, tmp_path):
    assert load_manifest(tmp_path / "plants.prepared-48") is None
    words = ("train", tiny_experiment, "--data-dir", tmp_path / "plants", "--output-dir", tmp_path / "run")
    assert tiny(*words) == 0
    manifest = load_manifest(tmp_path / "plants.prepared-48")
    assert RunFolder(tmp_path / "run").result()["data_digest"] == manifest.digest


def test_the_command_tells_counts_digest_and_quarantine(tiny, tiny_experiment, experiment, tmp_path):
    (tmp_path / "plants" / "empty.ply").touch()
    before = len(tiny.output)
    assert tiny("prepare", tiny_experiment, "--data-dir", tmp_path / "plants") == 65
    assert "empty.ply" in tiny.output[before:]
    assert tiny("prepare", tiny_experiment, "--data-dir", tmp_path / "plants", "--max-quarantine-fraction", 0.1) == 0
    told = tiny.output[before:]
    assert f"12 samples in {tmp_path}/plants.prepared-48, 1 files quarantined" in told
    assert "quarantined empty.ply: " in told


def test_without_a_file_the_kind_of_the_data_is_enough(tiny, experiment, bodies, tmp_path):
    """Of any size, whatever the folders are called."""
    (tmp_path / "plants").rename(tmp_path / "mesh_like")
    assert tiny("prepare", "--data.kind", "ply_clouds", "--data-dir", tmp_path / "mesh_like", "--num-points", 40) == 0
    for words in (("--data.kind", "mesh_files"), ("--data.kind=mesh_files",)):
        assert tiny("prepare", *words, "--data-dir", bodies, "--num-vertices", 40, "--prepared-dir", tmp_path / "out") == 0


@pytest.mark.skipif(not SCANS.exists(), reason="the scans are not beside this repository")
def test_real_scans_go_the_whole_road(tiny, tiny_experiment, tmp_path):
    """Two epochs on corn scans, from .ply to the report."""
    scans, path = tmp_path / "corn", tmp_path / "run"
    scans.mkdir()
    for scan in sorted(SCANS.glob("*.ply"))[:6]:
        (scans / scan.name).symlink_to(scan.resolve())
    words = ("--data-dir", scans, "--output-dir", path, "--num-points", 256, "--num-epochs", 2, "--max-quarantine-fraction", 0.5)
    assert tiny("train", tiny_experiment, *words) == 0
    assert tiny("report", path) == 0
    assert RunFolder(path).report.stat().st_size > 100_000


def test_prepared_data_of_other_settings_is_not_used_by_mistake(experiment, tmp_path):
    manifest = pipeline.prepare(pipeline.located(experiment))
    for changed in ({"num_points": 64}, {"split_seed": 5}):
        data = replace(experiment.data, data_dir="", prepared_dir=str(manifest.prepared_dir), **changed)
        for do in (pipeline.prepare, pipeline.plan):
            with pytest.raises(DataError, match=f"{next(iter(changed))} is "):
                do(pipeline.located(replace(experiment, data=data)))
