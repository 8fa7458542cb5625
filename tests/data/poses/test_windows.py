import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform.data.poses.windows import clip_frames, scored_starts, training_starts, windows

lengths = st.integers(1, 300)
sizes = st.integers(1, 40)
strides = st.integers(1, 5)


@pytest.mark.parametrize(
    ("length", "num_frames", "stride", "wanted"),
    [
        (6, 3, 1, [[0, 1, 2], [3, 4, 5]]),
        (7, 3, 1, [[0, 1, 2], [3, 4, 5], [4, 5, 6]]),
        (2, 4, 1, [[0, 1, 1, 1]]),
        (7, 2, 2, [[0, 2], [4, 6], [1, 3], [3, 5]]),
        (1, 3, 2, [[0, 0, 0]]),
    ],
)
def test_windows_by_hand(length: int, num_frames: int, stride: int, wanted: list[list[int]]) -> None:
    assert windows(length, num_frames=num_frames, frame_stride=stride).tolist() == wanted


@given(lengths, sizes, strides)
def test_windows_hold_every_frame_at_the_stride(length: int, num_frames: int, stride: int) -> None:
    found = windows(length, num_frames=num_frames, frame_stride=stride)
    assert found.dtype == np.int64
    assert set(found.ravel()) == set(range(length))
    steps = np.diff(found, axis=1)
    if length >= num_frames * stride:
        assert (steps == stride).all()
    else:
        assert ((steps == stride) | (steps == 0)).all()


@given(lengths, sizes, strides)
def test_scored_clips_hold_every_frame_once(length: int, num_frames: int, stride: int) -> None:
    starts = scored_starts(length, num_frames=num_frames, frame_stride=stride)
    frames = np.concatenate([clip_frames(start, num_frames=num_frames, frame_stride=stride) for start in starts])
    assert sorted(frames[frames < length]) == list(range(length))
    assert (starts < length).all()


@given(lengths, sizes, strides, st.integers(1, 50))
def test_training_clips_stay_inside(length: int, num_frames: int, stride: int, clip_stride: int) -> None:
    starts = training_starts(length, num_frames=num_frames, frame_stride=stride, clip_stride=clip_stride)
    last_frames = starts + (num_frames - 1) * stride
    assert starts[0] == 0
    assert len(starts) == 1 or (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= clip_stride).all()
    assert last_frames[-1] == max(length - 1, (num_frames - 1) * stride)


def test_training_clips_by_hand() -> None:
    assert training_starts(10, num_frames=3, frame_stride=2, clip_stride=2).tolist() == [0, 2, 4, 5]
    assert training_starts(9, num_frames=3, frame_stride=2, clip_stride=2).tolist() == [0, 2, 4]
    assert training_starts(4, num_frames=3, frame_stride=2, clip_stride=2).tolist() == [0]
