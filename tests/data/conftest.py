"""Small raw data sets that the tests of this folder make for themselves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from triform.data.config import CloudSettings
from triform.geometry.ply import write_ply

SettingsFor = Callable[..., CloudSettings]
WritePlants = Callable[..., Path]


def make_plant(seed: int, *, num_points: int = 200) -> np.ndarray:
    """A curved surface away from the origin, another for each seed."""
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(-1, 1, (2, num_points))
    surface = np.stack([u, v * (1 + seed % 7), np.cos(3 * u) + 0.1 * seed * v], axis=1)
    return surface + np.array([5.0, -3.0, 0.5])


def _write_plants(folder: Path, num_plants: int, *, num_points: int = 200) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, num_plants + 1):
        write_ply(folder / f"{number:04d}.ply", make_plant(number, num_points=num_points))
    return folder


@pytest.fixture
def plant() -> Callable[..., np.ndarray]:
    return make_plant


@pytest.fixture
def write_plants() -> WritePlants:
    """Writes 0001.ply, 0002.ply, ..."""
    return _write_plants


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder of twelve plants."""
    return _write_plants(tmp_path / "plants", 12)


@pytest.fixture
def settings_for() -> SettingsFor:
    """Settings for clouds of 64 points."""
    return lambda data_dir, **others: CloudSettings(**({"data_dir": str(data_dir), "num_points": 64} | others))
