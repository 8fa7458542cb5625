"""A small folder of moving figures that the tests of this folder make for themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triform.data.poses.raw_poses import RawSequence, RawTrack
from triform.data.quarantine import BadFile
from triform.datasets.pose_npz import PoseNpz
from triform.geometry.camera import Camera
from triform.geometry.skeletons import H36M_17

# Offset of each joint from its parent, mm, y up and the person's right at -x, as H36M_17 orders them.
BONES = np.array(
    [
        *[[0, 0, 0], [-130, 0, 0], [0, -450, 0], [0, -400, 0], [130, 0, 0], [0, -450, 0], [0, -400, 0]],
        *[[0, 230, 0], [0, 250, 0], [0, 100, 60], [0, 110, -40]],
        *[[150, -20, 0], [0, -280, 0], [0, -250, 0], [-150, -20, 0], [0, -280, 0], [0, -250, 0]],
    ],
    np.float64,
)
CAMERA = Camera(
    size_px=(1000, 800),
    focal_px=(1100.0, 1150.0),
    center_px=(510.0, 390.0),
    radial=(-0.2, 0.2, 0.0),
    tangential=(0.001, -0.002),
    rotation=np.diag([1.0, -1.0, -1.0]),
    translation_mm=np.array([0.0, 900.0, 4000.0]),
)


def figure(seed: int, num_frames: int = 40, *, size: float = 1.0) -> np.ndarray:
    """A figure that walks and swings its limbs, other for each seed; its bones keep their lengths."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_frames)[:, None] / 10
    angle = 0.5 * np.sin(time * rng.uniform(0.5, 2, 17) + rng.uniform(0, 6, 17))
    bones = np.repeat(BONES[None] * size, num_frames, axis=0)
    y, z = bones[..., 1].copy(), bones[..., 2].copy()
    bones[..., 1], bones[..., 2] = y * np.cos(angle) - z * np.sin(angle), y * np.sin(angle) + z * np.cos(angle)
    joints = np.zeros((num_frames, 17, 3))
    joints[:, 0] = np.array([0, 900, 0]) + time * rng.normal(0, 100, 3) * [1, 0, 1]
    for joint, parent in H36M_17.bones:
        joints[:, joint] = joints[:, parent] + bones[:, joint]
    return joints.astype(np.float32)


@dataclass
class Folder:
    """A folder for `pose_npz`."""

    path: Path

    def write(self, name: str, seed: int = 0, *, num_frames: int = 40, size: float = 1.0, **changed: Any) -> Path:
        """Write one sequence; an array that is None is left out."""
        arrays = {"joints_3d_mm": figure(seed, num_frames, size=size), "skeleton": "h36m_17"} | changed
        path = self.path / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
        return path

    def write_all(self) -> "Folder":
        """Three subjects who walk, wave and sit twice each: 18 sequences of 36 to 53 frames."""
        names = [f"{subject}/{action}_{n}" for subject in ("ann", "bob", "cid") for action in ("walk", "wave", "sit") for n in (1, 2)]
        for seed, name in enumerate(names):
            self.write(name, seed, num_frames=36 + seed)
        return self

    def settings(self, **changed: Any) -> PoseNpz:
        """Settings for this folder; clips of 9 frames, two cameras."""
        return PoseNpz(**({"data_dir": str(self.path), "num_frames": 9, "clip_stride": 4, "virtual_cameras": 2} | changed))


@dataclass
class Memory:
    """Raw poses that a test makes: sequence -> tracks, or the reason why they can't be read."""

    root: Path
    tracks: dict[str, tuple[RawTrack, ...] | str]
    protocol: str = "made by a test"
    average: str = "frame"
    reads: int = 0

    @property
    def sequences(self) -> tuple[RawSequence, ...]:
        return tuple(RawSequence(name, name.split("/")[0], name.split("/")[1].split()[0], f"{name}.file") for name in sorted(self.tracks))

    @property
    def files(self) -> tuple[Path, ...]:
        return ()

    def read(self, sequence: RawSequence) -> tuple[RawTrack, ...]:
        self.reads += 1
        found = self.tracks[sequence.name]
        if isinstance(found, str):
            raise BadFile(found)
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "figures")


@pytest.fixture
def memory(tmp_path: Path) -> Callable[..., Memory]:
    return lambda tracks: Memory(tmp_path, tracks)


@pytest.fixture
def track() -> Callable[..., RawTrack]:
    """A track that a distorting camera saw exactly."""

    def make(seed: int = 0, num_frames: int = 40, **changed: Any) -> RawTrack:
        joints = CAMERA.to_camera(figure(seed, num_frames))
        exact = {"joints_2d_px": CAMERA.project(joints).astype(np.float32), "joints_3d_camera_mm": joints, "camera": CAMERA}
        return RawTrack(**({"camera_name": "cam", "size_px": CAMERA.size_px, "frame_rate": 50.0} | exact | changed))

    return make
