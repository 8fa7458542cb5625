"""Batches: shapes, graphs against brute force, keys of the augmentation, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from triform.errors import ExperimentError
from triform.geometry.sampling import farthest_from_centroid, farthest_point_sample_reference
from triform.tasks.mesh_identity import graphs
from triform.tasks.mesh_identity.batch import draws_of, make_batch
from triform.tasks.mesh_identity.config import EdgeLayer, MeshAugmentation, MeshIdentity, Triplets
from triform.tasks.mesh_identity.graphs import k_nearest_in_space

LAYERS = (EdgeLayer(width=4, graph="spatial"), EdgeLayer(width=4, keep_vertices=10), EdgeLayer(width=4, graph="spatial"))
STILL = MeshIdentity(k=5, layers=LAYERS, augmentation=MeshAugmentation(rotate="none"))
INDICES = np.array([7, 2, 4])


def augmented(**changes: object) -> MeshIdentity:
    return replace(STILL, augmentation=replace(STILL.augmentation, **changes))


def brute_force(points: np.ndarray, k: int) -> np.ndarray:
    squared = np.square(points[:, None].astype(np.float64) - points).sum(2)
    np.fill_diagonal(squared, -1)
    return np.argsort(squared, axis=1, kind="stable")[:, :k]


def test_a_batch_is_centred_scaled_and_has_a_graph_for_each_level_that_uses_one(few_meshes) -> None:
    data = few_meshes()
    batch = make_batch(STILL, data, INDICES, seed=0, epoch=None)
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "coordinates": ((3, 24, 3), "float32"),
        "normals": ((3, 24, 3), "float32"),
        "subject": ((3,), "int64"),
        "label": ((3,), "int64"),
        "spatial_0": ((3, 24, 5), "int32"),
        "pool_1": ((3, 10), "int32"),
        "spatial_1": ((3, 10, 5), "int32"),
    }
    raw = data.coordinates[INDICES].astype(np.float64)
    np.testing.assert_allclose(batch["coordinates"], (raw - raw.mean(1, keepdims=True)) / 2, atol=1e-6)
    assert batch["subject"].tolist() == [2, 0, 1]
    for i, mesh in enumerate(batch["coordinates"]):
        np.testing.assert_array_equal(batch["spatial_0"][i], brute_force(mesh, 5))
        pool = farthest_point_sample_reference(mesh, 10, start=int(farthest_from_centroid(mesh)))
        np.testing.assert_array_equal(batch["pool_1"][i], pool)
        np.testing.assert_array_equal(batch["spatial_1"][i], brute_force(mesh[pool], 5))


def test_a_layer_that_keeps_all_stays_on_its_level_and_k_is_at_most_the_vertices(few_meshes) -> None:
    layers = (EdgeLayer(width=4, keep_vertices=24), EdgeLayer(width=4, graph="spatial", keep_vertices=3))
    batch = make_batch(replace(STILL, layers=layers), few_meshes(), INDICES, seed=0, epoch=None)
    assert set(batch) == {"coordinates", "normals", "subject", "label", "pool_1", "spatial_1"}
    assert batch["spatial_1"].shape == (3, 3, 3)


@pytest.mark.parametrize("k", [1, 3, 7, 30])
def test_neighbours_of_grids_and_copies_are_settled_by_index_with_the_vertex_itself_first(k: int) -> None:
    grid = np.stack(np.meshgrid(range(4), range(4), range(2)), axis=-1).reshape(-1, 3).astype(np.float32)
    points = np.concatenate([grid, grid[:5], np.repeat(grid[:1], 9, axis=0)])
    found = k_nearest_in_space(points, k)
    np.testing.assert_array_equal(found[:, 0], np.arange(len(points)))
    np.testing.assert_array_equal(found, brute_force(points, k))


def test_all_vertices_in_one_place_are_no_trouble() -> None:
    found = k_nearest_in_space(np.zeros((6, 3), np.float32), 3)
    assert found.tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1], [4, 0, 1], [5, 0, 1]]
    assert k_nearest_in_space(np.zeros((1, 3), np.float32), 1).tolist() == [[0]]


def test_augmentation_is_keyed_by_seed_epoch_and_sample_whatever_is_beside_it(few_meshes) -> None:
    data, config = few_meshes(), augmented(rotate="any", jitter_std=0.1)
    batch = make_batch(config, data, INDICES, seed=1, epoch=2)
    alone = make_batch(config, data, INDICES[1:2], seed=1, epoch=2)
    for name in batch:
        np.testing.assert_array_equal(batch[name][1:2], alone[name])
    for seed, epoch in ((1, 3), (2, 2)):
        other = make_batch(config, data, INDICES, seed=seed, epoch=epoch)
        assert not np.allclose(other["coordinates"], batch["coordinates"])
    twice = make_batch(config, data, np.array([2, 2]), seed=1, epoch=2)["coordinates"]
    np.testing.assert_array_equal(twice[0], alone["coordinates"][0])
    assert not np.allclose(twice[0], twice[1])


def test_normals_turn_along_and_a_rotation_changes_no_distance(few_meshes) -> None:
    data = few_meshes()
    plain, turned = (make_batch(config, data, INDICES, seed=0, epoch=0) for config in (STILL, augmented(rotate="up")))
    for name in ("coordinates", "normals"):
        np.testing.assert_allclose(turned[name][..., 1], plain[name][..., 1], atol=1e-5)
        assert not np.allclose(turned[name], plain[name], atol=0.01)
    products = [np.einsum("bnc,bnc->bn", batch["coordinates"], batch["normals"]) for batch in (plain, turned)]
    np.testing.assert_allclose(products[0], products[1], atol=1e-5)


def test_a_turned_and_scaled_mesh_has_the_neighbours_that_it_has_as_it_is(few_meshes) -> None:
    data = few_meshes()
    for epoch in (None, 0, 1):
        batch = make_batch(augmented(rotate="any", scale_range=(0.5, 2.0)), data, INDICES, seed=0, epoch=epoch)
        for i, mesh in enumerate(batch["coordinates"]):
            np.testing.assert_array_equal(batch["spatial_0"][i], brute_force(mesh, 5))
    shaken = make_batch(augmented(jitter_std=1.0), data, INDICES, seed=0, epoch=0)
    for i, mesh in enumerate(shaken["coordinates"]):
        np.testing.assert_array_equal(shaken["spatial_0"][i], brute_force(mesh, 5))
        np.testing.assert_array_equal(shaken["spatial_1"][i], brute_force(mesh[shaken["pool_1"][i]], 5))


def test_structures_are_found_once_and_forgotten_when_they_are_too_many(few_meshes, monkeypatch) -> None:
    found: list[int] = []
    monkeypatch.setattr(graphs, "_remembered", type(graphs._remembered)())
    monkeypatch.setattr(graphs, "pool", lambda coordinates, num: found.append(num) or np.arange(num))
    data = few_meshes()
    size = sum(array.nbytes for array in graphs.structure(STILL, data.coordinates[0]).values())
    monkeypatch.setattr(graphs, "_MOST_BYTES", 2 * size)
    found.clear()
    for sample in (0, 1, 0, 1, 2, 1, 0):
        make_batch(STILL, data, np.array([sample]), seed=0, epoch=None)
    assert len(found) == 4
    assert len(graphs._remembered) == 2
    make_batch(replace(STILL, k=6), data, np.array([0]), seed=0, epoch=None)
    assert len(found) == 5


def test_a_vertex_that_vanishes_vanishes_from_pooled_levels_too(few_meshes) -> None:
    data = few_meshes(num_vertices=200)
    config = replace(augmented(neighbor_dropout=0.4), layers=(LAYERS[0], EdgeLayer(width=4, graph="spatial", keep_vertices=100)))
    batch = make_batch(config, data, INDICES, seed=0, epoch=0)
    for place, (draws, _) in enumerate(draws_of(data, INDICES, seed=0, epoch=0)):
        gone = set(np.flatnonzero(draws.vanished < 0.4).tolist())
        assert 50 < len(gone) < 110
        sources = np.arange(200)
        for level in range(2):
            sources = sources[batch["pool_1"][place]] if level else sources
            graph = batch[f"spatial_{level}"][place]
            seen = sources[graph[:, 1:][graph[:, 1:] != graph[:, :1]]]
            assert len(set(seen.tolist())) > 30
            assert not set(seen.tolist()) & gone


def test_one_setting_does_not_shift_the_draws_of_another(few_meshes) -> None:
    data = few_meshes()
    turned = make_batch(augmented(rotate="up"), data, INDICES, seed=0, epoch=0)
    both = make_batch(augmented(rotate="up", edge_dropout=0.5, scale_range=(2.0, 2.0)), data, INDICES, seed=0, epoch=0)
    np.testing.assert_allclose(both["coordinates"], 2 * turned["coordinates"], rtol=1e-6)


def test_jitter_is_in_the_meshs_own_unit(few_meshes) -> None:
    data = few_meshes(num_vertices=2000, scale=10.0)
    config = replace(augmented(jitter_std=0.5), layers=(EdgeLayer(width=4),))
    plain, shaken = (
        make_batch(one, data, INDICES, seed=0, epoch=0)["coordinates"] for one in (replace(config, augmentation=STILL.augmentation), config)
    )
    assert (shaken - plain).std() == pytest.approx(0.05, rel=0.05)


def test_dropout_and_patches_keep_the_number_of_vertices(few_meshes) -> None:
    data = few_meshes()
    for config in (augmented(vertex_dropout=0.5), augmented(patch_probability=1.0, patch_fraction=0.4)):
        coordinates = make_batch(config, data, INDICES, seed=0, epoch=0)["coordinates"]
        plain = make_batch(STILL, data, INDICES, seed=0, epoch=0)["coordinates"]
        assert coordinates.shape == plain.shape
        for mesh, whole in zip(coordinates, plain, strict=True):
            left = {tuple(vertex) for vertex in mesh}
            assert left < {tuple(vertex) for vertex in whole}
            assert 5 <= len(left) <= 20


def test_edges_become_loops_and_vanished_vertices_are_nobodys_neighbour(few_meshes) -> None:
    data = few_meshes(num_vertices=200)
    plain = make_batch(STILL, data, INDICES, seed=0, epoch=0)["spatial_0"]
    loops = make_batch(augmented(edge_dropout=0.5), data, INDICES, seed=0, epoch=0)["spatial_0"]
    own = np.broadcast_to(np.arange(200)[:, None], (3, 200, 4))
    assert (loops[..., 0] == plain[..., 0]).all()
    assert ((loops == plain)[..., 1:] | (loops[..., 1:] == own)).all()
    assert (loops[..., 1:] == own).mean() == pytest.approx(0.5, abs=0.05)
    gone = make_batch(augmented(neighbor_dropout=0.3), data, INDICES, seed=0, epoch=0)["spatial_0"]
    seen = [set(graph[:, 1:][graph[:, 1:] != np.arange(200)[:, None]].tolist()) for graph in gone]
    assert all(100 < len(vertices) < 170 for vertices in seen)
    assert all(len(set(graph[:, 1:].ravel().tolist())) > 190 for graph in plain)
    still = make_batch(augmented(edge_dropout=0.5), data, INDICES, seed=0, epoch=None)["spatial_0"]
    np.testing.assert_array_equal(still, plain)


def test_smoothing_and_mirror_reach_the_batch(few_meshes) -> None:
    swap = np.arange(24).reshape(-1, 2)[:, ::-1].ravel().astype(np.int32)
    data = few_meshes(mirror=swap)
    plain = make_batch(STILL, data, INDICES, seed=0, epoch=0)["coordinates"]
    smooth = make_batch(augmented(smoothing_probability=1.0), data, INDICES, seed=0, epoch=0)["coordinates"]
    graph = brute_force(plain[0], 5)
    np.testing.assert_allclose(smooth[0], (plain[0] + plain[0][graph[:, 1:]].mean(1)) / 2, atol=1e-6)
    mirror = make_batch(augmented(mirror_probability=1.0), data, INDICES, seed=0, epoch=0)["coordinates"]
    np.testing.assert_array_equal(np.abs(mirror), np.abs(plain[:, swap]))
    assert (mirror != plain[:, swap]).any()


def test_what_the_data_lacks_is_refused(few_meshes) -> None:
    mirror = augmented(mirror_probability=0.5)
    with pytest.raises(ExperimentError, match="no mirror permutation"):
        make_batch(mirror, few_meshes(), INDICES, seed=0, epoch=0)
    with pytest.raises(ExperimentError, match="not registered"):
        make_batch(mirror, few_meshes(registered=False, mirror=np.arange(24)), INDICES, seed=0, epoch=0)
    with pytest.raises(ExperimentError, match="no faces"):
        make_batch(replace(STILL, layers=(EdgeLayer(width=4, graph="mesh"),)), few_meshes(), INDICES, seed=0, epoch=0)


def test_the_mesh_graph_follows_the_edges_and_is_the_same_for_all(few_meshes) -> None:
    strip = np.array([[i, i + 1, i + 2] for i in range(22)], np.int32)
    batch = make_batch(replace(STILL, layers=(EdgeLayer(width=4, graph="mesh"),)), few_meshes(faces=strip), INDICES, seed=0, epoch=0)
    graph = batch["mesh_0"]
    assert graph.shape == (3, 24, 5)
    assert graph.dtype == np.int32
    np.testing.assert_array_equal(graph[0], graph[2])
    np.testing.assert_array_equal(graph[0, :, 0], np.arange(24))
    assert np.abs(graph[0] - np.arange(24)[:, None]).max() <= 8


def test_the_mesh_graph_is_the_same_in_training_and_validation(few_meshes) -> None:
    strip = np.array([[i, i + 1, i + 2] for i in range(22)], np.int32)
    train, val = few_meshes(faces=strip), few_meshes("val", faces=strip, seed=1)
    val.digest, val.template = train.digest, train.template
    config = replace(STILL, layers=(EdgeLayer(width=4, graph="mesh"),))
    graphs_of = [make_batch(config, data, INDICES, seed=0, epoch=None)["mesh_0"][0] for data in (train, val)]
    np.testing.assert_array_equal(*graphs_of)


def test_random_mining_brings_its_draws(few_meshes) -> None:
    config = replace(STILL, triplets=Triplets(mining="random"))
    drawn = make_batch(config, few_meshes(), INDICES, seed=0, epoch=0)["draw"]
    assert drawn.shape == (3, 2)
    assert drawn.dtype == np.float32
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert len(np.unique(drawn)) == 6
