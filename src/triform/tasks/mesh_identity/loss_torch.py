"""Classification and triplet loss in PyTorch, with the same choices and the same numbers as in MLX."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.profiler import record_function

from triform.tasks.mesh_identity.config import ArcFaceHead, MeshIdentity, Triplets

TINY = 1e-12

Chosen = tuple[Tensor, Tensor, Tensor]
"""Distances to positives, to negatives, and which of these triplets count (0 or 1), all of one shape."""


def identity_loss(
    config: MeshIdentity, output: tuple[Tensor, Tensor, Tensor], batch: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of both losses, and what it consists of. In float32 under autocast too.

    Args:
        output: Unit embeddings (batch, embedding), neck, logits (batch, class).
        batch: "subject" (batch,), equal for meshes of one subject; "label" (batch,), -1 where it is no training subject; for random
            triplets "draw" (batch, 2) in [0, 1).

    Returns:
        The loss, and classification_loss, triplet_loss, accuracy, positive_distance, negative_distance, active_triplets; all 0-d.
    """
    embedding, _, logits = (each.to(torch.promote_types(each.dtype, torch.float32)) for each in output)
    with record_function("loss"), torch.autocast(embedding.device.type, enabled=False):
        classification, accuracy = classification_loss(config, logits, batch["label"])
        triplet, scalars = triplet_loss(config.triplets, embedding, batch)
        loss = config.classification_weight * classification + config.triplet_weight * triplet
    scalars = {"classification_loss": classification, "triplet_loss": triplet, "accuracy": accuracy, **scalars}
    return loss, {name: value.detach() for name, value in scalars.items()}


def classification_loss(config: MeshIdentity, logits: Float[Tensor, "batch class"], labels: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy over meshes with a label, and the share of them whose largest logit is right; 0 where there is none.

    Source: Label smoothing: Szegedy et al., Rethinking the Inception Architecture (CVPR 2016), section 7.
    """
    known = labels >= 0
    accuracy = _mean((logits.argmax(dim=1) == labels).to(logits.dtype), known)
    if isinstance(config.head, ArcFaceHead):
        right = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)
        logits = torch.where(right, _with_margin(config.head, logits), logits)
    each = F.cross_entropy(logits, labels.long(), ignore_index=-1, label_smoothing=config.head.label_smoothing, reduction="none")
    return _mean(each, known), accuracy


def _with_margin(head: ArcFaceHead, logits: Float[Tensor, "batch class"]) -> Float[Tensor, "batch class"]:
    """Return scale cos(angle + margin) of each logit = scale cos(angle).

    Source: Deng et al., ArcFace (CVPR 2019), equation 3; beyond angle + margin = pi, where the cosine would rise again, it goes on
    as a straight line, as in the authors' code.
    """
    cosine, margin = logits / head.scale, head.angle_margin
    sine = ((1 - cosine.square()).clamp(min=0) + TINY).sqrt()
    moved = cosine * math.cos(margin) - sine * math.sin(margin)
    return head.scale * torch.where(cosine > -math.cos(margin), moved, cosine - margin * math.sin(margin))


def triplet_loss(
    settings: Triplets, embedding: Float[Tensor, "batch embedding"], batch: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
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
    hinge = (difference + settings.margin).relu()
    active = counts & ((difference if settings.soft_margin else hinge) > 0)
    if settings.soft_margin:
        loss = _mean(F.softplus(difference), counts)
    else:
        loss = _mean(hinge, active if settings.mining == "batch_all" else counts)
    watch = {"positive_distance": _mean(to_positive, counts), "negative_distance": _mean(to_negative, counts)}
    return loss, watch | {"active_triplets": _mean(active.to(distance.dtype), counts)}


def pairs(
    embedding: Float[Tensor, "batch embedding"], subjects: Int[Tensor, " batch"]
) -> tuple[Float[Tensor, "batch batch"], Bool[Tensor, "batch batch"], Bool[Tensor, "batch batch"]]:
    """Return all distances, which pairs are two meshes of one subject, and which are of two subjects.

    By exact differences: 2 - 2 cos is off by 1e-7, which the root makes 3e-4 near zero. `TINY` keeps the root's gradient finite there.
    """
    difference = embedding[:, None] - embedding[None]
    distance = (difference.square().sum(-1) + TINY).sqrt()
    same = subjects[:, None] == subjects[None]
    return distance, same & ~torch.eye(len(subjects), dtype=torch.bool, device=same.device), ~same


def batch_hard(distance: Tensor, positive: Tensor, negative: Tensor) -> Chosen:
    """Each anchor with its farthest positive and its nearest negative."""
    hardest = _at(distance, _farthest(distance, positive))
    nearest = _at(distance, _nearest(distance, negative))
    return hardest, nearest, positive.any(1) & negative.any(1)


def semi_hard(distance: Tensor, positive: Tensor, negative: Tensor) -> Chosen:
    """Each pair of anchor and positive with the nearest negative beyond the positive, else with the farthest negative.

    Source: Schroff et al., FaceNet (CVPR 2015), section 3.2.
    """
    beyond = negative[:, None] & (distance[:, None] > distance[:, :, None])
    nearest = _nearest(distance[:, None].expand(beyond.shape), beyond)
    place = torch.where(beyond.any(2), nearest, _farthest(distance, negative)[:, None])
    return distance, distance.gather(1, place), positive & negative.any(1, keepdim=True)


def batch_all(distance: Tensor, positive: Tensor, negative: Tensor) -> Chosen:
    """Every anchor, positive and negative."""
    counts = positive[:, :, None] & negative[:, None]
    return distance[:, :, None].expand(counts.shape), distance[:, None].expand(counts.shape), counts


def drawn(distance: Tensor, positive: Tensor, negative: Tensor, draw: Float[Tensor, "batch 2"]) -> Chosen:
    """Each anchor with candidate number floor(draw * candidates) of its positives and of its negatives, in the batch's order."""
    to_positive = _at(distance, _candidate(positive, draw[:, 0]))
    to_negative = _at(distance, _candidate(negative, draw[:, 1]))
    return to_positive, to_negative, positive.any(1) & negative.any(1)


def _candidate(candidates: Bool[Tensor, "batch batch"], draw: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    count = candidates.sum(1)
    number = torch.minimum((draw * count).floor().long(), count - 1)
    place = candidates.cumsum(1) - 1
    return (candidates & (place == number[:, None])).int().argmax(1)


def _farthest(distance: Tensor, among: Tensor) -> Tensor:
    return torch.where(among, distance.detach(), -1.0).argmax(-1)


def _nearest(distance: Tensor, among: Tensor) -> Tensor:
    return torch.where(among, distance.detach(), torch.inf).argmin(-1)


def _at(distance: Float[Tensor, "batch batch"], place: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return distance.gather(1, place[:, None])[:, 0]


def _mean(values: Tensor, counts: Bool[Tensor, "..."]) -> Tensor:
    """The mean where `counts`; 0 where it is nowhere."""
    return torch.where(counts, values, 0).sum() / counts.sum().clamp(min=1)


_MINING: dict[str, Callable[[Tensor, Tensor, Tensor], Chosen]] = {
    "batch_hard": batch_hard,
    "batch_semi_hard": semi_hard,
    "batch_all": batch_all,
}
