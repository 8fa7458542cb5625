"""Chamfer distances, forward and backward, beside torch.cdist and scipy's tree.

    python benchmarks/chamfer.py [--quick] [--json] [--heap default|kept|both] [--only TEXT]

32 pairs (--quick: 2) of 2,048 points, maize plants in the unit sphere and the same with noise of 0.02 for a reconstruction, to which the
gradient goes. The usual form takes the least of all distances both ways, by torch.cdist, squared or not. With the tree, neighbours are
found in scipy and distances by PyTorch. Agreement: each neighbour's distance is within 1e-6 (relative) of float64's least, and gradients
are within 1e-6 of the largest of float64 for the same neighbours.
"""

import numpy as np
import torch
from torch import Tensor

from interleaved import Case, Run, main
from triform.datasets.synthetic.maize import maize_plant
from triform.kernels.farthest_point_sample_torch import farthest_point_sample
from triform.kernels.gather_torch import gather_points
from triform.kernels.nearest_neighbors_torch import nearest_neighbors
from triform.tasks.point_autoencoder.loss_torch import chamfer_distances

NAMES = {"cd_squared": "squared", "cd_l2": "L2"}


def data(batch: int) -> tuple[Tensor, Tensor]:
    """Reconstructions and clouds."""
    clouds = torch.from_numpy(np.stack([maize_plant(seed)[0] for seed in range(batch)])).float()
    clouds = clouds - clouds.mean(1, keepdim=True)
    clouds = clouds / clouds.norm(dim=2).amax(1)[:, None, None]
    clouds = gather_points(clouds, farthest_point_sample(clouds, 2048))
    noise = torch.randn(clouds.shape, generator=torch.Generator().manual_seed(0))
    return (clouds + 0.02 * noise).requires_grad_(), clouds


def usual(drawn: Tensor, clouds: Tensor, loss: str) -> Tensor:
    """Fan et al. (CVPR 2017), section 4.1, with means for sums."""
    distances = torch.cdist(drawn, clouds)
    if loss == "cd_squared":
        distances = distances**2
    return (distances.min(2).values.mean(1) + distances.min(1).values.mean(1)).mean()


def ours(drawn: Tensor, clouds: Tensor, loss: str) -> Tensor:
    return chamfer_distances(drawn, clouds)[loss].mean()


def with_tree(drawn: Tensor, clouds: Tensor, loss: str) -> Tensor:
    from scipy.spatial import cKDTree

    def offsets(a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(a.detach().numpy(), b.detach().numpy(), strict=True)
        nearest = np.stack([cKDTree(there).query(here)[1] for here, there in pairs])
        return a - gather_points(b, torch.from_numpy(nearest))

    both = offsets(drawn, clouds), offsets(clouds, drawn)
    squared = loss == "cd_squared"
    lengths = [each.square().sum(2) if squared else each.norm(dim=2) for each in both]
    return (lengths[0].mean(1) + lengths[1].mean(1)).mean()


WAYS = {"ours": ours, "usual": usual, "tree": with_tree}


def setup(way: str, loss: str, quick: bool) -> Run:
    drawn, clouds = data(2 if quick else 32)
    WAYS[way](drawn[:1, :64], clouds[:1, :64], loss).backward()  # type: ignore[no-untyped-call]  # what is compiled is not measured

    def run() -> Tensor:
        drawn.grad = None
        value = WAYS[way](drawn, clouds, loss)
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    return run


def exact_gradient(drawn: Tensor, clouds: Tensor, loss: str) -> Tensor:
    """That of float64 for the neighbours that we found."""
    forth, back = nearest_neighbors(drawn, clouds)[1], nearest_neighbors(clouds, drawn)[1]
    a, b = drawn.detach().double().requires_grad_(), clouds.double()
    both = a - gather_points(b, forth), b - gather_points(a, back)
    lengths = [each.square().sum(2) if loss == "cd_squared" else each.norm(dim=2) for each in both]
    (gradient,) = torch.autograd.grad((lengths[0].mean(1) + lengths[1].mean(1)).mean(), a)
    return gradient


def agree(loss: str) -> bool:
    drawn, clouds = data(2)
    with torch.no_grad():
        offsets = drawn.double()[:, :, None] - clouds.double()[:, None]
        least = offsets.norm(dim=3)
        near = [
            torch.allclose(nearest_neighbors(*pair)[0].double().sqrt(), least.amin(axis), rtol=1e-6, atol=0)
            for pair, axis in (((drawn, clouds), 2), ((clouds, drawn), 1))
        ]
    (gradient,) = torch.autograd.grad(ours(drawn, clouds, loss), drawn)
    exact = exact_gradient(drawn, clouds, loss)
    return all(near) and float((gradient - exact).abs().max()) <= 1e-6 * float(exact.abs().max())


CASES = [
    Case(
        name=f"Chamfer, {name}",
        ours=lambda quick, loss=loss: setup("ours", loss, quick),
        reference=lambda quick, loss=loss: setup("usual", loss, quick),
        others={"scipy cKDTree": lambda quick, loss=loss: setup("tree", loss, quick)},
        agree=lambda _quick, loss=loss: agree(loss),
        at_least={"default": bound, "kept": 45},
        most_mb=50,
    )
    for (loss, name), bound in zip(NAMES.items(), (120, 75), strict=True)
]

if __name__ == "__main__":
    main(CASES, __doc__)
