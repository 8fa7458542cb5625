"""Matrices as pictures of one pixel a cell, which the page enlarges without blurring; labels are HTML beside them."""

import base64
from html import escape

import numpy as np
from jaxtyping import Float64, UInt8

from triform.errors import DataError
from triform.report.axes import MINUS, format_number
from triform.report.clouds import HEIGHT_RAMP, ramp_colours
from triform.report.fragment import Fragment, note_html
from triform.report.panels import Heatmap, Heatmaps
from triform.report.poster import encode_png

LABELS = 34
"""Longer lists of labels have only every second, third ... written, so that they can be read."""


def heatmaps_fragment(panel: Heatmaps) -> Fragment:
    """All matrices of `panel`, each with its own scale.

    Raises:
        DataError: A map is empty or no matrix, or labels are not one a row or column.
    """
    figures = "".join(_figure(each) for each in panel.maps)
    return Fragment(f'{note_html(panel.note)}<div class="matrices columns{min(len(panel.maps), 3)}">{figures}</div>')


def heatmap_values(each: Heatmap) -> tuple[Float64[np.ndarray, "row column"], float, float]:
    """The matrix in double precision and both ends of its scale, which starts at 0 unless a value is negative.

    Raises:
        DataError: The map is empty or no matrix, or labels are not one a row or column.
    """
    values = np.asarray(each.values, dtype=np.float64)
    rows, columns = len(each.row_labels), len(each.column_labels)
    if values.ndim != 2 or not values.size or rows not in (0, values.shape[0]) or columns not in (0, values.shape[1]):
        raise DataError(
            f"The map {each.name!r} has shape {values.shape}, {rows} row labels and {columns} column labels",
            expected="a matrix with one label a row and one a column, or none",
            do="Give a matrix, and labels of all its rows or columns",
        )
    known = values[np.isfinite(values)]
    low, high = float(known.min(initial=0.0)), float(known.max(initial=0.0))
    return values, low, high if high > low else low + 1.0


def heatmap_pixels(values: Float64[np.ndarray, "row column"], low: float, high: float) -> UInt8[np.ndarray, "row column 4"]:
    """One pixel a cell, transparent where a value isn't finite."""
    finite = np.isfinite(values)
    parts = np.where(finite, (np.where(finite, values, low) - low) / (high - low), 0.0)
    colours = ramp_colours(HEIGHT_RAMP, parts.ravel()).reshape(*values.shape, 3)
    return np.concatenate([colours, np.where(finite, 255, 0).astype(np.uint8)[..., None]], axis=2)


def label_stride(count: int) -> int:
    """Every how manyth label is written."""
    return -(-count // LABELS)


def _figure(each: Heatmap) -> str:
    values, low, high = heatmap_values(each)
    rows, columns = values.shape
    source = f"data:image/png;base64,{base64.b64encode(encode_png(heatmap_pixels(values, low, high))).decode()}"
    image = f'<img src="{source}" alt="{escape(_spoken(each, values))}" style="aspect-ratio:{columns}/{rows}">'
    bar = f'<i style="background:linear-gradient(90deg,{",".join(HEIGHT_RAMP)})"></i>'
    scale = f'<div class="scale">{bar}<p><span>{format_number(low, 3)}</span><span>{format_number(high, 3)}</span></p></div>'
    return (
        f'<figure class="heatmap"><figcaption><b>{escape(each.name)}</b> <span>{escape(each.caption)}</span></figcaption>'
        f'<div class="matrix">{_labels(each.row_labels, "rows")}{image}{_labels(each.column_labels, "names")}</div>{scale}</figure>'
    )


def _labels(labels: tuple[str, ...], kind: str) -> str:
    stride = label_stride(len(labels)) if labels else 1
    spans = "".join(f"<span>{escape(label) if at % stride == 0 else ''}</span>" for at, label in enumerate(labels))
    return f'<div class="{kind}" aria-hidden="true">{spans}</div>' if labels else ""


def _spoken(each: Heatmap, values: Float64[np.ndarray, "row column"]) -> str:
    text = f"{each.name}, {values.shape[0]} rows and {values.shape[1]} columns"
    if not np.isfinite(values).any():
        return text
    row, column = np.unravel_index(int(np.nanargmax(np.where(np.isfinite(values), values, -np.inf))), values.shape)
    names = [labels[at] if labels else str(at + 1) for labels, at in ((each.row_labels, row), (each.column_labels, column))]
    value = format_number(float(values[row, column]), 3).replace(MINUS, "minus ")
    return f"{text}; the largest value, {value}, in row {names[0]} and column {names[1]}"
