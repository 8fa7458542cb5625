"""Which meshes make batch number i: P subjects, K meshes of each, a pure function of (seed, i)."""

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

_STREAM = 2
"""Fourth word of the counter: 0 orders epochs and 1 augments under the same keys."""


def select(
    subjects: Int64[np.ndarray, " mesh"], *, seed: int, step: int, batch_size: int, meshes_per_subject: int
) -> Int64[np.ndarray, " batch"]:
    """Return the indices of batch number `step`: K meshes of each subject side by side, and what is beyond K after all of these, so
    that a part of the batch holds several subjects too.

    P = batch_size // K subjects, two at least where there are two, are drawn without replacement, and K meshes of each. Where the data
    has fewer subjects, or K does not divide the batch, subjects give more, so that every batch holds `batch_size` meshes. A subject
    that has too few meshes gives all of them before it gives one again.

    Args:
        subjects: each mesh's subject, any integers.
        step: number of the batch, from 0.
        batch_size: at least 1.
        meshes_per_subject: K, at least 1.

    Source: P x K sampling: Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification" (2017), section 2.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, _STREAM]))
    order = np.argsort(subjects, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(subjects[order])) + 1)
    wanted = min(len(groups), max(min(2, batch_size), batch_size // meshes_per_subject))
    chosen = generator.permutation(len(groups))[:wanted]
    shares = batch_size // wanted + (np.arange(wanted) < batch_size % wanted)
    drawn = np.concatenate([_draw(generator, groups[group], int(share)) for group, share in zip(chosen, shares, strict=True)])
    rounds = np.concatenate([np.arange(share) // meshes_per_subject for share in shares])
    return drawn[np.argsort(rounds, kind="stable")]


def _draw(generator: np.random.Generator, meshes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` meshes; none comes again before all others came."""
    rounds = [generator.permutation(meshes) for _ in range(-(-count // len(meshes)))]
    return np.concatenate(rounds)[:count]
