"""MPI-INF-3DHP in its own MATLAB files: joints, cameras by least squares, valid frames, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from pose_files import as_mpi_28, camera_walk, pinhole, write_mpi

from triform.data.poses.mpi_annotations import fit_camera
from triform.data.poses.mpi_facts import CAMERAS, FRAMES
from triform.data.poses.prepared_track import largest_2d_error
from triform.data.quarantine import BadFile
from triform.datasets.mpi_inf_3dhp import MpiInf3dhp
from triform.errors import DataError
from triform.geometry.skeletons import H36M_17, MPI_17, MPI_28, convert

FEW: dict[str, Any] = {"train": ("S1/Seq1", "S3/Seq2"), "test": ("TS1", "TS5")}


def settings(folder: Path, **changes: Any) -> MpiInf3dhp:
    return MpiInf3dhp(**{"data_dir": str(folder), "partial": True, **changes})


def test_a_whole_folder_is_listed(tmp_path: Path) -> None:
    write_mpi(tmp_path, num_frames=2)
    raw = settings(tmp_path, partial=False).raw_poses()
    assert len(raw.sequences) == len(raw.files) == 22
    assert [sequence.name for sequence in raw.sequences][:3] == ["S1/Seq1", "S1/Seq2", "S2/Seq1"]
    assert [sequence.name for sequence in raw.sequences if sequence.split == "test"] == [f"TS{i}/TS{i}" for i in range(1, 7)]
    assert raw.average == "frame"
    assert raw.protocol == (
        "MPI-INF-3DHP, TS1, TS2, TS3, TS4, TS5, TS6, valid frames, 17 joints about the pelvis, 3D: univ_annot3, 2D: ground truth, "
        "mean over frames"
    )
    (tmp_path / "S4" / "Seq2" / "annot.mat").unlink()
    with pytest.raises(DataError, match=r"has no S4/Seq2/annot\.mat"):
        settings(tmp_path, partial=False).raw_poses()


def test_the_table_of_sequences() -> None:
    assert len(FRAMES) == 16
    assert FRAMES["S1/Seq2"] == (12430, 50.0)
    assert [name for name, (_, rate) in FRAMES.items() if rate == 50] == ["S1/Seq2", "S3/Seq1", "S3/Seq2", "S5/Seq1", "S5/Seq2"]
    assert sum(frames for frames, _ in FRAMES.values()) == 131_592


@pytest.mark.parametrize("universal", [False, True])
def test_training_joints_of_every_camera(tmp_path: Path, universal: bool) -> None:
    made = write_mpi(tmp_path, **FEW)
    raw = settings(tmp_path, universal=universal).raw_poses()
    assert [sequence.name for sequence in raw.sequences] == ["S1/Seq1", "S3/Seq2", "TS1/TS1", "TS5/TS5"]
    tracks = raw.read(raw.sequences[1])
    assert [track.camera_name for track in tracks] == [str(camera) for camera in CAMERAS]
    for track in tracks:
        view = made[f"S3/Seq2/{track.camera_name}"]
        assert track.joints_3d_camera_mm is not None
        np.testing.assert_array_equal(track.joints_2d_px, view["annot2"].astype(np.float32))
        np.testing.assert_array_equal(track.joints_3d_camera_mm, view["univ_annot3" if universal else "annot3"])
        assert (track.camera is None) == universal
        assert track.largest_2d_error_px == pytest.approx(0, abs=1e-6)
        assert track.size_px == (2048, 2048)
        assert track.frame_rate == 50
        assert track.valid is None


def test_cameras_come_from_2d_and_3d(tmp_path: Path) -> None:
    write_mpi(tmp_path, **FEW)
    raw = settings(tmp_path, universal=False).raw_poses()
    for sequence, numbers in ((raw.sequences[0], CAMERAS), (raw.sequences[2], (5000,))):
        for track, number in zip(raw.read(sequence), numbers, strict=True):
            assert track.camera is not None
            true = pinhole(track.size_px, number=number)
            np.testing.assert_allclose(track.camera.focal_px, true.focal_px, rtol=1e-8)
            np.testing.assert_allclose(track.camera.center_px, true.center_px, rtol=1e-8)


def test_test_sequences(tmp_path: Path) -> None:
    made = write_mpi(tmp_path, **FEW)
    raw = settings(tmp_path).raw_poses()
    (first,), (fifth,) = (raw.read(sequence) for sequence in raw.sequences[2:])
    assert (first.size_px, fifth.size_px) == ((2048, 2048), (1920, 1080))
    np.testing.assert_array_equal(first.joints_3d_camera_mm, made["TS1/TS1/0"]["univ_annot3"])
    np.testing.assert_array_equal(first.joints_2d_px, made["TS1/TS1/0"]["annot2"].astype(np.float32))
    np.testing.assert_array_equal(first.valid, np.arange(24) % 5 != 0)


@pytest.mark.parametrize("test_folder", ["", "test"])
def test_test_folders_elsewhere(tmp_path: Path, test_folder: str) -> None:
    write_mpi(tmp_path, **FEW, test_folder=test_folder, num_frames=3)
    raw = settings(tmp_path).raw_poses()
    assert raw.sequences[2].member == str(Path(test_folder) / "TS1" / "annot_data.mat")
    assert len(raw.read(raw.sequences[2])) == 1


def test_28_joints_are_those_of_the_test_set() -> None:
    joints = camera_walk(4)
    np.testing.assert_array_equal(convert(as_mpi_28(joints), MPI_28, H36M_17), joints)
    np.testing.assert_array_equal(convert(convert(joints, H36M_17, MPI_17), MPI_17, H36M_17), joints)


def test_frames_beyond_those_that_all_cameras_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_mpi(tmp_path, **FEW)
    monkeypatch.setitem(FRAMES, "S1/Seq1", (20, 25.0))
    raw = settings(tmp_path).raw_poses()
    track = raw.read(raw.sequences[0])[0]
    np.testing.assert_array_equal(track.joints_2d_px, made["S1/Seq1/0"]["annot2"][:20].astype(np.float32))


def test_too_few_frames(tmp_path: Path) -> None:
    write_mpi(tmp_path, num_frames=2)
    raw = settings(tmp_path, partial=False).raw_poses()
    with pytest.raises(DataError, match=r"has 2 frames of camera 0\. Expected: 6416 at least"):
        raw.read(raw.sequences[0])


def test_nothing_to_train_on_or_to_test(tmp_path: Path) -> None:
    write_mpi(tmp_path, train=("S1/Seq1",), test=())
    with pytest.raises(DataError, match="has no S1/Seq2"):
        settings(tmp_path).raw_poses()
    with pytest.raises(DataError, match="has no S1/Seq1"):
        settings(tmp_path / "nowhere").raw_poses()


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "S1" / "Seq1" / "annot.mat"
    content = {key: value for key, value in scipy.io.loadmat(path).items() if not key.startswith("__")}
    change(content)
    scipy.io.savemat(path, content)


def cell(name: str, camera: int, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, Any]], None]:
    def rewritten(content: dict[str, Any]) -> None:
        content[name][camera, 0] = change(content[name][camera, 0])

    return rewritten


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cell("annot2", 2, lambda array: array[:, :54]), "annot2, camera 2 has 27 joints. Expected: 28"),
        (cell("annot3", 2, lambda array: array[:, :83]), r"annot3, camera 2 has the shape \(24, 83\)"),
        (cell("univ_annot3", 8, lambda array: array[:-1]), "camera 8, annot2 and univ_annot3 has 24 frames in 2D and 23 in 3D"),
        (lambda content: content.pop("annot2"), "has no cells in annot2"),
        (lambda content: content.update(annot3=content["annot3"][:8]), "has 8 cameras in annot3. Expected: 14"),
        (cell("annot3", 4, lambda array: array / 1000 + 1), "S1/Seq1/4: the 2D lies up to .* px from any projection of annot3"),
        (cell("annot3", 4, lambda array: -array), "up to inf px from any projection"),
    ],
)
def test_other_forms_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    write_mpi(tmp_path, **FEW)
    rewrite(tmp_path, change)
    raw = settings(tmp_path).raw_poses()
    with pytest.raises(DataError, match=message):
        raw.read(raw.sequences[0])


@pytest.mark.parametrize("universal", [False, True])
def test_the_largest_error_is_told_and_refused_above_a_pixel(tmp_path: Path, universal: bool) -> None:
    write_mpi(tmp_path, **FEW, noise_px=0.05)
    raw = settings(tmp_path, universal=universal).raw_poses()
    (track,) = raw.read(raw.sequences[2])
    assert 0.05 < (largest_2d_error(track, "TS1") or 0) < 0.5
    write_mpi(tmp_path, **FEW, noise_px=1)
    with pytest.raises(DataError, match="TS1/TS1/0: the 2D lies up to"):
        raw.read(raw.sequences[2])


def test_bad_files_are_bad_alone(tmp_path: Path) -> None:
    write_mpi(tmp_path, **FEW)
    rewrite(tmp_path, cell("annot2", 7, lambda array: np.where(np.arange(24)[:, None] == 5, np.nan, array)))
    raw = settings(tmp_path).raw_poses()
    with pytest.raises(BadFile, match="S1/Seq1/7 has numbers that are NaN or infinite, first in frame 5"):
        raw.read(raw.sequences[0])
    for sequence in raw.sequences[1:]:
        path = tmp_path / sequence.member
        path.write_bytes(path.read_bytes()[:-3000])
        with pytest.raises(BadFile, match="it can't be read"):
            raw.read(sequence)
    assert len(raw.sequences) == 4


def test_test_files_of_another_form(tmp_path: Path) -> None:
    write_mpi(tmp_path, **FEW)
    original = tmp_path / "mpi_inf_3dhp_test_set" / "TS1" / "annot_data.mat"
    copy = tmp_path / "copy"
    shutil.copy(original, copy)
    for name, content, message in [
        ("valid_frame", None, "has no valid_frame"),
        ("valid_frame", np.ones((20, 1)), "annot2 and valid_frame has 24 frames in 2D and 20"),
        ("annot3", np.ones((23, 1, 17, 3)), "has 24 frames in 2D and 23"),
        ("univ_annot3", np.ones((24, 1, 28, 3)), "has 28 joints. Expected: 17"),
        ("annot2", np.ones((2, 17, 1, 24)), "annot2 is an array"),
    ]:
        shutil.copy(copy, original)
        with h5py.File(original, "a") as file:
            del file[name]
            if content is not None:
                file[name] = content
        raw = settings(tmp_path).raw_poses()
        with pytest.raises(DataError, match=message):
            raw.read(raw.sequences[2])


def test_least_squares_by_hand() -> None:
    # u = 1000 x / z + 500 and v = 900 y / z + 400, but for 2 px at one joint: the error of that joint is found.
    joints = np.array([[[0, 0, 1000], [100, 0, 1000], [0, 100, 1000], [200, 300, 2000]]], float)
    pixels = np.array([[[500, 400], [600, 400], [500, 490], [600, 535]]], float)
    camera, error_px = fit_camera(pixels, joints, size_px=(1000, 800))
    np.testing.assert_allclose([*camera.focal_px, *camera.center_px], [1000, 900, 500, 400])
    assert error_px == pytest.approx(0, abs=1e-9)
    pixels[0, 1, 1] += 2
    # The least-squares line through v at slopes 0, 0, 0.1, 0.15 rises by 2 at one of the zeros.
    slopes, v = np.array([0, 0, 0.1, 0.15]), pixels[0, :, 1]
    f, c = np.polyfit(slopes, v, 1)
    camera, error_px = fit_camera(pixels, joints, size_px=(1000, 800))
    assert camera.focal_px[1] == pytest.approx(f)
    assert error_px == pytest.approx(np.abs(f * slopes + c - v).max())
