"""MPI-INF-3DHP as it is published: `annot.mat` for each training sequence, `annot_data.mat` for each test sequence."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from triform.data.poses.mpi_facts import (
    CAMERAS,
    FRAMES,
    NUM_CAMERAS,
    TEST_FRAME_RATE,
    TEST_SUBJECTS,
    TRAIN_SEQUENCES,
    TRAIN_SIZE_PX,
    TRAIN_SUBJECTS,
    protocol,
    test_size_px,
)
from triform.data.poses.raw_arrays import joints_of, listed, refuse_not_finite, refuse_other_length
from triform.data.poses.raw_poses import Average, RawSequence, RawTrack
from triform.data.quarantine import BadFile
from triform.errors import DataError
from triform.geometry.camera import Camera
from triform.geometry.skeletons import H36M_17, MPI_17, MPI_28, convert

_TEST_FOLDERS = ("", "test", "mpi_inf_3dhp_test_set")
_LARGEST_ERROR_PX = 1.0
_NAMES = ("annot2", "annot3", "univ_annot3")

Views = list[dict[str, np.ndarray]]
"""For each camera, annot2, annot3 and univ_annot3: (frame, joint, axis), joints as in the file."""


@dataclass(frozen=True, slots=True, eq=False)
class MpiAnnotations:
    """The folder, listed."""

    root: Path
    sequences: tuple[RawSequence, ...]
    files: tuple[Path, ...]
    protocol: str
    universal: bool
    partial: bool
    average: Average = "frame"

    def read(self, sequence: RawSequence) -> tuple[RawTrack, ...]:
        """A track for each camera. Raises: BadFile: the file is broken, or a number not finite. DataError."""
        if sequence.split == "test":
            view, valid = _read_test(self.root / sequence.member)
            return (self._track(sequence, "0", view, test_size_px(sequence.subject), TEST_FRAME_RATE, valid),)
        num_frames, frame_rate = FRAMES[sequence.name]
        views = _cut(_read_train(self.root / sequence.member), num_frames, sequence.member, partial=self.partial)
        return tuple(
            self._track(sequence, str(camera), view, TRAIN_SIZE_PX, frame_rate, None) for camera, view in zip(CAMERAS, views, strict=True)
        )

    def _track(
        self,
        sequence: RawSequence,
        camera_name: str,
        view: dict[str, np.ndarray],
        size_px: tuple[int, int],
        frame_rate: float,
        valid: Bool[np.ndarray, " frame"] | None,
    ) -> RawTrack:
        where = f"{sequence.name}/{camera_name}"
        refuse_not_finite(where, *view.values())
        source = MPI_17 if view["annot2"].shape[1] == 17 else MPI_28
        joints = {name: convert(array, source, H36M_17) for name, array in view.items()}
        seen = slice(None) if valid is None else valid
        camera, error_px = fit_camera(joints["annot2"][seen], joints["annot3"][seen], size_px=size_px)
        if not error_px <= _LARGEST_ERROR_PX:
            raise DataError(
                f"{where}: the 2D lies up to {error_px:.3g} px from any projection of annot3",
                expected=f"at most {_LARGEST_ERROR_PX:g} px, as ground truth has",
                do="get annot2 and annot3 in one version: this is another skeleton, unit or camera",
            )
        return RawTrack(
            camera_name=camera_name,
            size_px=size_px,
            frame_rate=frame_rate,
            joints_2d_px=joints["annot2"].astype(np.float32),
            joints_3d_camera_mm=joints["univ_annot3" if self.universal else "annot3"],
            # What is scaled to one stature no longer lies where the camera saw it.
            camera=None if self.universal else camera,
            valid=valid,
            largest_2d_error_px=error_px,
        )


def fit_camera(
    joints_2d_px: Float[np.ndarray, "frame joint 2"], joints_3d_mm: Float[np.ndarray, "frame joint 3"], *, size_px: tuple[int, int]
) -> tuple[Camera, float]:
    """The pinhole camera of least squares, u = f x / z + c for each axis, and its largest error in pixels (infinite behind it)."""
    depth = np.asarray(joints_3d_mm[..., 2], np.float64)
    if not depth.size or depth.min() <= 0:
        return Camera(size_px, (1.0, 1.0), (0.0, 0.0)), np.inf
    lines = []
    for axis in range(2):
        slope = (joints_3d_mm[..., axis] / depth).reshape(-1)
        known = np.stack([slope, np.ones_like(slope)], axis=1)
        lines.append(np.linalg.lstsq(known, joints_2d_px[..., axis].reshape(-1).astype(np.float64), rcond=None)[0])
    (fx, cx), (fy, cy) = lines
    camera = Camera(size_px, (float(fx), float(fy)), (float(cx), float(cy)))
    return camera, float(np.linalg.norm(camera.project(joints_3d_mm) - joints_2d_px, axis=-1).max())


def list_mpi_annotations(root: Path, *, universal: bool, partial: bool) -> MpiAnnotations:
    """List the files, without reading them.

    Args:
        universal: Take `univ_annot3`, scaled to one stature, rather than `annot3`.
        partial: Whether sequences and frames may be missing.
    Raises: DataError: A file is missing.
    """
    train = [_train_sequence(subject, name) for subject in TRAIN_SUBJECTS for name in TRAIN_SEQUENCES]
    sequences = [*train, *(_test_sequence(root, subject) for subject in TEST_SUBJECTS)]
    there = [sequence for sequence in sequences if (root / sequence.member).is_file()]
    lacking = [sequence.member for sequence in sequences if sequence not in there]
    tested = [sequence.subject for sequence in there if sequence.split == "test"]
    if not tested or len(tested) == len(there) or (lacking and not partial):
        raise DataError(
            f"{root} has no {listed(lacking)}",
            expected="annot.mat of S1 to S8, and TS1 to TS6 in this folder, test/ or mpi_inf_3dhp_test_set/",
            do="add these files, or set partial to do without some of them" if not partial else "add one of each at least",
        )
    ordered = tuple(sorted(there, key=lambda sequence: sequence.name))
    line = protocol(", ".join(tested), joints_3d="univ_annot3" if universal else "annot3")
    return MpiAnnotations(root, ordered, tuple(root / sequence.member for sequence in ordered), line, universal, partial)


def _train_sequence(subject: str, name: str) -> RawSequence:
    return RawSequence(f"{subject}/{name}", subject, name, f"{subject}/{name}/annot.mat")


def _test_sequence(root: Path, subject: str) -> RawSequence:
    members = [str(Path(folder, subject, "annot_data.mat")) for folder in _TEST_FOLDERS]
    member = next((member for member in members if (root / member).is_file()), members[0])
    return RawSequence(f"{subject}/{subject}", subject, subject, member, "test")


def _read_train(path: Path) -> Views:
    """MATLAB 5: cells by camera, (frame, joint * axis). Raises: BadFile, DataError."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path, variable_names=list(_NAMES))
    except (MatReadError, ValueError, TypeError, OSError, NotImplementedError, EOFError, zlib.error) as error:
        raise BadFile(f"it can't be read: {error}") from None
    cells = {name: _cells(content, name, path) for name in _NAMES}
    return [{name: _by_joint(cells[name][camera], name, f"{path}: {name}, camera {camera}") for name in _NAMES} for camera in CAMERAS]


def _cells(content: dict[str, Any], name: str, path: Path) -> Sequence[Any]:
    cells = np.asarray(content.get(name, ())).ravel()
    if cells.dtype != object or len(cells) != NUM_CAMERAS:
        got = f"{len(cells)} cameras in" if cells.dtype == object else "no cells in"
        raise DataError(f"{path} has {got} {name}", expected=f"{NUM_CAMERAS} cells, one a camera", do="get the file again")
    return list(cells)


def _by_joint(cell: Any, name: str, where: str) -> np.ndarray:
    array, num_axes = np.asarray(cell), _num_axes(name)
    if array.ndim != 2 or array.shape[1] % num_axes:
        raise DataError(f"{where} has the shape {array.shape}", expected=f"frames by 28 * {num_axes} numbers", do="get the file again")
    return joints_of(array.reshape(len(array), -1, num_axes), num_joints=(28,), num_axes=(num_axes,), where=where)


def _num_axes(name: str) -> int:
    return 2 if name == "annot2" else 3


def _cut(views: Views, num_frames: int, member: str, *, partial: bool) -> Iterator[dict[str, np.ndarray]]:
    """Only the frames that all cameras have."""
    for camera, view in zip(CAMERAS, views, strict=True):
        for name in ("annot3", "univ_annot3"):
            refuse_other_length(len(view["annot2"]), len(view[name]), where=f"{member}, camera {camera}, annot2 and {name}")
        if len(view["annot2"]) < num_frames and not partial:
            raise DataError(
                f"{member} has {len(view['annot2'])} frames of camera {camera}",
                expected=f"{num_frames} at least",
                do="get the file again, or set partial to do with fewer",
            )
        yield {name: array[:num_frames] for name, array in view.items()}


def _read_test(path: Path) -> tuple[dict[str, np.ndarray], Bool[np.ndarray, " frame"]]:
    """MATLAB 7.3, which is HDF5 with the axes turned round: (frame, 1, joint, axis). Raises: BadFile, DataError."""
    import h5py

    try:
        with h5py.File(path) as file:
            if lacking := [name for name in (*_NAMES, "valid_frame") if name not in file]:
                raise DataError(f"{path} has no {listed(lacking)}", expected="the published form", do="get the file again")
            view = {name: np.asarray(file[name][()]) for name in _NAMES}
            valid = np.asarray(file["valid_frame"][()]).reshape(-1) == 1
    except (OSError, RuntimeError) as error:
        raise BadFile(f"it can't be read: {error}") from None
    for name, array in view.items():
        without_person = array[:, 0] if array.ndim == 4 and array.shape[1] == 1 else array
        view[name] = joints_of(without_person, num_joints=(17,), num_axes=(_num_axes(name),), where=f"{path}: {name}")
        refuse_other_length(len(view["annot2"]), len(array), where=f"{path}, annot2 and {name}")
    refuse_other_length(len(view["annot2"]), len(valid), where=f"{path}, annot2 and valid_frame")
    return view, valid
