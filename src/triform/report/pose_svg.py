"""Still pictures of poses as inline SVG: a strip of frames, the 2D input, and how wrong each frame is."""

from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from triform.report.axes import format_number
from triform.report.panels import PoseClip, PoseClips
from triform.report.pose_geometry import bone_sides, clip_length, flat_box, frame_errors, strip_frames, upright
from triform.report.poster import Frame, camera_axes

SHOWN = 5
CELL, TALL = 92, 150
"""Size of one pose of the strip, in units of its drawing."""

SIDES = ("m", "l", "r")
POINTS = 480
"""Longer clips have their error drawn at so many frames."""


def strip_svg(clip: PoseClip, panel: PoseClips, frame: Frame) -> str:
    """A few frames side by side, prediction over truth; the 2D input where there is nothing else."""
    frames = strip_frames(clip_length(clip), SHOWN)
    layers = [(name, part) for name, part in (("truth", clip.truth), ("prediction", clip.prediction)) if part is not None]
    if layers:
        placed = [(name, _cells(upright(part[frames], panel.up), frame)) for name, part in layers]
    else:
        assert clip.input_2d is not None
        left, top, side = flat_box(clip)
        flat = (clip.input_2d[frames].astype(np.float64) - (left + side / 2, top + side / 2)) / side * CELL
        placed = [("prediction", flat + np.array([0.0, TALL / 2]))]
    drawn = "".join(_cell(at, [(name, part[at]) for name, part in placed], int(number), panel) for at, number in enumerate(frames))
    width = CELL * len(frames)
    spoken = f"{clip.name}: frames {', '.join(str(number + 1) for number in frames)}"
    return f'<svg class="strip" viewBox="0 0 {width} {TALL + 16}" role="img" aria-label="{escape(spoken)}">{drawn}</svg>'


def flat_svg(clip: PoseClip, panel: PoseClips) -> str:
    """The 2D input of the first frame, in the elements that the script moves on."""
    assert clip.input_2d is not None
    left, top, side = flat_box(clip)
    places = (clip.input_2d[0].astype(np.float64) - (left, top)) / side * 1000
    hidden = np.zeros(len(places), dtype=bool) if clip.hidden is None else clip.hidden[0]
    seen = _paths(bone_paths(places, panel, ~hidden))
    broken = "".join(bone_paths(places, panel, hidden, some=True))
    return (
        f'<svg class="flat" viewBox="0 0 1000 1000" role="img" aria-label="{escape(f"2D input of {clip.name}")}">'
        f'<path class="broken" d="{broken}"/>{seen}<path class="dots" d="{_dots(places, ~hidden)}"/>'
        f'<path class="rings" d="{_rings(places, hidden)}"/></svg>'
    )


def timeline_svg(clip: PoseClip, top: float, unit: str) -> str:
    """The error of each frame on a scale that ends at `top`, hidden frames below it, and the line that moves; or nothing."""
    errors, hidden = frame_errors(clip), _hidden_frames(clip)
    if errors is None and hidden is None:
        return ""
    area = "" if errors is None else f'<path class="error" d="{_area(errors, top)}"/>'
    bars = "" if hidden is None else f'<path class="hidden" d="{_runs(hidden)}"/>'
    low, box = (" low", "0 84 1000 16") if errors is None else ("", "0 0 1000 100")
    return (
        f'<div class="timeline{low}"><svg viewBox="{box}" preserveAspectRatio="none" aria-hidden="true">'
        f'{area}{bars}<path class="head" d="M0 0V100"/></svg><p>{escape(_words(errors, hidden, unit))}</p></div>'
    )


def _words(errors: Float64[np.ndarray, " frame"] | None, hidden: Bool[np.ndarray, " frame"] | None, unit: str) -> str:
    mean, most = ("", "") if errors is None else (_number(errors, np.mean), _number(errors, np.max))
    words = [] if errors is None else [f"distance by frame: mean {mean}, at most {most} {unit}".strip()]
    words += [] if hidden is None else [f"{int(hidden.sum()):,} of {len(hidden):,} frames hidden"]
    return "; ".join(words)


def bone_paths(
    places: Float64[np.ndarray, "joint 2"], panel: PoseClips, drawn: Bool[np.ndarray, " joint"] | None = None, *, some: bool = False
) -> list[str]:
    """Lines of the middle, the left and the right bones whose ends are both (or, with `some`, of which one is) in `drawn`."""
    finite = np.isfinite(places).all(axis=1)
    ends = np.ones(len(places), dtype=bool) if drawn is None else drawn
    paths = ["", "", ""]
    for joint, parent, side in bone_sides(panel):
        wanted = ends[joint] or ends[parent] if some else ends[joint] and ends[parent]
        if wanted and finite[joint] and finite[parent]:
            paths[side] += f"M{places[parent, 0]:.0f} {places[parent, 1]:.0f}L{places[joint, 0]:.0f} {places[joint, 1]:.0f}"
    return paths


def _cells(points: Float64[np.ndarray, "shown joint 3"], frame: Frame) -> Float64[np.ndarray, "shown joint 2"]:
    """Places in a cell whose middle is (0, TALL / 2): seen from the poster's camera, from afar, with the frame's centre in the middle."""
    right, above, _ = camera_axes(frame)
    scale = min(TALL / 2 / frame.half_height, CELL / 2 / frame.radius) * 0.96
    centred = points - frame.center
    return np.stack([centred @ right * scale, TALL / 2 - centred @ above * scale], axis=2)


def _cell(at: int, layers: Sequence[tuple[str, Float64[np.ndarray, "joint 2"]]], number: int, panel: PoseClips) -> str:
    groups = "".join(f'<g class="{name}">{_paths(bone_paths(places, panel))}</g>' for name, places in layers)
    return f'<g transform="translate({CELL * at + CELL // 2} 0)">{groups}<text y="{TALL + 12}">{number + 1:,}</text></g>'


def _paths(paths: list[str]) -> str:
    return "".join(f'<path class="{side}" d="{path}"/>' for side, path in zip(SIDES, paths, strict=True))


def _dots(places: Float64[np.ndarray, "joint 2"], drawn: Bool[np.ndarray, " joint"]) -> str:
    return "".join(f"M{x:.0f} {y:.0f}h0" for x, y in places[drawn & np.isfinite(places).all(axis=1)])


def _rings(places: Float64[np.ndarray, "joint 2"], drawn: Bool[np.ndarray, " joint"]) -> str:
    shown = places[drawn & np.isfinite(places).all(axis=1)]
    return "".join(f"M{x - 16:.0f} {y:.0f}a16 16 0 1 0 32 0a16 16 0 1 0-32 0" for x, y in shown)


def _hidden_frames(clip: PoseClip) -> Bool[np.ndarray, " frame"] | None:
    if clip.hidden is None or not clip.hidden.any():
        return None
    return np.asarray(clip.hidden.all(axis=1))


def _runs(hidden: Bool[np.ndarray, " frame"]) -> str:
    """One box for each run of hidden frames, at the bottom."""
    width, path = 1000 / len(hidden), ""
    for value, group in groupby(enumerate(hidden), key=lambda item: bool(item[1])):
        run = [at for at, _ in group]
        if value:
            path += f"M{run[0] * width:.1f} 88H{(run[-1] + 1) * width:.1f}V100H{run[0] * width:.1f}Z"
    return path


def _area(errors: Float64[np.ndarray, " frame"], top: float) -> str:
    frames = strip_frames(len(errors), POINTS)
    heights = 80 - 76 * np.clip(np.nan_to_num(errors[frames]) / (top or 1.0), 0, 1)
    places = (frames + 0.5) / len(errors) * 1000
    line = "".join(f"L{x:.1f} {y:.1f}" for x, y in zip(places, heights, strict=True))
    return f"M{places[0]:.1f} 80{line}L{places[-1]:.1f} 80Z"


def _number(errors: Float64[np.ndarray, " frame"], over: Callable[[Float64[np.ndarray, " known"]], Any]) -> str:
    known = errors[np.isfinite(errors)]
    return format_number(float(over(known)), 3) if known.size else "\u2013"
