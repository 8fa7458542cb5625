"""The learning rate as a pure function of the step, so that no schedule has a state to save."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from triform.training.config import Training


def learning_rate(settings: Training, step: int, *, steps_per_epoch: int, total_steps: int) -> float:
    """Rate of update number `step` (from 0), at most the settings' `learning_rate`.

    During the warm-up the rate is `learning_rate * (step + 1) / warmup_steps`; after it the schedule counts from the warm-up's end, so that
    the first step without warm-up has the peak.
    Source: cosine, Loshchilov and Hutter, SGDR (ICLR 2017), equation 5 with one cycle; the others are the customary ones.
    """
    peak, warmup = settings.learning_rate, round(settings.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return peak * (step + 1) / warmup
    since, epochs = step - warmup, (step - warmup) / steps_per_epoch
    match settings.scheduler_type:
        case "constant":
            return peak
        case "cosine":
            share = min(1.0, since / max(1, total_steps - 1 - warmup))
            return settings.min_lr + (peak - settings.min_lr) * 0.5 * (1.0 + math.cos(math.pi * share))
        case "step":
            return float(peak * settings.gamma ** math.floor(epochs / settings.step_size))
        case "exponential":
            return float(peak * settings.gamma**epochs)


class Horizon(NamedTuple):
    """From `from_step` on the run is planned to have `num_epochs` epochs."""

    from_step: int
    num_epochs: int


def horizon_at(step: int, horizons: Sequence[Horizon]) -> int:
    """Planned number of epochs as known at `step`: the last recorded change that holds there."""
    return [horizon.num_epochs for horizon in horizons if horizon.from_step <= step][-1]


def rate_function(settings: Training, horizons: Sequence[Horizon], *, steps_per_epoch: int) -> Callable[[int], float]:
    """`learning_rate` of a run whose length was changed on the way."""

    def rate(step: int) -> float:
        total = horizon_at(step, horizons) * steps_per_epoch
        return learning_rate(settings, step, steps_per_epoch=steps_per_epoch, total_steps=total)

    return rate
