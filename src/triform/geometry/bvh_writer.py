"""Poses as BVH, for programs that animate: a skeleton in a T-pose, and the turns that take its bones to where they were seen."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from triform.errors import DataError
from triform.files import write_durably
from triform.geometry.rotations import best_fit, shortest, to_euler
from triform.geometry.skeletons import H36M_17, Skeleton

Turns = Float64[np.ndarray, "frame 3 3"]
_STUB = 0.25
"""Length of an end site, of the bone before it: nothing is known there, and a bone without length shows badly."""


def upright(joints_camera: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    """From a camera's frame (x right, y down, z away) to x right, y up, z towards the viewer, as animation has it."""
    return np.asarray(joints_camera * np.array([1, -1, -1], joints_camera.dtype))


def write_bvh(path: Path, joints_mm: Float[np.ndarray, "frame joint 3"], *, frame_rate: float, skeleton: Skeleton = H36M_17) -> None:
    """Write poses; read again, every bone has its direction, and where bones keep their lengths, every joint its place.

    Bones have their mean lengths. Where several bones leave a joint, its own turn is their best fit, and a joint without length between it
    and each bone takes up the rest.

    Args:
        joints_mm: y up; the file's unit is the millimetre.
        frame_rate: Frames a second.

    Raises: DataError: NaN, or no frame. DiskFull, CannotWrite.
    """
    if not len(joints_mm) or not np.isfinite(joints_mm).all():
        raise DataError(f"{path}: the poses to write are empty or hold NaN", expected="finite joints", do="look at the prediction")
    tree = _Tree(np.asarray(joints_mm, np.float64), skeleton)
    tree.add(skeleton.root, depth=0, turn=None)
    motion = np.concatenate(tree.motion, axis=1)
    lines = ["HIERARCHY", *tree.lines, "MOTION", f"Frames: {len(motion)}", f"Frame Time: {1 / frame_rate:.8f}"]
    lines += [" ".join(f"{value:.5f}" for value in frame) for frame in motion.tolist()]
    write_durably(path, ("\n".join(lines) + "\n").encode())


class _Tree:
    """The lines of the hierarchy and the columns of the motion, joint by joint in the file's order."""

    def __init__(self, joints_mm: Float64[np.ndarray, "frame joint 3"], skeleton: Skeleton) -> None:
        self.joints_mm, self.skeleton = joints_mm, skeleton
        self.lines: list[str] = []
        self.motion: list[Float64[np.ndarray, "frame channel"]] = []

    def add(self, joint: int, *, depth: int, turn: Turns | None) -> None:
        """Write a joint and all below it. Args: turn: how its parent stands in the world (None: it is the root)."""
        children = [child for child, parent in self.skeleton.bones if parent == joint]
        own = self._own_turn(children, turn)
        order = self._order(children[0] if len(children) == 1 else joint)
        if turn is None:
            self._open("ROOT", self.skeleton.joints[joint], np.zeros(3), depth)
            self.motion.append(self.joints_mm[:, joint])
            self._turn(own, order, depth, root=True)
        else:
            self._open("JOINT", self.skeleton.joints[joint], self._rest(joint), depth)
            self._turn(np.swapaxes(turn, 1, 2) @ own, order, depth)
        for child in children:
            self._branch(child, depth=depth + 1, turn=own, several=len(children) > 1)
        if not children:
            self._end(joint, depth + 1)
        self.lines.append("\t" * depth + "}")

    def _branch(self, child: int, *, depth: int, turn: Turns, several: bool) -> None:
        """Write a child, behind a joint without length where its parent's turn could not be for it alone."""
        if not several:
            self.add(child, depth=depth, turn=turn)
            return
        bone = self._bone(child)
        rest = shortest(np.broadcast_to(self._rest(child), bone.shape), np.einsum("fba,fb->fa", turn, bone))
        self._open("JOINT", f"to_{self.skeleton.joints[child]}", np.zeros(3), depth)
        self._turn(rest, self._order(child), depth)
        self.add(child, depth=depth + 1, turn=turn @ rest)
        self.lines.append("\t" * depth + "}")

    def _own_turn(self, children: list[int], turn: Turns | None) -> Turns:
        """How the joint stands in the world: as its bones say, or as its parent where it has none."""
        before = np.broadcast_to(np.eye(3), (len(self.joints_mm), 3, 3)) if turn is None else turn
        if len(children) > 1:
            rest = np.broadcast_to(np.stack([self._rest(child) for child in children]), (len(before), len(children), 3))
            return best_fit(rest, np.stack([self._bone(child) for child in children], axis=1))
        for child in children:
            bone = self._bone(child)
            return np.asarray(before @ shortest(np.broadcast_to(self._rest(child), bone.shape), np.einsum("fba,fb->fa", before, bone)))
        return before

    def _bone(self, joint: int) -> Float64[np.ndarray, "frame 3"]:
        return np.asarray(self.joints_mm[:, joint] - self.joints_mm[:, self.skeleton.parents[joint]])

    def _rest(self, joint: int) -> Float64[np.ndarray, " 3"]:
        return np.asarray(rest_direction(self.skeleton.joints[joint]) * np.linalg.norm(self._bone(joint), axis=1).mean())

    def _order(self, joint: int) -> str:
        """Angles are ill-defined at +-90 degrees of the middle one: not the axis that legs (x), arms and the whole body (y) turn about."""
        return "zyx" if rest_direction(self.skeleton.joints[joint])[1] < 0 else "zxy"

    def _open(self, kind: str, name: str, offset: Float64[np.ndarray, " 3"], depth: int) -> None:
        tabs = "\t" * depth
        self.lines += [f"{tabs}{kind} {name}", f"{tabs}{{", f"{tabs}\tOFFSET {' '.join(f'{value:.6f}' for value in offset)}"]

    def _turn(self, local: Turns, order: str, depth: int, *, root: bool = False) -> None:
        """Add a joint's channels; angles go on past a half turn rather than jump."""
        names = [*("XYZ" if root else ""), *order.upper()]
        kinds = ["position"] * (len(names) - 3) + ["rotation"] * 3
        self.lines.append("\t" * (depth + 1) + f"CHANNELS {len(names)} {' '.join(map(str.__add__, names, kinds))}")
        self.motion.append(np.degrees(np.unwrap(to_euler(order, local), axis=0)))

    def _end(self, joint: int, depth: int) -> None:
        tabs = "\t" * depth
        offset = " ".join(f"{value:.6f}" for value in self._rest(joint) * _STUB)
        self.lines += [f"{tabs}End Site", f"{tabs}{{", f"{tabs}\tOFFSET {offset}", f"{tabs}}}"]


def rest_direction(joint: str) -> Float64[np.ndarray, " 3"]:
    """Where a bone that ends in this joint points in a T-pose: x to the person's left, y up, z ahead."""
    part = joint.removeprefix("l_").removeprefix("r_")
    if part in ("knee", "ankle"):
        return np.array([0.0, -1.0, 0.0])
    if part in ("foot", "toe"):
        return np.array([0.0, 0.0, 1.0])
    if part != joint:
        return np.array([1.0 if joint.startswith("l_") else -1.0, 0.0, 0.0])
    return np.array([0.0, 1.0, 0.0])
