"""The learning rate as a pure function of the step, so that no schedule has a state to save."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from triform.training.config import ConstantSchedule, CosineSchedule, ExponentialSchedule, Schedule, StepSchedule


def learning_rate(schedule: Schedule, step: int, *, peak: float, steps_per_epoch: int, total_steps: int) -> float:
    """Rate of update number `step` (from 0), at most `peak`.

    During the warm-up the rate is `peak * (step + 1) / warmup_steps`; after it the schedule counts from the warm-up's end, so that
    the first step without warm-up has the peak.
    Source: cosine, Loshchilov and Hutter, SGDR (ICLR 2017), equation 5 with one cycle; the others are the customary ones.
    """
    warmup = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return peak * (step + 1) / warmup
    since, epochs = step - warmup, (step - warmup) / steps_per_epoch
    match schedule:
        case ConstantSchedule():
            return peak
        case CosineSchedule(min_lr=low):
            share = min(1.0, since / max(1, total_steps - 1 - warmup))
            return low + (peak - low) * 0.5 * (1.0 + math.cos(math.pi * share))
        case StepSchedule(gamma=gamma, step_size=size):
            return float(peak * gamma ** math.floor(epochs / size))
        case ExponentialSchedule(gamma=gamma):
            return float(peak * gamma**epochs)


class Horizon(NamedTuple):
    """From `from_step` on the run is planned to have `num_epochs` epochs."""

    from_step: int
    num_epochs: int


def horizon_at(step: int, horizons: Sequence[Horizon]) -> int:
    """Planned number of epochs as known at `step`: the last recorded change that holds there."""
    return [horizon.num_epochs for horizon in horizons if horizon.from_step <= step][-1]


def rate_function(schedule: Schedule, horizons: Sequence[Horizon], *, peak: float, steps_per_epoch: int) -> Callable[[int], float]:
    """`learning_rate` of a run whose length was changed on the way."""

    def rate(step: int) -> float:
        total = horizon_at(step, horizons) * steps_per_epoch
        return learning_rate(schedule, step, peak=peak, steps_per_epoch=steps_per_epoch, total_steps=total)

    return rate
