"""Another frame rate, by straight lines between neighbouring frames."""

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Shaped

from triform.data.poses.raw_poses import RawTrack

_OF_FRAMES = ("joints_2d_px", "confidence", "joints_3d_camera_mm", "joints_3d_world_mm", "mm_per_unit")


def places(num_frames: int, *, from_rate: float, to_rate: float) -> Float64[np.ndarray, " frame"]:
    """Where the new frames lie, in frames of the old: from the first on, none beyond the last."""
    step = from_rate / to_rate
    return np.arange(int((num_frames - 1) / step + 1e-9) + 1) * step


def interpolate(values: Shaped[np.ndarray, "frame *rest"], at: Float[np.ndarray, " new"]) -> Shaped[np.ndarray, "new *rest"]:
    """Values between frames, in their own dtype; at whole places they are the frames' own."""
    before = np.clip(at.astype(np.int64), 0, len(values) - 1)
    after = np.minimum(before + 1, len(values) - 1)
    share = (at - before).reshape(-1, *[1] * (values.ndim - 1))
    return (values[before] * (1 - share) + values[after] * share).astype(values.dtype)


def resampled(track: RawTrack, frame_rate: float) -> RawTrack:
    """The track at another frame rate (0: as it is). A frame is valid where all that it is made of is, and a joint seen likewise."""
    if frame_rate in (0, track.frame_rate):
        return track
    arrays = {name: array for name in _OF_FRAMES if (array := getattr(track, name)) is not None}
    at = places(len(next(iter(arrays.values()))), from_rate=track.frame_rate, to_rate=frame_rate)
    valid = None if track.valid is None else _throughout(track.valid, at)
    changed: dict[str, Any] = {name: interpolate(array, at) for name, array in arrays.items()}
    if track.confidence is not None:
        # An unseen joint's place says nothing: detectors write (0, 0).
        changed["confidence"] *= _throughout(track.confidence > 0, at)
    return replace(track, frame_rate=frame_rate, valid=valid, **changed)


def _throughout(is_so: Bool[np.ndarray, "frame *rest"], at: Float[np.ndarray, " new"]) -> Bool[np.ndarray, "new *rest"]:
    """Whether it is so in each frame that a new one is made of."""
    return interpolate(is_so.astype(np.float64), at) > 1 - 1e-9
