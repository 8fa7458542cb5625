"""How large a subject is, and the factor that makes it another size."""

import numpy as np
from jaxtyping import Float

from triform.data.poses.raw_poses import RawPoses, RawSequence
from triform.data.quarantine import BadFile
from triform.geometry.skeletons import H36M_17

LEG_SHARE = 0.491
"""Thigh 0.245 and shank 0.246 of the stature."""
_LEG_BONES = tuple((joint, parent) for joint, parent in H36M_17.bones if H36M_17.joints[joint].endswith(("knee", "ankle")))


def leg_length_mm(joints_mm: Float[np.ndarray, "frame 17 3"]) -> float:
    """Mean length of thigh and shank together, over both sides and all frames."""
    lengths = [np.linalg.norm(joints_mm[:, joint] - joints_mm[:, parent], axis=-1).mean() for joint, parent in _LEG_BONES]
    return float(sum(lengths)) / 2


def stature_factors(source: RawPoses, *, stature_m: float) -> dict[str, float]:
    """Subject -> factor that gives it this stature, measured on its first sequence that can be used; only where virtual cameras film.

    A scene that a camera of its own filmed keeps its size, because the camera was calibrated in it.

    Args:
        stature_m: Above 0, or 0 to leave all subjects as they are.

    Source: Drillis and Contini, Body segment parameters, 1966.
    """
    factors: dict[str, float] = {}
    if stature_m > 0:
        for sequence in source.sequences:
            if sequence.subject not in factors and (length := _leg_of(source, sequence)):
                factors[sequence.subject] = LEG_SHARE * stature_m * 1000 / length
    return factors


def _leg_of(source: RawPoses, sequence: RawSequence) -> float:
    """0 where it isn't known."""
    try:
        worlds = [track.joints_3d_world_mm for track in source.read(sequence) if track.joints_3d_world_mm is not None]
    except BadFile:
        return 0.0
    length = leg_length_mm(worlds[0]) if worlds else 0.0
    return length if np.isfinite(length) else 0.0
