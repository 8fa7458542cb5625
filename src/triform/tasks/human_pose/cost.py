"""What lifting a clip costs, counted from the encoder's settings."""

from triform.tasks.human_pose.config import Alternating, DualStream, FrameTokens

FEATURES = 6
"""Numbers that a joint brings to its token, see `model_torch.centred`."""


def macs(config: DualStream | Alternating | FrameTokens, num_frames: int, num_joints: int) -> dict[str, int]:
    """Return the multiply-adds of a forward pass over one clip: "embed", "attention", "mlp", "fusion", "head".

    Additions alone, normalisation, softmax and activations are not counted.

    - embed: joints x 6 x width a frame; with one token a frame the same.
    - attention: for each token 4 width^2, and 2 width for each token that it attends to.
    - mlp: for each token 2 width x hidden.
    - fusion: for each token 2 width x 2, and 2 width to add both streams.
    - head: joints x width x 3 a frame.
    """
    tokens = num_frames if isinstance(config, FrameTokens) else num_frames * num_joints
    blocks = config.depth * (4 if isinstance(config, DualStream) else 2 if isinstance(config, Alternating) else 1)
    hidden = round(config.width * config.mlp_ratio)
    # Half of the blocks attend over joints, half over frames, but all over frames where a frame is one token.
    attended = blocks * num_frames if isinstance(config, FrameTokens) else blocks // 2 * (num_frames + num_joints)
    return {
        "embed": num_frames * num_joints * FEATURES * config.width,
        "attention": tokens * (blocks * 4 * config.width**2 + attended * 2 * config.width),
        "mlp": tokens * blocks * 2 * config.width * hidden,
        "fusion": tokens * config.depth * 6 * config.width if isinstance(config, DualStream) else 0,
        "head": num_frames * num_joints * 3 * config.width,
    }
