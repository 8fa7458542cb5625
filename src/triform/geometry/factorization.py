"""The shape of a moving skeleton from what several cameras see of it, their places unknown: no calibration but each one's intrinsics.

Pictures are first taken for parallel projections, in which all coordinates of all cameras are a matrix of rank 3 (Tomasi and Kanade,
"Shape and motion from image streams under orthography", IJCV 1992). Depths found that way tell how perspective moved each joint; without
that movement the matrix is factored again, and so on (Christy and Horaud, "Euclidean shape and motion from multiple perspective views by
affine iterations", PAMI 1996). Parallel projections can't tell a shape from its mirror image in depth; perspective can, so both are
followed to the end, and the one that explains the pictures better is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

Plane = Float64[np.ndarray, "view frame joint 2"]
Points = Float64[np.ndarray, "frame joint 3"]
Rotations = Float64[np.ndarray, "view 3 3"]

_ROUNDS = 4
"""Each about halves the error that exact pictures leave; a detector's errors are larger after three."""
_FLATTEST = 1e-3
"""Least eigenvalue of the metric, of its largest: noise can make it negative where cameras hardly differ."""
_MIRROR = np.diag([1.0, 1.0, -1.0])


@dataclass(frozen=True, slots=True, eq=False)
class ShapeAndMotion:
    """What explains the pictures."""

    points: Points
    """In the first camera's axes, relative to each frame's mean joint; the bones of each frame are together as long as of every other."""
    rotations: Rotations
    """From the first camera's axes to each one's."""
    scale: Float64[np.ndarray, "view frame"]
    """Picture lengths of a unit of length at the depth of the mean joint."""
    residual: float
    """Mean absolute difference to the pictures, in units of the person's size in them."""

    def seen_from(self, view: int) -> Points:
        """The points in a camera's own axes."""
        found: Points = self.points @ self.rotations[view].T
        return found


def shape_and_motion(plane: Plane, bones: Sequence[tuple[int, int]]) -> ShapeAndMotion:
    """Find points and rotations from the joints' places on the planes at depth 1 (x right, y down) of cameras that stand still.

    Args:
        plane: All finite, of three cameras at least, and no two joints of a frame all in one place.
        bones: Pairs of joints whose distance does not change.
    Raises: LinAlgError: the places are degenerate.
    """
    offset = plane - plane.mean(2, keepdims=True)
    size = np.sqrt(np.square(offset).mean((1, 2, 3)))[:, None].repeat(plane.shape[1], 1)
    start = _factored(offset, size)
    return min((_refined(plane, one, bones) for one in (start, _mirrored(start))), key=lambda one: one.residual)


def _refined(plane: Plane, found: ShapeAndMotion, bones: Sequence[tuple[int, int]]) -> ShapeAndMotion:
    """Undo perspective by the depths found, factor again, as often as it takes."""
    for _ in range(_ROUNDS):
        found = _of_one_size(found, bones)
        offset, seen = _parallel(plane, found), _turned(found)[..., :2]
        scale = (seen * offset).sum((2, 3)) / np.square(seen).sum((2, 3))
        factored = _factored(offset, scale)
        found = factored if (factored.points[..., 2] * found.points[..., 2]).sum() > 0 else _mirrored(factored)
    offset = _parallel(plane, found)
    size = np.sqrt(np.square(offset).mean())
    return replace(found, residual=float(np.abs(found.scale[..., None, None] * _turned(found)[..., :2] - offset).mean() / size))


def _mirrored(found: ShapeAndMotion) -> ShapeAndMotion:
    return replace(found, points=found.points @ _MIRROR, rotations=_MIRROR @ found.rotations @ _MIRROR)


def _of_one_size(found: ShapeAndMotion, bones: Sequence[tuple[int, int]]) -> ShapeAndMotion:
    """A picture tells how large a person appears in each frame, not how large they are: their bones are as long as ever."""
    joints, parents = np.array(bones).T
    length = np.linalg.norm(found.points.take(joints, 1) - found.points.take(parents, 1), axis=-1).sum(-1)
    length /= length.mean()
    return replace(found, points=found.points / length[:, None, None], scale=found.scale * length)


def _turned(found: ShapeAndMotion) -> Float64[np.ndarray, "view frame joint 3"]:
    """The points in every camera's axes."""
    turned: Float64[np.ndarray, "view frame joint 3"] = found.points @ found.rotations.swapaxes(1, 2)[:, None]
    return turned


def _parallel(plane: Plane, found: ShapeAndMotion) -> Plane:
    """Where parallel projection would put the joints, relative to their mean: x / (1 + z / d) is seen of what stands at x, beyond the mean
    joint's depth d by z."""
    depth = found.scale[..., None] * _turned(found)[..., 2]
    straight: Plane = plane * (1 + depth)[..., None]
    offset: Plane = straight - straight.mean(2, keepdims=True)
    return offset


def _factored(offset: Plane, scale: Float64[np.ndarray, "view frame"]) -> ShapeAndMotion:
    """Rotations by the rank of the matrix of all coordinates, points by least squares from these."""
    rows = (offset / scale[..., None, None]).transpose(0, 3, 1, 2).reshape(2 * len(offset), -1)
    _, vectors = np.linalg.eigh(rows @ rows.T)
    axes = _euclidean(vectors[:, -3:]).reshape(-1, 2, 3)
    length = np.sqrt(np.square(axes).sum((1, 2)) / 2)
    u, _, v = np.linalg.svd(axes, full_matrices=False)
    right, down = (u @ v).swapaxes(0, 1)
    rotations = np.stack([right, down, np.cross(right, down)], axis=1)
    rotations = rotations @ rotations[0].T
    axes = rotations[:, :2].reshape(-1, 3)
    points = (rows / length.repeat(2)[:, None]).T @ axes @ np.linalg.inv(axes.T @ axes)
    return ShapeAndMotion(points.reshape(*offset.shape[1:3], 3), rotations, scale * length[:, None], residual=np.inf)


def _euclidean(affine: Float64[np.ndarray, "row 3"]) -> Float64[np.ndarray, "row 3"]:
    """The same rows after the linear change that makes each camera's two orthogonal and of one length, as nearly as can be.

    Source: Tomasi and Kanade (1992), section 3.4; lengths are left free, as under scaled parallel projection.
    """
    x, y = affine[0::2], affine[1::2]
    equations = np.concatenate([_quadratic(x, x) - _quadratic(y, y), 2 * _quadratic(x, y), _quadratic(affine, affine).mean(0)[None]])
    wanted = np.zeros(len(equations))
    wanted[-1] = 1
    xx, xy, xz, yy, yz, zz = np.linalg.lstsq(equations, wanted, rcond=None)[0]
    values, vectors = np.linalg.eigh(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
    changed: Float64[np.ndarray, "row 3"] = affine @ (vectors * np.sqrt(np.maximum(values, _FLATTEST * values[-1])))
    return changed


def _quadratic(a: Float64[np.ndarray, "row 3"], b: Float64[np.ndarray, "row 3"]) -> Float64[np.ndarray, "row 6"]:
    """Coefficients of a^T Q b in the six entries of a symmetric Q."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ax * bx, ax * by + ay * bx, ax * bz + az * bx, ay * by, ay * bz + az * by, az * bz], axis=-1)
