import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triform.data.quarantine import BadFile
from triform.datasets.pose_npz import PoseNpz
from triform.errors import DataError
from triform.geometry.skeletons import COCO_17, H36M_17, MPI_28, convert

CAMERA = {
    "size_px": (1000, 800),
    "focal_px": (1100.0, 1150.0),
    "center_px": (510.0, 390.0),
    "rotation": np.diag([1.0, -1.0, -1.0]),
    "translation_mm": np.array([0.0, 900.0, 4000.0]),
}


def write(path: Path, *, num_joints: int = 17, num_frames: int = 5, **changed: Any) -> dict[str, Any]:
    """One file; an array that is None is left out."""
    joints = np.random.default_rng(0).normal(0, 300, (num_frames, num_joints, 3)).astype(np.float32)
    arrays = {"joints_3d_mm": joints, "skeleton": "h36m_17"} | changed
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return arrays


def listed(folder: Path, **changed: Any):
    return PoseNpz(data_dir=str(folder), **changed).raw_poses()


def only_track(folder: Path):
    source = listed(folder)
    (track,) = source.read(source.sequences[0])
    return track


def test_names_from_files_and_from_arrays(tmp_path: Path) -> None:
    write(tmp_path / "walking_12.npz")
    write(tmp_path / "S1" / "day 2" / "Sitting 1.npz")
    write(tmp_path / "x" / "7.npz", subject="bob", action="jump")
    write(tmp_path / ".hidden" / "a.npz")
    source = listed(tmp_path)
    found = [(one.name, one.subject, one.action, one.member) for one in source.sequences]
    assert found == [
        ("S1/day 2/Sitting 1", "S1/day 2", "Sitting", "S1/day 2/Sitting 1.npz"),
        ("bob/7", "bob", "jump", "x/7.npz"),
        ("unknown/walking_12", "unknown", "walking", "walking_12.npz"),
    ]
    assert [path.name for path in source.files] == ["Sitting 1.npz", "7.npz", "walking_12.npz"]
    assert (source.average, source.root) == ("action", tmp_path)
    assert "4 virtual cameras" in source.protocol


def test_joints_in_the_world(tmp_path: Path) -> None:
    arrays = write(tmp_path / "a.npz")
    track = only_track(tmp_path)
    np.testing.assert_array_equal(track.joints_3d_world_mm, arrays["joints_3d_mm"])
    assert (track.frame_rate, track.joints_2d_px, track.camera) == (50.0, None, None)


def test_another_skeleton_and_frame_rate(tmp_path: Path) -> None:
    arrays = write(tmp_path / "a.npz", num_joints=28, skeleton="mpi_28", frame_rate=25)
    track = only_track(tmp_path)
    np.testing.assert_array_equal(track.joints_3d_world_mm, convert(arrays["joints_3d_mm"], MPI_28, H36M_17))
    assert track.frame_rate == 25.0


def test_a_camera_of_its_own(tmp_path: Path) -> None:
    pixels, confidence = np.random.default_rng(1).uniform(0, 1000, (5, 17, 2)), np.random.default_rng(2).random((5, 17))
    arrays = write(
        tmp_path / "a.npz", joints_2d_px=pixels, confidence=confidence, radial=[0.1, 0.2, 0.3], tangential=[0.01, 0.02], **CAMERA
    )
    track = only_track(tmp_path)
    np.testing.assert_allclose(track.joints_3d_camera_mm, arrays["joints_3d_mm"] * [1, -1, -1] + [0, 900, 4000], rtol=1e-6)
    np.testing.assert_allclose(track.up_camera, [0, -1, 0])
    np.testing.assert_allclose(track.joints_2d_px, pixels, rtol=1e-6)
    np.testing.assert_allclose(track.confidence, confidence, rtol=1e-6)
    assert (track.size_px, track.camera.radial, track.camera.tangential) == ((1000, 800), (0.1, 0.2, 0.3), (0.01, 0.02))
    assert (track.joints_3d_world_mm, track.ground_truth_2d) == (None, False)


def test_2d_alone_has_no_labels(tmp_path: Path) -> None:
    pixels, confidence = np.random.default_rng(1).uniform(0, 1000, (5, 17, 2)), np.random.default_rng(2).random((5, 17))
    write(tmp_path / "a.npz", joints_3d_mm=None, skeleton="coco_17", joints_2d_px=pixels, confidence=confidence, size_px=(640, 480))
    track = only_track(tmp_path)
    np.testing.assert_allclose(track.joints_2d_px, convert(pixels, COCO_17, H36M_17), rtol=1e-5)
    np.testing.assert_allclose(track.confidence[:, 0], confidence[:, 11:13].mean(1), rtol=1e-5)
    assert (track.joints_3d_camera_mm, track.camera, track.size_px) == (None, None, (640, 480))


def test_a_mean_with_an_unseen_joint_is_unseen(tmp_path: Path) -> None:
    confidence = np.full((5, 17), 0.8)
    confidence[2, 11] = 0  # the left hip, which lies at (0, 0) as detectors write it
    write(tmp_path / "a.npz", joints_3d_mm=None, skeleton="coco_17", joints_2d_px=PIXELS, confidence=confidence, size_px=(640, 480))
    found = only_track(tmp_path).confidence
    assert found.dtype == np.float32
    assert [H36M_17.joints[joint] for joint in np.flatnonzero(found[2] == 0)] == ["hip", "l_hip", "spine"]
    np.testing.assert_allclose(np.delete(found, 2, axis=0), 0.8, rtol=1e-6)


PIXELS = np.zeros((5, 17, 2))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"skeleton": "smpl"}, 'a.npz has the skeleton "smpl".*h36m_17, mpi_28, mpi_17, coco_17, halpe_26'),
        ({"skeleton": None}, "a.npz has no array `skeleton`"),
        ({"num_joints": 16}, r"joints_3d_mm has shape \(5, 16, 3\).*h36m_17 has 17 joints"),
        ({"joints_3d_mm": np.zeros((5, 17, 2))}, r"joints_3d_mm has shape \(5, 17, 2\)"),
        ({"joints_3d_mm": np.zeros((0, 17, 3))}, r"joints_3d_mm has shape \(0, 17, 3\)"),
        ({"joints_2d_px": PIXELS[:, :16], "size_px": (9, 9)}, r"joints_2d_px has shape \(5, 16, 2\)"),
        ({"joints_2d_px": PIXELS[:4], **CAMERA}, "joints_3d_mm has 5 frames, joints_2d_px has 4 frames.*the same number in 2D and 3D"),
        ({"confidence": np.ones((5, 1))}, r"confidence has shape \(5, 1\)"),
        ({"joints_3d_mm": None}, "a.npz has neither joints_3d_mm nor joints_2d_px"),
        (
            {"joints_2d_px": PIXELS, "size_px": (9, 9)},
            "2D and 3D, but no camera between them: focal_px, center_px, rotation, translation_mm",
        ),
        ({"joints_2d_px": PIXELS, **CAMERA, "rotation": None}, "no camera between them: rotation missing"),
        ({"joints_3d_mm": None, "joints_2d_px": PIXELS}, "no size of the image: size_px missing"),
        ({"extra": np.array({"a": 1}, dtype=object)}, r"pickled objects \(extra\).*h36m_videopose3d and mpi_inf_3dhp_npz"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_file_that_is_not_as_its_format_says(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    write(tmp_path / "b.npz")
    write(tmp_path / "a.npz", **changed)
    with pytest.raises(DataError, match=f"(?s){message}"):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"joints_3d_mm": np.full((5, 17, 3), np.nan)}, r"joints_3d_mm is not finite at frame 0, joint 0 \(hip\)"),
        ({"frame_rate": 0}, "frame_rate is 0, not above 0"),
        ({"frame_rate": [25, 50]}, "can't be read"),
        ({"frame_rate": np.inf}, "frame_rate is inf"),
        ({"joints_2d_px": PIXELS, **CAMERA, "size_px": (np.inf, 100)}, "can't be read: cannot convert float infinity"),
        ({"joints_2d_px": PIXELS, **CAMERA, "rotation": np.diag([1.0, 1.0, -1.0])}, "rotation is no rotation"),
        ({"joints_2d_px": PIXELS, **CAMERA, "focal_px": (1100.0, np.nan)}, "focal_px is .*not above 0"),
        ({"joints_2d_px": PIXELS, **CAMERA, "focal_px": (-1100.0, 1100.0)}, "focal_px is .*not above 0"),
        ({"joints_2d_px": PIXELS, **CAMERA, "center_px": (np.inf, 0.0)}, "center_px is .*not finite"),
        ({"joints_2d_px": PIXELS, **CAMERA, "radial": [0.1, 0.2]}, "radial is .*3 finite numbers"),
        ({"joints_2d_px": PIXELS, **CAMERA, "tangential": [0.1, np.nan]}, "tangential is .*2 finite numbers"),
        ({"joints_2d_px": PIXELS, **CAMERA, "rotation": np.eye(3) * 2}, "rotation is no rotation"),
        ({"joints_2d_px": PIXELS, **CAMERA, "focal_px": 1100.0}, r"must be two numbers each, not of shape \(\)"),
        ({"joints_2d_px": PIXELS, **CAMERA, "size_px": (0, 100)}, r"size_px is \(0, 100\)"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_sequence_that_is_set_aside(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    write(tmp_path / "a.npz", **changed)
    with pytest.raises(BadFile, match=message):
        only_track(tmp_path)


def test_the_files_own_joint_is_named(tmp_path: Path) -> None:
    joints = np.zeros((5, 28, 3))
    joints[2, 13, 1] = np.inf
    write(tmp_path / "a.npz", joints_3d_mm=joints, skeleton="mpi_28")
    with pytest.raises(BadFile, match=re.escape("frame 2, joint 13 (r_clavicle)")):
        only_track(tmp_path)


@pytest.mark.parametrize("harm", ["torn", "text", "npy", "flipped"])
def test_a_torn_file_is_set_aside(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "a.npz"
    write(path, num_frames=50)
    data = path.read_bytes()
    if harm == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif harm == "flipped":
        path.write_bytes(data[:3000] + bytes(64) + data[3064:])
    else:
        path.write_bytes(data[:3000] if harm == "torn" else b"no archive")
    source = listed(tmp_path)
    with pytest.raises(BadFile):
        source.read(source.sequences[0])


def test_deflated_files_are_read(tmp_path: Path) -> None:
    arrays = write(tmp_path / "plain.npz")
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "small.npz") as archive:
        assert archive.infolist()[0].compress_type == zipfile.ZIP_DEFLATED
    source = listed(tmp_path)
    one, other = (source.read(sequence)[0] for sequence in source.sequences)
    np.testing.assert_array_equal(one.joints_3d_world_mm, other.joints_3d_world_mm)


def test_no_folder_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        listed(tmp_path / "missing")
    with pytest.raises(DataError, match=r"holds no \.npz file"):
        listed(tmp_path)
    with pytest.raises(DataError, match="No data is named"):
        PoseNpz().raw_poses()


def test_a_folder_called_like_a_file_is_none(tmp_path: Path) -> None:
    write(tmp_path / "old.npz" / "a.npz")
    assert [one.member for one in listed(tmp_path).sequences] == ["old.npz/a.npz"]


def test_a_file_that_is_more_than_arrays_is_set_aside(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", num_joints=5)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("notes.txt", "no array")
    with pytest.raises(BadFile, match="can't be read"):
        only_track(tmp_path)
