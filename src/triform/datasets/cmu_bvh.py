"""CMU's motion capture database as BVH files, and other BVH whose joints are called alike.

Licence of CMU's recordings: free for all uses, no resale of the data itself; acknowledge NSF EIA-0196217 (mocap.cs.cmu.edu).
Raw layout: `.bvh` files at any depth, named `<subject>_<number>.bvh`, 120 Hz, y up. Their unit, as B. Hahne's conversion (cgspeed) has it,
is 1/0.45 inch. There are no official splits. What people do is in none of the files: an `actions.csv` of `name,action` lines
(`131_01,start walking`) may say it. There are no pictures: virtual cameras film the people.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from triform.data.poses.config import WorldPoses
from triform.errors import DataError
from triform.settings import settings

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float64

    from triform.data.poses.raw_poses import Average, RawPoses, RawSequence, RawTrack
    from triform.geometry.bvh import Joint

_NAMES = {
    "hip": ("Hips", "Hip"),
    "r_hip": ("RightHip", "RightUpLeg"),
    "r_knee": ("RightKnee", "RightLeg", "RightLowLeg"),
    "r_ankle": ("RightAnkle", "RightFoot"),
    "l_hip": ("LeftHip", "LeftUpLeg"),
    "l_knee": ("LeftKnee", "LeftLeg", "LeftLowLeg"),
    "l_ankle": ("LeftAnkle", "LeftFoot"),
    "thorax": ("Neck1", "Neck"),
    "nose": ("Head",),
    "head": ("Head End", "HeadEnd", "HeadTop_End"),
    "l_shoulder": ("LeftArm", "LeftUpArm", "LeftShoulder"),
    "l_elbow": ("LeftElbow", "LeftForeArm", "LeftLowArm"),
    "l_wrist": ("LeftWrist", "LeftHand"),
    "r_shoulder": ("RightArm", "RightUpArm", "RightShoulder"),
    "r_elbow": ("RightElbow", "RightForeArm", "RightLowArm"),
    "r_wrist": ("RightWrist", "RightHand"),
}
"""What each joint of Human3.6M is called, the first that is there: LeftShoulder is the collar bone where there is a LeftArm, and Neck the
top of the chest where there is a Neck1. The base of the skull stands for the nose, which motion capture does not have."""


@settings
class CmuBvh(WorldPoses):
    """A folder of BVH files with the joint names of CMU's conversions."""

    kind: Literal["cmu_bvh"] = "cmu_bvh"
    stature_m: Annotated[float, Ge(0)] = 1.7
    """Scale each subject so that thigh and shank are 0.491 of this (0: as recorded; Drillis and Contini, 1966)."""
    unit_mm: Annotated[float, Gt(0)] = 25.4 / 0.45
    """Millimetres of the files' unit; where `stature_m` scales the subjects, it changes nothing."""
    skip_frames: Annotated[int, Ge(0)] = 0
    """Frames left out at the beginning of each file: 1 where the conversion put a T-pose there."""

    def raw_poses(self) -> "RawPoses":
        """List the files, and look for the joints in the first. Raises: DataError."""
        from triform.data.poses.folder_files import files_below
        from triform.geometry.bvh import read_hierarchy

        root = self.raw_folder()
        if not (paths := files_below(root, ".bvh")):
            raise DataError(f"{root} holds no .bvh file", expected="BVH files at any depth", do="give another --data-dir")
        joint_indices(paths[0], read_hierarchy(paths[0]))
        table = root / "actions.csv"
        sequences = _sequences(root, paths, _read_actions(table) if table.exists() else {})
        return _BvhFolder(root, sequences, (*paths, *([table] if table.exists() else [])), self)


@dataclass(frozen=True, slots=True)
class _BvhFolder:
    """The files of one folder."""

    root: Path
    sequences: "tuple[RawSequence, ...]"
    files: tuple[Path, ...]
    settings: CmuBvh
    average: "Average" = "action"

    @property
    def protocol(self) -> str:
        filmed = f"{self.settings.virtual_cameras} virtual cameras with imitated detector errors x {self.settings.detection_noise:g}"
        return f"CMU motion capture; 2D: {filmed}; no clip is left out; mean over actions"

    def read(self, sequence: "RawSequence") -> "tuple[RawTrack, ...]":
        """The people in the world, y up. Raises: BadFile."""
        from triform.data.poses.raw_poses import RawTrack
        from triform.data.poses.virtual_cameras import SIZE_PX
        from triform.data.quarantine import BadFile
        from triform.geometry.bvh import read_bvh

        path = self.root / sequence.member
        try:
            bvh = read_bvh(path)
            joints = to_h36m(path, bvh.joints, bvh.positions()[self.settings.skip_frames :] * self.settings.unit_mm)
        except DataError as error:
            raise BadFile(str(error)) from error
        if not len(joints):
            raise BadFile(f"all of its {len(bvh.motion)} frames are left out")
        return (RawTrack("world", SIZE_PX, bvh.frame_rate, joints_3d_world_mm=joints),)


def joint_indices(path: Path, joints: "tuple[Joint, ...]") -> dict[str, int]:
    """Where each joint of Human3.6M but the spine is in the file. Raises: DataError: it names what is missing."""
    at = {joint.name.lower(): index for index, joint in enumerate(joints)}
    found = {ours: [at[name.lower()] for name in names if name.lower() in at] for ours, names in _NAMES.items()}
    if missing := [" or ".join(_NAMES[ours]) for ours, indices in found.items() if not indices]:
        raise DataError(
            f"{path} has no joint {', and none called '.join(missing)}",
            expected="the joint names of CMU's BVH conversions",
            do="rename the file's joints, or write its poses as a folder of npz (kind: pose_npz)",
        )
    return {ours: indices[0] for ours, indices in found.items()}


def to_h36m(
    path: Path, joints: "tuple[Joint, ...]", positions: "Float64[np.ndarray, 'frame joint 3']"
) -> "Float64[np.ndarray, 'frame 17 3']":
    """The joints of Human3.6M; its spine is half way along the bones from the hips to the neck, as they are at rest. Raises: DataError."""
    import numpy as np

    from triform.geometry.skeletons import H36M_17

    at = joint_indices(path, joints)
    below, above, share = _half_way(path, joints, bottom=at["hip"], top=at["thorax"])
    spine = (1 - share) * positions[:, below] + share * positions[:, above]
    return np.stack([spine if name == "spine" else positions[:, at[name]] for name in H36M_17.joints], axis=1)


def _half_way(path: Path, joints: "tuple[Joint, ...]", *, bottom: int, top: int) -> tuple[int, int, float]:
    """The bone on which the middle between two joints lies, and how far along it."""
    chain = [top]
    while chain[-1] not in (bottom, -1):
        chain.append(joints[chain[-1]].parent)
    lengths = [sum(x * x for x in joints[joint].offset) ** 0.5 for joint in chain[:-1]]
    left = sum(lengths) / 2
    if chain[-1] == -1 or left == 0:
        raise DataError(f"{path} has no bones from {joints[bottom].name} to {joints[top].name}", expected="a spine", do="give another file")
    for joint, parent, length in zip(chain, chain[1:], lengths, strict=False):
        if left <= length:
            return joint, parent, left / length
        left -= length
    raise AssertionError("half a chain ends within it")


def _sequences(root: Path, paths: list[Path], actions: dict[str, str]) -> "tuple[RawSequence, ...]":
    from triform.data.poses.raw_poses import RawSequence

    listed: dict[str, Path] = {}
    for path in paths:
        if (other := listed.setdefault(path.stem, path)) != path:
            raise DataError(f"{other} and {path} have one name", expected="each name once", do="rename or remove one of them")
    if unknown := sorted(set(actions) - set(listed)):
        raise DataError(
            f"actions.csv names {unknown[0]}, and there is no such .bvh file", expected="names of files", do="correct actions.csv"
        )
    subject_of = {stem: stem.split("_")[0] for stem in listed}
    found = [
        RawSequence(f"{subject_of[stem]}/{stem}", subject_of[stem], actions.get(stem, "motion"), path.relative_to(root).as_posix())
        for stem, path in listed.items()
    ]
    return tuple(sorted(found, key=lambda sequence: sequence.name))


def _read_actions(path: Path) -> dict[str, str]:
    """File's name -> what is done in it. Raises: DataError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read: {error}", expected="lines of name,action in UTF-8", do="save it so") from error
    rows = rows[1:] if rows and rows[0] == ["name", "action"] else rows
    actions: dict[str, str] = {}
    for row in rows:
        if len(row) != 2 or not all(row) or row[0] in actions:
            raise DataError(f"{path} holds the line {','.join(row)!r}", expected="name,action, each name once", do="correct it")
        actions[row[0]] = row[1]
    return actions
