"""Procedural field-grown maize, as a laser scanner sees it: a stand-in of the same kind as MaizeField3D for demos and tests.

The form follows what agronomy describes: alternate leaves in one plane, their length and insertion angle bell-shaped over the
stem, a width that is broad in the middle and ends in a point, a V-shaped midrib, a tassel on top and an ear half-way up.
Source of the kind of data: Kimara et al., "MaizeField3D" (arXiv 2503.07813). The numbers here are our own, none comes from a plant.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from triform.errors import DataError
from triform.geometry.ply import read_ply, write_ply

_STEM, _LEAF, _TASSEL, _HUSK = (96, 128, 62), (62, 118, 44), (176, 158, 96), (142, 160, 84)
_NOISE_M = 0.0015
_STRAY_SHARE = 0.004
"""The share of mixed pixels: returns between an edge and what is behind it."""


@dataclass(frozen=True, slots=True)
class _Surface:
    """One organ: a grid of points along its length and across (or around) it, in metres, z up."""

    grid: Float64[np.ndarray, "along across 3"]
    color: tuple[int, int, int]


def maize_plant(
    seed: int, *, num_points: int = 10_000
) -> tuple[Float64[np.ndarray, "{num_points} 3"], UInt8[np.ndarray, "{num_points} 3"]]:
    """Return the points (metres, z up, away from the origin, in no order) and colours of one plant, a pure function of the seed.

    Args:
        seed: 0 or more; each seed is another plant of 1 to 2.6 m with 6 to 12 leaves.
        num_points: 1 or more.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    points, normals, colors = _scan(rng, _grow(rng), 3 * num_points)
    keep = rng.choice(len(points), num_points, replace=False, p=_visibility(rng, points, normals))
    points = points[keep] + rng.normal(0, _NOISE_M, (num_points, 3))
    stray = rng.random(num_points) < _STRAY_SHARE
    points[stray] += rng.normal(0, 0.015, (int(stray.sum()), 3))
    position = rng.uniform((-6, -6, -0.4), (6, 6, 0.4))
    return points + position, colors[keep]


def write_maize_folder(folder: Path, *, num_plants: int, num_points: int, seed: int) -> None:
    """Write 0001.ply, 0002.ply, ... of synthetic plants; a file that is there and complete, of the same settings, stays untouched.

    Stopped anywhere, it leaves only whole files under their final names; called again, it writes what is missing.

    Args:
        folder: Made where it does not exist.
        num_plants: The number of files.
        num_points: Points per plant.
        seed: Plant number i of a folder is a pure function of (seed, i).

    Raises:
        OSError: The folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(1, num_plants + 1):
        path = folder / f"{index:04d}.ply"
        comment = f"synthetic maize 1, seed {seed}, plant {index}, {num_points} points"
        if _is_complete(path, comment):
            continue
        plant_seed = int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0])
        points, colors = maize_plant(plant_seed, num_points=num_points)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        write_ply(partial, points, colors=colors, comments=[comment])
        os.replace(partial, path)


def _is_complete(path: Path, comment: str) -> bool:
    try:
        return path.is_file() and comment in read_ply(path).comments
    except DataError:
        return False


def _grow(rng: np.random.Generator) -> list[_Surface]:
    """The organs of one plant that stands on the origin."""
    height = rng.uniform(1.0, 2.1)
    num_leaves = int(rng.integers(6, 13))
    stem = _stem_axis(rng, height)
    organs = [_tube(stem, np.linspace(rng.uniform(0.011, 0.016), 0.004, len(stem)), color=_STEM)]
    plane = rng.uniform(0, 2 * np.pi)
    has_tassel = rng.random() < 0.7
    for rank, share in enumerate(np.linspace(0.1, 0.93 if has_tassel else 1.0, num_leaves) + rng.normal(0, 0.012, num_leaves)):
        azimuth = plane + np.pi * (rank % 2) + rng.normal(0, 0.25)
        organs.append(_leaf(rng, _at(stem, share), share, azimuth=azimuth, size=height))
    if has_tassel:
        organs += _tassel(rng, stem[-1], rng.uniform(0.2, 0.35))
    if rng.random() < 0.6:
        organs.append(_ear(rng, _at(stem, rng.uniform(0.4, 0.55)), plane + np.pi * rng.integers(2) + rng.normal(0, 0.3)))
    return organs


def _stem_axis(rng: np.random.Generator, height: float) -> Float64[np.ndarray, "along 3"]:
    """A line that leans and bends by a few centimetres and zigzags a little from node to node."""
    share = np.linspace(0, 1, 60)
    lean, bend = rng.normal(0, 0.03, 2) * height, rng.normal(0, 0.035, 2) * height
    zigzag = 0.004 * np.sin(share * 9 * np.pi)[:, None] * _direction(rng.uniform(0, 2 * np.pi))[:2]
    sideways = share[:, None] * lean + (share**2)[:, None] * bend + zigzag
    return np.column_stack([sideways, share * height])


def _leaf(rng: np.random.Generator, base: Float64[np.ndarray, " 3"], share: float, *, azimuth: float, size: float) -> _Surface:
    """A blade that rises from the stem, arches over and droops; `share` is its insertion height over the stem's, 0 to 1.

    The angle from the vertical grows along the blade, so that the midrib is the integral of its direction.
    """
    along = np.linspace(0, 1, 48)
    length = size * (0.24 + 0.28 * np.sin(np.pi * np.clip(share + 0.05, 0, 1)) ** 0.8) * rng.uniform(0.85, 1.15)
    first, last = rng.uniform(0.3, 0.6) - 0.12 * share, rng.uniform(1.8, 3.0) - 0.8 * share**2
    angle = first + (last - first) * along ** rng.uniform(1.1, 1.9)
    turn = azimuth + rng.normal(0, 0.25) * along**2
    heading = np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)], axis=1)
    midrib = base + np.vstack([np.zeros(3), np.cumsum(heading[:-1], axis=0)]) * length / (len(along) - 1)
    side = np.stack([-np.sin(turn), np.cos(turn), np.zeros_like(turn)], axis=1)
    upward = np.cross(heading, side)
    twist = rng.normal(0, 0.5) * along**1.5
    side, upward = _rotate(side, upward, twist), _rotate(upward, -side, twist)
    half_width = 0.5 * length * rng.uniform(0.085, 0.115) * _width_profile(along)
    return _Surface(_blade(rng, midrib, side, upward=upward, half_width=half_width), _vary(rng, _LEAF))


def _width_profile(along: Float64[np.ndarray, " along"]) -> Float64[np.ndarray, " along"]:
    """Width over greatest width: half at the collar, greatest at about 0.35 of the length, a point at the tip."""
    profile = (along + 0.12) ** 0.55 * (1.0 - along) ** 0.75
    return np.asarray(profile / profile.max())


def _blade(
    rng: np.random.Generator,
    midrib: Float64[np.ndarray, "along 3"],
    side: Float64[np.ndarray, "along 3"],
    *,
    upward: Float64[np.ndarray, "along 3"],
    half_width: Float64[np.ndarray, " along"],
) -> Float64[np.ndarray, "along across 3"]:
    """The two halves fold up at the midrib, most at the collar, and the margins wave."""
    across = np.linspace(-1, 1, 9)
    along = np.linspace(0, 1, len(midrib))
    fold = 0.75 * (1 - along) ** 1.2 + 0.12
    wave = 0.22 * np.sin(2 * np.pi * rng.uniform(2.5, 4.5) * along + rng.uniform(0, 2 * np.pi)) * np.sqrt(along)
    offset = across[None, :] * (half_width * np.cos(fold))[:, None]
    lift = np.abs(across)[None, :] * (half_width * np.sin(fold))[:, None]
    lift = lift + (across**3)[None, :] * (half_width * wave)[:, None]
    return np.asarray(midrib[:, None] + offset[..., None] * side[:, None] + lift[..., None] * upward[:, None])


def _tassel(rng: np.random.Generator, tip: Float64[np.ndarray, " 3"], length: float) -> list[_Surface]:
    """A central spike and thin side branches that arch outwards from its lower half."""
    along = np.linspace(0, 1, 12)[:, None]
    up = np.array([0.0, 0.0, length])
    branches = [_tube(tip + along * up, np.full(12, 0.004), color=_TASSEL)]
    for _ in range(int(rng.integers(5, 13))):
        out = _direction(rng.uniform(0, 2 * np.pi)) * length * rng.uniform(0.25, 0.6)
        rise = up * rng.uniform(0.35, 0.75)
        axis = tip + up * rng.uniform(0, 0.45) + along * rise + along**2 * (out - 0.35 * rise)
        branches.append(_tube(axis, np.linspace(0.0035, 0.002, 12), color=_TASSEL))
    return branches


def _ear(rng: np.random.Generator, base: Float64[np.ndarray, " 3"], azimuth: float) -> _Surface:
    """A husk of 14 to 22 cm that leans away from the stem."""
    length, lean = rng.uniform(0.14, 0.22), rng.uniform(0.2, 0.5)
    share = np.linspace(0, 1, 16)
    heading = np.sin(lean) * _direction(azimuth) + np.cos(lean) * np.array([0.0, 0.0, 1.0])
    radius = rng.uniform(0.02, 0.028) * np.sin(np.pi * (0.12 + 0.88 * share) ** 0.8) ** 0.7 + 0.002
    return _tube(base + share[:, None] * length * heading, radius, color=_HUSK)


def _tube(axis: Float64[np.ndarray, "along 3"], radius: Float64[np.ndarray, " along"], *, color: tuple[int, int, int]) -> _Surface:
    """Circles around a line, in the planes across its overall direction."""
    direction = (axis[-1] - axis[0]) / np.linalg.norm(axis[-1] - axis[0])
    u = np.cross(direction, [1.0, 0.0, 0.0] if abs(direction[0]) < 0.9 else [0.0, 1.0, 0.0])
    u /= np.linalg.norm(u)
    turn = np.linspace(0, 2 * np.pi, 13)[:, None]
    circle = np.cos(turn) * u + np.sin(turn) * np.cross(direction, u)
    return _Surface(axis[:, None] + radius[:, None, None] * circle[None], color)


def _scan(
    rng: np.random.Generator, surfaces: list[_Surface], num_points: int
) -> tuple[Float64[np.ndarray, "point 3"], Float64[np.ndarray, "point 3"], UInt8[np.ndarray, "point 3"]]:
    """Points, unit normals and colours, uniform by area over all surfaces."""
    corners = np.concatenate([_cells(surface.grid) for surface in surfaces])
    tints = np.repeat([surface.color for surface in surfaces], [_num_cells(surface.grid) for surface in surfaces], axis=0)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    cell = np.searchsorted(np.cumsum(area) / area.sum(), rng.random(num_points), side="right").clip(max=len(area) - 1)
    u, v = rng.random((2, num_points, 1))
    a, b, c, d = (corners[cell, corner] for corner in range(4))
    points = (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * c + u * d)
    shade = rng.normal(1.0, 0.09, (num_points, 1)) * (0.8 + 0.2 * np.abs(normals[cell, 2:]) / np.maximum(area[cell, None], 1e-12))
    colors = np.clip(np.rint(tints[cell] * shade * 1.25), 0, 255).astype(np.uint8)
    return points, normals[cell] / np.maximum(area[cell, None], 1e-12), colors


def _cells(grid: Float64[np.ndarray, "along across 3"]) -> Float64[np.ndarray, "cell 4 3"]:
    corners = [grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]]
    return np.stack(corners, axis=2).reshape(-1, 4, 3)


def _num_cells(grid: Float64[np.ndarray, "along across 3"]) -> int:
    along, across, _ = grid.shape
    return int((along - 1) * (across - 1))


def _visibility(
    rng: np.random.Generator, points: Float64[np.ndarray, "point 3"], normals: Float64[np.ndarray, "point 3"]
) -> Float64[np.ndarray, " point"]:
    """The chance of each point to be in the scan: what faces a scanner or stands before the others is denser, some patches are thin.

    Two scanners stand 2 to 4 m away at eye height; patches come from a few random waves of 20 to 60 cm.
    """
    chance = np.full(len(points), 0.12)
    for _ in range(2):
        scanner = rng.uniform(2, 4) * _direction(rng.uniform(0, 2 * np.pi)) + np.array([0.0, 0.0, rng.uniform(1.2, 1.8)])
        ray = scanner - points
        distance = np.linalg.norm(ray, axis=1)
        chance += np.abs((ray * normals).sum(axis=1)) / distance * (2.5 / distance) ** 2
    waves = rng.normal(0, 2 * np.pi / 0.6, (3, 4))
    patches = np.cos(points @ waves + rng.uniform(0, 2 * np.pi, 4)).sum(axis=1)
    chance *= np.where(patches < -1.6, 0.25, 1.0)
    return np.asarray(chance / chance.sum())


def _at(axis: Float64[np.ndarray, "along 3"], share: float) -> Float64[np.ndarray, " 3"]:
    return np.asarray(axis[round(float(np.clip(share, 0, 1)) * (len(axis) - 1))])


def _direction(azimuth: float) -> Float64[np.ndarray, " 3"]:
    return np.array([np.cos(azimuth), np.sin(azimuth), 0.0])


def _rotate(
    a: Float64[np.ndarray, "along 3"], b: Float64[np.ndarray, "along 3"], angle: Float64[np.ndarray, " along"]
) -> Float64[np.ndarray, "along 3"]:
    """Turn `a` towards `b`, both unit and at right angles, by the angle of each row."""
    return np.asarray(np.cos(angle)[:, None] * a + np.sin(angle)[:, None] * b)


def _vary(rng: np.random.Generator, color: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (int(channel * factor) for channel, factor in zip(color, rng.uniform(0.85, 1.15, 3), strict=True))
    return red, green, blue
