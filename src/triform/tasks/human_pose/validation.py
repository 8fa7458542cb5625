"""What picks the best model: the clips of val as they are, without flip averaging."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numpy.typing import NDArray

from triform.data.poses.poses import Frames, Poses
from triform.data.poses.windows import clip_frames
from triform.errors import DataError, Diverged
from triform.tasks.human_pose.averaging import averaged
from triform.tasks.human_pose.inference import inputs, predicted_3d
from triform.tasks.human_pose.metrics import METRICS, totals
from triform.training.task import Predict

if TYPE_CHECKING:
    from triform.tasks.human_pose.pretraining import PretrainingTask

REPORTED = {"mpjpe": "mpjpe_mm", "p_mpjpe": "p_mpjpe_mm", "n_mpjpe": "n_mpjpe_mm", "mpjve": "mpjve_mm_frame"}
"""Names in the metrics log, and in METRICS."""


def validation_lifting(poses: Poses, predict: Predict, *, batch_size: int) -> dict[str, float]:
    """Return mpjpe, p_mpjpe, n_mpjpe (mm) and mpjve (mm from one frame of a clip to its next), averaged as `poses.average` says.

    A number without frames, such as the velocity of clips of one frame, is left out.

    Raises: Diverged: a prediction is not finite. DataError: no clip has 3D.
    """
    clips = labelled_clips(poses)
    sums = np.zeros((len(clips), len(METRICS), 2))
    for first in range(0, len(clips), batch_size):
        chosen = [read_clip(poses, clip) for clip in clips[first : first + batch_size].tolist()]
        stacked = np.stack([_seen(frames) for frames, _ in chosen])
        found = predicted_3d(predict, inputs(stacked, np.stack([padded for _, padded in chosen])))
        sums[first : first + batch_size] = [
            _clip_totals(frames, padded, lifted) for (frames, padded), lifted in zip(chosen, found, strict=True)
        ]
    return _named(sums, actions_of(poses, clips), poses)


def validation_pretraining(task: "PretrainingTask", poses: Poses, predict: Predict, *, batch_size: int, seed: int) -> dict[str, float]:
    """Return reconstruction and hidden, the mean 2D distances (of an image 2 wide) of all joints that were detected and of those that
    were hidden; or mpjpe (mm) of what is lifted from corrupted 2D.

    Raises: Diverged: a prediction is not finite. DataError: no clip to measure on.
    """
    if task.config.objective.kind != "masked_autoencoder":
        return {"mpjpe": _denoising(task, poses, predict, batch_size=batch_size, seed=seed)["mpjpe"]}
    sums = np.zeros((2, 2))
    for _, masked in masked_clips(task, poses, predict, batch_size=batch_size, seed=seed):
        errors = masked.errors(masked.predicted)
        sums += [(errors[chosen].sum(), chosen.sum()) for chosen in (masked.known, masked.known & masked.hidden)]
    return {name: float(total / count) for name, (total, count) in zip(("reconstruction", "hidden"), sums, strict=True) if count}


@dataclass(frozen=True, slots=True, eq=False)
class MaskedClips:
    """Clips of which parts were hidden, and what was made of them."""

    target: Float32[np.ndarray, "clip frame 17 2"]
    predicted: Float32[np.ndarray, "clip frame 17 2"]
    known: Bool[np.ndarray, "clip frame 17"]
    """Joints that were detected, in frames that do not pad the clip."""
    hidden: Bool[np.ndarray, "clip frame 17"]
    """Joints that the network did not see, in hidden frames or in visible ones."""
    hidden_frames: Bool[np.ndarray, "clip frame"]

    def errors(self, predicted: Float32[np.ndarray, "clip frame 17 2"]) -> Float64[np.ndarray, "clip frame 17"]:
        """Distances in 2D, where the image is 2 wide."""
        return np.asarray(np.linalg.norm(predicted.astype(np.float64) - self.target, axis=-1))


def masked_clips(
    task: "PretrainingTask", poses: Poses, predict: Predict, *, batch_size: int, seed: int
) -> Iterator[tuple[Int64[np.ndarray, " clip"], MaskedClips]]:
    """Every clip with its fixed masks, `batch_size` at a time. Raises: Diverged: a prediction is not finite. DataError: no clip."""
    _some(len(poses.names))
    for first in range(0, len(poses.names), batch_size):
        indices = np.arange(first, min(first + batch_size, len(poses.names)))
        batch = task.batch(poses, indices, seed=seed, epoch=None)
        predicted = np.asarray(predict(batch)["joints_2d"], np.float32)
        if not np.isfinite(predicted).all():
            raise Diverged("A predicted joint is not finite", expected="finite numbers", do="lower --learning-rate or set --gradient-clip")
        yield indices, _masked(batch, predicted)


def _masked(batch: Any, predicted: NDArray[np.float32]) -> MaskedClips:
    target, seen = batch["target_2d"], batch["seen"] > 0
    hidden_frames = batch["restore"] == batch["visible"].shape[1]
    hidden = hidden_frames[..., None] | (batch["joint_mask"] > 0)
    known = seen[..., None] & (target[..., 2] > 0)
    return MaskedClips(target[..., :2], predicted, known, hidden, hidden_frames)


def denoised_clips(
    task: "PretrainingTask", poses: Poses, predict: Predict, *, batch_size: int, seed: int
) -> Iterator[tuple[Int64[np.ndarray, " clip"], Any, NDArray[np.float64], NDArray[np.float64]]]:
    """Clips with 3D, the batch that the network saw of them (fixed noise and masks), and predicted and true root-relative joints (mm);
    what several cameras agree on is known of every clip.

    Raises: Diverged: a prediction is not finite. DataError: no clip has 3D.
    """
    clips = labelled_clips(poses) if task.config.objective.kind == "denoising" else np.arange(len(poses.names))
    _some(len(clips))
    for first in range(0, len(clips), batch_size):
        indices = clips[first : first + batch_size]
        batch = task.batch(poses, indices, seed=seed, epoch=None)
        unit = np.stack([read_clip(poses, clip)[0].mm_per_unit for clip in indices.tolist()])[..., None, None].astype(np.float64)
        yield indices, batch, predicted_3d(predict, batch) * unit, np.asarray(batch["joints_3d"], np.float64) * unit


def _denoising(task: "PretrainingTask", poses: Poses, predict: Predict, *, batch_size: int, seed: int) -> dict[str, float]:
    found, rows = [], []
    for indices, batch, predicted, true in denoised_clips(task, poses, predict, batch_size=batch_size, seed=seed):
        rows.append(indices)
        found += [
            totals(one, other, weight > 0, frame_rate=1.0) for one, other, weight in zip(predicted, true, batch["weight"], strict=True)
        ]
    return _named(np.stack(found), actions_of(poses, np.concatenate(rows)), poses)


def labelled_clips(poses: Poses) -> Int64[np.ndarray, " clip"]:
    """Clips that have 3D. Raises: DataError: there is none."""
    clips = np.flatnonzero(poses.labelled)
    _some(len(clips))
    return clips


def actions_of(poses: Poses, clips: Int64[np.ndarray, " clip"]) -> tuple[str, ...]:
    """The action of each clip."""
    return tuple(poses.tracks[track].action for track in poses.clip_track[clips].tolist())


def read_clip(poses: Poses, clip: int) -> tuple[Frames, Bool[np.ndarray, " frame"]]:
    """A clip's frames, and which of them only fill it up, because its track ends before."""
    track = int(poses.clip_track[clip])
    places = clip_frames(int(poses.clip_start[clip]), num_frames=poses.num_frames, frame_stride=poses.frame_stride)
    last = poses.tracks[track].num_frames - 1
    return poses.read(track, np.minimum(places, last)), places > last


def _seen(frames: Frames) -> NDArray[np.float32]:
    return np.concatenate([frames.joints_2d, frames.confidence[..., None]], axis=-1, dtype=np.float32)


def _clip_totals(frames: Frames, padded: NDArray[np.bool_], lifted: NDArray[np.float32]) -> NDArray[np.float64]:
    assert frames.joints_3d_mm is not None, "a labelled clip has 3D"
    predicted = lifted.astype(np.float64) * frames.mm_per_unit[:, None, None]
    return totals(predicted, frames.joints_3d_mm, frames.valid & ~padded, frame_rate=1.0)


def _named(sums: NDArray[np.float64], actions: tuple[str, ...], poses: Poses) -> dict[str, float]:
    values = dict(zip(METRICS, averaged(sums, actions, poses.average).tolist(), strict=True))
    return {name: values[metric] for name, metric in REPORTED.items() if np.isfinite(values[metric])}


def _some(count: int) -> None:
    if not count:
        raise DataError(
            "There is no clip to measure a model on",
            expected="clips in val, with 3D where poses are lifted",
            do="prepare data with such a split",
        )
