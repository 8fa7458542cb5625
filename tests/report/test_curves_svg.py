"""Charts and maps: where the points land, gaps, thinning, and the refusal of arrays that don't fit."""

import numpy as np
import pytest

from triform.errors import DataError
from triform.report.curves_svg import COLUMNS, curves_fragment
from triform.report.panels import Curves, Scatter, Series
from triform.report.scatter_svg import scatter_fragment


def test_points_land_where_they_should() -> None:
    panel = Curves("Loss", (Series("train", [0, 10], [1.0, 3.0]),))
    ((_, data),) = curves_fragment(panel).data
    assert data["series"] == [{"name": "train", "x": [0.0, 1000.0], "y": [954.5, 45.5], "step": ["0", "10"], "value": ["1", "3"]}]


def test_values_that_are_not_finite_are_gaps() -> None:
    fragment = curves_fragment(Curves("Loss", (Series("train", [0, 1, 2, 3], [1.0, np.nan, 2.0, 3.0]),)))
    path = fragment.html.split('class="line"')[1].split(' d="')[1].split('"')[0]
    assert path.count("M") == 2
    assert path.count("L") == 1


def test_a_log_axis_leaves_out_what_is_not_positive() -> None:
    ((_, data),) = curves_fragment(Curves("Loss", (Series("a", [0, 1, 2], [1.0, 0.0, 0.01]),), log_y=True)).data
    assert data["series"][0]["step"] == ["0", "2"]


def test_a_long_series_keeps_its_spike() -> None:
    values = np.sin(np.arange(100_000) / 999)
    values[54_321] = 77.0
    ((_, data),) = curves_fragment(Curves("Loss", (Series("train", np.arange(100_000), values),))).data
    assert len(data["series"][0]["x"]) <= 4 * COLUMNS
    assert "77" in data["series"][0]["value"]
    assert data["series"][0]["step"][-1] == "99,999"


def test_empty_panels_are_drawn() -> None:
    assert "<svg" in curves_fragment(Curves("Loss", ())).html
    assert "<svg" in curves_fragment(Curves("Loss", (Series("train", [], []),), log_y=True)).html
    assert "<svg" in scatter_fragment(Scatter("Map", np.zeros((0, 2)), (), ())).html


def test_steps_and_values_must_pair() -> None:
    with pytest.raises(DataError, match="2 steps and 1 values"):
        curves_fragment(Curves("Loss", (Series("train", [0, 1], [1.0]),)))


def test_a_map_has_one_scale_in_both_directions() -> None:
    panel = Scatter("Map", np.array([[0, 0], [8, 0], [0, 5]], dtype=np.float32), ("a", "b", "c"), ("x", "y", "x"))
    ((_, data),) = scatter_fragment(panel).data
    across, upright = data["x"][1] - data["x"][0], data["y"][0] - data["y"][2]
    assert across * 1.6 / upright == pytest.approx(8 / 5, rel=1e-3)
    assert data["group"] == [0, 1, 0]
    assert data["groups"] == ["x", "y"]


@pytest.mark.parametrize(
    ("points", "labels"), [(np.zeros((2, 3)), ("a", "b")), (np.zeros((2, 2)), ("a",)), (np.full((2, 2), np.nan), ("a", "b"))]
)
def test_a_map_refuses_what_does_not_fit(points: np.ndarray, labels: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="Project the embeddings"):
        scatter_fragment(Scatter("Map", points, labels, ("g", "g")))
