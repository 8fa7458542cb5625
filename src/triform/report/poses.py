"""Clips of poses: the player's page, its stills, and the packed joints.

Coordinates are packed as 16-bit parts of the clip's box, each as the difference to the frame before: people move little from frame to
frame, so 81 frames of 17 joints, true, predicted and in 2D, take 17 to 20 kB of the page instead of 26 or 27 (CMU basketball).
"""

import base64
import gzip
from html import escape
from typing import Any

import numpy as np
from jaxtyping import Float64

from triform.report.axes import format_number
from triform.report.clouds import HINTS
from triform.report.fragment import Fragment, note_html
from triform.report.panels import PoseClip, PoseClips
from triform.report.pose_geometry import bone_sides, check_clips, clip_frame, clip_length, flat_box, frame_errors, solid, upright
from triform.report.pose_svg import flat_svg, strip_svg, timeline_svg
from triform.report.poster import Frame

MISSING = 65535
REACH = 4.0
"""Predictions farther from the middle than so many sizes of the clip are drawn there: one stray must not coarsen all the others."""

ROD = 0.02
"""Radius of a predicted bone, as a part of half the person's height."""

SPEEDS = ("0.1", "0.25", "0.5", "1", "2")


def poses_fragment(panel: PoseClips) -> Fragment:
    """All clips of `panel` with one camera and one set of controls; shorter clips wait on their last frame until all start again.

    Raises:
        DataError: Arrays of a clip don't fit together or the skeleton, or `up` is no direction.
    """
    check_clips(panel)
    frames = _of_one_size([clip_frame(clip, panel.up) for clip in panel.clips])
    errors = [each[np.isfinite(each)] for each in map(frame_errors, panel.clips) if each is not None]
    top = max((float(each.max(initial=0.0)) for each in errors), default=0.0)
    views = "".join(_view(clip, panel, frame, top) for clip, frame in zip(panel.clips, frames, strict=True))
    html = f'<div class="poses">{note_html(panel.note)}{_legend(panel)}{_controls(panel)}{_stage(panel, views)}</div>'
    size = frames[0] if frames else Frame(np.zeros(3), 1.0, 1.0, 2)
    data = {
        "clips": [_packed(clip, panel, frame) for clip, frame in zip(panel.clips, frames, strict=True)],
        "bones": bone_sides(panel),
        "joints": len(panel.parents),
        "frame": {"radius": size.radius, "half_height": size.half_height, "up": size.up},
        "rod": ROD * size.half_height,
        "unit": panel.unit,
    }
    return Fragment(html, (("poses", data),))


def _of_one_size(frames: list[Frame]) -> list[Frame]:
    radius, half_height = (max((getattr(frame, name) for frame in frames), default=1.0) for name in ("radius", "half_height"))
    return [Frame(frame.center, radius, half_height, frame.up) for frame in frames]


def _legend(panel: PoseClips) -> str:
    present = [
        ("prediction", "prediction, slim", any(clip.prediction is not None for clip in panel.clips)),
        ("truth", "truth, broad and pale", any(clip.truth is not None for clip in panel.clips)),
        ("left", "left side", bool(panel.left)),
        ("right", "right side", bool(panel.right)),
        ("ring", "joint not seen", any(clip.hidden is not None and clip.hidden.any() for clip in panel.clips)),
    ]
    keys = "".join(f'<li class="key {name}">{label}</li>' for name, label, shown in present if shown)
    return f'<div class="toolbar"><ul class="keys">{keys}</ul>{HINTS if any(map(solid, panel.clips)) else ""}</div>'


def _controls(panel: PoseClips) -> str:
    options = "".join(f'<option value="{speed}"{" selected" if speed == "1" else ""}>{speed} \u00d7</option>' for speed in SPEEDS)
    rate = max((clip.frame_rate for clip in panel.clips), default=1.0)
    last = max((int(np.ceil(clip_length(clip) * rate / clip.frame_rate)) for clip in panel.clips), default=1) - 1
    return (
        f'<div class="player" role="group" aria-label="{escape(f"Player of {panel.title}")}" data-rate="{rate!r}">'
        '<button type="button" class="play" aria-pressed="false"><i></i><span>Play</span></button>'
        f'<input type="range" min="0" max="{last}" step="1" value="0" aria-label="Frame">'
        f"<output>1 / {last + 1:,}</output><label>Speed <select>{options}</select></label></div>"
    )


def _stage(panel: PoseClips, views: str) -> str:
    spoken = f"{', '.join(clip.name for clip in panel.clips)}. Space plays and pauses, comma and period step."
    if any(map(solid, panel.clips)):
        spoken += " Arrow keys turn all, plus and minus zoom, 0 resets."
    narrow = not any(solid(clip) and clip.input_2d is not None for clip in panel.clips)
    columns = 3 if len(panel.clips) == 3 and narrow else min(len(panel.clips), 2)
    return (
        f'<article class="pair" data-poses><div class="stage columns{columns or 1}" tabindex="0" role="group"'
        f' aria-label="{escape(spoken)}">{views}</div><button type="button" class="reset" hidden>Reset view</button></article>'
    )


def _view(clip: PoseClip, panel: PoseClips, frame: Frame, top: float) -> str:
    canvas = '<canvas aria-hidden="true"></canvas>' if solid(clip) else ""
    flat = flat_svg(clip, panel) if clip.input_2d is not None else ""
    kind = " ".join(name for name, there in (("solid", canvas), ("plane", flat)) if there)
    return (
        f'<figure class="view {kind}"><figcaption><b>{escape(clip.name)}</b> <span>{escape(clip.caption)}</span></figcaption>'
        f'{strip_svg(clip, panel, frame)}<div class="scene">{canvas}{flat}</div>{timeline_svg(clip, top, panel.unit)}'
        f'<p class="now">{escape(_facts(clip, panel))}</p></figure>'
    )


def _facts(clip: PoseClip, panel: PoseClips) -> str:
    text, errors = f"{clip_length(clip):,} frames at {format_number(clip.frame_rate, 3)} a second", frame_errors(clip)
    known = errors[np.isfinite(errors)] if errors is not None else np.zeros(0)
    return f"{text}, mean distance {format_number(float(known.mean()), 3)} {panel.unit}".strip() if known.size else text


def _packed(clip: PoseClip, panel: PoseClips, frame: Frame) -> dict[str, Any]:
    size = REACH * max(frame.radius, frame.half_height)
    solids = [
        None if part is None else np.clip(upright(part, panel.up) - frame.center, -size, size) for part in (clip.truth, clip.prediction)
    ]
    low, span = _box([part for part in solids if part is not None])
    left, top, side = flat_box(clip) if clip.input_2d is not None else (0.0, 0.0, 1.0)
    parts = [_differences((part - low) / span) for part in solids if part is not None]
    if clip.input_2d is not None:
        places = (clip.input_2d.astype(np.float64) - (left, top)) / side
        parts.append(_differences((np.clip(places, -1, 2) + 1) / 3))
    if clip.hidden is not None:
        parts.append(clip.hidden.astype(np.uint8).tobytes())
    return {
        "frames": clip_length(clip),
        "rate": clip.frame_rate,
        "has": [part is not None for part in (clip.truth, clip.prediction, clip.input_2d, clip.hidden)],
        "low": low,
        "span": span,
        "ground": _ground(solids, frame),
        "packed": base64.b64encode(gzip.compress(b"".join(parts), mtime=0)).decode(),
    }


def _box(parts: list[Float64[np.ndarray, "frame joint 3"]]) -> tuple[float, float]:
    values = np.concatenate([np.zeros(0), *(part.ravel() for part in parts)])
    known = values[np.isfinite(values)]
    return (float(known.min()), float(np.ptp(known)) or 1.0) if known.size else (0.0, 1.0)


def _differences(parts: Float64[np.ndarray, "frame joint axis"]) -> bytes:
    """Each value 0..1 as the change of its 16-bit number from the frame before, modulo 65536; 65535 is no value."""
    finite = np.isfinite(parts).all(axis=2, keepdims=True)
    levels = np.where(finite, np.rint(np.where(finite, parts, 0.0) * (MISSING - 1)), MISSING).astype(np.uint16)
    return np.diff(levels, axis=0, prepend=np.uint16(0)).astype("<u2").tobytes()


def _ground(solids: list[Float64[np.ndarray, "frame joint 3"] | None], frame: Frame) -> float:
    """Where the feet are: the lowest true joints, but for strays."""
    part = next((part for part in solids if part is not None), None)
    heights = np.zeros(0) if part is None else part[..., frame.up][np.isfinite(part[..., frame.up])]
    return float(np.quantile(heights, 0.005)) - 1.5 * ROD * frame.half_height if heights.size else -frame.half_height
