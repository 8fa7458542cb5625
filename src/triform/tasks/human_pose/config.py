"""Settings of human pose: pretraining of an attention encoder, and lifting 2D joints to 3D."""

from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import Field

from triform.settings import settings

if TYPE_CHECKING:
    from triform.tasks.human_pose.lifting import LiftingTask
    from triform.tasks.human_pose.pretraining import PretrainingTask

Positive = Annotated[int, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Probability = Annotated[float, Interval(ge=0, le=1)]
Share = Annotated[float, Interval(ge=0, lt=1)]


@settings
class DualStream:
    """Attention over joints and frames in two streams of opposite order, fused by learned weights (Zhu et al., MotionBERT, ICCV 2023)."""

    kind: Literal["dual_stream"] = "dual_stream"
    depth: Positive = 5
    """Layers; in each, both streams hold a spatial and a temporal block."""
    width: Positive = 256
    """Channels of a token."""
    heads: Positive = 8
    """Attention heads."""
    mlp_ratio: Annotated[float, Gt(0)] = 4.0
    """Hidden channels of a block's MLP, in units of `width`."""
    dropout: Share = 0.0
    """Share of the hidden units left out in training."""


@settings
class Alternating:
    """Attention over joints, then over frames, in turn: one token a joint and frame (as MixSTE, Zhang et al., CVPR 2022)."""

    kind: Literal["alternating"] = "alternating"
    depth: Positive = 2
    """Pairs of a spatial and a temporal block."""
    width: Positive = 256
    """Channels of a token."""
    heads: Positive = 8
    """Attention heads."""
    mlp_ratio: Annotated[float, Gt(0)] = 2.0
    """Hidden channels of a block's MLP, in units of `width`."""
    dropout: Share = 0.0
    """Share of the hidden units left out in training."""


@settings
class FrameTokens:
    """Attention over frames alone: one token a frame (Shan et al., P-STMO, ECCV 2022)."""

    kind: Literal["frame_tokens"] = "frame_tokens"
    depth: Positive = 4
    """Temporal blocks."""
    width: Positive = 256
    """Channels of a token."""
    heads: Positive = 8
    """Attention heads."""
    mlp_ratio: Annotated[float, Gt(0)] = 2.0
    """Hidden channels of a block's MLP, in units of `width`."""
    dropout: Share = 0.1
    """Share of the hidden units left out in training."""


Encoder = Annotated[DualStream | Alternating | FrameTokens, Field(discriminator="kind")]


@settings
class PoseAugmentation:
    """Random changes of training clips, each keyed by (seed, epoch, sample)."""

    flip_probability: Probability = 0.5
    """Chance that left and right are swapped."""
    rotate_up_degrees: Annotated[float, Interval(ge=0, le=180)] = 0.0
    """Largest turn of the person about the world's up axis to either side; 2D is projected anew (clips with 3D and a camera)."""
    scale_range: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (1.0, 1.0)
    """Smallest and largest factor of the person's size, in 2D and 3D about the root."""
    speed_range: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (1.0, 1.0)
    """Smallest and largest factor of the motion's speed."""
    noise_std: NonNegative = 0.0
    """Standard deviation of noise on each 2D coordinate, where the image is 2 wide."""
    joint_dropout: Share = 0.0
    """Chance that a joint of a frame is not seen: its 2D and confidence become 0."""
    frame_dropout: Share = 0.0
    """Chance that a whole frame is not seen."""


@settings
class LiftingLosses:
    """Weights of the losses between predicted and true joints, root-relative, in the network's unit (metres)."""

    mpjpe: NonNegative = 1.0
    """Mean distance of a joint."""
    n_mpjpe: NonNegative = 0.5
    """The same after the best scaling of each frame (Rhodin et al., CVPR 2018)."""
    velocity: NonNegative = 20.0
    """Mean distance of a joint's displacements from frame to frame (Pavllo et al., CVPR 2019)."""
    reprojection: NonNegative = 0.0
    """Confidence-weighted distance in 2D after the best weak-perspective camera of each frame; needs no 3D."""
    bone_length: NonNegative = 0.0
    """Mean error of the bones' lengths."""
    symmetry: NonNegative = 0.0
    """Mean difference of left and right bones' lengths; needs no 3D."""


@settings
class MaskedAutoencoder:
    """Give back the 2D of hidden frames and joints; only visible frames go through the encoder (Shan et al., P-STMO, ECCV 2022)."""

    kind: Literal["masked_autoencoder"] = "masked_autoencoder"
    frame_mask_ratio: Share = 0.6
    """Share of a clip's frames that are hidden."""
    masked_joints: Annotated[int, Ge(0)] = 3
    """Joints hidden in each visible frame."""
    decoder_depth: Positive = 2
    """Temporal blocks of the decoder: what a joint says of another must be found by the encoder."""
    decoder_width: Annotated[int, Ge(0)] = 0
    """Channels of the decoder's tokens (0: half the encoder's)."""


@settings
class Corruption:
    """What is done to the 2D of a training clip before the network sees it."""

    noise: NonNegative = 1.0
    """Factor of an imitated detector's errors, added to the 2D."""
    joint_mask_ratio: Share = 0.05
    """Chance that a joint of a frame is hidden."""
    frame_mask_ratio: Share = 0.1
    """Chance that a whole frame is hidden."""


@settings
class Denoising(Corruption):
    """Lift corrupted 2D to 3D where 3D is known, to consistent 2D where it is not (Zhu et al., MotionBERT, ICCV 2023)."""

    kind: Literal["denoising"] = "denoising"
    unlabelled_from_epoch: Annotated[int, Ge(0)] = 30
    """Epoch from which clips without 3D join in."""
    losses: LiftingLosses = field(default_factory=lambda: LiftingLosses(reprojection=1.0))
    """Weights of the losses; without 3D only those count that need none."""


@settings
class MultiView(Corruption):
    """Lift corrupted 2D to the 3D on which all cameras of a moment agree: found from their 2D alone (Kocabas et al., CVPR 2019)."""

    kind: Literal["multi_view"] = "multi_view"
    stature_m: Annotated[float, Gt(0)] = 1.7
    """How large everybody is taken to be: pictures tell no size."""
    losses: LiftingLosses = field(default_factory=LiftingLosses)
    """Weights of the losses."""


LEAST_VIEWS = 3
"""Of two parallel projections a whole family of shapes explains both (Ullman, "The Interpretation of Visual Motion", 1979)."""
Objective = MaskedAutoencoder | Denoising | MultiView


@settings
class PosePretraining:
    """Learn how people move, from 2D alone or from corrupted 2D, before few labels are used."""

    kind: Literal["pose_pretraining"] = "pose_pretraining"
    encoder: Encoder
    """What is pretrained."""
    objective: Annotated[Objective, Field(discriminator="kind")]
    """What it is pretrained by."""
    augmentation: PoseAugmentation = field(default_factory=PoseAugmentation)
    """Random changes of training clips."""

    def build(self) -> "PretrainingTask":
        from triform.tasks.human_pose.pretraining import PretrainingTask

        return PretrainingTask(self)


@settings
class PoseLifting:
    """Lift 2D joints to 3D: every frame of a clip at once, root-relative, in the camera's frame."""

    kind: Literal["pose_lifting"] = "pose_lifting"
    encoder: Encoder
    """What sees the clip."""
    losses: LiftingLosses = field(default_factory=LiftingLosses)
    """Weights of the losses."""
    augmentation: PoseAugmentation = field(default_factory=PoseAugmentation)
    """Random changes of training clips."""
    layer_decay: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Factor of the learning rate from each layer to the one before it, the head's being 1."""

    def build(self) -> "LiftingTask":
        from triform.tasks.human_pose.lifting import LiftingTask

        return LiftingTask(self)
