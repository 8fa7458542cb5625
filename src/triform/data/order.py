"""Which samples make batch number i: a pure function of (seed, i), so that seeking costs nothing and no random state is saved."""

import numpy as np
from numpy.typing import NDArray


def epoch_order(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """A permutation of the samples, keyed by (seed, epoch) through the counter-based generator Philox."""
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return generator.permutation(num_samples)


def steps_per_epoch(num_samples: int, batch_size: int) -> int:
    """Full batches of a pass. The rest of the permutation is left out, another one each epoch; a data set smaller than a batch
    is one batch."""
    return max(1, num_samples // batch_size)


def batch_indices(seed: int, step: int, *, num_samples: int, batch_size: int) -> tuple[int, NDArray[np.int64]]:
    """(epoch, sample indices) of batch number `step`."""
    epoch, within = divmod(step, steps_per_epoch(num_samples, batch_size))
    order = epoch_order(seed, epoch, num_samples)
    return epoch, order[within * batch_size : (within + 1) * batch_size]
