"""Clips of poses as pictures need them: checked, turned upright, with a name for each bone's side and the frame that holds them.

Upright means that up is the third axis, and that the camera of `poster.py` stands 35 degrees beside the one that saw the clip, where
coordinates are a camera's (x right, y down, z away): what the 2D input can't show, depth, shows there.
"""

import numpy as np
from jaxtyping import Float, Float64, Int64

from triform.errors import DataError
from triform.report.panels import PoseClip, PoseClips
from triform.report.poster import Frame, fit_frame

MIDDLE, LEFT, RIGHT = 0, 1, 2
UP = 2
MARGIN = 1.12
"""Room around the true poses, for predictions that lie beside them."""


def check_clips(panel: PoseClips) -> None:
    """Raises: DataError: arrays of a clip don't fit together or the skeleton, or `up` is no direction."""
    joints = range(len(panel.parents))
    fits = len(panel.left) == len(panel.right) and all(joint in joints for joint in (*panel.left, *panel.right))
    if not fits or not all(parent == -1 or (parent in joints and parent != joint) for joint, parent in enumerate(panel.parents)):
        raise DataError(
            f"The skeleton of {panel.title!r} has {len(joints)} joints, and parents or sides beyond them",
            expected="a parent or -1 for each joint, and as many left joints as right ones",
            do="Give parents, left and right of the skeleton in whose order the joints are",
        )
    up = np.array(panel.up, dtype=np.float64)
    if up.shape != (3,) or not np.isfinite(up).all() or not up.any():
        raise DataError(
            f"The poses of {panel.title!r} have up = {panel.up}", expected="a direction", do="Give three numbers that are not all 0"
        )
    for clip in panel.clips:
        _check_clip(clip, len(joints))


def clip_length(clip: PoseClip) -> int:
    """Frames of the clip."""
    return next((len(part) for part in (clip.truth, clip.prediction, clip.input_2d) if part is not None), 0)


def bone_sides(panel: PoseClips) -> list[tuple[int, int, int]]:
    """(joint, parent, side) of each bone; it is on the side of its joint."""
    side = np.full(len(panel.parents), MIDDLE)
    side[list(panel.left)], side[list(panel.right)] = LEFT, RIGHT
    return [(joint, parent, int(side[joint])) for joint, parent in enumerate(panel.parents) if parent >= 0]


def upright(points: Float[np.ndarray, "*batch 3"], up: tuple[float, float, float]) -> Float64[np.ndarray, "*batch 3"]:
    """The points turned so that `up` is the third axis and the direction to the camera, -z, lies above the first."""
    above = np.array(up, dtype=np.float64) / np.linalg.norm(up)
    front = next(front for front in (np.array([0.0, 0.0, -1.0]), np.array([0.0, -1.0, 0.0])) if abs(front @ above) < 0.9)
    front = front - (front @ above) * above
    front /= np.linalg.norm(front)
    return np.asarray(points.astype(np.float64) @ np.stack([front, np.cross(above, front), above]).T)


def solid(clip: PoseClip) -> bool:
    """Whether the clip has anything in 3D."""
    return clip.truth is not None or clip.prediction is not None


def clip_frame(clip: PoseClip, up: tuple[float, float, float]) -> Frame:
    """The cylinder around the true poses of all frames, or around the predicted ones where nothing is known to be true."""
    shown = next((part for part in (clip.truth, clip.prediction) if part is not None and np.isfinite(part).all(-1).any()), None)
    points = np.zeros((0, 3)) if shown is None else upright(shown[np.isfinite(shown).all(-1)], up)
    frame = fit_frame(points, UP)
    return Frame(frame.center, frame.radius * MARGIN, frame.half_height * MARGIN, UP)


def frame_errors(clip: PoseClip) -> Float64[np.ndarray, " frame"] | None:
    """Mean distance of the frame's joints, in the panel's unit; NaN where no joint has one, None without a pair to compare."""
    if clip.truth is None or clip.prediction is None:
        return None
    distances = np.linalg.norm(clip.prediction.astype(np.float64) - clip.truth.astype(np.float64), axis=2)
    known = np.isfinite(distances)
    counts = known.sum(axis=1)
    return np.where(counts > 0, np.where(known, distances, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def strip_frames(length: int, count: int) -> Int64[np.ndarray, " shown"]:
    """At most `count` frames, first and last among them."""
    return np.unique(np.rint(np.linspace(0, length - 1, min(count, length))).astype(np.int64))


def visible_places(clip: PoseClip) -> Float64[np.ndarray, "place 2"]:
    """The 2D places that were seen, or all finite ones where nothing was."""
    assert clip.input_2d is not None
    finite = np.isfinite(clip.input_2d).all(axis=2)
    seen = finite if clip.hidden is None else finite & ~clip.hidden
    return np.asarray(clip.input_2d[seen if seen.any() else finite], dtype=np.float64)


def flat_box(clip: PoseClip) -> tuple[float, float, float]:
    """Left, top and side of the square around the 2D places of all frames."""
    places = visible_places(clip)
    low, high = (places.min(axis=0), places.max(axis=0)) if len(places) else (np.full(2, -1.0), np.full(2, 1.0))
    side = 1.16 * float((high - low).max()) or 1.0
    left, top = (low + high) / 2 - side / 2
    return float(left), float(top), side


def _check_clip(clip: PoseClip, joints: int) -> None:
    length = clip_length(clip)
    parts = (("truth", clip.truth, 3), ("prediction", clip.prediction, 3), ("input_2d", clip.input_2d, 2))
    for name, part, axes in parts:
        if part is not None and part.shape != (length, joints, axes):
            raise DataError(
                f"{name} of the clip {clip.name!r} has shape {part.shape}",
                expected=f"({length}, {joints}, {axes}): frames, joints, axes",
                do="Give the same frames of all, in the order of one skeleton",
            )
    if clip.hidden is not None and (clip.input_2d is None or clip.hidden.shape != (length, joints)):
        raise DataError(
            f"hidden of the clip {clip.name!r} has shape {clip.hidden.shape}",
            expected=f"({length}, {joints}), beside input_2d",
            do="Give one truth value for each joint of input_2d",
        )
    if not length or not np.isfinite(clip.frame_rate) or clip.frame_rate <= 0:
        raise DataError(
            f"The clip {clip.name!r} has {length} frames at {clip.frame_rate} a second",
            expected="at least one frame and a positive frame rate",
            do="Leave out clips without frames",
        )
