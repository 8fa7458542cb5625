"""Chamfer distances in torch: what training minimises. The same numbers in NumPy are in `metrics`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.profiler import record_function

from triform.kernels.nearest_neighbors_torch import nearest_neighbors


def chamfer_distances(a: Float[Tensor, "batch a 3"], b: Float[Tensor, "batch b 3"]) -> dict[str, Float[Tensor, " batch"]]:
    """Return `cd_l2` and `cd_squared` of each pair of clouds, not reduced over the batch.

    cd_l2 = mean_a min_b |a - b| + mean_b min_a |a - b|, in the clouds' unit, with gradient 0 where a point is met exactly;
    cd_squared = mean_a min_b |a - b|^2 + mean_b min_a |a - b|^2, in its square. Neither is halved.

    Raises:
        ValueError: On the CPU: a coordinate is not finite, or a cloud is empty.

    Source:
        Fan et al., "A point set generation network for 3D object reconstruction from a single image" (CVPR 2017), section 4.1, has
        the sum of squares; we take means, as Achlioptas et al. (ICML 2018) do. The form without squares is the one published for
        point autoencoders on MaizeField3D.
    """
    with record_function("nearest_neighbors"):
        (forth, _), (back, _) = nearest_neighbors(a, b), nearest_neighbors(b, a)
    return {
        "cd_l2": _lengths(forth).mean(1) + _lengths(back).mean(1),
        "cd_squared": forth.mean(1) + back.mean(1),
    }


def _lengths(squared: Float[Tensor, "batch point"]) -> Float[Tensor, "batch point"]:
    """The square roots, with gradient 0 at 0."""
    met = squared == 0
    return torch.where(met, 1, squared).sqrt().masked_fill(met, 0)
