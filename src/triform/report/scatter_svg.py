"""A map of embeddings as inline SVG: marks coloured by group, with the label of the nearest one on hover.

Up to eight groups are round dots in eight colours. More take the colours in turn with another shape each turn, 64 looks in all; beyond
sixteen the legend is closed until it's asked for, and the group under the pointer stands out.
"""

from html import escape

import numpy as np
from numpy.typing import NDArray

from triform.errors import DataError
from triform.report.axes import FULL
from triform.report.curves_svg import COLOURS
from triform.report.fragment import Fragment, note_html
from triform.report.panels import Scatter

WIDTH_TO_HEIGHT = 1.6
"""The style sheet gives the plot the same ratio, so that distances are equal in both directions."""

MARGIN = 1.06

LARGE = 1500
"""Maps of more points are drawn with smaller dots."""

CHIPS = 16
"""A legend of more groups is closed at first."""

SHAPES: tuple[tuple[bool, tuple[tuple[float, float], ...]], ...] = (
    (True, ((-5.2, -2.2), (-2.2, -5.2), (2.2, -5.2), (5.2, -2.2), (5.2, 2.2), (2.2, 5.2), (-2.2, 5.2), (-5.2, 2.2))),
    (True, ((0, -6.5), (6, 4.5), (-6, 4.5))),
    (False, ((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5))),
    (True, ((0, -7), (5.2, 0), (0, 7), (-5.2, 0))),
    (False, ((0, 6.5), (6, -4.5), (-6, -4.5))),
    (True, ((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5))),
    (False, ((0, -7), (5.2, 0), (0, 7), (-5.2, 0))),
    (True, ((-7, -2), (-2, -2), (-2, -7), (2, -7), (2, -2), (7, -2), (7, 2), (2, 2), (2, 7), (-2, 7), (-2, 2), (-7, 2))),
)
"""Whether a shape is filled, and its corners in per mille of the plot's height."""


def scatter_fragment(panel: Scatter) -> Fragment:
    """The map of `panel`, and for its hover read-out the places and labels.

    Raises:
        DataError: The numbers of points, labels and groups differ, or a point is not finite.
    """
    places = _placed(_checked(panel))
    names = list(dict.fromkeys(panel.groups))
    position = {name: at for at, name in enumerate(names)}
    index = np.array([position[group] for group in panel.groups], dtype=np.intp)
    shaped = len(names) > COLOURS
    draw = _shapes if shaped else _dots
    marks = "".join(draw(places[index == group], group, len(places) > LARGE) for group in range(len(names)))
    chips = "".join(_chip(number, name, shaped) for number, name in enumerate(names))
    spoken = f"Map of {len(places)} points in {len(names)} {panel.noun}: {panel.title}."
    html = (
        f'<figure class="chart map" data-map{" data-many" if shaped else ""} role="group" aria-label="{escape(spoken)}">'
        f"{note_html(panel.note)}{_legend(chips, len(names), panel.noun)}"
        f'<div class="plot"><svg viewBox="0 0 {FULL} {FULL}" preserveAspectRatio="none" aria-hidden="true">{marks}</svg>'
        '<div class="tip" hidden></div></div></figure>'
    )
    data = {
        "x": [round(float(at), 1) for at in places[:, 0]],
        "y": [round(float(at), 1) for at in places[:, 1]],
        "label": list(panel.labels),
        "group": [int(at) for at in index],
        "groups": names,
    }
    return Fragment(html, (("maps", data),))


def _checked(panel: Scatter) -> NDArray[np.float64]:
    points = np.asarray(panel.points, dtype=np.float64)
    if not points.shape == (len(panel.labels), 2) == (len(panel.groups), 2) or not np.isfinite(points).all():
        raise DataError(
            f"The map {panel.title!r} has points of shape {points.shape}, {len(panel.labels)} labels and {len(panel.groups)} groups",
            expected="finite points (n, 2) with n labels and n groups",
            do="Project the embeddings to two dimensions and drop samples that have none",
        )
    return points


def _placed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Per mille of the plot's width and height, at one scale in both directions."""
    if not len(points):
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    span = max(float(high[0] - low[0]) / WIDTH_TO_HEIGHT, float(high[1] - low[1])) * MARGIN or 1.0
    placed = (points - (low + high) / 2) / (span * np.array([WIDTH_TO_HEIGHT, -1.0])) + 0.5
    return np.asarray(placed * FULL)


def _legend(chips: str, count: int, noun: str) -> str:
    chips = f'<ul class="legend">{chips}</ul>'
    return f'<details class="groups"><summary>{count} {escape(noun)}</summary>{chips}</details>' if count > CHIPS else chips


def _chip(number: int, name: str, shaped: bool) -> str:
    colour = f"--c:var(--c{number % COLOURS})"
    icon = f'<svg viewBox="-9 -9 18 18" aria-hidden="true">{_marks(number, "M0 0" + _outline(number, 1.0))}</svg>' if shaped else ""
    return f'<li><button type="button" data-group="{number}" aria-pressed="false" style="{colour}">{icon}{escape(name)}</button></li>'


def _dots(places: NDArray[np.float64], group: int, small: bool) -> str:
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
    return f'<path class="dots{" small" if small else ""}" data-group="{group}" style="--c:var(--c{group % COLOURS})" d="{path}"/>'


def _shapes(places: NDArray[np.float64], group: int, small: bool) -> str:
    outline = _outline(group, 0.75 if small else 1.0, WIDTH_TO_HEIGHT)
    return _marks(group, "".join(f"M{x:.1f} {y:.1f}{outline}" for x, y in places), f' data-group="{group}"')


def _marks(group: int, path: str, attributes: str = "") -> str:
    filled, _ = SHAPES[group // COLOURS % len(SHAPES)]
    return f'<path class="marks{"" if filled else " hollow"}"{attributes} style="--c:var(--c{group % COLOURS})" d="{path}"/>'


def _outline(group: int, size: float, width_to_height: float = 1.0) -> str:
    """The group's shape around the place where the path is: a plot that is stretched sideways takes it narrower."""
    _, corners = SHAPES[group // COLOURS % len(SHAPES)]
    scaled = np.array(corners) * size / np.array([width_to_height, 1.0])
    moves = np.diff(scaled, axis=0)
    return f"m{scaled[0, 0]:.1f} {scaled[0, 1]:.1f}" + "".join(f"l{x:.1f} {y:.1f}" for x, y in moves) + "z"
