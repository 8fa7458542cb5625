"""MPI-INF-3DHP in P-STMO's files: values by joint, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pose_files import save_pickled_npz, write_mpi_npz

from triform.data.poses.mpi_facts import CAMERAS
from triform.data.quarantine import BadFile
from triform.datasets.mpi_inf_3dhp_npz import MpiInf3dhpNpz
from triform.errors import DataError
from triform.geometry.skeletons import H36M_17, MPI_17


def settings(folder: Path) -> MpiInf3dhpNpz:
    return MpiInf3dhpNpz(data_dir=str(folder))


def test_listing(tmp_path: Path) -> None:
    write_mpi_npz(tmp_path)
    raw = settings(tmp_path).raw_poses()
    assert [sequence.name for sequence in raw.sequences] == ["S1/Seq1", "S2/Seq2", "S3/Seq1", *[f"TS{i}/TS{i}" for i in range(1, 7)]]
    assert [sequence.split for sequence in raw.sequences] == [None] * 3 + ["test"] * 6
    assert raw.average == "frame"
    assert raw.files == (tmp_path / "data_train_3dhp.npz", tmp_path / "data_test_3dhp.npz")
    assert raw.protocol.startswith("MPI-INF-3DHP, TS1, TS2, TS3, TS4, TS5, TS6, valid frames")


def test_every_joint(tmp_path: Path) -> None:
    made = write_mpi_npz(tmp_path)
    raw = settings(tmp_path).raw_poses()
    tracks = raw.read(raw.sequences[1])
    assert [track.camera_name for track in tracks] == [str(camera) for camera in CAMERAS]
    assert {track.frame_rate for track in tracks} == {50.0}
    assert {track.frame_rate for track in raw.read(raw.sequences[0])} == {25.0}
    for track in tracks:
        view = made["S2 Seq2"][0][track.camera_name]
        assert track.joints_2d_px is not None
        assert track.joints_3d_camera_mm is not None
        for name in ("hip", "head", "l_wrist", "r_ankle", "thorax"):
            theirs = {"hip": "pelvis", "head": "head_top", "thorax": "neck"}.get(name, name)
            there, here = MPI_17.joints.index(theirs), H36M_17.joints.index(name)
            np.testing.assert_array_equal(track.joints_2d_px[:, here], view["data_2d"][:, there].astype(np.float32))
            np.testing.assert_array_equal(track.joints_3d_camera_mm[:, here], view["data_3d"][:, there])
        np.testing.assert_array_equal(track.joints_3d_camera_mm[:, 0], view["data_3d"][:, 14])
        assert track.camera is None
        assert track.valid is None


def test_test_sequences_score_valid_frames(tmp_path: Path) -> None:
    write_mpi_npz(tmp_path)
    raw = settings(tmp_path).raw_poses()
    sizes = []
    for sequence in raw.sequences[3:]:
        (track,) = raw.read(sequence)
        np.testing.assert_array_equal(track.valid, np.arange(24) % 5 != 0)
        sizes.append(track.size_px)
    assert sizes == [(2048, 2048)] * 4 + [(1920, 1080)] * 2


def view_of(frames_2d: int = 4, frames_3d: int = 4, joints: int = 17) -> dict[str, np.ndarray]:
    return {"data_2d": np.zeros((frames_2d, joints, 2)), "data_3d": np.zeros((frames_3d, 17, 3))}


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ({"S1Seq1": [{"0": view_of()}, 25]}, {}, 'the sequence "S1Seq1"'),
        ({"S1 Seq1": [{"14": view_of()}, 25]}, {}, 'has the camera "14"'),
        ({"S1 Seq1": {"0": view_of()}}, {}, "not a pair of cameras and frame rate"),
        ({"S1 Seq1": [{"0": view_of()}, 0]}, {}, "has 0.0 frames a second"),
        ({"S1 Seq1": [{"0": view_of()}, "fast"]}, {}, "not a pair of cameras and frame rate"),
        ({"S1 Seq1": [{"0": view_of()}, np.complex128(25)]}, {}, "not a pair of cameras and frame rate"),
        ({"S1 Seq1": [{"0": view_of(frames_2d=5)}, 25]}, {}, "has 5 frames in 2D and 4 in 3D"),
        ({"S1 Seq1": [{"0": view_of(joints=28)}, 25]}, {}, "data_2d has 28 joints. Expected: 17"),
        ({"S1 Seq1": [{"0": {"data_2d": np.zeros((4, 17, 2))}}, 25]}, {}, 'camera 0 has no "data_3d"'),
        ({}, {}, "is not sequences by name"),
        ({"S1 Seq1": [{"0": view_of()}, 25]}, {"TS7": {**view_of(), "valid": np.ones(4)}}, 'the sequence "TS7"'),
        ({"S1 Seq1": [{"0": view_of()}, 25]}, {"TS1": view_of()}, 'TS1 has no "valid"'),
        ({"S1 Seq1": [{"0": view_of()}, 25]}, {"TS1": {**view_of(), "valid": np.ones(3)}}, "data_2d and valid has 4 frames in 2D and 3"),
    ],
)
def test_other_forms_are_refused(tmp_path: Path, train: Any, test: Any, message: str) -> None:
    save_pickled_npz(tmp_path / "data_train_3dhp.npz", data=train)
    save_pickled_npz(tmp_path / "data_test_3dhp.npz", data=test or {"TS1": {**view_of(), "valid": np.ones(4)}})
    with pytest.raises(DataError, match=message):
        settings(tmp_path).raw_poses()


def test_missing_files_and_nan(tmp_path: Path) -> None:
    made = write_mpi_npz(tmp_path)
    train = {name: entry for name, entry in made.items() if not name.startswith("TS")}
    train["S1 Seq1"][0]["4"]["data_3d"][3] = np.nan
    save_pickled_npz(tmp_path / "data_train_3dhp.npz", data=train)
    raw = settings(tmp_path).raw_poses()
    with pytest.raises(BadFile, match="S1/Seq1/4 has numbers that are NaN or infinite, first in frame 3"):
        raw.read(raw.sequences[0])
    (tmp_path / "data_test_3dhp.npz").unlink()
    with pytest.raises(DataError, match=r"data_test_3dhp\.npz is not there"):
        settings(tmp_path).raw_poses()
