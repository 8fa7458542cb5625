"""Chamfer distances in torch: what training minimises. The same numbers in NumPy are in `metrics`."""

import torch
from jaxtyping import Float
from torch import Tensor

from triform.kernels.gather_torch import gather_points
from triform.kernels.nearest_neighbors_torch import nearest_neighbors


def nearest_offsets(a: Float[Tensor, "batch a 3"], b: Float[Tensor, "batch b 3"]) -> Float[Tensor, "batch a 3"]:
    """Return a - its nearest point of b, differentiable in both; which point is the nearest is held constant."""
    return a - gather_points(b, nearest_neighbors(a, b))


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
    forth, back = nearest_offsets(a, b), nearest_offsets(b, a)
    return {
        "cd_l2": torch.linalg.vector_norm(forth, dim=2).mean(1) + torch.linalg.vector_norm(back, dim=2).mean(1),
        "cd_squared": forth.square().sum(2).mean(1) + back.square().sum(2).mean(1),
    }
