"""Curves as inline SVG. The SVG is stretched to any width with strokes of constant width; its labels are HTML beside it."""

from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.errors import DataError
from triform.report.axes import FULL, Axis, fit_axis, format_number
from triform.report.fragment import Fragment, note_html
from triform.report.panels import Curves, Series

COLUMNS = 600
"""Longer series keep the first, lowest, highest and last value of each of so many columns: what a screen can show, spikes included."""

DOTTED_UP_TO = 60
"""Series with at most so many points, such as values measured once an epoch, also get a dot at each point."""

COLOURS = 8
"""Lines and groups take the colours `--c0` to `--c7` of the style sheet, in turn."""


def curves_fragment(panel: Curves) -> Fragment:
    """The chart of `panel`, and for its hover read-out the drawn points with their values.

    Raises:
        DataError: A series has not as many steps as values.
    """
    points = [_thinned(*_arrays(series)) for series in panel.series]
    x_axis = fit_axis(_joined([steps for steps, _ in points]), margin=0.0)
    y_axis = fit_axis(_joined([values for _, values in points]), log=panel.log_y)
    placed = [(x_axis.place(steps), FULL - y_axis.place(values)) for steps, values in points]
    lines = "".join(_line(index, x, y) for index, (x, y) in enumerate(placed))
    html = (
        f'<figure class="chart" data-chart tabindex="0" role="group" aria-label="{escape(_spoken(panel, points))}">'
        f"{note_html(panel.note)}{_legend(panel)}"
        f'<div class="frame">{y_labels(y_axis, panel.y_label)}<div class="plot">{plot_svg(x_axis, y_axis, lines)}'
        f'<div class="cursor" hidden></div><div class="tip" hidden></div></div>{x_labels(x_axis, panel.x_label)}</div></figure>'
    )
    series = [_hover(line.name, *drawn, *at) for line, drawn, at in zip(panel.series, points, placed, strict=True)]
    return Fragment(html, (("charts", {"x_label": panel.x_label, "series": series}),))


def plot_svg(x_axis: Axis, y_axis: Axis, marks: str) -> str:
    """The stretched drawing: grid lines, then marks."""
    rows = "".join(f"M0 {FULL - at:.1f}H{FULL}" for at in _places(y_axis))
    columns = "".join(f"M{at:.1f} {FULL}V0" for at in _places(x_axis))
    return (
        f'<svg viewBox="0 0 {FULL} {FULL}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="grid" d="{rows}"/><path class="grid faint" d="{columns}"/>{marks}</svg>'
    )


def y_labels(axis: Axis, name: str) -> str:
    """Tick labels left of the plot, and the axis' name above them."""
    ticks = zip(axis.ticks(), _places(axis), strict=True)
    spans = "".join(f'<span style="bottom:{at / 10:.2f}%">{format_number(tick)}</span>' for tick, at in ticks)
    widest = max((format_number(tick) for tick in axis.ticks()), key=len, default="")
    return f'<div class="y-name">{escape(name)}</div><div class="y-ticks" aria-hidden="true"><i>{widest}</i>{spans}</div>'


def x_labels(axis: Axis, name: str) -> str:
    """Tick labels below the plot, and the axis' name after them."""
    ticks = zip(axis.ticks(), _places(axis), strict=True)
    spans = "".join(f'<span style="left:{at / 10:.2f}%">{format_number(tick, 6)}</span>' for tick, at in ticks)
    return f'<div class="x-ticks" aria-hidden="true">{spans}</div><div class="x-name">{escape(name)}</div>'


def _places(axis: Axis) -> list[float]:
    return [float(at) for at in axis.place(np.array(axis.ticks(), dtype=np.float64))]


def _arrays(series: Series) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    steps, values = (np.asarray(part, dtype=np.float64).reshape(-1) for part in (series.steps, series.values))
    if steps.shape != values.shape:
        raise DataError(
            f"Series {series.name!r} has {steps.size} steps and {values.size} values",
            expected="one value a step",
            do="Give both from the same rows of the metrics log",
        )
    order = np.argsort(steps, kind="stable")
    return steps[order], values[order]


def _joined(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(parts) if parts else np.empty(0)


def _thinned(steps: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if steps.size <= 4 * COLUMNS:
        return steps, values
    kept: list[int] = []
    for column in np.array_split(np.arange(steps.size), COLUMNS):
        inside = values[column]
        lowest, highest = np.argmin(np.nan_to_num(inside, nan=np.inf)), np.argmax(np.nan_to_num(inside, nan=-np.inf))
        kept += sorted({int(column[at]) for at in (0, lowest, highest, column.size - 1)})
    return steps[kept], values[kept]


def _line(index: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    colour = f"--c:var(--c{index % COLOURS})"
    shown = np.isfinite(x) & np.isfinite(y)
    starts = shown & ~np.concatenate(([False], shown[:-1])) if shown.size else shown
    path = "".join(f"{'M' if start else 'L'}{a:.1f} {b:.1f}" for start, a, b in zip(starts[shown], x[shown], y[shown], strict=True))
    dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x[shown], y[shown], strict=True)) if shown.sum() <= DOTTED_UP_TO else ""
    dense = " dense" if shown.sum() > COLUMNS else ""
    return f'<path class="line{dense}" style="{colour}" d="{path}"/>' + (
        f'<path class="dots" style="{colour}" d="{dots}"/>' if dots else ""
    )


def _legend(panel: Curves) -> str:
    items = "".join(f'<li style="--c:var(--c{index % COLOURS})">{escape(line.name)}</li>' for index, line in enumerate(panel.series))
    return f'<ul class="legend">{items}</ul>'


def _hover(name: str, steps: Any, values: Any, x: Any, y: Any) -> dict[str, Any]:
    shown = np.isfinite(x) & np.isfinite(y)
    return {
        "name": name,
        "x": [round(float(at), 1) for at in x[shown]],
        "y": [round(float(at), 1) for at in y[shown]],
        "step": [format_number(float(step), 8) for step in steps[shown]],
        "value": [format_number(float(value)) for value in values[shown]],
    }


def _spoken(panel: Curves, points: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> str:
    """What a screen reader says instead of the drawing: where each series starts and ends."""
    parts = [f"Chart of {panel.title} by {panel.x_label}."]
    for line, (_, values) in zip(panel.series, points, strict=True):
        seen = values[np.isfinite(values)]
        if seen.size:
            parts.append(f"{line.name}: from {format_number(float(seen[0]))} to {format_number(float(seen[-1]))}.")
    return " ".join(parts)
