from pathlib import Path

import numpy as np
import pytest

from triform.errors import DataError
from triform.geometry.bvh import read_bvh, read_hierarchy

SHARED = Path(__file__).parents[2] / "../shared/data/motion"

TWO_BONES = """HIERARCHY
ROOT Hips
{
  OFFSET 1 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Upper Arm {
    OFFSET 0 2 0
    CHANNELS 3 Yrotation Zrotation Xrotation
    End Site
    {
      OFFSET 3 0 0
    }
  }
}
MOTION
Frames: 2
Frame Time: .0083333
0 0 0 0 0 0 0 0 0
10 20 30 90 0 0 90 90 0
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "a.bvh"
    path.write_text(text)
    return path


def test_forward_kinematics_of_two_bones_by_hand(tmp_path: Path) -> None:
    bvh = read_bvh(written(tmp_path, TWO_BONES))
    assert [joint.name for joint in bvh.joints] == ["Hips", "Upper Arm", "Upper Arm End"]
    assert [joint.parent for joint in bvh.joints] == [-1, 0, 1]
    places = bvh.positions()
    np.testing.assert_allclose(places[0], [[0, 0, 0], [0, 2, 0], [3, 2, 0]], atol=1e-12)
    # The root's turn about z takes y to -x. The arm's own turn is Ry(90) Rz(90): x -> y -> y; then the root's: y -> -x.
    np.testing.assert_allclose(places[1], [[10, 20, 30], [8, 20, 30], [5, 20, 30]], atol=1e-12)


def test_a_rounded_frame_time_means_the_whole_rate(tmp_path: Path) -> None:
    assert read_bvh(written(tmp_path, TWO_BONES)).frame_rate == 120
    assert read_bvh(written(tmp_path, TWO_BONES.replace(".0083333", "0.0333667"))).frame_rate == pytest.approx(29.97, abs=1e-3)


def test_an_axis_without_a_position_channel_keeps_its_offset(tmp_path: Path) -> None:
    text = TWO_BONES.replace("CHANNELS 6 Xposition Yposition Zposition", "CHANNELS 4 Yposition").replace(
        "0 0 0 0 0 0 0 0 0", "7 0 0 0 0 0 0"
    )
    path = written(tmp_path, text.replace("10 20 30 90 0 0 90 90 0", "7 0 0 0 0 0 0"))
    np.testing.assert_allclose(read_bvh(path).positions()[0, :2], [[1, 7, 0], [1, 9, 0]], atol=1e-12)


def test_other_line_ends_blank_lines_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    expected = read_bvh(written(tmp_path, TWO_BONES)).positions()
    path = tmp_path / "b.bvh"
    path.write_bytes(b"\xef\xbb\xbf" + TWO_BONES.replace("\n", "\r\n").replace("MOTION", "\r\nMOTION").encode() + b"\r\n\r\n")
    np.testing.assert_array_equal(read_bvh(path).positions(), expected)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("10 20 30 90 0 0 90 90 0\n", "", "line 18: 1 frames. Expected: 2"),
        ("10 20 30 90 0 0 90 90 0\n", "10 20 30 90\n", "line 19: 4 numbers in a frame. Expected: 9"),
        ("0 0 0 0 0 0 0 0 0\n", "0 0 0 0 0 0 0 0 0 0\n", "line 18: 10 numbers"),
        ("10 20", "nan 20", "frame 1 "),
        ("10 20", "ten 20", "'ten' in the motion"),
        ("CHANNELS 3 Yrotation", "CHANNELS 3", "line 8: CHANNELS 3 Zrotation Xrotation: 2 names"),
        ("3 Yrotation", "3 Yturn", "line 8: the channel Yturn"),
        ("OFFSET 0 2 0", "OFFSET 0 2", "line 7: OFFSET 0 2"),
        ("OFFSET 0 2 0", "OFFSETS 0 2 0", "line 7: 'OFFSETS'"),
        ("  }\n}\n", "  }\n", "not closed"),
        ("  JOINT Upper", "}\nROOT Other {\n  JOINT Upper", "ROOT stands there"),
        ("End Site\n    {", "End Site", "no { follows END"),
        ("Frames: 2", "Frames: two", "Frames"),
        ("Frames: 2", "Frames: 0", "0 frames"),
        ("Frame Time: .0083333", "Frame Time: 0", "0.0 seconds"),
        ("Frame Time: .0083333", "", "MOTION is followed by"),
        ("MOTION", "", "HIERARCHY"),
    ],
)
def test_what_is_broken_is_named_with_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in TWO_BONES
    with pytest.raises(DataError) as raised:
        read_bvh(written(tmp_path, TWO_BONES.replace(old, new)))
    assert says in str(raised.value)
    assert "a.bvh" in str(raised.value)


@pytest.mark.parametrize("text", ["", "MOTION", "HIERARCHY\nMOTION\n"])
def test_an_empty_file_or_a_missing_one_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError):
        read_bvh(written(tmp_path, text))
    with pytest.raises(DataError, match="can't be read"):
        read_hierarchy(tmp_path / "none.bvh")


@pytest.mark.skipif(not SHARED.exists(), reason="needs recorded motion")
def test_a_recorded_person_stands_upright_with_bones_of_one_length() -> None:
    bvh = read_bvh(SHARED / "131_02.bvh")
    assert (len(bvh.motion), bvh.motion.shape[1], bvh.frame_rate) == (1247, 96, 120)
    places = bvh.positions()
    at = {joint.name: index for index, joint in enumerate(bvh.joints)}
    thigh = np.linalg.norm(places[:, at["LeftKnee"]] - places[:, at["LeftHip"]], axis=1)
    np.testing.assert_allclose(thigh, np.linalg.norm([2.49329, -6.85026, 0]), atol=1e-9)
    heights = places[:, [at["Head End"], at["Hips"], at["LeftAnkle"]], 1].mean(axis=0)
    assert (np.diff(heights) < -5).all()
