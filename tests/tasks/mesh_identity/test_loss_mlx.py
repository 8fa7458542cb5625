"""Classification and triplet loss in MLX: values by hand, and a plain loop over all triplets."""

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")

from triform.tasks.mesh_identity.config import ArcFaceHead, MeshIdentity, SoftmaxHead, Triplets  # noqa: E402
from triform.tasks.mesh_identity.loss_mlx import classification_loss, identity_loss, triplet_loss  # noqa: E402

SUBJECTS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3])


def array(values):
    values = np.asarray(values)
    return mx.array(values, dtype=mx.float64 if values.dtype.kind == "f" else None)


def unit(count, dim=5, seed=0, spread=1.0):
    """Vectors around one of three directions, so that there are easy and hard triplets."""
    generator = np.random.default_rng(seed)
    rows = np.eye(3, dim)[SUBJECTS[:count] % 3] + spread * generator.normal(size=(count, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def told(settings, embedding, subjects=SUBJECTS, draw=None):
    batch = {"subject": array(subjects)} | ({} if draw is None else {"draw": array(draw)})
    loss, scalars = triplet_loss(settings, array(embedding), batch)
    return float(loss.item()), {name: float(value.item()) for name, value in scalars.items()}


def candidates(subjects, anchor):
    others = [j for j in range(len(subjects)) if j != anchor]
    return [j for j in others if subjects[j] == subjects[anchor]], [j for j in others if subjects[j] != subjects[anchor]]


def by_loops(settings, embedding, subjects, draw):
    """The chosen triplets' (distance to positive, distance to negative), by the words of each mining."""
    distance = np.sqrt(((embedding[:, None] - embedding[None]) ** 2).sum(-1) + 1e-12)
    chosen = []
    for a in range(len(subjects)):
        positives, negatives = candidates(subjects, a)
        if not positives or not negatives:
            continue
        to_p, to_n = distance[a, positives], distance[a, negatives]
        if settings.mining == "batch_hard":
            chosen.append((to_p.max(), to_n.min()))
        elif settings.mining == "batch_semi_hard":
            chosen += [(p, min(to_n[to_n > p], default=to_n.max())) for p in to_p]
        elif settings.mining == "batch_all":
            chosen += [(p, n) for p in to_p for n in to_n]
        else:
            chosen.append((to_p[int(draw[a, 0] * len(to_p))], to_n[int(draw[a, 1] * len(to_n))]))
    return np.array(chosen)


@pytest.mark.parametrize("spread", [0.05, 0.6])
@pytest.mark.parametrize("soft_margin", [False, True])
@pytest.mark.parametrize("mining", ["batch_hard", "batch_semi_hard", "batch_all", "random"])
def test_every_mining_is_its_loop(mining, soft_margin, spread):
    settings, embedding = Triplets(mining=mining, margin=0.4, soft_margin=soft_margin), unit(9, spread=spread)
    draw = np.random.default_rng(1).random((9, 2))
    p, n = by_loops(settings, embedding, SUBJECTS, draw).T
    values = np.log1p(np.exp(p - n)) if soft_margin else np.maximum(p - n + 0.4, 0)
    active = p - n > 0 if soft_margin else values > 0
    wanted = values[active].mean() if mining == "batch_all" and not soft_margin and active.any() else values.mean()
    loss, scalars = told(settings, embedding, draw=draw)
    assert loss == pytest.approx(wanted, rel=1e-6 if soft_margin else 1e-12)
    assert scalars == pytest.approx({"positive_distance": p.mean(), "negative_distance": n.mean(), "active_triplets": active.mean()})


def test_batch_hard_by_hand():
    """Angles 0, 60 of one subject, 90, 180 of the other: distances 1; sqrt 2, 2; 2 sin 15 deg, sqrt 3; sqrt 2."""
    angles = np.deg2rad([0, 60, 90, 180])
    embedding = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    near = 2 * np.sin(np.deg2rad(15))
    positives, negatives = np.array([1, 1, 2**0.5, 2**0.5]), np.array([2**0.5, near, near, 3**0.5])
    loss, scalars = told(Triplets(margin=0.3), embedding, np.array([7, 7, 9, 9]))
    assert loss == pytest.approx(np.maximum(positives - negatives + 0.3, 0).mean(), rel=1e-9)
    assert scalars["active_triplets"] == 0.5


@pytest.mark.parametrize("mining", ["batch_hard", "batch_semi_hard", "batch_all", "random"])
@pytest.mark.parametrize("subjects", [[0, 0, 0], [0, 1, 2]], ids=["no negative", "no positive"])
def test_without_a_triplet_the_loss_and_its_gradient_are_zero(mining, subjects):
    def loss(embedding):
        batch = {"subject": mx.array(subjects), "draw": mx.array([[0.5, 0.5]] * 3)}
        return triplet_loss(Triplets(mining=mining, soft_margin=True), embedding, batch)[0]

    value, gradient = mx.value_and_grad(loss)(array(unit(3)))
    assert value.item() == 0
    assert not np.array(gradient).any()


@pytest.mark.parametrize("mining", ["batch_hard", "batch_semi_hard", "batch_all", "random"])
def test_the_gradient_is_finite_where_all_embeddings_coincide(mining):
    def loss(embedding):
        return triplet_loss(Triplets(mining=mining), embedding, {"subject": array(SUBJECTS), "draw": mx.zeros((9, 2))})[0]

    assert np.isfinite(np.array(mx.grad(loss)(mx.ones((9, 5)) / 5**0.5))).all()


def classified(head, logits, labels):
    loss, accuracy = classification_loss(MeshIdentity(head=head), array(logits), array(labels))
    return float(loss.item()), float(accuracy.item())


def test_cross_entropy_by_hand_leaves_the_unlabelled_out():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05]]))
    loss, accuracy = classified(SoftmaxHead(label_smoothing=0.0), logits, np.array([0, 2, -1]))
    assert loss == pytest.approx(-(np.log(0.5) + np.log(0.1)) / 2, rel=1e-6)
    assert accuracy == 0.5
    smooth, _ = classified(SoftmaxHead(label_smoothing=0.3), logits[:1], np.array([0]))
    assert smooth == pytest.approx(-(0.8 * np.log(0.5) + 0.2 * np.log(0.25)), rel=1e-6)
    assert classified(SoftmaxHead(), logits, np.array([-1, -1, -1])) == (0, 0)


def test_arcface_adds_the_margin_to_the_right_class_only():
    angles, margin = np.array([[0.3, 1.2], [3.0, 0.5]]), 0.5
    logits = 10 * np.cos(angles)
    moved = logits.copy()
    moved[0, 0] = 10 * np.cos(0.3 + margin)
    moved[1, 0] = 10 * (np.cos(3.0) - margin * np.sin(margin))  # beyond pi
    wanted = -np.mean([row[0] - np.log(np.exp(row).sum()) for row in moved])
    loss, accuracy = classified(ArcFaceHead(scale=10.0, angle_margin=margin), logits, np.array([0, 0]))
    assert loss == pytest.approx(wanted, rel=1e-6)
    assert accuracy == 0.5


def test_the_loss_is_the_weighted_sum_and_says_what_it_is_made_of():
    config = MeshIdentity(classification_weight=0.5, triplet_weight=2.0)
    batch = {"subject": array(SUBJECTS), "label": array(SUBJECTS)}
    loss, scalars = identity_loss(config, (array(unit(9)), array(unit(9)), array(unit(9, 4))), batch)
    wanted = {"classification_loss", "triplet_loss", "accuracy", "positive_distance", "negative_distance", "active_triplets"}
    assert scalars.keys() == wanted
    assert all(value.shape == () for value in scalars.values())
    assert loss.item() == pytest.approx(0.5 * scalars["classification_loss"].item() + 2 * scalars["triplet_loss"].item())
