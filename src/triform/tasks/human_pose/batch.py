"""Batches of clips for lifting and for each kind of pretraining: pure functions of (poses, seed, epoch, sample)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy.typing import NDArray

from triform.data.augmentation import sample_generator
from triform.data.poses.detector_noise import detector_noise
from triform.data.poses.poses import Frames, Poses
from triform.geometry.camera import Camera
from triform.geometry.skeletons import H36M_17
from triform.tasks.human_pose.augmentation import NUM_JOINTS, Clip, Draws, between, draw, observed, shaped, turned_up
from triform.tasks.human_pose.config import Denoising, MaskedAutoencoder, MultiView, PoseAugmentation
from triform.tasks.human_pose.multi_view import agreed_frames

Batch = Mapping[str, NDArray[np.generic]]
Indices = Int64[np.ndarray, " batch"]
Read = Callable[[Poses, int, Float64[np.ndarray, " frame"]], Frames]
"""Frames of a track at places between frames."""

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
    return _corrupted_batch(poses, indices, augmentation, objective, read=Poses.at, seed=seed, epoch=epoch)


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


def multi_view_batch(
    poses: Poses, indices: Indices, augmentation: PoseAugmentation, objective: MultiView, *, seed: int, epoch: int | None
) -> dict[str, NDArray[np.float32]]:
    """As `denoising_batch`; the 3D is that on which the cameras of the sequence agree, known of every clip.

    Raises: DataError: a sequence has too few cameras, or one without intrinsics.
    """
    read = partial(agreed_frames, stature_m=objective.stature_m)
    return _corrupted_batch(poses, indices, augmentation, objective, read=read, seed=seed, epoch=epoch)


def read_clip(poses: Poses, index: int, config: PoseAugmentation, draws: Draws, *, read: Read = Poses.at) -> Clip:
    """One clip after those changes that its 3D follows. Args: read: gives its frames."""
    track, positions = int(poses.clip_track[index]), np.arange(poses.num_frames) * float(poses.frame_stride)
    if config.speed_range != (1.0, 1.0):
        positions = positions * between(config.speed_range, draws.speed)
    positions = positions + float(poses.clip_start[index])
    last = poses.tracks[track].num_frames - 1
    seen = positions <= last
    frames = read(poses, track, np.minimum(positions, last))
    joints_2d, joints_mm = frames.joints_2d, frames.joints_3d_mm
    record = poses.tracks[track]
    if config.rotate_up_degrees and joints_mm is not None and record.camera is not None and record.up_camera is not None:
        angle = np.radians(config.rotate_up_degrees) * (2 * draws.angle - 1)
        camera, up = Camera.from_tree(record.camera), np.array(record.up_camera, np.float64)
        joints_2d, joints_mm = turned_up(joints_2d, joints_mm, camera=camera, up=up, angle_rad=float(angle))
    relative = None if joints_mm is None else _root_relative(joints_mm) / frames.mm_per_unit[:, None, None]
    clip = Clip(joints_2d, frames.confidence, relative, seen, frames.valid & seen & (relative is not None))
    return shaped(clip, config, draws)


def _corrupted_batch(
    poses: Poses,
    indices: Indices,
    augmentation: PoseAugmentation,
    objective: Denoising | MultiView,
    *,
    read: Read,
    seed: int,
    epoch: int | None,
) -> dict[str, NDArray[np.float32]]:
    rows = []
    for index in indices.tolist():
        generator = _generator(seed, epoch, index)
        config = augmentation if epoch is not None else AS_IT_IS
        draws = draw(generator, poses.num_frames)
        clip = read_clip(poses, index, config, draws, read=read)
        rows.append(_truth(clip) | {"joints_2d": _corrupted(observed(clip, config, draws), objective, generator)})
    return _stacked(rows)


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
    told: Float32[np.ndarray, "frame 17 3"], objective: Denoising | MultiView, generator: np.random.Generator
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
