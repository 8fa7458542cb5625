"""What an autoencoder has to beat: the best single cloud for everything, and the nearest training cloud. Both are deterministic."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numpy.typing import NDArray

from triform.data.order import batch_indices
from triform.kernels.nearest_neighbors import nearest_neighbors
from triform.tasks.point_autoencoder.metrics import cd_l2, nearest_distances

Say = Callable[[str], None]
Cloud = Float32[np.ndarray, "point 3"]
CloudBatch = Float32[np.ndarray, "cloud point 3"]

_PAIRS = 64
"""Pairs a call: enough for the cores, little enough for the cache (3 MB of clouds of 2048 points)."""


def quiet(text: str) -> None:
    """Say nothing."""


def best_constant(points: CloudBatch, *, seed: int, iterations: int = 300, batch_size: int = 8, learning_rate: float = 0.03) -> Cloud:
    """Return the cloud that, put for every cloud of `points`, has the least mean cd_l2, as far as Adam finds it.

    It starts from the cloud nearest to the others. Minibatches are keyed by the seed; the rate falls along half a cosine.

    Source:
        Adam: Kingma and Ba (ICLR 2015), algorithm 1, with its defaults. The gradient of |a - b| to a is (a - b) / |a - b|, and 0 at 0.
    """
    cloud = points[_medoid(points)].astype(np.float64)
    first, second = np.zeros_like(cloud), np.zeros_like(cloud)
    for step in range(iterations):
        _, chosen = batch_indices(seed, step, num_samples=len(points), batch_size=min(batch_size, len(points)))
        gradient = cd_l2_gradient(cloud.astype(np.float32), points[chosen])
        first += 0.1 * (gradient - first)
        second += 0.001 * (np.square(gradient) - second)
        rate = learning_rate * 0.5 * (1 + np.cos(np.pi * step / iterations))
        cloud -= rate * (first / (1 - 0.9 ** (step + 1))) / (np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8)
    return np.asarray(cloud, np.float32)


def cd_l2_gradient(cloud: Cloud, targets: CloudBatch) -> Float64[np.ndarray, "point 3"]:
    """Return the gradient, to the points of `cloud`, of its mean cd_l2 to `targets`."""
    repeated = np.repeat(cloud[None], len(targets), axis=0)
    _, nearest = nearest_neighbors(repeated, targets)
    _, owner = nearest_neighbors(targets, repeated)
    pulls = _directions(cloud, np.take_along_axis(targets, nearest[..., None], axis=1)).sum(0) / len(cloud)
    pushes = _directions(cloud[owner], targets).reshape(-1, 3) / targets.shape[1]
    for axis in range(3):
        pulls[:, axis] += np.bincount(owner.ravel(), pushes[:, axis], minlength=len(cloud))
    return np.asarray(pulls / len(targets))


def _directions(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    offsets = a.astype(np.float64) - b
    length = np.linalg.norm(offsets, axis=-1, keepdims=True)
    return offsets / np.where(length > 0, length, 1)


def _medoid(points: CloudBatch, *, num_candidates: int = 32) -> int:
    """The cloud with the least mean cd_l2 to the others, among some evenly spread over the data set."""
    candidates = np.unique(np.linspace(0, len(points) - 1, num_candidates).astype(int))
    return int(candidates[cd_l2_matrix(points[candidates], points[candidates]).mean(1).argmin()])


def nearest_cloud(queries: CloudBatch, gallery: CloudBatch, *, say: Say = quiet) -> Int64[np.ndarray, " query"]:
    """Return, for each query, the index of the gallery's cloud with the least cd_l2, the lowest on ties.

    Exact, by all pairs: 0.8 ms a pair of 2048 points each on two cores (7 minutes for 836 training and 209 held-out plants). Where
    `queries` is the gallery itself (the same object), a cloud is not its own neighbour, and each pair is taken once.
    """
    same = queries is gallery
    if same and len(gallery) == 1:
        return np.zeros(1, np.int64)
    matrix = cd_l2_matrix(queries, gallery, wanted=np.tri(len(queries), k=-1, dtype=bool) if same else None, say=say)
    return np.asarray(np.minimum(matrix, matrix.T).argmin(1) if same else matrix.argmin(1))


def cd_l2_matrix(
    a: CloudBatch, b: CloudBatch, *, wanted: Bool[np.ndarray, "i j"] | None = None, say: Say = quiet
) -> Float64[np.ndarray, "i j"]:
    """Return cd_l2 of all pairs, or of the wanted ones and infinity elsewhere."""
    matrix = np.full((len(a), len(b)), np.inf)
    rows, columns = np.nonzero(np.ones(matrix.shape, bool) if wanted is None else wanted)
    for first in range(0, len(rows), _PAIRS):
        i, j = rows[first : first + _PAIRS], columns[first : first + _PAIRS]
        matrix[i, j] = cd_l2(nearest_distances(a[i], b[j]))
        if first and first % (_PAIRS * 256) == 0:
            say(f"compared {first} of {len(rows)} pairs of clouds")
    return matrix
