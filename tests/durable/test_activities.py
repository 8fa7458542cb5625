"""What activities make of a child's end, of a cancellation, of a silent server, and of trainers that all die on one spot."""

import asyncio
import threading
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from triform.durable import activities, lease
from triform.durable.activities import _Ending, _in_thread, _own, translated
from triform.durable.breaker import TRIES, stuck_at
from triform.durable.messages import RunRequest
from triform.durable.policies import LOCAL
from triform.errors import DataError, LostOwnership, RunInUse
from triform.run.commit import write_commit
from triform.run.folder import RunFolder
from triform.run.ownership import Ownership, take_claim
from triform.run.status import write_outcome, write_status


@pytest.mark.parametrize(
    ("code", "told", "kind", "final", "delay_s"),
    [
        (75, {"kind": "Stopped", "text": "stopped"}, "TrainerPreempted", False, LOCAL.preempted_retry),
        (-9, {}, "TrainerKilled", False, LOCAL.killed_retry),
        (1, {"kind": "", "text": "RuntimeError: CUDA", "retryable": True}, "TrainerCrashed", False, LOCAL.crashed_retry),
        (1, {}, "TrainerCrashed", False, LOCAL.crashed_retry),
        (LostOwnership.exit_code, {"kind": "LostOwnership", "text": "x", "retryable": False}, "LostOwnership", False, LOCAL.crashed_retry),
        (RunInUse.exit_code, {"kind": "RunInUse", "text": "x", "retryable": True}, "RunInUse", False, None),
        (DataError.exit_code, {"kind": "DataError", "text": "x", "retryable": False}, "DataError", True, None),
        (77, {"kind": "Diverged", "text": "x", "retryable": False}, "Diverged", True, None),
        (78, {"kind": "ExperimentError", "text": "x", "retryable": False}, "ExperimentError", True, None),
        (79, {"kind": "ConfigConflict", "text": "x", "retryable": False}, "ConfigConflict", True, None),
    ],
)
def test_a_childs_end_becomes_the_right_retry(code: int, told: dict[str, object], kind: str, final: bool, delay_s: float | None) -> None:
    error = translated(_Ending(code, told), LOCAL)
    assert (error.type, error.non_retryable) == (kind, final)
    assert (error.next_retry_delay.total_seconds() if error.next_retry_delay else None) == delay_s


async def test_a_cancelled_activity_ends_after_its_work_and_not_beside_it() -> None:
    environment, begun, go_on, done = ActivityEnvironment(), threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(30)
        done.set()

    running = asyncio.ensure_future(environment.run(_in_thread, work))
    await asyncio.to_thread(begun.wait, 30)
    environment.cancel()
    await asyncio.sleep(0.05)
    assert not running.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert done.is_set()


async def test_a_worker_that_is_stopping_waits_no_longer_for_a_silent_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unheard(_details: object) -> bool:
        environment.worker_shutdown()
        return False

    environment = ActivityEnvironment()
    monkeypatch.setattr(lease, "confirmed", unheard)
    with pytest.raises(ApplicationError, match="the worker is stopping") as caught:
        await environment.run(_own, RunFolder(tmp_path), LOCAL)
    assert (caught.value.type, caught.value.non_retryable) == ("TrainerPreempted", False)


def dies(folder: RunFolder, *, base: int, at: int, workflow: str = "w 1", outcome: int | None = None) -> Ownership:
    """A trainer of `workflow` that goes on from step `base` and dies at step `at`."""
    pointer = {"generation": 1, "step": base, "metrics_bytes": 0} if base else None
    owner = take_claim(folder, {"base": pointer, "asked_by": {"workflow": workflow}})
    if at > base:
        write_status(folder, owner.generation, {"step": at})
    if outcome is not None:
        write_outcome(folder, owner.generation, {"exit_code": outcome, "kind": "x"})
    return owner


def test_trainers_that_all_die_on_one_spot_are_given_up(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for _ in range(TRIES):
        assert stuck_at(folder, "w 1") is None
        dies(folder, base=0, at=7, outcome=1)
    assert stuck_at(folder, "w 1") == 0
    assert stuck_at(folder, "w 2") is None, "whoever starts the run again has as many tries again"
    write_commit(dies(folder, base=0, at=9), 8, {}, {})
    assert stuck_at(folder, "w 1") is None, "there is a new checkpoint"
    for _ in range(TRIES):
        assert stuck_at(folder, "w 1") is None
        dies(folder, base=8, at=9)
    assert stuck_at(folder, "w 1") == 8


@pytest.mark.parametrize("spared", [{"at": 0}, {"at": 5, "outcome": 75}, {"at": 5, "outcome": 74}])
def test_an_end_before_the_first_step_a_stop_and_a_full_disk_prove_nothing(tmp_path: Path, spared: dict[str, int]) -> None:
    folder = RunFolder(tmp_path)
    for number in range(2 * TRIES):
        dies(folder, base=0, **({"at": 7} if number % TRIES else spared))  # type: ignore[arg-type]
        assert stuck_at(folder, "w 1") is None


async def test_a_run_without_hope_ends(tmp_path: Path) -> None:
    environment, folder = ActivityEnvironment(), RunFolder(tmp_path)
    for _ in range(TRIES):
        dies(folder, base=0, at=3, workflow=f"{environment.info.workflow_id} {environment.info.workflow_run_id}")
    with pytest.raises(ApplicationError, match="5 trainers in a row went on from step 0") as caught:
        environment.run(activities._require_hope, folder)
    assert (caught.value.type, caught.value.non_retryable) == ("NoProgress", True)


@pytest.mark.parametrize(("backend", "words"), [("mlx", ["--backend", "mlx"]), ("", [])])
async def test_the_trainer_goes_on_in_the_framework_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, words: list[str]
) -> None:
    folder, commands = RunFolder(tmp_path), []

    async def child(_folder: RunFolder, command: list[str], *_: object, **__: object) -> None:
        commands.append(command)
        folder.finish(b"", {"model_path": "", "state_digest": "", "steps": 1, "generations": 1})

    async def ours(*_: object) -> None: ...

    monkeypatch.setattr(activities, "_child", child)
    monkeypatch.setattr(activities, "_own", ours)
    await ActivityEnvironment().run(activities.train_activity, RunRequest(str(tmp_path), "/prepared", LOCAL, backend=backend))
    assert commands == [["train", "--resume", str(tmp_path), "--prepared-dir", "/prepared", *words]]
