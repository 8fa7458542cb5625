"""Distributions as inline SVG: outlines with a light fill, one over the other, and a read-out of every bin."""

from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float64

from triform.errors import DataError
from triform.report.axes import FULL, Axis, fit_axis, format_number
from triform.report.curves_svg import COLOURS, plot_svg, x_labels, y_labels
from triform.report.fragment import Fragment, note_html
from triform.report.panels import Histogram, HistogramSeries

HEADROOM = 1.06


def histogram_fragment(panel: Histogram) -> Fragment:
    """The chart of `panel`, and for its hover read-out the middle of every bin.

    Raises:
        DataError: Edges are not one more than the counts or don't increase, or a count is negative or not finite.
    """
    series = [checked_bins(line) for line in panel.series]
    heights = [counts / (counts.sum() or 1.0) if panel.share else counts for _, counts in series]
    x_axis = fit_axis(np.concatenate([np.zeros(0), *(edges for edges, _ in series)]), margin=0.0)
    y_axis = Axis(0.0, HEADROOM * max((float(each.max(initial=0.0)) for each in heights), default=0.0) or 1.0)
    placed = [(x_axis.place(edges), FULL - y_axis.place(height)) for (edges, _), height in zip(series, heights, strict=True)]
    bars = "".join(_bars(index, x, y) for index, (x, y) in enumerate(placed))
    y_name = panel.y_label or ("share of each" if panel.share else "count")
    html = (
        f'<figure class="chart" data-chart tabindex="0" role="group" aria-label="{escape(_spoken(panel, series))}">'
        f"{note_html(panel.note)}{_legend(panel, series)}"
        f'<div class="frame">{y_labels(y_axis, y_name)}<div class="plot">{plot_svg(x_axis, y_axis, bars)}'
        f'<div class="cursor" hidden></div><div class="tip" hidden></div></div>{x_labels(x_axis, panel.x_label)}</div></figure>'
    )
    hover = [_hover(line.name, *bins, *at) for line, bins, at in zip(panel.series, series, placed, strict=True)]
    return Fragment(html, (("charts", {"x_label": panel.x_label, "series": hover}),))


def checked_bins(series: HistogramSeries) -> tuple[Float64[np.ndarray, " edge"], Float64[np.ndarray, " bin"]]:
    """Edges and counts of a series.

    Raises:
        DataError: Edges are not one more than the counts or don't increase, or a count is negative or not finite.
    """
    edges, counts = (np.asarray(part, dtype=np.float64).reshape(-1) for part in (series.edges, series.counts))
    if edges.size != counts.size + 1 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise DataError(
            f"The distribution {series.name!r} has {edges.size} edges and {counts.size} counts, or edges that don't increase",
            expected="one more edge than counts, increasing",
            do="Give what numpy.histogram returns, its counts second",
        )
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise DataError(
            f"The distribution {series.name!r} has counts that are negative or not finite",
            expected="counts of 0 or more",
            do="Give what numpy.histogram returns, its counts second",
        )
    return edges, counts


def _bars(index: int, x: Float64[np.ndarray, " edge"], y: Float64[np.ndarray, " bin"]) -> str:
    """One closed outline: no line between bins, so that what lies behind stays readable."""
    if not y.size:
        return ""
    steps = "".join(f"V{height:.1f}H{right:.1f}" for height, right in zip(y, x[1:], strict=True))
    return f'<path class="bars" style="--c:var(--c{index % COLOURS})" d="M{x[0]:.1f} {FULL}{steps}V{FULL}Z"/>'


def _legend(panel: Histogram, series: list[tuple[Float64[np.ndarray, " edge"], Float64[np.ndarray, " bin"]]]) -> str:
    items = "".join(
        f'<li style="--c:var(--c{index % COLOURS})">{escape(line.name)} ({format_number(float(counts.sum()), 7)})</li>'
        for index, (line, (_, counts)) in enumerate(zip(panel.series, series, strict=True))
    )
    return f'<ul class="legend">{items}</ul>'


def _hover(
    name: str,
    edges: Float64[np.ndarray, " edge"],
    counts: Float64[np.ndarray, " bin"],
    x: Float64[np.ndarray, " edge"],
    y: Float64[np.ndarray, " bin"],
) -> dict[str, Any]:
    total = float(counts.sum()) or 1.0
    texts = [format_number(float(edge), 4) for edge in edges]
    return {
        "name": name,
        "x": [round(float(at), 1) for at in (x[:-1] + x[1:]) / 2],
        "y": [round(float(at), 1) for at in y],
        "step": [f"{low} to {high}" for low, high in pairwise(texts)],
        "value": [f"{format_number(float(count), 7)} ({format_number(100 * float(count) / total, 3)} %)" for count in counts],
    }


def _spoken(panel: Histogram, series: list[tuple[Float64[np.ndarray, " edge"], Float64[np.ndarray, " bin"]]]) -> str:
    """What a screen reader says instead of the drawing: how many values each distribution has, and around which its middle lies."""
    parts = [f"Distributions of {panel.title} over {panel.x_label}."]
    for line, (edges, counts) in zip(panel.series, series, strict=True):
        parts.append(f"{line.name}: {format_number(float(counts.sum()), 7)} values{_middle(edges, counts)}.")
    return " ".join(parts)


def _middle(edges: Float64[np.ndarray, " edge"], counts: Float64[np.ndarray, " bin"]) -> str:
    if not counts.sum():
        return ""
    at = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    return f", the middle one between {format_number(float(edges[at]))} and {format_number(float(edges[at + 1]))}"
