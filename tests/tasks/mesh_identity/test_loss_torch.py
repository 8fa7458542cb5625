"""Losses by hand, every mining against plain loops, and gradients where embeddings coincide."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from triform.tasks.mesh_identity.config import ArcFaceHead, MeshIdentity, SoftmaxHead, Triplets
from triform.tasks.mesh_identity.loss_torch import classification_loss, identity_loss, triplet_loss

MININGS = ["batch_hard", "batch_semi_hard", "batch_all", "random"]
LINE = torch.tensor([[0.0], [1.0], [3.0], [3.5]], dtype=torch.float64)
"""Distances 1 (0, 1), 3 (0, 2), 3.5, 2 (1, 2), 2.5, 0.5 (2, 3)."""
SUBJECTS = {"subject": torch.tensor([0, 0, 1, 1])}


@pytest.mark.parametrize(
    ("mining", "margin", "loss", "positive", "negative", "active"),
    [
        # anchors: positive 1, 1, .5, .5; nearest negative 3, 2, 2, 2.5; hinge at 1.2: 0, .2, 0, 0
        ("batch_hard", 1.2, 0.2 / 4, 0.75, 2.375, 0.25),
        # the nearest negative beyond each positive is the same here
        ("batch_semi_hard", 1.2, 0.2 / 4, 0.75, 2.375, 0.25),
        # 8 triplets: 1-3, 1-3.5, 1-2, 1-2.5, .5-3, .5-2, .5-3.5, .5-2.5; only 1-2 is active
        ("batch_all", 1.2, 0.2, 0.75, 2.75, 0.125),
        # hinge at 1.7: .2 for 1-2.5, .7 for 1-2, .2 for .5-2; over the 3 that are active
        ("batch_all", 1.7, (0.2 + 0.7 + 0.2) / 3, 0.75, 2.75, 0.375),
    ],
)
def test_triplets_on_a_line_by_hand(mining, margin, loss, positive, negative, active) -> None:
    found, watch = triplet_loss(Triplets(mining=mining, margin=margin), LINE, SUBJECTS)
    assert found.item() == pytest.approx(loss, abs=1e-9)
    assert {name: value.item() for name, value in watch.items()} == pytest.approx(
        {"positive_distance": positive, "negative_distance": negative, "active_triplets": active}, abs=1e-9
    )


def test_semi_hard_takes_the_farthest_negative_where_none_is_beyond_the_positive() -> None:
    """0 and 10 are of one subject, all others nearer than 10 to 0; 10's nearest negative beyond 10 does not exist either."""
    line = torch.tensor([[0.0], [10.0], [1.0], [4.0]], dtype=torch.float64)
    found, watch = triplet_loss(Triplets(mining="batch_semi_hard", margin=0.0), line, {"subject": torch.tensor([0, 0, 1, 2])})
    assert found.item() == pytest.approx(((10 - 4) + (10 - 9)) / 2)
    assert watch["negative_distance"].item() == pytest.approx((4 + 9) / 2)


def test_a_draw_picks_by_the_order_of_the_batch() -> None:
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0], [15.0]], dtype=torch.float64)
    batch = {"subject": torch.tensor([0, 0, 0, 1, 1]), "draw": torch.tensor([[0.0, 0.99], [0.49, 0.5], [0.5, 0.0], [0.7, 0.34], [0, 0.67]])}
    _, watch = triplet_loss(Triplets(mining="random"), line, batch)
    # positives: 0-1, 1-0, 2-1, 3-4, 4-3; negatives: 0-4, 1-4, 2-3, 3-1, 4-2
    assert watch["positive_distance"].item() == pytest.approx((1 + 1 + 2 + 8 + 8) / 5)
    assert watch["negative_distance"].item() == pytest.approx((15 + 14 + 4 + 6 + 12) / 5)


def loops(settings: Triplets, e: Tensor, subject: Tensor, draw: Tensor) -> float:
    """The definitions as plain loops."""
    d = torch.cdist(e, e).numpy()
    terms = []
    for a in range(len(e)):
        positives = [i for i in range(len(e)) if subject[i] == subject[a] and i != a]
        negatives = [i for i in range(len(e)) if subject[i] != subject[a]]
        if not positives or not negatives:
            continue
        if settings.mining == "batch_hard":
            chosen = [(max(d[a, positives]), min(d[a, negatives]))]
        elif settings.mining == "batch_all":
            chosen = [(d[a, p], d[a, n]) for p, n in itertools.product(positives, negatives)]
        elif settings.mining == "random":
            p, n = (them[math.floor(u * len(them))] for them, u in ((positives, draw[a, 0].item()), (negatives, draw[a, 1].item())))
            chosen = [(d[a, p], d[a, n])]
        else:
            farther = {p: [d[a, n] for n in negatives if d[a, n] > d[a, p]] for p in positives}
            chosen = [(d[a, p], min(them) if them else max(d[a, negatives])) for p, them in farther.items()]
        terms += chosen
    difference = np.array([p - n for p, n in terms])
    if settings.soft_margin:
        return float(np.log1p(np.exp(difference)).mean())
    hinge = np.maximum(difference + settings.margin, 0)
    return float(hinge[hinge > 0].mean() if settings.mining == "batch_all" else hinge.mean())


@pytest.mark.parametrize("mining", MININGS)
@pytest.mark.parametrize("soft_margin", [False, True])
def test_every_mining_is_its_definition(mining, soft_margin) -> None:
    """Subject 3 has one mesh: it is nobody's anchor, but a negative."""
    generator = torch.Generator().manual_seed(3)
    e = F.normalize(torch.randn(9, 3, dtype=torch.float64, generator=generator), dim=1)
    subject = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 3])
    draw = torch.rand(9, 2, generator=generator)
    settings = Triplets(mining=mining, margin=0.3, soft_margin=soft_margin)
    found, _ = triplet_loss(settings, e, {"subject": subject, "draw": draw})
    assert found.item() == pytest.approx(loops(settings, e, subject, draw), abs=1e-9)


@pytest.mark.parametrize("mining", MININGS)
@pytest.mark.parametrize("subject", [[0, 0, 0, 0], [0, 1, 2, 3]], ids=["no negatives", "no positives"])
def test_without_triplets_all_is_zero_and_so_is_the_gradient(mining, subject) -> None:
    e = torch.randn(4, 3, requires_grad=True)
    found, watch = triplet_loss(Triplets(mining=mining), e, {"subject": torch.tensor(subject), "draw": torch.rand(4, 2)})
    found.backward()
    assert found.item() == 0
    assert [value.item() for value in watch.values()] == [0, 0, 0]
    assert not e.grad.any()


@pytest.mark.parametrize("mining", MININGS)
@pytest.mark.parametrize("soft_margin", [False, True])
def test_gradients_are_finite_where_embeddings_coincide(mining, soft_margin) -> None:
    e = torch.ones(4, 3, requires_grad=True)
    found, _ = triplet_loss(Triplets(mining=mining, soft_margin=soft_margin), e, SUBJECTS | {"draw": torch.zeros(4, 2)})
    found.backward()
    assert found.item() == pytest.approx(math.log(2) if soft_margin else 0.3, rel=1e-5)
    assert bool(e.grad.isfinite().all())


def test_cross_entropy_with_smoothing_by_hand_leaves_unknown_subjects_out() -> None:
    config = MeshIdentity(head=SoftmaxHead(label_smoothing=0.2))
    logits = torch.tensor([[0.0, math.log(3)], [5.0, 0.0], [math.log(4), 0.0]], dtype=torch.float64)
    loss, accuracy = classification_loss(config, logits, torch.tensor([1, -1, 1]))
    first = -0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4)
    third = -0.9 * math.log(1 / 5) - 0.1 * math.log(4 / 5)
    assert loss.item() == pytest.approx((first + third) / 2)
    assert accuracy.item() == 0.5


def test_without_labels_classification_is_zero_with_a_zero_gradient() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss, accuracy = classification_loss(MeshIdentity(), logits, torch.tensor([-1, -1]))
    loss.backward()
    assert (loss.item(), accuracy.item()) == (0, 0)
    assert not logits.grad.any()


def test_the_angle_margin_is_added_to_the_right_class_alone() -> None:
    head = ArcFaceHead(scale=10.0, angle_margin=0.5)
    angles = [1.0, 1.2]
    logits = 10 * torch.tensor([angles], dtype=torch.float64).cos()
    loss, accuracy = classification_loss(MeshIdentity(head=head), logits, torch.tensor([0]))
    right, wrong = 10 * math.cos(1.5), 10 * math.cos(1.2)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(wrong - right)))
    assert accuracy.item() == 1


def test_beyond_pi_the_margin_goes_on_falling_and_gradients_are_finite_at_the_poles() -> None:
    config = MeshIdentity(head=ArcFaceHead(scale=1.0, angle_margin=0.5, label_smoothing=0.0))
    cosines = torch.tensor([math.cos(math.pi - 0.5) - 0.001, -1.0, 1.0, math.cos(math.pi - 0.5) + 0.001], dtype=torch.float64)
    logits = torch.stack([cosines, torch.zeros(4, dtype=torch.float64)], dim=1).requires_grad_()
    losses = [classification_loss(config, row[None], torch.zeros(1, dtype=torch.int64))[0] for row in logits]
    sum(losses).backward()
    assert losses[1].item() == pytest.approx(math.log1p(math.exp(1 + 0.5 * math.sin(0.5))))
    assert losses[0] > losses[3]
    assert bool(logits.grad.isfinite().all())


def test_the_loss_is_the_weighted_sum_and_tells_its_parts() -> None:
    config = replace(MeshIdentity(), classification_weight=0.5, triplet_weight=3.0)
    e = F.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    batch = SUBJECTS | {"label": torch.tensor([0, 0, 1, 1])}
    loss, scalars = identity_loss(config, (e, e, torch.randn(4, 2).requires_grad_()), batch)
    assert set(scalars) == {
        "classification_loss", "triplet_loss", "accuracy", "positive_distance", "negative_distance", "active_triplets"
    }  # fmt: skip
    assert loss.item() == pytest.approx(0.5 * scalars["classification_loss"].item() + 3 * scalars["triplet_loss"].item())
    assert all(value.dim() == 0 and not value.requires_grad for value in scalars.values())


def test_half_precision_is_raised_to_float32() -> None:
    e = F.normalize(torch.randn(4, 3), dim=1)
    batch = SUBJECTS | {"label": torch.tensor([0, 0, 1, 1])}
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = identity_loss(MeshIdentity(), (e, e, torch.randn(4, 2).bfloat16()), batch)
    assert loss.dtype == torch.float32
