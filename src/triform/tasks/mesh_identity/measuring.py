"""Measures a model on the splits that are not trained on: every pose and every baseline through the same code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Int64
from numpy.typing import NDArray

from triform.data.meshes.meshes import Meshes
from triform.errors import DataError
from triform.tasks.mesh_identity.baselines import (
    Discriminants,
    chance,
    fit_discriminants,
    kabsch,
    mean_shape,
    nearest,
    nearest_mean,
    raw_vertices,
)
from triform.tasks.mesh_identity.batch import augmented, centred, draws_of
from triform.tasks.mesh_identity.config import MeshIdentity
from triform.tasks.mesh_identity.embedding_map import embedding_maps
from triform.tasks.mesh_identity.evaluation import Confusion, Evaluation, Exhibit, Scores, SplitEvaluation
from triform.tasks.mesh_identity.metrics import Measure, distances, galleries, identification, pairs, share, verification
from triform.tasks.mesh_identity.saliency import occlusion
from triform.tasks.mesh_identity.validation import EPOCH, is_closed, poses, predict_all
from triform.training.task import Predict

Say = Callable[[str], None]
EDGES: Float64[np.ndarray, " edge"] = np.linspace(0, 2, 81)
"""Of histograms of distances between unit vectors."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What the baselines learn of the training meshes."""

    labels: Int64[np.ndarray, " mesh"]
    mean_shape: Float64[np.ndarray, "vertex 3"]
    rows: dict[str, Float64[np.ndarray, "mesh value"]]
    discriminants: Discriminants | None

    def __call__(self, coordinates: NDArray[Any]) -> dict[str, Float64[np.ndarray, "mesh value"]]:
        """Return one row a mesh in the eyes of each baseline."""
        aligned = kabsch(coordinates, self.mean_shape).reshape(len(coordinates), -1)
        rows = {"raw_vertices": raw_vertices(coordinates), "kabsch": aligned}
        return rows if self.discriminants is None else rows | {"kabsch_lda": self.discriminants(aligned)}


def learn(train: Meshes) -> Reference:
    """Return what the baselines know. Without two subjects, or without a second mesh of one, there are no discriminants."""
    coordinates, _ = centred(train, np.arange(len(train.names)))
    blank = Reference(train.labels, mean_shape(coordinates), {}, None)
    aligned = blank(coordinates)["kabsch"]
    learnable = 1 < len(np.unique(train.labels)) < len(train.labels)
    whole = replace(blank, discriminants=fit_discriminants(aligned, train.labels) if learnable else None)
    return replace(whole, rows=whole(coordinates))


def evaluate(
    config: MeshIdentity, splits: Mapping[str, Meshes], predict: Predict, *, batch_size: int, seed: int, say: Say = lambda _: None
) -> Evaluation:
    """Measure the model and its baselines on val and test.

    Args:
        splits: `train`, which the baselines learn from, and val or test, or both.
        predict: batch to {"embedding", "logits"}, in evaluation mode.
        seed: keys rotations, galleries and maps.

    Raises: Diverged: a prediction is not finite. DataError: no mesh to measure on, or no subject with two.
    """
    train = splits["train"]
    say(f"baselines of {len(train.names)} training meshes")
    reference = learn(train)
    measured = {name: splits[name] for name in ("val", "test") if name in splits and splits[name].names}
    if not measured:
        raise DataError("There is no mesh to measure a model on", expected="meshes in val or test", do="prepare data with such a split")
    found = {}
    for name, data in measured.items():
        say(f"{name}: {len(data.names)} meshes of {len(data.subject_names)} subjects")
        found[name] = _split(config, train, data, predict, reference, batch_size=batch_size, seed=seed)
    shown = "test" if "test" in measured else "val"
    say("embedding maps, and which vertices drive identity")
    maps, note = embedding_maps(found[shown].embedding, seed=seed)
    _, pose = poses(config, up_axis=train.up_axis)
    return Evaluation(
        protocol="closed_set" if is_closed(measured[shown]) else "open_set",
        unit=train.unit,
        up_axis=train.up_axis,
        pose=pose,
        splits=found,
        edges=EDGES,
        maps=maps,
        map_note=note,
        exhibits=_exhibits(config, measured[shown], found[shown], predict, batch_size=batch_size),
        faces=measured[shown].faces,
    )


def _split(
    config: MeshIdentity, train: Meshes, data: Meshes, predict: Predict, reference: Reference, *, batch_size: int, seed: int
) -> SplitEvaluation:
    settings, counts = poses(config, up_axis=data.up_axis)
    indices, scores = np.arange(len(data.names)), Scores()
    predictions = {}
    for pose, setting in settings.items():
        predicted = predict_all(setting, data, predict, batch_size=batch_size, seed=seed)
        draws = draws_of(data, indices, seed=seed, epoch=EPOCH)
        coordinates, _ = augmented(setting, data, *centred(data, indices), draws=draws)
        rows = reference(coordinates)
        if is_closed(data):
            scores[pose] = _closed(train, data, predicted["logits"], rows, reference, seed=seed, draws=config.gallery_draws)
        else:
            scores[pose] = _open(data, {"model": predicted["embedding"], **rows}, seed=seed, draws=config.gallery_draws)
        predictions[pose] = predicted
    told = predictions[counts]
    matrix = distances(told["embedding"], told["embedding"])
    genuine, impostor = (np.histogram(np.minimum(values, EDGES[-1]), EDGES)[0] for values in pairs(matrix, data.subjects))
    if is_closed(data):
        confusions = _misclassified(train, data, told["logits"])
    else:
        confusions = _misidentified(data, matrix, seed=seed, draws=config.gallery_draws)
    subjects = tuple(data.subject_names[i] for i in data.subjects)
    return SplitEvaluation(data.names, subjects, scores, told["embedding"], genuine, impostor, confusions)


def _open(data: Meshes, rows: Mapping[str, NDArray[Any]], *, seed: int, draws: int) -> dict[str, dict[str, Measure | None]]:
    found: dict[str, dict[str, Measure | None]] = {}
    for who, values in rows.items():
        matrix = distances(values, values)
        told = {**identification(matrix, data.subjects, seed=seed, draws=draws)}
        found[who] = {**told, **verification(matrix, data.subjects, seed=seed, draws=draws)}
    return {"model": found.pop("model"), "chance": chance(len(data.subject_names), next(iter(found.values()))), **found}


def _closed(
    train: Meshes, data: Meshes, logits: NDArray[Any], rows: Mapping[str, NDArray[Any]], reference: Reference, *, seed: int, draws: int
) -> dict[str, dict[str, Measure | None]]:
    guesses: dict[str, NDArray[Any]] = {"model": logits.argmax(1)}
    for who, values in rows.items():
        guess = nearest_mean if who == "kabsch_lda" else nearest
        guesses[who] = guess(values, reference.rows[who], reference.labels)
    told = {who: {"accuracy": share(guess == data.labels, data.subjects, seed=seed, draws=draws)} for who, guess in guesses.items()}
    return {
        "model": {**told.pop("model")},
        "chance": {"accuracy": Measure(1 / train.num_classes, 0.0)},
        **{w: {**t} for w, t in told.items()},
    }


def _misclassified(train: Meshes, data: Meshes, logits: NDArray[Any], *, most: int = 20) -> tuple[Confusion, ...]:
    """The surest mistakes first."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    surely = shifted.max(1) / shifted.sum(1)
    guess = logits.argmax(1)
    wrong = np.flatnonzero(guess != data.labels)
    order = wrong[np.argsort(-surely[wrong], kind="stable")][:most]
    own = train.subject_names
    return tuple(Confusion(data.names[i], data.subject_names[data.subjects[i]], own[guess[i]], float(surely[i])) for i in order)


def _misidentified(data: Meshes, matrix: NDArray[np.float64], *, seed: int, draws: int, most: int = 20) -> tuple[Confusion, ...]:
    """The probes that most drawn galleries mistook for the same other subject."""
    votes = np.zeros((len(data.names), len(data.subject_names)))
    probed = np.zeros(len(data.names))
    for gallery in galleries(data.subjects, seed=seed, draws=draws):
        probes = np.flatnonzero(~gallery)
        votes[probes, data.subjects[gallery][matrix[probes][:, gallery].argmin(1)]] += 1
        probed[probes] += 1
    votes[np.arange(len(votes)), data.subjects] = 0
    shares = votes.max(1) / np.maximum(probed, 1)
    order = [i for i in np.argsort(-shares, kind="stable")[:most] if shares[i] > 0]
    names = data.subject_names
    return tuple(Confusion(data.names[i], names[data.subjects[i]], names[votes[i].argmax()], float(shares[i])) for i in order)


def _exhibits(config: MeshIdentity, data: Meshes, found: SplitEvaluation, predict: Predict, *, batch_size: int) -> tuple[Exhibit, ...]:
    """The meshes that are told apart most, middling and least clearly, and what drives it."""
    chosen = _by_clearness(distances(found.embedding, found.embedding), data.subjects)
    exhibits = []
    for rank, mesh in chosen.items():
        coordinates, normals = (part[0] for part in centred(data, np.array([mesh])))
        values = occlusion(config, data, coordinates, normals, predict, batch_size=batch_size)
        exhibits.append(Exhibit(data.names[mesh], rank, coordinates * np.float32(data.scale), values))
    return tuple(exhibits)


def _by_clearness(matrix: NDArray[np.float64], subjects: Int[np.ndarray, " mesh"]) -> dict[str, int]:
    """By how much the nearest mesh of another subject is farther than the nearest of one's own."""
    same = subjects[:, None] == subjects
    others = np.where(same, np.inf, matrix).min(1)
    own = np.where(same & ~np.eye(len(subjects), dtype=bool), matrix, np.inf).min(1)
    known = np.flatnonzero(np.isfinite(others) & np.isfinite(own))
    order = known[np.argsort((others - own)[known], kind="stable")] if len(known) else np.arange(len(subjects))
    ranked = {"clearest": int(order[-1]), "middling": int(order[len(order) // 2]), "least clear": int(order[0])}
    places: dict[int, str] = {}
    for rank, mesh in ranked.items():
        places.setdefault(mesh, rank)
    return {rank: mesh for mesh, rank in places.items()}
