"""A worker dies while clouds are prepared: what was done stays done, and the manifest is the same to the byte."""

from collections import Counter
from pathlib import Path

import pytest
from stage import Stage, until

from triform.data.prepare import prepare
from triform.datasets.synthetic.maize import write_maize_folder

pytestmark = [pytest.mark.server, pytest.mark.long]
PLANTS, BATCH = 96, 32


async def test_only_what_is_missing_is_prepared_again_and_the_manifest_is_equal(stage: Stage, tmp_path: Path) -> None:
    write_maize_folder(tmp_path / "plants", num_plants=PLANTS, num_points=60, seed=3)
    overrides = ["--data-dir", str(tmp_path / "plants")]
    settings = stage.experiment([*overrides, "--prepared-dir", str(tmp_path / "reference")]).data
    undisturbed = prepare(settings).as_json()

    prepared = tmp_path / "prepared"
    watch = {"CLOUD_LOG_DIR": str(tmp_path), "CLOUD_SECONDS": "0.02"}
    worker = stage.worker("cpu", **watch)
    await stage.start([*overrides, "--prepared-dir", str(prepared)], max_parallel=1)
    await until((prepared / "plan" / "batch-00000.json").exists)
    await until(lambda: sampled(tmp_path)[worker.process.pid] > BATCH)
    worker.kill()
    assert not (prepared / "plan" / "batch-00001.json").exists()

    second = stage.worker("cpu", **{**watch, "CLOUD_SECONDS": "0"})
    await until((prepared / "manifest.json").exists)
    assert (prepared / "manifest.json").read_bytes() == undisturbed
    again = sampled(tmp_path)[second.process.pid]
    assert PLANTS - BATCH <= again < PLANTS, "the first batch is not made again (finalize makes clouds anew whose role changed)"


def sampled(place: Path) -> Counter[int]:
    """How many clouds each process has sampled."""
    path = place / "clouds"
    return Counter(int(line) for line in path.read_text().split()) if path.exists() else Counter()
