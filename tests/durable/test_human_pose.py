"""Fine-tuning under Temporal: the trainer is killed after its first commit, and the pretrained run is gone by then."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stage import Server, Stage, outcome, until
from temporalio.client import WorkflowFailureError

from triform.errors import ConfigConflict
from triform.run.commit import commits
from triform.run.folder import RunFolder
from triform.run.ownership import claims

pytestmark = [pytest.mark.server, pytest.mark.long, pytest.mark.timeout(300)]
LONGER = ["--num-epochs", "30", "--every-steps", "5", "--validate-every", "10"]


@pytest.fixture
def pose_stage(server: Server, tiny_pose_experiment: Path, tmp_path: Path) -> Iterator[Stage]:
    server.start()
    made = Stage(server, tiny_pose_experiment, tmp_path)
    yield made
    made.close()


async def test_killed_and_the_pretrained_run_removed(
    pose_stage: Stage, tiny_pose_experiment: Path, pretrained_run: Path, tmp_path: Path
) -> None:
    reference, pretrained = tmp_path / "reference", tmp_path / "pretrained"
    shutil.copytree(pretrained_run, pretrained)
    words = [*LONGER, "--init-from", str(pretrained)]
    command = [sys.executable, "-m", "triform", "train", str(tiny_pose_experiment), "--output-dir", str(reference), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_WAIT_POLICY": "passive"})

    pose_stage.worker(TRIFORM_COMMAND="")
    handle = await pose_stage.start([*words, "--prepared-dir", str(tmp_path / "prepared")])
    await until(lambda: commits(pose_stage.folder), seconds=120)
    shutil.rmtree(pretrained)
    trainer = pose_stage.trainer()
    assert trainer is not None
    trainer.kill()
    result = await handle.result()
    assert outcome(pose_stage.folder.path) == outcome(reference)
    assert pose_stage.generations == 2
    told = [claim["warnings"] for claim in claims(pose_stage.folder)]
    assert [[warning["kind"] for warning in warnings] for warnings in told] == [["initialised"], []]
    assert result.metrics["test"].keys() >= {"mpjpe_mm", "mpjpe_mm_ridge"}
    assert "took encoder" in Path(result.report_path).read_text()


async def test_weights_that_are_not_there_end_it_before_anything_is_trained(pose_stage: Stage, tmp_path: Path) -> None:
    pose_stage.worker(TRIFORM_COMMAND="")
    handle = await pose_stage.start([*LONGER, "--init-from", str(tmp_path / "nowhere"), "--prepared-dir", str(tmp_path / "prepared")])
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert "nowhere is no run" in _all_of(caught.value)
    assert pose_stage.folder.identity() is None  # the name is free for another try


async def test_what_the_folder_was_founded_with_is_kept(pose_stage: Stage, pretrained_run: Path, lifting_run: Path, tmp_path: Path) -> None:
    """Other weights under the run's name are refused, as without a server."""
    from triform.pipeline.train import found

    words = ["--prepared-dir", str(tmp_path / "prepared"), "--num-epochs", "2"]
    found(pose_stage.experiment([*words, "--init-from", str(pretrained_run)]), pose_stage.folder)
    with pytest.raises(ConfigConflict, match="began from"):
        found(pose_stage.experiment([*words, "--init-from", str(lifting_run)]), RunFolder(pose_stage.folder.path))


def _all_of(error: BaseException | None) -> str:
    return "" if error is None else f"{error} {_all_of(error.__cause__)}"
