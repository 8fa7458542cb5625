"""A map of embeddings as inline SVG: round dots coloured by group, with the label of the nearest one on hover."""

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


def scatter_fragment(panel: Scatter) -> Fragment:
    """The map of `panel`, and for its hover read-out the places and labels.

    Raises:
        DataError: The numbers of points, labels and groups differ, or a point is not finite.
    """
    places = _placed(_checked(panel))
    names = list(dict.fromkeys(panel.groups))
    position = {name: at for at, name in enumerate(names)}
    index = np.array([position[group] for group in panel.groups], dtype=np.intp)
    marks = "".join(_dots(places[index == group], group, len(places) > LARGE) for group in range(len(names)))
    chips = "".join(_chip(number, name) for number, name in enumerate(names))
    spoken = f"Map of {len(places)} points in {len(names)} groups: {panel.title}."
    html = (
        f'<figure class="chart map" data-map role="group" aria-label="{escape(spoken)}">'
        f'{note_html(panel.note)}<ul class="legend">{chips}</ul>'
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


def _chip(number: int, name: str) -> str:
    colour = f"--c:var(--c{number % COLOURS})"
    return f'<li><button type="button" data-group="{number}" aria-pressed="false" style="{colour}">{escape(name)}</button></li>'


def _dots(places: NDArray[np.float64], group: int, small: bool) -> str:
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
    return f'<path class="dots{" small" if small else ""}" data-group="{group}" style="--c:var(--c{group % COLOURS})" d="{path}"/>'
