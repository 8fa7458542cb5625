"""Pairs of clouds: posters, a colour scale they share, and the packed points for the viewer.

Coordinates are packed as 16-bit parts of the pair's bounding box (1/65535 of it: 5 micrometres of a plant 30 cm high) and errors as
8-bit parts of the colour scale, then compressed. A pair of 2 x 2048 points takes 38 kB of the page so; as float16 it took 40 kB,
as float32 79 kB.
"""

import base64
import gzip
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.errors import DataError
from triform.report.axes import format_number
from triform.report.fragment import Fragment, note_html
from triform.report.panels import CloudPair, CloudPairs
from triform.report.poster import Frame, draw_poster, fit_frame

ERROR_RAMP = ("#4b78d1", "#3fa7b5", "#e8b23a", "#d63f3f")
HEIGHT_RAMP = ("#39648f", "#2f9184", "#6db35a", "#d9c24a")
PLAIN = "#8792a2"
"""Colour of points without an error. All colours are readable on the light ground and the dark one."""

TOP_QUANTILE = 0.98
"""The colour scale ends at this quantile of all errors of the panel, so that a few strays leave colours for the rest."""

DOT = 0.72
"""Diameter of a dot in units of size / sqrt(n): thin leaves look closed, stems stay apart."""

HINTS = (
    '<p class="hint turn mouse">Drag to turn, shift-drag to move, click and scroll to zoom</p>'
    '<p class="hint turn touch">Slide sideways to turn, two fingers to zoom and move</p>'
    '<p class="hint flat">This browser shows no 3D here: these are still pictures</p>'
)

Floats = NDArray[np.float64]


def clouds_fragment(panel: CloudPairs) -> Fragment:
    """All pairs of `panel`, each as two views with one camera.

    Raises:
        DataError: A cloud has not the shape (n, 3), is not finite, or has an error array of another length.
    """
    for pair in panel.pairs:
        _check(pair)
    top = _scale_top(panel)
    up = "xyz".index(panel.up_axis)
    drawn = [_pair(pair, panel.unit, up, top) for pair in panel.pairs]
    html = f'<div class="clouds">{note_html(panel.note)}{_toolbar(panel.unit, top)}{"".join(html for html, _ in drawn)}</div>'
    data = {"pairs": [data for _, data in drawn], "ramps": {"error": ERROR_RAMP, "height": HEIGHT_RAMP}, "plain": PLAIN}
    return Fragment(html, (("clouds", data),))


def ramp_colours(ramp: tuple[str, ...], parts: Floats) -> NDArray[np.uint8]:
    """Colours (n, 3) for `parts` (n,) in 0..1, linear in sRGB between equally spaced stops."""
    stops = np.array([[int(stop[at : at + 2], 16) for at in (1, 3, 5)] for stop in ramp], dtype=np.float64)
    places = np.linspace(0, 1, len(ramp))
    return np.asarray(np.rint([np.interp(parts, places, stops[:, channel]) for channel in range(3)]), dtype=np.uint8).T


def _check(pair: CloudPair) -> None:
    clouds = (("input", pair.input, pair.input_error), ("reconstruction", pair.reconstruction, pair.error))
    for side, points, error in clouds:
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise DataError(
                f"The {side} of {pair.name!r} has shape {points.shape}, or values that are not finite",
                expected="finite points (n, 3)",
                do="Show only samples that passed the data check and a model whose loss is finite",
            )
        if error is not None and (error.shape != (len(points),) or not np.isfinite(error).all()):
            raise DataError(
                f"The errors of the {side} of {pair.name!r} have shape {error.shape} for {len(points)} points, or are not finite",
                expected="one finite distance a point",
                do="Give the nearest-neighbour distances of the same cloud",
            )


def _scale_top(panel: CloudPairs) -> float | None:
    """The end of the colour scale in the panel's unit; None where no pair has errors."""
    errors = [error.astype(np.float64) for pair in panel.pairs for error in (pair.error, pair.input_error) if error is not None]
    if not sum(error.size for error in errors):
        return None
    return float(np.quantile(np.concatenate(errors), TOP_QUANTILE)) or 1.0


def _toolbar(unit: str, top: float | None) -> str:
    def scale(kind: str, ramp: tuple[str, ...], labels: tuple[str, ...]) -> str:
        spans = "".join(f"<span>{escape(label)}</span>" for label in labels)
        return (
            f'<div class="scale" data-scale="{kind}"><i style="background:linear-gradient(90deg,{",".join(ramp)})"></i><p>{spans}</p></div>'
        )

    height = scale("height", HEIGHT_RAMP, ("bottom", "top"))
    if top is None:
        return f'<div class="toolbar" data-mode="height">{height}{HINTS}</div>'
    labels = ("0", format_number(top / 2, 2), f"\u2265 {format_number(top, 2)} {unit}".strip())
    buttons = "".join(
        f'<button type="button" data-colour="{mode}" aria-pressed="{"true" if mode == "error" else "false"}">{mode.capitalize()}</button>'
        for mode in ("error", "height")
    )
    switch = f'<div class="switch" role="group" aria-label="Colour the points by">{buttons}</div>'
    return f'<div class="toolbar" data-mode="error">{switch}{scale("error", ERROR_RAMP, labels)}{height}{HINTS}</div>'


def _pair(pair: CloudPair, unit: str, up: int, top: float | None) -> tuple[str, dict[str, Any]]:
    clouds = [np.asarray(points, dtype=np.float64) for points in (pair.input, pair.reconstruction)]
    parts = [
        None if error is None or top is None else np.clip(error.astype(np.float64) / top, 0, 1) for error in (pair.input_error, pair.error)
    ]
    frame = fit_frame(np.concatenate(clouds), up)
    dots = [DOT * 2 * max(frame.radius, frame.half_height) / max(len(points), 1) ** 0.5 for points in clouds]
    names = [f"Input, {len(clouds[0]):,} points", f"Reconstruction, {len(clouds[1]):,} points"]
    posters = [
        draw_poster(points, _poster_colours(points, part, frame, top), frame, dot)
        for points, part, dot in zip(clouds, parts, dots, strict=True)
    ]
    views = "".join(_view(f"{pair.name}: {name}", name, poster) for name, poster in zip(names, posters, strict=True))
    html = (
        f'<article class="pair" data-pair><header><h3>{escape(pair.name)}</h3><p>{escape(pair.caption)}</p></header>'
        f'<div class="stage" tabindex="0" role="group" aria-label="{escape(_spoken(pair, unit))}">{views}</div>'
        '<button type="button" class="reset" hidden>Reset view</button></article>'
    )
    return html, _packed(clouds, parts, frame, dots)


def _poster_colours(points: Floats, part: Floats | None, frame: Frame, top: float | None) -> NDArray[np.uint8]:
    if part is not None:
        return ramp_colours(ERROR_RAMP, part)
    if top is not None:
        return np.broadcast_to(ramp_colours((PLAIN, PLAIN), np.zeros(1)), (len(points), 3))
    above = (points[:, frame.up] - frame.center[frame.up]) / (2 * frame.half_height) + 0.5
    return ramp_colours(HEIGHT_RAMP, np.clip(above, 0, 1))


def _view(spoken: str, name: str, poster: bytes) -> str:
    side, _, count = name.partition(", ")
    source = f"data:image/png;base64,{base64.b64encode(poster).decode()}"
    return (
        f'<figure class="view"><img src="{source}" alt="{escape(spoken)}"><canvas aria-hidden="true"></canvas>'
        f"<figcaption><b>{side}</b> <span>{count}</span></figcaption></figure>"
    )


def _spoken(pair: CloudPair, unit: str) -> str:
    if pair.error is None or not pair.error.size:
        shown = ""
    else:
        middle, most = (f"{format_number(float(value), 3)} {unit}" for value in (np.median(pair.error), pair.error.max()))
        shown = f" Error of the reconstruction: median {middle}, largest {most}."
    return f"3D view of {pair.name}, input beside reconstruction.{shown} Arrow keys turn both, plus and minus zoom, 0 resets."


def _packed(clouds: list[Floats], parts: list[Floats | None], frame: Frame, dots: list[float]) -> dict[str, Any]:
    joined = np.concatenate(clouds)
    low, high = (joined.min(axis=0), joined.max(axis=0)) if len(joined) else (np.zeros(3), np.zeros(3))
    span = np.where(high > low, high - low, 1.0)
    points = [np.rint((cloud - low) / span * 65535).astype("<u2").tobytes() for cloud in clouds]
    levels = [b"" if part is None else np.rint(part * 255).astype(np.uint8).tobytes() for part in parts]
    return {
        "counts": [len(cloud) for cloud in clouds],
        "has_error": [part is not None for part in parts],
        "low": low.tolist(),
        "span": span.tolist(),
        "frame": {"center": frame.center.tolist(), "radius": frame.radius, "half_height": frame.half_height, "up": frame.up},
        "dots": dots,
        "packed": base64.b64encode(gzip.compress(b"".join(points + levels), mtime=0)).decode(),
    }
