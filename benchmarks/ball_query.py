"""Ball query, beside the usual sorting of masked indices and scipy's tree.

    python benchmarks/ball_query.py [--quick] [--json] [--heap default|kept|both] [--only TEXT]

The first 32 of 2,048 points within 0.2 of each of 512 centres, for 32 clouds (--quick: 2) that fit the unit sphere: maize plants as the
demo prepares them, and points that fill the sphere; centres by farthest point sampling. The usual form has all squared distances by the
product form, puts the number of points where one is out of reach, and sorts batch x center x point indices. The tree gives lists of
neighbours, which are cut and filled up. Agreement is that of every index with the same sorting of exact differences: the product form
rounds otherwise. Each turn searches five times, because one search is over in 10 ms.
"""

import numpy as np
import torch
from torch import Tensor

from interleaved import Case, Run, main
from triform.datasets.synthetic.maize import maize_plant
from triform.kernels.ball_query_torch import ball_query
from triform.kernels.farthest_point_sample_torch import farthest_point_sample
from triform.kernels.gather_torch import gather_points

RADIUS, NUM_NEIGHBORS, NUM_POINTS, NUM_CENTERS = 0.2, 32, 2048, 512


def plants(batch: int) -> Tensor:
    clouds = torch.from_numpy(np.stack([maize_plant(seed)[0] for seed in range(batch)])).float()
    clouds = clouds - clouds.mean(1, keepdim=True)
    clouds = clouds / clouds.norm(dim=2).amax(1)[:, None, None]
    return gather_points(clouds, farthest_point_sample(clouds, NUM_POINTS))


def filled_spheres(batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(batch, NUM_POINTS, 3, generator=generator), dim=2)
    return directions * torch.rand(batch, NUM_POINTS, 1, generator=generator) ** (1 / 3)


KINDS = {"plants": plants, "filled sphere": filled_spheres}


def data(kind: str, batch: int) -> tuple[Tensor, Tensor]:
    points = KINDS[kind](batch)
    return points, gather_points(points, farthest_point_sample(points, NUM_CENTERS))


def first_within(squared: Tensor) -> Tensor:
    """The published way: PyTorch implementations of PointNet++ (Qi et al., NeurIPS 2017, section 3.2)."""
    batch, num_centers, num_points = squared.shape
    indices = torch.arange(num_points).view(1, 1, num_points).repeat(batch, num_centers, 1)
    indices[squared > RADIUS**2] = num_points
    indices = indices.sort(dim=-1)[0][:, :, :NUM_NEIGHBORS]
    first = indices[:, :, 0].view(batch, num_centers, 1).repeat(1, 1, NUM_NEIGHBORS)
    missing = indices == num_points
    indices[missing] = first[missing]
    return indices


def usual(points: Tensor, centers: Tensor) -> Tensor:
    squared = -2 * torch.matmul(centers, points.permute(0, 2, 1))
    squared += (centers**2).sum(-1)[:, :, None]
    squared += (points**2).sum(-1)[:, None, :]
    return first_within(squared)


def with_tree(points: Tensor, centers: Tensor) -> Tensor:
    from scipy.spatial import cKDTree

    found = np.empty((len(points), NUM_CENTERS, NUM_NEIGHBORS), np.int64)
    for cloud, asked, rows in zip(points.numpy(), centers.numpy(), found, strict=True):
        for row, hits in zip(rows, cKDTree(cloud).query_ball_point(asked, RADIUS, return_sorted=True), strict=True):
            row[:] = hits[0]
            row[: len(hits)] = hits[:NUM_NEIGHBORS]
    return torch.from_numpy(found)


def ours(points: Tensor, centers: Tensor) -> Tensor:
    return ball_query(points, centers, radius=RADIUS, num_neighbors=NUM_NEIGHBORS)


WAYS = {"ours": ours, "usual": usual, "tree": with_tree}


def setup(way: str, kind: str, quick: bool) -> Run:
    given = data(kind, 2 if quick else 32)
    WAYS[way](*(cloud[:1] for cloud in given))  # what is compiled is not measured

    def run() -> None:
        for _ in range(5):
            WAYS[way](*given)

    return run


def agree(kind: str) -> bool:
    points, centers = data(kind, 2)
    dx, dy, dz = (centers[:, :, None] - points[:, None]).unbind(-1)
    limit = torch.tensor(RADIUS).square()
    exact = torch.where((dx * dx + dy * dy) + dz * dz <= limit, 0.0, 1.0)
    return ours(points, centers).equal(first_within(exact))


CASES = [
    Case(
        name=f"ball query, {kind}",
        ours=lambda quick, kind=kind: setup("ours", kind, quick),
        reference=lambda quick, kind=kind: setup("usual", kind, quick),
        others={"scipy cKDTree": lambda quick, kind=kind: setup("tree", kind, quick)},
        agree=lambda _quick, kind=kind: agree(kind),
        at_least={"default": bound, "kept": 18},
        most_mb=50,
    )
    for kind, bound in (("plants", 50), ("filled sphere", 20))
]

if __name__ == "__main__":
    main(CASES, __doc__)
