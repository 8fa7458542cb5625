"""What was measured of a mesh identity model, beside chance and baselines that need no network."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64
from numpy.typing import NDArray

from triform.tasks.mesh_identity.metrics import FALSE_ACCEPTS, RANKS, Measure

WHO = {"model": "this model", "chance": "chance", "raw_vertices": "raw vertices", "kabsch": "Kabsch", "kabsch_lda": "Kabsch + LDA"}
"""Who tells subjects apart, in the order in which they are shown, and how each is called."""
METRICS = (*(f"rank_{rank}" for rank in RANKS), "map", "eer", *(f"tar_far_{rate:g}" for rate in FALSE_ACCEPTS), "auc", "accuracy")
"""Names, in the order in which they are shown."""
Scores = dict[str, dict[str, dict[str, Measure | None]]]
"""pose -> who -> metric -> mean and deviation; None where there are too few meshes for it."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """A mesh that was taken for another subject than its own, and how surely (a share of the drawn galleries, or a probability)."""

    mesh: str
    subject: str
    taken_for: str
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Exhibit:
    """One mesh, centred, in the data's unit, and how much each vertex matters for whose it is."""

    name: str
    rank: str
    vertices: Float32[np.ndarray, "vertex 3"]
    values: Float32[np.ndarray, " vertex"]


@dataclass(frozen=True, slots=True, eq=False)
class SplitEvaluation:
    """Scores of one split; embedding, histograms and confusions are the model's, in the pose that counts."""

    names: tuple[str, ...]
    subjects: tuple[str, ...]
    scores: Scores
    embedding: Float32[np.ndarray, "mesh value"]
    genuine: Int64[np.ndarray, " bin"]
    impostor: Int64[np.ndarray, " bin"]
    confusions: tuple[Confusion, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The splits that are not trained on and have meshes."""

    protocol: Literal["open_set", "closed_set"]
    unit: str
    up_axis: str
    pose: str
    """The pose that counts: turned as training turns them, or as they are."""
    splits: dict[str, SplitEvaluation]
    edges: Float64[np.ndarray, " edge"]
    """Of the histograms of distances."""
    maps: dict[str, Float32[np.ndarray, "mesh 2"]]
    """Of the shown split's embedding, by method."""
    map_note: str
    exhibits: tuple[Exhibit, ...]
    faces: Int32[np.ndarray, "face 3"] | None

    @property
    def shown(self) -> str:
        """The split worth showing: test, else val."""
        return "test" if "test" in self.splits else "val"

    @property
    def metric(self) -> str:
        """The metric that counts."""
        return "rank_1" if self.protocol == "open_set" else "accuracy"

    @property
    def title(self) -> str:
        """What the headline's numbers are, and which way is better."""
        return f"{'rank-1' if self.protocol == 'open_set' else 'accuracy'}, meshes {self.pose} (higher is better)"

    def headline(self) -> dict[str, dict[str, float | None]]:
        """The metric that counts, by split and by who tells subjects apart."""
        return {name: {WHO[who]: _mean(told, self.metric) for who, told in self._of(name).items()} for name in self.splits}

    def facts(self) -> list[tuple[str, str, str]]:
        """Label, value and note of what stands first in a report."""
        wanted = {"rank_1": "rank-1", "eer": "equal error rate"} if self.protocol == "open_set" else {"accuracy": "accuracy"}
        found = []
        for split in self.splits:
            for metric, label in wanted.items():
                told = self._of(split)
                if told["model"].get(metric) is None:
                    continue
                others = (f"{WHO[who]} {_text(told[who], metric, deviation=False)}" for who in told if who != "model")
                found.append((f"{label}, {split}", _text(told["model"], metric), f"{', '.join(others)}; {self.pose}"))
        return found

    def table(self) -> list[dict[str, Any]]:
        """One row for each split, pose and who: the metrics and their deviations; empty where there is no number."""
        rows = []
        for split, pose, who, told in self.scores():
            row: dict[str, Any] = {"split": split, "pose": pose, "who": who}
            for metric, measure in told.items():
                row[metric] = "" if measure is None else measure.mean
                row[f"{metric}_deviation"] = "" if measure is None else measure.deviation
            rows.append(row)
        return rows

    def scores(self) -> Iterator[tuple[str, str, str, dict[str, Measure | None]]]:
        """Split, pose, who, and the metrics."""
        for name, split in self.splits.items():
            for pose, by_who in split.scores.items():
                for who, told in by_who.items():
                    yield name, pose, who, told

    def summary(self) -> dict[str, Any]:
        """What JSON can hold: counts, all scores, and the worst confusions of each split."""
        scores: dict[str, Any] = {}
        for split, pose, who, told in self.scores():
            values = {name: None if one is None else {"mean": one.mean, "deviation": one.deviation} for name, one in told.items()}
            scores.setdefault(split, {}).setdefault(pose, {})[who] = values
        counts = {name: {"meshes": len(split.names), "subjects": len(set(split.subjects))} for name, split in self.splits.items()}
        confusions = {
            name: [{"mesh": one.mesh, "taken_for": one.taken_for, "share": one.share} for one in split.confusions]
            for name, split in self.splits.items()
        }
        about = {"protocol": self.protocol, "pose": self.pose, "shown_split": self.shown, "unit": self.unit, "counts": counts}
        return about | {"scores": scores, "confusions": confusions}

    def _of(self, split: str) -> dict[str, dict[str, Measure | None]]:
        return self.splits[split].scores[self.pose]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays to save: all of this evaluation; `from_arrays` is its inverse."""
        flat: dict[str, NDArray[Any]] = {
            "frame": np.array([self.protocol, self.unit, self.up_axis, self.pose, self.map_note]),
            "edges": self.edges,
            "faces": np.empty((0, 3), np.int32) if self.faces is None else self.faces,
            **{f"maps/{name}": points for name, points in self.maps.items()},
        }
        for shown in self.exhibits:
            where = f"exhibits/{shown.rank}"
            flat |= {f"{where}/name": np.array(shown.name), f"{where}/vertices": shown.vertices, f"{where}/values": shown.values}
        scores = {(*keys, metric): one for *keys, told in self.scores() for metric, one in told.items()}
        flat["scores/keys"] = np.array(list(scores))
        flat["scores/values"] = np.array([(np.nan, np.nan) if one is None else (one.mean, one.deviation) for one in scores.values()])
        for name, split in self.splits.items():
            flat |= {f"splits/{name}/{part}": np.array(getattr(split, part)) for part in _PARTS}
            told = [(one.mesh, one.subject, one.taken_for) for one in split.confusions]
            flat[f"splits/{name}/confused"] = np.array(told, np.str_).reshape(-1, 3)
            flat[f"splits/{name}/confused_share"] = np.array([one.share for one in split.confusions], np.float64)
        return flat

    @staticmethod
    def from_arrays(flat: Mapping[str, NDArray[Any]]) -> "Evaluation":
        """The evaluation that `arrays` was taken of."""
        protocol, unit, up_axis, pose, map_note = (str(word) for word in flat["frame"])
        names = [key.split("/")[1] for key in flat if key.startswith("splits/") and key.endswith("/names")]
        ranks = [key.split("/")[1] for key in flat if key.startswith("exhibits/") and key.endswith("/name")]
        return Evaluation(
            protocol="closed_set" if protocol == "closed_set" else "open_set",
            unit=unit,
            up_axis=up_axis,
            pose=pose,
            splits={name: _split_from(flat, name) for name in names},
            edges=flat["edges"],
            maps={key.removeprefix("maps/"): flat[key] for key in flat if key.startswith("maps/")},
            map_note=map_note,
            exhibits=tuple(_exhibit_from(flat, rank) for rank in ranks),
            faces=flat["faces"] if len(flat["faces"]) else None,
        )


_PARTS = ("names", "subjects", "embedding", "genuine", "impostor")


def _mean(told: dict[str, Measure | None], metric: str) -> float | None:
    measure = told.get(metric)
    return None if measure is None else measure.mean


def _text(told: dict[str, Measure | None], metric: str, *, deviation: bool = True) -> str:
    measure = told.get(metric)
    if measure is None:
        return "unknown"
    return f"{measure.mean:.3f} ± {measure.deviation:.3f}" if deviation else f"{measure.mean:.3f}"


def _split_from(flat: Mapping[str, NDArray[Any]], name: str) -> SplitEvaluation:
    where, scores = f"splits/{name}", Scores()
    for key, (mean, deviation) in zip(flat["scores/keys"].tolist(), flat["scores/values"].tolist(), strict=True):
        split, pose, who, metric = key
        if split == name:
            scores.setdefault(pose, {}).setdefault(who, {})[metric] = None if np.isnan(mean) else Measure(mean, deviation)
    texts = [tuple(flat[f"{where}/{part}"].tolist()) for part in _PARTS[:2]]
    told = zip(flat[f"{where}/confused"].tolist(), flat[f"{where}/confused_share"].tolist(), strict=True)
    confusions = tuple(Confusion(mesh, subject, taken_for, share) for (mesh, subject, taken_for), share in told)
    embedding, genuine, impostor = (flat[f"{where}/{part}"] for part in _PARTS[2:])
    return SplitEvaluation(texts[0], texts[1], scores, embedding, genuine, impostor, confusions)


def _exhibit_from(flat: Mapping[str, NDArray[Any]], rank: str) -> Exhibit:
    where = f"exhibits/{rank}"
    return Exhibit(str(flat[f"{where}/name"]), rank, flat[f"{where}/vertices"], flat[f"{where}/values"])
