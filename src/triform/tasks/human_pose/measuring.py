"""Measures a model on the splits that are not trained on: every track, and every baseline through the same code."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import NDArray

from triform.data.poses.poses import Frames, Poses
from triform.data.poses.windows import windows
from triform.errors import DataError
from triform.tasks.human_pose.averaging import mean
from triform.tasks.human_pose.baselines import Ridge, constant_pose, fit_ridge
from triform.tasks.human_pose.config import PoseLifting
from triform.tasks.human_pose.evaluation import WHO, Evaluation, Exhibit, SplitEvaluation
from triform.tasks.human_pose.inference import flip_average, inputs, lift, mirrored, padding
from triform.tasks.human_pose.metrics import joint_errors, rooted, totals
from triform.training.task import Predict

if TYPE_CHECKING:
    from triform.tasks.human_pose.pretraining import PretrainingTask
    from triform.tasks.human_pose.pretraining_evaluation import PretrainingEvaluation

Say = Callable[[str], None]
Attention = Callable[[NDArray[np.float32]], Mapping[str, NDArray[Any]]]
"""Clips (clip, frame, 17, 3) to each layer's attention, (..., row, column), by name."""
MOST_SHOWN = 120
"""Frames of an exhibit."""
MOST_MAPS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Lifter:
    """All who lift the tracks of one split."""

    predict: Predict
    num_frames: int
    frame_stride: int
    batch_size: int
    ridge: Ridge
    ridge_centred: Ridge
    constant: Float32[np.ndarray, "17 3"]

    def plain(self, joints_2d: Float32[np.ndarray, "frame 17 3"]) -> Float32[np.ndarray, "frame 17 3"]:
        """Return the model's prediction, in the network's unit."""
        cut = {"num_frames": self.num_frames, "frame_stride": self.frame_stride, "batch_size": self.batch_size}
        return lift(self.predict, joints_2d, **cut, flip=False)

    def __call__(self, joints_2d: Float32[np.ndarray, "frame 17 3"], unit: Float64[np.ndarray, "frame 1 1"]) -> dict[str, NDArray[Any]]:
        """Return the poses (mm) by who lifts, one at a time in the order of WHO."""
        plain = self.plain(joints_2d)
        both = flip_average(plain, self.plain(mirrored(joints_2d)))
        constant = np.broadcast_to(self.constant, plain.shape)
        ridges = {"ridge": self.ridge(joints_2d), "ridge_centred": self.ridge_centred(joints_2d)}
        return {"model": plain * unit, "flip": both * unit, **ridges, "constant": constant}


def evaluate_lifting(
    config: PoseLifting,
    splits: Mapping[str, Poses],
    predict: Predict,
    attention: Attention | None = None,
    *,
    batch_size: int,
    seed: int,  # noqa: ARG001 (nothing here is drawn, but every task is asked alike)
    say: Say = lambda _: None,
) -> Evaluation:
    """Measure the model, with and without flip averaging, and its baselines on all labelled tracks of val and test.

    Args:
        splits: `train`, which the baselines learn from, and val or test, or both.
        predict: batch to {"joints_3d"}, in evaluation mode.
        attention: what the model looks at; None: is not shown.
        batch_size: windows at a time.

    Raises: Diverged: a prediction is not finite. DataError: no track to learn or measure on.
    """
    train = splits["train"]
    measured = {name: splits[name] for name in ("val", "test") if name in splits and _labelled(splits[name])}
    if not measured:
        raise DataError(
            "There is no track with 3D to measure a model on", expected="such tracks in val or test", do="add 3D to some of them"
        )
    say(f"baselines of {len(_labelled(train))} training tracks")
    cut = {"num_frames": train.num_frames, "frame_stride": train.frame_stride, "batch_size": batch_size}
    ridge, ridge_centred = (fit_ridge(train, measured.get("val"), centred=choice) for choice in (False, True))
    lifter = Lifter(predict, **cut, ridge=ridge, ridge_centred=ridge_centred, constant=constant_pose(train))
    found = {}
    for name, data in measured.items():
        say(f"{name}: {len(_labelled(data))} tracks")
        found[name] = _split(data, lifter)
    shown = "test" if "test" in measured else "val"
    exhibits, up = _exhibits(measured[shown], found[shown], lifter)
    return Evaluation(
        protocol=train.protocol,
        average=train.average,
        encoder=config.encoder.kind,
        splits=found,
        exhibits=exhibits,
        attention={} if attention is None else _attention(attention, measured[shown], _ranked(found[shown])["median"], lifter),
        up=up,
    )


def evaluate_pretraining(
    task: "PretrainingTask", splits: Mapping[str, Poses], predict: Predict, *, batch_size: int, seed: int, say: Say = lambda _: None
) -> "PretrainingEvaluation":
    """Measure what pretraining learned; see `pretraining_measuring.evaluate`."""
    from triform.tasks.human_pose.pretraining_measuring import evaluate

    return evaluate(task, splits, predict, batch_size=batch_size, seed=seed, say=say)


def _labelled(data: Poses) -> list[int]:
    return [number for number, track in enumerate(data.tracks) if track.labelled]


def _split(data: Poses, lifter: Lifter) -> SplitEvaluation:
    chosen = _labelled(data)
    tracks = [data.tracks[number] for number in chosen]
    sums: dict[str, list[NDArray[np.float64]]] = {who: [] for who in WHO}
    joints: dict[str, list[NDArray[np.float64]]] = {who: [] for who in WHO}
    for number, track in zip(chosen, tracks, strict=True):
        frames, joints_2d, unit = _whole(data, number)
        assert frames.joints_3d_mm is not None, "a labelled track has 3D"
        for who, predicted in lifter(joints_2d, unit).items():
            sums[who].append(totals(predicted, frames.joints_3d_mm, frames.valid, frame_rate=track.frame_rate))
            joints[who].append(_joint_totals(predicted, frames))
    return SplitEvaluation(
        names=tuple(track.name for track in tracks),
        sequences=tuple(track.sequence for track in tracks),
        subjects=tuple(track.subject for track in tracks),
        actions=tuple(track.action for track in tracks),
        cameras=tuple(track.camera_name for track in tracks),
        num_frames=np.array([track.num_frames for track in tracks], np.int64),
        sums={who: np.stack(values) for who, values in sums.items()},
        joints={who: np.stack(values) for who, values in joints.items()},
    )


def _whole(data: Poses, number: int) -> tuple[Frames, NDArray[np.float32], NDArray[np.float64]]:
    """A whole track, what a network sees of it, and the millimetres in its unit."""
    frames = data.read(number, np.arange(data.tracks[number].num_frames))
    joints_2d = np.concatenate([frames.joints_2d, frames.confidence[..., None]], axis=-1, dtype=np.float32)
    return frames, joints_2d, frames.mm_per_unit.astype(np.float64)[:, None, None]


def _joint_totals(predicted: NDArray[Any], frames: Frames) -> Float64[np.ndarray, "joint 2"]:
    assert frames.joints_3d_mm is not None
    errors = joint_errors(predicted[frames.valid], frames.joints_3d_mm[frames.valid])
    return np.stack([errors.sum(0), np.full(errors.shape[1], float(len(errors)))], axis=-1)


def _ranked(split: SplitEvaluation) -> dict[str, int]:
    """Which of the split's rows were lifted best, middling and worst; fewer where there are not three."""
    errors = mean(split.sums["model"])[:, 0]
    order = np.argsort(errors, kind="stable")[: max(int(np.isfinite(errors).sum()), 1)]
    return {rank: int(order[place]) for rank, place in (("median", len(order) // 2), ("best", 0), ("worst", -1))}


def _exhibits(data: Poses, split: SplitEvaluation, lifter: Lifter) -> tuple[tuple[Exhibit, ...], Float32[np.ndarray, " 3"]]:
    """The beginnings of the tracks that were lifted best, middling and worst, and what is up in them on average."""
    places: dict[int, str] = {}
    for rank, row in _ranked(split).items():
        places.setdefault(row, rank)
    order = sorted(places.items(), key=lambda item: ("best", "median", "worst").index(item[1]))
    exhibits = tuple(_exhibit(data, _labelled(data)[row], rank, float(mean(split.sums["model"])[row, 0]), lifter) for row, rank in order)
    ups = [data.tracks[_labelled(data)[row]].up_camera for row, _ in order]
    total = np.sum([(0.0, -1.0, 0.0) if up is None else up for up in ups], axis=0)
    return exhibits, np.asarray(total / np.linalg.norm(total), np.float32)


def _exhibit(data: Poses, number: int, rank: str, error: float, lifter: Lifter) -> Exhibit:
    frames, joints_2d, unit = _whole(data, number)
    assert frames.joints_3d_mm is not None
    prediction = (lifter.plain(joints_2d) * unit).astype(np.float32)
    truth = np.where(frames.valid[:, None, None], rooted(frames.joints_3d_mm), np.nan).astype(np.float32)
    track, shown = data.tracks[number], slice(MOST_SHOWN)
    parts = {"truth": truth, "prediction": prediction, "input_2d": frames.joints_2d, "confidence": frames.confidence}
    return Exhibit(track.name, rank, error, **{name: part[shown] for name, part in parts.items()}, frame_rate=track.frame_rate)


def _attention(attention: Attention, data: Poses, row: int, lifter: Lifter) -> dict[str, Float32[np.ndarray, "row column"]]:
    """Of the first window of a track: the mean over heads, of at most MOST_MAPS layers, evenly spaced."""
    number = _labelled(data)[row]
    places = windows(data.tracks[number].num_frames, num_frames=lifter.num_frames, frame_stride=lifter.frame_stride)[:1]
    joints_2d = inputs(_whole(data, number)[1][places], padding(places))["joints_2d"]
    maps = dict(_maps(attention(joints_2d)))
    kept = {list(maps)[place] for place in np.linspace(0, len(maps) - 1, min(len(maps), MOST_MAPS)).round().astype(int)}
    return {name: values for name, values in maps.items() if name in kept}


def _maps(told: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name, values in told.items():
        if name != "joints_3d" and values.ndim > 1:
            yield name, np.asarray(values.reshape(-1, *values.shape[-2:]).mean(0), np.float32)
