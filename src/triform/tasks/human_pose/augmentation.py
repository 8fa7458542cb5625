"""Random changes of training clips: pure functions of a clip and of numbers that are drawn once, all of them, for each sample."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64

from triform.geometry.camera import Camera, normalise
from triform.geometry.skeletons import H36M_17
from triform.tasks.human_pose.config import PoseAugmentation

NUM_JOINTS = len(H36M_17.joints)


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """What a network may see of a clip, and what is true of it."""

    joints_2d: Float32[np.ndarray, "frame 17 2"]
    """Where the image is 2 wide."""
    confidence: Float32[np.ndarray, "frame 17"]
    joints_3d: Float32[np.ndarray, "frame 17 3"] | None
    """Root-relative, in the network's unit."""
    seen: Bool[np.ndarray, " frame"]
    """False for frames that pad the clip."""
    valid: Bool[np.ndarray, " frame"]
    """True where the 3D counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """What one sample's augmentation is made of, drawn in one order whatever is switched on: no setting shifts another's numbers."""

    speed: float
    angle: float
    scale: float
    flip: float
    frames: Float64[np.ndarray, " frame"]
    joints: Float64[np.ndarray, "frame 17"]
    noise: Float32[np.ndarray, "frame 17 2"]


def draw(generator: np.random.Generator, num_frames: int) -> Draws:
    """The numbers of one sample: uniform in [0, 1), but `noise` standard normal."""
    speed, angle, scale, flip = generator.random(4).tolist()
    frames, joints = generator.random(num_frames), generator.random((num_frames, NUM_JOINTS))
    return Draws(speed, angle, scale, flip, frames, joints, generator.standard_normal((num_frames, NUM_JOINTS, 2), np.float32))


def between(limits: tuple[float, float], share: float) -> float:
    """The factor that lies at `share` of the way from the smallest to the largest, on a logarithmic scale: half is as likely as double."""
    smallest, largest = limits
    return float(smallest * (largest / smallest) ** share)


def turned_up(
    joints_2d: Float32[np.ndarray, "frame 17 2"],
    joints_mm: Float32[np.ndarray, "frame 17 3"],
    *,
    camera: Camera,
    up: Float64[np.ndarray, " 3"],
    angle_rad: float,
) -> tuple[Float32[np.ndarray, "frame 17 2"], Float32[np.ndarray, "frame 17 3"]]:
    """2D and 3D of the same person turned about the up axis through the middle of the root's path.

    What the detector saw wrong stays: its offset from the exact projection is carried over to the new one.

    Args:
        joints_mm: In the camera's frame.
        up: Unit vector in the camera's frame.
    """
    pivot = joints_mm[:, H36M_17.root].mean(0, dtype=np.float64)
    x, y, z = up
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * (cross @ cross)
    turned = (joints_mm - pivot) @ matrix.T + pivot
    before, after = (normalise(camera.project(joints), camera.size_px) for joints in (joints_mm, turned))
    return (joints_2d + (after - before)).astype(np.float32), turned.astype(np.float32)


def scaled(clip: Clip, factor: float) -> Clip:
    """A person of another size at the same place; 2D follows as under weak perspective."""
    root = clip.joints_2d[:, H36M_17.root : H36M_17.root + 1]
    size = np.float32(factor)
    joints_3d = None if clip.joints_3d is None else clip.joints_3d * size
    return replace(clip, joints_2d=root + (clip.joints_2d - root) * size, joints_3d=joints_3d)


def flipped(clip: Clip) -> Clip:
    """The mirror image: x changes its sign, and left joints become right ones."""
    order = H36M_17.mirrored
    joints_2d = clip.joints_2d[:, order] * np.array([-1, 1], np.float32)
    joints_3d = None if clip.joints_3d is None else clip.joints_3d[:, order] * np.array([-1, 1, 1], np.float32)
    return replace(clip, joints_2d=joints_2d, joints_3d=joints_3d, confidence=clip.confidence[:, order])


def shaped(clip: Clip, config: PoseAugmentation, draws: Draws) -> Clip:
    """The clip after those changes that its 3D follows and that need no camera."""
    if config.scale_range != (1.0, 1.0):
        clip = scaled(clip, between(config.scale_range, draws.scale))
    return flipped(clip) if draws.flip < config.flip_probability else clip


def observed(clip: Clip, config: PoseAugmentation, draws: Draws) -> Float32[np.ndarray, "frame 17 3"]:
    """x, y and confidence as a worse detector would give them; what it misses is 0."""
    joints = clip.joints_2d + draws.noise * np.float32(config.noise_std) if config.noise_std else clip.joints_2d
    missed = (draws.joints < config.joint_dropout) | (draws.frames < config.frame_dropout)[:, None] | ~clip.seen[:, None]
    told = np.concatenate([joints, clip.confidence[..., None]], -1)
    return np.where(missed[..., None], np.float32(0), told)
