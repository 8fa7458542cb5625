"""Which frames make up a clip, and which clips cover a track."""

import numpy as np
from jaxtyping import Int64


def clip_frames(start: int, *, num_frames: int, frame_stride: int) -> Int64[np.ndarray, " frame"]:
    """Frames of the clip that begins at `start`; some may lie beyond the end of its track."""
    return start + frame_stride * np.arange(num_frames)


def windows(num_frames_of_track: int, *, num_frames: int, frame_stride: int) -> Int64[np.ndarray, "window frame"]:
    """Frames of the clips that together hold every frame of a track.

    Each phase of the stride has its own clips. The last one of a phase is moved back so that it ends where the phase ends; a phase that
    is shorter than a clip repeats its last frame.

    Args:
        num_frames_of_track: At least 1.
        num_frames: Frames of a clip, at least 1.
        frame_stride: Every how manieth frame is taken, at least 1.
    """
    found = []
    for phase in range(min(frame_stride, num_frames_of_track)):
        count = -(-(num_frames_of_track - phase) // frame_stride)
        starts = np.minimum(np.arange(0, count, num_frames), max(count - num_frames, 0))
        places = np.minimum(starts[:, None] + np.arange(num_frames), count - 1)
        found.append(phase + frame_stride * places)
    return np.concatenate(found)


def training_starts(num_frames_of_track: int, *, num_frames: int, frame_stride: int, clip_stride: int) -> Int64[np.ndarray, " clip"]:
    """First frames of the clips to train on: every `clip_stride` frames, and one that ends at the end where these leave frames over.

    A track that is shorter than a clip has one, from its first frame.
    """
    last = max(num_frames_of_track - (num_frames - 1) * frame_stride - 1, 0)
    starts = np.arange(0, last + 1, clip_stride)
    return starts if starts[-1] == last else np.append(starts, last)


def scored_starts(num_frames_of_track: int, *, num_frames: int, frame_stride: int) -> Int64[np.ndarray, " clip"]:
    """First frames of clips that hold every frame of a track once; the last of each phase of the stride may go beyond the end."""
    phases = np.arange(min(frame_stride, num_frames_of_track))
    starts = phases[:, None] + np.arange(0, num_frames_of_track, num_frames * frame_stride)
    return np.sort(starts[starts < num_frames_of_track])
