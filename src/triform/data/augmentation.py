"""Random changes of clouds, each a pure function of (seed, epoch, sample): nothing to save, and no worker can change them."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

Axis = Literal["x", "y", "z"]


def sample_generator(seed: int, *, epoch: int, sample: int) -> np.random.Generator:
    """Return the generator of one sample in one epoch.

    The counter's third word is the sample, so two samples' streams are 2^128 draws apart; the fourth keeps them apart from the
    stream of the same key that orders the epoch.
    """
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, sample, 1]))


def rotate_about(points: Float[np.ndarray, "point 3"], axis: Axis, *, angle_rad: float) -> Float[np.ndarray, "point 3"]:
    """Return the points turned about a coordinate axis, counterclockwise seen from its tip, in their own dtype."""
    second, third = (("xyz".index(axis) + step) % 3 for step in (1, 2))
    cosine, sine = points.dtype.type(np.cos(angle_rad)), points.dtype.type(np.sin(angle_rad))
    turned = points.copy()
    turned[:, second] = cosine * points[:, second] - sine * points[:, third]
    turned[:, third] = sine * points[:, second] + cosine * points[:, third]
    return turned


def augment_cloud(
    points: Float32[np.ndarray, "point 3"],
    generator: np.random.Generator,
    *,
    rotate_axis: Axis | None,
    scale_range: tuple[float, float],
    jitter_std: float,
) -> Float32[np.ndarray, "point 3"]:
    """Return a changed copy: turned about `rotate_axis` by any angle, scaled, then jittered.

    Args:
        rotate_axis: None leaves the cloud as it stands.
        scale_range: smallest and largest factor; uniform between them.
        jitter_std: standard deviation of normal noise on each coordinate, in the points' unit.
    """
    angle, factor = generator.uniform(0, 2 * np.pi), generator.uniform(*scale_range)
    changed = points if rotate_axis is None else rotate_about(points, rotate_axis, angle_rad=angle)
    changed = changed * np.float32(factor)
    if jitter_std > 0:
        changed += generator.normal(0, jitter_std, points.shape).astype(np.float32)
    return changed
