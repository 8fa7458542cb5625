"""The pipeline as a workflow on a real server: its result, its names, its refusals, its end by hand, and its replay."""

import asyncio
import subprocess
import sys

import pytest
from stage import STEPS, Outcome, Stage, outcome, replay
from temporalio.client import WorkflowExecutionStatus

from triform.durable import client as runs
from triform.errors import ConfigConflict, DataError, ExperimentError, Stopped
from triform.pipeline.train import identity
from triform.run.commit import commits

server = pytest.mark.server


@server
async def test_undisturbed_it_gives_what_a_training_without_server_gives(stage: Stage, undisturbed: Outcome) -> None:
    stage.worker()
    handle = await stage.start()
    result = await runs.outcome(handle)
    assert outcome(stage.folder.path) == undisturbed
    assert result.state_digest == undisturbed[0]
    assert (result.generations, result.quarantined) == (1, 0)
    assert result.model_path == str(stage.folder.path / "final" / "model.safetensors")
    assert result.report_path == str(stage.folder.report)
    assert stage.folder.report.exists()
    assert {"train", "val", "test"} <= result.metrics.keys()
    look = await runs.snapshot(await stage.server.client(), stage.identifier)
    assert (look.status, look.closed) == ("COMPLETED", True)
    await replay(handle)


@server
@pytest.mark.long
async def test_a_finished_runs_name_can_be_used_again_and_nothing_is_trained_again(stage: Stage, undisturbed: Outcome) -> None:
    stage.worker()
    for _ in range(2):
        assert (await runs.outcome(await stage.start())).state_digest == undisturbed[0]
    assert len(stage.steps) == STEPS


@server
async def test_two_starts_of_one_name_are_one_execution_and_other_settings_are_refused(stage: Stage) -> None:
    first, second = await asyncio.gather(stage.start(), stage.start())
    described = [await handle.describe() for handle in (first, second)]
    assert described[0].run_id == described[1].run_id
    with pytest.raises(ConfigConflict, match="with other settings is under way"):
        await stage.start(["--learning-rate", "0.5"])


@server
async def test_a_wrong_experiment_fails_at_the_first_attempt_as_what_it_is(stage: Stage) -> None:
    stage.worker("cpu")
    handle = await stage.start(experiment='{"name": "tiny", "speed": 9}')
    with pytest.raises(ExperimentError, match="speed") as caught:
        await runs.outcome(handle)
    assert caught.value.exit_code == 78
    assert await attempts(handle) == [1]


@server
async def test_other_settings_on_a_known_folder_fail_at_the_first_attempt(stage: Stage) -> None:
    stage.folder.found(identity(stage.experiment(["--learning-rate", "0.5"])))
    stage.worker("cpu")
    handle = await stage.start()
    with pytest.raises(ConfigConflict, match=r"learning_rate was 0.5 and is now 0.001") as caught:
        await runs.outcome(handle)
    assert caught.value.exit_code == 79
    assert await attempts(handle) == [1]


@server
@pytest.mark.long
async def test_a_cancelled_run_keeps_its_checkpoint_and_goes_on_under_the_same_name(stage: Stage, undisturbed: Outcome) -> None:
    stage.worker(pace=0.1)
    handle = await stage.start()
    trainer = await stage.at_step(8)
    await handle.cancel()
    with pytest.raises(Stopped, match="was cancelled"):
        await runs.outcome(handle)
    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    assert not trainer.is_running(), "the workflow ends after its trainer"
    assert commits(stage.folder)[0].step == stage.steps[-1].step + 1
    await replay(handle)
    again = await stage.start()
    assert again.first_execution_run_id != handle.first_execution_run_id
    assert await stage.trained() == undisturbed
    assert [done.step for done in stage.steps] == list(range(STEPS))


@server
@pytest.mark.long
async def test_cancelled_with_its_worker_dead_it_still_ends_cancelled(stage: Stage, undisturbed: Outcome) -> None:
    stage.worker("cpu", pace=0.1)
    gpu = stage.worker("gpu")
    handle = await stage.start()
    await stage.at_step(8)
    gpu.kill()
    await handle.cancel()
    with pytest.raises(Stopped, match="was cancelled"):
        await runs.outcome(handle)
    await stage.start()
    stage.worker("gpu")
    assert await stage.trained() == undisturbed


@server
@pytest.mark.long
async def test_a_diverged_training_is_not_tried_again(stage: Stage) -> None:
    from triform.errors import Diverged

    stage.worker(TINY_NAN_AT="12")
    handle = await stage.start()
    with pytest.raises(Diverged, match=r"Step 13 gave loss = nan") as caught:
        await runs.outcome(handle)
    assert caught.value.exit_code == 77
    assert stage.generations == 1


@server
async def test_the_prepared_data_is_gone_says_so_at_once(stage: Stage, tmp_path) -> None:
    stage.worker()
    handle = await stage.start(["--prepared-dir", str(tmp_path / "nowhere"), "--data-dir", ""])
    with pytest.raises(DataError):
        await runs.outcome(handle)


def test_the_workflow_module_is_light() -> None:
    program = """
import sys
import triform.durable.workflows
heavy = {"torch", "numba", "matplotlib", "numpy", "scipy", "tensorboard", "safetensors"} & sys.modules.keys()
sys.exit(f"loaded: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def attempts(handle: runs.Handle) -> list[int]:
    """Of every activity that was started, the number of its tries."""
    history = await handle.fetch_history()
    return [
        event.activity_task_started_event_attributes.attempt
        for event in history.events
        if event.HasField("activity_task_started_event_attributes")
    ]
