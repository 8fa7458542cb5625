"""The nearest vertices in feature space on a GPU: Triton, the distance matrix in tiles that never leave the registers.

Distances are |x_j|^2 - 2 x_i x_j of float32 features around the sample's mean, without TF32. A distance and its index make one 64-bit
key that sorts by distance and then by index, so that the k least keys are the k nearest with ties to the lowest index, in whatever order
they are found. A program holds the k least keys of a few rows; from each tile it takes the least key of a row as long as it is below the
greatest held. The expected number of exchanges in a row is about k (1 + ln(N / k)), 110 for 20 of 1,723.

With kNN fused into the product no N x N matrix exists; Johnson et al., "Billion-scale similarity search with GPUs" (2019), sort their
lists in registers in the same spirit.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

_ROWS = 32
_COLUMNS = 64
_CHANNELS = 16
"""Channels multiplied at once. With 64, the operands need more registers than there are (872 bytes spilled on sm_90; with 16, 8)."""


def k_nearest_cuda(x: Float[Tensor, "batch vertex channel"], k: int) -> Int64[Tensor, "batch vertex {k}"]:
    """Return the k nearest vertices of each vertex by Euclidean distance, itself first, then from near to far, ties to the lowest index.

    Args:
        x: float32, bfloat16 or float16, finite (not checked: that would wait for the device).
        k: 1 to the number of vertices; made for 64 at most.

    Raises:
        ValueError: float64, whose distances do not fit into a key.
    """
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"x must be float32, bfloat16 or float16 on a GPU, got {x.dtype}")
    batch, num_vertices, channels = x.shape
    indices = torch.empty(batch, num_vertices, k, dtype=torch.int64, device=x.device)
    if indices.numel() == 0:
        return indices
    x = x.detach().to(torch.float32)
    x = (x - x.mean(dim=1, keepdim=True)).contiguous()
    with torch.cuda.device(x.get_device()):
        _select[(batch, triton.cdiv(num_vertices, _ROWS))](
            x, indices, num_vertices, channels, k,
            SLOTS=triton.next_power_of_2(k), ROWS=_ROWS, COLUMNS=_COLUMNS, CHANNELS=_CHANNELS, num_warps=4,
        )  # fmt: skip
    return indices


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _select(
    x: tl.tensor,
    indices: tl.tensor,
    num_vertices: tl.tensor,
    channels: tl.tensor,
    k: tl.tensor,
    SLOTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    cloud = tl.program_id(0).to(tl.int64)
    x += cloud * num_vertices * channels
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    slot = tl.arange(0, SLOTS).to(tl.int64)[None, :]
    most = tl.full((), 0x7FFFFFFFFFFFFFFF, tl.int64)
    held = tl.broadcast_to(tl.where(slot < k, most - slot, -most), (ROWS, SLOTS))
    greatest = tl.max(held, axis=1)
    for first in range(0, num_vertices, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        keys = _keys(_distances(x, row, column, num_vertices, channels, ROWS, COLUMNS, CHANNELS), row, column, num_vertices)
        least = tl.min(keys, axis=1)
        while tl.max((least < greatest).to(tl.int32), axis=0) > 0:
            enters = (least < greatest)[:, None]
            held = tl.where(enters & (held == greatest[:, None]), least[:, None], held)
            keys = tl.where(keys == least[:, None], most, keys)
            least = tl.min(keys, axis=1)
            greatest = tl.max(held, axis=1)
    held = tl.where(slot < k, held, most)
    rows = indices + (cloud * num_vertices + row) * k
    for place in range(k):
        least = tl.min(held, axis=1)
        tl.store(rows + place, least & 0xFFFFFFFF, mask=row < num_vertices)
        held = tl.where(held == least[:, None], most, held)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _distances(
    x: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    num_vertices: tl.tensor,
    channels: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> tl.tensor:
    """|x_j|^2 - 2 x_i x_j of one tile; equal rows of x give equal bits, because every column is summed in the same order."""
    squares = tl.full((COLUMNS,), 0.0, tl.float32)
    products = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for first in range(0, channels, CHANNELS):
        channel = first + tl.arange(0, CHANNELS)
        present = channel < channels
        a = tl.load(
            x + row.to(tl.int64)[:, None] * channels + channel[None, :], mask=(row < num_vertices)[:, None] & present[None, :], other=0.0
        )
        b = tl.load(
            x + column.to(tl.int64)[:, None] * channels + channel[None, :],
            mask=(column < num_vertices)[:, None] & present[None, :],
            other=0.0,
        )
        squares += tl.sum(b * b, axis=1)
        products = tl.dot(a, tl.trans(b), products, input_precision="ieee")
    return squares[None, :] - 2.0 * products


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _keys(distances: tl.tensor, row: tl.tensor, column: tl.tensor, num_vertices: tl.tensor) -> tl.tensor:
    """Distance and index as one integer of the same order; a vertex itself comes before all. (No difference is -0, which would come
    before 0: |x_j|^2 starts at 0.)"""
    distances = tl.where(column[None, :] == row[:, None], float("-inf"), distances)
    bits = distances.to(tl.int32, bitcast=True)
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64)
    return tl.where(column[None, :] < num_vertices, (ordered << 32) | column[None, :].to(tl.int64), 0x7FFFFFFFFFFFFFFF)
