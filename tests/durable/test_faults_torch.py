"""With PyTorch: trainer, worker and server die once each, and the bits are those of the run that nobody disturbed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stage import Stage, outcome, until

from triform.run.commit import commits

pytestmark = [pytest.mark.server, pytest.mark.long, pytest.mark.timeout(300)]
LONGER = ["--num-epochs", "120", "--every-steps", "10"]


async def test_trainer_worker_and_server_die_and_the_weights_are_the_same(stage: Stage, tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    command = [sys.executable, "-m", "triform", "train", str(stage.experiment_file), "--output-dir", str(reference), *LONGER]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_WAIT_POLICY": "passive"})

    worker = stage.worker(TRIFORM_COMMAND="")
    await stage.start(LONGER)
    await committed(stage, 40)
    trainer = stage.trainer()
    assert trainer is not None
    trainer.kill()
    await until(lambda: stage.generations == 2)
    await committed(stage, 120)
    worker.kill()
    stage.worker(TRIFORM_COMMAND="")
    await until(lambda: stage.generations == 3)
    await committed(stage, 240)
    stage.server.kill()
    stage.server.start()
    await until(stage.folder.result)
    assert stage.generations == 3
    assert outcome(stage.folder.path) == outcome(reference)


async def committed(stage: Stage, step: int) -> None:
    """Wait for a checkpoint of that step or a later one; the run must not be over yet."""
    await until(lambda: (newest := commits(stage.folder)) and newest[0].step >= step, seconds=120)
    assert stage.folder.result() is None
