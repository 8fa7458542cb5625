"""What was measured of pretraining, beside a baseline that needs no network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64
from numpy.typing import NDArray

from triform.tasks.human_pose.averaging import averaged, mean

WHO = {
    "model": "this model",
    "interpolation": "linear interpolation in time",
    "constant": "constant pose",
}
"""Who fills in or lifts, in the order in which they are shown, and how each is called."""
PARTS = ("hidden", "hidden_frames", "hidden_joints", "visible", "reconstruction")
"""Of masked clips: all that is hidden, the hidden frames, the joints hidden in visible frames, what is visible, and all."""
MASKED_METRICS = (*PARTS, *(f"{part}_px" for part in PARTS))
"""2D distances where the image is 2 wide, and in pixels."""

HEADLINE = ("visible", "reconstruction", "hidden_px", "p_mpjpe_mm", "n_mpjpe_mm", "mpjve_mm_frame")
"""Metrics beside the first that a terminal has room for."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipSums:
    """Sums and counts of one split's clips, by who fills in; metrics as the evaluation names them."""

    names: tuple[str, ...]
    actions: tuple[str, ...]
    sums: dict[str, Float64[np.ndarray, "clip metric 2"]]


@dataclass(frozen=True, slots=True, eq=False)
class PretrainingExhibit:
    """One clip: what was hidden of it, what was true and what was found, in 2D (where the image is 2 wide) or in 3D (mm)."""

    name: str
    rank: str
    error: float
    input_2d: Float32[np.ndarray, "frame 17 2"]
    hidden: Bool[np.ndarray, "frame 17"]
    truth: Float32[np.ndarray, "frame 17 axis"]
    prediction: Float32[np.ndarray, "frame 17 axis"]
    frame_rate: float


@dataclass(frozen=True, slots=True, eq=False)
class PretrainingEvaluation:
    """The splits that are not trained on, with masks and noise that are the same every time."""

    objective: str
    protocol: str
    average: str
    metrics: tuple[str, ...]
    """The first is the one that counts."""
    splits: dict[str, ClipSums]
    exhibits: tuple[PretrainingExhibit, ...]

    @property
    def shown(self) -> str:
        """The split worth showing: test, else val."""
        return "test" if "test" in self.splits else "val"

    @property
    def title(self) -> str:
        """What the headline's numbers are, and which way is better."""
        what = "2D distance of hidden joints" if self.objective == "masked_autoencoder" else "MPJPE of joints lifted from corrupted 2D"
        return f"{what} (lower is better). {self.protocol}"

    def scores(self, split: str, who: str) -> dict[str, float | None]:
        """Each metric's mean; None where nothing was counted."""
        told = self.splits[split]
        values = averaged(told.sums[who], told.actions, self.average).tolist()
        return {name: value if np.isfinite(value) else None for name, value in zip(self.metrics, values, strict=True)}

    def headline(self) -> dict[str, dict[str, float | None]]:
        """split -> the metric that counts, that of the other as `<metric>_<who>`, and the model's others of HEADLINE."""
        found, first = {}, self.metrics[0]
        for name, split in self.splits.items():
            own = self.scores(name, "model")
            others = {f"{first}_{who}": self.scores(name, who)[first] for who in split.sums if who != "model"}
            found[name] = {first: own[first], **others, **{metric: own[metric] for metric in HEADLINE if metric in own}}
        return found

    def facts(self) -> list[tuple[str, str, str]]:
        """Label, value and note of what stands first in a report."""
        metric = "hidden_px" if self.objective == "masked_autoencoder" else self.metrics[0]
        label, unit = ("Hidden joints", "px") if metric == "hidden_px" else ("MPJPE", "mm")
        found = []
        for name, split in self.splits.items():
            told = {who: self.scores(name, who)[metric] for who in split.sums}
            texts = {who: "unknown" if value is None else f"{value:.2f}" for who, value in told.items()}
            others = ", ".join(f"{WHO[who]} {value}" for who, value in texts.items() if who != "model")
            found.append((f"{label}, {name}", f"{texts['model']} {unit}", f"{others}. {self.protocol}"))
        return found

    def summary(self) -> dict[str, Any]:
        """What JSON can hold."""
        scores = {name: {who: self.scores(name, who) for who in split.sums} for name, split in self.splits.items()}
        counts = {name: {"clips": len(split.names)} for name, split in self.splits.items()}
        about = {"objective": self.objective, "protocol": self.protocol, "average": self.average, "shown_split": self.shown}
        return {**about, "counts": counts, "scores": scores}

    def table(self) -> list[dict[str, Any]]:
        """One row a clip: the model's metrics, and the first of them of the other; empty where nothing was counted."""
        rows = []
        for name, split in self.splits.items():
            values = {who: mean(sums).tolist() for who, sums in split.sums.items()}
            for i, clip in enumerate(split.names):
                own = dict(zip(self.metrics, values["model"][i], strict=True))
                others = {f"{self.metrics[0]}_{who}": told[i][0] for who, told in values.items() if who != "model"}
                told = {key: "" if np.isnan(value) else value for key, value in (own | others).items()}
                rows.append({"split": name, "clip": clip, "action": split.actions[i], **told})
        return rows

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays to save: all of this evaluation; `from_arrays` is its inverse."""
        flat: dict[str, NDArray[Any]] = {
            "about": np.array([self.objective, self.protocol, self.average]),
            "metrics": np.array(self.metrics),
        }
        for name, split in self.splits.items():
            flat |= {f"splits/{name}/names": np.array(split.names), f"splits/{name}/actions": np.array(split.actions)}
            flat |= {f"splits/{name}/sums/{who}": values for who, values in split.sums.items()}
        for i, exhibit in enumerate(self.exhibits):
            flat[f"exhibits/{i}/texts"] = np.array([exhibit.name, exhibit.rank])
            flat[f"exhibits/{i}/numbers"] = np.array([exhibit.error, exhibit.frame_rate])
            flat |= {f"exhibits/{i}/{part}": getattr(exhibit, part) for part in _CLIP_PARTS}
        return flat

    @staticmethod
    def from_arrays(flat: Mapping[str, NDArray[Any]]) -> "PretrainingEvaluation":
        """The evaluation that `arrays` was taken of."""
        objective, protocol, average = flat["about"].tolist()
        names = [key.split("/")[1] for key in flat if key.startswith("splits/") and key.endswith("/names")]
        count = sum(key.endswith("/texts") for key in flat)
        return PretrainingEvaluation(
            objective=objective,
            protocol=protocol,
            average=average,
            metrics=tuple(flat["metrics"].tolist()),
            splits={name: _split_from(flat, f"splits/{name}") for name in names},
            exhibits=tuple(_exhibit_from(flat, f"exhibits/{i}") for i in range(count)),
        )


_CLIP_PARTS = ("input_2d", "hidden", "truth", "prediction")


def _split_from(flat: Mapping[str, NDArray[Any]], where: str) -> ClipSums:
    names, actions = (tuple(flat[f"{where}/{part}"].tolist()) for part in ("names", "actions"))
    return ClipSums(names, actions, {who: flat[f"{where}/sums/{who}"] for who in WHO if f"{where}/sums/{who}" in flat})


def _exhibit_from(flat: Mapping[str, NDArray[Any]], where: str) -> PretrainingExhibit:
    (name, rank), (error, frame_rate) = flat[f"{where}/texts"].tolist(), flat[f"{where}/numbers"].tolist()
    input_2d, hidden, truth, prediction = (flat[f"{where}/{part}"] for part in _CLIP_PARTS)
    return PretrainingExhibit(name, rank, error, input_2d, hidden, truth, prediction, frame_rate)
