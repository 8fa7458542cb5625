"""Axes of charts: round ticks, numbers as people write them, and data mapped to per mille of the plot's width and height."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FULL = 1000
"""Plots are drawn in a square of 1000 units that the page stretches: text stays outside it, and so keeps its size."""

MINUS, TIMES, POWERS = (
    "\u2212",
    "\u00d7",
    str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"),
)


def format_number(value: float, digits: int = 4) -> str:
    """`value` with `digits` significant digits, no trailing zeros, and a power of ten only where plain digits are unreadable."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else f"{MINUS if value < 0 else ''}\u221e"
    if value == 0:
        return "0"
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    if -4 <= int(power) < 7:
        text = f"{value:,.{max(digits - 1 - int(power), 0)}f}"
        return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", MINUS)
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa} {TIMES} 10{str(int(power)).translate(POWERS)}".replace("-", MINUS)


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within [low, high]; about `count` of them."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], with 2 and 5 times them where fewer than three powers fit."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    stride = max(1, math.ceil(len(powers) / 7))
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [float(f"{factor}e{power}") for power in powers[::stride] for factor in factors]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) >= 3:
            return ticks
    return ticks if len(ticks) >= 2 else round_ticks(low, high)


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values, and whether distances on it are ratios."""

    low: float
    high: float
    log: bool = False

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions in per mille of the axis; NaN where a value has none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high, at = (
                np.log10(part) if self.log else part for part in (self.low, self.high, np.where(np.isfinite(values), values, np.nan))
            )
            placed = (at - low) / (high - low) * FULL
        return np.where(np.isfinite(placed), placed, np.nan)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values to write beside the axis."""
        return log_ticks(self.low, self.high) if self.log else round_ticks(self.low, self.high, count)


def fit_axis(values: NDArray[np.float64], *, log: bool = False, margin: float = 0.05) -> Axis:
    """The axis that shows every finite value (on a log axis: every positive one), with a margin as a part of the range."""
    shown = values[np.isfinite(values) & ((values > 0) if log else True)]
    if shown.size == 0:
        return Axis(1.0, 10.0, True) if log else Axis(0.0, 1.0)
    low, high = float(shown.min()), float(shown.max())
    if log:
        room = (high / low) ** margin if high > low else 2.0
        return Axis(low / room, high * room, True)
    room = (high - low) * margin if high > low else (abs(high) * 0.5 if margin else 0.5) or 0.5
    return Axis(low - room, high + room)
