"""Measures a trained autoencoder on every split, beside the sampling floor and two baselines that need no network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import NDArray

from triform.data.clouds import Clouds
from triform.tasks.point_autoencoder.baselines import Cloud, best_constant, nearest_cloud, quiet
from triform.tasks.point_autoencoder.metrics import LENGTHS, METRICS, NearestDistances, all_metrics, nearest_distances
from triform.tasks.point_autoencoder.task import PointAutoencoderTask

Predict = Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]
Say = Callable[[str], None]
Scores = dict[str, Float64[np.ndarray, " cloud"]]
"""Metric name to one number a cloud; names that end in `_unit` are in the scans' own unit."""


@dataclass(frozen=True, slots=True, eq=False)
class Exhibit:
    """One cloud and its reconstruction, worth looking at; errors in the scan's own unit."""

    name: str
    rank: str
    cd_l2: float
    input: Float32[np.ndarray, "point 3"]
    reconstruction: Float32[np.ndarray, "drawn 3"]
    error: Float32[np.ndarray, " drawn"]
    input_error: Float32[np.ndarray, " point"]


@dataclass(frozen=True, slots=True, eq=False)
class SplitEvaluation:
    """Scores of one split: `model`, `sampling_floor` (val and test), `best_constant` and `nearest_training_cloud`."""

    names: tuple[str, ...]
    scores: dict[str, Scores]
    nearest_names: tuple[str, ...]
    embedding: Float32[np.ndarray, "cloud latent"]
    exhibits: tuple[Exhibit, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All splits that have clouds."""

    unit: str
    up_axis: str
    splits: dict[str, SplitEvaluation]
    best_constant: Cloud

    @property
    def shown(self) -> str:
        """The split worth showing: test, else val, else train."""
        return next(split for split in ("test", "val", "train") if split in self.splits)

    def ranking(self) -> list[str]:
        """Names of the shown split from best to worst by cd_l2."""
        split = self.splits[self.shown]
        return [split.names[i] for i in np.argsort(split.scores["model"]["cd_l2"], kind="stable")]

    def table(self) -> list[dict[str, Any]]:
        """One row a cloud: split, name, the model's metrics, cd_l2 of floor and baselines, and the nearest training cloud."""
        rows = []
        for name, split in self.splits.items():
            for i, cloud in enumerate(split.names):
                row: dict[str, Any] = {"split": name, "name": cloud}
                row |= {metric: float(values[i]) for metric, values in split.scores["model"].items()}
                row |= {f"cd_l2_{who}": float(scores["cd_l2"][i]) for who, scores in split.scores.items() if who != "model"}
                rows.append(row | {"nearest_training_name": split.nearest_names[i]})
        return rows

    def summary(self) -> dict[str, Any]:
        """What JSON can hold: means by split, by who drew, by metric; the ten best and the ten worst of the shown split."""
        means = {
            name: {who: {metric: float(v.mean()) for metric, v in scores.items()} for who, scores in split.scores.items()}
            for name, split in self.splits.items()
        }
        ranking = self.ranking()
        return {
            "unit": self.unit,
            "num_clouds": {name: len(split.names) for name, split in self.splits.items()},
            "means": means,
            "shown_split": self.shown,
            "best": ranking[:10],
            "worst": ranking[::-1][:10],
        }

    @property
    def title(self) -> str:
        """What the headline's numbers are."""
        return "Chamfer distance cd_l2 (unit sphere; lower is better)"

    def facts(self) -> list[tuple[str, str, str]]:
        """Each split's distance beside floor and baselines."""
        told = []
        for split, row in self.headline().items():
            floor = "" if row["sampling floor"] is None else f"floor {row['sampling floor']:.4f}, "
            note = f"{floor}constant {row['constant cloud']:.4f}, nearest {row['nearest training cloud']:.4f}"
            told.append((f"cd_l2, {split}", f"{row['model']:.4f}", note))
        return told

    def headline(self) -> dict[str, dict[str, float | None]]:
        """Mean cd_l2 by split of the model, and of what it is to be measured by."""
        told = {"model": "model", "sampling floor": "sampling_floor", "constant cloud": "best_constant"}
        told |= {"nearest training cloud": "nearest_training_cloud"}
        return {
            name: {label: float(split.scores[who]["cd_l2"].mean()) if who in split.scores else None for label, who in told.items()}
            for name, split in self.splits.items()
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays to save: all of this evaluation; `from_arrays` is its inverse."""
        flat: dict[str, NDArray[Any]] = {"best_constant": self.best_constant, "frame": np.array([self.unit, self.up_axis])}
        for name, split in self.splits.items():
            flat |= {f"{name}/names": np.array(split.names), f"{name}/nearest": np.array(split.nearest_names)}
            flat[f"{name}/embedding"] = split.embedding
            flat |= {f"{name}/scores/{who}/{metric}": v for who, scores in split.scores.items() for metric, v in scores.items()}
            for shown in split.exhibits:
                flat[f"{name}/exhibits/{shown.rank}/told"] = np.array([shown.name, repr(shown.cd_l2)])
                flat |= {f"{name}/exhibits/{shown.rank}/{part}": getattr(shown, part) for part in _CLOUDS}
        return flat

    @staticmethod
    def from_arrays(flat: Mapping[str, NDArray[Any]]) -> "Evaluation":
        """The evaluation that `arrays` was taken of."""
        unit, up_axis = (str(word) for word in flat["frame"])
        names = list(dict.fromkeys(key.split("/")[0] for key in flat if key.endswith("/names")))
        return Evaluation(unit, up_axis, {name: _split_from(flat, name) for name in names}, flat["best_constant"])


_CLOUDS = ("input", "reconstruction", "error", "input_error")


def _split_from(flat: Mapping[str, NDArray[Any]], name: str) -> SplitEvaluation:
    keys = [key.split("/")[1:] for key in flat if key.startswith(f"{name}/")]
    scores: dict[str, Scores] = {}
    for _, who, metric in (key for key in keys if key[0] == "scores"):
        scores.setdefault(who, {})[metric] = flat[f"{name}/scores/{who}/{metric}"]
    exhibits = []
    for rank in dict.fromkeys(key[1] for key in keys if key[0] == "exhibits"):
        cloud, cd_l2 = (str(word) for word in flat[f"{name}/exhibits/{rank}/told"])
        parts = {part: flat[f"{name}/exhibits/{rank}/{part}"] for part in _CLOUDS}
        exhibits.append(Exhibit(name=cloud, rank=rank, cd_l2=float(cd_l2), **parts))
    texts = [tuple(str(word) for word in flat[f"{name}/{part}"]) for part in ("names", "nearest")]
    return SplitEvaluation(texts[0], scores, texts[1], flat[f"{name}/embedding"], tuple(exhibits))


def evaluate(
    task: PointAutoencoderTask, splits: Mapping[str, Clouds], predict: Predict, *, batch_size: int, seed: int, say: Say = quiet
) -> Evaluation:
    """Measure the model and its baselines on every split that has clouds.

    Args:
        splits: `train` at least, which both baselines are made from.
        predict: batch to {"reconstruction", "embedding"}, in evaluation mode.
        seed: keys the minibatches of the best constant; nothing else is random.
    """
    train = splits["train"].points
    say(f"best constant cloud of {len(train)} training clouds")
    constant = best_constant(train, seed=seed)
    found = {}
    for name, clouds in splits.items():
        if clouds.names:
            say(f"{name}: {len(clouds.names)} clouds")
            found[name] = _evaluate_split(task, clouds, splits["train"], predict, constant, batch_size=batch_size, seed=seed, say=say)
    return Evaluation(splits["train"].unit, splits["train"].up_axis, found, constant)


def _evaluate_split(
    task: PointAutoencoderTask, clouds: Clouds, train: Clouds, predict: Predict, constant: Cloud, *, batch_size: int, seed: int, say: Say
) -> SplitEvaluation:
    reconstruction, embedding = _predict_all(task, clouds, predict, batch_size=batch_size, seed=seed)
    scores = {"model": _score(reconstruction, clouds)}
    if clouds.resampled is not None:
        scores["sampling_floor"] = _score(clouds.resampled, clouds)
    scores["best_constant"] = _score(np.repeat(constant[None], len(clouds.names), axis=0), clouds)
    nearest = nearest_cloud(clouds.points, train.points, say=say)
    scores["nearest_training_cloud"] = _score(train.points[nearest], clouds)
    exhibits = _exhibits(clouds, reconstruction, scores["model"]["cd_l2"])
    return SplitEvaluation(clouds.names, scores, tuple(train.names[i] for i in nearest), embedding, exhibits)


def _predict_all(
    task: PointAutoencoderTask, clouds: Clouds, predict: Predict, *, batch_size: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    found = []
    for first in range(0, len(clouds.names), batch_size):
        indices = np.arange(first, min(first + batch_size, len(clouds.names)))
        found.append(predict(task.batch(clouds, indices, seed=seed, epoch=None)))
    reconstruction, embedding = (np.concatenate([part[name] for part in found]) for name in ("reconstruction", "embedding"))
    return reconstruction, embedding


def _score(reconstruction: NDArray[np.float32], clouds: Clouds) -> Scores:
    """Every metric, in units of the unit sphere, then the lengths in the scans' own unit."""
    parts = [_distances(reconstruction, clouds, slice(i, i + 32)) for i in range(0, len(clouds.names), 32)]
    batches = [all_metrics(part) for part in parts]
    scores = {name: np.concatenate([batch[name] for batch in batches]) for name in METRICS}
    lengths = {f"{name}_unit": scores[name] * clouds.scale for name in LENGTHS}
    return scores | lengths | {"cd_squared_unit": scores["cd_squared"] * np.square(clouds.scale)}


def _distances(reconstruction: NDArray[np.float32], clouds: Clouds, part: slice) -> NearestDistances:
    return nearest_distances(reconstruction[part], clouds.points[part])


def _exhibits(clouds: Clouds, reconstruction: NDArray[np.float32], cd_l2: Float64[np.ndarray, " cloud"]) -> tuple[Exhibit, ...]:
    """The best, the median and the worst cloud by cd_l2; fewer where fewer are there."""
    order = np.argsort(cd_l2, kind="stable")
    places = {int(order[0]): "best", int(order[-1]): "worst", int(order[len(order) // 2]): "median"}
    exhibits = []
    for i in sorted(places, key=lambda place: float(cd_l2[place])):
        distances, scale = _distances(reconstruction, clouds, slice(i, i + 1)), clouds.scale[i]
        error, input_error = (part[0] * scale for part in (distances.to_target, distances.to_reconstruction))
        exhibits.append(
            Exhibit(
                name=clouds.names[i],
                rank=places[i],
                cd_l2=float(cd_l2[i]),
                input=clouds.points[i] * np.float32(scale),
                reconstruction=reconstruction[i] * np.float32(scale),
                error=error.astype(np.float32),
                input_error=input_error.astype(np.float32),
            )
        )
    return tuple(exhibits)
