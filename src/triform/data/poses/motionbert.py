"""Human3.6M in MotionBERT's pickle: long arrays in which every frame says what it is from."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from triform.data.plain_pickle import read_plain
from triform.data.poses.h36m_cameras import FRAME_RATE, h36m_camera, up_in
from triform.data.poses.kept import kept
from triform.data.poses.raw_arrays import field_of, joints_of, refuse_not_finite
from triform.data.poses.raw_poses import Average, RawSequence, RawTrack
from triform.data.split import Split
from triform.errors import DataError

ACTIONS = (
    *("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Posing", "Purchases", "Sitting"),
    *("SittingDown", "Smoking", "Photo", "Waiting", "Walking", "WalkDog", "WalkTogether"),
)
"""Numbers 2 to 16."""
CORRUPTED = ("S9/Greeting 2", "S9/SittingDown 2", "S9/Waiting 1")
"""s_09_act_05_subact_02, s_09_act_10_subact_02 and s_09_act_13_subact_01: the joints drift away from the person in the picture."""
_SOURCE = re.compile(r"s_(\d+)_act_(\d+)_subact_(\d+)_ca_(\d+)")
_PARTS: tuple[tuple[str, Split | None], ...] = (("train", None), ("test", "test"))


@dataclass(frozen=True, slots=True)
class Run:
    """Frames `first` to `last - 1` of a part: a sequence as one camera saw it."""

    part: str
    first: int
    last: int
    subject: str
    camera_name: str


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The arrays of train or of test, one row a frame."""

    joints_2d_px: Float32[np.ndarray, "frame 17 2"]
    confidence: Float32[np.ndarray, "frame 17"] | None
    joints_mm: Float32[np.ndarray, "frame 17 3"]
    mm_per_px: Float32[np.ndarray, " frame"]


@dataclass(frozen=True, slots=True, eq=False)
class MotionBert:
    """The pickle, read."""

    root: Path
    sequences: tuple[RawSequence, ...]
    files: tuple[Path, ...]
    protocol: str
    parts: dict[str, Part]
    runs: dict[str, list[Run]]
    average: Average = "action"

    def read(self, sequence: RawSequence) -> tuple[RawTrack, ...]:
        """The tracks of its cameras, by name. Raises: BadFile: a number is not finite."""
        return tuple(self._track(sequence, run) for run in sorted(self.runs[sequence.name], key=lambda run: run.camera_name))

    def _track(self, sequence: RawSequence, run: Run) -> RawTrack:
        part, frames = self.parts[run.part], slice(run.first, run.last)
        confidence = None if part.confidence is None else part.confidence[frames]
        refuse_not_finite(sequence.name, part.joints_2d_px[frames], confidence, part.joints_mm[frames], part.mm_per_px[frames])
        camera = h36m_camera(run.subject, run.camera_name)
        return RawTrack(
            camera_name=run.camera_name,
            size_px=camera.size_px,
            frame_rate=FRAME_RATE,
            joints_2d_px=part.joints_2d_px[frames],
            confidence=confidence,
            # Pixels times a factor for each frame, so no camera takes them to the picture.
            joints_3d_camera_mm=part.joints_mm[frames],
            up_camera=up_in(camera),
            mm_per_unit=part.mm_per_px[frames] * np.float32(camera.size_px[0] / 2),
        )


def list_motionbert(root: Path, *, file: str, skip_corrupted: bool) -> MotionBert:
    """Read the pickle and check all but the numbers themselves. Raises: DataError: it is missing, or has another form."""
    path = root / file
    return kept(lambda: _list(root, path, skip_corrupted=skip_corrupted), [path], "motionbert", skip_corrupted)


def _list(root: Path, path: Path, *, skip_corrupted: bool) -> MotionBert:
    tables = read_plain(path)
    parts, runs, splits = {}, defaultdict[str, list[Run]](list), {}
    for name, split in _PARTS:
        table, where = field_of(tables, name, where=str(path)), f"{path.name}: {name}"
        parts[name] = _part(table, where)
        for sequence, run in _runs(table, name, len(parts[name].joints_mm), where):
            _refuse_second(runs[sequence], run, sequence, where)
            runs[sequence].append(run)
            splits[sequence] = split
    left_out = [name for name in CORRUPTED if skip_corrupted and runs.pop(name, [])]
    sequences = tuple(_sequence(name, runs[name][0], path, splits[name]) for name in sorted(runs))
    return MotionBert(root, sequences, (path,), _protocol(sequences, left_out, path), parts, dict(runs))


def _part(table: object, where: str) -> Part:
    joints_2d = np.asarray(field_of(table, "joint_2d", where=where))
    joints_2d = joints_of(joints_2d, num_joints=(17,), num_axes=(2, 3), where=f"{where}/joint_2d")
    factor = np.asarray(field_of(table, "2.5d_factor", where=where), np.float32).reshape(-1)
    joints_mm = np.asarray(field_of(table, "joints_2.5d_image", where=where))
    joints_mm = joints_of(joints_mm, num_joints=(17,), num_axes=(3,), where=f"{where}/joints_2.5d_image")
    confidence = None
    if isinstance(table, dict) and "confidence" in table:
        array = np.asarray(table["confidence"])
        confidence = joints_of(array[..., None] if array.ndim == 2 else array, num_joints=(17,), num_axes=(1,), where=f"{where}/confidence")
    lengths = {"joint_2d": len(joints_2d), "2.5d_factor": len(factor), "joints_2.5d_image": len(joints_mm)}
    _refuse_other_lengths(lengths | ({} if confidence is None else {"confidence": len(confidence)}), where)
    seen = None if confidence is None else confidence[..., 0].astype(np.float32, copy=False)
    return Part(joints_2d[..., :2].astype(np.float32, copy=False), seen, joints_mm.astype(np.float32, copy=False), factor)


def _refuse_other_lengths(lengths: dict[str, int], where: str) -> None:
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{where} has arrays of other numbers of frames: {shown}", expected="as many in each", do="get the file again")


def _runs(table: Any, part: str, num_frames: int, where: str) -> Iterator[tuple[str, Run]]:
    """Sequences with their runs of equal `source`."""
    sources = np.asarray(field_of(table, "source", where=where)).astype(str)
    cameras = np.asarray(field_of(table, "camera_name", where=where)).astype(str)
    _refuse_other_lengths({"joint_2d": num_frames, "source": len(sources), "camera_name": len(cameras)}, where)
    first = np.flatnonzero(np.concatenate([[True], sources[1:] != sources[:-1]]))
    for start, end in zip(first, [*first[1:], num_frames], strict=True):
        subject, take = _names(str(sources[start]), where)
        if (cameras[start:end] != cameras[start]).any():
            raise DataError(f"{where}: {sources[start]} has two cameras", expected="one a source", do="get the file again")
        h36m_camera(subject, str(cameras[start]))
        yield f"{subject}/{take}", Run(part, int(start), int(end), subject, str(cameras[start]))


def _names(source: str, where: str) -> tuple[str, str]:
    match = _SOURCE.fullmatch(source)
    if not match or not 2 <= int(match[2]) < 2 + len(ACTIONS):
        raise DataError(
            f'{where} has the source "{source}"', expected="s_09_act_05_subact_02_ca_01 or the like, acts 2 to 16", do="get the file again"
        )
    return f"S{int(match[1])}", f"{ACTIONS[int(match[2]) - 2]} {int(match[3])}"


def _refuse_second(runs: list[Run], run: Run, sequence: str, where: str) -> None:
    if any(other.camera_name == run.camera_name or other.part != run.part for other in runs):
        raise DataError(
            f"{where} has {sequence} as camera {run.camera_name} saw it twice, or in train and test",
            expected="its frames in one piece",
            do="get the file again: the order of its frames is their order in time",
        )


def _sequence(name: str, run: Run, path: Path, split: Split | None) -> RawSequence:
    action = name.removeprefix(f"{run.subject}/").split(" ")[0]
    return RawSequence(name, run.subject, action, f"{path.name}: {run.part}[{run.first}]", split)


def _protocol(sequences: tuple[RawSequence, ...], left_out: list[str], path: Path) -> str:
    tested = [sequence for sequence in sequences if sequence.split == "test"]
    subjects = " and ".join(sorted({sequence.subject for sequence in tested}, key=lambda subject: int(subject[1:])))
    takes = f"without {', '.join(left_out)}" if left_out else "all takes"
    actions = len({sequence.action for sequence in tested})
    return f"Human3.6M, {subjects}, {takes}, 17 joints about the hip, 2D and 2.5D: {path.name}, mean over {actions} actions"
