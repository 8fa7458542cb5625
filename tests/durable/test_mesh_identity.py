"""The second task on the same road: prepared, trained, evaluated and reported under Temporal, its trainer killed on the way."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stage import Server, Stage, outcome, until

from triform.run.commit import commits

pytestmark = [pytest.mark.server, pytest.mark.long, pytest.mark.timeout(300)]
LONGER = ["--num-epochs", "80", "--every-steps", "5", "--validate-every", "10"]


@pytest.fixture
def mesh_stage(server: Server, tiny_mesh_experiment: Path, tmp_path: Path) -> Iterator[Stage]:
    server.start()
    made = Stage(server, tiny_mesh_experiment, tmp_path)
    yield made
    made.close()


async def test_a_killed_trainer_changes_nothing(mesh_stage: Stage, tiny_mesh_experiment: Path, tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    command = [sys.executable, "-m", "triform", "train", str(tiny_mesh_experiment), "--output-dir", str(reference), *LONGER]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_WAIT_POLICY": "passive"})

    mesh_stage.worker(TRIFORM_COMMAND="")
    handle = await mesh_stage.start([*LONGER, "--prepared-dir", str(tmp_path / "prepared")])
    await until(lambda: commits(mesh_stage.folder), seconds=120)
    trainer = mesh_stage.trainer()
    assert trainer is not None
    trainer.kill()
    result = await handle.result()
    assert outcome(mesh_stage.folder.path) == outcome(reference)
    assert mesh_stage.generations == 2
    assert result.quarantined == 0
    assert result.metrics["test"].keys() >= {"this model", "chance"}
    assert "rank-1" in Path(result.report_path).read_text()
