from pathlib import Path

import numpy as np
import pytest

from triform.data.quarantine import BadFile
from triform.datasets.cmu_bvh import CmuBvh, joint_indices
from triform.errors import DataError
from triform.geometry.bvh import Joint
from triform.geometry.skeletons import H36M_17

SHARED = Path(__file__).parents[2] / "../shared/data/motion"
J = {name: index for index, name in enumerate(H36M_17.joints)}

_CGSPEED = """Hips - 0 0 0|LHipJoint Hips 0 0 0|LeftHip LHipJoint 2 -1 0|LeftKnee LeftHip 0 -7 0|LeftAnkle LeftKnee 0 -7 0
RightHip Hips -2 -1 0|RightKnee RightHip 0 -7 0|RightAnkle RightKnee 0 -7 0
Chest Hips 0 2 0|Chest2 Chest 0 2 0|Neck Chest2 0 4 0|Head Neck 0 1.5 1
LeftCollar Chest2 0 0 0|LeftShoulder LeftCollar 3 2 0|LeftElbow LeftShoulder 5 0 0|LeftWrist LeftElbow 4 0 0
RightCollar Chest2 0 0 0|RightShoulder RightCollar -3 2 0|RightElbow RightShoulder -5 0 0|RightWrist RightElbow -4 0 0"""

_MOTION_BUILDER = {
    "LeftHip": "LeftUpLeg", "LeftKnee": "LeftLeg", "LeftAnkle": "LeftFoot", "LeftCollar": "LeftShoulder", "LeftShoulder": "LeftArm",
    "LeftElbow": "LeftForeArm", "LeftWrist": "LeftHand", "Chest": "Spine", "Chest2": "Neck", "Neck": "Neck1",
}  # fmt: skip


def bvh_text(*, rename: dict[str, str] | None = None, num_frames: int = 3) -> str:
    """A person in a T-pose who rises by 1 a frame; ends of limbs stick out by 1.5."""
    rows = [row.split() for line in _CGSPEED.splitlines() for row in line.split("|")]
    names = rename or {}
    names = names | {f"Right{old[4:]}": f"Right{new[4:]}" for old, new in names.items() if old.startswith("Left")}
    rows = [(names.get(name, name), names.get(parent, parent), offset) for name, parent, *offset in rows]

    def lines(name: str, parent: str, offset: list[str]) -> list[str]:
        channels = "6 Xposition Yposition Zposition" if parent == "-" else "3"
        inside = [line for row in rows if row[1] == name for line in lines(*row)] or ["End Site", "{", "OFFSET 0 1.5 0", "}"]
        head = [f"{'ROOT' if parent == '-' else 'JOINT'} {name}", "{", f"OFFSET {' '.join(offset)}"]
        return [*head, f"CHANNELS {channels} Zrotation Yrotation Xrotation", *inside, "}"]

    frames = [" ".join(["0", str(20 + frame), *["0"] * (1 + 3 * len(rows))]) for frame in range(num_frames)]
    return "\n".join(["HIERARCHY", *lines(*rows[0]), "MOTION", f"Frames: {num_frames}", "Frame Time: 0.00833333", *frames]) + "\n"


def folder_with(root: Path, **texts: str) -> CmuBvh:
    for name, text in texts.items():
        path = root / name.split("_")[0] / f"{name.removeprefix('n')}.bvh"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return CmuBvh(data_dir=str(root))


@pytest.mark.parametrize("rename", [{}, _MOTION_BUILDER], ids=["cgspeed", "motion_builder"])
def test_joints_are_found_under_either_naming_and_scaled(tmp_path: Path, rename: dict[str, str]) -> None:
    raw = folder_with(tmp_path, n131_01=bvh_text(rename=rename)).raw_poses()
    (track,) = raw.read(raw.sequences[0])
    joints = track.joints_3d_world_mm
    assert joints is not None
    assert track.frame_rate == 120
    assert track.camera is None
    assert track.joints_2d_px is None
    unit = 25.4 / 0.45
    expected = {
        "hip": (0, 20, 0), "l_hip": (2, 19, 0), "r_knee": (-2, 12, 0), "l_ankle": (2, 5, 0), "thorax": (0, 28, 0), "spine": (0, 24, 0),
        "nose": (0, 29.5, 1), "head": (0, 31, 1), "l_shoulder": (3, 26, 0), "r_elbow": (-8, 26, 0), "l_wrist": (12, 26, 0),
    }  # fmt: skip
    for name, place in expected.items():
        np.testing.assert_allclose(joints[0, J[name]] / unit, place, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(joints[2, J[name]] / unit, np.add(place, (0, 2, 0)), atol=1e-9)


def test_subject_name_and_action_come_from_the_file_and_the_table(tmp_path: Path) -> None:
    settings = folder_with(tmp_path, n131_02=bvh_text(), n131_01=bvh_text(), n07_01=bvh_text())
    names = [(sequence.name, sequence.subject, sequence.action) for sequence in settings.raw_poses().sequences]
    assert names == [("07/07_01", "07", "motion"), ("131/131_01", "131", "motion"), ("131/131_02", "131", "motion")]
    (tmp_path / "actions.csv").write_text("name,action\n131_02,start walking\n07_01, run\n")
    raw = settings.raw_poses()
    assert [sequence.action for sequence in raw.sequences] == ["run", "motion", "start walking"]
    assert tmp_path / "actions.csv" in raw.files
    assert len(raw.files) == 4
    assert (raw.average, "mean over actions" in raw.protocol, "virtual cameras" in raw.protocol) == ("action", True, True)


def test_leading_frames_can_be_left_out(tmp_path: Path) -> None:
    folder_with(tmp_path, n1_1=bvh_text(num_frames=3))
    raw = CmuBvh(data_dir=str(tmp_path), skip_frames=1, unit_mm=1.0).raw_poses()
    joints = raw.read(raw.sequences[0])[0].joints_3d_world_mm
    assert joints is not None
    np.testing.assert_allclose(joints[:, 0, 1], [21, 22])
    raw = CmuBvh(data_dir=str(tmp_path), skip_frames=3).raw_poses()
    with pytest.raises(BadFile, match="left out"):
        raw.read(raw.sequences[0])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.bvh file"):
        CmuBvh(data_dir=str(tmp_path)).raw_poses()
    with pytest.raises(DataError, match="LeftKnee or LeftLeg"):
        folder_with(tmp_path, n1_1=bvh_text(rename={"LeftKnee": "LeftPatella"})).raw_poses()
    with pytest.raises(DataError, match="Head End"):
        joint_indices(tmp_path, (Joint("Head", -1, (0.0, 0.0, 0.0), ()),))


def test_one_broken_file_is_bad_alone(tmp_path: Path) -> None:
    good = bvh_text()
    raw = folder_with(tmp_path, n1_1=good, n1_2=good.rstrip().rsplit("\n", 1)[0], n1_3=good.replace("Wrist", "Wrst")).raw_poses()
    assert len(raw.read(raw.sequences[0])) == 1
    with pytest.raises(BadFile, match="2 frames"):
        raw.read(raw.sequences[1])
    with pytest.raises(BadFile, match="LeftWrist or LeftHand"):
        raw.read(raw.sequences[2])


@pytest.mark.parametrize(("table", "says"), [("1_9,walk\n", "1_9"), ("1_1\n", "1_1"), ("1_1,a\n1_1,b\n", "1_1,b")])
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, table: str, says: str) -> None:
    settings = folder_with(tmp_path, n1_1=bvh_text())
    (tmp_path / "actions.csv").write_text(table)
    with pytest.raises(DataError, match=says):
        settings.raw_poses()


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    settings = folder_with(tmp_path, n1_1=bvh_text())
    (tmp_path / "actions.csv").write_bytes("1_1,Kür\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"actions\.csv can't be read.*UTF-8"):
        settings.raw_poses()


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    settings = folder_with(tmp_path, n1_1=bvh_text())
    (tmp_path / "._1_1.bvh").write_bytes(b"\0\5\x16\7")
    assert [sequence.name for sequence in settings.raw_poses().sequences] == ["1/1_1"]


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    settings = folder_with(tmp_path, n1_1=bvh_text())
    (tmp_path / "again").mkdir()
    (tmp_path / "again/1_1.bvh").write_text(bvh_text())
    with pytest.raises(DataError, match="have one name"):
        settings.raw_poses()


@pytest.mark.skipif(not SHARED.exists(), reason="needs recorded motion")
def test_recorded_people_stand_upright_on_limbs_of_one_length() -> None:
    raw = CmuBvh(data_dir=str(SHARED)).raw_poses()
    assert [sequence.name for sequence in raw.sequences] == ["131/131_01", "131/131_02", "131/131_03"]
    joints = raw.read(raw.sequences[0])[0].joints_3d_world_mm
    assert joints is not None
    for joint, parent in H36M_17.bones:
        if H36M_17.joints[joint].endswith(("knee", "ankle", "elbow", "wrist", "_hip")):
            assert np.ptp(np.linalg.norm(joints[:, joint] - joints[:, parent], axis=1)) < 1e-6
    head, hip, knee, ankle = (joints[:, J[name], 1].mean() for name in ("head", "hip", "l_knee", "l_ankle"))
    assert head > hip + 400 > knee + 600 > ankle + 800
    assert 350 < np.linalg.norm(joints[0, J["l_knee"]] - joints[0, J["l_hip"]]) < 480
    # Seen from above, left is to the left of where the person walks.
    left, way = joints[:, J["l_hip"]] - joints[:, J["r_hip"]], np.gradient(joints[:, 0], axis=0)
    assert np.median(np.einsum("fa,fa->f", np.cross(left, [0, 1, 0]), way)) > 0
