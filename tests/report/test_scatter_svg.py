"""Maps of many groups: every group has its own look, and the legend doesn't push the map off the screen."""

import re

import numpy as np
import pytest
from sample import embedding_map, subject_map

from triform.report.panels import Scatter
from triform.report.scatter_svg import scatter_fragment

MARK = re.compile(r'<path class="(marks[^"]*)" data-group="\d+" style="([^"]*)" d="M[\d.]+ [\d.]+(m[^M"]*)')


def test_few_groups_are_round_dots_with_an_open_legend() -> None:
    html = scatter_fragment(embedding_map()).html
    assert html.count('class="dots"') == 6
    assert "marks" not in html
    assert "<details" not in html
    assert "data-many" not in html


def test_sixty_groups_look_different_each() -> None:
    html = scatter_fragment(subject_map()).html
    looks = MARK.findall(html)
    assert len(looks) == len(set(looks)) == 60
    assert "data-many" in html


def test_a_long_legend_is_closed_and_says_how_many() -> None:
    assert '<details class="groups"><summary>60 subjects</summary><ul class="legend">' in scatter_fragment(subject_map()).html
    html = scatter_fragment(subject_map(16)).html
    assert "<details" not in html
    assert html.count("<button") == html.count("<li><button") == 16


def test_the_legend_has_the_marks_of_the_map() -> None:
    html = scatter_fragment(subject_map()).html
    chip = html.split('<button type="button" data-group="8"')[1].split("</button>")[0]
    assert 'class="marks"' in chip
    assert chip.endswith("subject_0008")


@pytest.mark.parametrize(("count", "size"), [(1, 1.0), (200, 0.75)])
def test_marks_are_narrowed_for_the_stretched_plot_and_smaller_on_large_maps(count: int, size: float) -> None:
    points = np.random.default_rng(0).normal(0, 1, (9 * count, 2))
    groups = tuple(str(index % 9) for index in range(9 * count))
    looks = MARK.findall(scatter_fragment(Scatter("Map", points, groups, groups)).html)
    corner = [float(part) for part in looks[8][2].removeprefix("m").split("l")[1].split(" ")]
    assert corner == pytest.approx([6 / 1.6 * size, 11 * size], abs=0.06)
