"""How exact the batch statistics of half a million rows are, and how fast: BatchNorm's and ours.

    python benchmarks/batch_statistics.py [--quick] [--json] [--heap default|kept|both]

Mean and variance of 64 channels over 524,288 rows (--quick: 65,536) of standard normal numbers in float32. Ours are those of
`set_abstraction` for a hidden layer: sums of 32 rows, added up in float64. The reference is PyTorch's BatchNorm on the same rows, channels
last, as the usual formulations have them; a mean that is off by 2e-7 at most agrees, and the error of both is printed.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F

from interleaved import Case, Run, main
from triform.kernels import set_abstraction as kernels

CHANNELS, BOUND = 64, 2e-7


def rows(quick: bool) -> torch.Tensor:
    return torch.randn(2**16 if quick else 2**19, CHANNELS, generator=torch.Generator().manual_seed(0))


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As the operator takes them: sums around the first row."""
    sums = np.zeros((kernels.CHUNKS, 2, CHANNELS))
    kernels.add_moments(x, x[0].copy(), sums)
    first, second = sums.sum(0) / len(x)
    return first + x[0], second - first**2


def ours(quick: bool) -> Run:
    x = rows(quick).numpy()
    moments(x[:64])
    return lambda: moments(x)


def reference(quick: bool) -> Run:
    x = rows(quick)
    mean, var = torch.zeros(CHANNELS), torch.ones(CHANNELS)
    return lambda: F.batch_norm(x, mean, var, training=True)


def agree(quick: bool) -> bool:
    x = rows(quick)
    exact, mean = x.double().mean(0), torch.zeros(CHANNELS)
    F.batch_norm(x, mean, torch.ones(CHANNELS), training=True, momentum=1.0)
    error = float((torch.from_numpy(moments(x.numpy())[0]) - exact).abs().max())
    print(f"mean off by {error:.1e}; BatchNorm's, channels last, by {float((mean.double() - exact).abs().max()):.1e}", file=sys.stderr)
    return error <= BOUND


CASES = [Case("batch statistics", ours=ours, reference=reference, agree=agree)]

if __name__ == "__main__":
    main(CASES, __doc__)
