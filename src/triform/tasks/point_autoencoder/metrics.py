"""How near a reconstruction is to its cloud: one float64 number a sample, all from the two directed nearest distances."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from triform.kernels.nearest_neighbors import nearest_neighbors

METRICS = ("cd_l2", "cd_squared", "f_score_0.01", "f_score_0.02", "hausdorff_95")
"""Names, in the order in which they are shown."""
LENGTHS = ("cd_l2", "hausdorff_95")
"""Metrics in the clouds' unit; cd_squared is in its square, an F-score has none."""


@dataclass(frozen=True, slots=True, eq=False)
class NearestDistances:
    """Distances from each point of one cloud to the nearest of the other, both ways, in the clouds' unit."""

    to_target: Float64[np.ndarray, "batch drawn"]
    to_reconstruction: Float64[np.ndarray, "batch point"]


def nearest_distances(reconstruction: Float[np.ndarray, "batch drawn 3"], target: Float[np.ndarray, "batch point 3"]) -> NearestDistances:
    """Return the directed distances, taken in the clouds' dtype.

    Raises:
        ValueError: a coordinate is not finite, or the shapes do not go together.
    """
    forth, _ = nearest_neighbors(reconstruction, target)
    back, _ = nearest_neighbors(target, reconstruction)
    return NearestDistances(np.sqrt(forth, dtype=np.float64), np.sqrt(back, dtype=np.float64))


def cd_l2(distances: NearestDistances) -> Float64[np.ndarray, " batch"]:
    """Return mean_a min_b |a - b| + mean_b min_a |a - b|, the form published for point autoencoders on MaizeField3D."""
    return np.asarray(distances.to_target.mean(1) + distances.to_reconstruction.mean(1))


def cd_squared(distances: NearestDistances) -> Float64[np.ndarray, " batch"]:
    """Return mean_a min_b |a - b|^2 + mean_b min_a |a - b|^2 (Achlioptas et al., ICML 2018, with means for sums)."""
    return np.asarray(np.square(distances.to_target).mean(1) + np.square(distances.to_reconstruction).mean(1))


def f_score(distances: NearestDistances, *, threshold: float) -> Float64[np.ndarray, " batch"]:
    """Return 2 P R / (P + R): P and R are the shares of drawn and of given points nearer than `threshold` to the other cloud; 0
    where both are 0.

    Source: Knapitsch et al., "Tanks and Temples" (SIGGRAPH 2017), section 4; Tatarchenko et al. (CVPR 2019).
    """
    precision, recall = (distances.to_target < threshold).mean(1), (distances.to_reconstruction < threshold).mean(1)
    total = precision + recall
    return np.asarray(2 * precision * recall / np.where(total > 0, total, 1))


def hausdorff_95(distances: NearestDistances) -> Float64[np.ndarray, " batch"]:
    """Return the greater of the two directed 95th percentiles (linear between ranks), a Hausdorff distance that outliers can't rule."""
    forth, back = (np.percentile(part, 95, axis=1) for part in (distances.to_target, distances.to_reconstruction))
    return np.asarray(np.maximum(forth, back))


def all_metrics(distances: NearestDistances) -> dict[str, Float64[np.ndarray, " batch"]]:
    """Return every metric of METRICS."""
    return {
        "cd_l2": cd_l2(distances),
        "cd_squared": cd_squared(distances),
        "f_score_0.01": f_score(distances, threshold=0.01),
        "f_score_0.02": f_score(distances, threshold=0.02),
        "hausdorff_95": hausdorff_95(distances),
    }
