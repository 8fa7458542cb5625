"""Settings of the training loop and of checkpoints."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from triform.settings import settings

NonNegative = Annotated[float, Ge(0)]
Decay = Annotated[float, Interval(gt=0, le=1)]


@settings
class Checkpoints:
    """When state is committed and how much of it stays."""

    every_steps: Annotated[int, Ge(0)] = 0
    """Commit after this many steps (0: only by time and by epoch)."""
    every_seconds: Annotated[float, Gt(0)] = 600.0
    """Commit at the latest after this many seconds."""
    save_frequency: Annotated[int, Ge(0)] = 0
    """Commit at the end of every epoch whose number is a multiple of this, and keep these commits (0: none)."""
    keep_best_n: Annotated[int, Ge(0)] = 0
    """Commit at each validation that is among this many best, and keep these commits (0: none; the best weights ride along anyway)."""
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
    """Samples of a batch."""
    learning_rate: Annotated[float, Gt(0)] = 1e-3
    """AdamW's rate at its highest, per step."""
    weight_decay: NonNegative = 1e-4
    """AdamW's decoupled decay, per step and unit of rate."""
    gradient_clip: NonNegative = 1.0
    """Largest global norm of the gradient (0: no clipping)."""
    gradient_accumulation_steps: Annotated[int, Gt(0)] = 1
    """Batches whose gradients are averaged for one optimizer step."""
    scheduler_type: Literal["cosine", "step", "exponential", "constant"] = "cosine"
    """How the rate falls: along half a cosine to `min_lr`, by `gamma` every `step_size` epochs, by `gamma` every epoch, or not at all."""
    warmup_epochs: NonNegative = 0.0
    """Epochs in which the rate rises linearly from zero."""
    min_lr: NonNegative = 1e-6
    """Rate at the end of a cosine."""
    step_size: Annotated[int, Gt(0)] = 20
    """Epochs between two falls of a step schedule."""
    gamma: Decay = 0.9
    """Factor of a fall: every `step_size` epochs, or, smoothly, every epoch of an exponential schedule."""
    jit_compile: bool = False
    """Compile the step (mx.compile, torch.compile): a slow first step for faster ones."""
    mixed_precision: bool = False
    """Products in bfloat16; weights, statistics and sums stay in float32."""
    kernels: Literal["auto", "fast", "reference"] = "auto"
    """PyTorch's geometry: the fast kernels, the plain forms that they are held against, or `auto`, fast where they are installed."""
    monitor: str = "auto"
    """Validation metric that picks the best model (auto: the task's own)."""
    validate_every: Annotated[int, Gt(0)] = 1
    """Epochs between two validations."""
    patience: Annotated[int, Ge(0)] = 0
    """Validations without improvement after which training stops early (0: never)."""
    min_delta: NonNegative = 0.0
    """Smallest change of `monitor` for the better that counts as an improvement."""
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
    device: Literal["auto", "cpu", "cuda", "mps", "metal"] = "auto"
    """Where the model lives; `auto` is the fastest there is."""
    mlx_memory_limit_mb: Annotated[int, Ge(0)] = 0
    """Memory that MLX tries to stay within (MiB; 0: its own limit)."""
    mlx_cache_limit_mb: Annotated[int, Ge(0)] = 0
    """Freed memory that MLX keeps for itself (MiB; 0: its own limit)."""
