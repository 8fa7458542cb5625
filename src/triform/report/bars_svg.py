"""Bars as inline SVG: one row a label, its value behind each bar. Widths are parts of the page's; heights and text keep their size."""

from html import escape

import numpy as np
from jaxtyping import Float64

from triform.errors import DataError
from triform.report.axes import MINUS, format_number
from triform.report.curves_svg import COLOURS
from triform.report.fragment import Fragment, note_html
from triform.report.panels import Bars

FULL = 82.0
"""Per cent of the drawing's width that the longest bar takes; the rest is for the value behind it."""

LANE, GAP = 13, 4
"""Height of a bar, and the room around the bars of a row, in pixels."""


def bars_fragment(panel: Bars) -> Fragment:
    """The bars of `panel`.

    Raises:
        DataError: A series has not one value a label.
    """
    values = bar_values(panel)
    low, high = bar_range(values)
    places = decimals(low, high)
    rows = "".join(
        f'<dt>{escape(label)}</dt><dd aria-label="{escape(_spoken(panel, row))}">{_row(row, low, high, places)}</dd>'
        for label, row in zip(panel.labels, values.T, strict=True)
    )
    unit = f'<p class="what">{escape(panel.unit)}</p>' if panel.unit else ""
    return Fragment(f'{note_html(panel.note)}{_legend(panel)}{unit}<dl class="bars">{rows}</dl>')


def bar_values(panel: Bars) -> Float64[np.ndarray, "series label"]:
    """All values, a row for each series.

    Raises:
        DataError: A series has not one value a label.
    """
    rows = [np.asarray(series.values, dtype=np.float64).reshape(-1) for series in panel.series]
    for series, row in zip(panel.series, rows, strict=True):
        if row.size != len(panel.labels):
            raise DataError(
                f"The bars {series.name!r} of {panel.title!r} have {row.size} values",
                expected=f"{len(panel.labels)}, one a label",
                do="Give NaN for a value that is missing",
            )
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(panel.labels))


def bar_range(values: Float64[np.ndarray, "series label"]) -> tuple[float, float]:
    """Ends of the scale; 0 is always on it, because a bar's length is its value."""
    known = values[np.isfinite(values)]
    low, high = float(known.min(initial=0.0)), float(known.max(initial=0.0))
    return (low, high) if high > low else (0.0, 1.0)


def decimals(low: float, high: float) -> int:
    """Places behind the point that show three digits of the longest bar; all bars have as many."""
    return int(np.clip(2 - np.floor(np.log10(max(-low, high))), 0, 6))


def _row(row: Float64[np.ndarray, " series"], low: float, high: float, places: int) -> str:
    zero = -low / (high - low) * FULL
    bars = "".join(_bar(index, float(value), zero, FULL / (high - low), places) for index, value in enumerate(row))
    height = LANE * len(row) + 2 * GAP
    line = f'<rect class="zero" x="{zero:.2f}%" y="0" width="1" height="{height}"/>'
    return f'<svg height="{height}" width="100%" aria-hidden="true">{line}{bars}</svg>'


def _bar(index: int, value: float, zero: float, scale: float, places: int) -> str:
    top, colour = GAP + LANE * index, f"--c:var(--c{index % COLOURS})"
    if not np.isfinite(value):
        return f'<text x="{zero:.2f}%" dx="6" y="{top + LANE - 3}">\u2013</text>'
    left, width = zero + min(value, 0.0) * scale, abs(value) * scale
    return (
        f'<rect class="bar" style="{colour}" x="{left:.2f}%" y="{top}" width="{width:.2f}%" height="{LANE - 2}" rx="2"/>'
        f'<text x="{left + width:.2f}%" dx="6" y="{top + LANE - 3}">{bar_text(value, places)}</text>'
    )


def bar_text(value: float, places: int) -> str:
    """The value behind its bar."""
    return f"{value:,.{places}f}".replace("-", MINUS) if abs(value) < 1e7 else format_number(value, 3)


def _legend(panel: Bars) -> str:
    if len(panel.series) < 2:
        return ""
    items = "".join(f'<li style="--c:var(--c{index % COLOURS})">{escape(series.name)}</li>' for index, series in enumerate(panel.series))
    return f'<ul class="legend">{items}</ul>'


def _spoken(panel: Bars, row: Float64[np.ndarray, " series"]) -> str:
    texts = (
        f"{series.name} {format_number(float(value), 3)} {panel.unit}".strip() for series, value in zip(panel.series, row, strict=True)
    )
    return ", ".join(texts)
