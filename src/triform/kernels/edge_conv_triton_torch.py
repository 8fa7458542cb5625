"""The two passes of EdgeConv over the edges on a GPU: Triton. The others are plain torch there; `edge_conv_torch` has the algebra.

Forward, each vertex goes through its neighbours. Backward, each vertex goes through the edges that end at it, sorted by their end and then
by number, so that it adds up its own gradient in a fixed order and nothing is added atomically. Neighbours that stand there twice count
twice.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor

_ROWS = 16
_EDGES = 8
"""Edges read at once in the backward pass."""


def largest_neighbors_cuda(
    u: Float[Tensor, "batch vertex channel"],
    v: Float[Tensor, "batch vertex channel"],
    neighbors: Int[Tensor, "batch vertex neighbor"],
    z: Float[Tensor, "batch vertex channel"],
    slot: UInt8[Tensor, "batch vertex channel"],
    moments: bool,
) -> Float[Tensor, "part 2 channel"]:
    """Write z_i = u_i + max_j v_j and the first slot of the largest; return partial sums of u_i + v_j and its square over all edges.

    Args:
        u, v: float32, float64 or bfloat16; compared in float32 at least; the sums are in float64 from the first edge on.
        neighbors: indices into the vertices of the same sample, 1 to 255 a vertex.
        z, slot: contiguous, written.
        moments: False: no sums (part is 0).
    """
    batch, num_vertices, channels = u.shape
    u, v, neighbors = u.contiguous(), v.contiguous(), neighbors.contiguous()
    parts, block = batch * triton.cdiv(num_vertices, _ROWS), _channel_block(channels)
    sums = torch.empty(parts if moments else 0, 2, channels, dtype=torch.float64, device=u.device)
    if u.numel():
        with torch.cuda.device(u.get_device()):
            _largest_neighbors[(parts, triton.cdiv(channels, block))](
                u, v, neighbors, z, slot, sums, num_vertices, channels, neighbors.shape[2],
                MOMENTS=moments, WIDE=_wide(u), ROWS=_ROWS, CHANNELS=block, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
    return sums


def edge_gradients_cuda(
    gradient: Float[Tensor, "batch vertex channel"],
    z: Float[Tensor, "batch vertex channel"],
    u: Float[Tensor, "batch vertex channel"],
    v: Float[Tensor, "batch vertex channel"],
    neighbors: Int[Tensor, "batch vertex neighbor"],
    slot: UInt8[Tensor, "batch vertex channel"],
    coefficients: Float[Tensor, "5 channel"],
    negative_slope: float,
    du: Float[Tensor, "batch vertex channel"],
    dv: Float[Tensor, "batch vertex channel"],
) -> None:
    """Write the gradients in u and v; equal bits each time.

    With p_i = scale dy_i behind LeakyReLU, c and s the shared constant and slope: du_i = p_i - (k c + s (k (u_i - mean) + sum_j v_j)), and
    dv_j = the sum of p_i over the i whose largest neighbour is j, less deg_j (c + s (v_j - mean)) + s sum of u_i over all i that have j.

    Args:
        gradient: that of the output.
        z, slot: as from `largest_neighbors_cuda`.
        coefficients: the rows scale, shift, mean, constant, slope.
        negative_slope: of LeakyReLU.
        du, dv: contiguous, written.
    """
    batch, num_vertices, channels = u.shape
    if u.numel() == 0:
        return
    gradient, z, u, v, neighbors, slot, coefficients = (each.contiguous() for each in (gradient, z, u, v, neighbors, slot, coefficients))
    passed = torch.empty_like(z)
    leak = z.new_full((1,), negative_slope)  # a number would be passed in float32
    first, edges = _edges_by_end(neighbors)
    block, rows = _channel_block(channels), triton.cdiv(num_vertices, _ROWS)
    with torch.cuda.device(u.get_device()):
        _gradients_of_centers[(batch * rows, triton.cdiv(channels, block))](
            gradient, z, u, v, neighbors, coefficients, leak, passed, du, num_vertices, channels, neighbors.shape[2],
            WIDE=_wide(u), ROWS=_ROWS, CHANNELS=block, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
        _gradients_of_neighbors[(batch * num_vertices, triton.cdiv(channels, block))](
            passed, u, v, slot, coefficients, first, edges, dv, channels, neighbors.shape[2],
            WIDE=_wide(u), EDGES=_EDGES, CHANNELS=block, num_warps=2, enable_fp_fusion=False,
        )  # fmt: skip


def _edges_by_end(neighbors: Int[Tensor, "batch vertex neighbor"]) -> tuple[Int64[Tensor, " row+1"], Int64[Tensor, " edge"]]:
    """For each row of all samples, where its edges begin; and all edges, as row * k + slot, sorted by end and then by number."""
    batch, num_vertices, _ = neighbors.shape
    rows = torch.arange(batch * num_vertices + 1, device=neighbors.device)
    ends = neighbors + rows[:-1:num_vertices].view(batch, 1, 1)
    sorted_ends, edges = ends.flatten().sort(stable=True)
    return torch.searchsorted(sorted_ends, rows), edges


def _channel_block(channels: int) -> int:
    return min(64, int(triton.next_power_of_2(channels)))


def _wide(values: Tensor) -> tl.dtype:
    return tl.float64 if values.dtype == torch.float64 else tl.float32


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _largest_neighbors(
    u: tl.tensor,
    v: tl.tensor,
    neighbors: tl.tensor,
    z: tl.tensor,
    slot: tl.tensor,
    sums: tl.tensor,
    num_vertices: tl.tensor,
    channels: tl.tensor,
    k: tl.tensor,
    MOMENTS: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    blocks = tl.cdiv(num_vertices, ROWS)
    first = (tl.program_id(0) // blocks).to(tl.int64) * num_vertices
    vertex = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    real, row = vertex < num_vertices, first + vertex
    inside = real[:, None] & (channel < channels)[None, :]
    place = row[:, None] * channels + channel[None, :]
    center = tl.load(u + place, mask=inside, other=0.0).to(WIDE)
    best = tl.full((ROWS, CHANNELS), float("-inf"), WIDE)
    best_slot = tl.full((ROWS, CHANNELS), 0, tl.int32)
    total = tl.full((ROWS, CHANNELS), 0.0, tl.float64)
    squares = total
    for j in range(k):
        end = first + tl.load(neighbors + row * k + j, mask=real, other=0)
        value = tl.load(v + end[:, None] * channels + channel[None, :], mask=inside, other=0.0).to(WIDE)
        larger = value > best
        best = tl.where(larger, value, best)
        best_slot = tl.where(larger, j, best_slot)
        if MOMENTS:
            edge = center.to(tl.float64) + value.to(tl.float64)
            total += edge
            squares += edge * edge
    tl.store(z + place, center + best, mask=inside)
    tl.store(slot + place, best_slot.to(tl.uint8), mask=inside)
    if MOMENTS:
        part = sums + tl.program_id(0).to(tl.int64) * 2 * channels + channel
        tl.store(part, tl.sum(total, axis=0), mask=channel < channels)
        tl.store(part + channels, tl.sum(squares, axis=0), mask=channel < channels)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _gradients_of_centers(
    gradient: tl.tensor,
    z: tl.tensor,
    u: tl.tensor,
    v: tl.tensor,
    neighbors: tl.tensor,
    coefficients: tl.tensor,
    leak: tl.tensor,
    passed: tl.tensor,
    du: tl.tensor,
    num_vertices: tl.tensor,
    channels: tl.tensor,
    k: tl.tensor,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    blocks = tl.cdiv(num_vertices, ROWS)
    first = (tl.program_id(0) // blocks).to(tl.int64) * num_vertices
    vertex = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    present, real, row = channel < channels, vertex < num_vertices, first + vertex
    inside = real[:, None] & present[None, :]
    total = tl.full((ROWS, CHANNELS), 0.0, WIDE)
    for j in range(k):
        end = first + tl.load(neighbors + row * k + j, mask=real, other=0)
        total += tl.load(v + end[:, None] * channels + channel[None, :], mask=inside, other=0.0).to(WIDE)
    scale = tl.load(coefficients + channel, mask=present, other=0.0)[None, :]
    shift = tl.load(coefficients + channels + channel, mask=present, other=0.0)[None, :]
    mean = tl.load(coefficients + 2 * channels + channel, mask=present, other=0.0)[None, :]
    constant = tl.load(coefficients + 3 * channels + channel, mask=present, other=0.0)[None, :]
    slope = tl.load(coefficients + 4 * channels + channel, mask=present, other=0.0)[None, :]
    place = row[:, None] * channels + channel[None, :]
    dy = tl.load(gradient + place, mask=inside, other=0.0).to(WIDE)
    rising = tl.load(z + place, mask=inside, other=0.0) * scale + shift > 0
    dz = scale * tl.where(rising, dy, dy * tl.load(leak))
    tl.store(passed + place, dz, mask=inside)
    center = tl.load(u + place, mask=inside, other=0.0).to(WIDE)
    tl.store(du + place, dz - (k * constant + slope * (k * (center - mean) + total)), mask=inside)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _gradients_of_neighbors(
    passed: tl.tensor,
    u: tl.tensor,
    v: tl.tensor,
    slot: tl.tensor,
    coefficients: tl.tensor,
    first: tl.tensor,
    edges: tl.tensor,
    dv: tl.tensor,
    channels: tl.tensor,
    k: tl.tensor,
    WIDE: tl.constexpr,
    EDGES: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """One vertex; row e of a tile adds up its edges e, e + EDGES, ... in this order, then the rows are added in a fixed tree."""
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    present = channel < channels
    begin, end = tl.load(first + row), tl.load(first + row + 1)
    reached = tl.full((EDGES, CHANNELS), 0.0, WIDE)
    picked = reached
    for start in range(begin, end, EDGES):
        place = start + tl.arange(0, EDGES)
        edge = tl.load(edges + place, mask=place < end, other=0)
        source = (edge // k)[:, None] * channels + channel[None, :]
        inside = (place < end)[:, None] & present[None, :]
        reached += tl.load(u + source, mask=inside, other=0.0).to(WIDE)
        mine = tl.load(slot + source, mask=inside, other=0).to(tl.int64) == (edge % k)[:, None]
        picked += tl.load(passed + source, mask=inside & mine, other=0.0).to(WIDE)
    mean = tl.load(coefficients + 2 * channels + channel, mask=present, other=0.0)
    constant = tl.load(coefficients + 3 * channels + channel, mask=present, other=0.0)
    slope = tl.load(coefficients + 4 * channels + channel, mask=present, other=0.0)
    there = tl.load(v + row * channels + channel, mask=present, other=0.0).to(WIDE)
    shared = (end - begin).to(WIDE) * (constant + slope * (there - mean)) + slope * tl.sum(reached, axis=0)
    tl.store(dv + row * channels + channel, tl.sum(picked, axis=0) - shared, mask=present)
