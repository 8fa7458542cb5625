"""Files of 2D key points as detectors write them, for prediction; and the file that a prediction becomes."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from triform.data.poses.key_point_results import read_results
from triform.errors import DataError, UsageError
from triform.files import write_durably
from triform.geometry.skeletons import H36M_17, SKELETONS, Skeleton, convert, convert_confidence

FRAME_RATE = 30.0
"""Frames a second where neither the file nor the user says."""
_MOST_OUTSIDE = 0.05
"""Share of the joints that a detector may put beyond the image's edge before its size is doubted."""
_JOINTS = ("joints_2d_px", "keypoints", "joints_2d")
_BY_COUNT = {26: "halpe_26", 28: "mpi_28"}


@dataclass(frozen=True, slots=True, eq=False)
class KeyPoints:
    """One person in one video, joints in the order H36M_17."""

    joints_2d_px: Float32[np.ndarray, "frame 17 2"]
    confidence: Float32[np.ndarray, "frame 17"]
    """0 to 1; 0 where nothing was seen."""
    shown_confidence: Float32[np.ndarray, "frame 17"]
    """What a network is to see: where a joint was interpolated, its confidence is as well. One that has not learned from hidden joints
    takes confidence 0 for a pose of its own: a frame without anybody was off by 300 mm instead of 20, and its neighbours by 50."""
    size_px: tuple[int, int]
    """Width and height of the image."""
    frame_rate: float
    missing: Int64[np.ndarray, " missing"]
    """Frames in which nobody was seen."""
    notes: tuple[str, ...]
    """What was guessed or chosen, a line each, for people."""


@dataclass(frozen=True, slots=True, eq=False)
class _Raw:
    """What a file says; None where it doesn't."""

    joints: Float64[np.ndarray, "frame joint 2"]
    confidence: Float64[np.ndarray, "frame joint"]
    size_px: tuple[int, int] | None
    frame_rate: float | None
    skeleton: str | None
    notes: tuple[str, ...] = ()
    is_results: bool = False
    """A list of a detector's results, which has 17 joints in COCO's order alone."""


def read_key_points(
    path: Path, *, skeleton: str | None = None, size_px: tuple[int, int] | None = None, frame_rate: float | None = None
) -> KeyPoints:
    """Read .npz or .json with the fields joints_2d_px (frame, joint, 2 or 3) [confidence, size_px, frame_rate, skeleton], or a JSON list of
    COCO's or AlphaPose's results.

    Args:
        skeleton: The joints' order, by its name in SKELETONS (None: as the file says, or as their number does).
        size_px: Width and height of the image (None: as the file says).
        frame_rate: Frames a second (None: as the file says, or 30).

    Raises: DataError: the file is no such file, is empty, holds NaN, or has another number of joints. UsageError: the image's size or the
        joints' order is known from nowhere.
    """
    raw = _read(path)
    order, notes = _skeleton(path, raw, skeleton)
    size = size_px or raw.size_px
    if size is None:
        raise UsageError(
            f"{path} does not say how large the image is", expected="its width and height in pixels", do="give --image-size WxH"
        )
    rate = frame_rate or raw.frame_rate
    notes += () if rate else (f"{path.name} does not say its frame rate: {FRAME_RATE:g} is taken",)
    _check(path, raw, order)
    joints, confidence = convert(raw.joints, order, H36M_17), convert_confidence(np.clip(raw.confidence, 0, 1), order)
    missing = np.flatnonzero(~(raw.confidence > 0).any(axis=1))
    filled = _fill(np.concatenate([joints, confidence[..., None]], axis=-1), confidence > 0).astype(np.float32)
    notes += (*_outside(path, raw, size), *_unseen(confidence > 0, missing))
    return KeyPoints(filled[..., :2], confidence.astype(np.float32), filled[..., 2], size, rate or FRAME_RATE, missing, notes)


def write_prediction(path: Path, joints_3d_mm: Float[np.ndarray, "frame 17 3"], *, key_points: KeyPoints, model_digest: str) -> None:
    """Write an .npz of a prediction beside what it was made from.

    Args:
        joints_3d_mm: Relative to the root, in the camera's frame: x right, y down, z away.

    Raises: DiskFull, CannotWrite.
    """
    texts = {"skeleton": H36M_17.name, "frame": "camera: x right, y down, z away; relative to the hip", "model_digest": model_digest}
    content = io.BytesIO()
    np.savez(
        content,
        allow_pickle=False,
        joints_3d_mm=joints_3d_mm.astype(np.float32),
        joints=np.array(H36M_17.joints),
        parents=np.array(H36M_17.parents),
        joints_2d_px=key_points.joints_2d_px,
        confidence=key_points.confidence,
        size_px=np.array(key_points.size_px),
        frame_rate=np.array(key_points.frame_rate),
        missing=key_points.missing,
        **{name: np.array(text) for name, text in texts.items()},
    )
    write_durably(path, content.getvalue())


def _read(path: Path) -> _Raw:
    if path.suffix.lower() not in (".npz", ".json"):
        raise UsageError(f"{path} is neither .npz nor .json", expected="a file of 2D key points", do="see docs for the forms that are read")
    if not path.is_file():
        raise DataError(f"{path} is not there", expected="a file of 2D key points", do="look at its name")
    try:
        if path.suffix.lower() == ".npz":
            # np.load would leave the file open where it is no archive.
            with path.open("rb") as stream, np.lib.npyio.NpzFile(stream, allow_pickle=False) as file:
                return _fields(path, {name: file[name] for name in file.files})
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} can't be read: {error}", expected="key points without pickled objects", do="write the file again"
        ) from error
    if isinstance(content, dict):
        return _fields(path, content)
    if not isinstance(content, list) or not content:
        raise DataError(f"{path} is empty", expected="a list of results, or an object of fields", do="give another file")
    found = read_results(path, content)
    return _Raw(found.joints[..., :2], found.joints[..., 2], None, None, None, notes=found.notes, is_results=True)


def _fields(path: Path, fields: Mapping[str, Any]) -> _Raw:
    name = next((name for name in _JOINTS if name in fields), None)
    if name is None:
        raise DataError(
            f"{path} has no joints_2d_px, but {sorted(fields)}",
            expected=f"one of {', '.join(_JOINTS)}",
            do="rename the field, or give a detector's list of results",
        )
    joints = _numbers(path, name, fields[name])
    if joints.ndim != 3 or joints.shape[2] not in (2, 3) or not joints.size:
        raise DataError(f"{path}: {name} is of shape {joints.shape}", expected="(frame, joint, 2) or (frame, joint, 3)", do="write it so")
    if joints.shape[2] == 3 and "confidence" in fields:
        raise DataError(f"{path}: confidence is there twice, in {name} and by itself", expected="one of them", do="remove one")
    confidence = _numbers(path, "confidence", fields["confidence"]) if "confidence" in fields else np.ones(joints.shape[:2])
    confidence = joints[..., 2] if joints.shape[2] == 3 else confidence
    if confidence.shape == (*joints.shape[:2], 1):
        confidence = confidence[..., 0]
    if confidence.shape != joints.shape[:2]:
        raise DataError(f"{path}: confidence is of shape {confidence.shape}", expected=f"{joints.shape[:2]} as {name}", do="write it so")
    rate = float(_single(path, fields, "frame_rate", 1)[0]) if "frame_rate" in fields else None
    width_height = _single(path, fields, "size_px", 2) if "size_px" in fields else None
    size = None if width_height is None else (int(width_height[0]), int(width_height[1]))
    return _Raw(joints[..., :2], confidence, size, rate, str(fields["skeleton"]) if "skeleton" in fields else None)


def _single(path: Path, fields: Mapping[str, Any], name: str, count: int) -> Float64[np.ndarray, " n"]:
    values = _numbers(path, name, fields[name]).ravel()
    if len(values) != count or not (values > 0).all() or not np.isfinite(values).all():
        raise DataError(f"{path}: {name} is {values.tolist()}", expected=f"{count} positive number(s)", do="write it so")
    return values


def _numbers(path: Path, name: str, value: Any) -> Float64[np.ndarray, "*shape"]:
    try:
        return np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: {name} is no array of numbers ({error})", expected="as many numbers in each row", do="write it so"
        ) from error


def _skeleton(path: Path, raw: _Raw, asked: str | None) -> tuple[Skeleton, tuple[str, ...]]:
    """The joints' order: the user's word, the file's, or that which their number tells."""
    num_joints = raw.joints.shape[1]
    told = asked or raw.skeleton
    name = told or _BY_COUNT.get(num_joints) or ("coco_17" if raw.is_results and num_joints == 17 else None)
    notes = raw.notes if told or not name else (*raw.notes, f"{num_joints} joints: taken for {name}")
    if name is None and num_joints == 17:
        raise UsageError(
            f"{path} does not say in which order its 17 joints are", expected="coco_17, h36m_17 or mpi_17", do="give --skeleton NAME"
        )
    if name is not None and name not in SKELETONS:
        raise UsageError(f"There is no skeleton {name!r}", expected=f"one of {', '.join(SKELETONS)}", do="give --skeleton NAME")
    if name is None or len(SKELETONS[name].joints) != num_joints:
        wanted = f"{len(SKELETONS[name].joints)} as {name}" if name else "17 (coco_17, h36m_17), 26 (halpe_26) or 28 (mpi_28)"
        raise DataError(f"{path} has {num_joints} joints", expected=wanted, do="give the joints of one of these skeletons")
    return SKELETONS[name], notes


def _check(path: Path, raw: _Raw, order: Skeleton) -> None:
    """Raises: DataError: NaN, nobody in any frame, or coordinates that are no pixels."""
    broken = ~np.isfinite(raw.joints).all(axis=2) | ~np.isfinite(raw.confidence)
    if broken.any():
        frame, joint = np.argwhere(broken)[0]
        raise DataError(
            f"{path}: frame {frame} (the first is 0), joint {order.joints[joint]} is NaN or infinite",
            expected="finite numbers",
            do="give joints that were not seen confidence 0",
        )
    if not (raw.confidence > 0).any():
        raise DataError(f"{path} shows nobody in any frame", expected="a confidence above 0", do="look at the detector's results")
    if np.abs(raw.joints[raw.confidence > 0]).max() <= 2:
        raise DataError(f"{path}: all joints are within 2 pixels of the corner", expected="pixels", do="undo the normalisation")


def _fill(places: Float64[np.ndarray, "frame 17 3"], seen: Bool[np.ndarray, "frame 17"]) -> Float64[np.ndarray, "frame 17 3"]:
    """Each joint, where it is not seen, in a straight line between the frames around that show it; as in the nearest at either end."""
    frames, found = np.arange(len(places)), places.copy()
    for joint in np.flatnonzero(seen.any(axis=0) & ~seen.all(axis=0)):
        shown = seen[:, joint]
        for axis in range(places.shape[2]):
            found[~shown, joint, axis] = np.interp(frames[~shown], frames[shown], places[shown, joint, axis])
    return found


def _unseen(seen: Bool[np.ndarray, "frame 17"], missing: Int64[np.ndarray, " missing"]) -> tuple[str, ...]:
    """What is told of joints that were not seen."""
    ever = np.asarray(seen.any(axis=0))
    never = [H36M_17.joints[joint] for joint in np.flatnonzero(~ever)]
    number = int((~seen[:, ever]).sum()) - len(missing) * int(ever.sum())
    notes = [f"{len(missing)} of {len(seen)} frames show nobody: their joints are interpolated"] if len(missing) else []
    notes += [f"joints that other frames lack, {number} in all, are interpolated"] if number else []
    notes += [f"seen in no frame: {', '.join(never)}; the whole pose may be wrong"] if never else []
    return tuple(notes)


def _outside(path: Path, raw: _Raw, size_px: tuple[int, int]) -> tuple[str, ...]:
    """A word where more joints lie beyond the image than a detector puts there. Raises: DataError: most of them do."""
    seen = raw.joints[raw.confidence > 0]
    share = float(((seen < 0) | (seen > size_px)).any(axis=1).mean())
    told = f"{share:.0%} of the joints lie outside an image of {size_px[0]} x {size_px[1]} pixels"
    if share > 0.5:
        raise DataError(f"{path}: {told}", expected="the size of the image that they were found in", do="give --image-size WxH")
    return (f"{told}: is that its size?",) if share > _MOST_OUTSIDE else ()
