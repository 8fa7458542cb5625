"""How long things may take and how soon they are tried again; a local and a cluster profile."""

import json
import os
from dataclasses import dataclass, replace

from triform.errors import UsageError

PREFIX = "triform"


@dataclass(frozen=True, kw_only=True)
class Policies:
    """Seconds, all of them. They travel with the request, so that client and workers agree."""

    heartbeat_timeout: float
    """A worker silent for this long has lost its activity."""
    beat: float
    """Between two heartbeats."""
    throttle: float
    """Between two heartbeats that reach the server: the delay of a pause or cancellation."""
    retry: float
    """Before an activity of a lost worker is tried again; on a cluster longer than the heartbeat timeout."""
    killed_retry: float
    """After a killed trainer."""
    crashed_retry: float
    """After a crashed trainer."""
    preempted_retry: float
    """After a worker that was asked to stop."""
    disk_retry: float
    """While the disk is full."""
    stop_grace: float
    """From asking a trainer to stop to killing it."""
    stall: float
    """Without a step, a trainer is taken for stuck."""
    train_timeout: float = 14 * 86400.0
    """Backstop of one attempt to train."""
    evaluate_timeout: float = 6 * 3600.0
    """Backstop of one evaluation."""
    batch_timeout: float = 1800.0
    """Backstop of one batch of preprocessing."""

    @property
    def graceful_shutdown(self) -> float:
        """A worker asked to stop waits this long for its activities."""
        return self.stop_grace + 30.0


LOCAL = Policies(
    heartbeat_timeout=30.0,
    beat=2.0,
    throttle=2.0,
    retry=5.0,
    killed_retry=2.0,
    crashed_retry=15.0,
    preempted_retry=2.0,
    disk_retry=60.0,
    stop_grace=120.0,
    stall=600.0,
)

CLUSTER = Policies(
    heartbeat_timeout=120.0,
    beat=10.0,
    throttle=30.0,
    retry=150.0,
    killed_retry=30.0,
    crashed_retry=60.0,
    preempted_retry=5.0,
    disk_retry=600.0,
    stop_grace=75.0,
    stall=900.0,
)


def local() -> Policies:
    """Those of the user's own server: LOCAL, with the fields that TRIFORM_POLICIES names as JSON in place of its own.

    Raises: UsageError: the variable is no JSON object, or names something else.
    """
    told = os.environ.get("TRIFORM_POLICIES", "{}")
    try:
        return replace(LOCAL, **{name: float(seconds) for name, seconds in json.loads(told).items()})
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"TRIFORM_POLICIES is {told!r} ({error})",
            expected='seconds by name, such as {"heartbeat_timeout": 10}',
            do="correct the variable or unset it",
        ) from error


def queue(prefix: str, kind: str) -> str:
    """Task queue of a kind of work: `orchestrator` (workflows), `cpu` or `gpu`."""
    return f"{prefix}-{kind}"
