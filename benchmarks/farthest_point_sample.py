"""Farthest point sampling, beside the usual NumPy loop and fpsample.

    python benchmarks/farthest_point_sample.py [--quick] [--json] [--heap default|kept|both] [--only TEXT]

10,000 points to 2,048 on one core: procedural maize plants, and Gaussian blobs; 16 clouds a turn (--quick: 2). The usual loop has the cloud
as (N, 3) and takes ((p - p[i]) ** 2).sum(1) for each new point. fpsample takes its own first point, which is given to nobody else: its
indices are not compared. And 32 clouds of 2,048 points to 512 on all cores, beside the loop of tensors that is usual within networks.
Agreement is that of every index with the definition, also on grids and among duplicates.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interleaved import Case, Run, main
from triform.datasets.synthetic.maize import maize_plant
from triform.geometry.sampling import farthest_point_sample_reference
from triform.kernels.farthest_point_sample import farthest_point_sample_one
from triform.kernels.farthest_point_sample_torch import farthest_point_sample

Cloud = NDArray[np.float32]
NUM_POINTS, NUM_SAMPLES = 10_000, 2048


def plant(seed: int) -> Cloud:
    return np.ascontiguousarray(maize_plant(seed, num_points=NUM_POINTS)[0], np.float32)


def blob(seed: int) -> Cloud:
    return np.random.default_rng(seed).normal(size=(NUM_POINTS, 3)).astype(np.float32)


def grid(seed: int) -> Cloud:
    return np.random.default_rng(seed).integers(0, 15, (3000, 3)).astype(np.float32) * np.float32(0.1)


def clouds(kind: str, quick: bool) -> list[Cloud]:
    return [{"plants": plant, "Gaussian blobs": blob}[kind](seed) for seed in range(2 if quick else 16)]


def usual_loop(points: Cloud, num_samples: int, start: int) -> NDArray[np.int64]:
    nearest, indices = np.full(len(points), np.inf, points.dtype), np.empty(num_samples, np.int64)
    for sample in range(num_samples):
        indices[sample] = start
        nearest = np.minimum(nearest, ((points - points[start]) ** 2).sum(1))
        start = int(nearest.argmax())
    return indices


def ours(kind: str, quick: bool) -> Run:
    given = clouds(kind, quick)
    farthest_point_sample_one(given[0], 1, start=0)  # what is compiled is not measured
    return lambda: [farthest_point_sample_one(points, NUM_SAMPLES, start=0) for points in given]


def usual(kind: str, quick: bool) -> Run:
    given = clouds(kind, quick)
    return lambda: [usual_loop(points, NUM_SAMPLES, 0) for points in given]


def with_fpsample(kind: str, quick: bool) -> Run:
    import fpsample  # type: ignore[import-not-found,unused-ignore]

    given = clouds(kind, quick)
    return lambda: [fpsample.bucket_fps_kdline_sampling(points, NUM_SAMPLES, h=5) for points in given]


def same_indices(kind: str, quick: bool) -> bool:
    """As the definition has it, for clouds of this kind, a grid and doubled points."""
    some = clouds(kind, quick)[:2]
    return all(
        np.array_equal(
            farthest_point_sample_one(points, len(points) // 5, start=7),
            farthest_point_sample_reference(points, len(points) // 5, start=7),
        )
        for points in [*some, grid(0), np.repeat(some[0][:2000], 2, axis=0)]
    )


def batch(quick: bool) -> Tensor:
    spheres = torch.randn(4 if quick else 32, 2048, 3, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(spheres, dim=2)


def usual_in_networks(points: Tensor, num_samples: int) -> Tensor:
    """The loop of published implementations of PointNet++, from the first point on."""
    rows, farthest = torch.arange(len(points)), torch.zeros(len(points), dtype=torch.int64)
    indices = torch.zeros(len(points), num_samples, dtype=torch.int64)
    nearest = torch.full(points.shape[:2], 1e10)
    for sample in range(num_samples):
        indices[:, sample] = farthest
        center = points[rows, farthest, :].view(-1, 1, 3)
        squared = ((points - center) ** 2).sum(-1)
        nearest = torch.minimum(nearest, squared)
        farthest = nearest.max(-1).indices
    return indices


def ours_in_networks(points: Tensor) -> Tensor:
    return farthest_point_sample(points, 512, start=torch.zeros(len(points), dtype=torch.int64))


def both_in_networks(way: str, quick: bool) -> Run:
    points = batch(quick)
    ours_in_networks(points)
    return (lambda: ours_in_networks(points)) if way == "ours" else (lambda: usual_in_networks(points, 512))


CASES = [
    Case(
        name=f"farthest point sampling, {kind}, 10,000 to 2,048, 1 core",
        ours=lambda quick, kind=kind: ours(kind, quick),
        reference=lambda quick, kind=kind: usual(kind, quick),
        others={"fpsample": lambda quick, kind=kind: with_fpsample(kind, quick)},
        agree=lambda quick, kind=kind: same_indices(kind, quick),
        at_least={"default": bound},
        threads=1,
        turns=(7, 3),
    )
    for kind, bound in (("plants", 220), ("Gaussian blobs", 140))
] + [
    Case(
        name="farthest point sampling of a batch, 2,048 to 512",
        ours=lambda quick: both_in_networks("ours", quick),
        reference=lambda quick: both_in_networks("usual", quick),
        agree=lambda _quick: ours_in_networks(batch(True)).equal(usual_in_networks(batch(True), 512)),
    )
]

if __name__ == "__main__":
    main(CASES, __doc__)
