"""What a network has to beat: chance, the vertices themselves, the vertices after rigid alignment, and linear discriminants of those.

All but chance take vertex i for the same place on every mesh. On unregistered meshes they are run all the same, and fail.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

from triform.tasks.mesh_identity.metrics import Measure

Meshes3 = Float[np.ndarray, "mesh vertex 3"]


def raw_vertices(coordinates: Meshes3) -> Float64[np.ndarray, "mesh value"]:
    """Return the coordinates, each mesh centred, as one row a mesh."""
    centred = coordinates.astype(np.float64) - coordinates.mean(1, keepdims=True, dtype=np.float64)
    return np.asarray(centred.reshape(len(centred), -1))


def kabsch(coordinates: Meshes3, target: Float[np.ndarray, "vertex 3"]) -> Float64[np.ndarray, "mesh vertex 3"]:
    """Return the meshes, centred and turned to lie nearest to the centred `target` in least squares; never reflected or scaled.

    Source: Kabsch, "A solution for the best rotation to relate two sets of vectors" (Acta Cryst. A 32, 1976); Umeyama (PAMI 1991), eq. 40.
    """
    centred = coordinates.astype(np.float64) - coordinates.mean(1, keepdims=True, dtype=np.float64)
    aim = target.astype(np.float64) - target.mean(0, dtype=np.float64)
    left, _, right = np.linalg.svd(np.swapaxes(centred, 1, 2) @ aim)
    left[:, :, 2] *= np.linalg.det(left @ right)[:, None]
    return np.asarray(centred @ (left @ right))


def mean_shape(coordinates: Meshes3, *, rounds: int = 3) -> Float64[np.ndarray, "vertex 3"]:
    """Return the mean of the meshes, aligned to the mean of the round before; the first is the target of the first round.

    Source: Gower, "Generalized Procrustes analysis" (Psychometrika 40, 1975), without scaling.
    """
    target = coordinates[0].astype(np.float64)
    for _ in range(rounds):
        target = np.asarray(kabsch(coordinates, target).mean(0))
    return np.asarray(target)


@dataclass(frozen=True, slots=True, eq=False)
class Discriminants:
    """A linear map in which subjects are as far apart as their meshes' spread allows."""

    mean: Float64[np.ndarray, " value"]
    directions: Float64[np.ndarray, "value kept"]

    def __call__(self, rows: Float64[np.ndarray, "mesh value"]) -> Float64[np.ndarray, "mesh kept"]:
        return np.asarray((rows - self.mean) @ self.directions)


def fit_discriminants(
    rows: Float64[np.ndarray, "mesh value"], subjects: Int[np.ndarray, " mesh"], *, variance: float = 0.999
) -> Discriminants:
    """Return linear discriminants learned after a principal component analysis.

    Principal components hold `variance` of the whole, and are at most as many as meshes less subjects, so that the spread within
    subjects can be inverted. In the directions kept, that spread is 1.

    Args:
        subjects: two at least, one of them with two meshes at least.

    Source: Belhumeur et al., "Eigenfaces vs. Fisherfaces" (PAMI 1997), section 2.4.
    """
    from scipy.linalg import eigh

    mean, names = rows.mean(0), np.unique(subjects)
    _, sizes, axes = np.linalg.svd(rows - mean, full_matrices=False)
    held = np.cumsum(np.square(sizes)) / np.square(sizes).sum()
    count = max(1, min(int(np.searchsorted(held, variance)) + 1, len(axes), len(rows) - len(names)))
    reduced = (rows - mean) @ axes[:count].T
    centers = np.stack([reduced[subjects == name].mean(0) for name in names])
    inner = reduced - centers[np.searchsorted(names, subjects)]
    within = inner.T @ inner / len(rows)
    between = reduced.T @ reduced / len(rows) - within
    # A direction in which no subject varies would be infinitely telling; this is far below the variance that the components hold.
    floor = 1e-9 * np.trace(within + between) / count
    _, vectors = eigh(between, within + floor * np.eye(count))
    kept = vectors[:, ::-1][:, : min(len(names) - 1, count)]
    return Discriminants(mean, np.asarray(axes[:count].T @ kept))


def nearest_mean(
    queries: Float64[np.ndarray, "query value"], rows: Float64[np.ndarray, "mesh value"], labels: Int[np.ndarray, " mesh"]
) -> Int[np.ndarray, " query"]:
    """Return the label whose mean row is nearest to each query: in the directions of `Discriminants`, linear discriminant
    classification with equal priors."""
    from triform.tasks.mesh_identity.metrics import distances

    names = np.unique(labels)
    centers = np.stack([rows[labels == name].mean(0) for name in names])
    return np.asarray(names[distances(queries, centers).argmin(1)])


def nearest(
    queries: Float64[np.ndarray, "query value"], rows: Float64[np.ndarray, "mesh value"], labels: Int[np.ndarray, " mesh"]
) -> Int[np.ndarray, " query"]:
    """Return the label of the row nearest to each query, the lowest row on ties."""
    from triform.tasks.mesh_identity.metrics import distances

    return np.asarray(labels[distances(queries, rows).argmin(1)])


def chance(num_subjects: int, measured: dict[str, Measure | None]) -> dict[str, Measure | None]:
    """Return what guessing gives for each name in `measured`: a random order of a gallery of `num_subjects`, and random distances."""
    places = np.arange(1, num_subjects + 1)
    known = {f"rank_{rank}": min(1.0, rank / num_subjects) for rank in (1, 5, 10)} | {"map": float((1 / places).mean())}
    known |= {"eer": 0.5, "auc": 0.5, "tar_far_0.01": 0.01, "tar_far_0.001": 0.001}
    return {name: None if value is None else Measure(known[name], 0.0) for name, value in measured.items()}
