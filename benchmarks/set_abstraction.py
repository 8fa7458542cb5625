"""Set abstraction of PointNet++, forward and backward, beside the usual formulation of the published equations.

    python benchmarks/set_abstraction.py [--quick] [--json] [--heap default|kept|both] [--only TEXT]

The two levels of a single-scale network, 2048 points to 512 centres (radius 0.2, 32 neighbours, 64-64-128) and 512 to 128 (0.4, 64,
128-128-256), each alone, on 32 clouds (quick: 2). All ways are given the same centres and neighbours, so sampling
and search are not in it. The usual formulation gathers (batch, 3 + channel, neighbour, centre), then 1x1 convolution, BatchNorm2d and
ReLU for each layer, and max; PyTorch Geometric's PointNetConv joins where it is installed. Results agree if, in float64, outputs, moments
and gradients are the same to 1e-9 of the largest number, and in float32 our gradients are at most 1.2 times as far from those of float64
as the usual formulation's, and our outputs within 1e-5.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from interleaved import Case, Run, main
from triform.kernels.ball_query_torch import ball_query
from triform.kernels.farthest_point_sample_torch import farthest_point_sample
from triform.kernels.gather_torch import gather_points
from triform.kernels.set_abstraction_torch import set_abstraction

NUM_POINTS = 2048
LEVELS = ((512, 0.2, 32, (64, 64, 128)), (128, 0.4, 64, (128, 128, 256)))
"""Centres, radius, neighbours, widths."""
WHICH = {"first level": (0,), "second level": (1,)}

Grouping = tuple[Tensor, Tensor, Tensor]
"""Points, centres, neighbours."""


class Usual(nn.Module):
    """Section 3.2, as it is published: every edge has its features."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(pairwise((3 + channels, *widths)))
        self.convs = nn.ModuleList(nn.Conv2d(before, width, 1, bias=False) for before, width in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, momentum=1.0) for width in widths)

    def forward(self, grouping: Grouping, features: Tensor | None) -> Tensor:
        points, centers, neighbors = grouping
        grouped = self.pick(points, neighbors) - centers[:, :, None]
        if features is not None:
            grouped = torch.cat([grouped, self.pick(features, neighbors)], dim=3)
        x = grouped.permute(0, 3, 2, 1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x)).relu()
        return x.max(dim=2).values.transpose(1, 2)

    def pick(self, values: Tensor, neighbors: Tensor) -> Tensor:
        batch = torch.arange(len(values))[:, None, None].expand_as(neighbors)
        return values[batch, neighbors]


class Ours(Usual):
    def forward(self, grouping: Grouping, features: Tensor | None) -> Tensor:
        points, centers, neighbors = grouping
        layers = [(conv.weight[:, :, 0, 0], norm.weight, norm.bias) for conv, norm in zip(self.convs, self.norms, strict=True)]
        pooled, moments = set_abstraction(points, features, centers, neighbors, layers)
        for norm, (mean, var) in zip(self.norms, moments, strict=True):
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var * (neighbors.numel() / (neighbors.numel() - 1)))
        return pooled


class Geometric(Usual):
    """PyTorch Geometric's PointNetConv."""

    def forward(self, grouping: Grouping, features: Tensor | None) -> Tensor:
        from torch_geometric.nn import PointNetConv  # type: ignore[import-not-found,unused-ignore]

        points, centers, neighbors = grouping
        batch, num_centers, _ = neighbors.shape
        first = torch.arange(batch)[:, None, None]
        groups = (torch.arange(num_centers)[:, None] + first * num_centers).expand_as(neighbors)
        edges = torch.stack([(neighbors + first * points.shape[1]).flatten(), groups.flatten()])
        layer, tied = PointNetConv(nn.Sequential(*self.pointwise()), add_self_loops=False), {}
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            weight = conv.weight[:, :, 0, 0]
            if number == 0 and features is not None:  # features come first there
                weight = weight.roll(-3, dims=1)
            tied |= {f"local_nn.{3 * number}.weight": weight, f"local_nn.{3 * number + 1}.weight": norm.weight}
            tied |= {f"local_nn.{3 * number + 1}.bias": norm.bias}
        given = None if features is None else (features.flatten(0, 1), None)
        positions = points.flatten(0, 1), centers.flatten(0, 1)
        out: Tensor = torch.func.functional_call(layer, tied, (given, positions, edges))
        return out.view(batch, num_centers, -1)

    def pointwise(self) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for conv in self.convs:
            width, before = conv.weight.shape[:2]
            layers += [nn.Linear(before, width, bias=False), nn.BatchNorm1d(width).to(conv.weight.dtype), nn.ReLU()]
        return layers


def clouds(batch: int) -> Tensor:
    """Bumpy spheres."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(batch, NUM_POINTS, 3))
    points /= np.linalg.norm(points, axis=2, keepdims=True)
    points *= 0.9 + 0.1 * np.sin(4 * points[..., :1] + generator.uniform(0, 6, (batch, 1, 1)))
    return torch.from_numpy(points).float()


def groupings(batch: int) -> list[Grouping]:
    points, found = clouds(batch), []
    for num_centers, radius, num_neighbors, _ in LEVELS:
        centers = gather_points(points, farthest_point_sample(points, num_centers))
        found.append((points, centers, ball_query(points, centers, radius=radius, num_neighbors=num_neighbors)))
        points = centers
    return found


class Stack:
    """Some of the levels, with what they are given: the same numbers each time."""

    def __init__(self, way: type[Usual], levels: tuple[int, ...], batch: int, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        widths = [(0, *LEVELS[0][3][-1:])[level] for level in levels]
        self.layers = [way(channels, LEVELS[level][3]).to(dtype) for channels, level in zip(widths, levels, strict=True)]
        chosen = [groupings(batch)[level] for level in levels]
        self.groupings = [(points.to(dtype), centers.to(dtype), neighbors) for points, centers, neighbors in chosen]
        self.features = torch.randn(batch, LEVELS[0][0], LEVELS[0][3][-1]).to(dtype).requires_grad_() if levels[0] else None
        self.pull = torch.randn(batch, LEVELS[levels[-1]][0], LEVELS[levels[-1]][3][-1]).to(dtype)
        with torch.no_grad():
            for norm in (norm for layer in self.layers for norm in layer.norms):
                norm.weight.mul_(1 - 2 * (torch.arange(norm.num_features) % 4 == 3).to(dtype))

    def step(self) -> Tensor:
        x = self.features
        for layer, grouping in zip(self.layers, self.groupings, strict=True):
            x = layer(grouping, x)
        for each in self.learned():
            each.grad = None
        x.backward(self.pull)
        return x.detach()

    def learned(self) -> list[Tensor]:
        return [*(each for layer in self.layers for each in layer.parameters()), *([] if self.features is None else [self.features])]

    def results(self) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Outputs, gradients and running statistics, in float64."""
        out = self.step()
        buffers = [buffer for layer in self.layers for norm in layer.norms for buffer in (norm.running_mean, norm.running_var)]
        return (
            out.double(),
            [each.grad.double() for each in self.learned() if each.grad is not None],
            [buffer.double() for buffer in buffers],
        )


def setup(way: type[Usual], levels: tuple[int, ...], quick: bool) -> Run:
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    Stack(way, levels, 1).step()  # what is compiled is not measured
    return Stack(way, levels, 2 if quick else 32).step


def far(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest difference, relative to each tensor's largest number."""
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, wanted, strict=True))


def off(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The length of the difference, relative to that of `wanted`."""
    differences = torch.cat([(one - other).flatten() for one, other in zip(found, wanted, strict=True)])
    return float(differences.norm() / torch.cat([other.flatten() for other in wanted]).norm())


def agree(levels: tuple[int, ...], batch: int) -> bool:
    exact, ours = (Stack(way, levels, batch, torch.float64).results() for way in (Usual, Ours))
    if max(far([ours[0]], [exact[0]]), far(ours[1], exact[1]), far(ours[2], exact[2])) > 1e-9:
        return False
    usual, ours = (Stack(way, levels, batch).results() for way in (Usual, Ours))
    near = off(ours[1], exact[1]) <= 1.2 * off(usual[1], exact[1])
    return near and far([ours[0]], [exact[0]]) <= 1e-5


CASES = [
    Case(
        name=f"set abstraction, {name}",
        ours=lambda quick, levels=levels: setup(Ours, levels, quick),
        reference=lambda quick, levels=levels: setup(Usual, levels, quick),
        others={"PyTorch Geometric": lambda quick, levels=levels: setup(Geometric, levels, quick)},
        agree=lambda quick, levels=levels: agree(levels, 1 if quick else 2),
    )
    for name, levels in WHICH.items()
]

if __name__ == "__main__":
    main(CASES, __doc__)
