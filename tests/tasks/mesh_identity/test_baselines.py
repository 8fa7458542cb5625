"""Baselines: rigid alignment undoes rotations, discriminants are those of scikit-learn."""

import numpy as np
import pytest

from triform.tasks.mesh_identity.augmentation import rotation
from triform.tasks.mesh_identity.baselines import chance, fit_discriminants, kabsch, mean_shape, nearest, nearest_mean, raw_vertices
from triform.tasks.mesh_identity.metrics import Measure, distances, identification


def turned(meshes: np.ndarray, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    axes = generator.normal(size=(len(meshes), 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return np.stack([mesh @ rotation(axis, generator.uniform(-3, 3)).T for mesh, axis in zip(meshes, axes, strict=True)])


def labelled_rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5), 12)
    spread = generator.normal(size=(8, 8))
    return 1.5 * generator.normal(size=(5, 8))[labels] + generator.normal(size=(60, 8)) @ spread, labels


def test_raw_vertices_know_no_place() -> None:
    meshes = np.random.default_rng(0).normal(size=(3, 6, 3))
    np.testing.assert_allclose(raw_vertices(meshes + 7), raw_vertices(meshes), atol=1e-12)
    assert raw_vertices(meshes).shape == (3, 18)


def test_alignment_undoes_rotation_and_place_and_never_reflects() -> None:
    meshes = np.random.default_rng(0).normal(size=(4, 9, 3))
    found = kabsch(turned(meshes, 1) + 5, meshes[0])
    np.testing.assert_allclose(found[0], meshes[0] - meshes[0].mean(0), atol=1e-6)
    np.testing.assert_allclose(found, kabsch(meshes, meshes[0]), atol=1e-6)
    reflected = meshes[0] * [-1, 1, 1]
    mirrored = kabsch(reflected[None], meshes[0])[0]
    assert np.linalg.norm(mirrored - (meshes[0] - meshes[0].mean(0))) > 1
    np.testing.assert_allclose(distances(mirrored, mirrored), distances(reflected, reflected), atol=1e-6)


def test_the_mean_shape_of_turned_copies_is_the_copy() -> None:
    mesh = np.random.default_rng(0).normal(size=(9, 3))
    found = mean_shape(turned(np.repeat(mesh[None], 5, axis=0), 2))
    np.testing.assert_allclose(distances(found, found), distances(mesh, mesh), atol=1e-5)


def test_discriminants_classify_as_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.discriminant_analysis")
    (rows, labels), (queries, _) = labelled_rows(0), labelled_rows(1)
    oracle = sklearn.LinearDiscriminantAnalysis(solver="eigen", priors=np.full(5, 0.2)).fit(rows, labels)
    found = fit_discriminants(rows, labels, variance=1.0)
    assert found.directions.shape == (8, 4)
    np.testing.assert_array_equal(nearest_mean(found(queries), found(rows), labels), oracle.predict(queries))
    wanted = oracle.transform(queries)
    np.testing.assert_allclose(distances(found(queries), found(queries)), distances(wanted, wanted), rtol=1e-6, atol=1e-6)


def test_discriminants_see_through_a_nuisance_that_vertices_drown_in() -> None:
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(30), 4)
    identity, nuisance = generator.normal(size=(30, 6)), 8 * generator.normal(size=(120, 3))
    rows = np.concatenate([identity[subjects] + 0.05 * generator.normal(size=(120, 6)), nuisance], axis=1)
    rows = rows @ np.linalg.qr(generator.normal(size=(9, 9)))[0]
    train, test = subjects < 20, subjects >= 20
    found = fit_discriminants(rows[train], subjects[train], variance=1.0)(rows[test])
    scores = [identification(distances(x, x), subjects[test], seed=0, draws=5)["rank_1"].mean for x in (rows[test], found)]
    assert scores[0] < 0.6
    assert scores[1] == 1


def test_more_values_than_meshes_can_be_learned_from() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 50))
    found = fit_discriminants(rows, np.array([0, 0, 1, 1, 2, 2]))
    assert np.isfinite(found(rows)).all()


def test_nearest_takes_the_first_of_equals() -> None:
    rows = np.array([[0.0], [2.0], [2.0]])
    assert nearest(np.array([[1.9], [0.1]]), rows, np.array([5, 7, 9])).tolist() == [7, 5]


def test_chance_is_what_random_embeddings_reach() -> None:
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(12), 5)
    drawn = []
    for seed in range(20):
        embedding = generator.normal(size=(60, 16))
        drawn.append(identification(distances(embedding, embedding), subjects, seed=seed, draws=5))
    told = chance(12, {"rank_1": Measure(0, 0), "rank_5": Measure(0, 0), "map": Measure(0, 0), "eer": None})
    assert told["eer"] is None
    for name in ("rank_1", "rank_5", "map"):
        wanted = told[name]
        assert wanted is not None
        assert np.mean([one[name].mean for one in drawn]) == pytest.approx(wanted.mean, abs=0.03)
