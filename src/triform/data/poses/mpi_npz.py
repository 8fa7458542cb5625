"""MPI-INF-3DHP in P-STMO's two files: training sequences by camera in one, the test sequences in the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triform.data.plain_pickle import read_plain_npz
from triform.data.poses.kept import kept
from triform.data.poses.mpi_facts import NUM_CAMERAS, TEST_FRAME_RATE, TEST_SUBJECTS, TRAIN_SIZE_PX, protocol, test_size_px
from triform.data.poses.raw_arrays import field_of, joints_of, listed, refuse_not_finite, refuse_other_length
from triform.data.poses.raw_poses import Average, RawSequence, RawTrack
from triform.errors import DataError
from triform.geometry.skeletons import H36M_17, MPI_17, convert

TRAIN_FILE, TEST_FILE = "data_train_3dhp.npz", "data_test_3dhp.npz"


@dataclass(frozen=True, slots=True, eq=False)
class MpiNpz:
    """Both files, read."""

    root: Path
    sequences: tuple[RawSequence, ...]
    files: tuple[Path, ...]
    protocol: str
    views: dict[str, dict[str, Any]]
    """For each sequence, by camera: data_2d, data_3d, maybe valid."""
    frame_rates: dict[str, float]
    average: Average = "frame"

    def read(self, sequence: RawSequence) -> tuple[RawTrack, ...]:
        """A track for each camera. Raises: BadFile: a number is not finite."""
        size_px = test_size_px(sequence.subject) if sequence.split == "test" else TRAIN_SIZE_PX
        return tuple(self._track(sequence, name, view, size_px) for name, view in self.views[sequence.name].items())

    def _track(self, sequence: RawSequence, camera_name: str, view: dict[str, Any], size_px: tuple[int, int]) -> RawTrack:
        refuse_not_finite(f"{sequence.name}/{camera_name}", view["data_2d"], view["data_3d"])
        valid = np.asarray(view["valid"]).reshape(-1) == 1 if "valid" in view else None
        return RawTrack(
            camera_name=camera_name,
            size_px=size_px,
            frame_rate=self.frame_rates[sequence.name],
            joints_2d_px=convert(view["data_2d"], MPI_17, H36M_17).astype(np.float32),
            joints_3d_camera_mm=convert(view["data_3d"], MPI_17, H36M_17),
            valid=valid,
        )


def list_mpi_npz(root: Path) -> MpiNpz:
    """Read both files and check all but the numbers themselves. Raises: DataError: one is missing or has another form."""
    files = (root / TRAIN_FILE, root / TEST_FILE)
    return kept(lambda: _list(root, files), files, "mpi_npz")


def _list(root: Path, files: tuple[Path, Path]) -> MpiNpz:
    train, test = (_table(path) for path in files)
    sequences: list[RawSequence] = []
    views: dict[str, dict[str, Any]] = {}
    frame_rates: dict[str, float] = {}
    for key, entry in train.items():
        sequence = _train_sequence(key)
        by_camera, frame_rates[sequence.name] = _entry(entry, f"{TRAIN_FILE}: {key}")
        views[sequence.name] = dict(_cameras(by_camera, f"{TRAIN_FILE}: {key}"))
        sequences.append(sequence)
    for key, view in test.items():
        sequence = _test_sequence(key)
        views[sequence.name], frame_rates[sequence.name] = {"0": _view(view, f"{TEST_FILE}: {key}", scored=True)}, TEST_FRAME_RATE
        sequences.append(sequence)
    ordered = tuple(sorted(sequences, key=lambda sequence: sequence.name))
    line = protocol(", ".join(sorted(map(str, test))), joints_3d=TEST_FILE)
    return MpiNpz(root, ordered, files, line, views, frame_rates)


def _table(path: Path) -> dict[str, Any]:
    table = field_of(read_plain_npz(path), "data", where=str(path))
    if not isinstance(table, dict) or not table:
        raise DataError(f"data in {path} is not sequences by name", expected="P-STMO's form", do="get the file again")
    return table


def _train_sequence(key: object) -> RawSequence:
    parts = str(key).split()
    if len(parts) != 2:
        raise DataError(f'{TRAIN_FILE} has the sequence "{key}"', expected="names as S1 Seq1", do="get the file again")
    return RawSequence("/".join(parts), parts[0], parts[1], f"{TRAIN_FILE}: {key}")


def _test_sequence(key: object) -> RawSequence:
    if key not in TEST_SUBJECTS:
        raise DataError(f'{TEST_FILE} has the sequence "{key}"', expected=listed(TEST_SUBJECTS), do="get the file again")
    return RawSequence(f"{key}/{key}", str(key), str(key), f"{TEST_FILE}: {key}", "test")


def _entry(entry: object, where: str) -> tuple[dict[str, Any], float]:
    """The views by camera, and frames a second. NumPy saves the pair as an array of objects where it is within another."""
    parts = list(entry) if isinstance(entry, list | tuple | np.ndarray) else []
    is_pair = len(parts) == 2 and isinstance(parts[0], dict) and isinstance(parts[1], int | float | np.integer | np.floating)
    if not is_pair or not parts[0]:
        raise DataError(f"{where} is not a pair of cameras and frame rate", expected="P-STMO's form", do="get the file again")
    frame_rate = float(parts[1])
    if not 0 < frame_rate < 1000:
        raise DataError(f"{where} has {frame_rate} frames a second", expected="25 or 50", do="get the file again")
    return parts[0], frame_rate


def _cameras(by_camera: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    known = {str(camera) for camera in range(NUM_CAMERAS)}
    for camera in sorted(by_camera, key=str):
        if str(camera) not in known:
            raise DataError(f'{where} has the camera "{camera}"', expected=f"0 to {NUM_CAMERAS - 1}", do="get the file again")
        yield str(camera), _view(by_camera[camera], f"{where}, camera {camera}", scored=False)


def _view(view: object, where: str, *, scored: bool) -> dict[str, Any]:
    """Args: scored: Whether it must say which frames are valid."""
    names = ("data_2d", "data_3d", "valid") if scored else ("data_2d", "data_3d")
    found = {name: field_of(view, name, where=where) for name in names}
    for name, num_axes in (("data_2d", 2), ("data_3d", 3)):
        found[name] = joints_of(found[name], num_joints=(17,), num_axes=(num_axes,), where=f"{where}, {name}")
    refuse_other_length(len(found["data_2d"]), len(found["data_3d"]), where=where)
    if scored:
        refuse_other_length(len(found["data_2d"]), np.asarray(found["valid"]).size, where=f"{where}, data_2d and valid")
    return found
