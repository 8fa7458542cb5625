"""A detector's errors, imitated: for 2D that was projected, and for the corruption of training clips."""

import numpy as np
from jaxtyping import Float32, Float64

from triform.geometry.skeletons import H36M_17

_FRAMES_PER_KEY = 9
"""243 frames have 27 keys in the source."""
_UNIFORM_RANGE = 0.06
_FRAME_STD = 0.002
_CONFIDENCE_A, _CONFIDENCE_B, _CONFIDENCE_MEAN, _CONFIDENCE_STD = 0.028, 1.1, -0.0046, 0.143

# Deviation where the image is 2 wide, and chance that an error is of this kind rather than uniform. Chosen within the published ranges
# (0.0034 to 0.0095, 0.70 to 0.999), the farther from the trunk the worse; the source's table is a file of its own.
_JOINTS = {
    "hip": (0.0045, 0.990),
    "spine": (0.0042, 0.995),
    "thorax": (0.0038, 0.990),
    "nose": (0.0034, 0.999),
    "head": (0.0036, 0.995),
    "shoulder": (0.0045, 0.985),
    "elbow": (0.0065, 0.930),
    "wrist": (0.0095, 0.700),
    "knee": (0.0052, 0.970),
    "ankle": (0.0090, 0.850),
}


def _table() -> tuple[Float64[np.ndarray, "17 1"], Float64[np.ndarray, "17 1"]]:
    rows = np.array([_JOINTS[joint.removeprefix("l_").removeprefix("r_")] for joint in H36M_17.joints])
    return rows[:, :1], rows[:, 1:]


_STD, _WEIGHT = _table()


def detector_noise(
    generator: np.random.Generator, num_frames: int, *, factor: float = 1.0
) -> tuple[Float32[np.ndarray, "frame 17 2"], Float32[np.ndarray, "frame 17"]]:
    """Errors to add to exact 2D, where the image is 2 wide, and the confidence that a detector would give.

    Errors are drawn at about every ninth frame, from a normal or a wide uniform distribution, and go from one to the next in straight
    lines; every frame adds a little of its own.

    Args:
        num_frames: At least 1.
        factor: Of the errors; at 0 there are none and the confidence is 1.

    Source: Zhu et al., MotionBERT, ICCV 2023, and its code.
    """
    joints = len(H36M_17.joints)
    if factor == 0:
        return np.zeros((num_frames, joints, 2), np.float32), np.ones((num_frames, joints), np.float32)
    offset = factor * (_between_keys(generator, num_frames) + generator.normal(0, _FRAME_STD, (num_frames, joints, 2)))
    distance = np.sqrt(np.square(offset).sum(-1))
    confidence = _CONFIDENCE_A / (distance + _CONFIDENCE_A) + _CONFIDENCE_B * distance
    confidence += generator.normal(_CONFIDENCE_MEAN, _CONFIDENCE_STD, confidence.shape)
    return offset.astype(np.float32), np.clip(confidence, 0, 1).astype(np.float32)


def _between_keys(generator: np.random.Generator, num_frames: int) -> Float64[np.ndarray, "frame 17 2"]:
    num_keys = max(2, round(num_frames / _FRAMES_PER_KEY))
    shape = (num_keys, len(H36M_17.joints), 2)
    is_normal = generator.random(shape[:2])[..., None] < _WEIGHT
    keys = np.where(is_normal, generator.standard_normal(shape) * _STD, (generator.random(shape) - 0.5) * _UNIFORM_RANGE)
    places = np.linspace(0, num_keys - 1, num_frames)
    before = np.minimum(places.astype(np.int64), num_keys - 2)
    share = (places - before)[:, None, None]
    found: Float64[np.ndarray, "frame 17 2"] = keys[before] * (1 - share) + keys[before + 1] * share
    return found
