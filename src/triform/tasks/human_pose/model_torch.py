"""Attention over joints and frames in PyTorch: an encoder, a net that lifts with it, and one that it is pretrained in.

A clip is (batch, frame, token, width): a token is a joint of a frame, or a whole frame (`FrameTokens`), which then has one.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.profiler import record_function

from triform.errors import ExperimentError
from triform.geometry.skeletons import H36M_17
from triform.kernels.gather_torch import gather_points
from triform.kernels.linear_torch import Linear
from triform.tasks.human_pose.config import Alternating, DualStream, FrameTokens, MaskedAutoencoder

EncoderConfig = DualStream | Alternating | FrameTokens
Over = Literal["joints", "frames"]
"""Along which axis a block attends."""
Tokens = Float[Tensor, "batch frame token width"]
Heads = Float[Tensor, "group head place channel"]

NUM_FEATURES = 6
"""Of a joint in a frame; see `centred`."""
SMALLEST_SIZE = 1e-3
"""Of a person, where the image is 2 wide."""
EMBED_STD = 0.5
"""Of the embedding's weights."""
POSITION_STD = 0.5
"""Of the vectors that say which joint and which frame a token is."""


def fused_attention(query: Heads, key: Heads, value: Heads) -> Heads:
    """Return softmax(q k^T / sqrt(channels)) v; in float32 on the CPU, where the gradient in bfloat16 takes six times as long."""
    if query.dtype != torch.bfloat16 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float())


class Attention(nn.Module):
    """Multi-head attention over the joints of each frame or over the frames of each joint.

    Source: Vaswani et al., "Attention Is All You Need" (NeurIPS 2017), section 3.2.
    """

    def __init__(self, width: int, heads: int, over: Over) -> None:
        """Raises: ExperimentError: the heads don't share the channels evenly."""
        super().__init__()
        if width % heads:
            raise ExperimentError(f"got {heads} heads for {width} channels", expected="a divisor of the width", do="change heads or width")
        self.heads, self.over = heads, over
        self.query, self.key, self.value, self.out = (Linear(width, width) for _ in range(4))

    def forward(self, x: Tokens) -> Tokens:
        query, key, value = (self.split(layer(x)) for layer in (self.query, self.key, self.value))
        mixed = fused_attention(query, key, value)
        result: Tensor = self.out(mixed.transpose(1, 2).reshape(x.shape))
        return result

    def split(self, x: Tokens) -> Float[Tensor, "group head place channel"]:
        """Return a view with one sequence a head: the joints of a frame, or the frames of a joint, whose joints count as more heads, so
        that nothing is copied."""
        batch, frames, tokens, width = x.shape
        channels = width // self.heads
        if self.over == "joints":
            return x.view(batch * frames, tokens, self.heads, channels).transpose(1, 2)
        return x.view(batch, frames, tokens * self.heads, channels).transpose(1, 2)

    def weights(self, x: Tokens) -> Float[Tensor, "head place place"]:
        """Return how much each place (row, sums to 1) takes from each other, the mean over all sequences of the batch."""
        query, key = self.split(self.query(x)), self.split(self.key(x))
        shares = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
        result: Tensor = shares.reshape(-1, self.heads, *shares.shape[-2:]).mean(0)
        return result


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)).

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021), equations 2 and 3.
    """

    def __init__(self, config: EncoderConfig, width: int, over: Over) -> None:
        super().__init__()
        hidden = round(width * config.mlp_ratio)
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, config.heads, over)
        self.expand, self.contract = Linear(width, hidden), Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tokens) -> Tokens:
        with record_function("attention"):
            x = x + self.dropout(self.attention(self.attention_norm(x)))
        with record_function("mlp"):
            hidden = self.dropout(F.gelu(self.expand(self.mlp_norm(x))))
            result: Tensor = x + self.dropout(self.contract(hidden))
            return result


def blocks(config: EncoderConfig, width: int, *order: Over) -> nn.Sequential:
    """Return blocks that attend over these axes, one after the other, each named by its axis."""
    return nn.Sequential(OrderedDict({over: Block(config, width, over) for over in order}))


class Streams(nn.Module):
    """Two pairs of blocks in opposite order side by side, added with weights that each token's own features give; 1/2 each at first.

    Source: Zhu et al., "MotionBERT" (ICCV 2023), section 3.2.
    """

    def __init__(self, config: EncoderConfig, width: int) -> None:
        super().__init__()
        self.joints_first, self.frames_first = blocks(config, width, "joints", "frames"), blocks(config, width, "frames", "joints")
        self.fusion = Linear(2 * width, 2)

    def forward(self, x: Tokens) -> Tokens:
        one, other = self.joints_first(x), self.frames_first(x)
        share = self.fusion(torch.cat([one, other], dim=-1)).softmax(-1).to(one.dtype)
        result: Tensor = one * share[..., :1] + other * share[..., 1:]
        return result


class Positions(nn.Module):
    """Learned vectors that say which joint and which frame a token is."""

    def __init__(self, num_frames: int, num_tokens: int, width: int) -> None:
        super().__init__()
        self.frame = nn.Parameter(torch.zeros(num_frames, width))
        self.joint = nn.Parameter(torch.zeros(num_tokens, width)) if num_tokens > 1 else None

    def forward(self, x: Tokens, frames: Int64[Tensor, "batch frame"] | None = None) -> Tokens:
        """Add them. Args: frames: each frame's place in the clip (None: 0, 1, ...). Raises: ExperimentError: the clip is too long."""
        if x.shape[1] > len(self.frame):
            raise ExperimentError(f"got {x.shape[1]} frames", expected=f"at most {len(self.frame)}", do="cut the clip as in training")
        of_frame = self.frame[: x.shape[1]] if frames is None else F.embedding(frames, self.frame)
        x = x + of_frame[..., None, :]
        return x if self.joint is None else x + self.joint


class Encoder(nn.Module):
    """Joints to features."""

    def __init__(self, config: EncoderConfig, facts: Mapping[str, int]) -> None:
        """Args: facts: "num_frames" of a clip and "num_joints"."""
        super().__init__()
        self.num_tokens = num_tokens = 1 if isinstance(config, FrameTokens) else facts["num_joints"]
        self.embed = Linear(facts["num_joints"] // num_tokens * NUM_FEATURES, config.width)
        self.positions = Positions(facts["num_frames"], num_tokens, config.width)
        self.layers = nn.Sequential(*(_layer(config) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self,
        x: Float[Tensor, "batch frame joint 3"],
        frames: Int64[Tensor, "batch frame"] | None = None,
        hidden: "Hidden | None" = None,
    ) -> Float[Tensor, "batch frame token width"]:
        """Return the features of each token: of each joint, or one token a frame where the encoder is of `FrameTokens`.

        Args:
            x: x, y (normalised) and confidence.
            frames: each frame's place in the clip, where some are left out (None: 0, 1, ...).
            hidden: 1 where a joint is hidden, and what stands in each joint's place then.

        Raises: ExperimentError: more frames than a clip has.
        """
        with record_function("embed"):
            features = centred(x, hidden)
            x = self.positions(self.embed(features.reshape(*x.shape[:2], self.num_tokens, -1)), frames)
        result: Tensor = self.norm(self.layers(x))
        return result


Hidden = tuple[Float[Tensor, "batch frame joint 1"], Float[Tensor, "joint 3"]]
"""1 where a joint is hidden, and what stands in each joint's place then."""


def place_of(
    x: Float[Tensor, "batch frame joint 3"], hidden: Hidden | None
) -> tuple[Float[Tensor, "batch frame 1 2"], Float[Tensor, "batch 1 1 1"], Float[Tensor, "batch frame joint 1"]]:
    """Return the centre of each frame's visible joints, the person's size in the clip (root of the mean square), and which are visible."""
    visible = (x[..., 2:] > 0).to(x.dtype)
    if hidden is not None:
        visible = visible * (1 - hidden[0])
    center = (x[..., :2] * visible).sum(2, keepdim=True) / visible.sum(2, keepdim=True).clamp(min=1)
    square = ((x[..., :2] - center) * visible).square().sum((1, 2, 3), keepdim=True)
    # Clamped before the root, whose gradient at 0 is infinite.
    size = (square / visible.sum((1, 2, 3), keepdim=True).clamp(min=1)).clamp(min=SMALLEST_SIZE**2).sqrt()
    return center, size, visible


def centred(x: Float[Tensor, "batch frame joint 3"], hidden: Hidden | None) -> Float[Tensor, "batch frame joint 6"]:
    """Return what a joint's token holds: its place relative to the centre of the frame's visible joints, in units of the person's size in
    the clip, and confidence; then that centre and that size, so that nothing is lost.

    A person's pose hardly depends on where and how large the picture shows them, and few labels can't teach that.
    """
    center, size, visible = place_of(x, hidden)
    own = torch.cat([(x[..., :2] - center) * visible / size, x[..., 2:]], dim=-1)
    if hidden is not None:
        own = torch.where(hidden[0] > 0, hidden[1].to(own.dtype), own)
    return torch.cat([own, center.expand(*visible.shape[:3], 2), size.expand_as(visible)], dim=-1)


class LiftNet(nn.Module):
    """2D joints of a clip to their places in space, every frame at once."""

    def __init__(self, config: EncoderConfig, facts: Mapping[str, int]) -> None:
        super().__init__()
        self.encoder = Encoder(config, facts)
        self.head = Linear(config.width, facts["num_joints"] // self.encoder.num_tokens * 3)
        _initialise(self)

    def forward(self, joints_2d: Float[Tensor, "batch frame joint 3"]) -> Float[Tensor, "batch frame joint 3"]:
        """Return places relative to the root, in the network's unit; the root's own is 0. Raises: ExperimentError: too many frames."""
        features = self.encoder(joints_2d)
        with record_function("head"):
            places: Tensor = self.head(features).view(joints_2d.shape)
            return places - places[:, :, H36M_17.root, None]


class Decoder(nn.Module):
    """The features of visible frames to features of all frames, and the tokens that stand for what is hidden."""

    def __init__(self, config: EncoderConfig, objective: MaskedAutoencoder, facts: Mapping[str, int], *, num_tokens: int) -> None:
        super().__init__()
        width = objective.decoder_width or config.width // 2
        self.joint_token = nn.Parameter(torch.zeros(facts["num_joints"], 3))
        self.frame_token = nn.Parameter(torch.zeros(width))
        self.embed = Linear(config.width, width)
        self.positions = Positions(facts["num_frames"], num_tokens, width)
        self.layers = nn.Sequential(*(blocks(config, width, "frames") for _ in range(objective.decoder_depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Float[Tensor, "batch visible token width"], restore: Int64[Tensor, "batch frame"]) -> Tokens:
        """Args: restore: each frame's place among the visible ones; where it is hidden, their number."""
        batch, _, tokens, _ = features.shape
        with record_function("embed"):
            x = self.embed(features)
            hidden = self.frame_token.to(x.dtype).expand(batch, 1, tokens, -1)
            x = gather_points(torch.cat([x, hidden], dim=1).flatten(2), restore).view(batch, restore.shape[1], tokens, -1)
            x = self.positions(x)
        result: Tensor = self.norm(self.layers(x))
        return result


class MaskedAutoencoderNet(nn.Module):
    """The 2D of all joints and frames from a part of them.

    Source: Shan et al., "P-STMO" (ECCV 2022), section 3.2; He et al., "Masked Autoencoders Are Scalable Vision Learners" (CVPR 2022).
    """

    def __init__(self, config: EncoderConfig, objective: MaskedAutoencoder, facts: Mapping[str, int]) -> None:
        super().__init__()
        self.encoder = Encoder(config, facts)
        num_tokens = self.encoder.num_tokens
        self.decoder = Decoder(config, objective, facts, num_tokens=num_tokens)
        self.head = Linear(len(self.decoder.frame_token), facts["num_joints"] // num_tokens * 2)
        _initialise(self)

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "batch frame joint 2"]:
        """Return x, y of every joint, normalised.

        Args:
            batch: "joints_2d" (batch, frame, joint, 3); "visible" (batch, visible), ascending; "restore" (batch, frame), see `Decoder`;
                "joint_mask" (batch, frame, joint), 1 where a joint is hidden. Hidden frames never reach the encoder.

        Raises: ExperimentError: more frames than a clip has.
        """
        joints, visible = batch["joints_2d"], batch["visible"]
        mask = gather_points(batch["joint_mask"], visible)[..., None]
        seen = gather_points(joints.flatten(2), visible).view(*visible.shape, *joints.shape[2:])
        hidden = (mask, self.decoder.joint_token)
        decoded = self.decoder(self.encoder(seen, visible, hidden), batch["restore"])
        with record_function("head"):
            center, size, shown = place_of(seen, hidden)
            # A frame in which nothing is seen, such as padding, has no centre, but 0.
            count = shown.amax(2, keepdim=True).sum(1, keepdim=True).clamp(min=1)
            places: Tensor = self.head(decoded).view(*joints.shape[:3], 2)
            return center.sum(1, keepdim=True) / count + size * places


@torch.no_grad()
def attention_maps(net: LiftNet, joints_2d: Float[Tensor, "batch frame joint 3"]) -> dict[str, Float[Tensor, "head place place"]]:
    """Return each block's attention in the order of the encoder, the mean over the batch: over joints (head, joint, joint), over frames
    (head, frame, frame); rows sum to 1. Named "0.joints", in two streams "0.joints_first.joints"."""
    found = [(name, part) for name, part in net.encoder.layers.named_modules() if isinstance(part, Attention)]
    inputs: dict[str, Tensor] = {}
    handles = [part.register_forward_pre_hook(lambda _, given, name=name: inputs.update({name: given[0]})) for name, part in found]
    try:
        net.forward(joints_2d)  # not __call__, which a compiled net answers without its hooks
    finally:
        for handle in handles:
            handle.remove()
    return {name.removesuffix(".attention"): part.weights(inputs[name]) for name, part in found}


def _layer(config: EncoderConfig) -> nn.Module:
    if isinstance(config, DualStream):
        return Streams(config, config.width)
    return blocks(config, config.width, "frames") if isinstance(config, FrameTokens) else blocks(config, config.width, "joints", "frames")


def _initialise(net: nn.Module) -> None:
    """What tells tokens apart is drawn as large as what they hold: with embeddings of 0.02, as papers have them, a net of a few hundred
    steps stays at poses that take all joints for one. Other layers keep PyTorch's own first weights; both streams' shares are equal."""
    for part in net.modules():
        if isinstance(part, Encoder):
            nn.init.normal_(part.embed.weight, std=EMBED_STD)
        elif isinstance(part, Positions):
            for vectors in part.parameters():
                nn.init.normal_(vectors, std=POSITION_STD)
        elif isinstance(part, Streams):
            nn.init.zeros_(part.fusion.weight)
            nn.init.zeros_(part.fusion.bias)
