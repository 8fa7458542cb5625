"""BVH (Biovision hierarchy): a tree of joints with their offsets and the angles of every frame, and where that puts the joints.

Source: Meredith and Maddock, "Motion capture file formats explained" (University of Sheffield, 2001).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from triform.errors import DataError
from triform.geometry.rotations import from_euler

_CHANNELS = {f"{axis}{kind}" for axis in "XYZ" for kind in ("position", "rotation")}
_EXPORT = "export the file again"


@dataclass(frozen=True, slots=True)
class Joint:
    """One joint, or the end of a limb."""

    name: str
    """The ends, which have no names of their own, are called after their parents: "Head End"."""
    parent: int
    """Index of the parent, which comes before it; -1 at the root."""
    offset: tuple[float, float, float]
    """From the parent, in the file's unit."""
    channels: tuple[str, ...]
    """Its columns of the motion, in order, such as "Zrotation"."""


@dataclass(frozen=True, slots=True, eq=False)
class Bvh:
    """A whole file."""

    joints: tuple[Joint, ...]
    frame_time_s: float
    motion: Float64[np.ndarray, "frame channel"]
    """Positions in the file's unit, angles in degrees; the joints' channels one after another."""

    @property
    def frame_rate(self) -> float:
        """Frames a second; a time that was rounded to six digits is taken for the whole number it is within 0.01 percent of."""
        rate = 1 / self.frame_time_s
        return float(round(rate)) if abs(rate - round(rate)) < 1e-4 * rate else rate

    def positions(self) -> Float64[np.ndarray, "frame joint 3"]:
        """Where each joint is, in the file's unit: forward kinematics.

        A position channel stands in the place of its joint's offset (most roots have none, and other joints repeat it there).
        """
        places = np.empty((len(self.motion), len(self.joints), 3))
        turns: list[Float64[np.ndarray, "frame 3 3"]] = []
        first = 0
        for index, joint in enumerate(self.joints):
            values = self.motion[:, first : first + len(joint.channels)]
            first += len(joint.channels)
            offset, turn = _local(joint, values)
            if joint.parent >= 0:
                offset = places[:, joint.parent] + np.einsum("fab,fb->fa", turns[joint.parent], offset)
                turn = turns[joint.parent] @ turn
            places[:, index] = offset
            turns.append(turn)
        return places


def read_bvh(path: Path) -> Bvh:
    """Read a file. Raises: DataError: it can't be read, its tree is broken, or its motion is cut off or not what the tree needs."""
    joints, lines = _split(path)
    numbers = [(number, line) for number, line in lines if line.strip()]
    num_frames, frame_time_s = _motion_header(path, [line for _, line in numbers[:3]], numbers[0][0])
    num_channels = sum(len(joint.channels) for joint in joints)
    return Bvh(joints, frame_time_s, _motion(path, numbers[3:], (num_frames, num_channels)))


def read_hierarchy(path: Path) -> tuple[Joint, ...]:
    """Read the tree alone. Raises: DataError."""
    return _split(path)[0]


def _local(
    joint: Joint, values: Float64[np.ndarray, "frame channel"]
) -> tuple[Float64[np.ndarray, "frame 3"], Float64[np.ndarray, "frame 3 3"]]:
    offset = np.tile(np.array(joint.offset), (len(values), 1))
    turning = [column for column, channel in enumerate(joint.channels) if channel.endswith("rotation")]
    for column, channel in enumerate(joint.channels):
        if channel.endswith("position"):
            offset[:, "XYZ".index(channel[0])] = values[:, column]
    order = "".join(joint.channels[column][0].lower() for column in turning)
    return offset, from_euler(order, np.radians(values[:, turning]))


def _split(path: Path) -> tuple[tuple[Joint, ...], list[tuple[int, str]]]:
    """The tree, and the numbered lines from "MOTION" on."""
    try:
        lines = path.read_text("utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise DataError(
            f"{path} can't be read ({error.strerror})", expected="a BVH file", do="check the path and its permissions"
        ) from error
    start = next((index for index, line in enumerate(lines) if line.strip().upper() == "MOTION"), None)
    if start is None or not lines[0].strip().upper().startswith("HIERARCHY"):
        raise DataError(f'{path} has no lines "HIERARCHY" and "MOTION"', expected="a BVH file", do="give another file")
    return _joints(path, lines[1:start]), list(enumerate(lines, 1))[start:]


def _joints(path: Path, lines: list[str]) -> tuple[Joint, ...]:
    """The tree as a list, parents before children."""
    words, joints, open_joints = _words(lines), list[Joint](), list[int]()
    number = 2
    for number, key, rest in words:
        if key in ("ROOT", "JOINT", "END"):
            if (key == "ROOT") != (not joints) or (key != "ROOT" and not open_joints):
                raise _broken(path, number, f"{key} stands there", "one ROOT, and all joints inside it")
            parent = open_joints[-1] if open_joints else -1
            joints.append(Joint(f"{joints[parent].name} End" if key == "END" else " ".join(rest), parent, (0.0, 0.0, 0.0), ()))
            if next(words, (0, "", []))[1] != "{":
                raise _broken(path, number, f"no {{ follows {key} {' '.join(rest)}", "{ after each joint's name")
            open_joints.append(len(joints) - 1)
        elif key == "}" and open_joints:
            open_joints.pop()
        elif key in ("OFFSET", "CHANNELS") and open_joints:
            joint = joints[open_joints[-1]]
            if key == "OFFSET":
                joints[open_joints[-1]] = replace(joint, offset=_offset(path, number, rest))
            else:
                joints[open_joints[-1]] = replace(joint, channels=_channels(path, number, rest))
        else:
            raise _broken(path, number, f"{key!r} stands there", "ROOT, JOINT, End Site, OFFSET, CHANNELS, { or }")
    if not joints or open_joints:
        raise _broken(
            path, number, f"{len(open_joints)} of the joints' {{ are not closed" if joints else "there is no ROOT", "a whole tree"
        )
    return tuple(joints)


def _words(lines: list[str]) -> Iterator[tuple[int, str, list[str]]]:
    """(line's number, key, the words after it); a brace is a key by itself, wherever it stands."""
    for number, line in enumerate(lines, 2):
        for part in line.replace("{", "\n{\n").replace("}", "\n}\n").split("\n"):
            if words := part.split():
                yield number, words[0].upper(), words[1:]


def _offset(path: Path, number: int, words: list[str]) -> tuple[float, float, float]:
    try:
        x, y, z = map(float, words)
    except ValueError:
        raise _broken(path, number, f"OFFSET {' '.join(words)}", "three numbers") from None
    return x, y, z


def _channels(path: Path, number: int, words: list[str]) -> tuple[str, ...]:
    names = tuple(word[:1].upper() + word[1:].lower() for word in words[1:])
    if not words or words[0] != str(len(names)):
        raise _broken(path, number, f"CHANNELS {' '.join(words)}: {len(names)} names follow", "as many names as the number says")
    if wrong := [word for word, name in zip(words[1:], names, strict=True) if name not in _CHANNELS]:
        raise _broken(path, number, f"the channel {wrong[0]}", "Xposition, Yposition, Zposition, Xrotation, Yrotation or Zrotation")
    return names


def _motion_header(path: Path, lines: list[str], number: int) -> tuple[int, float]:
    """Number of frames, and seconds of each."""
    try:
        (_, frames), (_, frame_time) = (line.rsplit(":", 1) for line in lines[1:])
        num_frames, frame_time_s = int(frames), float(frame_time)
    except ValueError:
        raise _broken(path, number, f"MOTION is followed by {' | '.join(lines[1:])!r}", '"Frames: N" and "Frame Time: seconds"') from None
    if num_frames < 1 or not 0 < frame_time_s < np.inf:
        raise _broken(path, number, f"{num_frames} frames of {frame_time_s} seconds", "at least one, of more than 0 seconds")
    return num_frames, frame_time_s


def _motion(path: Path, lines: list[tuple[int, str]], shape: tuple[int, int]) -> Float64[np.ndarray, "frame channel"]:
    """All numbers at once; the lines are only looked at where something is wrong."""
    num_frames, num_channels = shape
    words = [word for _, line in lines for word in line.split()]
    if len(words) != num_frames * num_channels:
        for number, line in lines:
            if (got := len(line.split())) != num_channels:
                raise _broken(path, number, f"{got} numbers in a frame", f"{num_channels}, as the CHANNELS of all joints together")
        raise _broken(path, lines[-1][0] if lines else 0, f"{len(lines)} frames", f"{num_frames}, as Frames says")
    try:
        motion = np.array(words, dtype=np.float64).reshape(shape)
    except ValueError as error:
        raise DataError(f"{path}: {error} in the motion", expected="numbers", do=_EXPORT) from None
    if not np.isfinite(motion).all():
        frame = int(np.argwhere(~np.isfinite(motion))[0, 0])
        raise DataError(f"{path}: frame {frame} (the first is 0) holds NaN or infinity", expected="finite numbers", do=_EXPORT)
    return motion


def _broken(path: Path, number: int, got: str, expected: str) -> DataError:
    return DataError(f"{path}, line {number}: {got}", expected=expected, do=_EXPORT)
