"""The lifting task: which clips make a batch, and how fast each layer learns."""

from dataclasses import replace

import numpy as np
import pytest

from triform.errors import DataError
from triform.tasks.human_pose.config import Alternating, DualStream, FrameTokens, LiftingLosses, PoseLifting
from triform.tasks.human_pose.lifting import select
from triform.tasks.human_pose.model_torch import LiftNet

SMALL = {"depth": 3, "width": 8, "heads": 2}
ENCODERS = pytest.mark.parametrize("encoder", [DualStream(**SMALL), Alternating(**SMALL), FrameTokens(**SMALL)], ids=lambda one: one.kind)


def partly_labelled(poses, *numbers):
    labelled = np.zeros(len(poses.names), bool)
    labelled[list(numbers)] = True
    return replace(poses, labelled=labelled)


def epoch_of(poses, epoch, *, batch_size=2, **words):
    steps = len(poses.names) // batch_size
    told = [select(poses, epoch * steps + i, seed=4, batch_size=batch_size, **words) for i in range(steps)]
    assert {found for found, _ in told} == {epoch}
    return np.concatenate([indices for _, indices in told])


def test_an_epoch_is_a_permutation_and_the_next_is_another(few_poses):
    poses = few_poses({"S1/Walking 1/a": 40})
    assert len(poses.names) == 8
    first, second = (epoch_of(poses, epoch, labelled_alone=False) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(8))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("labelled", [(1,), (1, 4, 6), (0, 1, 2, 5, 7)], ids=len)
def test_labelled_clips_alone_come_equally_often(few_poses, labelled):
    poses = partly_labelled(few_poses({"S1/Walking 1/a": 40}), *labelled)
    counts = np.zeros(8, int)
    for epoch in range(len(labelled)):
        chosen = epoch_of(poses, epoch, labelled_alone=True)
        assert len(chosen) == 8  # an epoch has as many steps as with all clips
        assert set(chosen) <= set(labelled)
        counts += np.bincount(chosen, minlength=8)
    assert set(counts[list(labelled)]) == {8}


def test_where_all_are_labelled_nothing_differs(few_poses):
    poses = few_poses({"S1/Walking 1/a": 40})
    np.testing.assert_array_equal(epoch_of(poses, 2, labelled_alone=True), epoch_of(poses, 2, labelled_alone=False))


def test_unlabelled_clips_take_part_where_a_loss_needs_no_3d(few_poses):
    poses, encoder = partly_labelled(few_poses({"S1/Walking 1/a": 40}), 3), Alternating(**SMALL)
    for losses, alone in ((LiftingLosses(), True), (LiftingLosses(reprojection=1), False), (LiftingLosses(symmetry=0.1), False)):
        task = PoseLifting(encoder=encoder, losses=losses).build()
        chosen = np.concatenate([task.select(poses, step, seed=0, batch_size=2)[1] for step in range(4)])
        assert (set(chosen) == {3}) == alone


def test_no_3d_at_all_is_an_error_that_names_the_way_out(few_poses):
    with pytest.raises(DataError, match=r"No training sequence has 3D.*pose_pretraining"):
        select(partly_labelled(few_poses()), 0, seed=0, batch_size=2, labelled_alone=True)


@ENCODERS
def test_every_parameter_learns_at_the_rate_of_its_layer(encoder):
    task = PoseLifting(encoder=encoder, layer_decay=0.5).build()
    net = LiftNet(encoder, {"num_frames": 5, "num_joints": 17})
    expected = {"encoder.embed": 1 / 16, "encoder.positions": 1 / 16, "encoder.norm": 1 / 2, "head": 1.0}
    expected |= {f"encoder.layers.{i}": 0.5 ** (3 - i) for i in range(3)}
    seen = set()
    for name, _ in net.named_parameters():
        (place,) = [prefix for prefix in expected if name.startswith(f"{prefix}.")]
        assert task.rate_factor(name) == expected[place], name
        seen.add(place)
    assert seen == expected.keys()


@ENCODERS
def test_without_decay_all_learn_at_one_rate(encoder):
    task = PoseLifting(encoder=encoder).build()
    net = LiftNet(encoder, {"num_frames": 5, "num_joints": 17})
    assert {task.rate_factor(name) for name, _ in net.named_parameters()} == {1.0}


@ENCODERS
def test_the_optimizer_has_the_rates_and_a_saved_state_finds_its_own_parameters(encoder, few_poses):
    from triform.backends.torch_backend import TorchBackend
    from triform.training.config import Training

    task, poses = PoseLifting(encoder=encoder, layer_decay=0.5).build(), few_poses()

    one, other = (TorchBackend(task, facts=poses.facts, settings=Training(), seed=0, device="cpu") for _ in range(2))
    for step in range(3):
        one.train_step(task.batch(poses, np.arange(4), seed=0, epoch=0), step, 0.01)
    rates = {id(p): group["lr"] for group in one.optimizer.param_groups for p in group["params"]}
    for name, parameter in one.parameters.items():
        assert rates[id(parameter)] == 0.01 * task.rate_factor(name)
    assert len(one.optimizer.param_groups) == 5  # embedding, three layers (the norm goes with the last), head
    other.load_state(one.state())
    saved = {name: array.copy() for name, array in one.state().items()}
    assert all(np.array_equal(array, saved[name]) for name, array in other.state().items())
    batch = task.batch(poses, np.arange(4), seed=0, epoch=1)
    assert one.train_step(batch, 3, 0.01) == other.train_step(batch, 3, 0.01)
    assert all(np.array_equal(array, other.state()[name]) for name, array in one.state().items())


def test_a_low_layer_moves_less(few_poses):
    from triform.backends.torch_backend import TorchBackend
    from triform.training.config import Training

    task, poses = PoseLifting(encoder=Alternating(**SMALL), layer_decay=0.1).build(), few_poses()
    backend = TorchBackend(task, facts=poses.facts, settings=Training(weight_decay=0.0), seed=0, device="cpu")
    before = {name: array.copy() for name, array in backend.state().items()}
    backend.train_step(task.batch(poses, np.arange(4), seed=0, epoch=0), 0, 0.01)
    moved = {name: np.abs(array - before[name]).max() for name, array in backend.state().items() if name.startswith("model/")}
    assert moved["model/head.weight"] == pytest.approx(0.01, rel=0.01)  # Adam's first step is the rate itself
    assert moved["model/encoder.embed.weight"] == pytest.approx(0.01 * 0.1**4, rel=0.05)
