"""Names, errors as ours, and what a pending activity waits for."""

import json
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, RetryState, TerminatedError

from triform.durable import client as runs
from triform.durable.activities import _Ending, refusal, translated
from triform.durable.client import Snapshot, as_ours, workflow_id
from triform.durable.policies import LOCAL, local
from triform.errors import BY_EXIT_CODE, DiskFull, RunInUse, Stopped, TriformError, UsageError
from triform.terminal import progress_line


def failed(cause: BaseException) -> WorkflowFailureError:
    """A workflow's failure as a client sees it."""
    activity = ActivityError(
        "activity failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="w",
        activity_type="train_activity",
        activity_id="1",
        retry_state=RetryState.NON_RETRYABLE_FAILURE,
    )
    activity.__cause__ = cause
    return WorkflowFailureError(cause=activity)


@pytest.mark.parametrize("kind", [*BY_EXIT_CODE.values(), RunInUse])
def test_every_error_of_ours_comes_back_with_its_exit_code(kind: type[TriformError]) -> None:
    error = as_ours(failed(refusal(kind("what was got", expected="better", do="mend it"))))
    assert type(error) is kind
    assert error.exit_code == kind.exit_code
    assert str(error) == "what was got. Expected: better. Do this: mend it."


def test_a_foreign_failure_names_its_innermost_cause() -> None:
    error = as_ours(failed(ApplicationError("libgomp: no", type="RuntimeError")))
    assert (type(error), error.exit_code) == (TriformError, 1)
    assert "libgomp: no" in str(error)


@pytest.mark.parametrize(("cause", "word"), [(CancelledError("x"), "cancelled"), (TerminatedError("x"), "terminated")])
def test_an_end_by_hand_is_a_stop_and_not_a_failure(cause: BaseException, word: str) -> None:
    error = as_ours(WorkflowFailureError(cause=cause))
    assert isinstance(error, Stopped)
    assert word in str(error)


def test_equal_names_in_two_folders_are_two_workflows_on_the_users_own_server() -> None:
    assert workflow_id("a") == "ml-pipeline/a"
    here, there = (workflow_id("a", Path(place)) for place in ("/x/runs/a", "/y/runs/a"))
    assert here != there
    assert here.startswith("ml-pipeline/a@")


def pending(*, kind: str = "", text: str = "", state: int = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED) -> PendingActivityInfo:
    info = PendingActivityInfo(state=state)  # type: ignore[arg-type]
    if kind:
        info.last_failure.message = text
        info.last_failure.application_failure_info.type = kind
    return info


def test_what_an_activity_waits_for_is_said_in_words() -> None:
    assert runs._waits_for(pending()) == "a worker"
    assert (
        runs._waits_for(pending(kind="TrainerKilled", text="killed by signal 9")) == "the next try after TrainerKilled: killed by signal 9"
    )
    for running in ("STARTED", "CANCEL_REQUESTED", "PAUSE_REQUESTED"):
        state = PendingActivityState.Value(f"PENDING_ACTIVITY_STATE_{running}")
        assert runs._waits_for(pending(kind="TrainerKilled", state=state)) == "", "an old failure is no reason while it runs"


def test_a_full_disk_shows_as_waiting_for_disk_space() -> None:
    full = DiskFull("The disk that holds /runs/a is full", do="free some space")
    told = translated(_Ending(full.exit_code, {"kind": "DiskFull", "text": str(full), "retryable": True}), LOCAL)
    assert not told.non_retryable
    assert told.next_retry_delay is not None
    assert told.next_retry_delay.total_seconds() == LOCAL.disk_retry
    waiting = runs._waits_for(pending(kind=str(told.type), text=told.message))
    line = progress_line(Snapshot("train", {}, waiting))
    assert line == "train: waiting for disk space (The disk that holds /runs/a is full. Do this: free some space.)"


def test_the_own_servers_policies_can_be_changed_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIFORM_POLICIES", raising=False)
    assert local() == LOCAL
    monkeypatch.setenv("TRIFORM_POLICIES", json.dumps({"heartbeat_timeout": 3}))
    assert (local().heartbeat_timeout, local().stop_grace) == (3.0, LOCAL.stop_grace)
    for wrong in ("{", "[1]", '{"speed": 1}', '{"beat": "fast"}'):
        monkeypatch.setenv("TRIFORM_POLICIES", wrong)
        with pytest.raises(UsageError, match="TRIFORM_POLICIES is"):
            local()
