"""One HTML file that opens anywhere, offline, for years: everything it needs is inside it, and it may load nothing else.

The file forbids itself the network by its content security policy, which also admits no script but our own, known by its digest: a
name with markup in it is shown as text, and would do nothing even if it weren't.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any, assert_never

from triform.report.atomic import replace_bytes
from triform.report.bars_svg import bars_fragment
from triform.report.clouds import clouds_fragment
from triform.report.curves_svg import curves_fragment
from triform.report.fragment import Fragment
from triform.report.heatmaps import heatmaps_fragment
from triform.report.histogram_svg import histogram_fragment
from triform.report.meshes import meshes_fragment
from triform.report.panels import (
    Bars,
    CloudPairs,
    Curves,
    Events,
    Heatmaps,
    Histogram,
    KeyValues,
    MeshViews,
    Panel,
    PoseClips,
    Report,
    Scatter,
    Table,
)
from triform.report.poses import poses_fragment
from triform.report.scatter_svg import scatter_fragment
from triform.report.sections import events_fragment, facts_html, key_values_fragment, table_fragment


def write_report(path: Path, report: Report) -> None:
    """Write `report` as one HTML file; readers see the old file or the new one, never half of one. Equal reports give equal bytes.

    Raises:
        DataError: A panel's arrays don't fit together, or a cloud has points that are not finite.
        CannotWrite: The system refused; `path` is as it was.
    """
    replace_bytes(path, render_report(report).encode())


def render_report(report: Report) -> str:
    """The page as text."""
    fragments = [panel_fragment(panel) for panel in report.panels]
    script = viewer_file("viewer.min.js")
    return Template(viewer_file("page.html")).substitute(
        policy=escape(_policy(script)),
        title=escape(report.title),
        subtitle=escape(report.subtitle),
        facts=facts_html(report.facts),
        navigation="".join(f'<li><a href="#s{index}">{escape(panel.title)}</a></li>' for index, panel in enumerate(report.panels)),
        sections="".join(_sections(report.panels, fragments)),
        footer=escape(report.footer),
        style=viewer_file("style.css"),
        data=embedded_json(_collect(fragments)),
        script=script,
    )


def panel_fragment(panel: Panel) -> Fragment:
    """The HTML of one panel and the data its script needs."""
    match panel:
        case Curves():
            return curves_fragment(panel)
        case Histogram():
            return histogram_fragment(panel)
        case Table():
            return table_fragment(panel)
        case CloudPairs():
            return clouds_fragment(panel)
        case MeshViews():
            return meshes_fragment(panel)
        case PoseClips():
            return poses_fragment(panel)
        case Bars():
            return bars_fragment(panel)
        case Heatmaps():
            return heatmaps_fragment(panel)
        case Scatter():
            return scatter_fragment(panel)
        case Events():
            return events_fragment(panel)
        case KeyValues():
            return key_values_fragment(panel)
    assert_never(panel)


def embedded_json(data: Any) -> str:
    """JSON that can stand inside a script element: no text in it can end the element or open a comment."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return (
        text.replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


@cache
def viewer_file(name: str) -> str:
    """A file that comes with the package: style sheet, template, the built viewer."""
    return files("triform.report").joinpath("viewer", name).read_text(encoding="utf-8")


def _sections(panels: tuple[Panel, ...], fragments: list[Fragment]) -> Iterator[str]:
    """Neighbouring charts stand two in a row, and so do neighbouring bars; the first of an odd number is as wide as the page."""
    numbered = enumerate(zip(panels, fragments, strict=True))
    for paired, group in groupby(numbered, key=lambda item: _paired(item[1][0])):
        members = list(group)
        for place, (index, (panel, fragment)) in enumerate(members):
            half = bool(paired) and not (place == 0 and len(members) % 2)
            yield (
                f'<section id="s{index}" class="panel {type(panel).__name__.lower()}{" half" if half else ""}" aria-labelledby="h{index}">'
                f'<h2 id="h{index}">{escape(panel.title)}</h2>{fragment.html}</section>'
            )


def _paired(panel: Panel) -> str:
    """Which panels may stand beside this one: those of equal height; none for ""."""
    return "charts" if isinstance(panel, Curves | Histogram) else "bars" if isinstance(panel, Bars) else ""


def _collect(fragments: list[Fragment]) -> dict[str, list[dict[str, Any]]]:
    """The data of all panels of a kind, in the order of the page, which is how the script finds its elements."""
    collected: dict[str, list[dict[str, Any]]] = {"charts": [], "maps": [], "clouds": [], "meshes": [], "poses": []}
    for fragment in fragments:
        for kind, data in fragment.data:
            collected[kind].append(data)
    return collected


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
