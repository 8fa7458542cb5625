"""Distributions: the outline, shares and read-out against values written by hand, and the refusal of bins that don't fit."""

import numpy as np
import pytest

from triform.errors import DataError
from triform.report.histogram_svg import histogram_fragment
from triform.report.panels import Histogram, HistogramSeries


def path_of(html: str, index: int = 0) -> str:
    """The outline of a series."""
    return html.split('class="bars"')[1 + index].split(' d="')[1].split('"')[0]


def test_the_outline_by_hand() -> None:
    panel = Histogram("Distances", (HistogramSeries("genuine", [0, 1, 4], [1, 2]),), "mm", share=False)
    assert path_of(histogram_fragment(panel).html) == "M0.0 1000V528.3H250.0V56.6H1000.0V1000Z"


def test_shares_make_a_small_distribution_as_high_as_a_large_one() -> None:
    small, large = HistogramSeries("genuine", [0, 1, 2], [1, 3]), HistogramSeries("impostor", [0, 1, 2], [3000, 1000])
    fragment = histogram_fragment(Histogram("Distances", (small, large), "mm"))
    ((_, data),) = fragment.data
    assert data["series"][0]["y"] == data["series"][1]["y"][::-1]
    assert data["series"][1]["value"] == ["3,000 (75 %)", "1,000 (25 %)"]
    assert "share of each" in fragment.html
    assert "impostor (4,000)" in fragment.html


def test_the_read_out_is_in_the_middle_of_each_bin() -> None:
    ((kind, data),) = histogram_fragment(Histogram("Distances", (HistogramSeries("a", [0, 1, 4], [1, 2]),), "distance")).data
    assert kind == "charts"
    assert data["x_label"] == "distance"
    assert data["series"][0]["x"] == [125.0, 625.0]
    assert data["series"][0]["step"] == ["0 to 1", "1 to 4"]


def test_series_with_other_edges_share_the_axis() -> None:
    series = (HistogramSeries("a", [0, 5], [1]), HistogramSeries("b", [5, 10], [1]))
    html = histogram_fragment(Histogram("Distances", series, "mm")).html
    assert path_of(html).endswith("H500.0V1000Z")
    assert path_of(html, 1).startswith("M500.0 1000V")


def test_a_screen_reader_hears_number_and_middle() -> None:
    html = histogram_fragment(Histogram("Distances", (HistogramSeries("genuine", [0, 1, 2, 3], [1, 5, 1]),), "mm")).html
    assert "genuine: 7 values, the middle one between 1 and 2." in html


def test_empty_distributions_are_drawn() -> None:
    for series in ((), (HistogramSeries("a", [0, 1], [0]),), (HistogramSeries("a", [0], []),)):
        assert "<svg" in histogram_fragment(Histogram("Distances", series, "mm")).html


@pytest.mark.parametrize(
    ("edges", "counts"), [([0, 1], [1, 2]), ([0, 0], [1]), ([1, 0], [1]), ([0, np.nan], [1]), ([0, 1], [-1]), ([0, 1], [np.inf]), ([], [])]
)
def test_bins_that_do_not_fit_are_refused(edges: list[float], counts: list[float]) -> None:
    with pytest.raises(DataError, match="'worst'"):
        histogram_fragment(Histogram("Distances", (HistogramSeries("worst", edges, counts),), "mm"))
