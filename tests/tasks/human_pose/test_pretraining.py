"""The pretraining task: which clips when, and what reaches the network."""

from dataclasses import replace

import numpy as np
import pytest

from triform.tasks.human_pose.config import Alternating, Denoising, MaskedAutoencoder, PosePretraining
from triform.tasks.human_pose.model_torch import LiftNet, MaskedAutoencoderNet

ENCODER = Alternating(depth=1, width=8, heads=2)


def task(objective, **changed):
    return PosePretraining(encoder=ENCODER, objective=objective, **changed).build()


@pytest.fixture
def poses(few_poses):
    """Eight clips, the first alone with 3D."""
    found = few_poses({"S1/Walking 1/a": 40})
    return replace(found, labelled=np.arange(8) == 0)


def test_denoising_takes_clips_without_3d_from_the_epoch_it_is_told(poses):
    built = task(Denoising(unlabelled_from_epoch=2))
    for epoch in range(4):
        told = [built.select(poses, 4 * epoch + i, seed=0, batch_size=2) for i in range(4)]
        assert {found for found, _ in told} == {epoch}
        assert set(np.concatenate([indices for _, indices in told])) == ({0} if epoch < 2 else set(range(8)))


def test_masks_need_no_3d(poses):
    built = task(MaskedAutoencoder())
    chosen = np.concatenate([built.select(poses, step, seed=0, batch_size=2)[1] for step in range(4)])
    assert sorted(chosen) == list(range(8))


def test_each_objective_has_its_own_batch_net_and_prediction(few_poses):
    torch = pytest.importorskip("torch")
    poses = few_poses()
    for objective, kind, told, shape in (
        (MaskedAutoencoder(decoder_depth=1), MaskedAutoencoderNet, "joints_2d", (3, 5, 17, 2)),
        (Denoising(), LiftNet, "joints_3d", (3, 5, 17, 3)),
    ):
        built = task(objective)
        net = built.build_torch(poses.facts, 0)
        assert isinstance(net, kind)
        batch = {name: torch.from_numpy(array) for name, array in built.batch(poses, np.arange(3), seed=0, epoch=0).items()}
        predicted = built.predict_torch(net, batch)
        assert {name: tuple(value.shape) for name, value in predicted.items()} == {told: shape}
        loss, scalars = built.loss_torch(net, batch)
        assert torch.isfinite(loss)
        assert scalars
        assert built.rate_factor("encoder.embed.weight") == 1.0


def test_a_masked_net_never_sees_what_is_hidden(few_poses):
    """Other numbers in hidden frames and joints change no bit of the prediction."""
    torch = pytest.importorskip("torch")
    poses, built = few_poses(), task(MaskedAutoencoder(frame_mask_ratio=0.4, masked_joints=5, decoder_depth=1))
    net = built.build_torch(poses.facts, 0).eval()
    batch = dict(built.batch(poses, np.arange(3), seed=0, epoch=0))
    hidden = batch["joint_mask"] > 0
    hidden |= (batch["restore"] == batch["visible"].shape[1])[..., None]
    other = {**batch, "joints_2d": np.where(hidden[..., None], np.float32(9), batch["joints_2d"])}
    with torch.no_grad():
        told = [built.predict_torch(net, {k: torch.from_numpy(v) for k, v in some.items()})["joints_2d"] for some in (batch, other)]
    assert hidden.any()
    assert torch.equal(*told)


@pytest.mark.parametrize("objective", [MaskedAutoencoder(decoder_depth=1), Denoising()], ids=lambda one: one.kind)
def test_validation_is_the_same_every_time(few_poses, objective):
    pytest.importorskip("torch")
    from triform.backends.torch_backend import TorchBackend
    from triform.training.config import Training

    poses, built = few_poses(), task(objective)
    backend = TorchBackend(built, facts=poses.facts, settings=Training(), seed=0, device="cpu")
    told = [built.validate({"val": poses}, backend.predict, batch_size=size, seed=3) for size in (4, 4)]
    assert told[0] == told[1]
    assert told[0] != built.validate({"val": poses}, backend.predict, batch_size=4, seed=4)
    assert all(np.isfinite(value) for value in told[0].values())
