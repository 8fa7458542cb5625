"""PNG curves: valid, equal for equal input, and without a trace in matplotlib's global state."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sample import curves

from triform.errors import CannotWrite
from triform.report.panels import Curves, Series
from triform.report.plots import draw_curves


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
