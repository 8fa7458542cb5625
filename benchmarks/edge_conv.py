"""How fast a stack of EdgeConvs learns, beside the usual formulation of the published equations.

    python benchmarks/edge_conv.py [--quick] [--json] [--heap default|kept|both] [--only TEXT]

Forward and backward of EdgeConvs 6-64-64-128-256 with the search for 20 neighbours in feature space before each, on 32 meshes of 1723
vertices (--quick: 2); and the same on given graphs, 8 meshes. The usual formulation: all distances at once and topk; features (x_j - x_i,
x_i) of all edges, 1x1 convolution, BatchNorm2d, LeakyReLU, max. On given graphs PyTorch Geometric's EdgeConv joins where it is installed.
Agreement is that of outputs, gradients and batch statistics in float64 on the same graphs, with BatchNorm scales of both signs, to 1e-9 of
the largest number.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interleaved import Case, Run, main
from triform.kernels.edge_conv_torch import edge_conv
from triform.kernels.k_nearest_torch import k_nearest

NUM_VERTICES, K, CHANNELS = 1723, 20, (6, 64, 64, 128, 256)

Conv = Callable[[Tensor, Tensor, nn.Conv2d, nn.BatchNorm2d], Tensor]
Search = Callable[[Tensor, int], Tensor]
Layers = tuple[list[nn.Conv2d], list[nn.BatchNorm2d]]


def usual_search(x: Tensor, k: int) -> Tensor:
    """All squared distances of the batch, and topk."""
    x = x.transpose(1, 2)
    squares = (x**2).sum(dim=1, keepdim=True)
    negative = -squares - (-2 * torch.matmul(x.transpose(2, 1), x)) - squares.transpose(2, 1)
    return negative.topk(k, dim=-1).indices


def usual_edges(x: Tensor, neighbors: Tensor) -> Tensor:
    """DGCNN, section 3, as it is published: every edge has its features (batch, 2 channel, vertex, k)."""
    batch, num_vertices, channels = x.shape
    k = neighbors.shape[2]
    rows = (neighbors + torch.arange(batch)[:, None, None] * num_vertices).flatten()
    there = x.reshape(batch * num_vertices, channels)[rows].view(batch, num_vertices, k, channels)
    here = x[:, :, None].repeat(1, 1, k, 1)
    return torch.cat((there - here, here), dim=3).permute(0, 3, 1, 2).contiguous()


def usual_conv(x: Tensor, neighbors: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    return F.leaky_relu(norm(conv(usual_edges(x, neighbors))), 0.2).max(dim=-1).values.transpose(1, 2)


def our_conv(x: Tensor, neighbors: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    out, mean, var = edge_conv(x, neighbors, conv.weight[:, :, 0, 0], norm.weight, norm.bias)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    count = neighbors.numel()
    norm.running_mean.lerp_(mean, 0.1)
    norm.running_var.lerp_(var * (count / (count - 1)), 0.1)
    return out


def geometric_conv(x: Tensor, neighbors: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """PyTorch Geometric's layer. Its edge features are (x_i, x_j - x_i), so the halves of the weight change places."""
    from torch_geometric.nn import EdgeConv  # type: ignore[import-not-found,unused-ignore]

    batch, num_vertices, channels = x.shape
    linear, norm_1d = nn.Linear(2 * channels, len(conv.weight), bias=False), nn.BatchNorm1d(len(conv.weight)).to(x.dtype)
    near, here = conv.weight[:, :, 0, 0].chunk(2, dim=1)
    layer = EdgeConv(nn.Sequential(linear, norm_1d, nn.LeakyReLU(0.2)), aggr="max")
    first = torch.arange(batch)[:, None, None] * num_vertices
    ends = torch.arange(num_vertices)[:, None] + first
    edges = torch.stack([(neighbors + first).flatten(), ends.expand_as(neighbors).flatten()])
    tied = {"nn.0.weight": torch.cat([here, near], dim=1), "nn.1.weight": norm.weight, "nn.1.bias": norm.bias}
    out: Tensor = torch.func.functional_call(layer, tied, (x.flatten(0, 1), edges))
    return out.view(batch, num_vertices, -1)


WAYS: dict[str, tuple[Search, Conv]] = {
    "ours": (k_nearest, our_conv),
    "usual": (usual_search, usual_conv),
    "PyTorch Geometric": (k_nearest, geometric_conv),
}


def stack(dtype: torch.dtype) -> tuple[list[nn.Conv2d], list[nn.BatchNorm2d]]:
    """The same layers each time; every other scale is negative."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(2 * before, width, 1, bias=False).to(dtype) for before, width in pairwise(CHANNELS)]
    norms = [nn.BatchNorm2d(width).to(dtype) for width in CHANNELS[1:]]
    with torch.no_grad():
        for norm in norms:
            norm.weight.mul_(torch.tensor([1.0, -1.0], dtype=dtype).repeat(norm.num_features // 2))
    return convs, norms


def meshes(batch: int, num_vertices: int, dtype: torch.dtype) -> Tensor:
    """Bumpy spheres: coordinates and directions."""
    generator = np.random.default_rng(0)
    normals = generator.normal(size=(batch, num_vertices, 3))
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    bumps = 1 + 0.2 * np.sin(4 * normals[..., :1] + generator.uniform(0, 6, (batch, 1, 1)))
    return torch.from_numpy(np.concatenate([bumps * normals, normals], axis=2)).to(dtype)


def learn(way: str, x: Tensor, layers: Layers, graphs: list[Tensor] | None) -> list[Tensor]:
    """Forward and backward; returns what the layers give. `graphs`: those to take, or all are searched for."""
    search, convolve = WAYS[way]
    outputs: list[Tensor] = []
    for number, (conv, norm) in enumerate(zip(*layers, strict=True)):
        with torch.no_grad():
            neighbors = search(x, K) if graphs is None else graphs[number]
        x = convolve(x, neighbors, conv, norm)
        outputs.append(x)
    torch.cat(outputs, dim=2).square().mean().backward()  # type: ignore[no-untyped-call]
    return outputs


def setup(way: str, quick: bool, *, search: bool) -> Run:
    x, layers = meshes(2 if quick else 32 if search else 8, NUM_VERTICES, torch.float32), stack(torch.float32)
    graphs = None if search else [k_nearest(x, K)] * len(layers[0])
    learn(way, x[:1], layers, None if graphs is None else [graph[:1] for graph in graphs])  # what is compiled is not measured
    return lambda: learn(way, x, layers, graphs)


def differences(batch: int = 2, num_vertices: int = 300) -> dict[str, float]:
    """The largest difference in float64, relative to the largest number, of outputs, gradients and running statistics."""
    results: dict[str, list[Tensor]] = {}
    points = meshes(batch, num_vertices, torch.float64)
    graphs = [k_nearest(torch.cat([points, points.sin()], dim=2)[..., first:], K) for first in range(len(CHANNELS) - 1)]
    for way in ("ours", "usual"):
        start, (convs, norms) = points.clone().requires_grad_(), stack(torch.float64)
        outputs = learn(way, start, (convs, norms), graphs)
        learned = [start, *(each for module in (*convs, *norms) for each in module.parameters())]
        running = [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
        results[way] = [*(each.detach() for each in outputs), *(each.grad for each in learned if each.grad is not None), *running]
    names = ["outputs"] * 4 + ["gradients"] * 13 + ["running statistics"] * 8
    found: dict[str, float] = {}
    for name, ours, usual in zip(names, results["ours"], results["usual"], strict=True):
        found[name] = max(found.get(name, 0.0), float((ours - usual).abs().max() / usual.abs().max()))
    return found


def case(name: str, *, search: bool, at_least: dict[str, float], memory_share: float | None = None) -> Case:
    others = {} if search else {"PyTorch Geometric": lambda quick: setup("PyTorch Geometric", quick, search=False)}
    return Case(
        name=name,
        ours=lambda quick: setup("ours", quick, search=search),
        reference=lambda quick: setup("usual", quick, search=search),
        others=others,
        agree=lambda _quick: max(differences().values()) <= 1e-9,
        at_least=at_least,
        memory_share=memory_share,
        turns=(3, 1),
    )


CASES = [
    case("EdgeConv stack, training step", search=True, at_least={"default": 18, "kept": 10}, memory_share=1 / 8),
    case("EdgeConv stack on given graphs, 8 meshes", search=False, at_least={}),
]

if __name__ == "__main__":
    main(CASES, __doc__)
