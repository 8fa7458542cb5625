"""Schedules against values worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform.training.config import Training
from triform.training.schedule import Horizon, horizon_at, learning_rate, rate_function


def settings(kind, **changes):
    return Training(scheduler_type=kind, learning_rate=1.0, **changes)


def rate(schedule, step, total=100):
    return learning_rate(schedule, step, steps_per_epoch=10, total_steps=total)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        (settings("constant"), 0, 1.0),
        (settings("constant"), 99, 1.0),
        (settings("constant", warmup_epochs=1), 0, 0.1),
        (settings("constant", warmup_epochs=1), 9, 1.0),
        (settings("cosine", min_lr=0.0), 0, 1.0),
        (settings("cosine", min_lr=0.2), 99, 0.2),
        (settings("cosine", min_lr=0.2), 33, 0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 3))),
        (settings("cosine", min_lr=0.2), 500, 0.2),
        (settings("step", step_size=2, gamma=0.5), 19, 1.0),
        (settings("step", step_size=2, gamma=0.5), 20, 0.5),
        (settings("step", step_size=2, gamma=0.5), 99, 0.5**4),
        (settings("exponential", gamma=0.5), 10, 0.5),
        (settings("exponential", gamma=0.5), 5, 0.5**0.5),
        (settings("exponential", gamma=0.5, warmup_epochs=1), 10, 1.0),
    ],
)
def test_values(schedule, step, expected):
    assert rate(schedule, step) == pytest.approx(expected, rel=1e-12)


@given(step=st.integers(0, 200), warmup=st.floats(0, 5))
def test_the_rate_never_leaves_its_bounds(step, warmup):
    for schedule in (settings("cosine", min_lr=0.01, warmup_epochs=warmup), settings("step", warmup_epochs=warmup), settings("constant")):
        assert 0.0 < rate(schedule, step) <= 1.0


def test_a_new_horizon_holds_from_its_step_on():
    horizons = (Horizon(0, 10), Horizon(40, 20), Horizon(60, 5))
    assert [horizon_at(step, horizons) for step in (0, 39, 40, 59, 60, 1000)] == [10, 10, 20, 20, 5, 5]
    changed = rate_function(settings("cosine", min_lr=0.0), horizons, steps_per_epoch=10)
    assert changed(39) == rate(settings("cosine", min_lr=0.0), 39, total=100)
    assert changed(40) == rate(settings("cosine", min_lr=0.0), 40, total=200)
