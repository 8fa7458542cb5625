"""Errors of predicted joints, in float64. All but P-MPJPE compare poses whose roots lie on each other."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Float64

from triform.geometry.skeletons import H36M_17

Poses3D = Float[np.ndarray, "*batch frame joint 3"]
Valid = Bool[np.ndarray, "*#batch frame"] | None
"""Frames that are scored; None: all."""

PCK_JOINTS = (10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6)
"""The 14 joints that MPI-INF-3DHP scores, as indices of H36M_17: without pelvis, spine and head (its `head_top` is joint 10)."""
PCK_MM = 150.0
AUC_MM = np.arange(0.0, 151.0, 5.0)
"""31 thresholds."""


def rooted(joints: Poses3D) -> Float64[np.ndarray, "*batch frame joint 3"]:
    """Joints minus their root."""
    joints = np.asarray(joints, np.float64)
    return np.asarray(joints - joints[..., H36M_17.root : H36M_17.root + 1, :])


def joint_errors(predicted: Poses3D, true: Poses3D) -> Float64[np.ndarray, "*batch frame joint"]:
    """Distance of each joint, root on root."""
    return np.asarray(np.linalg.norm(rooted(predicted) - rooted(true), axis=-1))


def procrustes(predicted: Poses3D, true: Poses3D) -> Float64[np.ndarray, "*batch frame joint 3"]:
    """Each predicted pose turned, scaled and moved to lie nearest to the true one in least squares; never reflected.

    A pose that is one point goes to the middle of the true one.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (PAMI 1991), eq. 40-42.
    """
    first, second = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    center = second.mean(-2, keepdims=True)
    first, second = first - first.mean(-2, keepdims=True), second - center
    left, sizes, right = np.linalg.svd(np.swapaxes(first, -1, -2) @ second)
    sign = np.where(np.linalg.det(left @ right) < 0, -1.0, 1.0)
    left[..., 2] *= sign[..., None]
    sizes[..., 2] *= sign
    square = np.square(first).sum((-2, -1))
    scale = np.divide(sizes.sum(-1), square, out=np.zeros_like(square), where=square > 0)
    return np.asarray(scale[..., None, None] * (first @ (left @ right)) + center)


def rescaled(predicted: Poses3D, true: Poses3D) -> Float64[np.ndarray, "*batch frame joint 3"]:
    """Root-relative predicted poses, each times <p, g> / <p, p>: nearest to the true one in least squares.

    The factor is negative where a pose points the other way, as in the reference code.

    Source: Rhodin et al., "Unsupervised geometry-aware representation for 3D human pose estimation" (ECCV 2018), as in VideoPose3D.
    """
    first, second = rooted(predicted), rooted(true)
    square = np.square(first).sum((-2, -1))
    scale = np.divide((first * second).sum((-2, -1)), square, out=np.zeros_like(square), where=square > 0)
    return np.asarray(scale[..., None, None] * first)


def mpjpe(predicted: Poses3D, true: Poses3D, valid: Valid = None) -> float:
    """Mean per joint position error (mm), NaN without a valid frame. Source: Ionescu et al., Human3.6M (PAMI 2014), eq. 8."""
    return _mean(_frame_mpjpe, predicted, true, valid)


def p_mpjpe(predicted: Poses3D, true: Poses3D, valid: Valid = None) -> float:
    """MPJPE (mm) after the best similarity of each frame (`procrustes`): "protocol 2"."""
    return _mean(_frame_p_mpjpe, predicted, true, valid)


def n_mpjpe(predicted: Poses3D, true: Poses3D, valid: Valid = None) -> float:
    """MPJPE (mm) after the best scaling of each frame (`rescaled`)."""
    return _mean(_frame_n_mpjpe, predicted, true, valid)


def mpjve(predicted: Poses3D, true: Poses3D, valid: Valid = None, *, frame_rate: float | None = None) -> float:
    """Mean per joint velocity error in mm a frame, or mm/s where `frame_rate` (frames a second) is given.

    Counts displacements between neighbouring frames that are both valid. Source: Pavllo et al., VideoPose3D (CVPR 2019), section 5.1.
    """
    return _mean(_frame_velocity, predicted, true, valid) * (frame_rate or 1.0)


def acceleration_error(predicted: Poses3D, true: Poses3D, valid: Valid = None) -> float:
    """Mean error of p[t-1] - 2 p[t] + p[t+1] (mm / frame^2), over frames that are valid with both neighbours.

    Source: Kanazawa et al., "Learning 3D human dynamics from video" (CVPR 2019), section 6.
    """
    return _mean(_frame_acceleration, predicted, true, valid)


def pck_150mm(predicted: Poses3D, true: Poses3D, valid: Valid = None) -> float:
    """Share of MPI-INF-3DHP's 14 joints that are off by less than 150 mm; its error of exactly 150 mm is a miss.

    Source: Mehta et al., "Monocular 3D human pose estimation in the wild" (3DV 2017), section 5, and the data set's own script.
    """
    return _mean(_frame_pck, predicted, true, valid)


def auc(predicted: Poses3D, true: Poses3D, valid: Valid = None) -> float:
    """Mean of the share of correct joints over thresholds of 0, 5, ..., 150 mm; at 0 it is always 0, so that a perfect one has 30 / 31."""
    return _mean(_frame_auc, predicted, true, valid)


def bone_length_error(predicted: Poses3D, true: Poses3D, valid: Valid = None) -> float:
    """Mean difference of the bones' lengths (mm)."""
    return _mean(_frame_bones, predicted, true, valid)


def symmetry_error(predicted: Poses3D, valid: Valid = None) -> float:
    """Mean difference (mm) between the left and the right bone of each predicted pair."""
    return _mean(_frame_symmetry, predicted, predicted, valid)


def per_joint(predicted: Poses3D, true: Poses3D, valid: Valid = None) -> Float64[np.ndarray, " joint"]:
    """Mean error of each joint (mm), NaN without a valid frame."""
    first, second = _scored(predicted, true, valid, length=1)
    return np.asarray(joint_errors(first, second).mean((0, 1)) if len(first) else np.full(np.shape(true)[-2], np.nan))


def bone_lengths(joints: Poses3D) -> Float64[np.ndarray, "*batch frame bone"]:
    """Length of each of the skeleton's bones."""
    ends = np.array(H36M_17.bones)
    joints = np.asarray(joints, np.float64)
    return np.asarray(np.linalg.norm(joints[..., ends[:, 0], :] - joints[..., ends[:, 1], :], axis=-1))


def totals(
    predicted: Float[np.ndarray, "frame joint 3"],
    true: Float[np.ndarray, "frame joint 3"],
    valid: Bool[np.ndarray, " frame"],
    *,
    frame_rate: float,
) -> Float64[np.ndarray, "metric 2"]:
    """Sum and count of each of METRICS over one track: frames for most, displacements and their changes for the two of motion."""
    found = np.zeros((len(METRICS), 2))
    runs = {length: _scored(predicted, true, valid, length=length) for length in (1, 2, 3)}
    for row, (name, (measure, length)) in zip(found, METRICS.items(), strict=True):
        first, second = runs[length]
        factor = frame_rate if name == "mpjve_mm_s" else 1.0
        row[:] = measure(first, second).sum() * factor, len(first)
    return found


Windows = Float64[np.ndarray, "place frame joint 3"]
"""Every place where a metric is taken, with the frames that it needs: 1, 2 for a velocity, 3 for an acceleration."""


def _scored(predicted: Poses3D, true: Poses3D, valid: Valid, *, length: int) -> tuple[Windows, Windows]:
    """All runs of `length` valid frames. Frames that are not valid may hold anything, NaN as well, and are never computed with."""
    mask = np.broadcast_to(True if valid is None else valid, np.shape(true)[:-2])
    count = mask.shape[-1] - length + 1
    if count < 1:
        nothing = np.empty((0, length, *np.shape(true)[-2:]))
        return nothing, nothing
    runs = np.logical_and.reduce([mask[..., i : i + count] for i in range(length)])
    pair = (np.asarray(poses, np.float64) for poses in (predicted, true))
    first, second = (np.stack([poses[..., i : i + count, :, :][runs] for i in range(length)], axis=1) for poses in pair)
    return first, second


def _frame_mpjpe(predicted: Windows, true: Windows) -> Float64[np.ndarray, " place"]:
    return np.asarray(joint_errors(predicted, true).mean((-2, -1)))


def _frame_p_mpjpe(predicted: Windows, true: Windows) -> Float64[np.ndarray, " place"]:
    return np.asarray(np.linalg.norm(procrustes(predicted, true) - true, axis=-1).mean((-2, -1)))


def _frame_n_mpjpe(predicted: Windows, true: Windows) -> Float64[np.ndarray, " place"]:
    return np.asarray(np.linalg.norm(rescaled(predicted, true) - rooted(true), axis=-1).mean((-2, -1)))


def _frame_velocity(predicted: Windows, true: Windows) -> Float64[np.ndarray, " place"]:
    difference = rooted(predicted) - rooted(true)
    return np.asarray(np.linalg.norm(difference[:, 1] - difference[:, 0], axis=-1).mean(-1))


def _frame_acceleration(predicted: Windows, true: Windows) -> Float64[np.ndarray, " place"]:
    difference = rooted(predicted) - rooted(true)
    return np.asarray(np.linalg.norm(difference[:, 0] - 2 * difference[:, 1] + difference[:, 2], axis=-1).mean(-1))


def _frame_pck(predicted: Windows, true: Windows) -> Float64[np.ndarray, " place"]:
    return np.asarray((joint_errors(predicted, true)[..., PCK_JOINTS] < PCK_MM).mean((-2, -1)))


def _frame_auc(predicted: Windows, true: Windows) -> Float64[np.ndarray, " place"]:
    return np.asarray((joint_errors(predicted, true)[..., PCK_JOINTS, None] < AUC_MM).mean((-3, -2, -1)))


def _frame_bones(predicted: Windows, true: Windows) -> Float64[np.ndarray, " place"]:
    return np.asarray(np.abs(bone_lengths(predicted) - bone_lengths(true)).mean((-2, -1)))


def _frame_symmetry(predicted: Windows, _true: Windows) -> Float64[np.ndarray, " place"]:
    children = [joint for joint, _ in H36M_17.bones]
    left, right = ([children.index(joint) for joint in side] for side in (H36M_17.left, H36M_17.right))
    lengths = bone_lengths(predicted)
    return np.asarray(np.abs(lengths[..., left] - lengths[..., right]).mean((-2, -1)))


def _mean(measure: "Measure", predicted: Poses3D, true: Poses3D, valid: Valid) -> float:
    first, second = _scored(predicted, true, valid, length=_LENGTHS.get(measure, 1))
    return float(measure(first, second).mean()) if len(first) else float("nan")


Measure = Callable[[Windows, Windows], Float64[np.ndarray, " place"]]
METRICS: dict[str, tuple[Measure, int]] = {
    "mpjpe_mm": (_frame_mpjpe, 1),
    "p_mpjpe_mm": (_frame_p_mpjpe, 1),
    "n_mpjpe_mm": (_frame_n_mpjpe, 1),
    "mpjve_mm_frame": (_frame_velocity, 2),
    "mpjve_mm_s": (_frame_velocity, 2),
    "acceleration_mm_frame2": (_frame_acceleration, 3),
    "pck_150mm": (_frame_pck, 1),
    "auc": (_frame_auc, 1),
    "bone_length_mm": (_frame_bones, 1),
    "symmetry_mm": (_frame_symmetry, 1),
}
"""What is measured of each place, and how many frames it needs; in the order in which it is shown."""
_LENGTHS = dict(METRICS.values())
