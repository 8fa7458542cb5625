"""Compiles the fast kernels of the CPU by using them once on almost nothing, for machines where the first training should not wait.

Of set abstraction those of two and three layers; a fourth compiles one more loop when it is first used.
"""

import torch
from torch import Tensor

from triform.kernels.ball_query_torch import ball_query
from triform.kernels.edge_conv_torch import edge_conv
from triform.kernels.farthest_point_sample_torch import farthest_point_sample
from triform.kernels.k_nearest_torch import k_nearest
from triform.kernels.nearest_neighbors_torch import nearest_neighbors
from triform.kernels.set_abstraction_torch import Layer, set_abstraction


def compile_kernels(dtype: torch.dtype = torch.float32) -> None:
    """Forward and backward, in training and in evaluation. What is compiled lies in numba's cache afterwards."""
    points = torch.rand(2, 8, 3, dtype=dtype, requires_grad=True)
    centers, features = points.detach()[:, :4].contiguous(), torch.rand(2, 8, 2, dtype=dtype)
    neighbors = torch.arange(4).expand(2, 4, 4)
    wide, narrow, *others = (_layer(channels, dtype) for channels in (5, 3, 4, 4))
    mean, var = torch.zeros(4, dtype=dtype), torch.ones(4, dtype=dtype)
    for known in (None, [(mean, var)] * 3):  # the longest, and what a training needs last, comes first
        _learn(set_abstraction(points, features, centers, neighbors, [wide, *others], known)[0])
        _learn(set_abstraction(points, None, centers, neighbors, [narrow, *others], known)[0])
    _learn(nearest_neighbors(points, centers)[0])
    ball_query(points, centers, radius=1.0, num_neighbors=4)
    farthest_point_sample(points, 4)
    graph = k_nearest(points, 4)
    for moments in ((), (mean, var)):
        _learn(edge_conv(points, graph, *_layer(6, dtype), *moments)[0])


def _layer(channels: int, dtype: torch.dtype) -> Layer:
    return torch.rand(4, channels, dtype=dtype, requires_grad=True), torch.ones(4, dtype=dtype), torch.zeros(4, dtype=dtype)


def _learn(value: Tensor) -> None:
    value.sum().backward()  # type: ignore[no-untyped-call]
