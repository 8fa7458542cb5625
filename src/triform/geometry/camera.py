"""A calibrated camera: from the world to its own frame, and from there to pixels and back to the plane at depth 1."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " 3"]


def _identity() -> Float[np.ndarray, "3 3"]:
    return np.eye(3)


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """Intrinsics in pixels, pose as X_camera = rotation @ X_world + translation_mm. Camera frame: x right, y down, z away."""

    size_px: tuple[int, int]
    """Width and height."""
    focal_px: tuple[float, float]
    center_px: tuple[float, float]
    radial: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """k1, k2, k3."""
    tangential: tuple[float, float] = (0.0, 0.0)
    """p1, p2."""
    rotation: Float[np.ndarray, "3 3"] = field(default_factory=_identity)
    translation_mm: Vector = field(default_factory=lambda: np.zeros(3))

    def to_camera(self, world_mm: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
        """Points in the camera's frame (mm), in float64."""
        found: Float[np.ndarray, "*batch 3"] = np.asarray(world_mm, np.float64) @ self.rotation.T + self.translation_mm
        return found

    def to_world(self, camera_mm: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
        """The inverse of `to_camera`."""
        found: Float[np.ndarray, "*batch 3"] = (np.asarray(camera_mm, np.float64) - self.translation_mm) @ self.rotation
        return found

    def project(self, camera_mm: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 2"]:
        """Pixels of points in the camera's frame, in float64.

        Source: Human3.6M's own projection, as VideoPose3D has it (Pavllo et al., CVPR 2019): the tangential term enters the radial factor
        once, where OpenCV's Brown model has it twice.
        """
        points = np.asarray(camera_mm, np.float64)
        plane = points[..., :2] / points[..., 2:]
        square = np.square(plane).sum(-1, keepdims=True)
        radial = 1 + sum(k * square ** (i + 1) for i, k in enumerate(self.radial))
        reversed_tangential = np.array(self.tangential[::-1])
        distorted = plane * (radial + plane @ reversed_tangential[:, None]) + reversed_tangential * square
        found: Float[np.ndarray, "*batch 2"] = distorted * np.array(self.focal_px) + np.array(self.center_px)
        return found

    def as_tree(self) -> dict[str, Any]:
        """Plain numbers by name, for a manifest."""
        plain = {name: list(getattr(self, name)) for name in ("size_px", "focal_px", "center_px", "radial", "tangential")}
        return {**plain, "rotation": self.rotation.tolist(), "translation_mm": self.translation_mm.tolist()}

    @staticmethod
    def from_tree(tree: dict[str, Any]) -> "Camera":
        """The inverse of `as_tree`."""
        plain: dict[str, Any] = {name: tuple(tree[name]) for name in ("size_px", "focal_px", "center_px", "radial", "tangential")}
        return Camera(**plain, rotation=np.array(tree["rotation"], float), translation_mm=np.array(tree["translation_mm"], float))


def normalise(pixels: Float[np.ndarray, "*batch 2"], size_px: tuple[int, int]) -> Float[np.ndarray, "*batch 2"]:
    """Pixels on the scale where the image is 2 wide and its centre is 0: x / w * 2 - 1, y / w * 2 - h / w."""
    width, height = size_px
    found: Float[np.ndarray, "*batch 2"] = pixels * (2 / width) - np.array([1, height / width])
    return found


def denormalise(plane: Float[np.ndarray, "*batch 2"], size_px: tuple[int, int]) -> Float[np.ndarray, "*batch 2"]:
    """The inverse of `normalise`."""
    width, height = size_px
    found: Float[np.ndarray, "*batch 2"] = (plane + np.array([1, height / width])) * (width / 2)
    return found


def looking_at(target_mm: Vector, *, from_mm: Vector, up: Vector, size_px: tuple[int, int], focal_px: float) -> Camera:
    """A camera without distortion at `from_mm` whose axis goes through `target_mm` and whose image is upright."""
    forward = (target_mm - from_mm) / np.linalg.norm(target_mm - from_mm)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    center = (size_px[0] / 2, size_px[1] / 2)
    return Camera(size_px, (focal_px, focal_px), center, rotation=rotation, translation_mm=-rotation @ from_mm)
