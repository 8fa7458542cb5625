"""The graph of a dynamic layer: the nearest vertices in feature space, operator `triform::k_nearest`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from triform.kernels.choice import fast, fast_on_cuda
from triform.kernels.products_torch import rows_times

_DISTANCES = 2**25
"""Distances at once where there is no cache to stay in: 134 MB, and twice that while they are ordered."""

_DISTANCES_CPU = 2**22
"""Distances at once on the CPU: 16 MB in float32."""

_MOST_TRITON = 64
"""Neighbours for which the Triton kernel was made."""

Select = Callable[[Tensor, Tensor, int, Tensor], None]
"""(row, vertex) products, squared lengths of the vertices, the vertex of the first row -> (row, k) nearest, written."""


def k_nearest(x: Float[Tensor, "batch vertex channel"], k: int) -> Int64[Tensor, "batch vertex {k}"]:
    """Return the k nearest vertices of each vertex by Euclidean distance, itself first, then from near to far; no gradient.

    Distances are |x_j|^2 - 2 x_i x_j in float32 (float64 for float64), under autocast and where TF32 is allowed too. The sample's mean
    is subtracted first: without that, features 20 off their centre got 2.6 % to 47 % wrong neighbour sets. Equal distances go to the
    lowest index; near-ties are decided by rounding, in the same way each time. On the CPU from the main thread only.

    Args:
        x: finite, its squares too (checked on the CPU only: elsewhere it would wait for the device).
        k: 1 to the number of vertices.

    Raises:
        ValueError: named after the argument that is wrong.
    """
    if x.dim() != 3 or 0 in x.shape:
        raise ValueError(f"x must be (batch, vertex, channel), none of them 0, got {tuple(x.shape)}")
    if not 1 <= k <= x.shape[1]:
        raise ValueError(f"k must be 1 to the {x.shape[1]} vertices, got {k}")
    with torch.autocast(x.device.type, enabled=False):
        nearest: Tensor = k_nearest_operator(x.detach().to(torch.promote_types(x.dtype, torch.float32)), k)
    return nearest


@torch.library.custom_op("triform::k_nearest", mutates_args=())
def k_nearest_operator(x: Tensor, k: int) -> Tensor:
    return _on_any_device(x, k)


def _on_any_device(x: Tensor, k: int) -> Tensor:
    """Every vertex against the vertices of its sample, as many samples at once as there is room for."""
    x, squares = _centered(x)
    nearest = x.new_empty(*x.shape[:2], k, dtype=torch.int64)
    at_once = max(1, _DISTANCES // x.shape[1] ** 2)
    with _full_precision(x.device.type):
        for first in range(0, len(x), at_once):
            part = slice(first, first + at_once)
            distances = torch.baddbmm(squares[part, None], x[part], x[part].mT, alpha=-2)
            distances.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
            nearest[part] = _in_order(distances, k)
    return nearest


@k_nearest_operator.register_kernel("cpu")
def _on_cpu(x: Tensor, k: int) -> Tensor:
    """Both forms from the same products, a block of rows at a time."""
    given = x
    x, squares = _centered(x)
    if not bool(squares.max() < torch.finfo(x.dtype).max / 4):
        raise ValueError(f"x is too large: squares of distances overflow {x.dtype}" if bool(given.isfinite().all()) else "x must be finite")
    num_vertices, select = x.shape[1], _selection()
    rows = min(num_vertices, max(64, _DISTANCES_CPU // num_vertices))
    nearest = x.new_empty(*x.shape[:2], k, dtype=torch.int64)
    for sample, its_squares, found in zip(x, squares, nearest, strict=True):
        for first in range(0, num_vertices, rows):
            part = slice(first, first + rows)
            select(rows_times(sample[part], sample), its_squares, first, found[part])
    return nearest


@k_nearest_operator.register_kernel("cuda")
def _on_cuda(x: Tensor, k: int) -> Tensor:
    if x.dtype != torch.float32 or k > _MOST_TRITON or not fast_on_cuda():
        return _on_any_device(x, k)
    from triform.kernels.k_nearest_triton_torch import k_nearest_cuda

    return k_nearest_cuda(x, k)


@k_nearest_operator.register_fake
def _fake(x: Tensor, k: int) -> Tensor:
    return x.new_empty(*x.shape[:2], k, dtype=torch.int64)


def _centered(x: Tensor) -> tuple[Tensor, Tensor]:
    """x about the mean of its sample, and the squared lengths."""
    x = x - x.mean(dim=1, keepdim=True)
    return x, x.square().sum(dim=2)


def _selection() -> Select:
    if not fast():
        return _select_plain
    from triform.kernels.k_nearest import select_nearest

    return lambda products, squares, first, nearest: select_nearest(products.numpy(), squares.numpy(), first, nearest.numpy())


def _select_plain(products: Tensor, squares: Tensor, first: int, nearest: Tensor) -> None:
    distances = torch.sub(squares, products, alpha=2)
    distances.diagonal(first).fill_(-torch.inf)
    nearest.copy_(_in_order(distances, nearest.shape[1]))


def _in_order(distances: Tensor, k: int) -> Tensor:
    """The k least of the last dimension in order, ties to the lowest index, which `topk` alone does not promise.

    A float's bits are ordered as integers are, once those of negative ones are turned; with the index behind them no two are equal.
    """
    if distances.dtype != torch.float32 or distances.device.type == "mps":
        return distances.sort(dim=-1, stable=True).indices[..., :k]
    bits = (distances + 0.0).view(torch.int32)  # -0.0 becomes 0.0, its equal
    keys = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64) << 32
    keys |= torch.arange(distances.shape[-1], device=distances.device)
    return keys.topk(k, dim=-1, largest=False, sorted=True).values & 0xFFFFFFFF


@contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """No TF32, whose 10 bits scramble neighbours."""
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    try:
        if device == "cuda":
            settings.fp32_precision = "ieee"
        yield
    finally:
        if device == "cuda":
            settings.fp32_precision = before
