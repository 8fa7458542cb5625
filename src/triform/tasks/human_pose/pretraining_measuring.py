"""Measures what pretraining learned, with masks and noise that are the same every time."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy.typing import NDArray

from triform.data.poses.poses import Poses
from triform.errors import DataError
from triform.tasks.human_pose.averaging import mean
from triform.tasks.human_pose.baselines import constant_pose, interpolated
from triform.tasks.human_pose.metrics import METRICS, totals
from triform.tasks.human_pose.pretraining_evaluation import MASKED_METRICS, PARTS, ClipSums, PretrainingEvaluation, PretrainingExhibit
from triform.tasks.human_pose.validation import MaskedClips, actions_of, denoised_clips, masked_clips, read_clip
from triform.training.task import Predict

if TYPE_CHECKING:
    from triform.tasks.human_pose.pretraining import PretrainingTask

MOST_CLIPS = 300
"""Give the mean pose on which cameras agree."""
Say = Callable[[str], None]
Measured = tuple[Int64[np.ndarray, " clip"], dict[str, Float64[np.ndarray, "clip metric 2"]], list[PretrainingExhibit]]
"""Some clips, their sums by who, and as exhibits."""


def evaluate(
    task: "PretrainingTask", splits: Mapping[str, Poses], predict: Predict, *, batch_size: int, seed: int, say: Say = lambda _: None
) -> PretrainingEvaluation:
    """Measure the model beside interpolation in time, or beside the constant pose, on val and test.

    Args:
        splits: `train`, whose mean pose is the constant one, and val or test, or both.
        predict: batch to {"joints_2d"} of the masked autoencoder, or to {"joints_3d"}.
        seed: keys masks and noise, together with the clip's number.

    Raises: Diverged: a prediction is not finite. DataError: no clip to measure on.
    """
    objective = task.config.objective.kind
    masked = objective == "masked_autoencoder"
    measured = {
        name: splits[name]
        for name in ("val", "test")
        if name in splits and (splits[name].labelled.any() if objective == "denoising" else splits[name].names)
    }
    if not measured:
        raise DataError("There is no clip to measure a model on", expected="clips in val or test", do="prepare data with such a split")
    constant = None
    if not masked:
        constant = constant_pose(splits["train"]) if objective == "denoising" else _agreed_mean(task, splits["train"], seed=seed)
    found, exhibits = {}, {}
    for name, data in measured.items():
        say(f"{name}: {len(data.names)} clips")
        batches = (
            _masked(task, data, predict, batch_size=batch_size, seed=seed)
            if constant is None
            else _denoised(task, data, predict, constant, batch_size=batch_size, seed=seed)
        )
        found[name], exhibits[name] = _collected(data, batches)
    return PretrainingEvaluation(
        objective=objective,
        protocol=_protocol(objective, splits["train"].protocol),
        average="frame" if masked else splits["train"].average,
        metrics=MASKED_METRICS if masked else tuple(METRICS),
        splits=found,
        exhibits=exhibits["test" if "test" in measured else "val"],
    )


def _protocol(objective: str, protocol: str) -> str:
    """The data set's, but for how it averages 3D, where none is, and for what is taken for true."""
    if objective == "masked_autoencoder":
        return f"{re.sub('[;,] mean over [^;,]*$', '', protocol)}; mean over all joints of all clips"
    return protocol if objective == "denoising" else f"{protocol}; against the 3D on which the cameras agree"


def _agreed_mean(task: "PretrainingTask", train: Poses, *, seed: int) -> Float32[np.ndarray, "17 3"]:
    """The mean pose (mm) of clips evenly spaced over all, as the cameras agree on it: no given 3D is looked at."""
    clips = np.unique(np.linspace(0, len(train.names) - 1, MOST_CLIPS).astype(np.int64))
    total, count = np.zeros((17, 3)), 0.0
    for clip in clips:
        batch = task.batch(train, clip[None], seed=seed, epoch=None)
        weight = batch["weight"][0] * read_clip(train, int(clip))[0].mm_per_unit
        total += np.tensordot(weight, batch["joints_3d"][0], 1)
        count += float(batch["weight"].sum())
    if not count:
        raise DataError("The cameras agree on no pose", expected="the same person in all views", do="look at the 2D that was prepared")
    return np.asarray(total / count, np.float32)


def _collected(data: Poses, batches: Iterator[Measured]) -> tuple[ClipSums, tuple[PretrainingExhibit, ...]]:
    """All clips; and as exhibits the best and the worst of them, and the one in the middle of its batch that is nearest to the median."""
    clips, sums, kept = [], [], list[PretrainingExhibit]()
    for indices, measured, exhibits in batches:
        clips.append(indices)
        sums.append(measured)
        kept += _extremes(exhibits)
    every = np.concatenate(clips)
    told = {who: np.concatenate([part[who] for part in sums]) for who in sums[0]}
    names = tuple(data.names[clip] for clip in every.tolist())
    return ClipSums(names, actions_of(data, every), told), _ranked(kept, mean(told["model"])[:, 0])


def _extremes(exhibits: list[PretrainingExhibit]) -> list[PretrainingExhibit]:
    """Best, middling and worst, so that few are kept at a time."""
    order = sorted((one for one in exhibits if np.isfinite(one.error)), key=lambda one: one.error)
    return [order[0], order[len(order) // 2], order[-1]] if order else []


def _ranked(kept: list[PretrainingExhibit], errors: Float64[np.ndarray, " clip"]) -> tuple[PretrainingExhibit, ...]:
    if not kept:
        return ()
    median = float(np.nanmedian(errors))
    wanted = {
        "best": min(kept, key=lambda one: one.error),
        "median": min(kept, key=lambda one: abs(one.error - median)),
        "worst": max(kept, key=lambda one: one.error),
    }
    found: dict[str, PretrainingExhibit] = {}
    for rank, one in wanted.items():
        found.setdefault(one.name, replace(one, rank=rank))
    return tuple(found.values())


def _masked(task: "PretrainingTask", data: Poses, predict: Predict, *, batch_size: int, seed: int) -> Iterator[Measured]:
    for indices, clips in masked_clips(task, data, predict, batch_size=batch_size, seed=seed):
        filled = np.stack([interpolated(*one) for one in zip(clips.target, clips.hidden, clips.known, strict=True)])
        half_width = np.array([data.tracks[track].size_px[0] / 2 for track in data.clip_track[indices].tolist()])
        sums = {who: _parts(clips, found, half_width) for who, found in {"model": clips.predicted, "interpolation": filled}.items()}
        errors = mean(sums["model"])[:, 0]
        yield indices, sums, [_masked_exhibit(data, clip, clips, row, errors[row]) for row, clip in enumerate(indices.tolist())]


def _parts(clips: MaskedClips, found: NDArray[np.float32], half_width: NDArray[np.float64]) -> Float64[np.ndarray, "clip metric 2"]:
    """Sums and counts of MASKED_METRICS."""
    in_hidden_frames = np.broadcast_to(clips.hidden_frames[..., None], clips.hidden.shape)
    masks = (clips.hidden, in_hidden_frames, clips.hidden & ~in_hidden_frames, ~clips.hidden, np.ones_like(clips.hidden))
    errors = clips.errors(found)
    chosen = np.stack([clips.known & mask for mask in masks], axis=1)
    assert len(masks) == len(PARTS)
    counts = chosen.sum((2, 3)).astype(np.float64)
    plain = np.where(chosen, errors[:, None], 0.0).sum((2, 3))
    pixels = plain * half_width[:, None]
    return np.stack([np.concatenate([plain, pixels], axis=1), np.concatenate([counts, counts], axis=1)], axis=-1)


def _masked_exhibit(data: Poses, clip: int, clips: MaskedClips, row: int, error: float) -> PretrainingExhibit:
    unknown = ~clips.known[row][..., None]
    truth, prediction = (np.where(unknown, np.nan, part[row]).astype(np.float32) for part in (clips.target, clips.predicted))
    rate = data.tracks[int(data.clip_track[clip])].frame_rate / data.frame_stride
    # Copies, because views would keep every batch in memory.
    input_2d, hidden = clips.target[row].copy(), clips.hidden[row].copy()
    return PretrainingExhibit(data.names[clip], "", float(error), input_2d, hidden, truth, prediction, rate)


def _denoised(
    task: "PretrainingTask", data: Poses, predict: Predict, constant: NDArray[np.float32], *, batch_size: int, seed: int
) -> Iterator[Measured]:
    for indices, batch, predicted, true in denoised_clips(task, data, predict, batch_size=batch_size, seed=seed):
        weight, rates = batch["weight"] > 0, [data.tracks[track].frame_rate for track in data.clip_track[indices].tolist()]
        sums = {"model": _clip_sums(data, predicted, true, weight, rates), "constant": _clip_sums(data, constant, true, weight, rates)}
        errors = mean(sums["model"])[:, 0]
        rows = zip(indices.tolist(), errors.tolist(), strict=True)
        yield (
            indices,
            sums,
            [_denoised_exhibit(data, clip, batch, row, error, predicted[row], true[row]) for row, (clip, error) in enumerate(rows)],
        )


def _clip_sums(
    data: Poses, found: NDArray[Any], true: NDArray[np.float64], weight: NDArray[np.bool_], rates: list[float]
) -> Float64[np.ndarray, "clip metric 2"]:
    """Sums and counts of METRICS."""
    clips = zip(np.broadcast_to(found, true.shape), true, weight, rates, strict=True)
    return np.stack([totals(one, other, known, frame_rate=rate / data.frame_stride) for one, other, known, rate in clips])


def _denoised_exhibit(
    data: Poses, clip: int, batch: Any, row: int, error: float, predicted: NDArray[np.float64], true: NDArray[np.float64]
) -> PretrainingExhibit:
    known = batch["weight"][row][:, None, None] > 0
    truth, seen = np.where(known, true, np.nan).astype(np.float32), batch["joints_2d"][row]
    rate = data.tracks[int(data.clip_track[clip])].frame_rate / data.frame_stride
    hidden = ~seen.any(-1)
    joints_2d = np.where(hidden[..., None], batch["target_2d"][row][..., :2], seen[..., :2]).astype(np.float32)
    return PretrainingExhibit(data.names[clip], "", error, joints_2d, hidden, truth, predicted.astype(np.float32), rate)
