"""Small raw meshes that the tests of this folder make for themselves."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from triform.data.meshes.config import MeshSettings

SIDE = 6


def grid_faces() -> np.ndarray:
    """Two triangles a cell of a grid of SIDE x SIDE vertices."""
    corner = (np.arange(SIDE - 1)[:, None] * SIDE + np.arange(SIDE - 1)).ravel()
    one = np.stack([corner, corner + 1, corner + SIDE], axis=1)
    other = np.stack([corner + 1, corner + SIDE + 1, corner + SIDE], axis=1)
    return np.stack([one, other], axis=1).reshape(-1, 3)


def grid_mirror() -> np.ndarray:
    """Left and right of the grid, along its second index."""
    return np.arange(SIDE * SIDE).reshape(SIDE, SIDE)[:, ::-1].ravel()


def surface(subject: int, mesh: int) -> np.ndarray:
    """A curved grid away from the origin, another for each subject and mesh."""
    u, v = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE), indexing="ij")
    noise = np.random.default_rng([subject, mesh]).normal(0, 0.01, (SIDE * SIDE, 3))
    return np.stack([v, u, (0.3 + 0.1 * subject) * np.cos(v + 0.2 * u)], axis=-1).reshape(-1, 3) + noise + 5.0


@dataclass
class RawFolder:
    """A folder of the HDF5 format that a test changes before it is written."""

    path: Path
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def add(self, split: str, subject: int, mesh: int, **change: Any) -> None:
        name = f"subject_{subject:04d}/mesh_{mesh:06d}"
        sample = {"subject_id": name.split("/")[0], "mesh_id": name.split("/")[1], "label": subject}
        self.samples.setdefault(split, []).append(sample | change)
        self.arrays.setdefault(split, {})[f"{name}/coordinates"] = surface(subject, mesh).astype(np.float32)

    def shared(self, **arrays: np.ndarray) -> "RawFolder":
        for split in self.arrays:
            self.arrays[split] |= arrays
        return self

    def write(self) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        for split, samples in self.samples.items():
            (self.path / f"{split}_metadata.json").write_text(json.dumps({"samples": samples}))
            with h5py.File(self.path / f"{split}_data.h5", "w") as file:
                for name, array in self.arrays[split].items():
                    file[name] = array
        return self.path


@pytest.fixture
def raw(tmp_path: Path) -> RawFolder:
    """Six subjects of three meshes, three of them to train on; open_set."""
    made = RawFolder(tmp_path / "meshes")
    for split, subjects in {"train": (0, 1, 2), "val": (3,), "test": (4, 5)}.items():
        for subject in subjects:
            for mesh in range(3):
                made.add(split, subject, mesh)
    return made.shared(faces=grid_faces(), mirror=grid_mirror())


@pytest.fixture
def closed(tmp_path: Path) -> RawFolder:
    """Three subjects, whose third and fourth mesh validate and test."""
    made = RawFolder(tmp_path / "closed")
    for subject in range(3):
        for mesh, split in enumerate(["train", "train", "val", "test"]):
            made.add(split, subject, mesh)
    return made


SettingsFor = Callable[..., MeshSettings]


@pytest.fixture
def settings_for() -> SettingsFor:
    """Settings for meshes of 20 vertices."""
    return lambda data_dir, **others: MeshSettings(**({"data_dir": str(data_dir), "num_vertices": 20} | others))
