"""What was measured of lifting, beside baselines that need no network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy.typing import NDArray

from triform.geometry.skeletons import H36M_17
from triform.tasks.human_pose.averaging import averaged, by_action, mean
from triform.tasks.human_pose.metrics import METRICS

WHO = {
    "model": "this model",
    "flip": "this model, flip averaged",
    "ridge": "ridge regression",
    "ridge_centred": "ridge regression, 2D centred",
    "constant": "constant pose",
}
"""Who lifts, in the order in which they are shown, and how each is called."""
HEADLINE = ("p_mpjpe_mm", "n_mpjpe_mm", "mpjve_mm_frame", "pck_150mm")
"""Metrics beside MPJPE that a terminal has room for."""
_TEXTS = ("names", "sequences", "subjects", "actions", "cameras")


@dataclass(frozen=True, slots=True, eq=False)
class SplitEvaluation:
    """Sums and counts of one split's labelled tracks: every mean is taken from them."""

    names: tuple[str, ...]
    sequences: tuple[str, ...]
    subjects: tuple[str, ...]
    actions: tuple[str, ...]
    cameras: tuple[str, ...]
    num_frames: Int64[np.ndarray, " track"]
    sums: dict[str, Float64[np.ndarray, "track metric 2"]]
    """By who lifts; metrics as in METRICS."""
    joints: dict[str, Float64[np.ndarray, "track joint 2"]]
    """Errors of the joints (mm), by who lifts."""

    def scores(self, who: str, average: str) -> dict[str, float | None]:
        """Each metric, averaged over frames or actions; None where there are too few frames for it."""
        return _by_metric(averaged(self.sums[who], self.actions, average))

    def per_action(self, who: str) -> dict[str, dict[str, float | None]]:
        """action -> metric -> mean over its frames."""
        return {action: _by_metric(values) for action, values in by_action(self.sums[who], self.actions).items()}

    def per_joint(self, who: str, average: str) -> Float64[np.ndarray, " joint"]:
        """Error of each joint (mm)."""
        return averaged(self.joints[who], self.actions, average)

    def per_track(self, who: str) -> Float64[np.ndarray, "track metric"]:
        """Mean over the frames of each track."""
        return mean(self.sums[who])


@dataclass(frozen=True, slots=True, eq=False)
class Exhibit:
    """The beginning of one track, root-relative in mm, in the camera's frame; frames whose truth is unknown hold NaN."""

    name: str
    rank: str
    mpjpe_mm: float
    """Of the whole track."""
    truth: Float32[np.ndarray, "frame 17 3"]
    prediction: Float32[np.ndarray, "frame 17 3"]
    input_2d: Float32[np.ndarray, "frame 17 2"]
    confidence: Float32[np.ndarray, "frame 17"]
    frame_rate: float


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The splits that are not trained on and have 3D."""

    protocol: str
    """Which 2D, which clips are left out, how it is averaged: stands beside every number."""
    average: str
    encoder: str
    splits: dict[str, SplitEvaluation]
    exhibits: tuple[Exhibit, ...]
    attention: dict[str, Float32[np.ndarray, "row column"]]
    """Mean attention of one window of the middling exhibit, by layer."""
    up: Float32[np.ndarray, " 3"]
    """Of the exhibits."""

    @property
    def shown(self) -> str:
        """The split worth showing: test, else val."""
        return "test" if "test" in self.splits else "val"

    @property
    def title(self) -> str:
        """What the headline's numbers are, and which way is better."""
        return f"Errors of lifted joints (lower is better; pck: higher). {self.protocol}"

    def headline(self) -> dict[str, dict[str, float | None]]:
        """split -> the model's metrics of HEADLINE by name, and MPJPE of the others as `mpjpe_mm_<who>`."""
        found = {}
        for name, split in self.splits.items():
            others = {f"mpjpe_mm_{who}": split.scores(who, self.average)["mpjpe_mm"] for who in WHO if who != "model"}
            own = split.scores("model", self.average)
            found[name] = {"mpjpe_mm": own["mpjpe_mm"], **others, **{metric: own[metric] for metric in HEADLINE}}
        return found

    def facts(self) -> list[tuple[str, str, str]]:
        """Label, value and note of what stands first in a report."""
        found = []
        for name, split in self.splits.items():
            told = {who: split.scores(who, self.average) for who in WHO}
            for metric, label in {"mpjpe_mm": "MPJPE", "p_mpjpe_mm": "P-MPJPE"}.items():
                others = (f"{WHO[who]} {text(told[who][metric])}" for who in WHO if who != "model")
                found.append((f"{label}, {name}", f"{text(told['model'][metric])} mm", f"{', '.join(others)}. {self.protocol}"))
        return found

    def summary(self) -> dict[str, Any]:
        """What JSON can hold: protocol, counts, and all scores, by action and by joint as well."""
        splits = {name: self._summary_of(split) for name, split in self.splits.items()}
        told = {"protocol": self.protocol, "average": self.average, "encoder": self.encoder, "shown_split": self.shown}
        return told | {key: {name: split[key] for name, split in splits.items()} for key in ("counts", "scores", "by_action", "by_joint")}

    def _summary_of(self, split: SplitEvaluation) -> dict[str, Any]:
        joints = {who: split.per_joint(who, self.average) for who in WHO}
        return {
            "counts": {"tracks": len(split.names), "sequences": len(set(split.sequences)), "frames": int(split.num_frames.sum())},
            "scores": {who: split.scores(who, self.average) for who in WHO},
            "by_action": {who: split.per_action(who) for who in WHO},
            "by_joint": {who: dict(zip(H36M_17.joints, map(_number, values.tolist()), strict=True)) for who, values in joints.items()},
        }

    def table(self) -> list[dict[str, Any]]:
        """One row a track: the model's metrics, and MPJPE of the others; empty where there are too few frames."""
        rows = []
        for name, split in self.splits.items():
            values = {who: split.per_track(who) for who in WHO}
            for i in range(len(split.names)):
                about = {
                    "split": name,
                    **{key.removesuffix("s"): getattr(split, key)[i] for key in _TEXTS},
                    "frames": int(split.num_frames[i]),
                }
                others = {f"mpjpe_mm_{who}": _number(values[who][i, 0].item()) for who in WHO if who != "model"}
                told = {**about, **_by_metric(values["model"][i]), **others}
                rows.append({key: "" if value is None else value for key, value in told.items()})
        return rows

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays to save: all of this evaluation; `from_arrays` is its inverse."""
        flat: dict[str, NDArray[Any]] = {"about": np.array([self.protocol, self.average, self.encoder]), "up": self.up}
        flat["attention/names"] = np.array(list(self.attention), np.str_)
        flat |= {f"attention/{i}": values for i, values in enumerate(self.attention.values())}
        for i, exhibit in enumerate(self.exhibits):
            flat[f"exhibits/{i}/texts"] = np.array([exhibit.name, exhibit.rank])
            flat[f"exhibits/{i}/numbers"] = np.array([exhibit.mpjpe_mm, exhibit.frame_rate])
            flat |= {f"exhibits/{i}/{part}": getattr(exhibit, part) for part in _CLIP_PARTS}
        for name, split in self.splits.items():
            flat |= {f"splits/{name}/{part}": np.array(getattr(split, part)) for part in (*_TEXTS, "num_frames")}
            flat |= {f"splits/{name}/sums/{who}": values for who, values in split.sums.items()}
            flat |= {f"splits/{name}/joints/{who}": values for who, values in split.joints.items()}
        return flat

    @staticmethod
    def from_arrays(flat: Mapping[str, NDArray[Any]]) -> "Evaluation":
        """The evaluation that `arrays` was taken of."""
        protocol, average, encoder = flat["about"].tolist()
        names = [key.split("/")[1] for key in flat if key.startswith("splits/") and key.endswith("/names")]
        count = sum(key.endswith("/texts") for key in flat)
        return Evaluation(
            protocol=protocol,
            average=average,
            encoder=encoder,
            splits={name: _split_from(flat, f"splits/{name}") for name in names},
            exhibits=tuple(_exhibit_from(flat, f"exhibits/{i}") for i in range(count)),
            attention={name: flat[f"attention/{i}"] for i, name in enumerate(flat["attention/names"].tolist())},
            up=flat["up"],
        )


_CLIP_PARTS = ("truth", "prediction", "input_2d", "confidence")


def text(value: float | None) -> str:
    """A number for people."""
    return "unknown" if value is None else f"{value:.2f}"


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _by_metric(values: NDArray[np.float64]) -> dict[str, float | None]:
    return dict(zip(METRICS, map(_number, values.tolist()), strict=True))


def _split_from(flat: Mapping[str, NDArray[Any]], where: str) -> SplitEvaluation:
    names, sequences, subjects, actions, cameras = (tuple(flat[f"{where}/{part}"].tolist()) for part in _TEXTS)
    sums, joints = ({who: flat[f"{where}/{kind}/{who}"] for who in WHO} for kind in ("sums", "joints"))
    return SplitEvaluation(names, sequences, subjects, actions, cameras, flat[f"{where}/num_frames"], sums, joints)


def _exhibit_from(flat: Mapping[str, NDArray[Any]], where: str) -> Exhibit:
    (name, rank), (mpjpe_mm, frame_rate) = flat[f"{where}/texts"].tolist(), flat[f"{where}/numbers"].tolist()
    truth, prediction, input_2d, confidence = (flat[f"{where}/{part}"] for part in _CLIP_PARTS)
    return Exhibit(name, rank, mpjpe_mm, truth, prediction, input_2d, confidence, frame_rate)
