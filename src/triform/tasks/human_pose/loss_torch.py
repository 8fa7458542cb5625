"""Losses of lifting and of masked pretraining in PyTorch: means over what counts, 0 where nothing does, in float32 under autocast too."""

from collections.abc import Callable, Mapping
from dataclasses import fields

import torch
from jaxtyping import Float
from torch import Tensor
from torch.profiler import record_function

from triform.geometry.skeletons import H36M_17
from triform.tasks.human_pose.config import LiftingLosses

Pose = Float[Tensor, "batch frame joint 3"]
Batch = Mapping[str, Tensor]

TINY = 1e-12
"""Keeps the root's gradient finite where a distance is 0."""
SMALLEST_VARIANCE = 1e-8
"""Of joints about their centre: below it, a tenth of a millimetre in metres, no scale is found."""
SMALLEST_SCALE = 0.1
"""Of the ratio of sizes. The best scale of a pose that is upside down is negative; at 0 it would have no gradient and stay so."""


def lifting_loss(weights: LiftingLosses, predicted: Pose, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of the losses, and each that has a weight; `mpjpe` in any case. All 0-d.

    Args:
        predicted: relative to the root, in the network's unit.
        batch: "joints_3d" (batch, frame, joint, 3), likewise; "weight" (batch, frame), 1 where they count, else 0; "target_2d"
            (batch, frame, joint, 3): x, y and confidence; "seen" (batch, frame), 0 where a frame is padding, else 1.
    """
    wanted = {field.name: getattr(weights, field.name) for field in fields(weights)}
    with record_function("loss"), torch.autocast(predicted.device.type, enabled=False):
        predicted = _exact(predicted)
        terms = {name: TERMS[name](predicted, batch) for name, weight in wanted.items() if weight > 0 or name == "mpjpe"}
        loss = torch.stack([wanted[name] * term for name, term in terms.items()]).sum()
    return loss, {name: term.detach() for name, term in terms.items()}


def mpjpe(predicted: Pose, batch: Batch) -> Float[Tensor, ""]:
    """Return the mean distance of a joint from its true place."""
    return _mean(_length(predicted - batch["joints_3d"]), batch["weight"][..., None])


def n_mpjpe(predicted: Pose, batch: Batch) -> Float[Tensor, ""]:
    """Return the same after each frame's prediction p was scaled by <p, g> / <p, p>, g being the truth; the scale is differentiated.

    Source: Rhodin et al., "Learning Monocular 3D Human Pose Estimation from Multi-view Images" (CVPR 2018); as a loss, MotionBERT (Zhu et
    al., ICCV 2023).
    """
    truth = batch["joints_3d"]
    product, square = ((predicted * other).sum((2, 3), keepdim=True) for other in (truth, predicted))
    return _mean(_length(predicted * (product / square.clamp(min=TINY)) - truth), batch["weight"][..., None])


def velocity(predicted: Pose, batch: Batch) -> Float[Tensor, ""]:
    """Return the mean distance of a joint's displacement, from a frame to the next, from the true one, where both frames count.

    Source: Pavllo et al., "3D human pose estimation in video" (CVPR 2019), MPJVE; as a loss, MotionBERT (ICCV 2023).
    """
    error, weight = predicted - batch["joints_3d"], batch["weight"]
    return _mean(_length(error[:, 1:] - error[:, :-1]), (weight[:, 1:] * weight[:, :-1])[..., None])


def reprojection(predicted: Pose, batch: Batch) -> Float[Tensor, ""]:
    """Return the mean distance in 2D, weighted by confidence, after each frame's best weak-perspective camera: the scale s and the shift
    that bring x, y nearest to the target in least squares. s is at least `SMALLEST_SCALE` of the ratio of both poses' sizes."""
    target, confidence = batch["target_2d"][..., :2], batch["target_2d"][..., 2:] * batch["seen"][..., None, None]
    share = confidence / confidence.sum(2, keepdim=True).clamp(min=TINY)
    plane, target = (points - (share * points).sum(2, keepdim=True) for points in (predicted[..., :2], target))
    product, square, size = ((share * pair).sum((2, 3), keepdim=True) for pair in (plane * target, plane.square(), target.square()))
    square = square.clamp(min=SMALLEST_VARIANCE)
    scale = torch.maximum(product / square, SMALLEST_SCALE * ((size + TINY) / square).sqrt())
    return _mean(_length(scale * plane - target), confidence[..., 0])


def bone_length(predicted: Pose, batch: Batch) -> Float[Tensor, ""]:
    """Return the mean difference of a bone's length from its true one."""
    return _mean((_bones(predicted) - _bones(batch["joints_3d"])).abs(), batch["weight"][..., None])


def symmetry(predicted: Pose, batch: Batch) -> Float[Tensor, ""]:
    """Return the mean difference in length of a bone and of its mirror image, in frames that are no padding."""
    # A bone has its joint's number less one: all but joint 0, the root, have one.
    left, right = (_select(_bones(predicted), [joint - 1 for joint in side]) for side in (H36M_17.left, H36M_17.right))
    return _mean((left - right).abs(), batch["seen"][..., None])


def masked_loss(predicted: Float[Tensor, "batch frame joint 2"], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean distance of a joint in 2D, and that of what the encoder did not see ("hidden") and of what it saw ("visible").

    Args:
        batch: "target_2d" (batch, frame, joint, 3): x, y, confidence; joints of confidence 0 don't count; "seen" (batch, frame), 0 where a
            frame is padding; "visible" (batch, visible); "restore" (batch, frame), the number of visible frames where one is hidden;
            "joint_mask" (batch, frame, joint), 1 where a joint is hidden.

    Source: Shan et al., "P-STMO" (ECCV 2022), section 3.2.
    """
    target = batch["target_2d"]
    with record_function("loss"), torch.autocast(predicted.device.type, enabled=False):
        distance = _length(_exact(predicted) - target[..., :2])
        counts = (target[..., 2] > 0) * batch["seen"][..., None]
        hidden = (batch["restore"] == batch["visible"].shape[1])[..., None] | (batch["joint_mask"] > 0)
        parts = {"hidden": _mean(distance, counts * hidden), "visible": _mean(distance, counts * ~hidden)}
        loss = _mean(distance, counts)
    return loss, {name: part.detach() for name, part in parts.items()}


TERMS: dict[str, Callable[[Pose, Batch], Tensor]] = {
    "mpjpe": mpjpe,
    "n_mpjpe": n_mpjpe,
    "velocity": velocity,
    "reprojection": reprojection,
    "bone_length": bone_length,
    "symmetry": symmetry,
}


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _length(vectors: Float[Tensor, "*batch axis"]) -> Float[Tensor, "*batch"]:
    return (vectors.square().sum(-1) + TINY).sqrt()


def _bones(pose: Pose) -> Float[Tensor, "batch frame bone"]:
    """Lengths, in the order of the joints."""
    joints, parents = ([bone[end] for bone in H36M_17.bones] for end in (0, 1))
    return _length(_select(pose, joints) - _select(pose, parents))


def _select(values: Float[Tensor, "batch frame from *axis"], places: list[int]) -> Float[Tensor, "batch frame to *axis"]:
    return values.index_select(2, torch.tensor(places, device=values.device))


def _mean(values: Float[Tensor, "*shape"], weight: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """The weighted mean (weights are broadcast); 0 where all weights are."""
    weight = weight.expand_as(values)
    return (values * weight).sum() / weight.sum().clamp(min=TINY)
