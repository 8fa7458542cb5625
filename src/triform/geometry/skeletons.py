"""Skeletons of the data sets, and the exact maps between them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from triform.errors import UsageError


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Joints in a fixed order. Left and right are the person's own."""

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    """Index of each joint's parent; -1 at the root."""
    left: tuple[int, ...]
    right: tuple[int, ...]
    """`right[i]` mirrors `left[i]`."""

    @property
    def root(self) -> int:
        """The joint that all others hang from."""
        return self.parents.index(-1)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(joint, parent) of every joint but the root."""
        return tuple((joint, parent) for joint, parent in enumerate(self.parents) if parent >= 0)

    @property
    def mirrored(self) -> Int64[np.ndarray, " joint"]:
        """Which joint takes each one's place when left and right are swapped; its own inverse."""
        order = np.arange(len(self.joints))
        order[list(self.left + self.right)] = self.right + self.left
        return order


def _skeleton(name: str, joints: str, parents: tuple[int, ...]) -> Skeleton:
    """Args: joints: names; one that begins with `l_` has a mirror image that begins with `r_`."""
    names = tuple(joints.split())
    left = tuple(i for i, joint in enumerate(names) if joint.startswith("l_"))
    return Skeleton(name, names, parents, left, tuple(names.index(f"r_{names[i][2:]}") for i in left))


H36M_17 = _skeleton(
    "h36m_17",
    "hip r_hip r_knee r_ankle l_hip l_knee l_ankle spine thorax nose head l_shoulder l_elbow l_wrist r_shoulder r_elbow r_wrist",
    (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
)
"""Human3.6M as it is lifted (Martinez et al., ICCV 2017); every prepared pose is in this order."""

MPI_28 = _skeleton(
    "mpi_28",
    "spine3 spine4 spine2 spine pelvis neck head head_top l_clavicle l_shoulder l_elbow l_wrist l_hand r_clavicle r_shoulder r_elbow "
    "r_wrist r_hand l_hip l_knee l_ankle l_foot l_toe r_hip r_knee r_ankle r_foot r_toe",
    (2, 0, 3, 4, -1, 1, 5, 6, 5, 8, 9, 10, 11, 5, 13, 14, 15, 16, 4, 18, 19, 20, 21, 4, 23, 24, 25, 26),
)
"""MPI-INF-3DHP, all joints (Mehta et al., 3DV 2017)."""

MPI_17 = _skeleton(
    "mpi_17",
    "head_top neck r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist r_hip r_knee r_ankle l_hip l_knee l_ankle pelvis spine head",
    (16, 15, 1, 2, 3, 1, 5, 6, 14, 8, 9, 14, 11, 12, -1, 14, 1),
)
"""MPI-INF-3DHP's relevant joints, the order of its test set."""

COCO_17 = _skeleton(
    "coco_17",
    "nose l_eye r_eye l_ear r_ear l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist l_hip r_hip l_knee r_knee l_ankle r_ankle",
    (-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
)
"""Key points of COCO (Lin et al., ECCV 2014); the tree is for drawing, the data set has none."""

HALPE_26 = _skeleton(
    "halpe_26",
    "nose l_eye r_eye l_ear r_ear l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist l_hip r_hip l_knee r_knee l_ankle r_ankle "
    "head neck hip l_big_toe r_big_toe l_small_toe r_small_toe l_heel r_heel",
    (18, 0, 0, 1, 2, 18, 18, 5, 6, 7, 8, 19, 19, 11, 12, 13, 14, 0, 19, -1, 15, 16, 15, 16, 15, 16),
)
"""Key points of Halpe-FullBody (AlphaPose)."""

SKELETONS = {skeleton.name: skeleton for skeleton in (H36M_17, MPI_28, MPI_17, COCO_17, HALPE_26)}

_MPI_17_OF_28 = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)
_H36M_OF_MPI_17 = (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
_MPI_17_OF_H36M = (10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6, 0, 7, 9)
_LIMBS = (H36M_17.joints[1:7], H36M_17.joints[11:])


def convert(joints: Float[np.ndarray, "*batch source axis"], source: Skeleton, target: Skeleton) -> Float[np.ndarray, "*batch target axis"]:
    """The target's joints: copies of the source's, bit for bit, or means of two of them where the source has no such joint.

    MPI-INF-3DHP's head and head top stand in for Human3.6M's nose and head, which lie elsewhere on the skull: leave both out of
    scores across the data sets.

    Raises: UsageError: The source lacks joints that the target has.
    Source: MotionBERT (Zhu et al., ICCV 2023) for COCO and Halpe.
    """
    weights = joint_map(source, target)
    first = weights.argmax(1)
    found = joints[..., first, :]
    for joint in np.flatnonzero((weights > 0).sum(1) > 1):
        found[..., joint, :] = np.einsum("...sa,s->...a", joints, weights[joint].astype(joints.dtype))
    return found


def convert_confidence(confidence: Float[np.ndarray, "*batch source"], source: Skeleton) -> Float[np.ndarray, "*batch 17"]:
    """In the order H36M_17, as `convert`; but a mean with an unseen joint is unseen (0): such a joint's place says nothing."""
    unseen = (confidence <= 0).astype(float) @ (joint_map(source, H36M_17).T > 0) > 0
    return np.where(unseen, 0, convert(confidence[..., None], source, H36M_17)[..., 0])


def joint_map(source: Skeleton, target: Skeleton) -> Float[np.ndarray, "target source"]:
    """The weight of each source joint in each target joint; rows sum to 1. Raises: UsageError: there is no such map."""
    direct = {
        ("mpi_28", "mpi_17"): _MPI_17_OF_28,
        ("mpi_17", "h36m_17"): _H36M_OF_MPI_17,
        ("h36m_17", "mpi_17"): _MPI_17_OF_H36M,
        ("mpi_28", "h36m_17"): tuple(_MPI_17_OF_28[i] for i in _H36M_OF_MPI_17),
    }
    if source == target:
        return np.eye(len(source.joints))
    if (source.name, target.name) in direct:
        return np.eye(len(source.joints))[list(direct[source.name, target.name])]
    if target == H36M_17 and source in (COCO_17, HALPE_26):
        return _from_key_points(source)
    known = sorted({a for a, b in direct if b == target.name} | ({"coco_17", "halpe_26"} if target == H36M_17 else set()))
    raise UsageError(
        f"{source.name} can't become {target.name}: it lacks some of its joints",
        expected=f"one of {', '.join([target.name, *known])}",
        do="give joints in one of these orders",
    )


def _from_key_points(source: Skeleton) -> Float[np.ndarray, "17 source"]:
    at = dict(zip(source.joints, np.eye(len(source.joints)), strict=True))
    if source == HALPE_26:
        hip, thorax, head = at["hip"], at["neck"], at["head"]
    else:
        hip, thorax = (at["l_hip"] + at["r_hip"]) / 2, (at["l_shoulder"] + at["r_shoulder"]) / 2
        head = (at["l_eye"] + at["r_eye"]) / 2
    middle = [(hip + thorax) / 2, thorax, at["nose"], head]
    legs, arms = ([at[joint] for joint in limbs] for limbs in _LIMBS)
    return np.stack([hip, *legs, *middle, *arms])
