"""Bars, matrices and strips of skeletons as PNG."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from triform.report.bars_svg import bar_range, bar_text, bar_values, decimals
from triform.report.clouds import HEIGHT_RAMP
from triform.report.figures import COLOURS, grid, literal, new_figure, save
from triform.report.heatmaps import heatmap_values, label_stride
from triform.report.panels import Bars, Heatmap, Heatmaps, PoseClips
from triform.report.pose_geometry import check_clips, clip_length, strip_frames
from triform.report.pose_lines import clip_views

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 4
CELL = 1.5
"""Frames of a strip, and the size of each picture in inches."""

ROW = 0.19
"""Height of a bar in inches."""


def draw_bars(path: Path, panel: Bars) -> None:
    """Draw the bars into a PNG at `path`, the first label at the top. Equal panels give equal bytes.

    Raises:
        DataError: A series has not one value a label.
        CannotWrite: The system refused; `path` is as it was.
    """
    values = bar_values(panel)
    low, high = bar_range(values)
    series, labels = values.shape
    figure = new_figure(5.6, 1.0 + ROW * labels * (series + 0.6))
    axes = figure.add_subplot()
    for index, (line, row) in enumerate(zip(panel.series, values, strict=True)):
        places = np.arange(labels) + (index - (series - 1) / 2) * 0.8 / series
        drawn = axes.barh(places, np.nan_to_num(row), 0.74 / series, color=COLOURS[index % len(COLOURS)], label=literal(line.name))
        texts = [bar_text(float(value), decimals(low, high)) if np.isfinite(value) else "\u2013" for value in row]
        axes.bar_label(drawn, texts, padding=3, fontsize=7)
    axes.set_yticks(np.arange(labels), [literal(label) for label in panel.labels])
    axes.set_ylim(labels - 0.4, -0.6)
    axes.set_xlim(low * 1.15, high * 1.15)
    axes.set_title(literal(panel.title), fontsize=10, loc="left")
    axes.set_xlabel(literal(panel.unit), fontsize=8)
    axes.tick_params(labelsize=8, length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    if series > 1:
        axes.legend(fontsize=8, frameon=False)
    save(path, figure)


def draw_heatmaps(path: Path, panel: Heatmaps) -> None:
    """Draw the matrices into a PNG at `path`, two in a row, each with its scale. Equal panels give equal bytes.

    Raises:
        DataError: A map is empty or no matrix, or labels are not one a row or column.
        CannotWrite: The system refused; `path` is as it was.
    """
    figure, charts = grid(len(panel.maps), size=1.15)
    for axes, each in zip(charts, panel.maps, strict=True):
        _heatmap(figure, axes, each)
    figure.suptitle(literal(panel.title), fontsize=10, x=0.02, ha="left")
    save(path, figure)


def draw_poses(path: Path, panel: PoseClips) -> None:
    """Draw a few frames of each clip into a PNG at `path`: the 2D input beside prediction over truth. Equal panels give equal bytes.

    Raises:
        DataError: Arrays of a clip don't fit together or the skeleton.
        CannotWrite: The system refused; `path` is as it was.
    """
    check_clips(panel)
    rows = max(len(panel.clips), 1)
    figure = new_figure(CELL * 2 * SHOWN, (CELL + 0.3) * rows + 0.5)
    for row, clip in enumerate(panel.clips):
        for column, frame in enumerate(strip_frames(clip_length(clip), SHOWN)):
            charts = [figure.add_subplot(rows, 2 * SHOWN, 2 * SHOWN * row + 2 * column + side + 1) for side in (0, 1)]
            for view in clip_views(charts, clip, panel):
                view.place(int(frame))
            name = f"{clip.name}, frame {frame + 1:,}" if column == 0 else f"frame {frame + 1:,}"
            charts[0].set_title(literal(name), fontsize=8, loc="left")
    figure.suptitle(literal(panel.title), fontsize=10, x=0.02, ha="left")
    save(path, figure)


def _heatmap(figure: "Figure", axes: "Axes", each: Heatmap) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    values, low, high = heatmap_values(each)
    ramp = LinearSegmentedColormap.from_list("ramp", HEIGHT_RAMP)
    image = axes.imshow(
        values,
        cmap=ramp,
        vmin=low,
        vmax=high,
        interpolation="nearest",
        aspect="equal" if 0.5 < values.shape[0] / values.shape[1] < 2 else "auto",
    )
    figure.colorbar(image, ax=axes).ax.tick_params(labelsize=7)
    title = f"{each.name}, {each.caption}" if each.caption else each.name
    axes.set_title(literal(title), fontsize=8, loc="left")
    axes.tick_params(labelsize=7, length=0)
    for labels, put, turn in ((each.row_labels, axes.set_yticks, 0), (each.column_labels, axes.set_xticks, 90)):
        if labels:
            stride = label_stride(len(labels))
            put(range(0, len(labels), stride), [literal(label) for label in labels[::stride]], rotation=turn)
    axes.spines[:].set_visible(False)
