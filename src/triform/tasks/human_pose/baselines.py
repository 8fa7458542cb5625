"""What a network has to beat in lifting: one pose for everything, and ridge regression from the same frames of 2D."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from triform.data.poses.poses import Poses
from triform.errors import DataError
from triform.tasks.human_pose.metrics import joint_errors, rooted

PENALTIES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Tried on val, in units of the features' mean variance."""
MOST_FRAMES = 81
"""Frames that the regression sees of a window: from longer ones as many, evenly spaced."""
MOST_SAMPLES = 100_000
_BLOCK = 4096
_SMALLEST_SIZE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What the regression sees of the frames around one."""

    offsets: Int64[np.ndarray, " seen"]
    """Frames that are seen, relative to the middle."""
    centred: bool
    """Whether 2D is relative to the middle of each frame's joints, in units of the person's size in the window."""

    def rows(
        self, joints_2d: Float[np.ndarray, "frame 17 axis"], middles: Int64[np.ndarray, " middle"]
    ) -> Float64[np.ndarray, "middle feature"]:
        """Return x and y of the frames around each middle as one row, the first or last frame standing beyond the ends."""
        places = np.clip(middles[:, None] + self.offsets, 0, len(joints_2d) - 1)
        seen = np.asarray(joints_2d[places][..., :2], np.float64)
        if self.centred:
            seen = seen - seen.mean(2, keepdims=True)
            size = np.sqrt(np.square(seen).sum(-1).mean((1, 2)))
            seen = seen / np.maximum(size, _SMALLEST_SIZE)[:, None, None, None]
        return seen.reshape(len(middles), -1)


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """A linear map from a window of 2D to the root-relative pose (mm) of its middle frame."""

    window: Window
    feature_mean: Float64[np.ndarray, " feature"]
    pose_mean: Float64[np.ndarray, " value"]
    weights: Float64[np.ndarray, "feature value"]
    penalty: float

    def __call__(self, joints_2d: Float[np.ndarray, "frame 17 axis"]) -> Float32[np.ndarray, "frame 17 3"]:
        """Return the pose of every frame; x and y alone are looked at, and beyond the ends the first or last frame stands."""
        found = np.empty((len(joints_2d), 17, 3), np.float32)
        for first in range(0, len(joints_2d), _BLOCK):
            middles = np.arange(first, min(first + _BLOCK, len(joints_2d)))
            rows = self.window.rows(joints_2d, middles) - self.feature_mean
            found[middles] = (rows @ self.weights + self.pose_mean).reshape(-1, 17, 3)
        return found


def constant_pose(train: Poses) -> Float32[np.ndarray, "17 3"]:
    """Return the mean root-relative pose (mm) of all frames with 3D. Raises: DataError: there is none."""
    total, count = np.zeros((17, 3)), 0
    for _, joints_mm, valid in _labelled(train):
        total += rooted(joints_mm[valid]).sum(0)
        count += int(valid.sum())
    if not count:
        raise _nothing_known()
    return np.asarray(total / count, np.float32)


def fit_ridge(train: Poses, val: Poses | None = None, *, centred: bool = False, most_samples: int = MOST_SAMPLES) -> Ridge:
    """Return ridge regression on the flattened 2D of a window around each frame, by its normal equations.

    They are summed up over blocks of frames. Of more than `most_samples` labelled frames every k-th is taken, evenly over all tracks:
    more would move the result less than its error. Windows are as long as the model's clips; of more than MOST_FRAMES frames, as many
    are seen, evenly spaced. `centred`: 2D relative to the middle of each frame's joints, in units of the person's size in the window, as
    the networks see it. The penalty is the one of PENALTIES whose MPJPE on val is least (without val, the second).

    Raises: DataError: no training frame has 3D.

    Source: Hoerl and Kennard, "Ridge regression" (Technometrics 12, 1970), eq. 2.1, on centred features.
    """
    from scipy.linalg import eigh

    window = Window(_offsets(train.num_frames, train.frame_stride), centred)
    feature_mean, pose_mean, gram, cross = _moments(train, window, most_samples=most_samples)
    values, vectors = eigh(gram)
    turned, unit = vectors.T @ cross, float(np.trace(gram)) / len(gram)
    # Where no feature varies (one frame, or all alike) any penalty gives weights of 0.
    smallest = np.finfo(float).tiny
    candidates = [
        Ridge(window, feature_mean, pose_mean, vectors @ (turned / (np.maximum(values, 0) + penalty * unit + smallest)[:, None]), penalty)
        for penalty in PENALTIES
    ]
    errors = np.zeros(len(candidates))
    for x, y in _samples(val, window, most_samples=most_samples // 5) if val is not None else ():
        errors += [_error(ridge, x, y) for ridge in candidates]
    return candidates[int(errors.argmin())] if errors.any() else candidates[1]


def _offsets(num_frames: int, frame_stride: int) -> Int64[np.ndarray, " seen"]:
    """Of a window, relative to its middle (the later one of two)."""
    all_of_them = np.arange(num_frames) - num_frames // 2
    chosen = np.unique(np.round(np.linspace(0, num_frames - 1, min(num_frames, MOST_FRAMES))).astype(np.int64))
    return np.asarray(all_of_them[chosen] * frame_stride, np.int64)


def _labelled(
    data: Poses,
) -> Iterator[tuple[Float32[np.ndarray, "frame 17 2"], Float32[np.ndarray, "frame 17 3"], Bool[np.ndarray, " frame"]]]:
    """2D, 3D and which of it is right, of every track that has 3D."""
    for number, track in enumerate(data.tracks):
        if track.labelled:
            frames = data.read(number, np.arange(track.num_frames))
            if frames.joints_3d_mm is not None:
                yield frames.joints_2d, frames.joints_3d_mm, frames.valid


def _samples(
    data: Poses, window: Window, *, most_samples: int
) -> Iterator[tuple[Float64[np.ndarray, "sample feature"], Float64[np.ndarray, "sample value"]]]:
    """Features and flattened root-relative poses in blocks, of every k-th frame counted through all tracks."""
    every = max(1, -(-sum(track.num_frames for track in data.tracks if track.labelled) // most_samples))
    passed = 0
    for joints_2d, joints_mm, valid in _labelled(data):
        middles = np.arange(-passed % every, len(valid), every)
        passed += len(valid)
        middles = middles[valid[middles]]
        for block in np.array_split(middles, range(_BLOCK, len(middles), _BLOCK)):
            if len(block):
                yield window.rows(joints_2d, block), rooted(joints_mm[block]).reshape(len(block), -1)


def _moments(
    data: Poses, window: Window, *, most_samples: int
) -> tuple[
    Float64[np.ndarray, " feature"],
    Float64[np.ndarray, " value"],
    Float64[np.ndarray, "feature feature"],
    Float64[np.ndarray, "feature value"],
]:
    """Means of features and poses, covariance of the features, and that of features with poses."""
    num_features = 34 * len(window.offsets)
    count, sum_x, sum_y = 0, np.zeros(num_features), np.zeros(51)
    gram, cross = np.zeros((num_features, num_features)), np.zeros((num_features, 51))
    for x, y in _samples(data, window, most_samples=most_samples):
        count, sum_x, sum_y = count + len(x), sum_x + x.sum(0), sum_y + y.sum(0)
        gram += x.T @ x
        cross += x.T @ y
    if not count:
        raise _nothing_known()
    mean_x, mean_y = sum_x / count, sum_y / count
    return mean_x, mean_y, gram / count - np.outer(mean_x, mean_x), cross / count - np.outer(mean_x, mean_y)


def _error(ridge: Ridge, x: Float64[np.ndarray, "sample feature"], y: Float64[np.ndarray, "sample value"]) -> float:
    """Sum over samples of the mean error of their joints (mm)."""
    predicted = (x - ridge.feature_mean) @ ridge.weights + ridge.pose_mean
    return float(joint_errors(predicted.reshape(-1, 17, 3), y.reshape(-1, 17, 3)).mean(1).sum())


def _nothing_known() -> DataError:
    return DataError("No training frame has 3D, so no baseline can be learned", expected="joints_3d_mm in some tracks", do="add 3D")


def interpolated(
    joints_2d: Float32[np.ndarray, "frame 17 2"], hidden: Bool[np.ndarray, "frame 17"], known: Bool[np.ndarray, "frame 17"]
) -> Float32[np.ndarray, "frame 17 2"]:
    """Return the clip with each hidden joint put on the straight line in time between the nearest frames that show it.

    Before the first and after the last of these it stays where it was seen; a joint that no frame shows goes to the mean of all that is
    seen of the clip. What is not hidden stays as it is.

    Args:
        known: joints that were detected; others are never looked at.
    """
    seen, found, times = known & ~hidden, joints_2d.copy(), np.arange(len(joints_2d))
    middle = joints_2d[seen].mean(0) if seen.any() else np.zeros(2)
    for joint in np.flatnonzero(hidden.any(0)):
        shown, wanted = np.flatnonzero(seen[:, joint]), hidden[:, joint]
        for axis in (0, 1):
            value = np.interp(times[wanted], shown, joints_2d[shown, joint, axis]) if len(shown) else middle[axis]
            found[wanted, joint, axis] = value
    return found
