"""Figures that pyplot doesn't know, and how all of them look."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

from triform.report.atomic import replace_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 2
DOTS_PER_INCH = 120
WIDTH, HEIGHT = 5.6, 3.4
"""Size of one chart in inches."""

COLOURS = ("#2c66c4", "#d9822b", "#21875f", "#b8405e", "#7a5bc0", "#17899e", "#8a6d1f", "#6b7684")


def new_figure(width: float, height: float, *, dpi: int = DOTS_PER_INCH) -> "Figure":
    """A figure that pyplot doesn't know, so that nothing has to be closed; sides in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def grid(count: int, *, size: float = 1.0) -> tuple["Figure", list["Axes"]]:
    """A figure with `count` charts in rows of `COLUMNS`."""
    columns = max(1, min(COLUMNS, count))
    rows = max(1, math.ceil(count / columns))
    figure = new_figure(WIDTH * columns * size, HEIGHT * rows * size)
    return figure, [figure.add_subplot(rows, columns, index + 1) for index in range(count)]


def save(path: Path, figure: "Figure") -> None:
    """Write the figure as PNG. Equal figures give equal bytes. Raises: CannotWrite, DiskFull."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    replace_bytes(path, buffer.getvalue())


def dress(axes: "Axes", title: str, x_label: str, y_label: str) -> None:
    """Title, names and a quiet grid."""
    axes.set_title(literal(title), fontsize=10, loc="left")
    axes.set_xlabel(literal(x_label), fontsize=8)
    axes.set_ylabel(literal(y_label), fontsize=8)
    axes.tick_params(which="both", labelsize=8)
    axes.set_axisbelow(True)
    axes.grid(color="#e6e9ed", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def literal(text: str) -> str:
    """Text that matplotlib shows as it is: a dollar sign starts no formula, and a leading underscore hides no legend entry."""
    escaped = text.replace("$", r"\$")
    return f"\u200b{escaped}" if escaped.startswith("_") else escaped
