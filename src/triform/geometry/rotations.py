"""Rotations as matrices: from and to Euler angles, between directions, and the best fit of several."""

import numpy as np
from jaxtyping import Float

Matrices = Float[np.ndarray, "*batch 3 3"]
_TINY = 1e-12


def about_axis(axis: str, angle: Float[np.ndarray, "*batch"]) -> Matrices:
    """Right-handed rotations about x, y or z. Args: angle: radians."""
    one, other = ((which + "xyz".index(axis)) % 3 for which in (1, 2))
    turns = np.broadcast_to(np.eye(3), (*np.shape(angle), 3, 3)).copy()
    turns[..., one, one] = turns[..., other, other] = np.cos(angle)
    turns[..., other, one] = np.sin(angle)
    turns[..., one, other] = -turns[..., other, one]
    return turns


def from_euler(order: str, angles: Float[np.ndarray, "*batch n"]) -> Matrices:
    """The product of the rotations about each axis of `order`, the last applied first. Args: angles: radians, one an axis."""
    turns = np.broadcast_to(np.eye(3), (*angles.shape[:-1], 3, 3))
    for column, axis in enumerate(order):
        turns = turns @ about_axis(axis, angles[..., column])
    return turns


def to_euler(order: str, turns: Matrices) -> Float[np.ndarray, "*batch 3"]:
    """The inverse of `from_euler` for three different axes: radians, the middle one within +-pi/2.

    Where the middle one is +-pi/2, only the sum or difference of the others is defined: the last is then 0.
    """
    i, j, k = ("xyz".index(axis) for axis in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    across = np.hypot(turns[..., i, i], turns[..., i, j])
    middle = np.arctan2(sign * turns[..., i, k], across)
    locked = across < 1e-9
    first = np.arctan2(*np.where(locked, (sign * turns[..., k, j], turns[..., j, j]), (-sign * turns[..., j, k], turns[..., k, k])))
    last = np.where(locked, 0.0, np.arctan2(-sign * turns[..., i, j], turns[..., i, i]))
    return np.stack([first, middle, last], axis=-1)


def shortest(source: Float[np.ndarray, "*batch 3"], target: Float[np.ndarray, "*batch 3"]) -> Matrices:
    """The smallest rotations that take the direction of `source` to that of `target`; none where either has no length.

    Opposite directions have no smallest one: then half a turn about some axis across them.
    """
    lengths = np.linalg.norm(source, axis=-1, keepdims=True) * np.linalg.norm(target, axis=-1, keepdims=True)
    a = source / np.maximum(np.linalg.norm(source, axis=-1, keepdims=True), _TINY)
    b = target / np.maximum(np.linalg.norm(target, axis=-1, keepdims=True), _TINY)
    # A half turn about the half-way direction, after a half turn about the source, is the smallest rotation (Rodrigues).
    half = a + b
    square = (half * half).sum(axis=-1, keepdims=True)
    opposite = square < 1e-14
    half = np.where(opposite, _across(a), half)
    outer = half[..., :, None] * half[..., None, :] / np.where(opposite, 1.0, np.maximum(square, _TINY))[..., None]
    turns = (2 * outer - np.eye(3)) @ np.where(opposite[..., None], np.eye(3), 2 * a[..., :, None] * a[..., None, :] - np.eye(3))
    return np.where(lengths[..., None] > _TINY, turns, np.eye(3))


def best_fit(source: Float[np.ndarray, "*batch n 3"], target: Float[np.ndarray, "*batch n 3"]) -> Matrices:
    """The rotations R that minimise the sum of |R source - target|^2. Source: Kabsch (Acta Cryst. A32, 1976)."""
    left, _, right = np.linalg.svd(np.swapaxes(target, -1, -2) @ source)
    left[..., :, 2] *= np.sign(np.linalg.det(left) * np.linalg.det(right))[..., None]
    return np.asarray(left @ right)


def _across(direction: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    """A unit vector at a right angle, from the axis that the direction lies farthest from."""
    axis = np.eye(3)[np.abs(direction).argmin(axis=-1)]
    found = np.cross(direction, axis)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), _TINY))
