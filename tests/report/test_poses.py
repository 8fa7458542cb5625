"""The poses' part of the page: what is packed is what was given, and arrays that don't fit are refused."""

import base64
import gzip
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pose_sample import clip, clips, flat_player, player, walker

from triform.errors import DataError
from triform.geometry.skeletons import H36M_17
from triform.report.page import embedded_json, render_report
from triform.report.panels import PoseClip, PoseClips, Report
from triform.report.pose_geometry import UP, bone_sides, clip_frame, flat_box, frame_errors, strip_frames, upright
from triform.report.poses import MISSING, poses_fragment


def packed(panel: PoseClips) -> dict[str, Any]:
    """The script's data of the panel."""
    ((kind, data),) = poses_fragment(panel).data
    assert kind == "poses"
    return data


def unpacked(data: dict[str, Any], axes: tuple[int, ...]) -> list[np.ndarray]:
    """Parts of the first clip, as the script reads them: 16-bit numbers, 65535 for none."""
    first, parts = data["clips"][0], []
    content = np.frombuffer(gzip.decompress(base64.b64decode(first["packed"])), dtype=np.uint8)
    for width in axes:
        count = first["frames"] * data["joints"] * width
        steps = content[: 2 * count].view("<u2").reshape(first["frames"], data["joints"], width)
        parts.append(np.cumsum(steps, axis=0, dtype=np.uint16).astype(np.float64))
        content = content[2 * count :]
    return [*parts, content]


def test_packed_joints_come_back() -> None:
    shown = clip("one", frames=20)
    shown.prediction[3, 5] = np.nan
    panel = clips(shown)
    data = packed(panel)
    first = data["clips"][0]
    truth, prediction, flat, hidden = unpacked(data, (3, 3, 2))
    frame = clip_frame(shown, panel.up)
    for part, levels in ((shown.truth, truth), (shown.prediction, prediction)):
        places = np.where(levels == MISSING, np.nan, first["low"] + levels / (MISSING - 1) * first["span"])
        np.testing.assert_allclose(places, upright(part, panel.up) - frame.center, atol=first["span"] / 100_000)
    left, top, side = flat_box(shown)
    np.testing.assert_allclose((3 * flat / (MISSING - 1) - 1) * side + (left, top), shown.input_2d, atol=side / 10_000)
    np.testing.assert_array_equal(hidden.reshape(20, 17), shown.hidden)
    assert np.isnan(prediction[prediction == MISSING]).sum() == 0
    assert (prediction == MISSING).sum() == 3


def test_differences_keep_a_clip_small() -> None:
    """81 frames: 17 joints, two in 3D and one in 2D, are 22 kB of numbers."""
    data = packed(clips(clip("one", frames=81)))
    assert len(data["clips"][0]["packed"]) < 22_000


def test_a_stray_prediction_does_not_coarsen_the_others() -> None:
    shown = clip("one", frames=5)
    before = packed(clips(shown))["clips"][0]["span"]
    shown.prediction[2, 3] = 1e9
    assert packed(clips(shown))["clips"][0]["span"] < 8 * before


@given(up=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda up: np.linalg.norm(up) > 0.1))
def test_upright_turns_and_keeps_lengths(up: tuple[float, float, float]) -> None:
    points = np.random.default_rng(0).normal(size=(5, 3))
    turned = upright(points, up)
    np.testing.assert_allclose(turned @ turned.T, points @ points.T, atol=1e-9)
    assert np.linalg.det(upright(np.eye(3), up)) == pytest.approx(1)
    np.testing.assert_allclose(upright(np.array(up), up), [0, 0, np.linalg.norm(up)], atol=1e-9)


def test_a_camera_looks_at_the_person_along_the_first_axis() -> None:
    """x right, y down, z away becomes y right, -z down, -x away."""
    np.testing.assert_allclose(upright(np.eye(3), (0, -1, 0)), [[0, 1, 0], [0, 0, -1], [-1, 0, 0]], atol=1e-12)
    standing = upright(walker(1)[0], (0, -1, 0))
    assert standing[10, UP] > standing[8, UP] > standing[0, UP] > standing[2, UP] > standing[3, UP]


def test_bones_know_their_side() -> None:
    panel = player()
    sides = {joint: side for joint, _, side in bone_sides(panel)}
    assert len(sides) == 16
    assert [H36M_17.joints[joint] for joint, side in sides.items() if side == 1] == [H36M_17.joints[joint] for joint in H36M_17.left]
    assert {joint for joint, side in sides.items() if side == 2} == set(H36M_17.right)


def test_errors_are_mean_distances_of_joints_that_have_one() -> None:
    truth = np.zeros((3, 2, 3), dtype=np.float32)
    prediction = truth.copy()
    prediction[0] = [[3, 4, 0], [0, 0, 1]]
    prediction[1, 0], prediction[2] = np.nan, np.nan
    shown = PoseClip("a", "", truth, prediction, None, None, 25.0)
    np.testing.assert_array_equal(frame_errors(shown), [3.0, 0.0, np.nan])
    assert frame_errors(replace(shown, truth=None)) is None


@pytest.mark.parametrize(("length", "count", "expected"), [(1, 5, [0]), (3, 5, [0, 1, 2]), (81, 5, [0, 20, 40, 60, 80]), (10, 2, [0, 9])])
def test_a_strip_has_first_and_last_frame(length: int, count: int, expected: list[int]) -> None:
    assert strip_frames(length, count).tolist() == expected


def test_the_page_has_strip_input_timeline_and_controls() -> None:
    html = poses_fragment(player()).html
    assert (
        html.count('<svg class="strip"') == html.count('<svg class="flat"') == html.count('class="timeline"') == html.count("<canvas") == 4
    )
    assert html.count('<g class="truth">') == html.count('<g class="prediction">') == 20
    assert '<input type="range" min="0" max="80"' in html
    assert "9 of 81 frames hidden" in html
    for label in ("prediction, slim", "truth, broad and pale", "left side", "right side", "joint not seen"):
        assert label in html


def test_the_slider_counts_frames_of_the_quickest_clip() -> None:
    """20 frames at 25 a second are as long as 40 at 50."""
    panel = clips(clip("slow", frames=20, rate=25.0), clip("quick", frames=30, rate=50.0))
    assert 'max="39"' in poses_fragment(panel).html


def test_without_3d_there_is_no_canvas() -> None:
    html = poses_fragment(flat_player()).html
    assert "<canvas" not in html
    assert "prediction, slim" not in html
    assert "Drag to turn" not in html
    assert html.count('<g class="prediction">') == 5


def test_truth_alone_and_prediction_alone_are_shown() -> None:
    whole = clip("a", frames=4)
    for name, other in (("truth", "prediction"), ("prediction", "truth")):
        shown = replace(whole, **{other: None, "input_2d": None, "hidden": None})
        html = poses_fragment(clips(shown)).html
        assert f'<g class="{name}">' in html
        assert f'<g class="{other}">' not in html
        assert '<div class="timeline' not in html


def test_joints_without_a_place_are_not_drawn() -> None:
    whole = clip("a", frames=2)
    for part in (whole.truth, whole.prediction, whole.input_2d):
        part[:, 3] = np.nan
    html = poses_fragment(clips(whole)).html
    assert "nan" not in html.lower()
    embedded_json(packed(clips(whole)))
    whole.truth[:], whole.prediction[:], whole.input_2d[:] = np.nan, np.nan, np.nan
    page = render_report(Report("t", "", (), (clips(whole),), ""))
    assert not re.search(r'd="[^"]*nan', page)


@pytest.mark.parametrize(
    "changes",
    [
        {"truth": np.zeros((4, 16, 3), np.float32)},
        {"truth": np.zeros((4, 17, 3), np.float32)},
        {"input_2d": np.zeros((5, 17, 3), np.float32)},
        {"hidden": np.zeros((5, 3), bool)},
        {"input_2d": None},
        {"frame_rate": 0.0},
        {"truth": None, "prediction": None, "input_2d": None, "hidden": None},
    ],
)
def test_a_clip_whose_arrays_do_not_fit_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="'walker'"):
        poses_fragment(clips(replace(clip("walker", frames=5), **changes)))


@pytest.mark.parametrize(
    "changes", [{"parents": (-1, *range(16), 3)}, {"left": (1,)}, {"parents": (-1, 99, *range(1, 16))}, {"up": (0, 0, 0)}]
)
def test_a_skeleton_that_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        poses_fragment(clips(clip("walker", frames=5), **changes))
