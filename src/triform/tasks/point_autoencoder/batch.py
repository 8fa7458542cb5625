"""Batches of clouds for the point autoencoder."""

from typing import cast

import numpy as np
from jaxtyping import Float32, Int

from triform.data.augmentation import Axis, augment_cloud, sample_generator
from triform.data.clouds import Clouds
from triform.tasks.point_autoencoder.config import Augmentation

_NONE = Augmentation(rotate_up=False)


def make_batch(
    clouds: Clouds, indices: Int[np.ndarray, " batch"], *, augmentation: Augmentation, seed: int, epoch: int | None
) -> dict[str, Float32[np.ndarray, "batch point 3"]]:
    """Return {"points": the clouds at `indices`}, augmented by (seed, epoch, index); as they are where `epoch` is None."""
    points = clouds.points[indices]
    if epoch is not None and augmentation != _NONE:
        axis = cast(Axis, clouds.up_axis) if augmentation.rotate_up else None
        for place, sample in enumerate(indices):
            points[place] = augment_cloud(
                points[place],
                sample_generator(seed, epoch=epoch, sample=int(sample)),
                rotate_axis=axis,
                scale_range=augmentation.scale_range,
                jitter_std=augmentation.jitter_std,
            )
    return {"points": points}
