"""Meshes coloured at their vertices: posters, the scale they share, and the packed vertices and faces for the viewer.

Vertices are packed as the points of `clouds.py` are. Faces that several views share are in the page once.
"""

import base64
import gzip
from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from triform.errors import DataError
from triform.report.axes import MINUS, format_number
from triform.report.clouds import DOT, HINTS, TOP_QUANTILE, ramp_colours
from triform.report.fragment import Fragment, note_html
from triform.report.mesh_poster import draw_mesh_poster
from triform.report.panels import MeshView, MeshViews
from triform.report.poster import Frame, draw_poster, fit_frame

VALUE_RAMP = ("#a3b0c4", "#d6b94c", "#e57f35", "#c4263f")
"""From a plain grey that recedes to a red that stands out. Not `clouds.ERROR_RAMP`: on a lit surface its blue looks like shadow."""


def meshes_fragment(panel: MeshViews) -> Fragment:
    """All views of `panel` on one stage with one camera.

    Raises:
        DataError: Arrays of a view don't fit together, a value is not finite, or a face names a vertex that is not there.
    """
    for view in panel.views:
        _check(view)
    low, high = _scale(panel)
    up = "xyz".index(panel.up_axis)
    own = [fit_frame(view.vertices.astype(np.float64), up) for view in panel.views]
    frames = _of_one_size(own, up)
    shapes = _distinct([view.faces for view in panel.views if view.faces is not None])
    parts = [np.clip((view.values.astype(np.float64) - low) / (high - low), 0, 1) for view in panel.views]
    views = "".join(_view(view, panel, frame, part) for view, frame, part in zip(panel.views, frames, parts, strict=True))
    html = f'<div class="meshes">{note_html(panel.note)}{_toolbar(panel, low, high)}{_stage(panel, views)}</div>'
    data = {
        "views": [_packed(view, shapes, frame, part) for view, frame, part in zip(panel.views, frames, parts, strict=True)],
        "faces": [{"count": len(faces), "packed": _zipped(faces.astype("<u4").tobytes())} for faces in shapes],
        "frame": _frame_data(frames[0] if frames else fit_frame(np.zeros((0, 3)), up)),
        "ramp": VALUE_RAMP,
    }
    return Fragment(html, (("meshes", data),))


def _check(view: MeshView) -> None:
    if view.vertices.ndim != 2 or view.vertices.shape[1] != 3 or not np.isfinite(view.vertices).all():
        raise DataError(
            f"The vertices of {view.name!r} have shape {view.vertices.shape}, or values that are not finite",
            expected="finite vertices (n, 3)",
            do="Show only meshes that passed the data check",
        )
    if view.values.shape != (len(view.vertices),) or not np.isfinite(view.values).all():
        raise DataError(
            f"The values of {view.name!r} have shape {view.values.shape} for {len(view.vertices)} vertices, or are not finite",
            expected="one finite value a vertex",
            do="Give the values of the same vertices",
        )
    faces = view.faces
    if faces is not None and (faces.ndim != 2 or faces.shape[1] != 3 or not ((faces >= 0) & (faces < len(view.vertices))).all()):
        raise DataError(
            f"The faces of {view.name!r} have shape {faces.shape}, or name vertices beyond its {len(view.vertices)}",
            expected="triangles (f, 3) of indices into its vertices",
            do="Give the faces of the vertices shown, not those of the full scan",
        )


def _scale(panel: MeshViews) -> tuple[float, float]:
    """Both ends of the colour scale; a few strays beyond them leave colours for the rest."""
    values = np.concatenate([np.zeros(0), *(view.values.astype(np.float64) for view in panel.views)])
    if not values.size:
        return 0.0, 1.0
    low = 0.0 if values.min() >= 0 else float(np.quantile(values, 1 - TOP_QUANTILE))
    high = float(np.quantile(values, TOP_QUANTILE))
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def _of_one_size(frames: list[Frame], up: int) -> list[Frame]:
    """Each about its own mesh's centre, all of the size of the largest: so sizes can be compared."""
    radius, half_height = max((frame.radius for frame in frames), default=1.0), max((frame.half_height for frame in frames), default=1.0)
    return [Frame(frame.center, radius, half_height, up) for frame in frames]


def _distinct(arrays: Iterable[NDArray[np.int32]]) -> list[NDArray[np.int32]]:
    found: list[NDArray[np.int32]] = []
    for array in arrays:
        if len(array) and not any(np.array_equal(array, other) for other in found):
            found.append(array)
    return found


def _toolbar(panel: MeshViews, low: float, high: float) -> str:
    least = min((float(view.values.min()) for view in panel.views if view.values.size), default=low)
    bottom = f"\u2264 {format_number(low, 2)}" if least < low else format_number(low, 2)
    labels = (bottom, format_number((low + high) / 2, 2), f"\u2265 {format_number(high, 2)}")
    spans = "".join(f"<span>{escape(label)}</span>" for label in labels)
    name = f'<p class="what">{escape(panel.value_label)}</p>' if panel.value_label else ""
    bar = f'<i style="background:linear-gradient(90deg,{",".join(VALUE_RAMP)})"></i>'
    return f'<div class="toolbar"><div class="scale">{name}{bar}<p>{spans}</p></div>{HINTS}</div>'


def _stage(panel: MeshViews, views: str) -> str:
    spoken = (
        f"3D view of {', '.join(view.name for view in panel.views)}, coloured by {panel.value_label or 'value'}."
        " Arrow keys turn all, plus and minus zoom, 0 resets."
    )
    return (
        f'<article class="pair" data-meshes><div class="stage columns{_columns(len(panel.views))}" tabindex="0" role="group"'
        f' aria-label="{escape(spoken)}">{views}</div><button type="button" class="reset" hidden>Reset view</button></article>'
    )


def _columns(count: int) -> int:
    return count if count < 4 else 2 if count == 4 else 3


def _view(view: MeshView, panel: MeshViews, frame: Frame, part: Float64[np.ndarray, " vertex"]) -> str:
    vertices, colours = view.vertices.astype(np.float64), ramp_colours(VALUE_RAMP, part)
    if view.faces is not None and len(view.faces):
        poster = draw_mesh_poster(vertices, _indices(view.faces), colours, frame)
    else:
        poster = draw_poster(vertices, colours, frame, _dot(view, frame))
    source = f"data:image/png;base64,{base64.b64encode(poster).decode()}"
    return (
        f'<figure class="view"><img src="{source}" alt="{escape(_spoken(view, panel))}"><canvas aria-hidden="true"></canvas>'
        f"<figcaption><b>{escape(view.name)}</b> <span>{escape(view.caption)}</span></figcaption></figure>"
    )


def _indices(faces: NDArray[np.int32]) -> Int64[np.ndarray, "face 3"]:
    return faces.astype(np.int64)


def _spoken(view: MeshView, panel: MeshViews) -> str:
    parts = [view.name, view.caption, f"{len(view.vertices):,} vertices"]
    if len(view.vertices):
        up = view.vertices[:, "xyz".index(panel.up_axis)]
        parts.append(f"{format_number(float(up.max() - up.min()), 3)} {panel.unit} high".replace("  ", " "))
        middle, most = (format_number(float(value), 3).replace(MINUS, "minus ") for value in (np.median(view.values), view.values.max()))
        parts.append(f"{panel.value_label or 'value'}: median {middle}, largest {most}")
    return ", ".join(part for part in parts if part)


def _dot(view: MeshView, frame: Frame) -> float:
    return float(DOT * 2 * max(frame.radius, frame.half_height) / max(len(view.vertices), 1) ** 0.5)


def _packed(view: MeshView, shapes: list[NDArray[np.int32]], frame: Frame, part: Float64[np.ndarray, " vertex"]) -> dict[str, Any]:
    vertices = view.vertices.astype(np.float64)
    low, high = (vertices.min(axis=0), vertices.max(axis=0)) if len(vertices) else (np.zeros(3), np.zeros(3))
    span = np.where(high > low, high - low, 1.0)
    places = np.rint((vertices - low) / span * 65535).astype("<u2").tobytes()
    shape = next((at for at, faces in enumerate(shapes) if view.faces is not None and np.array_equal(faces, view.faces)), -1)
    return {
        "count": len(vertices),
        "faces": shape,
        "low": low.tolist(),
        "span": span.tolist(),
        "center": frame.center.tolist(),
        "dot": _dot(view, frame),
        "packed": _zipped(places + np.rint(part * 255).astype(np.uint8).tobytes()),
    }


def _zipped(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _frame_data(frame: Frame) -> dict[str, Any]:
    return {"radius": frame.radius, "half_height": frame.half_height, "up": frame.up}
