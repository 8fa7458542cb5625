"""Poses whose 3D is a linear function of their 2D, so that a function of a line lifts them exactly."""

from collections.abc import Callable

import numpy as np
import pytest

from triform.data.poses.manifest import TrackRecord
from triform.data.poses.poses import Poses
from triform.data.poses.windows import scored_starts

DEPTH = 0.5
"""How much a joint is farther away by being lower, in this world."""
FewPoses = Callable[..., Poses]


def lifted_exactly(joints_2d: np.ndarray) -> np.ndarray:
    """Root-relative joints (m) of the 2D in this world; equivariant to mirroring."""
    plane = joints_2d[..., :2] - joints_2d[..., :1, :2]
    return np.concatenate([plane, DEPTH * plane[..., 1:]], axis=-1).astype(np.float32)


def record(name: str, num_frames: int, *, labelled: bool = True, **changes: object) -> TrackRecord:
    subject, action, camera = name.split("/")
    return TrackRecord(
        name=name,
        sequence=f"{subject}/{action}",
        subject=subject,
        action=action.split(" ")[0],
        camera_name=camera,
        split="test",
        num_frames=num_frames,
        frame_rate=50.0,
        size_px=(1000, 1000),
        labelled=labelled,
        camera=None,
        up_camera=None,
        constant_unit=True,
        shard="",
        source_sha256="",
        sha256="",
    )


@pytest.fixture(scope="session")
def exact() -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """A predict function without error."""
    return lambda batch: {"joints_3d": lifted_exactly(batch["joints_2d"])}


@pytest.fixture(scope="session")
def few_poses() -> FewPoses:
    def build(
        lengths: dict[str, int] | None = None, *, seed: int = 0, num_frames: int = 5, frame_stride: int = 1, average: str = "action"
    ) -> Poses:
        generator = np.random.default_rng(seed)
        lengths = lengths or {"S1/Walking 1/a": 23, "S1/Walking 2/a": 11, "S1/Sitting 1/a": 12}
        arrays, tracks = [], []
        for name, length in sorted(lengths.items()):
            shape = generator.normal(scale=0.3, size=(17, 2))
            motion = np.cumsum(generator.normal(scale=0.02, size=(length, 17, 2)), axis=0)
            joints_2d = (shape + motion).astype(np.float32)
            place = generator.normal(scale=100, size=(length, 1, 3)) + np.array([0, 0, 4000])
            arrays.append(
                {
                    "joints_2d": joints_2d,
                    "confidence": np.ones((length, 17), np.float32),
                    "joints_3d_camera_mm": (lifted_exactly(joints_2d) * 1000.0 + place).astype(np.float32),
                    "valid": np.ones(length, np.uint8),
                }
            )
            tracks.append(record(name, length))
        starts = [scored_starts(track.num_frames, num_frames=num_frames, frame_stride=frame_stride) for track in tracks]
        clip_track = np.repeat(np.arange(len(tracks)), [len(some) for some in starts])
        return Poses(
            names=tuple(f"{tracks[track].name}@{start}" for track, start in zip(clip_track, np.concatenate(starts), strict=True)),
            tracks=tuple(tracks),
            clip_track=clip_track,
            clip_start=np.concatenate(starts),
            labelled=np.ones(len(clip_track), bool),
            num_frames=num_frames,
            frame_stride=frame_stride,
            digest="",
            protocol="2D of a made-up world, mean over actions",
            average=average,  # type: ignore[arg-type]
            _arrays=tuple(arrays),
        )

    return build
