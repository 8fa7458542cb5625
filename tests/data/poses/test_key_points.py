import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triform.data.poses.key_points import FRAME_RATE, KeyPoints, read_key_points, write_prediction
from triform.errors import DataError, TriformError, UsageError
from triform.geometry.skeletons import COCO_17, H36M_17, HALPE_26, convert, convert_confidence

SIZE = (640, 480)


def drawn(num_frames: int = 4, num_joints: int = 17, seed: int = 0) -> np.ndarray:
    """x, y in pixels and confidence."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(10, 450, (num_frames, num_joints, 2)), rng.uniform(0.2, 1, (num_frames, num_joints, 1))], axis=2)


def npz(folder: Path, **fields: Any) -> Path:
    path = folder / "a.npz"
    np.savez(path, **fields)
    return path


def as_json(folder: Path, content: Any) -> Path:
    path = folder / "a.json"
    path.write_text(json.dumps(content))
    return path


def result(image: Any, joints: np.ndarray, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": 1, "keypoints": joints.ravel().tolist(), **more}


@pytest.mark.parametrize("name", ["joints_2d_px", "keypoints", "joints_2d"])
@pytest.mark.parametrize("form", ["npz", "json"])
def test_own_joints_come_back_as_they_are(tmp_path: Path, name: str, form: str) -> None:
    joints = drawn()
    fields = {name: joints[..., :2], "confidence": joints[..., 2], "size_px": [640, 480], "frame_rate": 25, "skeleton": "h36m_17"}
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in fields.items()}
    found = read_key_points(npz(tmp_path, **fields) if form == "npz" else as_json(tmp_path, plain))
    np.testing.assert_array_equal(found.joints_2d_px, joints[..., :2].astype(np.float32))
    np.testing.assert_array_equal(found.confidence, joints[..., 2].astype(np.float32))
    assert (found.size_px, found.frame_rate, found.notes, len(found.missing)) == (SIZE, 25.0, (), 0)
    assert found.joints_2d_px.dtype == found.confidence.dtype == np.float32


def test_the_users_word_goes_before_the_files(tmp_path: Path) -> None:
    path = npz(tmp_path, joints_2d_px=drawn(), size_px=[640, 480], frame_rate=25, skeleton="h36m_17")
    found = read_key_points(path, skeleton="coco_17", size_px=(800, 600), frame_rate=60)
    assert (found.size_px, found.frame_rate) == ((800, 600), 60)
    np.testing.assert_allclose(found.joints_2d_px, convert(drawn()[..., :2], COCO_17, H36M_17), rtol=1e-6)


def test_no_frame_rate_is_told(tmp_path: Path) -> None:
    found = read_key_points(npz(tmp_path, joints_2d_px=drawn(), skeleton="h36m_17"), size_px=SIZE)
    assert found.frame_rate == FRAME_RATE
    assert "frame rate" in found.notes[0]


def test_coco_results_are_sorted_and_become_our_joints(tmp_path: Path) -> None:
    joints = drawn(3)
    path = as_json(tmp_path, [result(frame, joints[frame - 7], score=0.9) for frame in (8, 7, 9)])
    found = read_key_points(path, size_px=SIZE, frame_rate=50)
    expected = convert(joints, COCO_17, H36M_17)
    np.testing.assert_allclose(found.joints_2d_px, expected[..., :2], rtol=1e-6)
    np.testing.assert_allclose(found.confidence, expected[..., 2], rtol=1e-6)
    np.testing.assert_allclose(found.joints_2d_px[0, 0], joints[0, [11, 12], :2].mean(axis=0), rtol=1e-6)
    assert found.notes == ("17 joints: taken for coco_17",)


def test_alpha_pose_names_its_images_and_has_26_joints(tmp_path: Path) -> None:
    joints = drawn(3, 26)
    path = as_json(tmp_path, [result(f"video_2/{frame}.jpg", joints[frame], score=2.5) for frame in range(3)])
    found = read_key_points(path, size_px=SIZE, frame_rate=50)
    np.testing.assert_allclose(found.joints_2d_px, convert(joints[..., :2], HALPE_26, H36M_17), rtol=1e-6)
    np.testing.assert_allclose(found.joints_2d_px[:, 8], joints[:, 18, :2], rtol=1e-6)
    assert found.notes == ("26 joints: taken for halpe_26",)


def test_the_best_scored_person_is_taken_or_the_largest_and_that_is_told(tmp_path: Path) -> None:
    small, large = drawn(2), drawn(2, seed=1)
    large[..., :2] *= 2
    scored = [result(0, large[0], score=0.3), result(0, small[0], score=0.8), result(1, large[1], score=0.8)]
    found = read_key_points(as_json(tmp_path, scored), size_px=(1280, 960), frame_rate=50)
    np.testing.assert_allclose(found.joints_2d_px[0], convert(small[0, :, :2], COCO_17, H36M_17), rtol=1e-6)
    assert found.notes[0] == "1 of 2 images show several people: the best-scored one of each is taken"
    unscored = [result(0, small[0]), result(0, large[0]), result(1, large[1])]
    found = read_key_points(as_json(tmp_path, unscored), size_px=(1280, 960), frame_rate=50)
    np.testing.assert_allclose(found.joints_2d_px[0], convert(large[0, :, :2], COCO_17, H36M_17), rtol=1e-6)


def test_a_person_who_jumps_aside_is_told(tmp_path: Path) -> None:
    joints = np.repeat(drawn(1), 4, axis=0)
    joints[2, :, 0] += 500
    results = [result(frame, joints[frame]) for frame in range(4)]
    told = read_key_points(as_json(tmp_path, results), size_px=(1280, 720), frame_rate=50).notes
    assert told[0].startswith("2 times the person of an image stands apart")
    one = [result(frame, joints[0]) for frame in range(4)]
    assert len(read_key_points(as_json(tmp_path, one), size_px=(1280, 720), frame_rate=50).notes) == 1


def test_frames_that_show_nobody_are_interpolated_with_confidence_0(tmp_path: Path) -> None:
    joints = drawn(2)
    path = as_json(tmp_path, [result(3, joints[0]), result(4, joints[0]), result(5, 0 * joints[0]), result(8, joints[1])])
    found = read_key_points(path, size_px=SIZE, frame_rate=50)
    ends = convert(joints[..., :2], COCO_17, H36M_17)
    np.testing.assert_array_equal(found.missing, [2, 3, 4])
    np.testing.assert_allclose(
        found.joints_2d_px[2:5], ends[0] + np.array([0.25, 0.5, 0.75])[:, None, None] * (ends[1] - ends[0]), rtol=1e-5
    )
    assert (found.confidence[2:5] == 0).all()
    sure = convert_confidence(joints[..., 2], COCO_17)
    np.testing.assert_allclose(found.shown_confidence[3], (sure[0] + sure[1]) / 2, rtol=1e-5)
    assert (found.confidence[[0, 1, 5]] > 0).all()
    assert any("3 of 6 frames show nobody" in note for note in found.notes)


def test_a_mean_with_an_unseen_joint_is_unseen(tmp_path: Path) -> None:
    joints = drawn(1)
    joints[0, 11] = 0  # the left hip
    found = read_key_points(as_json(tmp_path, [result(0, joints[0])]), size_px=SIZE, frame_rate=50)
    unseen = [H36M_17.joints[joint] for joint in np.flatnonzero(found.confidence[0] == 0)]
    assert unseen == ["hip", "l_hip", "spine"]


def test_a_joint_that_some_frames_do_not_show_is_interpolated_and_one_that_none_shows_is_told(tmp_path: Path) -> None:
    joints = drawn(5)
    joints[1:3, 16] = 0
    joints[:, 13] = 0
    found = read_key_points(npz(tmp_path, keypoints=joints, skeleton="h36m_17"), size_px=SIZE, frame_rate=50)
    line = joints[0, 16] + np.array([1 / 3, 2 / 3])[:, None] * (joints[3, 16] - joints[0, 16])
    np.testing.assert_allclose(found.joints_2d_px[1:3, 16], line[:, :2], rtol=1e-5)
    np.testing.assert_allclose(found.shown_confidence[1:3, 16], line[:, 2], rtol=1e-5)
    assert (found.confidence[1:3, 16] == 0).all()
    assert (found.shown_confidence[:, 13] == 0).all()
    assert found.notes == (
        "joints that other frames lack, 2 in all, are interpolated",
        "seen in no frame: l_wrist; the whole pose may be wrong",
    )


def test_an_image_that_joints_lie_outside_of_is_doubted_or_refused(tmp_path: Path) -> None:
    path = npz(tmp_path, keypoints=drawn(), skeleton="h36m_17")
    assert read_key_points(path, size_px=(460, 460), frame_rate=50).notes == ()
    assert "outside an image of 350 x 460 pixels" in read_key_points(path, size_px=(350, 460), frame_rate=50).notes[0]
    with pytest.raises(DataError, match="outside an image of 100 x 460 pixels"):
        read_key_points(path, size_px=(100, 460), frame_rate=50)


def test_images_numbered_in_steps_are_frames_one_after_another(tmp_path: Path) -> None:
    joints = drawn(3)
    found = read_key_points(as_json(tmp_path, [result(10 * frame, joints[frame]) for frame in range(3)]), size_px=SIZE, frame_rate=50)
    assert len(found.joints_2d_px) == 3
    assert "go up by 10" in found.notes[0]


def test_confidence_above_1_counts_as_1(tmp_path: Path) -> None:
    joints = drawn()
    joints[..., 2] = 1.3
    assert (read_key_points(npz(tmp_path, keypoints=joints, skeleton="h36m_17"), size_px=SIZE).confidence == 1).all()


BROKEN: dict[str, tuple[dict[str, Any], type[TriformError], str]] = {
    "no size": ({"joints_2d_px": drawn(), "skeleton": "h36m_17"}, UsageError, "--image-size WxH"),
    "17 joints in no order": ({"joints_2d_px": drawn(), "size_px": SIZE}, UsageError, "--skeleton"),
    "unknown order": ({"joints_2d_px": drawn(), "size_px": SIZE, "skeleton": "openpose"}, UsageError, "openpose"),
    "18 joints": ({"joints_2d_px": drawn(2, 18), "size_px": SIZE}, DataError, "18 joints"),
    "26 joints called 17": ({"joints_2d_px": drawn(2, 26), "size_px": SIZE, "skeleton": "coco_17"}, DataError, "17 as coco_17"),
    "no frame": ({"joints_2d_px": np.zeros((0, 17, 2)), "size_px": SIZE, "skeleton": "h36m_17"}, DataError, "shape"),
    "no joints": ({"poses": drawn()}, DataError, "joints_2d_px"),
    "flat": ({"joints_2d_px": drawn().ravel()}, DataError, "shape"),
    "two confidences": ({"joints_2d_px": drawn(), "confidence": np.ones((4, 17))}, DataError, "twice"),
    "short confidence": ({"joints_2d_px": drawn()[..., :2], "confidence": np.ones((3, 17))}, DataError, r"\(3, 17\)"),
    "NaN": ({"joints_2d_px": np.full((2, 17, 2), np.nan), "size_px": SIZE, "skeleton": "h36m_17"}, DataError, "frame 0 .*joint hip is NaN"),
    "nobody": ({"joints_2d_px": 0 * drawn(), "size_px": SIZE, "skeleton": "h36m_17"}, DataError, "nobody"),
    "normalised": ({"joints_2d_px": drawn()[..., :2] / 640, "size_px": SIZE, "skeleton": "h36m_17"}, DataError, "2 pixels"),
    "size 0": ({"joints_2d_px": drawn(), "size_px": [0, 480]}, DataError, "size_px"),
    "pickled": ({"joints_2d_px": np.array([{"a": 1}], object)}, DataError, "can't be read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_an_npz_is_named(tmp_path: Path, case: str) -> None:
    fields, kind, says = BROKEN[case]
    with pytest.raises(kind, match=says):
        read_key_points(npz(tmp_path, **fields))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "empty"),
        ("text", "empty"),
        ([{"keypoints": [1, 2, 3]}], "image_id None"),
        ([result("cover.jpg", drawn()[0])], "cover.jpg"),
        ([{"image_id": 1}], "missing"),
        ([{"image_id": 1, "keypoints": [1, 2]}], "no triples"),
        ([result(0, drawn()[0]), result(1, drawn(1, 26)[0])], r"\[17, 26\]"),
        ([result(139, drawn()[0]), result(285, drawn()[0]), result(632, drawn()[0])], "numbered from 139 to 632"),
        ({"joints_2d_px": [[[1, 2], [3]]]}, "no array of numbers"),
    ],
)
def test_what_is_wrong_with_a_json_is_named(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_key_points(as_json(tmp_path, content), size_px=SIZE)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut off")
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "c.txt").touch()
    for name, kind, says in (
        ("a.npz", DataError, "can't be read"),
        ("b.json", DataError, "can't be read"),
        ("none.npz", DataError, "is not there"),
        ("c.txt", UsageError, "neither"),
    ):
        with pytest.raises(kind, match=says):
            read_key_points(tmp_path / name)
    with pytest.raises(DataError, match="detector's list of results"):
        read_key_points(as_json(tmp_path, {"images": [], "annotations": []}))


def test_a_prediction_lies_beside_what_it_was_made_from(tmp_path: Path) -> None:
    joints = drawn(5)
    seen = KeyPoints(joints[..., :2].astype(np.float32), *[joints[..., 2].astype(np.float32)] * 2, SIZE, 25.0, np.array([2]), ())
    write_prediction(tmp_path / "a.npz", joints, key_points=seen, model_digest="abc")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["joints_3d_mm"], joints.astype(np.float32))
        assert tuple(file["joints"]) == H36M_17.joints
        assert tuple(file["parents"]) == H36M_17.parents
        assert [str(file[name]) for name in ("skeleton", "model_digest", "frame_rate")] == ["h36m_17", "abc", "25.0"]
    again = read_key_points(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.joints_2d_px, seen.joints_2d_px)
    np.testing.assert_array_equal(again.confidence, seen.confidence)
