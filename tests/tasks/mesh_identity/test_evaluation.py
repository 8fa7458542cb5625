"""Evaluation of a stand-in network, beside baselines; maps and saliency; and that all of it comes back from its arrays."""

import json
from dataclasses import replace

import numpy as np
import pytest

from triform.errors import DataError, Diverged
from triform.tasks.mesh_identity.config import EdgeLayer, MeshAugmentation, MeshIdentity
from triform.tasks.mesh_identity.embedding_map import embedding_maps, pca, umap
from triform.tasks.mesh_identity.evaluation import WHO, Evaluation
from triform.tasks.mesh_identity.measuring import evaluate
from triform.tasks.mesh_identity.saliency import cover, occlusion
from triform.tasks.mesh_identity.validation import AS_THEY_ARE, poses, predict_all, validation_metrics

CONFIG = MeshIdentity(k=4, layers=(EdgeLayer(width=4, graph="spatial"),), gallery_draws=4)
TURNED = "turned about y"


@pytest.fixture(scope="module")
def open_splits(few_meshes):
    return {
        "train": few_meshes(num_subjects=6),
        "val": few_meshes("val", num_subjects=3, seed=1),
        "test": few_meshes("test", num_subjects=5, meshes_per_subject=4, seed=2),
    }


@pytest.fixture(scope="module")
def evaluation(open_splits, vertices) -> Evaluation:
    return evaluate(CONFIG, open_splits, vertices, batch_size=7, seed=0)


@pytest.fixture(scope="module")
def closed_evaluation(few_meshes, vertices) -> Evaluation:
    splits = {"train": few_meshes(), "val": few_meshes("val", closed=True, noise=0.03), "test": few_meshes("test", closed=True)}
    return evaluate(replace(CONFIG, augmentation=MeshAugmentation(rotate="none")), splits, vertices, batch_size=5, seed=0)


def test_every_pose_and_baseline_is_measured_the_same_way(evaluation: Evaluation) -> None:
    assert evaluation.protocol == "open_set"
    assert evaluation.pose == TURNED
    test = evaluation.splits["test"].scores
    assert list(test) == [AS_THEY_ARE, TURNED]
    assert list(test[TURNED]) == ["model", "chance", "raw_vertices", "kabsch", "kabsch_lda"]
    for who in ("model", "raw_vertices", "kabsch"):
        assert test[AS_THEY_ARE][who]["rank_1"].mean == 1
    assert test[TURNED]["kabsch"]["rank_1"].mean == 1
    assert test[TURNED]["kabsch"]["eer"].mean == 0
    assert test[TURNED]["raw_vertices"]["rank_1"].mean < 0.8
    assert test[TURNED]["chance"]["rank_1"].mean == pytest.approx(0.2)
    assert test[TURNED]["chance"]["map"].mean == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5)
    assert test[TURNED]["kabsch"]["tar_far_0.01"] is None
    assert list(test[TURNED]["model"]) == ["rank_1", "rank_5", "rank_10", "map", "eer", "auc", "tar_far_0.01", "tar_far_0.001"]


def test_histograms_count_every_pair_and_confusions_name_the_probe(evaluation: Evaluation) -> None:
    test = evaluation.splits["test"]
    assert test.genuine.sum() == 5 * 6
    assert test.impostor.sum() == 190 - 30
    assert len(test.genuine) == len(evaluation.edges) - 1
    assert test.confusions
    for confusion in test.confusions:
        assert confusion.mesh in test.names
        assert confusion.taken_for != confusion.subject == confusion.mesh.split("/")[0]
        assert 0 < confusion.share <= 1
    surely = [confusion.share for confusion in test.confusions]
    assert surely == sorted(surely, reverse=True)


def test_known_subjects_are_named(closed_evaluation: Evaluation) -> None:
    assert closed_evaluation.protocol == "closed_set"
    assert closed_evaluation.pose == AS_THEY_ARE
    test = closed_evaluation.splits["test"].scores[AS_THEY_ARE]
    assert {who: list(told) for who, told in test.items()} == {who: ["accuracy"] for who in WHO}
    assert test["chance"]["accuracy"].mean == 0.25
    assert [test[who]["accuracy"].mean for who in ("raw_vertices", "kabsch", "kabsch_lda")] == [1, 1, 1]
    wrong = len(closed_evaluation.splits["test"].confusions)
    assert test["model"]["accuracy"].mean == pytest.approx(1 - wrong / 12)
    assert wrong > 0
    assert closed_evaluation.title == "accuracy, meshes as they are (higher is better)"
    assert closed_evaluation.facts()[0][0] == "accuracy, val"


def test_unregistered_meshes_defeat_what_needs_correspondence(few_meshes, vertices) -> None:
    splits = {split: few_meshes(split, seed=i, registered=False) for i, split in enumerate(("train", "test"))}
    generator = np.random.default_rng(0)
    for data in splits.values():
        data.coordinates = np.stack([generator.permutation(mesh) for mesh in data.coordinates])

    def unordered(batch):
        coordinates = np.sort(np.linalg.norm(batch["coordinates"], axis=2), axis=1)
        return {"embedding": coordinates / np.linalg.norm(coordinates, axis=1, keepdims=True), "logits": np.zeros((len(coordinates), 4))}

    scores = evaluate(CONFIG, splits, unordered, batch_size=8, seed=0).splits["test"].scores[TURNED]
    assert scores["model"]["rank_1"].mean == 1
    assert max(scores[who]["rank_1"].mean for who in ("raw_vertices", "kabsch", "kabsch_lda")) < 0.8


def test_it_can_be_told_as_json_rows_and_facts(evaluation: Evaluation) -> None:
    summary = json.loads(json.dumps(evaluation.summary(), allow_nan=False))
    assert summary["shown_split"] == "test"
    assert summary["counts"]["val"] == {"meshes": 9, "subjects": 3}
    assert summary["scores"]["test"][TURNED]["kabsch"]["rank_1"] == {"mean": 1, "deviation": 0}
    assert summary["scores"]["test"][TURNED]["kabsch"]["tar_far_0.001"] is None
    rows = evaluation.table()
    assert len(rows) == 2 * 2 * 5
    assert rows[0]["split"] == "val"
    assert rows[0]["tar_far_0.001"] == ""
    assert json.dumps(evaluation.headline(), allow_nan=False)
    assert evaluation.headline()["test"]["Kabsch"] == 1
    label, value, note = evaluation.facts()[2]
    assert label == "rank-1, test"
    assert "±" in value
    assert "Kabsch 1.000" in note


@pytest.mark.parametrize("protocol", ["open", "closed"])
def test_it_comes_back_whole_from_its_arrays(protocol: str, evaluation: Evaluation, closed_evaluation: Evaluation, tmp_path) -> None:
    whole = evaluation if protocol == "open" else closed_evaluation
    np.savez(tmp_path / "arrays.npz", **whole.arrays())
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as arrays:
        back = Evaluation.from_arrays(dict(arrays))
    assert (back.title, back.summary(), back.table()) == (whole.title, whole.summary(), whole.table())
    assert (back.headline(), back.facts(), back.map_note) == (whole.headline(), whole.facts(), whole.map_note)
    assert back.splits["test"].confusions == whole.splits["test"].confusions
    for name, array in back.arrays().items():
        np.testing.assert_array_equal(array, whole.arrays()[name], err_msg=name)


@pytest.mark.long
def test_equal_seeds_give_equal_bits(evaluation: Evaluation, open_splits, vertices) -> None:
    again = evaluate(CONFIG, open_splits, vertices, batch_size=7, seed=0).arrays()
    for name, array in evaluation.arrays().items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)


def test_validation_agrees_with_the_evaluation_and_says_what_picks_the_model(
    open_splits, evaluation, closed_evaluation, few_meshes, vertices
) -> None:
    found = validation_metrics(CONFIG, open_splits["val"], vertices, batch_size=4, seed=0)
    scores = evaluation.splits["val"].scores[TURNED]["model"]
    assert list(found) == ["rank_1", "eer", "genuine_distance", "impostor_distance"]
    assert found["rank_1"] == scores["rank_1"].mean
    assert found["eer"] == scores["eer"].mean
    still = replace(CONFIG, augmentation=MeshAugmentation(rotate="none"))
    closed = validation_metrics(still, few_meshes("val", closed=True, noise=0.03), vertices, batch_size=4, seed=0)
    assert list(closed) == ["accuracy", "classification_loss", "genuine_distance", "impostor_distance"]
    assert closed["accuracy"] == closed_evaluation.splits["val"].scores[AS_THEY_ARE]["model"]["accuracy"].mean
    assert closed["genuine_distance"] < 0.2 < closed["impostor_distance"]


def test_what_is_not_finite_or_not_there_is_told(open_splits, few_meshes) -> None:
    def broken(batch):
        return {"embedding": np.full((len(batch["coordinates"]), 2), np.nan), "logits": np.zeros((len(batch["coordinates"]), 2))}

    with pytest.raises(Diverged, match="embedding of a mesh is not finite"):
        predict_all(CONFIG, open_splits["val"], broken, batch_size=4, seed=0)
    with pytest.raises(DataError, match="no mesh"):
        evaluate(CONFIG, {"train": open_splits["train"]}, broken, batch_size=4, seed=0)


def test_the_pose_that_counts_is_the_one_that_is_trained() -> None:
    for rotate, degrees, name in (
        ("up", 180, "turned about z"),
        ("up", 30, "turned about z by up to 30 degrees"),
        ("any", 180, "turned about a random axis"),
    ):
        config = replace(CONFIG, augmentation=MeshAugmentation(rotate=rotate, rotate_degrees=degrees, jitter_std=1.0, vertex_dropout=0.5))
        found, counts = poses(config, up_axis="z")
        assert counts == name
        assert found[counts].augmentation == MeshAugmentation(rotate=rotate, rotate_degrees=degrees)
    assert poses(replace(CONFIG, augmentation=MeshAugmentation(rotate="none")), up_axis="z")[1] == AS_THEY_ARE


def test_the_map_finds_the_long_axis_and_small_sets_are_no_trouble() -> None:
    along = np.linspace(-1, 1, 9)
    points = pca(np.outer(along, [3, 4, 0]) + 7)
    np.testing.assert_allclose(points, np.stack([5 * along, 0 * along], axis=1), atol=1e-5)
    assert embedding_maps(np.zeros((2, 4)), seed=0) == ({}, "")
    maps, _ = embedding_maps(np.random.default_rng(0).normal(size=(3, 4)), seed=0)
    assert list(maps) == ["PCA"]


def test_maps_of_many_kinds_are_drawn(evaluation: Evaluation) -> None:
    pytest.importorskip("sklearn")
    assert list(evaluation.maps)[:2] == ["PCA", "t-SNE"]
    for points in evaluation.maps.values():
        assert points.shape == (20, 2)
        assert np.isfinite(points).all()


@pytest.mark.long
@pytest.mark.parametrize("count", [5, 40])
def test_umap_repeats_and_is_silent(count: int) -> None:
    pytest.importorskip("umap")
    rows = np.random.default_rng(0).normal(size=(count, 6)) + 5 * (np.arange(count) % 2)[:, None]
    points = umap(rows, seed=3)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
    np.testing.assert_array_equal(points, umap(rows, seed=3))


def test_what_is_missing_for_a_map_is_said(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    maps, note = embedding_maps(np.random.default_rng(0).normal(size=(9, 4)), seed=0)
    assert list(maps) == ["PCA"]
    assert note == "t-SNE and UMAP left out: pip install 'triform[embed]'."


def test_saliency_finds_the_vertex_that_the_embedding_looks_at(few_meshes) -> None:
    data = few_meshes(num_vertices=60)
    coordinates, normals = (part[0] for part in data.read(np.array([0])))
    watched = int(coordinates[:, 0].argmax())

    def predict(batch):
        angle = batch["coordinates"][:, watched, 0]
        return {"embedding": np.stack([np.cos(angle), np.sin(angle)], axis=1), "logits": np.zeros((len(angle), 4))}

    values = occlusion(CONFIG, data, coordinates, normals, predict, batch_size=8, num_patches=20)
    assert values.shape == (60,)
    assert values.dtype == np.float32
    far = np.linalg.norm(coordinates - coordinates[watched], axis=1).argmax()
    assert values[watched] > 0.5
    assert values[far] == 0
    assert np.median(values) < values[watched] / 2
    assert cover(coordinates, num_patches=3, fraction=0.1).any(0).all()
    assert cover(coordinates, num_patches=99, fraction=0.01).sum() == 60


def test_removed_patches_are_as_large_as_those_of_the_augmentation(open_splits, vertices) -> None:
    values = []
    for fraction in (0.05, 0.4):
        config = replace(CONFIG, augmentation=MeshAugmentation(patch_fraction=fraction))
        values.append(evaluate(config, open_splits, vertices, batch_size=7, seed=0).exhibits[0].values)
    assert values[1].mean() > values[0].mean()


@pytest.mark.parametrize("spread", [0, 1e-30])
def test_a_collapsed_embedding_has_a_map_too(spread: float) -> None:
    noise = np.random.default_rng(0).normal(size=(15, 8))
    maps, note = embedding_maps(np.asarray(np.eye(8)[:1] * (1 - spread) + spread * noise, np.float32), seed=0)
    assert list(maps) == ["PCA"]
    assert np.abs(maps["PCA"]).max() < 1e-6
    assert note == "t-SNE and UMAP left out: all embeddings are the same."
