"""Lifts whole tracks: overlapping windows, averaged; with the mirror image's prediction where asked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numpy.typing import NDArray

from triform.data.poses.windows import windows
from triform.errors import Diverged
from triform.geometry.skeletons import H36M_17
from triform.training.task import Predict

Joints2D = Float32[np.ndarray, "frame 17 3"]
"""x and y where the image is 2 wide, and confidence."""


def lift(
    predict: Predict, joints_2d: Joints2D, *, num_frames: int, frame_stride: int, batch_size: int, flip: bool
) -> Float32[np.ndarray, "frame 17 3"]:
    """Lift every frame of a track: root-relative, in the network's unit. Where windows overlap, the mean of their predictions.

    Args:
        predict: batch to {"joints_3d"}, in evaluation mode.
        num_frames: frames of a window.
        frame_stride: every how manieth frame a window takes.
        batch_size: windows at a time.
        flip: whether the mirrored prediction of the mirror image is averaged in.

    Raises: Diverged: a prediction is not finite.
    """
    found = _lift(predict, joints_2d, windows(len(joints_2d), num_frames=num_frames, frame_stride=frame_stride), batch_size=batch_size)
    if not flip:
        return found
    other = lift(predict, mirrored(joints_2d), num_frames=num_frames, frame_stride=frame_stride, batch_size=batch_size, flip=False)
    return flip_average(found, other)


def flip_average(
    plain: Float32[np.ndarray, "frame 17 3"], of_mirror_image: Float32[np.ndarray, "frame 17 3"]
) -> Float32[np.ndarray, "frame 17 3"]:
    """Mean of a prediction and of that of the mirror image, mirrored back."""
    return np.asarray((plain + mirrored(of_mirror_image)) / 2, np.float32)


def mirrored(joints: Float32[np.ndarray, "*batch 17 axis"]) -> Float32[np.ndarray, "*batch 17 axis"]:
    """The mirror image: x changes its sign, and left joints become right ones. Its own inverse."""
    found = joints[..., H36M_17.mirrored, :]
    found[..., 0] *= -1
    return found


def padding(places: Int64[np.ndarray, "clip frame"]) -> Bool[np.ndarray, "clip frame"]:
    """Which frames of a window only fill it up, because its track is shorter: those that repeat the one before."""
    same = np.diff(places, axis=1) == 0
    return np.concatenate([np.zeros((len(places), 1), bool), same], axis=1)


def inputs(joints_2d: Float32[np.ndarray, "clip frame 17 3"], padded: Bool[np.ndarray, "clip frame"]) -> dict[str, NDArray[Any]]:
    """What a network sees of clips: as in training, frames that fill up a clip are 0."""
    seen = np.where(padded[..., None, None], np.float32(0), joints_2d).astype(np.float32)
    return {"joints_2d": seen, "seen": (~padded).astype(np.float32)}


def predicted_3d(predict: Predict, batch: Mapping[str, NDArray[Any]]) -> Float32[np.ndarray, "clip frame 17 3"]:
    """The prediction of a batch. Raises: Diverged: it is not finite."""
    found = np.asarray(predict(batch)["joints_3d"], np.float32)
    if not np.isfinite(found).all():
        raise Diverged("A predicted joint is not finite", expected="finite numbers", do="lower --learning-rate or set --gradient-clip")
    return found


def _lift(
    predict: Predict, joints_2d: Joints2D, places: Int64[np.ndarray, "window frame"], *, batch_size: int
) -> Float32[np.ndarray, "frame 17 3"]:
    padded = padding(places)
    sums, counts = np.zeros((len(joints_2d), len(H36M_17.joints), 3)), np.zeros(len(joints_2d))
    for first in range(0, len(places), batch_size):
        chosen = slice(first, first + batch_size)
        found = predicted_3d(predict, inputs(joints_2d[places[chosen]], padded[chosen]))
        kept = ~padded[chosen]
        np.add.at(sums, places[chosen][kept], found[kept])
        np.add.at(counts, places[chosen][kept], 1)
    return np.asarray(sums / counts[:, None, None], np.float32)
