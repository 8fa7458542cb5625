"""Metrics by hand and against scikit-learn."""

import numpy as np
import pytest

from triform.errors import DataError, Diverged
from triform.tasks.mesh_identity.metrics import (
    auc,
    average_precisions,
    cross_entropy,
    distances,
    eer,
    galleries,
    identification,
    pairs,
    ranks,
    roc,
    share,
    tar_at,
    verification,
)

PROBES = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.1, 0.5, 0.9]])
RELEVANT = np.array([[False, True, False, True], [True, False, False, False]])


def scores(seed: int, *, decimals: int = 9) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(0.8, 0.3, 80).round(decimals), generator.normal(1.2, 0.3, 700).round(decimals)


def test_distances_are_euclidean_and_finite() -> None:
    a, b = np.array([[0.0, 0], [3, 4]]), np.array([[0.0, 0], [0, 4]])
    np.testing.assert_allclose(distances(a, b), [[0, 4], [5, 3]])
    with pytest.raises(Diverged, match="not finite"):
        distances(np.array([[np.nan]]), np.zeros((1, 1)))


def test_pairs_are_taken_once() -> None:
    matrix = np.arange(9.0).reshape(3, 3)
    genuine, impostor = pairs(matrix, np.array([4, 2, 4]))
    assert genuine.tolist() == [2]
    assert impostor.tolist() == [1, 5]


def test_ranks_and_average_precision_by_hand() -> None:
    assert ranks(PROBES, RELEVANT).tolist() == [2, 3]
    np.testing.assert_allclose(average_precisions(PROBES, RELEVANT), [(1 / 2 + 2 / 4) / 2, 1 / 3])


def test_a_collapsed_embedding_earns_nothing() -> None:
    found = identification(np.zeros((6, 6)), np.array([0, 0, 1, 1, 2, 2]), seed=0, draws=3)
    assert found["rank_1"].mean == 0


def test_the_equal_error_rate_by_hand() -> None:
    false, true = roc(np.array([1.0, 2, 3, 6]), np.array([4.0, 5, 7, 8]))
    np.testing.assert_array_equal(false, [0, 0, 0, 0, 0.25, 0.5, 0.5, 0.75, 1])
    np.testing.assert_array_equal(true, [0, 0.25, 0.5, 0.75, 0.75, 0.75, 1, 1, 1])
    assert eer(false, true) == 0.25
    assert tar_at(false, true, 0.3) == 0.75
    assert tar_at(false, true, 0.5) == 1
    assert auc(false, true) == pytest.approx(14 / 16)
    together = roc(np.array([1.0]), np.array([1.0]))
    assert eer(*together) == 0.5
    apart = roc(np.array([1.0]), np.array([2.0]))
    assert (eer(*apart), auc(*apart)) == (0, 1)


@pytest.mark.parametrize(("seed", "decimals"), [(0, 9), (1, 9), (2, 1)])
def test_the_roc_is_that_of_scikit_learn(seed: int, decimals: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    genuine, impostor = scores(seed, decimals=decimals)
    wanted = np.concatenate([np.ones(len(genuine)), np.zeros(len(impostor))])
    nearness = -np.concatenate([genuine, impostor])
    false, true, _ = sklearn.roc_curve(wanted, nearness, drop_intermediate=False)
    found = roc(genuine, impostor)
    np.testing.assert_allclose(found[0], false, atol=1e-12)
    np.testing.assert_allclose(found[1], true, atol=1e-12)
    assert auc(*found) == pytest.approx(sklearn.roc_auc_score(wanted, nearness))
    assert tar_at(*found, 0.01) == true[false <= 0.01].max()
    rate = eer(*found)
    assert np.interp(rate, *_parametrised(false, true)) == pytest.approx(1 - rate, abs=2e-2)


def _parametrised(false: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC's upper edge as a function of the false accept rate."""
    rates = np.unique(false)
    return rates, np.array([true[false == rate].max() for rate in rates])


def test_average_precision_is_that_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    probes, relevant = generator.uniform(size=(20, 30)).round(2), generator.uniform(size=(20, 30)) < 0.2
    relevant[:, 0] = True
    oracle = [sklearn.average_precision_score(wanted, -row) for wanted, row in zip(relevant, probes, strict=True)]
    np.testing.assert_allclose(average_precisions(probes, relevant), oracle)


def test_a_gallery_is_one_mesh_of_each_subject_drawn_by_seed() -> None:
    subjects = np.array([0, 0, 0, 1, 1, 2])
    drawn = galleries(subjects, seed=0, draws=20)
    assert all(sorted(subjects[one]) == [0, 1, 2] for one in drawn)
    assert len({tuple(one) for one in drawn}) > 3
    np.testing.assert_array_equal(drawn, galleries(subjects, seed=0, draws=20))
    assert not np.array_equal(drawn, galleries(subjects, seed=1, draws=20))
    with pytest.raises(DataError, match="No subject has two meshes"):
        galleries(np.arange(3), seed=0, draws=1)


def test_identification_by_hand_where_the_draw_does_not_matter() -> None:
    places = np.array([[0.0], [0.1], [10.0], [10.1], [100.0]])
    subjects = np.array([0, 0, 1, 1, 2])
    found = identification(distances(places, places), subjects, seed=0, draws=4)
    assert (found["rank_1"].mean, found["map"].mean, found["rank_1"].deviation) == (1, 1, 0)
    swapped = identification(distances(places, places), np.array([0, 1, 0, 1, 2]), seed=0, draws=50)
    assert 0 < swapped["rank_1"].mean < 1
    assert swapped["rank_5"].mean == 1
    assert swapped["rank_1"].deviation > 0


def test_rates_without_enough_impostor_pairs_are_not_told() -> None:
    generator = np.random.default_rng(0)
    embedding = generator.normal(size=(60, 4))
    found = verification(distances(embedding, embedding), np.repeat(np.arange(20), 3), seed=0, draws=4)
    assert found["tar_far_0.01"] is not None
    assert found["tar_far_0.001"] is None
    assert found["eer"] is not None
    assert abs(found["eer"].mean - 0.5) < 0.15
    assert found["eer"].deviation > 0
    lonely = verification(np.zeros((2, 2)), np.array([0, 0]), seed=0, draws=2)
    assert set(lonely.values()) == {None}


def test_the_share_of_right_answers_and_the_cross_entropy() -> None:
    right = share(np.array([True, True, False, True]), np.array([0, 0, 1, 1]), seed=0, draws=9)
    assert right.mean == 0.75
    assert 0.1 < right.deviation <= 0.25
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    assert cross_entropy(logits + 1000, np.array([0, 2])) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2)
