"""Human3.6M in VideoPose3D's files: values by joint and camera, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pose_files import save_pickled_npz, write_videopose3d

from triform.data.poses.h36m_cameras import CAMERA_NAMES, camera_table, h36m_camera
from triform.data.poses.videopose3d import H36M_17_OF_32
from triform.data.quarantine import BadFile
from triform.datasets.h36m_videopose3d import H36mVideoPose3D
from triform.errors import DataError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "h36m_cameras.json"


def settings(folder: Path, **changes: Any) -> H36mVideoPose3D:
    return H36mVideoPose3D(**{"data_dir": str(folder), "detections": "gt", **changes})


def test_the_tables_own_check_and_its_source() -> None:
    table = camera_table()
    check = table["check"]
    camera = h36m_camera("S1", check["camera"])
    np.testing.assert_allclose(camera.project(np.array(check["point_camera_mm"])), check["pixel"], rtol=0, atol=1e-9)
    assert "karfly/human36m-camera-parameters" in table["source"]
    assert tuple(table["cameras"]) == CAMERA_NAMES
    assert list(table["extrinsics"]) == [f"S{i}" for i in range(1, 12)]


@pytest.mark.skipif(not SHARED.exists(), reason="the published table is not here")
def test_the_table_is_the_published_one() -> None:
    assert camera_table() == json.loads(SHARED.read_text("utf-8"))


@pytest.mark.parametrize("name", CAMERA_NAMES)
def test_rotations_are_rotations(name: str) -> None:
    for subject in camera_table()["extrinsics"]:
        rotation = h36m_camera(subject, name).rotation
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(rotation) == pytest.approx(1)


def test_unknown_cameras_and_subjects() -> None:
    with pytest.raises(DataError, match='no camera "54138968"'):
        h36m_camera("S1", "54138968")
    with pytest.raises(DataError, match='no subject "S12"'):
        h36m_camera("S12", "54138969")


def test_17_of_32_joints() -> None:
    # Hip, right leg, left leg, spine, thorax, nose, head, left arm, right arm in the recording's own order.
    assert H36M_17_OF_32 == (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)


def test_listing(tmp_path: Path) -> None:
    write_videopose3d(tmp_path)
    raw = settings(tmp_path).raw_poses()
    assert [sequence.name for sequence in raw.sequences][:4] == ["S1/Directions", "S1/Directions 1", "S1/Photo", "S1/WalkDog 1"]
    assert {sequence.action for sequence in raw.sequences} == {"Directions", "Photo", "WalkDog"}
    assert {sequence.subject for sequence in raw.sequences} == {"S1", "S5", "S9", "S11"}
    assert {sequence.split for sequence in raw.sequences} == {None}
    assert raw.files == (tmp_path / "data_2d_h36m_gt.npz", tmp_path / "data_3d_h36m.npz")
    assert raw.protocol == "Human3.6M, S9 and S11, all takes, 17 joints about the hip, 2D: gt, mean over 3 actions"
    assert raw.average == "action"


@pytest.mark.parametrize(
    ("subjects", "actions", "said"),
    [
        (("S5",), (), "S5, all takes, 17 joints about the hip, 2D: gt, mean over 3 actions"),
        ((), ("Photo", "WalkDog"), "Photo and WalkDog, all takes, 17 joints about the hip, 2D: gt, mean over 2 actions"),
        ((), (), "a draw of the takes, 17 joints about the hip, 2D: gt, mean over 3 actions"),
    ],
)
def test_protocol_says_who_is_tested(tmp_path: Path, subjects: tuple[str, ...], actions: tuple[str, ...], said: str) -> None:
    write_videopose3d(tmp_path, num_frames=2)
    raw = settings(tmp_path, test_subjects=subjects, test_actions=actions).raw_poses()
    assert raw.protocol == f"Human3.6M, {said}"


@pytest.mark.parametrize("num_joints", [17, 32])
def test_every_joint_of_every_camera(tmp_path: Path, num_joints: int) -> None:
    positions_2d, positions_3d = write_videopose3d(tmp_path, num_joints=num_joints, extra_frames=3)
    raw = settings(tmp_path).raw_poses()
    sequence = raw.sequences[1]
    tracks = raw.read(sequence)
    assert [track.camera_name for track in tracks] == list(CAMERA_NAMES)
    world = positions_3d["S1"]["Directions 1"]
    world_mm = (world if num_joints == 17 else world[:, H36M_17_OF_32]).astype(float) * 1000
    for track, view in zip(tracks, positions_2d["S1"]["Directions 1"], strict=True):
        assert track.joints_2d_px is not None
        assert track.joints_3d_camera_mm is not None
        assert track.camera is not None
        assert len(view) == 33
        np.testing.assert_array_equal(track.joints_2d_px, view[:30])
        np.testing.assert_allclose(track.camera.to_world(track.joints_3d_camera_mm), world_mm, atol=1e-9)
        np.testing.assert_allclose(track.camera.project(track.joints_3d_camera_mm), track.joints_2d_px, atol=1e-3)
        assert track.ground_truth_2d
        assert track.frame_rate == 50
        assert track.confidence is None
    assert [track.size_px for track in tracks] == [(1000, 1002), (1000, 1000), (1000, 1000), (1000, 1002)]


def test_one_point_by_hand(tmp_path: Path) -> None:
    world = np.zeros((2, 17, 3), np.float32)
    world[:, :, 2] = np.arange(17) / 10
    pixels = [np.zeros((2, 17, 2), np.float32)] * 4
    save_pickled_npz(tmp_path / "data_3d_h36m.npz", positions_3d={"S1": {"Walking": world}})
    save_pickled_npz(tmp_path / "data_2d_h36m_gt.npz", positions_2d={"S1": {"Walking": pixels}})
    raw = settings(tmp_path, test_subjects=()).raw_poses()
    track = raw.read(raw.sequences[0])[0]
    assert track.joints_3d_camera_mm is not None
    outer = camera_table()["extrinsics"]["S1"]["54138969"]
    up = np.array(outer["R"])[:, 2]
    # Joint 5 is half a metre above the world's origin, and that lies at t.
    np.testing.assert_allclose(track.joints_3d_camera_mm[0, 5], np.array(outer["t_mm"]) + 500 * up, atol=1e-4)
    np.testing.assert_array_equal(track.up_camera, up)
    assert up[1] < -0.9, "up in the world is up in the picture"


def test_detections_with_confidence(tmp_path: Path) -> None:
    positions_2d, _ = write_videopose3d(tmp_path, detections="cpn_ft_h36m_dbb", confidence=True, noise_px=4)
    raw = H36mVideoPose3D(data_dir=str(tmp_path)).raw_poses()
    track = raw.read(raw.sequences[0])[2]
    view = positions_2d["S1"]["Directions"][2]
    np.testing.assert_array_equal(track.joints_2d_px, view[..., :2])
    np.testing.assert_array_equal(track.confidence, view[..., 2])
    assert not track.ground_truth_2d
    assert "2D: cpn_ft_h36m_dbb" in raw.protocol


def test_unlabelled_subjects_on_request(tmp_path: Path) -> None:
    write_videopose3d(tmp_path, unlabelled=["S2"])
    assert "S2" not in {sequence.subject for sequence in settings(tmp_path).raw_poses().sequences}
    raw = settings(tmp_path, unlabelled=True).raw_poses()
    sequence = next(sequence for sequence in raw.sequences if sequence.subject == "S2")
    assert sequence.split == "train", "what has no 3D is never scored"
    for track in raw.read(sequence):
        assert track.joints_3d_camera_mm is None
        assert track.joints_2d_px is not None
        assert len(track.joints_2d_px) == 30
        assert not track.ground_truth_2d


def test_unlabelled_takes_of_tested_actions_are_left_out(tmp_path: Path) -> None:
    write_videopose3d(tmp_path, unlabelled=["S2"])
    raw = settings(tmp_path, unlabelled=True, test_subjects=(), test_actions=("Directions",)).raw_poses()
    assert [sequence.name for sequence in raw.sequences if sequence.subject == "S2"] == ["S2/Photo", "S2/WalkDog 1"]


def test_missing_files_and_subjects(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data_3d_h36m\.npz is not there"):
        settings(tmp_path).raw_poses()
    write_videopose3d(tmp_path, subjects=["S1", "S9"])
    with pytest.raises(DataError, match=r"has no S11\. Expected: the test subjects; it has S1, S9"):
        settings(tmp_path).raw_poses()
    with pytest.raises(DataError, match=r"data_2d_h36m_detectron_ft_h36m\.npz is not there"):
        settings(tmp_path, detections="detectron_ft_h36m").raw_poses()
    write_videopose3d(tmp_path, subjects=["S1", "S9"])
    (tmp_path / "data_3d_h36m.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError, match="can't be read"):
        settings(tmp_path).raw_poses()


def broken(folder: Path, change: Any) -> None:
    positions_2d, positions_3d = write_videopose3d(folder)
    change(positions_2d, positions_3d)
    save_pickled_npz(folder / "data_3d_h36m.npz", positions_3d=positions_3d)
    save_pickled_npz(folder / "data_2d_h36m_gt.npz", positions_2d=positions_2d)


def test_other_forms_are_refused(tmp_path: Path) -> None:
    def other(take: Any, views: bool) -> Any:
        def change(positions_2d: Any, positions_3d: Any) -> None:
            (positions_2d if views else positions_3d)["S5"]["Photo"] = take

        return change

    frame = np.zeros((30, 17, 2), np.float32)
    for change, message in [
        (other(np.zeros((30, 25, 3)), False), "S5/Photo has 25 joints. Expected: 17 or 32"),
        (other(np.zeros((30, 17, 2)), False), "S5/Photo has 2 values a joint"),
        (other(np.full((30, 17, 3), 900.0), False), "lies 900 m away. Expected: metres"),
        (other([[1, 2]], False), "S5/Photo is list"),
        (other(np.zeros((31, 17, 3)), False), "S5/Photo has 30 frames in 2D .* and 31 in 3D"),
        (other([frame] * 3, True), "S5/Photo has 3 views"),
        (other([frame[:, :16]] * 4, True), "S5/Photo has 16 joints"),
        (other([frame[:20], *[frame] * 3], True), "has 20 frames in 2D"),
        (lambda two, three: two["S5"].pop("Photo"), 'S5 has no "Photo"'),
        (lambda two, three: two.pop("S5"), 'has no "S5"'),
        (lambda two, three: (three.update(S12=three["S1"]), two.update(S12=two["S1"])), 'no subject "S12"'),
    ]:
        broken(tmp_path, change)
        with pytest.raises(DataError, match=message):
            settings(tmp_path).raw_poses()


def test_a_nan_after_the_recording_spoils_nothing(tmp_path: Path) -> None:
    positions_2d, _ = write_videopose3d(tmp_path, extra_frames=3)
    positions_2d["S1"]["Photo"][1][31] = np.nan
    save_pickled_npz(tmp_path / "data_2d_h36m_gt.npz", positions_2d=positions_2d)
    raw = settings(tmp_path).raw_poses()
    found = [raw.read(sequence) for sequence in raw.sequences if sequence.name == "S1/Photo"]
    assert [len(track.joints_2d_px) for tracks in found for track in tracks] == [30] * 4


def test_a_nan_spoils_its_sequence_alone(tmp_path: Path) -> None:
    def change(positions_2d: Any, positions_3d: Any) -> None:
        positions_2d["S5"]["Photo"][3][17, 2] = np.nan

    broken(tmp_path, change)
    raw = settings(tmp_path).raw_poses()
    by_name = {sequence.name: sequence for sequence in raw.sequences}
    with pytest.raises(BadFile, match="S5/Photo has numbers that are NaN or infinite, first in frame 17"):
        raw.read(by_name["S5/Photo"])
    assert len(raw.read(by_name["S5/Directions"])) == 4
