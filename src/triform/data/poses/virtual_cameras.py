"""Cameras around a sequence that no camera filmed."""

from typing import Literal

import numpy as np
from jaxtyping import Float

from triform.data.poses.draw import keyed_generator
from triform.geometry.camera import Camera, looking_at
from triform.geometry.skeletons import H36M_17

SIZE_PX = (1000, 1000)
FOCAL_PX = 1145.0
"""About that of Human3.6M's cameras."""
_MARGIN_PX = 50.0
_DISTANCE_MM = (3500.0, 5500.0)
_ELEVATION_DEGREES = (0.0, 20.0)
_NEAREST_MM = 1000.0

Vector = Float[np.ndarray, " 3"]


def up_vector(axis: Literal["x", "y", "z"]) -> Vector:
    """The unit vector of a coordinate axis."""
    return np.array([axis == other for other in "xyz"], np.float64)


def place_camera(joints_world_mm: Float[np.ndarray, "frame 17 3"], name: str, *, number: int, count: int, seed: int, up: Vector) -> Camera:
    """A camera whose image holds every joint of every frame.

    It looks at the middle of the root's path from the `number`-th of `count` sectors around it, from 0 to 20 degrees above, and from
    3.5 to 5.5 m, or farther where the movement needs more room.

    Args:
        name: The sequence's; with `seed` and `number` it decides all that is drawn.
        up: Unit vector.
    """
    generator = keyed_generator(seed, name, number)
    azimuth = (number + generator.uniform()) * 2 * np.pi / count
    elevation = np.radians(generator.uniform(*_ELEVATION_DEGREES))
    drawn_mm = generator.uniform(*_DISTANCE_MM)
    root = np.asarray(joints_world_mm[:, H36M_17.root], np.float64)
    target = (root.min(0) + root.max(0)) / 2
    first = np.roll(up, 1)
    level = np.cos(azimuth) * first + np.sin(azimuth) * np.cross(up, first)
    direction = np.cos(elevation) * level + np.sin(elevation) * up
    camera = _at(target, direction, up, drawn_mm)
    needed_mm = _needed_distance(camera.to_camera(joints_world_mm) - [0, 0, drawn_mm])
    return camera if needed_mm <= drawn_mm else _at(target, direction, up, needed_mm)


def _at(target: Vector, direction: Vector, up: Vector, distance_mm: float) -> Camera:
    return looking_at(target, from_mm=target + distance_mm * direction, up=up, size_px=SIZE_PX, focal_px=FOCAL_PX)


def _needed_distance(points: Float[np.ndarray, "*batch 3"]) -> float:
    """How far the camera must be from the origin of these points, which are in its axes, to see them all. The axes do not turn with it."""
    room_px = min(SIZE_PX) / 2 - _MARGIN_PX
    aside, beyond = np.abs(points[..., :2]).max(-1), points[..., 2]
    return float(max((FOCAL_PX / room_px * aside - beyond).max(), (_NEAREST_MM - beyond).max()))
