"""Settings of the training loop, of the schedule and of checkpoints."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import Field

from triform.settings import settings

NonNegative = Annotated[float, Ge(0)]
Decay = Annotated[float, Interval(gt=0, le=1)]


@settings
class ConstantSchedule:
    """The rate stays."""

    kind: Literal["constant"] = "constant"
    warmup_epochs: NonNegative = 0.0
    """Epochs in which the rate rises linearly from zero."""


@settings
class CosineSchedule:
    """The rate falls along half a cosine to `min_lr` at the last step (SGDR, ICLR 2017, one cycle)."""

    kind: Literal["cosine"] = "cosine"
    warmup_epochs: NonNegative = 0.0
    """Epochs in which the rate rises linearly from zero."""
    min_lr: NonNegative = 1e-6
    """Rate at the end."""


@settings
class StepSchedule:
    """The rate is multiplied by `gamma` every `step_size` epochs."""

    kind: Literal["step"] = "step"
    warmup_epochs: NonNegative = 0.0
    """Epochs in which the rate rises linearly from zero."""
    step_size: Annotated[int, Gt(0)] = 20
    """Epochs between two falls."""
    gamma: Decay = 0.7
    """Factor of a fall."""


@settings
class ExponentialSchedule:
    """The rate is multiplied by `gamma` every epoch, smoothly by the step."""

    kind: Literal["exponential"] = "exponential"
    warmup_epochs: NonNegative = 0.0
    """Epochs in which the rate rises linearly from zero."""
    gamma: Decay = 0.99
    """Factor of an epoch."""


Schedule = Annotated[ConstantSchedule | CosineSchedule | StepSchedule | ExponentialSchedule, Field(discriminator="kind")]


@settings
class Checkpoints:
    """When state is committed and how much of it stays."""

    every_steps: Annotated[int, Ge(0)] = 0
    """Commit after this many steps (0: only by time and by epoch)."""
    every_seconds: Annotated[float, Gt(0)] = 600.0
    """Commit at the latest after this many seconds."""
    keep_last: Annotated[int, Ge(2)] = 3
    """Newest commits that stay; two at least, so that a torn one has one to fall back on."""
    keep_every: Annotated[int, Ge(0)] = 0
    """Of the older commits keep those whose step is a multiple of this (0: none)."""


@settings
class Training:
    """How long, how fast and how carefully a model is trained."""

    num_epochs: Annotated[int, Gt(0)] = 100
    """Passes over the training split."""
    batch_size: Annotated[int, Gt(0)] = 32
    """Samples of an optimizer step."""
    learning_rate: Annotated[float, Gt(0)] = 1e-3
    """AdamW's rate at its highest, per step."""
    weight_decay: NonNegative = 1e-4
    """AdamW's decoupled decay, per step and unit of rate."""
    gradient_clip: NonNegative = 1.0
    """Largest global norm of the gradient (0: no clipping)."""
    schedule: Schedule = field(default_factory=CosineSchedule)
    """How the rate changes with the step."""
    monitor: str = "cd_l2"
    """Validation metric that picks the best model; lower is better."""
    validate_every: Annotated[int, Gt(0)] = 1
    """Epochs between two validations."""
    patience: Annotated[int, Ge(0)] = 0
    """Validations without improvement after which training stops early (0: never)."""
    min_delta: NonNegative = 0.0
    """Smallest fall of `monitor` that counts as an improvement."""
    log_interval: Annotated[int, Gt(0)] = 1
    """Steps between two rows of the metrics log."""
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    """When state is committed."""
    plot_every: Annotated[int, Gt(0)] = 10
    """Epochs between two drawings of the curves."""
    loader_workers: Annotated[int, Ge(0)] = 1
    """Threads that prepare batches ahead (0: none); the batches are the same for any number."""
    num_threads: Annotated[int, Ge(0)] = 0
    """Threads of the mathematics (0: as many as this process may use). A run keeps the number it began with."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the model lives."""
