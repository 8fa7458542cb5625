"""Classification and triplet loss in MLX, with the same choices and the same numbers as in PyTorch.

MLX has no boolean indexing: what does not count is masked, with values beyond any distance of unit vectors where a maximum or minimum is
sought. Its exp is exact to float32 only, so float64 cross-entropy agrees with PyTorch's to about 1e-7.
"""

import math
from collections.abc import Callable

import mlx.core as mx
from jaxtyping import Bool, Float, Int

from triform.tasks.mesh_identity.config import ArcFaceHead, MeshIdentity, Triplets
from triform.tasks.mesh_identity.model_mlx import Output

TINY = 1e-12
FARTHER_THAN_ALL = 9.0
"""Unit vectors are at most 2 apart."""

Chosen = tuple[mx.array, mx.array, mx.array]
"""Distances to positives, to negatives, and which of these triplets count (0 or 1), all of one shape."""


def identity_loss(config: MeshIdentity, output: Output, batch: dict[str, mx.array]) -> tuple[mx.array, dict[str, mx.array]]:
    """Return the weighted sum of both losses, and what it consists of.

    Args:
        output: Unit embeddings (batch, embedding), neck, logits (batch, class).
        batch: "subject" (batch,), equal for meshes of one subject; "label" (batch,), -1 where it is no training subject; for random
            triplets "draw" (batch, 2) in [0, 1).

    Returns:
        The loss, and classification_loss, triplet_loss, accuracy, positive_distance, negative_distance, active_triplets; all 0-d.
    """
    embedding, _, logits = output
    classification, accuracy = classification_loss(config, logits, batch["label"])
    triplet, scalars = triplet_loss(config.triplets, embedding, batch)
    loss = config.classification_weight * classification + config.triplet_weight * triplet
    scalars = {"classification_loss": classification, "triplet_loss": triplet, "accuracy": accuracy, **scalars}
    return loss, {name: mx.stop_gradient(value) for name, value in scalars.items()}


def classification_loss(
    config: MeshIdentity, logits: Float[mx.array, "batch class"], labels: Int[mx.array, " batch"]
) -> tuple[mx.array, mx.array]:
    """Return the mean cross-entropy over meshes with a label, and the share of them whose largest logit is right; 0 where there is none.

    Source: Label smoothing: Szegedy et al., Rethinking the Inception Architecture (CVPR 2016), section 7.
    """
    known = (labels >= 0).astype(logits.dtype)
    right = labels[:, None] == mx.arange(logits.shape[1])
    accuracy = _mean((mx.argmax(logits, axis=1) == labels).astype(logits.dtype), known)
    if isinstance(config.head, ArcFaceHead):
        logits = mx.where(right, _with_margin(config.head, logits), logits)
    log_probabilities = logits - mx.logsumexp(logits, axis=1, keepdims=True)
    smoothing = config.head.label_smoothing
    target = (1 - smoothing) * right.astype(logits.dtype) + smoothing / logits.shape[1]
    return _mean(-mx.sum(target * log_probabilities, axis=1), known), accuracy


def _with_margin(head: ArcFaceHead, logits: Float[mx.array, "batch class"]) -> Float[mx.array, "batch class"]:
    """Return scale cos(angle + margin) of each logit = scale cos(angle).

    Source: Deng et al., ArcFace (CVPR 2019), equation 3; beyond angle + margin = pi, where the cosine would rise again, it goes on
    as a straight line, as in the authors' code.
    """
    cosine, margin = logits / head.scale, head.angle_margin
    sine = mx.sqrt(mx.maximum(1 - cosine * cosine, 0) + TINY)
    moved = cosine * math.cos(margin) - sine * math.sin(margin)
    return head.scale * mx.where(cosine > -math.cos(margin), moved, cosine - margin * math.sin(margin))


def triplet_loss(
    settings: Triplets, embedding: Float[mx.array, "batch embedding"], batch: dict[str, mx.array]
) -> tuple[mx.array, dict[str, mx.array]]:
    """Return the mean loss over the chosen triplets, 0 where there is none, and the watch on them.

    Source: Hermans et al., In Defense of the Triplet Loss for Person Re-Identification (2017), section 2.
    """
    distance, positive, negative = pairs(embedding, batch["subject"])
    if settings.mining == "random":
        chosen = drawn(distance, positive, negative, batch["draw"])
    else:
        chosen = _MINING[settings.mining](distance, positive, negative)
    to_positive, to_negative, counts = chosen
    difference = to_positive - to_negative
    hinge = mx.maximum(difference + settings.margin, 0)
    active = counts * ((difference if settings.soft_margin else hinge) > 0).astype(counts.dtype)
    if settings.soft_margin:
        loss = _mean(mx.logaddexp(difference, mx.zeros_like(difference)), counts)
    else:
        loss = _mean(hinge, active if settings.mining == "batch_all" else counts)
    watch = {"positive_distance": _mean(to_positive, counts), "negative_distance": _mean(to_negative, counts)}
    return loss, watch | {"active_triplets": _mean(active, counts)}


def pairs(
    embedding: Float[mx.array, "batch embedding"], subjects: Int[mx.array, " batch"]
) -> tuple[Float[mx.array, "batch batch"], Bool[mx.array, "batch batch"], Bool[mx.array, "batch batch"]]:
    """Return all distances, which pairs are two meshes of one subject, and which are of two subjects."""
    difference = embedding[:, None] - embedding[None]
    distance = mx.sqrt(mx.sum(difference * difference, axis=-1) + TINY)
    same = subjects[:, None] == subjects[None]
    return distance, mx.logical_and(same, mx.logical_not(mx.eye(len(subjects), dtype=mx.bool_))), mx.logical_not(same)


def batch_hard(distance: mx.array, positive: mx.array, negative: mx.array) -> Chosen:
    """Each anchor with its farthest positive and its nearest negative."""
    counts = mx.logical_and(mx.any(positive, axis=1), mx.any(negative, axis=1))
    hardest = mx.max(mx.where(positive, distance, 0.0), axis=1)
    nearest = mx.min(mx.where(negative, distance, FARTHER_THAN_ALL), axis=1)
    return hardest, nearest, counts.astype(distance.dtype)


def semi_hard(distance: mx.array, positive: mx.array, negative: mx.array) -> Chosen:
    """Each pair of anchor and positive with the nearest negative beyond the positive, else with the farthest negative.

    Source: Schroff et al., FaceNet (CVPR 2015), section 3.2.
    """
    beyond = mx.logical_and(negative[:, None], distance[:, None] > distance[:, :, None])
    nearest = mx.min(mx.where(beyond, distance[:, None], FARTHER_THAN_ALL), axis=2)
    farthest = mx.max(mx.where(negative, distance, 0.0), axis=1, keepdims=True)
    counts = mx.logical_and(positive, mx.any(negative, axis=1, keepdims=True))
    return distance, mx.where(mx.any(beyond, axis=2), nearest, farthest), counts.astype(distance.dtype)


def batch_all(distance: mx.array, positive: mx.array, negative: mx.array) -> Chosen:
    """Every anchor, positive and negative."""
    counts = mx.logical_and(positive[:, :, None], negative[:, None])
    to_positive, to_negative = (mx.broadcast_to(each, counts.shape) for each in (distance[:, :, None], distance[:, None]))
    return to_positive, to_negative, counts.astype(distance.dtype)


def drawn(distance: mx.array, positive: mx.array, negative: mx.array, draw: Float[mx.array, "batch 2"]) -> Chosen:
    """Each anchor with candidate number floor(draw * candidates) of its positives and of its negatives, in the batch's order."""
    to_positive = mx.sum(mx.where(_candidate(positive, draw[:, 0]), distance, 0.0), axis=1)
    to_negative = mx.sum(mx.where(_candidate(negative, draw[:, 1]), distance, 0.0), axis=1)
    counts = mx.logical_and(mx.any(positive, axis=1), mx.any(negative, axis=1))
    return to_positive, to_negative, counts.astype(distance.dtype)


def _candidate(candidates: Bool[mx.array, "batch batch"], draw: Float[mx.array, " batch"]) -> Bool[mx.array, "batch batch"]:
    count = mx.sum(candidates, axis=1).astype(mx.int32)
    number = mx.minimum(mx.floor(draw * count.astype(draw.dtype)).astype(mx.int32), count - 1)
    place = mx.cumsum(candidates.astype(mx.int32), axis=1) - 1
    return mx.logical_and(candidates, place == number[:, None])


def _mean(values: mx.array, weights: mx.array) -> mx.array:
    """The mean where `weights` is 1; 0 where it is nowhere."""
    return mx.sum(values * weights) / mx.maximum(mx.sum(weights), 1)


_MINING: dict[str, Callable[[mx.array, mx.array, mx.array], Chosen]] = {
    "batch_hard": batch_hard,
    "batch_semi_hard": semi_hard,
    "batch_all": batch_all,
}
