"""Any folder of .npz files, at any depth, one sequence a file."""

import re
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from triform.data.poses.folder_files import files_below
from triform.data.poses.raw_poses import Average, RawSequence, RawTrack
from triform.data.poses.virtual_cameras import SIZE_PX, up_vector
from triform.data.quarantine import BadFile
from triform.errors import DataError
from triform.geometry.camera import Camera
from triform.geometry.skeletons import H36M_17, SKELETONS, Skeleton, convert, convert_confidence

_WANTED = "plain arrays: joints_3d_mm (frames, joints, 3) and skeleton, or joints_2d_px (frames, joints, 2), size_px and skeleton"
_LENS = {"radial": 3, "tangential": 2}
_CAMERA = ("focal_px", "center_px", "rotation", "translation_mm")
# RuntimeError: an encrypted member. NotImplementedError: a compression method this Python lacks. The others: numbers of another kind.
_TORN = (
    *(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, MemoryError),
    *(TypeError, IndexError, OverflowError),
)
_Header = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


@dataclass(frozen=True, slots=True)
class NpzFolder:
    """The recordings of one folder, as they were listed."""

    root: Path
    up_axis: Literal["x", "y", "z"]
    protocol: str
    average: Average = "action"
    sequences: tuple[RawSequence, ...] = field(default=())

    @property
    def files(self) -> tuple[Path, ...]:
        """One a sequence."""
        return tuple(self.root / sequence.member for sequence in self.sequences)

    def read(self, sequence: RawSequence) -> tuple[RawTrack, ...]:
        """One track: as the file's own camera saw it, or in the world. Raises: BadFile: the file can't be read or used."""
        path = self.root / sequence.member
        try:
            if not zipfile.is_zipfile(path):
                raise BadFile("is no .npz file, or a torn one")
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return (_track(arrays, up_axis=self.up_axis),)
        except _TORN as error:
            raise BadFile(f"can't be read: {error}") from error


def list_npz_folder(root: Path, *, up_axis: Literal["x", "y", "z"], protocol: str) -> NpzFolder:
    """List the .npz files; each is opened, and what it says of itself is checked. A torn one is listed, to be set aside when it is read.

    Raises: DataError: The folder is missing or empty, or a file is not as its format says; the message names it.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder", expected="a folder of .npz files, one a sequence", do="correct --data-dir")
    if not (paths := files_below(root, ".npz")):
        raise DataError(f"{root} holds no .npz file", expected="one .npz file a sequence, at any depth", do="correct --data-dir")
    found = sorted((_listed(root, path) for path in paths), key=lambda sequence: sequence.name)
    return NpzFolder(root, up_axis, protocol, sequences=tuple(found))


def _listed(root: Path, path: Path) -> RawSequence:
    member = path.relative_to(root).as_posix()
    words: dict[str, str] = {}
    try:
        header = _header_of(path)
        if not any(dtype.hasobject for _, dtype in header.values()):
            with np.load(path, allow_pickle=False) as stored:
                words = {name: str(stored[name][()]) for name in ("skeleton", "subject", "action") if name in stored.files}
    except _TORN:
        header = None
    if header is not None:
        _check_header(header, words, member)
    folder = path.parent.relative_to(root).as_posix()
    subject = words.get("subject") or ("unknown" if folder == "." else folder)
    action = words.get("action") or re.sub(r"[ _-]*\d+$", "", path.stem) or path.stem
    return RawSequence(f"{subject}/{path.stem}", subject, action, member)


def _header_of(path: Path) -> _Header:
    """Shape and type of each array; the arrays themselves stay unread."""
    header: _Header = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                header[member.removesuffix(".npy")] = shape, dtype
    return header


def _check_header(header: _Header, words: dict[str, str], member: str) -> None:
    if objects := sorted(name for name, (_, dtype) in header.items() if dtype.hasobject):
        raise DataError(
            f"{member} holds pickled objects ({', '.join(objects)})",
            expected=_WANTED,
            do="h36m_videopose3d and mpi_inf_3dhp_npz read such files of these data sets",
        )
    if words.get("skeleton") not in SKELETONS:
        got = f'the skeleton "{words["skeleton"]}"' if "skeleton" in words else "no array `skeleton`"
        raise DataError(f"{member} has {got}", expected=f"one of {', '.join(SKELETONS)}", do="name the order of its joints")
    _check_joints(header, SKELETONS[words["skeleton"]], member)
    if "joints_2d_px" in header:
        _check_camera(header, member)


def _check_joints(header: _Header, skeleton: Skeleton, member: str) -> None:
    given = {name: header[name][0] for name in ("joints_3d_mm", "joints_2d_px", "confidence") if name in header}
    if not given.keys() & {"joints_3d_mm", "joints_2d_px"}:
        raise DataError(f"{member} has neither joints_3d_mm nor joints_2d_px", expected=_WANTED, do="add one of them")
    count = len(skeleton.joints)
    for name, shape in given.items():
        wanted = (count,) if name == "confidence" else (count, int(name[7]))
        if shape[1:] != wanted or not shape or not shape[0]:
            raise DataError(
                f"{member}: {name} has shape {shape}",
                expected=f"(frames, {', '.join(map(str, wanted))}), as {skeleton.name} has {count} joints",
                do="correct the array or the skeleton's name",
            )
    if len({shape[0] for shape in given.values()}) > 1:
        frames = ", ".join(f"{name} has {shape[0]} frames" for name, shape in given.items())
        raise DataError(f"{member}: {frames}", expected="the same number in 2D and 3D", do="cut them alike")


def _check_camera(header: _Header, member: str) -> None:
    needed = ["size_px", *(_CAMERA if "joints_3d_mm" in header else ())]
    if missing := [name for name in needed if name not in header]:
        what = "its 2D and 3D, but no camera between them" if set(missing) & set(_CAMERA) else "its 2D, but no size of the image"
        raise DataError(
            f"{member} has {what}: {', '.join(missing)} missing",
            expected="size_px with joints_2d_px, and a camera (focal_px, center_px, rotation, translation_mm) where there is 3D too",
            do="add what is missing, or leave joints_2d_px out to be filmed by virtual cameras",
        )


def _track(arrays: dict[str, Any], *, up_axis: Literal["x", "y", "z"]) -> RawTrack:
    skeleton = SKELETONS[str(arrays["skeleton"][()])]
    frame_rate = float(np.asarray(arrays.get("frame_rate", 50.0)).item())
    if not 0 < frame_rate < np.inf:
        raise BadFile(f"frame_rate is {frame_rate:g}, not above 0 and finite")
    world = _joints(arrays, "joints_3d_mm", skeleton)
    if "joints_2d_px" not in arrays:
        return RawTrack("world", SIZE_PX, frame_rate, joints_3d_world_mm=world)
    size_px = _pair(arrays["size_px"], int)
    if min(size_px) <= 0:
        raise BadFile(f"size_px is {size_px}, not above 0")
    camera = None if world is None else _camera(arrays, size_px)
    confidence = _joints(arrays, "confidence", skeleton)
    return RawTrack(
        "camera",
        size_px,
        frame_rate,
        joints_2d_px=_joints(arrays, "joints_2d_px", skeleton),
        confidence=confidence,
        joints_3d_camera_mm=None if camera is None or world is None else camera.to_camera(world),
        camera=camera,
        up_camera=None if camera is None else camera.rotation @ up_vector(up_axis),
    )


def _joints(arrays: dict[str, Any], name: str, skeleton: Skeleton) -> Any:
    """In the order H36M_17. Raises: BadFile: not finite; the file's own joint is named."""
    if name not in arrays:
        return None
    found = np.asarray(arrays[name], np.float32)
    if not np.isfinite(found).all():
        frame, joint = np.argwhere(~np.isfinite(found))[0][:2]
        raise BadFile(f"{name} is not finite at frame {frame}, joint {joint} ({skeleton.joints[joint]})")
    return convert_confidence(found, skeleton) if found.ndim == 2 else convert(found, skeleton, H36M_17)


def _camera(arrays: dict[str, Any], size_px: tuple[int, int]) -> Camera:
    lens: dict[str, Any] = {name: tuple(map(float, arrays[name])) for name in _LENS if name in arrays}
    if wrong := [name for name, values in lens.items() if len(values) != _LENS[name] or not np.isfinite(values).all()]:
        raise BadFile(f"{wrong[0]} is {lens[wrong[0]]}, not {_LENS[wrong[0]]} finite numbers")
    rotation, translation = (np.asarray(arrays[name], np.float64) for name in ("rotation", "translation_mm"))
    is_rotation = rotation.shape == (3, 3) and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4) and np.linalg.det(rotation) > 0
    if not is_rotation or translation.shape != (3,):
        raise BadFile("rotation is no rotation of shape (3, 3), or one that mirrors; or translation_mm has another shape than (3,)")
    focal, center = _pair(arrays["focal_px"], float), _pair(arrays["center_px"], float)
    if not np.isfinite(focal).all() or min(focal) <= 0:
        raise BadFile(f"focal_px is {focal}, not above 0 and finite")
    if not np.isfinite(center).all():
        raise BadFile(f"center_px is {center}, not finite")
    return Camera(size_px, focal, center, **lens, rotation=rotation, translation_mm=translation)


def _pair(array: Any, kind: type) -> Any:
    if np.shape(array) != (2,):
        raise BadFile(f"size_px, focal_px and center_px must be two numbers each, not of shape {np.shape(array)}")
    return tuple(kind(value) for value in array)
