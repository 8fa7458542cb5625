"""The page as text: nothing but our own script can run, nothing is loaded, equal reports give equal bytes."""

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sample import sample_report

from triform.errors import CannotWrite, DataError
from triform.report.page import embedded_json, render_report, viewer_file, write_report
from triform.report.panels import (
    Bars,
    BarSeries,
    CloudPair,
    CloudPairs,
    Curves,
    Event,
    Events,
    Fact,
    Heatmap,
    Heatmaps,
    Histogram,
    HistogramSeries,
    KeyValues,
    MeshView,
    MeshViews,
    PoseClip,
    PoseClips,
    Report,
    Scatter,
    Series,
    Table,
)

EVIL = "</script><script>alert(1)</script><img src=x onerror=\"alert(2)\" a='b'>&amp;\u2028"


def evil_report() -> Report:
    """Markup wherever text can be."""
    cloud, e = np.zeros((3, 3), dtype=np.float32), EVIL
    pose = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    panels = (
        Curves(e, (Series(e, [0, 1], [1.0, 2.0]),), e, e, False, e),
        Table(e, (e, e), ((e, 1.0),), e),
        CloudPairs(e, (CloudPair(e, e, cloud, cloud, np.ones(3, dtype=np.float32)),), e, "y", e),
        Scatter(e, np.eye(2), (e, e), (e, e), e, e),
        Scatter(e, np.zeros((20, 2)), (e,) * 20, tuple(f"{e}{index}" for index in range(20)), e, e),
        Histogram(e, (HistogramSeries(e, [0, 1], [2]),), e, e, e),
        MeshViews(e, (MeshView(e, e, cloud, np.array([[0, 1, 2]], dtype=np.int32), np.ones(3, dtype=np.float32)),), e, "y", e, e),
        PoseClips(e, (PoseClip(e, e, pose, pose, pose[..., :2], pose[..., 0] > 1, 25.0),), (-1, 0), (), (), e, (0, -1, 0), e),
        Bars(e, (e, e), (BarSeries(e, [1.0, 2.0]), BarSeries(e, [3.0, np.nan])), e, e),
        Heatmaps(e, (Heatmap(e, e, np.eye(2, dtype=np.float32), (e, e), (e, e)),), e),
        Events(e, (Event(e, e, e),), e),
        KeyValues(e, ((e, e),)),
    )
    return Report(e, e, (Fact(e, e, e),), panels, e)


class Elements(HTMLParser):
    """Counts elements, and keeps the attributes that could run or load something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.sources: list[str] = []
        self.handlers: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in ("meta", "link", "img", "input", "br", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "path":
            assert self.open.pop() == tag


def test_markup_in_names_is_text() -> None:
    elements = Elements(render_report(evil_report()))
    assert elements.tags["script"] == 2
    assert elements.tags["img"] == 4
    assert elements.handlers == []
    assert elements.open == []


def test_nothing_is_loaded_and_elements_are_closed(sample_page: Path) -> None:
    elements = Elements(sample_page.read_text(encoding="utf-8"))
    assert elements.open == []
    assert all(source.startswith(("#", "data:")) for source in elements.sources)


def test_embedded_json_comes_back_and_cannot_end_its_script() -> None:
    text = embedded_json({"name": EVIL})
    assert json.loads(text) == {"name": EVIL}
    assert not set("<>&\u2028") & set(text)


def test_the_policy_names_the_script_by_its_digest(sample_page: Path) -> None:
    page = sample_page.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src &#x27;none&#x27;")
    assert "unsafe-eval" not in policy[1]
    assert f"<script>{viewer_file('viewer.min.js')}</script>" in page


def test_equal_reports_give_equal_bytes(sample_page: Path, tmp_path: Path) -> None:
    write_report(tmp_path / "again.html", sample_report())
    assert (tmp_path / "again.html").read_bytes() == sample_page.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.html"]


def test_every_panel_has_a_section_and_a_link(sample_page: Path) -> None:
    page, report = sample_page.read_text(encoding="utf-8"), sample_report()
    assert re.findall(r'<section id="s(\d+)"', page) == [str(index) for index in range(len(report.panels))]
    for index, panel in enumerate(report.panels):
        assert f'<a href="#s{index}">{panel.title}</a>' in page
    for fact in report.facts:
        assert f"<dd>{fact.value}</dd>" in page


def test_two_charts_stand_side_by_side_and_an_odd_one_is_wide() -> None:
    chart = Curves("c", (Series("s", [0, 1], [0, 1]),))
    classes = re.findall(
        r'class="panel (\w+( half)?)"', render_report(sample_report(panels=(chart, chart, chart, KeyValues("k", ()), chart, chart)))
    )
    assert [name for name, _ in classes] == ["curves", "curves half", "curves half", "keyvalues", "curves half", "curves half"]


def test_a_distribution_stands_beside_a_chart() -> None:
    chart, bars = Curves("c", (Series("s", [0, 1], [0, 1]),)), Histogram("h", (), "distance")
    classes = re.findall(r'class="panel (\w+( half)?)"', render_report(sample_report(panels=(chart, bars))))
    assert [name for name, _ in classes] == ["curves half", "histogram half"]


def test_bars_stand_beside_bars_only() -> None:
    chart, bars = Curves("c", (Series("s", [0, 1], [0, 1]),)), Bars("b", ("a",), (BarSeries("s", [1.0]),), "mm")
    classes = re.findall(r'class="panel (\w+( half)?)"', render_report(sample_report(panels=(chart, bars, bars, chart, chart, bars))))
    assert [name for name, _ in classes] == ["curves", "bars half", "bars half", "curves half", "curves half", "bars"]


def test_a_table_aligns_numbers_and_marks_its_row() -> None:
    table = Table("t", ("name", "mm", "n"), (("a", 12.3456, 1000), ("b", -0.5, None), ("c", float("nan"), 2)), emphasize=1)
    page = render_report(sample_report(panels=(table,)))
    assert re.findall(r'<td class="number"[^>]*>([^<]*)</td>', page) == ["12.35", "1,000", "\u22120.50", "\u2013", "not a number", "2"]
    assert re.search(r'<tr class="strong"><th scope="row">b</th>', page)


def test_events_have_the_colour_of_their_kind() -> None:
    rows = tuple(Event("now", kind, "") for kind in ("started", "interrupted", "quarantined", "resumed", "finished"))
    page = render_report(sample_report(panels=(Events("History", rows),)))
    assert re.findall(r'<li class="(plain|trouble|success)">', page) == ["plain", "trouble", "trouble", "success", "success"]


def test_a_row_with_a_missing_cell_is_refused() -> None:
    with pytest.raises(DataError, match="Row 0 of the table 't' has 1 cells"):
        render_report(sample_report(panels=(Table("t", ("a", "b"), ((1,),)),)))


def test_a_failed_write_leaves_the_old_page(tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(CannotWrite, match=r"folder\.html"):
        write_report(tmp_path / "folder.html", sample_report(panels=()))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


def test_the_bundle_is_the_recorded_one_and_keeps_its_licence() -> None:
    bundle = viewer_file("viewer.min.js")
    assert viewer_file("viewer.min.js.sha256").split()[0] == hashlib.sha256(bundle.encode()).hexdigest()
    licence = viewer_file("three.LICENSE.txt").strip()
    assert licence.startswith("The MIT License")
    assert licence in bundle
    assert "</script" not in bundle.lower()
    assert "<!--" not in bundle
