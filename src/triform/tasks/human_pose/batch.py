"""Batches of clips for lifting and for both kinds of pretraining: pure functions of (poses, seed, epoch, sample)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from triform.data.augmentation import sample_generator
from triform.data.poses.detector_noise import detector_noise
from triform.data.poses.poses import Frames, Poses
from triform.geometry.camera import Camera
from triform.geometry.skeletons import H36M_17
from triform.tasks.human_pose.augmentation import NUM_JOINTS, Clip, Draws, between, draw, observed, shaped, turned_up
from triform.tasks.human_pose.config import Denoising, MaskedAutoencoder, PoseAugmentation

Batch = Mapping[str, NDArray[np.generic]]
Indices = Int64[np.ndarray, " batch"]

AS_IT_IS = PoseAugmentation(flip_probability=0.0)
_UNSEEN_EPOCH = 2**32 - 1
"""Keys what validation draws: masks and noise that are the same every time."""


def lifting_batch(
    poses: Poses, indices: Indices, augmentation: PoseAugmentation, *, seed: int, epoch: int | None
) -> dict[str, NDArray[np.float32]]:
    """What the network sees and the 3D it is to find; as it is where `epoch` is None.

    Returns: joints_2d (batch, frame, 17, 3) x, y, confidence; target_2d the same uncorrupted; joints_3d (batch, frame, 17, 3) root-relative
        in the network's unit, 0 where unknown; weight (batch, frame) 1 where 3D counts; seen (batch, frame) 0 where frames pad the clip.
    """
    rows = []
    for index in indices.tolist():
        generator = _generator(seed, epoch, index)
        config = augmentation if epoch is not None else AS_IT_IS
        draws = draw(generator, poses.num_frames)
        clip = read_clip(poses, index, config, draws)
        rows.append(_truth(clip) | {"joints_2d": observed(clip, config, draws)})
    return _stacked(rows)


def denoising_batch(
    poses: Poses, indices: Indices, augmentation: PoseAugmentation, objective: Denoising, *, seed: int, epoch: int | None
) -> dict[str, NDArray[np.float32]]:
    """As `lifting_batch`, with an imitated detector's errors and hidden joints and frames in what the network sees."""
    rows = []
    for index in indices.tolist():
        generator = _generator(seed, epoch, index)
        config = augmentation if epoch is not None else AS_IT_IS
        draws = draw(generator, poses.num_frames)
        clip = read_clip(poses, index, config, draws)
        rows.append(_truth(clip) | {"joints_2d": _corrupted(observed(clip, config, draws), objective, generator)})
    return _stacked(rows)


def masked_batch(
    poses: Poses, indices: Indices, augmentation: PoseAugmentation, objective: MaskedAutoencoder, *, seed: int, epoch: int | None
) -> dict[str, NDArray[np.generic]]:
    """2D alone, and what of it is hidden.

    Returns: joints_2d, target_2d (batch, frame, 17, 3); seen (batch, frame); visible (batch, visible) ascending frames, as many for each
        clip; restore (batch, frame) each frame's place among the visible ones, or their number where it is hidden; joint_mask
        (batch, frame, 17) 1 where a joint is hidden.
    """
    rows = []
    for index in indices.tolist():
        generator = _generator(seed, epoch, index)
        config = augmentation if epoch is not None else AS_IT_IS
        draws = draw(generator, poses.num_frames)
        clip = read_clip(poses, index, config, draws)
        truth = {name: array for name, array in _truth(clip).items() if name in ("target_2d", "seen")}
        rows.append(truth | {"joints_2d": observed(clip, config, draws)} | _masks(objective, poses.num_frames, generator))
    return _stacked(rows)


def read_clip(poses: Poses, index: int, config: PoseAugmentation, draws: Draws) -> Clip:
    """One clip after those changes that its 3D follows."""
    track, positions = int(poses.clip_track[index]), np.arange(poses.num_frames) * float(poses.frame_stride)
    if config.speed_range != (1.0, 1.0):
        positions = positions * between(config.speed_range, draws.speed)
    positions = positions + float(poses.clip_start[index])
    last = poses.tracks[track].num_frames - 1
    seen = positions <= last
    frames = _at(poses, track, np.minimum(positions, last))
    joints_2d, joints_mm = frames.joints_2d, frames.joints_3d_mm
    record = poses.tracks[track]
    if config.rotate_up_degrees and joints_mm is not None and record.camera is not None and record.up_camera is not None:
        angle = np.radians(config.rotate_up_degrees) * (2 * draws.angle - 1)
        camera, up = Camera.from_tree(record.camera), np.array(record.up_camera, np.float64)
        joints_2d, joints_mm = turned_up(joints_2d, joints_mm, camera=camera, up=up, angle_rad=float(angle))
    relative = None if joints_mm is None else _root_relative(joints_mm) / frames.mm_per_unit[:, None, None]
    clip = Clip(joints_2d, frames.confidence, relative, seen, frames.valid & seen & (relative is not None))
    return shaped(clip, config, draws)


def _at(poses: Poses, track: int, positions: NDArray[np.float64]) -> Frames:
    """Frames at places between frames, by linear interpolation; whole places give them bit for bit."""
    before = np.floor(positions).astype(np.int64)
    first = poses.read(track, before)
    share = (positions - before).astype(np.float32)
    if not share.any():
        return first
    second = poses.read(track, np.minimum(before + 1, poses.tracks[track].num_frames - 1))

    def mix(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        part = share.reshape(-1, *[1] * (a.ndim - 1))
        return np.asarray(a + (b - a) * part, np.float32)

    joints_mm = None if first.joints_3d_mm is None or second.joints_3d_mm is None else mix(first.joints_3d_mm, second.joints_3d_mm)
    return Frames(
        joints_2d=mix(first.joints_2d, second.joints_2d),
        confidence=mix(first.confidence, second.confidence),
        joints_3d_mm=joints_mm,
        valid=first.valid & second.valid,
        mm_per_unit=mix(first.mm_per_unit, second.mm_per_unit),
    )


def _root_relative(joints: Float32[np.ndarray, "frame 17 3"]) -> Float32[np.ndarray, "frame 17 3"]:
    return np.asarray(joints - joints[:, H36M_17.root : H36M_17.root + 1])


def _truth(clip: Clip) -> dict[str, NDArray[np.float32]]:
    joints_3d = np.zeros((*clip.confidence.shape, 3), np.float32) if clip.joints_3d is None else clip.joints_3d
    return {
        "joints_3d": np.where(clip.valid[:, None, None], joints_3d, np.float32(0)).astype(np.float32),
        "weight": clip.valid.astype(np.float32),
        "seen": clip.seen.astype(np.float32),
        "target_2d": np.concatenate([clip.joints_2d, clip.confidence[..., None]], -1, dtype=np.float32),
    }


def _corrupted(
    told: Float32[np.ndarray, "frame 17 3"], objective: Denoising, generator: np.random.Generator
) -> Float32[np.ndarray, "frame 17 3"]:
    num_frames = len(told)
    offset, confidence = detector_noise(generator, num_frames, factor=objective.noise)
    hidden = generator.random((num_frames, NUM_JOINTS)) < objective.joint_mask_ratio
    hidden |= (generator.random(num_frames) < objective.frame_mask_ratio)[:, None]
    noisy = np.concatenate([told[..., :2] + offset, told[..., 2:] * confidence[..., None]], -1, dtype=np.float32)
    return np.asarray(np.where(hidden[..., None] | ~told.any(-1, keepdims=True), np.float32(0), noisy))


def _masks(objective: MaskedAutoencoder, num_frames: int, generator: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    num_visible = max(1, num_frames - round(objective.frame_mask_ratio * num_frames))
    visible = np.sort(generator.permutation(num_frames)[:num_visible])
    restore = np.full(num_frames, num_visible)
    restore[visible] = np.arange(num_visible)
    ranks = generator.random((num_frames, NUM_JOINTS)).argsort(-1).argsort(-1)
    return {"visible": visible, "restore": restore, "joint_mask": (ranks < objective.masked_joints).astype(np.float32)}


def _generator(seed: int, epoch: int | None, index: int) -> np.random.Generator:
    return sample_generator(seed, epoch=_UNSEEN_EPOCH if epoch is None else epoch, sample=index)


def _stacked(rows: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
