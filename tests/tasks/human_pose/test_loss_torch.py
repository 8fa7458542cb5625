"""Each loss against numbers by hand, its gradient, what it does not see, and what happens where nothing counts."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from triform.geometry.skeletons import H36M_17
from triform.tasks.human_pose.config import LiftingLosses
from triform.tasks.human_pose.loss_torch import TERMS, lifting_loss, masked_loss

NONE = LiftingLosses(mpjpe=0, n_mpjpe=0, velocity=0)
ALL = LiftingLosses(mpjpe=1, n_mpjpe=0.5, velocity=20, reprojection=1, bone_length=0.3, symmetry=0.2)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def batch_of(batch: int = 2, frames: int = 3) -> dict[str, Tensor]:
    """Every frame counts."""
    ones = torch.ones(batch, frames, dtype=torch.float64)
    confidence = torch.rand(batch, frames, 17, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.cat([normal(batch, frames, 17, 2, seed=2), confidence], 3)
    return {"joints_3d": normal(batch, frames, 17, 3, seed=3), "weight": ones, "target_2d": target, "seen": ones.clone()}


def flat(*values: float) -> Tensor:
    """Frames whose joints are all at (value, 0, 0)."""
    pose = torch.zeros(1, len(values), 17, 3, dtype=torch.float64)
    pose[..., 0] = torch.tensor(values, dtype=torch.float64)[:, None]
    return pose


def skeleton(left: float, right: float) -> Tensor:
    """A skeleton along x: each left bone is `left` long, each right one `right`, and those in the middle 1."""
    pose = torch.zeros(1, 1, 17, 3, dtype=torch.float64)
    for joint, parent in H36M_17.bones:
        length = left if joint in H36M_17.left else right if joint in H36M_17.right else 1.0
        pose[0, 0, joint, 0] = pose[0, 0, parent, 0] + length
    return pose


@pytest.mark.parametrize("name", list(TERMS))
def test_gradients_are_those_of_differences(name: str) -> None:
    batch = batch_of()
    batch["weight"][0, 1], batch["seen"][1, 2] = 0, 0
    torch.autograd.gradcheck(lambda p: TERMS[name](p, batch), normal(2, 3, 17, 3).requires_grad_())


def test_mpjpe_by_hand_counts_only_weighted_frames() -> None:
    batch = batch_of(1, 3) | {"joints_3d": flat(0, 0, 0), "weight": torch.tensor([[1.0, 1, 0]])}
    assert TERMS["mpjpe"](flat(1, 3, 50), batch).item() == pytest.approx(2)


def test_n_mpjpe_by_hand_and_scaling_changes_nothing() -> None:
    batch, pose = batch_of(1, 1), torch.zeros(1, 1, 17, 3, dtype=torch.float64)
    pose[..., 1, 0], truth = 1, torch.zeros_like(pose)
    truth[..., 1, :2] = torch.tensor([3.0, 4.0])  # <p, g> / <p, p> = 3 leaves (0, 4)
    assert TERMS["n_mpjpe"](pose, batch | {"joints_3d": truth}).item() == pytest.approx(4 / 17, abs=2e-6)
    x, batch = normal(2, 3, 17, 3), batch_of()
    assert TERMS["n_mpjpe"](x * 7, batch).item() == pytest.approx(TERMS["n_mpjpe"](x, batch).item(), rel=1e-12)
    assert TERMS["mpjpe"](x * 7, batch).item() > 2 * TERMS["mpjpe"](x, batch).item()


def test_velocity_by_hand_and_only_between_frames_that_both_count() -> None:
    batch = batch_of(1, 4) | {"joints_3d": flat(0, 1, 2, 3), "weight": torch.tensor([[1.0, 1, 0, 1]])}
    assert TERMS["velocity"](flat(5, 9, 100, 0), batch).item() == pytest.approx(3)  # 4 against 1
    assert TERMS["velocity"](flat(5, 9, -100, 7), batch).item() == pytest.approx(3)
    assert TERMS["velocity"](flat(7, 8, 9, 10), batch).item() == pytest.approx(0, abs=2e-6)


def test_reprojection_by_hand() -> None:
    """Three joints at -1, 0, 1 and a target at 1, 4, 7 but one off by 3 in y: s = 3, the shift (4, 1), 1, 2 and 1 remain in y."""
    pose, target = torch.zeros(2, 1, 1, 17, 3, dtype=torch.float64)
    pose[0, 0, :3, 0], pose[0, 0, 3:] = torch.tensor([-1.0, 0, 1]), 99
    target[0, 0, :3] = torch.tensor([[1.0, 0, 0.5], [4, 3, 0.5], [7, 0, 0.5]])
    batch = {"target_2d": target, "seen": torch.ones(1, 1)}
    assert TERMS["reprojection"](pose, batch).item() == pytest.approx(4 / 3)


def test_reprojection_does_not_see_scale_shift_or_depth() -> None:
    x, batch = normal(2, 3, 17, 3), batch_of()
    moved = torch.cat([x[..., :2] * 5 + torch.tensor([3.0, -2.0]), normal(2, 3, 17, 1, seed=9)], 3)
    assert TERMS["reprojection"](moved, batch).item() == pytest.approx(TERMS["reprojection"](x, batch).item(), rel=1e-9)


def test_reprojection_of_a_pose_upside_down_has_a_gradient_that_turns_it() -> None:
    batch = batch_of(1, 1)
    pose = torch.cat([-batch["target_2d"][..., :2], normal(1, 1, 17, 1)], 3).requires_grad_()
    start = TERMS["reprojection"](pose, batch)
    start.backward()
    assert TERMS["reprojection"](pose.detach() - 0.1 * pose.grad, batch) < start
    assert pose.grad.abs().max() > 1e-3


def test_bones_by_hand() -> None:
    batch = batch_of(1, 1) | {"joints_3d": skeleton(2.0, 2.0)}
    assert TERMS["bone_length"](skeleton(2.5, 1.0), batch).item() == pytest.approx((6 * 0.5 + 6 * 1.0) / 16)
    assert TERMS["symmetry"](skeleton(2.5, 1.0), batch).item() == pytest.approx(1.5)


def test_the_whole_is_the_weighted_sum_and_scalars_are_those_with_a_weight() -> None:
    x, batch = normal(2, 3, 17, 3), batch_of()
    loss, scalars = lifting_loss(ALL, x, batch)
    assert list(scalars) == [field.name for field in fields(ALL)]
    assert loss.item() == pytest.approx(sum(getattr(ALL, name) * value.item() for name, value in scalars.items()))
    loss, scalars = lifting_loss(replace(NONE, symmetry=2.0), x, batch)
    assert set(scalars) == {"mpjpe", "symmetry"}
    assert loss.item() == pytest.approx(2 * scalars["symmetry"].item())
    assert scalars["mpjpe"].item() == pytest.approx(TERMS["mpjpe"](x, batch).item())


@pytest.mark.parametrize("case", ["perfect", "nothing counts", "one joint seen", "zero prediction", "no 3D"])
def test_everything_stays_finite(case: str) -> None:
    batch = {name: value.float() for name, value in batch_of().items()}
    pose = normal(2, 3, 17, 3).float()
    if case == "perfect":
        pose = batch["joints_3d"].clone()
        batch["target_2d"][..., :2] = pose[..., :2] / 3 + 0.1
    elif case == "nothing counts":
        batch["weight"], batch["seen"] = torch.zeros(2, 2, 3)
    elif case == "one joint seen":
        batch["target_2d"][:, :, 1:, 2] = 0
    elif case == "zero prediction":
        pose = torch.zeros_like(pose)
    else:
        batch["weight"], batch["joints_3d"] = torch.zeros(2, 3), torch.zeros(2, 3, 17, 3)
    pose.requires_grad_()
    loss, scalars = lifting_loss(ALL, pose, batch)
    loss.backward()
    assert all(math.isfinite(value) for value in (loss.item(), *(value.item() for value in scalars.values())))
    assert torch.isfinite(pose.grad).all()
    if case == "perfect":
        assert all(scalars[name] < 1e-4 for name in ("mpjpe", "n_mpjpe", "velocity", "reprojection", "bone_length"))
    if case == "nothing counts":
        assert loss.item() == 0
        assert (pose.grad == 0).all()
    if case == "no 3D":
        assert [name for name, value in scalars.items() if value > 0] == ["reprojection", "symmetry"]


def masked_batch() -> dict[str, Tensor]:
    """Two clips of four frames, of which 0 and 2 are visible; joint 5 is hidden in frame 0; the last frame is padding in the second."""
    restore = torch.tensor([[0, 2, 1, 2]]).repeat(2, 1)
    mask, seen = torch.zeros(2, 4, 17), torch.ones(2, 4)
    mask[:, 0, 5], seen[1, 3] = 1, 0
    target = torch.cat([normal(2, 4, 17, 2), torch.ones(2, 4, 17, 1)], 3)
    target[:, 2, 7, 2] = 0
    return {"target_2d": target, "seen": seen, "visible": torch.tensor([[0, 2]] * 2), "restore": restore, "joint_mask": mask}


def test_masked_loss_by_hand() -> None:
    """Visible joints are off by 1, hidden ones by 5; what does not count by 100."""
    batch = masked_batch()
    off = torch.full((2, 4, 17), 5.0, dtype=torch.float64)
    off[:, [0, 2]], off[:, 0, 5], off[:, 2, 7], off[1, 3] = 1, 5, 100, 100
    predicted = batch["target_2d"][..., :2] + torch.stack([0.6 * off, -0.8 * off], 3)
    loss, scalars = masked_loss(predicted, batch)
    visible, hidden = 2 * (16 + 16), 2 * (1 + 17) + 17
    assert {name: value.item() for name, value in scalars.items()} == pytest.approx({"hidden": 5, "visible": 1})
    assert loss.item() == pytest.approx((visible + 5 * hidden) / (visible + hidden))


def test_masked_loss_has_right_gradients_and_survives_perfection() -> None:
    batch = masked_batch()
    torch.autograd.gradcheck(lambda p: masked_loss(p, batch)[0], normal(2, 4, 17, 2, seed=4).requires_grad_())
    perfect = batch["target_2d"][..., :2].float().requires_grad_()
    loss, _ = masked_loss(perfect, batch)
    loss.backward()
    assert loss.item() < 1e-5
    assert torch.isfinite(perfect.grad).all()


def test_half_precision_predictions_are_measured_in_float32() -> None:
    batch = {name: value.float() for name, value in batch_of().items()}
    pose = normal(2, 3, 17, 3).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss, scalars = lifting_loss(ALL, pose, batch)
    assert {value.dtype for value in (loss, *scalars.values())} == {torch.float32}
    assert loss.item() == lifting_loss(ALL, pose.float(), batch)[0].item()
