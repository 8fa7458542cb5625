import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform.data.poses.resample import interpolate, places, resampled


def test_places_by_hand() -> None:
    np.testing.assert_allclose(places(5, from_rate=60, to_rate=40), [0, 1.5, 3])
    np.testing.assert_allclose(places(3, from_rate=25, to_rate=50), [0, 0.5, 1, 1.5, 2])
    np.testing.assert_allclose(places(1, from_rate=25, to_rate=50), [0])


@given(st.integers(1, 500), st.floats(5, 200), st.floats(5, 200))
def test_places_stay_inside_and_reach_the_end(num_frames: int, from_rate: float, to_rate: float) -> None:
    found = places(num_frames, from_rate=from_rate, to_rate=to_rate)
    assert found[0] == 0
    assert found[-1] <= num_frames - 1 + 1e-6
    assert found[-1] > num_frames - 1 - from_rate / to_rate - 1e-6


def test_straight_lines_by_hand() -> None:
    values = np.array([[0.0, 10], [4, 20], [8, 40]], np.float32)
    found = interpolate(values, np.array([0, 0.25, 1.5, 2]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0, 10], [1, 12.5], [6, 30], [8, 40]])


def test_half_the_rate_copies_every_other_frame(track) -> None:
    raw = track(num_frames=7, confidence=np.random.default_rng(0).random((7, 17), np.float32))
    found = resampled(raw, 25.0)
    assert found.frame_rate == 25
    for name in ("joints_2d_px", "joints_3d_camera_mm", "confidence"):
        np.testing.assert_array_equal(getattr(found, name), getattr(raw, name)[::2])


def test_a_frame_is_valid_where_all_it_is_made_of_is(track) -> None:
    raw = track(num_frames=4, valid=np.array([True, True, False, True]))
    assert resampled(raw, 100.0).valid.tolist() == [True, True, True, False, False, False, True]


def test_a_joint_is_seen_where_it_is_in_all_it_is_made_of(track) -> None:
    confidence = np.full((4, 17), 0.5, np.float32)
    confidence[2, 3] = 0
    found = resampled(track(num_frames=4, confidence=confidence), 100.0).confidence
    assert found[:, 3].tolist() == [0.5, 0.5, 0.5, 0, 0, 0, 0.5]
    assert (np.delete(found, 3, axis=1) == 0.5).all()


@pytest.mark.parametrize("rate", [0.0, 50.0])
def test_as_it_is(track, rate: float) -> None:
    raw = track()
    assert resampled(raw, rate) is raw
