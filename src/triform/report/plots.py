"""Curves as a PNG, for a look at a run that still trains."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from triform.report.atomic import replace_bytes
from triform.report.panels import Curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 2
DOTS_PER_INCH = 120
WIDTH, HEIGHT = 5.6, 3.4
"""Size of one chart in inches."""

COLOURS = ("#2c66c4", "#d9822b", "#21875f", "#b8405e", "#7a5bc0", "#17899e", "#8a6d1f", "#6b7684")


def draw_curves(path: Path, panels: Sequence[Curves]) -> None:
    """Draw every chart of `panels` into one PNG at `path`, two in a row. Equal panels give equal bytes.

    matplotlib's global state (pyplot, rcParams, the interactive backend) is neither used nor changed.

    Raises:
        CannotWrite: The system refused; `path` is as it was.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(1, min(COLUMNS, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    for index, panel in enumerate(panels):
        _draw(figure.add_subplot(rows, columns, index + 1), panel)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    replace_bytes(path, buffer.getvalue())


def _draw(axes: "Axes", panel: Curves) -> None:
    for index, series in enumerate(panel.series):
        steps, values = np.asarray(series.steps, dtype=np.float64), np.asarray(series.values, dtype=np.float64)
        shown = np.where(np.isfinite(values) & ((values > 0) | (not panel.log_y)), values, np.nan)
        marker = "." if len(steps) <= 60 else ""
        axes.plot(steps, shown, label=_literal(series.name), color=COLOURS[index % len(COLOURS)], linewidth=1.4, marker=marker)
    if panel.log_y:
        axes.set_yscale("log")
    axes.set_title(_literal(panel.title), fontsize=10, loc="left")
    axes.set_xlabel(_literal(panel.x_label), fontsize=8)
    axes.set_ylabel(_literal(panel.y_label), fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e6e9ed", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.series:
        axes.legend(fontsize=8, frameon=False)


def _literal(text: str) -> str:
    """Text that matplotlib shows as it is: a dollar sign starts no formula, and a leading underscore hides no legend entry."""
    escaped = text.replace("$", r"\$")
    return f"\u200b{escaped}" if escaped.startswith("_") else escaped
