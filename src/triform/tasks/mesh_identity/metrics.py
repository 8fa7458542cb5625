"""Identification and verification from distances. A small distance means the same subject."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64
from numpy.typing import NDArray

from triform.errors import DataError, Diverged

RANKS = (1, 5, 10)
FALSE_ACCEPTS = (1e-2, 1e-3)
_IMPOSTORS_EACH = 10
"""Impostor pairs expected to be accepted at a false accept rate, below which the rate means nothing."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A number and its standard deviation over draws."""

    mean: float
    deviation: float


def distances(a: Float[np.ndarray, "row value"], b: Float[np.ndarray, "column value"]) -> Float64[np.ndarray, "row column"]:
    """Return Euclidean distances of all pairs of rows, taken in float64.

    Raises: Diverged: a value is not finite.
    """
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise Diverged(
            "An embedding is not finite", expected="finite numbers", do="lower --learning-rate or set --gradient-clip, under a new run name"
        )
    first, second = a.astype(np.float64), b.astype(np.float64)
    squared = np.square(first).sum(1)[:, None] + np.square(second).sum(1) - 2 * (first @ second.T)
    return np.asarray(np.sqrt(np.maximum(squared, 0)))


def pairs(
    matrix: Float64[np.ndarray, "mesh mesh"], subjects: Int[np.ndarray, " mesh"]
) -> tuple[Float64[np.ndarray, " genuine"], Float64[np.ndarray, " impostor"]]:
    """Return the distances of all pairs of one subject, and of all pairs of two."""
    rows, columns = np.triu_indices(len(subjects), k=1)
    same = subjects[rows] == subjects[columns]
    values = matrix[rows, columns]
    return values[same], values[~same]


def roc(
    genuine: Float[np.ndarray, " genuine"], impostor: Float[np.ndarray, " impostor"]
) -> tuple[Float64[np.ndarray, " threshold"], Float64[np.ndarray, " threshold"]]:
    """Return false and true accept rates at every threshold that is a distance, rising from (0, 0) to (1, 1).

    A pair is accepted where its distance is at most the threshold.
    """
    thresholds = np.unique(np.concatenate([genuine, impostor]))
    accepted = (np.searchsorted(np.sort(part), thresholds, side="right") / len(part) for part in (impostor, genuine))
    false, true = (np.concatenate([[0.0], rates]) for rates in accepted)
    return false, true


def eer(false: Float64[np.ndarray, " threshold"], true: Float64[np.ndarray, " threshold"]) -> float:
    """Return the equal error rate: where the ROC, straight between its points, has as many false accepts as false rejects."""
    gap = false + true - 1
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    rise = gap[after] - gap[before]
    share = -gap[before] / rise if rise > 0 else 0.0
    return float(false[before] + share * (false[after] - false[before]))


def tar_at(false: Float64[np.ndarray, " threshold"], true: Float64[np.ndarray, " threshold"], rate: float) -> float:
    """Return the largest true accept rate of a threshold whose false accept rate is at most `rate`."""
    return float(true[false <= rate].max())


def auc(false: Float64[np.ndarray, " threshold"], true: Float64[np.ndarray, " threshold"]) -> float:
    """Return the area under the ROC by the trapezoidal rule."""
    return float((np.diff(false) * (true[1:] + true[:-1])).sum() / 2)


def ranks(probes: Float64[np.ndarray, "probe gallery"], relevant: Bool[np.ndarray, "probe gallery"]) -> Int64[np.ndarray, " probe"]:
    """Return each probe's rank: the place, from 1, of its nearest relevant mesh. Ties count against it."""
    nearest = np.where(relevant, probes, np.inf).min(1, keepdims=True)
    return np.asarray(((probes <= nearest) & ~relevant).sum(1) + 1, np.int64)


def average_precisions(
    probes: Float64[np.ndarray, "probe gallery"], relevant: Bool[np.ndarray, "probe gallery"]
) -> Float64[np.ndarray, " probe"]:
    """Return each probe's mean, over its relevant meshes, of the share of relevant ones among all that are as near or nearer."""
    found = np.empty(len(probes))
    for i, (row, wanted) in enumerate(zip(probes, relevant, strict=True)):
        own = np.sort(row[wanted])
        found[i] = (np.searchsorted(own, own, side="right") / np.searchsorted(np.sort(row), own, side="right")).mean()
    return found


def galleries(subjects: Int[np.ndarray, " mesh"], *, seed: int, draws: int) -> list[Bool[np.ndarray, " mesh"]]:
    """Return, for each draw, which meshes are the gallery: one of each subject. Keyed by (seed, draw).

    Raises: DataError: no subject has a second mesh, so nothing is left to probe with.
    """
    if len(np.unique(subjects)) == len(subjects):
        raise DataError(
            "No subject has two meshes, so nothing is left to be recognised once the gallery is drawn",
            expected="two meshes of a subject at least",
            do="add meshes, or move subjects between the splits",
        )
    found = []
    for number in range(draws):
        order = np.random.Generator(np.random.Philox(key=[seed, number], counter=[0, 0, 0, 3])).permutation(len(subjects))
        _, first = np.unique(subjects[order], return_index=True)
        chosen = np.zeros(len(subjects), bool)
        chosen[order[first]] = True
        found.append(chosen)
    return found


def identification(
    matrix: Float64[np.ndarray, "mesh mesh"], subjects: Int[np.ndarray, " mesh"], *, seed: int, draws: int
) -> dict[str, Measure]:
    """Return rank_1, rank_5, rank_10 and map, over probes and then over drawn galleries of one mesh a subject.

    Raises: DataError: no subject has a second mesh.
    """
    rows = []
    for gallery in galleries(subjects, seed=seed, draws=draws):
        second = np.isin(subjects, subjects[~gallery])
        probe = ~gallery & second
        part, relevant = matrix[probe][:, gallery], subjects[probe][:, None] == subjects[gallery]
        place = ranks(part, relevant)
        rows.append([*((place <= rank).mean() for rank in RANKS), average_precisions(part, relevant).mean()])
    names = (*(f"rank_{rank}" for rank in RANKS), "map")
    values = np.array(rows)
    return {name: Measure(float(values[:, i].mean()), float(values[:, i].std())) for i, name in enumerate(names)}


def verification(
    matrix: Float64[np.ndarray, "mesh mesh"], subjects: Int[np.ndarray, " mesh"], *, seed: int, draws: int
) -> dict[str, Measure | None]:
    """Return eer, auc and tar_far_0.01, tar_far_0.001 over all pairs; None where there are too few pairs for it.

    The deviation is that over `draws` random halves of the subjects: a half drawn without replacement varies around the whole as the
    whole around the truth (Shao and Tu, "The Jackknife and Bootstrap", 1995, section 5.2; delete-d jackknife with d = n / 2).
    """
    genuine, impostor = pairs(matrix, subjects)
    wanted: dict[str, Measure | None] = dict.fromkeys(("eer", "auc", *(f"tar_far_{rate:g}" for rate in FALSE_ACCEPTS)))
    if not len(genuine) or not len(impostor):
        return wanted
    halves = [_rates(matrix[half][:, half], subjects[half]) for half in halves_of(subjects, seed=seed, draws=draws)]
    for name, value in _rates(matrix, subjects).items():
        rate = float(name.removeprefix("tar_far_")) if name.startswith("tar_far_") else 1.0
        if len(impostor) * rate >= _IMPOSTORS_EACH or rate == 1.0:
            wanted[name] = Measure(value, float(np.std([half[name] for half in halves if half])) if any(halves) else 0.0)
    return wanted


def _rates(matrix: NDArray[np.float64], subjects: NDArray[np.int64]) -> dict[str, float]:
    genuine, impostor = pairs(matrix, subjects)
    if not len(genuine) or not len(impostor):
        return {}
    false, true = roc(genuine, impostor)
    at = {f"tar_far_{rate:g}": tar_at(false, true, rate) for rate in FALSE_ACCEPTS}
    return {"eer": eer(false, true), "auc": auc(false, true), **at}


def halves_of(subjects: Int[np.ndarray, " mesh"], *, seed: int, draws: int) -> list[Int64[np.ndarray, " half"]]:
    """Return, for each draw, the meshes of a random half of the subjects. Keyed by (seed, draw)."""
    names = np.unique(subjects)
    found = []
    for number in range(draws):
        generator = np.random.Generator(np.random.Philox(key=[seed, number], counter=[0, 0, 0, 4]))
        found.append(np.flatnonzero(np.isin(subjects, generator.permutation(names)[: (len(names) + 1) // 2])))
    return found


def share(right: Bool[np.ndarray, " mesh"], subjects: Int[np.ndarray, " mesh"], *, seed: int, draws: int) -> Measure:
    """Return the share of meshes that are right; the deviation is that over random halves of the subjects, as in `verification`."""
    halves = [right[half].mean() for half in halves_of(subjects, seed=seed, draws=draws)]
    return Measure(float(right.mean()), float(np.std(halves)))


def cross_entropy(logits: Float[np.ndarray, "mesh label"], labels: Int[np.ndarray, " mesh"]) -> float:
    """Return the mean cross-entropy (nats) of plain logits, without smoothing or margin."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    right = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    return float((np.log(np.exp(shifted).sum(1)) - right).mean())
