"""Charts as PNG, for a look at a run that still trains and for papers."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from triform.errors import DataError
from triform.report.axes import fit_axis
from triform.report.figures import COLOURS, dress, grid, literal, save
from triform.report.histogram_svg import checked_bins
from triform.report.panels import Bars, Curves, Heatmaps, Histogram, Panel, PoseClips, Scatter
from triform.report.pose_plots import draw_bars, draw_heatmaps, draw_poses

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 51
"""Odd, so that a value that is always the same has a bar in the middle."""

LOG_CURVES_FROM = 10.0
"""Curves are drawn on a log axis where the greatest value is so many times the least: labels within a decade can't be read."""

LOG_FROM = 100.0
"""Counts are drawn on a log axis where the greatest is so many times the least: a rare large loss would be less than a pixel high."""

MARKERS = "o^sDvPXp"
NAMED_GROUPS = 20
"""A scatter of more groups has no legend: it would hide the points."""


def draw_curves(path: Path, panels: Sequence[Curves]) -> None:
    """Draw every chart of `panels` into one PNG at `path`, two in a row. Equal panels give equal bytes.

    matplotlib's global state (pyplot, rcParams, the interactive backend) is neither used nor changed.

    Raises:
        CannotWrite: The system refused; `path` is as it was.
    """
    figure, axes = grid(len(panels))
    for each, panel in zip(axes, panels, strict=True):
        _draw(each, panel)
    save(path, figure)


def draw_distribution(path: Path, series: Mapping[str, ArrayLike]) -> None:
    """Draw a histogram of each entry of `series` (values of any shape and number) into one PNG at `path`, two in a row.

    Values that are not finite are left out, and the title says how many. Equal values give equal bytes.

    Raises:
        CannotWrite: The system refused; `path` is as it was.
    """
    figure, axes = grid(len(series))
    for index, (each, (name, values)) in enumerate(zip(axes, series.items(), strict=True)):
        flat = np.asarray(values, dtype=np.float64).reshape(-1)
        finite = flat[np.isfinite(flat)]
        missing = flat.size - finite.size
        counts, edges = np.histogram(finite, _edges(finite))
        each.stairs(counts, edges, fill=True, color=COLOURS[index % len(COLOURS)])
        _log_counts(each, counts)
        dress(each, f"{name} ({missing:,} not finite)" if missing else name, "", "count")
    save(path, figure)


def draw_histogram(path: Path, panel: Histogram) -> None:
    """Draw overlaid distributions into a PNG at `path`. Equal panels give equal bytes.

    Raises:
        DataError: Edges and counts of a series don't fit together.
        CannotWrite: The system refused; `path` is as it was.
    """
    bins = [checked_bins(line) for line in panel.series]
    figure, (axes,) = grid(1)
    for index, (line, (edges, counts)) in enumerate(zip(panel.series, bins, strict=True)):
        colour, height = COLOURS[index % len(COLOURS)], counts / (counts.sum() or 1.0) if panel.share else counts
        axes.stairs(height, edges, fill=True, color=colour, alpha=0.22)
        axes.stairs(height, edges, color=colour, linewidth=1.4, label=literal(line.name))
    dress(axes, panel.title, panel.x_label, panel.y_label or ("share of each" if panel.share else "count"))
    if panel.series:
        axes.legend(fontsize=8, frameon=False)
    save(path, figure)


def draw_scatter(path: Path, points: ArrayLike, groups: Sequence[str], title: str) -> None:
    """Draw a map of embeddings, `points` (n, 2) coloured and shaped by group, into a PNG at `path`. Equal input gives equal bytes.

    Raises:
        DataError: There is not one group a point, or a point is not finite.
        CannotWrite: The system refused; `path` is as it was.
    """
    places = np.asarray(points, dtype=np.float64)
    if places.shape != (len(groups), 2) or not np.isfinite(places).all():
        raise DataError(
            f"The map {title!r} has points of shape {places.shape} and {len(groups)} groups, or values that are not finite",
            expected="finite points (n, 2) with n groups",
            do="Project the embeddings to two dimensions and drop samples that have none",
        )
    figure, (axes,) = grid(1, size=1.6)
    names, index = list(dict.fromkeys(groups)), np.array(groups)
    for number, name in enumerate(names):
        x, y = places[index == name].T
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]
        axes.scatter(x, y, s=20, linewidths=0, alpha=0.8, label=literal(name), color=colour, marker=marker)
    dress(axes, title if len(names) <= NAMED_GROUPS else f"{title} ({len(names)} groups)", "", "")
    axes.set_aspect("equal", adjustable="datalim")
    if 1 < len(names) <= NAMED_GROUPS:
        axes.legend(fontsize=8, frameon=False, ncols=1 + (len(names) > 10))
    save(path, figure)


def draw_panels(folder: Path, panels: Sequence[Panel]) -> None:
    """Draw each distribution, map of embeddings, bars, matrices and poses among `panels` into a PNG in `folder`, named after its title:
    "Embedding of test, t-SNE" is `embedding_of_test_t_sne.png`.

    Raises: as `draw_histogram`, `draw_scatter`, `draw_bars`, `draw_heatmaps` and `draw_poses`.
    """
    for panel in panels:
        path = folder / f"{re.sub(r'[^a-z0-9]+', '_', panel.title.lower()).strip('_')}.png"
        if isinstance(panel, Histogram):
            draw_histogram(path, panel)
        elif isinstance(panel, Scatter):
            draw_scatter(path, panel.points, panel.groups, panel.title)
        elif isinstance(panel, Bars):
            draw_bars(path, panel)
        elif isinstance(panel, Heatmaps):
            draw_heatmaps(path, panel)
        elif isinstance(panel, PoseClips):
            draw_poses(path, panel)


def _draw(axes: "Axes", panel: Curves) -> None:
    log_y = panel.log_y and _spans_decades(panel)
    for index, series in enumerate(panel.series):
        steps, values = np.asarray(series.steps, dtype=np.float64), np.asarray(series.values, dtype=np.float64)
        shown = np.where(np.isfinite(values) & ((values > 0) | (not panel.log_y)), values, np.nan)
        marker = "." if len(steps) <= 60 else ""
        axes.plot(steps, shown, label=literal(series.name), color=COLOURS[index % len(COLOURS)], linewidth=1.4, marker=marker)
    if log_y:
        axes.set_yscale("log")
    dress(axes, panel.title, panel.x_label, panel.y_label)
    if panel.series:
        axes.legend(fontsize=8, frameon=False)


def _spans_decades(panel: Curves) -> bool:
    values = np.concatenate([np.zeros(0), *(np.asarray(series.values, dtype=np.float64) for series in panel.series)])
    shown = values[np.isfinite(values) & (values > 0)]
    return bool(shown.size and shown.max() >= LOG_CURVES_FROM * shown.min())


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of `BINS` equal bins; values that differ by rounding alone share the middle one."""
    axis = fit_axis(values, margin=0.0)
    if axis.high - axis.low > 1e-9 * max(abs(axis.low), abs(axis.high)):
        return np.linspace(axis.low, axis.high, BINS + 1)
    room = 0.5 * max(abs(axis.low), 1e-300)
    return np.linspace(axis.low - room, axis.high + room, BINS + 1)


def _log_counts(axes: "Axes", counts: NDArray[np.int64]) -> None:
    present = counts[counts > 0]
    if present.size and present.max() >= LOG_FROM * present.min():
        axes.set_yscale("log")
