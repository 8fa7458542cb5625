"""Real files, where they lie beside the project: corn scans through the whole pipeline, PLY variants through prepare."""

import json
from pathlib import Path

import pytest

from triform.experiment import load
from triform.pipeline.evaluate import evaluate
from triform.pipeline.prepare import located, prepare
from triform.pipeline.report import write_report
from triform.pipeline.train import train
from triform.run.folder import RunFolder

SHARED = Path(__file__).parents[3] / "shared" / "data"
SMALL = """
name: real
data: {{kind: ply_clouds, data_dir: "{data}", prepared_dir: "{prepared}", max_quarantine_fraction: {allowed}}}
task:
  kind: point_autoencoder
  latent_dim: 16
  encoder:
    kind: pointnet2_ssg
    levels: [{{num_centers: 64, radius: 0.3, num_neighbors: 8, widths: [16, 32]}}]
    global_widths: [32]
  decoder: {{kind: mlp, widths: [32]}}
training: {{num_epochs: 5, batch_size: 1, validate_every: 5}}
"""


def experiment(tmp_path, data, allowed=0.02):
    path = tmp_path / "real.yaml"
    path.write_text(SMALL.format(data=data, prepared=tmp_path / "prepared", allowed=allowed))
    return located(load(path).experiment)


@pytest.mark.skipif(not (SHARED / "corn").is_dir(), reason="the corn scans are not here")
def test_corn_scans_become_a_model_and_a_report(tmp_path):
    asked, folder = experiment(tmp_path, SHARED / "corn"), RunFolder(tmp_path / "run")
    manifest = prepare(asked)
    assert [len(manifest.of_split(split)) for split in ("train", "val", "test")] == [1, 1, 1]
    assert train(asked, folder, prepared_dir=manifest.prepared_dir)["steps"] == 5
    metrics = evaluate(folder)
    assert 0.005 < metrics["headline"]["test"]["sampling floor"] < 0.015
    page = write_report(folder).read_text()
    assert "Reconstructions, test" in page
    assert "generation 1 from the beginning" in page


@pytest.mark.skipif(not (SHARED / "ply").is_dir(), reason="the PLY variants are not here")
def test_scans_that_are_too_small_are_quarantined_and_told(tmp_path):
    data = tmp_path / "mixed"
    data.mkdir()
    for path in [*(SHARED / "ply").glob("*.ply"), *(SHARED / "corn").glob("*.ply")]:
        (data / path.name).symlink_to(path)
    manifest = prepare(experiment(tmp_path, data, allowed=0.7))
    assert len(manifest.quarantined) == 8
    assert all("2048" in bad.reason or "2,048" in bad.reason for bad in manifest.quarantined)
    assert {cloud.name for cloud in manifest.clouds} == {"10", "11", "12", "bunny"}
    lines = (manifest.prepared_dir / "quarantine.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 8
