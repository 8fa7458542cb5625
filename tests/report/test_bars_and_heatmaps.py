"""Bars and matrices: lengths and colours are the values."""

import re

import numpy as np
import pytest
from pose_sample import attention, bars

from triform.errors import DataError
from triform.report.bars_svg import FULL, bars_fragment
from triform.report.clouds import HEIGHT_RAMP
from triform.report.heatmaps import heatmap_pixels, heatmap_values, heatmaps_fragment, label_stride
from triform.report.panels import Bars, BarSeries, Heatmap, Heatmaps


def widths(panel: Bars) -> list[tuple[float, float]]:
    """(left end, width) of each bar, in per cent."""
    found = re.findall(r'<rect class="bar"[^>]* x="([\d.]+)%"[^>]* width="([\d.]+)%"', bars_fragment(panel).html)
    return [(float(left), float(width)) for left, width in found]


def test_a_bar_is_as_long_as_its_value() -> None:
    panel = Bars("b", ("a", "b", "c"), (BarSeries("s", [10, 40, 0]), BarSeries("t", [20, np.nan, 30])), "mm")
    assert sum(widths(panel), ()) == pytest.approx((0, FULL / 4, 0, FULL / 2, 0, FULL, 0, 0, 0, 0.75 * FULL), abs=0.01)
    html = bars_fragment(panel).html
    assert re.findall(r"<text[^>]*>([^<]*)</text>", html) == ["10.0", "20.0", "40.0", "\u2013", "0.0", "30.0"]
    assert 'aria-label="s 10 mm, t 20 mm"' in html


def test_a_negative_value_goes_left_of_zero() -> None:
    ((left, width), (zero, rest)) = widths(Bars("b", ("a", "b"), (BarSeries("change", [-1.0, 3.0]),), "mm"))
    assert (left, width, zero, rest) == pytest.approx((0, FULL / 4, FULL / 4, 0.75 * FULL), abs=0.01)


@pytest.mark.parametrize("values", [[0.0, 0.0], [np.nan, np.inf], [1e-9, 0.0], [1e12, 1.0]])
def test_any_values_have_bars(values: list[float]) -> None:
    assert "nan" not in bars_fragment(Bars("b", ("a", "b"), (BarSeries("s", values),), "")).html
    assert bars_fragment(Bars("none", (), (), "")).html


def test_one_series_needs_no_legend_and_two_have_one() -> None:
    two = bars()[0]
    assert bars_fragment(two).html.count("<li") == 2
    assert "<li" not in bars_fragment(Bars("b", two.labels, two.series[:1], "mm")).html
    assert bars_fragment(two).html.count("<dt>") == 17


def test_bars_need_a_value_a_label() -> None:
    with pytest.raises(DataError, match="'s' of 'b' have 1 values"):
        bars_fragment(Bars("b", ("a", "b"), (BarSeries("s", [1.0]),), "mm"))


def test_a_cell_has_the_colour_of_its_value() -> None:
    values, low, high = heatmap_values(Heatmap("m", "", np.array([[0.0, 2.0], [np.nan, 1.0]], dtype=np.float32)))
    assert (low, high) == (0, 2)
    pixels = heatmap_pixels(values, low, high)
    first, last = ([int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in (HEIGHT_RAMP[0], HEIGHT_RAMP[-1]))
    assert pixels[0, 0].tolist() == [*first, 255]
    assert pixels[0, 1].tolist() == [*last, 255]
    assert pixels[1, 0, 3] == 0


def test_maps_are_pictures_with_labels_and_a_scale() -> None:
    html = heatmaps_fragment(attention()).html
    assert html.count("data:image/png") == html.count('class="scale"') == 2
    assert html.count("<span>l_elbow</span>") == 2
    assert 'class="matrices columns2"' in html
    assert "81 rows and 81 columns; the largest value, 0.0675, in row 1 and column 1" in html


def test_many_labels_are_thinned() -> None:
    assert [label_stride(count) for count in (1, 34, 35, 81, 243)] == [1, 1, 2, 3, 8]
    each = Heatmap("m", "caption", np.eye(70, dtype=np.float32), tuple(f"row {at}" for at in range(70)))
    html = heatmaps_fragment(Heatmaps("m", (each,))).html
    assert html.count("<span>row ") == 24
    assert html.count("<span></span>") == 46


@pytest.mark.parametrize("value", [0.0, -2.0, np.nan, 5.0])
def test_a_map_of_one_value_has_a_scale(value: float) -> None:
    assert "nan" not in heatmaps_fragment(Heatmaps("m", (Heatmap("a", "", np.full((2, 3), value, np.float32)),))).html


@pytest.mark.parametrize(
    ("shape", "rows", "columns"), [((0, 3), (), ()), ((2,), (), ()), ((2, 2), ("a",), ()), ((2, 2), (), ("a", "b", "c"))]
)
def test_a_map_that_does_not_fit_is_refused(shape: tuple[int, ...], rows: tuple[str, ...], columns: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="The map 'm' has shape"):
        heatmaps_fragment(Heatmaps("t", (Heatmap("m", "", np.zeros(shape, np.float32), rows, columns),)))
