"""Ticks and numbers against values written by hand, and laws for any range."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triform.report.axes import Axis, fit_axis, format_number, log_ticks, round_ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (2.0, "2"),
        (-1.5, "\u22121.5"),
        (0.00123456, "0.001235"),
        (123456.0, "123,456"),
        (9.99996, "10"),
        (1.2e-5, "1.2 \u00d7 10\u207b\u2075"),
        (3e8, "3 \u00d7 10\u2078"),
        (math.nan, "not a number"),
        (-math.inf, "\u2212\u221e"),
    ],
)
def test_numbers_as_people_write_them(value: float, text: str) -> None:
    assert format_number(value) == text


def test_round_ticks_by_hand() -> None:
    assert round_ticks(0, 6000) == [0, 2000, 4000, 6000]
    assert round_ticks(1.7, 16.9) == [5, 10, 15]
    assert round_ticks(-0.1, 0.3) == [-0.1, 0, 0.1, 0.2, 0.3]


def test_log_ticks_by_hand() -> None:
    assert log_ticks(0.5, 2000) == [1, 10, 100, 1000]
    assert log_ticks(0.02, 1.1) == [0.03, 0.1, 0.3, 1]


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_lie_inside_and_rise(low: float, span: float) -> None:
    ticks = round_ticks(low, low + span)
    assert 2 <= len(ticks) <= 11
    assert all(a < b for a, b in pairwise(ticks))
    assert low - 1e-6 * span <= ticks[0]
    assert ticks[-1] <= low + span * (1 + 1e-6)


@settings(max_examples=60, deadline=None)
@given(st.floats(-12, 6), st.floats(0.05, 15))
def test_log_ticks_lie_inside(power: float, span: float) -> None:
    low, high = 10.0**power, 10.0 ** (power + span)
    ticks = log_ticks(low, high)
    assert len(ticks) >= 2
    assert all(low * 0.99 <= tick <= high * 1.01 for tick in ticks)


def test_places_are_per_mille_and_ratios_on_a_log_axis() -> None:
    assert Axis(0, 10).place(np.array([0, 5, 10])).tolist() == [0, 500, 1000]
    placed = Axis(1, 100, True).place(np.array([1.0, 10.0, 100.0, 0.0, -1.0, np.inf]))
    np.testing.assert_allclose(placed, [0, 500, 1000, np.nan, np.nan, np.nan])


def test_an_axis_fits_what_can_be_shown() -> None:
    assert fit_axis(np.array([np.nan, 0.0, 10.0]), margin=0.1) == Axis(-1.0, 11.0)
    assert fit_axis(np.array([-3.0, 0.0]), log=True) == Axis(1.0, 10.0, True)
    flat = fit_axis(np.array([2.0, 2.0]))
    assert flat.low < 2.0 < flat.high
