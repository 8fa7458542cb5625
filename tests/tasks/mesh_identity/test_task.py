"""The task as the loop meets it."""

from dataclasses import replace

import numpy as np
import pytest

from triform.tasks.mesh_identity.config import EdgeLayer, MeshIdentity, Triplets

TASK = MeshIdentity(k=4, layers=(EdgeLayer(width=4, graph="spatial"),), triplets=Triplets(meshes_per_subject=2)).build()
HEALTHY = {"positive_distance": 0.3, "negative_distance": 0.9, "active_triplets": 0.4}


def test_an_epoch_is_as_many_batches_as_the_data_fills(few_meshes) -> None:
    data = few_meshes(num_subjects=5, meshes_per_subject=4)
    told = [TASK.select(data, step, seed=0, batch_size=6) for step in range(7)]
    assert [epoch for epoch, _ in told] == [0, 0, 0, 1, 1, 1, 2]
    assert all(len(indices) == 6 and len(set(data.subjects[indices])) == 3 for _, indices in told)
    again = TASK.select(data, 5, seed=0, batch_size=6)[1]
    np.testing.assert_array_equal(again, told[5][1])
    assert [epoch for epoch, _ in (TASK.select(data, step, seed=0, batch_size=99) for step in (0, 1))] == [0, 1]


def test_batches_are_augmented_in_an_epoch_only(few_meshes) -> None:
    data, indices = few_meshes(), np.array([3, 1])
    plain, turned = (TASK.batch(data, indices, seed=0, epoch=epoch) for epoch in (None, 0))
    raw = data.coordinates[indices].astype(np.float64)
    np.testing.assert_allclose(plain["coordinates"], (raw - raw.mean(1, keepdims=True)) / data.scale, atol=1e-6)
    assert not np.allclose(turned["coordinates"], plain["coordinates"])


def test_validation_and_evaluation_reach_the_report(few_meshes, vertices) -> None:
    splits = {split: few_meshes(split, seed=i) for i, split in enumerate(("train", "val", "test"))}
    found = TASK.validate(splits, vertices, batch_size=5, seed=0)
    assert set(found) == {"rank_1", "eer", "genuine_distance", "impostor_distance"}
    said: list[str] = []
    evaluation = TASK.evaluate(splits, vertices, batch_size=5, seed=0, say=said.append)
    assert said[1] == "val: 12 meshes of 4 subjects"
    assert TASK.panels(evaluation.arrays(), [])[0].title == "Identification of subjects that were never seen"


def test_both_frameworks_take_the_same_batch_and_give_the_same_first_numbers(few_meshes) -> None:
    torch = pytest.importorskip("torch")
    mx = pytest.importorskip("mlx.core")
    task = replace(TASK.config, dropout=0.0, point_width=8, hidden_widths=(8,), embedding_dim=4).build()
    data = few_meshes()
    batch = task.batch(data, np.array([0, 1, 3, 4]), seed=0, epoch=0)
    net, twin = task.build_torch(data.facts, 5), task.build_mlx(data.facts, 5)
    loss, scalars = task.loss_torch(net, {name: torch.from_numpy(array) for name, array in batch.items()})
    other, others = task.loss_mlx(twin, {name: mx.array(array) for name, array in batch.items()})
    assert float(loss.detach()) == pytest.approx(float(other), rel=1e-4)
    assert set(scalars) == set(others)
    assert {"positive_distance", "negative_distance", "active_triplets"} < set(scalars)
    net.eval()
    twin.eval()
    told = task.predict_torch(net, {name: torch.from_numpy(array) for name, array in batch.items()})
    also = task.predict_mlx(twin, {name: mx.array(array) for name, array in batch.items()})
    assert {name: tuple(value.shape) for name, value in told.items()} == {"embedding": (4, 4), "logits": (4, 4)}
    for name, value in told.items():
        np.testing.assert_allclose(value.detach().numpy(), np.array(also[name]), atol=1e-3)


@pytest.mark.parametrize(
    ("scalars", "warned"),
    [
        (HEALTHY, False),
        (HEALTHY | {"positive_distance": 1e-5}, False),
        (HEALTHY | {"positive_distance": 1e-5, "negative_distance": 5e-3, "active_triplets": 1.0}, True),
        ({"positive_distance": 0.0, "negative_distance": 0.0, "active_triplets": 0.0}, False),
        ({"loss": 1.0}, False),
    ],
)
def test_a_collapse_is_told(scalars: dict[str, float], warned: bool) -> None:
    told = TASK.watch(scalars)
    assert (told is not None) == warned
    if told:
        assert "collapses" in told
