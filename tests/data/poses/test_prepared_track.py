from dataclasses import replace

import numpy as np
import pytest

from triform.data.poses.prepared_track import check_track, largest_2d_error, sha256_of
from triform.data.quarantine import BadFile
from triform.errors import DataError


def spoiled(array: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
    changed = array.copy()
    changed[at] = value
    return changed


@pytest.mark.parametrize(
    ("name", "at", "value", "message"),
    [
        ("joints_2d_px", (3, 2, 0), np.nan, r"joints_2d_px is not finite at frame 3, joint 2 \(r_knee\)"),
        ("joints_3d_camera_mm", (5, 10, 2), np.inf, r"joints_3d_camera_mm is not finite at frame 5, joint 10 \(head\)"),
        ("joints_3d_camera_mm", (7, 16, 2), 0.0, r"behind the camera cam at frame 7, joint 16 \(r_wrist\)"),
        ("joints_3d_camera_mm", (7, 16, 2), -1.0, r"behind the camera cam at frame 7, joint 16 \(r_wrist\)"),
    ],
)
def test_what_is_wrong_is_named_by_frame_and_joint(track, name: str, at: tuple[int, ...], value: float, message: str) -> None:
    good = track()
    check_track(good)
    with pytest.raises(BadFile, match=message):
        check_track(replace(good, **{name: spoiled(getattr(good, name), at, value)}))


def test_a_frame_without_a_label_may_lie_behind_the_camera(track) -> None:
    good = track()
    behind = replace(good, joints_3d_camera_mm=spoiled(good.joints_3d_camera_mm, (7, 16, 2), -1.0))
    check_track(replace(behind, valid=np.arange(40) != 7))
    with pytest.raises(BadFile, match="behind"):
        check_track(replace(behind, valid=np.arange(40) != 8))


def test_depth_without_a_camera_is_nobodys(track) -> None:
    good = track()
    check_track(replace(good, camera=None, joints_3d_camera_mm=good.joints_3d_camera_mm - 1e5))


def test_frames_and_shapes(track) -> None:
    good = track()
    with pytest.raises(BadFile, match="frames differ: joints_2d_px has 39, joints_3d_camera_mm has 40"):
        check_track(replace(good, joints_2d_px=good.joints_2d_px[1:]))
    with pytest.raises(BadFile, match=r"confidence has shape \(40, 16\), not \(frames, 17\)"):
        check_track(replace(good, confidence=np.ones((40, 16), np.float32)))
    with pytest.raises(BadFile, match=r"joints_2d_px has shape \(0, 17, 2\)"):
        check_track(replace(good, joints_2d_px=good.joints_2d_px[:0], joints_3d_camera_mm=None))


@pytest.mark.parametrize("unit", [0.0, -1.0, np.nan])
def test_a_unit_without_length_is_none(track, unit: float) -> None:
    units = np.full(40, 900, np.float32)
    check_track(replace(track(), mm_per_unit=units))
    with pytest.raises(BadFile, match=r"mm_per_unit is not (above 0|finite) at frame 6"):
        check_track(replace(track(), mm_per_unit=spoiled(units, (6,), unit)))


def test_confidence_of_another_scale_is_refused(track) -> None:
    shares = np.full((40, 17), 0.5, np.float32)
    check_track(replace(track(), confidence=spoiled(shares, (6, 3), 1.2)))
    with pytest.raises(BadFile, match=r"confidence is 80 at frame 6, joint 3 \(r_ankle\), not 0 to 1"):
        check_track(replace(track(), confidence=spoiled(shares, (6, 3), 80.0)))


def test_an_exact_2d_is_measured(track) -> None:
    good = track(ground_truth_2d=True)
    assert largest_2d_error(good, "a/walk") == pytest.approx(0, abs=1e-3)
    moved = replace(good, joints_2d_px=good.joints_2d_px + np.float32([0.6, 0.0]))
    assert largest_2d_error(moved, "a/walk") == pytest.approx(0.6, abs=1e-3)
    assert largest_2d_error(replace(moved, ground_truth_2d=False), "a/walk") is None


@pytest.mark.parametrize("wrong", ["unit", "camera", "skeleton", "one joint"])
def test_an_exact_2d_that_is_not(track, wrong: str) -> None:
    good = track(ground_truth_2d=True)
    if wrong == "unit":
        bad = replace(good, joints_3d_camera_mm=good.joints_3d_camera_mm - [100.0, 0, 0])
    elif wrong == "camera":
        bad = replace(good, camera=replace(good.camera, center_px=(512.0, 390.0)))
    elif wrong == "skeleton":
        bad = replace(good, joints_2d_px=good.joints_2d_px[:, ::-1])
    else:
        bad = replace(good, joints_2d_px=spoiled(good.joints_2d_px, (20, 5, 1), 0.0))
    with pytest.raises(DataError, match=r"a/walk/cam.*px from the projection.*at most 1 px.*another skeleton, unit or camera"):
        largest_2d_error(bad, "a/walk")
    if wrong == "one joint":
        assert largest_2d_error(replace(bad, valid=np.arange(40) != 20), "a/walk") == pytest.approx(0, abs=1e-3)


def test_a_digest_is_of_names_shapes_and_bits() -> None:
    one = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.uint8)}
    others = [{"a": one["a"]}, one | {"a": one["a"].T}, one | {"a": one["a"] - 0.0 + 1e-30}, {"a": one["a"], "c": one["b"]}]
    assert sha256_of(one) == sha256_of(dict(reversed(one.items())))
    assert len({sha256_of(one), *map(sha256_of, others)}) == 5
