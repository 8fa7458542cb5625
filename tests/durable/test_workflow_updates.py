"""Pause, resume, another length and an early end: while the training runs, while it waits for its next try, and with the worker dead."""

import asyncio
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from stage import STEPS, Outcome, Stage, outcome, replay, run_paced, until

from triform.durable import client as runs
from triform.durable.client import Handle
from triform.errors import UsageError
from triform.pipeline.train import identity
from triform.run.commit import commits
from triform.run.folder import RunFolder
from triform.run.horizon import add_horizon

pytestmark = pytest.mark.server


async def steer(stage: Stage, update: str, *arguments: object) -> object:
    return await runs.steer(await stage.server.client(), stage.identifier, update, arguments)


async def stage_of(handle: Handle) -> str:
    return str((await handle.query("view"))["stage"])


async def test_a_pause_holds_the_training_and_resume_repeats_no_step(stage: Stage, undisturbed: Outcome) -> None:
    stage.worker(pace=0.1)
    handle = await stage.start()
    trainer = await stage.at_step(8)
    await steer(stage, "pause")
    assert not trainer.is_running(), "acknowledged means that the checkpoint is there"
    assert commits(stage.folder)[0].step == stage.steps[-1].step + 1
    assert await stage_of(handle) == "paused"
    look = await runs.snapshot(await stage.server.client(), stage.identifier)
    assert (look.stage, look.waiting) == ("paused", "`triform resume`")
    await steer(stage, "resume")
    assert await stage.trained() == undisturbed
    assert [done.step for done in stage.steps] == list(range(STEPS))
    await replay(handle)
    await until_stage(handle, "evaluate")
    with pytest.raises(UsageError, match="pause was refused: training is over"):
        await steer(stage, "pause")


@pytest.mark.long
async def test_another_length_holds_from_the_newest_checkpoint_on(stage: Stage, tmp_path: Path) -> None:
    stage.worker(pace=0.1)
    handle = await stage.start()
    await stage.at_step(8)
    step = await steer(stage, "set_epochs", 10)
    assert isinstance(step, int)
    await until(lambda: stage.generations == 2)
    assert step == json.loads(stage.folder.claim(2).read_text())["base"]["step"] > 8
    with pytest.raises(UsageError, match=r"set_epochs was refused: .*one at least"):
        await steer(stage, "set_epochs", 0)
    with pytest.raises(UsageError, match=r"set_epochs was refused: .*1 epochs are 4 steps"):
        await steer(stage, "set_epochs", 1)
    found = await stage.trained()
    assert {row.step for row in found[1] if row.split == "train"} == set(range(1, 41))
    assert [done.step for done in stage.steps] == list(range(40)), "no step is repeated"
    assert found == known_from_the_start(stage, tmp_path, step=step, num_epochs=10)
    await replay(handle)


def known_from_the_start(stage: Stage, place: Path, *, step: int, num_epochs: int) -> Outcome:
    """The same change of length, on record before the first step, in an undisturbed run."""
    folder = RunFolder(place / "reference")
    folder.found(identity(stage.experiment()))
    add_horizon(folder, num_epochs, from_step=step, key="reference")
    assert run_paced(place / "reference-pace", "train", stage.experiment_file, "--output-dir", folder.path) == 0
    return outcome(folder.path)


@pytest.mark.long
async def test_stop_evaluates_the_newest_checkpoint(stage: Stage, undisturbed: Outcome) -> None:
    stage.worker(pace=0.1)
    handle = await stage.start()
    await stage.at_step(8)
    await steer(stage, "stop")
    result = await runs.outcome(handle)
    told = stage.folder.result()
    assert told is not None
    done = stage.steps[-1].step + 1
    assert (told["finished"], told["steps"]) == ("stopped", done)
    assert done < STEPS
    assert commits(stage.folder)[0].step == done
    digest, rows = outcome(stage.folder.path)
    assert rows == [row for row in undisturbed[1] if row.step <= done]
    assert result.state_digest == digest
    assert "val" in result.metrics
    await replay(handle)


@pytest.mark.long
async def test_in_back_off_an_update_does_not_wait_for_the_next_try(stage: Stage, undisturbed: Outcome) -> None:
    stage.policies = replace(stage.policies, killed_retry=600.0)
    stage.worker(pace=0.1)
    handle = await stage.start()
    trainer = await stage.at_step(8)
    trainer.send_signal(signal.SIGKILL)
    client = await stage.server.client()
    while not (look := await runs.snapshot(client, stage.identifier)).waiting:
        await asyncio.sleep(0.05)
    assert look.waiting == "the next try after TrainerKilled: killed by signal 9"
    await steer(stage, "pause")
    assert await stage_of(handle) == "paused"
    await steer(stage, "set_epochs", 8)
    await steer(stage, "resume")
    assert await stage.trained() == undisturbed
    assert stage.generations == 2
    await replay(handle)


@pytest.mark.long
async def test_with_the_worker_dead_updates_wait_for_the_next_worker(stage: Stage, undisturbed: Outcome) -> None:
    worker = stage.worker(pace=0.1)
    handle = await stage.start()
    await stage.at_step(8)
    worker.kill()
    pausing = asyncio.ensure_future(steer(stage, "pause"))
    stage.worker("cpu")
    await pausing
    assert await stage_of(handle) == "paused"
    stage.worker("gpu")
    await steer(stage, "resume")
    assert await stage.trained() == undisturbed
    assert [done.step for done in stage.steps] == list(range(STEPS))
    await replay(handle)


@pytest.mark.long
async def test_stop_with_the_trainers_worker_dead_evaluates_what_its_trainer_committed(stage: Stage, undisturbed: Outcome) -> None:
    stage.worker("cpu", pace=0.1)
    gpu = stage.worker("gpu")
    handle = await stage.start()
    await stage.at_step(8)
    gpu.kill()
    await steer(stage, "stop")
    await until(stage.folder.result)
    stage.worker("gpu")
    result = await runs.outcome(handle)
    done = stage.steps[-1].step + 1
    assert done < STEPS
    digest, rows = outcome(stage.folder.path)
    assert result.state_digest == digest
    assert rows == [row for row in undisturbed[1] if row.step <= done]
    await replay(handle)


async def until_stage(handle: Handle, wanted: str) -> None:
    while await stage_of(handle) != wanted:
        await asyncio.sleep(0.05)
