"""What travels through the server: names, paths, digests and small numbers; never arrays, never file lists."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from triform.durable.policies import LOCAL, PREFIX, Policies


class Desired(StrEnum):
    """What the user wants of the training."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"


@dataclass(frozen=True)
class PipelineRequest:
    """One run: everything a worker needs to begin or to go on."""

    run_name: str
    run_folder: str
    experiment: str
    """The resolved experiment as JSON."""
    fingerprint: str
    overrides: list[str] = field(default_factory=list)
    prefix: str = PREFIX
    """Of the task queues."""
    max_parallel: int = 2
    """Batches of preprocessing at a time."""
    policies: Policies = LOCAL


@dataclass(frozen=True)
class Prepared:
    """What preprocessing planned, and later what it made."""

    prepared_dir: str
    num_batches: int = 0
    digest: str = ""
    num_samples: int = 0
    quarantined: int = 0


@dataclass(frozen=True)
class BatchRequest:
    """One batch of the plan that lies in `prepared_dir`."""

    prepared_dir: str
    index: int


@dataclass(frozen=True)
class RunRequest:
    """An activity on a run's folder."""

    run_folder: str
    prepared_dir: str
    policies: Policies
    backend: str = ""
    """Framework to go on in (empty: the one that the run's folder names)."""


@dataclass(frozen=True)
class EpochsRequest:
    """Change a run's length from its newest commit on."""

    run_folder: str
    prepared_dir: str
    num_epochs: int
    key: str
    """Names the request, so that a retry records nothing twice."""


@dataclass(frozen=True)
class TrainResult:
    """Of a finished training."""

    model_path: str
    state_digest: str
    steps: int
    generations: int


@dataclass(frozen=True)
class EvaluateResult:
    """Of an evaluation and its report."""

    metrics: dict[str, Any]
    report_path: str


@dataclass(frozen=True)
class PipelineResult:
    """Of the whole run."""

    model_path: str
    metrics: dict[str, Any]
    dataset_digest: str
    quarantined: int
    generations: int
    state_digest: str
    report_path: str


@dataclass(frozen=True)
class View:
    """What the workflow knows of itself; finer progress is in the activity's heartbeat and in the status file."""

    stage: str
    desired: Desired
    segments: int
    prepared_batches: int = 0
    num_batches: int = 0
