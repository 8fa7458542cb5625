"""From the bytes of one raw file to the bytes of one prepared cloud: a pure function of the content."""

import io
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from triform.data.quarantine import BadFile
from triform.errors import DataError
from triform.geometry.ply import read_ply

STEP_VERSION = 1
"""Raised whenever the same raw file would give other bytes: prepared clouds of another version are made anew."""
_MAX_DROPPED_FRACTION = 0.01


@dataclass(frozen=True, slots=True)
class SampledCloud:
    """A raw cloud in the unit sphere, sampled. `points * scale + centroid` gives the raw coordinates back, to float32's precision."""

    points: Float32[np.ndarray, "sample 3"]
    """In the order of sampling: the first n are a farthest point sample of n points."""
    resampled: Float32[np.ndarray, "sample 3"] | None
    centroid: Float64[np.ndarray, " 3"]
    scale: float
    num_source_points: int
    num_dropped: int

    def as_npz(self, *, source_sha256: str) -> bytes:
        """An .npz archive of all fields. NumPy stamps it with no time: equal clouds give equal bytes."""
        arrays = {
            "points": self.points,
            "centroid": self.centroid,
            "scale": np.float64(self.scale),
            "source_sha256": np.array(source_sha256),
            "num_source_points": np.int64(self.num_source_points),
            "num_dropped": np.int64(self.num_dropped),
        }
        if self.resampled is not None:
            arrays["resampled"] = self.resampled
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type, unused-ignore]
        return file.getvalue()


def sample_cloud(data: bytes, *, num_points: int, resample: bool) -> SampledCloud:
    """Read a PLY file, move its points to the unit sphere and sample `num_points` of them.

    The centroid is the mean of the finite points, the scale the greatest distance from it. Sampling is exact farthest point
    sampling and starts at the point farthest from the centroid. It takes no place twice while another is left, so that exact
    duplicates need no pass of their own: a place that comes back shows that there were too few.

    Args:
        data: Content of the file.
        num_points: Points to take.
        resample: Whether to sample a second time, for the sampling floor: what two samples of one plant differ by.

    The second sample starts at the point nearest to the centroid. The point farthest from the first start would not do: the first
    sample takes it next, and where these two are farthest from each other both samples are the same set (3 of 3 scanned corn plants).
    From the nearest point the symmetric Chamfer distance (cd_l2) of these plants is 0.0074 to 0.0084, as between random starts.

    Raises: BadFile.
    """
    raw = _read_points(data)
    kept = raw if np.isfinite(raw).all() else raw[np.isfinite(raw).all(axis=1)]
    num_dropped = len(raw) - len(kept)
    _refuse_unusable(len(raw), num_dropped, num_points)
    points, centroid, scale, distance = _into_unit_sphere(kept)
    sample = _sample(points, num_points, start=_first_of(kept, distance == distance.max()))
    if (sample[:-1] == sample[-1]).all(axis=1).any():
        raise BadFile(f"fewer than {num_points} distinct points among {len(kept)}")
    second = _sample(points, num_points, start=_first_of(kept, distance == distance.min())) if resample else None
    return SampledCloud(sample, second, centroid, scale, len(raw), num_dropped)


def _read_points(data: bytes) -> Float64[np.ndarray, "point 3"]:
    name = "file"
    try:
        return read_ply(data, name=name).points()
    except DataError as error:
        got = error.got.removeprefix(f"{name}: ")
        raise BadFile(f"{got}; expected {error.expected}" if error.expected else got) from error


def _refuse_unusable(num_source_points: int, num_dropped: int, num_points: int) -> None:
    if num_dropped > _MAX_DROPPED_FRACTION * num_source_points:
        raise BadFile(f"{num_dropped} of {num_source_points} points are not finite, more than 1 percent")
    if num_source_points - num_dropped < num_points:
        dropped = f" after dropping {num_dropped} that are not finite" if num_dropped else ""
        raise BadFile(f"{num_source_points - num_dropped} points{dropped}, fewer than {num_points}")


def _into_unit_sphere(
    points: Float64[np.ndarray, "point 3"],
) -> tuple[Float32[np.ndarray, "point 3"], Float64[np.ndarray, " 3"], float, Float64[np.ndarray, " point"]]:
    """(points - centroid) / scale, the centroid, the scale, and the squared distances from the centroid, in raw units.

    It works on whole axes: rows of three numbers take NumPy five times as long (0.26 against 0.05 ms for 10,000 points).
    """
    axes = np.ascontiguousarray(points.T)
    with np.errstate(over="ignore", invalid="ignore"):
        centroid = axes.mean(axis=1)
        axes -= centroid[:, None]
        squared = axes[0] ** 2 + axes[1] ** 2 + axes[2] ** 2
        scale = math.sqrt(squared.max())
    if not math.isfinite(scale):
        raise BadFile("coordinates are too large to be squared in float64")
    if scale == 0.0:
        raise BadFile("all points coincide")
    axes /= scale
    return np.ascontiguousarray(axes.T, np.float32), centroid, scale, squared


def _first_of(points: Float64[np.ndarray, "point 3"], candidates: Bool[np.ndarray, " point"]) -> int:
    """The candidate with the lowest coordinates, x before y before z; among equal points the first in the file."""
    (indices,) = np.nonzero(candidates)
    x, y, z = points[indices].T
    return int(indices[np.lexsort((indices, z, y, x))[0]])


def _sample(points: Float32[np.ndarray, "point 3"], num_points: int, *, start: int) -> Float32[np.ndarray, "sample 3"]:
    # numba takes 0.5 s to import, and only preparation needs it.
    from triform.kernels.farthest_point_sample import farthest_point_sample_one

    indices = farthest_point_sample_one(points, num_points, start=start)
    return np.take(points, indices, axis=0)
