"""Reads prepared poses, and believes none that differs from its manifest."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from triform.data.bookkeeping import MANIFEST_NAME
from triform.data.poses.draw import draw_sequences
from triform.data.poses.manifest import PoseManifest, TrackRecord, load_manifest
from triform.data.poses.raw_poses import Average
from triform.data.poses.shards import Shards, shard_path
from triform.data.poses.windows import scored_starts, training_starts, windows
from triform.data.split import Split
from triform.errors import DataError

if TYPE_CHECKING:
    from triform.data.poses.config import Clips

NUM_JOINTS = 17
_MM_PER_UNIT = 1000.0
_AGAIN = "run `triform prepare` again"


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Some frames of a track."""

    joints_2d: Float32[np.ndarray, "frame 17 2"]
    """Where the image is 2 wide."""
    confidence: Float32[np.ndarray, "frame 17"]
    joints_3d_mm: Float32[np.ndarray, "frame 17 3"] | None
    """Absolute in the camera's frame; None where the track has no 3D."""
    valid: Bool[np.ndarray, " frame"]
    """Whether the 3D is there and right."""
    mm_per_unit: Float32[np.ndarray, " frame"]
    """Millimetres in the network's unit."""


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """One split of prepared poses, cut into clips. The arrays are read when they are asked for; threads may ask at once."""

    names: tuple[str, ...]
    """Clips, as `track@first frame`."""
    tracks: tuple[TrackRecord, ...]
    """Sorted by name."""
    clip_track: Int64[np.ndarray, " clip"]
    """Place of the clip's track in `tracks`."""
    clip_start: Int64[np.ndarray, " clip"]
    """First frame of the clip."""
    labelled: Bool[np.ndarray, " clip"]
    """Whether the clip's 3D is known."""
    num_frames: int
    """Frames of a clip."""
    frame_stride: int
    """Every how manieth frame of the track is one of the clip."""
    digest: str
    """Of the whole data set: that of its manifest."""
    protocol: str
    """What stands beside every number: which 2D, which clips are left out, how it is averaged."""
    average: Average
    _arrays: tuple[dict[str, np.ndarray], ...] = field(repr=False)

    @property
    def facts(self) -> dict[str, int]:
        """What a model is built by."""
        return {"num_frames": self.num_frames, "num_joints": NUM_JOINTS}

    def read(self, track: int, frames: Int64[np.ndarray, " frame"]) -> Frames:
        """Copies of some frames of a track. Args: frames: each from 0 to below the track's number. Raises: IndexError."""
        arrays = self._arrays[track]
        unit, joints_3d = arrays.get("mm_per_unit"), arrays.get("joints_3d_camera_mm")
        return Frames(
            joints_2d=arrays["joints_2d"].take(frames, axis=0),
            confidence=arrays["confidence"].take(frames, axis=0),
            joints_3d_mm=None if joints_3d is None else joints_3d.take(frames, axis=0),
            valid=arrays["valid"].take(frames).view(np.bool_),
            mm_per_unit=np.full(len(frames), _MM_PER_UNIT, np.float32) if unit is None else unit.take(frames),
        )

    def at(self, track: int, places: Float64[np.ndarray, " frame"]) -> Frames:
        """Frames at places between frames, by linear interpolation; whole places give them bit for bit. Raises: IndexError."""
        before = np.floor(places).astype(np.int64)
        first, share = self.read(track, before), (places - before).astype(np.float32)
        if not share.any():
            return first
        second = self.read(track, np.minimum(before + 1, self.tracks[track].num_frames - 1))

        def mix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.asarray(a + (b - a) * share.reshape(-1, *[1] * (a.ndim - 1)), np.float32)

        one, other = first.joints_3d_mm, second.joints_3d_mm
        return Frames(
            joints_2d=mix(first.joints_2d, second.joints_2d),
            confidence=mix(first.confidence, second.confidence),
            joints_3d_mm=None if one is None or other is None else mix(one, other),
            valid=first.valid & second.valid,
            mm_per_unit=mix(first.mm_per_unit, second.mm_per_unit),
        )

    def views(self, track: int) -> tuple[int, ...]:
        """All tracks of the same sequence: what other cameras saw of it, and the track itself."""
        sequence = self.tracks[track].sequence
        return tuple(other for other, record in enumerate(self.tracks) if record.sequence == sequence)

    def windows(self, track: int) -> Int64[np.ndarray, "window frame"]:
        """Frames of the clips that together hold every frame of a track."""
        return windows(self.tracks[track].num_frames, num_frames=self.num_frames, frame_stride=self.frame_stride)


def load_poses(prepared_dir: Path | str, split: Split, settings: "Clips", *, verify: bool = True) -> Poses:
    """Open the poses of one split.

    In training, clips begin every `clip_stride` frames of the drawn share of the sequences. Elsewhere they hold every frame of every
    sequence once, and the last clip of a track may go beyond its end.

    Args:
        verify: Whether to read each shard once and compare it with the manifest's SHA-256.

    Raises: DataError: the folder isn't prepared or has none of the split, or a file is missing, torn or not the one that was prepared.
    """
    folder = Path(prepared_dir)
    manifest = load_manifest(folder)
    if manifest is None:
        raise DataError(f"{folder} has no {MANIFEST_NAME} of poses", expected="a prepared folder", do="run `triform prepare`")
    tracks = _chosen(manifest.of_split(split), settings) if split == "train" else manifest.of_split(split)
    if not tracks:
        raise DataError(f"{folder} has no poses in {split}", expected="one track at least in each split", do=_AGAIN)
    if verify:
        for shard in sorted({track.shard for track in tracks}):
            _check_shard(shard_path(folder, shard), manifest.shards.get(shard))
    shards = Shards(folder)
    return _poses(manifest, tracks, settings, training=split == "train", arrays=tuple(_arrays_of(shards, track) for track in tracks))


def _poses(
    manifest: PoseManifest, tracks: tuple[TrackRecord, ...], settings: "Clips", *, training: bool, arrays: tuple[dict[str, np.ndarray], ...]
) -> Poses:
    shape = {"num_frames": settings.num_frames, "frame_stride": settings.frame_stride}
    if training:
        starts = [training_starts(track.num_frames, **shape, clip_stride=settings.clip_stride) for track in tracks]
    else:
        starts = [scored_starts(track.num_frames, **shape) for track in tracks]
    clip_track = np.repeat(np.arange(len(tracks)), [len(some) for some in starts])
    clip_start = np.concatenate(starts)
    return Poses(
        names=tuple(f"{tracks[track].name}@{start}" for track, start in zip(clip_track, clip_start, strict=True)),
        tracks=tracks,
        clip_track=clip_track,
        clip_start=clip_start,
        labelled=np.array([track.labelled for track in tracks])[clip_track],
        **shape,
        digest=manifest.digest,
        protocol=manifest.protocol,
        average=manifest.average,
        _arrays=arrays,
    )


def _chosen(tracks: tuple[TrackRecord, ...], settings: "Clips") -> tuple[TrackRecord, ...]:
    if settings.labelled_fraction == 1:
        return tracks
    drawn = draw_sequences({track.sequence: track.action for track in tracks}, settings.labelled_fraction, settings.labelled_draw)
    return tuple(track for track in tracks if track.sequence in drawn)


def _arrays_of(shards: Shards, track: TrackRecord) -> dict[str, np.ndarray]:
    arrays = shards.arrays_of(track.shard, track.name)
    wanted = {"joints_2d", "confidence", "valid"} | ({"joints_3d_camera_mm"} if track.labelled else set())
    wanted |= set() if track.constant_unit else {"mm_per_unit"}
    if not wanted <= arrays.keys() or any(len(arrays[name]) != track.num_frames for name in wanted):
        raise DataError(f"{track.shard} lacks frames or arrays of {track.name}", expected="what was prepared", do=_AGAIN)
    return {name: arrays[name] for name in sorted(wanted)}


def _check_shard(path: Path, sha256: str | None) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}", expected="the shards its manifest names", do=_AGAIN) from error
    if found != sha256:
        raise DataError(f"{path} is not what was prepared", expected="the SHA-256 its manifest names", do=_AGAIN)
