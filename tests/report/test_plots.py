"""PNG charts: valid, equal for equal input, and without a trace in matplotlib's global state."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sample import curves, distances, embedding_map, subject_map

from triform.errors import CannotWrite, DataError
from triform.report.panels import Curves, Histogram, HistogramSeries, Series
from triform.report.plots import draw_curves, draw_distribution, draw_histogram, draw_panels, draw_scatter

LOSSES = {"loss": np.linspace(0, 1, 99) ** 3, "triplet_loss": np.linspace(1, 2, 99), "accuracy": np.ones(99)}
DRAWN = [
    (lambda path: draw_distribution(path, LOSSES), (816, 1344)),
    (lambda path: draw_histogram(path, distances()), (408, 672)),
    (lambda path: draw_scatter(path, subject_map().points, subject_map().groups, "Map"), (652, 1075)),
    (lambda path: draw_scatter(path, embedding_map().points, embedding_map().groups, "Map"), (652, 1075)),
]


def test_curves_are_drawn_and_equal_each_time(tmp_path: Path) -> None:
    from matplotlib.image import imread

    for name in ("a.png", "b.png"):
        draw_curves(tmp_path / "plots" / name, curves())
    assert (tmp_path / "plots" / "a.png").read_bytes() == (tmp_path / "plots" / "b.png").read_bytes()
    image = imread(tmp_path / "plots" / "a.png")
    assert image.shape[:2] == (816, 1344)
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 50
    assert "matplotlib.pyplot" not in sys.modules
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["a.png", "b.png"]


def test_odd_input_is_drawn(tmp_path: Path) -> None:
    strange = Curves("100 % of $x_{1$", (Series("_hidden", [0, 1, 2], [np.nan, -1.0, 0.0]), Series("", [], [])), log_y=True)
    draw_curves(tmp_path / "a.png", [strange])
    draw_curves(tmp_path / "none.png", [])
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert (tmp_path / "none.png").is_file()


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="Check its permissions"):
        draw_curves(tmp_path / "file" / "a.png", [])


@pytest.mark.parametrize(("draw", "shape"), DRAWN)
def test_charts_are_drawn_and_equal_each_time(draw: Callable[[Path], None], shape: tuple[int, int], tmp_path: Path) -> None:
    from matplotlib.image import imread

    for name in ("a.png", "b.png"):
        draw(tmp_path / "plots" / name)
    assert (tmp_path / "plots" / "a.png").read_bytes() == (tmp_path / "plots" / "b.png").read_bytes()
    image = imread(tmp_path / "plots" / "a.png")
    assert image.shape[:2] == shape
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 50
    assert "matplotlib.pyplot" not in sys.modules
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    "values",
    [[], [np.nan], [0.0], [0.3] * 9, [0.3, np.nextafter(0.3, 1)], [-1e300, 1e300], [5e-324, 0.0], np.ones((3, 4), dtype=np.float32)],
)
def test_any_values_have_a_distribution(values: object, tmp_path: Path) -> None:
    draw_distribution(tmp_path / "a.png", {"$_loss": values})
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_rare_value_has_a_log_axis_and_missing_ones_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from triform.report import plots

    figures = []
    monkeypatch.setattr(plots, "save", lambda path, figure: figures.append(figure))
    draw_distribution(tmp_path / "a.png", {"rare": [*[1.0] * 500, 2.0], "even": [1.0, 2.0, np.nan, np.inf]})
    rare, even = figures[0].axes
    assert (rare.get_yscale(), even.get_yscale()) == ("log", "linear")
    assert even.get_title(loc="left") == "even (2 not finite)"


def test_a_histogram_draws_shares_or_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from triform.report import plots

    figures = []
    monkeypatch.setattr(plots, "save", lambda path, figure: figures.append(figure))
    for share in (True, False):
        draw_histogram(tmp_path / "a.png", Histogram("h", (HistogramSeries("a", [0, 1, 2], [1, 3]),), "mm", share=share))
    heights = [figure.axes[0].patches[0].get_data().values.tolist() for figure in figures]
    assert heights == [[0.25, 0.75], [1, 3]]


def test_a_few_groups_are_named_and_many_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from triform.report import plots

    figures = []
    monkeypatch.setattr(plots, "save", lambda path, figure: figures.append(figure))
    for panel in (embedding_map(), subject_map()):
        draw_scatter(tmp_path / "a.png", panel.points, panel.groups, "Map")
    few, many = (figure.axes[0] for figure in figures)
    assert [text.get_text() for text in few.get_legend().get_texts()] == list(dict.fromkeys(embedding_map().groups))
    assert many.get_legend() is None
    assert many.get_title(loc="left") == "Map (60 groups)"


def test_a_scatter_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Project the embeddings"):
        draw_scatter(tmp_path / "a.png", np.zeros((2, 2)), ("a",), "Map")
    with pytest.raises(DataError, match="Project the embeddings"):
        draw_scatter(tmp_path / "a.png", np.full((1, 2), np.nan), ("a",), "Map")
    assert list(tmp_path.iterdir()) == []


def test_distributions_and_maps_are_files_named_after_their_titles(tmp_path: Path) -> None:
    draw_panels(tmp_path, [curves()[0], distances(), replace(embedding_map(), title="Embedding of test, t-SNE")])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2
    assert "embedding_of_test_t_sne.png" in names
    assert re.sub(r"[^a-z]", "", distances().title.lower()) in {re.sub(r"[^a-z]", "", name.removesuffix(".png")) for name in names}


@pytest.mark.parametrize(("values", "scale"), [([0.02, 0.2, 2.0], "log"), ([0.7, 0.9, 1.3], "linear"), ([1.0, 0.0, 5.0], "linear")])
def test_curves_within_a_decade_have_no_log_axis(values: list[float], scale: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their ticks would read "9 x 10^-1", in large letters."""
    from triform.report import plots

    figures = []
    monkeypatch.setattr(plots, "save", lambda path, figure: figures.append(figure))
    draw_curves(tmp_path / "a.png", [Curves("Distance", (Series("train", [0, 1, 2], values),), log_y=True)])
    (axes,) = figures[0].axes
    assert axes.get_yscale() == scale
    figures[0].canvas.draw()
    assert {label.get_fontsize() for label in axes.get_yticklabels(which="both")} == {8.0}
