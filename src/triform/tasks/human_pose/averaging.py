"""How errors of single frames become one number: over all frames alike, or over actions alike."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

Sums = Float64[np.ndarray, "part *value 2"]
"""Sum and count of each part - a track, a clip - of a split."""


def averaged(sums: Sums, actions: Sequence[str], average: str) -> Float64[np.ndarray, " *value"]:
    """The mean over frames; with average="action", of each action first, and then over the actions. NaN where nothing was counted.

    Args:
        actions: of each part.

    Source: the protocols of Human3.6M ("action") and MPI-INF-3DHP ("frame").
    """
    if average == "frame":
        return mean(sums.sum(0))
    means = np.stack(list(by_action(sums, actions).values()))
    known = np.isfinite(means)
    counted = np.stack([np.where(known, means, 0).sum(0), known.sum(0)], axis=-1)
    return mean(counted.astype(np.float64))


def by_action(sums: Sums, actions: Sequence[str]) -> dict[str, Float64[np.ndarray, " *value"]]:
    """Mean over the frames of each action, sorted by name."""
    chosen = np.array(actions)
    return {action: mean(sums[chosen == action].sum(0)) for action in sorted(set(actions))}


def mean(sums: Float64[np.ndarray, "*value 2"]) -> Float64[np.ndarray, " *value"]:
    """Sum over count; NaN where nothing was counted."""
    total, count = sums[..., 0], sums[..., 1]
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
