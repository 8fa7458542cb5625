"""How fast the nearest vertices in feature space are found, beside the usual formulation.

    python benchmarks/k_nearest.py [--quick] [--json] [--heap default|kept|both] [--only TEXT]

20 neighbours of each of 1723 vertices with 6, 64 and 128 features, 32 samples (--quick: 4). The usual formulation takes all squared
distances of the batch at once and `topk`; faiss (IndexFlatL2) joins where it is installed. They agree if each distance, in float64, is as
great as the usual one's to within 1e-5: near-ties may fall either way.
"""

import torch
from torch import Tensor

from interleaved import Case, Run, main
from triform.kernels.k_nearest_torch import k_nearest

NUM_VERTICES, K = 1723, 20


def usual(x: Tensor, k: int) -> Tensor:
    """All squared distances of the batch, and topk."""
    x = x.transpose(1, 2)
    squares = (x**2).sum(dim=1, keepdim=True)
    negative = -squares - (-2 * torch.matmul(x.transpose(2, 1), x)) - squares.transpose(2, 1)
    return negative.topk(k, dim=-1).indices


def by_faiss(x: Tensor, k: int) -> Tensor:
    import faiss  # type: ignore[import-not-found,unused-ignore]

    found = []
    for sample in x.numpy():
        index = faiss.IndexFlatL2(sample.shape[1])
        index.add(sample)
        found.append(torch.from_numpy(index.search(sample, k)[1]))
    return torch.stack(found)


def features(batch: int, channels: int) -> Tensor:
    return torch.randn(batch, NUM_VERTICES, channels, generator=torch.Generator().manual_seed(0))


def setup(way: str, channels: int, quick: bool) -> Run:
    x, search = features(4 if quick else 32, channels), {"ours": k_nearest, "usual": usual, "faiss": by_faiss}[way]
    search(x[:1, :64], K)
    return lambda: search(x, K)


def agree(channels: int) -> bool:
    """Distances near to far, in float64."""
    x = features(2, channels)
    wide = x.double()
    distances = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist")
    ours, theirs = (distances.gather(2, search(x, K)).sort(dim=2).values for search in (k_nearest, usual))
    return bool(torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5))


CASES = [
    Case(
        name=f"k nearest, {channels} features",
        ours=lambda quick, channels=channels: setup("ours", channels, quick),
        reference=lambda quick, channels=channels: setup("usual", channels, quick),
        others={"faiss": lambda quick, channels=channels: setup("faiss", channels, quick)},
        agree=lambda _quick, channels=channels: agree(channels),
    )
    for channels in (6, 64, 128)
]

if __name__ == "__main__":
    main(CASES, __doc__)
