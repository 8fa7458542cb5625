"""The passes in numba against those in plain torch, one by one, at ragged sizes; any number of threads."""

import numba
import numpy as np
import pytest
import torch

from triform.kernels import edge_conv
from triform.kernels.edge_conv_plain_torch import PLAIN

SIZES = [(1, 1, 1, 1), (2, 5, 4, 3), (3, 37, 9, 129), (1, 300, 255, 16)]
"""Samples, vertices, neighbours, channels."""


def drawn(size, dtype, *, ties=False):
    """u, v, z and gradient (sample, vertex, channel), neighbours, slots and coefficients."""
    generator = np.random.default_rng(0)
    samples, vertices, k, channels = size
    values = [generator.normal(size=(samples, vertices, channels)).astype(dtype) for _ in range(4)]
    values = [np.round(value) for value in values] if ties else values
    neighbors = generator.integers(0, vertices, (samples, vertices, k))
    slot = generator.integers(0, k, values[0].shape).astype(np.uint8)
    return *values, neighbors, slot, generator.normal(size=(5, channels)).astype(dtype)


def in_torch(name, *arguments):
    converted = [torch.from_numpy(each) if isinstance(each, np.ndarray) else each for each in arguments]
    result = getattr(PLAIN, name)(*converted)
    return None if result is None else result.numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_the_largest_its_slot_and_the_moments(size, ties, dtype) -> None:
    u, v, _, _, neighbors, *_ = drawn(size, dtype, ties=ties)
    found, wanted = [(np.empty_like(u), np.empty(u.shape, np.uint8)) for _ in range(2)]
    sums = edge_conv.largest_neighbors(u, v, neighbors, *found, True)
    plain = in_torch("largest_neighbors", u, v, neighbors, *wanted, True)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_allclose(sums.sum(0), plain.sum(0), rtol=1e-6 if dtype == np.float32 else 1e-12, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_gradients_of_the_edges_and_their_sums(size, dtype) -> None:
    u, v, z, gradient, neighbors, slot, coefficients = drawn(size, dtype)
    found, wanted = [(np.empty_like(u), np.empty_like(u)) for _ in range(2)]
    edge_conv.edge_gradients(gradient, z, u, v, neighbors, slot, coefficients, 0.2, *found)
    in_torch("edge_gradients", gradient, z, u, v, neighbors, slot, coefficients, 0.2, *wanted)
    tolerance = 1e-4 if dtype == np.float32 else 1e-11
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * max(1, size[2]))
    rows = [array.reshape(-1, size[3]) for array in (gradient, z)]
    sums = edge_conv.gradient_sums(*rows, *coefficients[:3], 0.2)
    np.testing.assert_allclose(sums, in_torch("gradient_sums", *rows, *coefficients[:3], 0.2), rtol=1e-5, atol=1e-5)


def test_activation() -> None:
    z = np.array([[-2.0, 1.0], [0.0, 0.5]], np.float32)
    out = np.empty_like(z)
    edge_conv.activate(z, np.array([1, 2], np.float32), np.array([0, -2], np.float32), 0.25, out)
    np.testing.assert_array_equal(out, [[-0.5, 0.0], [0.0, -0.25]])


def test_a_graph_where_all_edges_end_at_one_vertex() -> None:
    """By hand: three vertices, two edges each, all to vertex 1."""
    u, v = np.array([[[1.0], [2.0], [3.0]]]), np.array([[[10.0], [20.0], [30.0]]])
    z, slot, neighbors = np.empty_like(u), np.empty(u.shape, np.uint8), np.full((1, 3, 2), 1)
    sums = edge_conv.largest_neighbors(u, v, neighbors, z, slot, True)
    assert z.flatten().tolist() == [21, 22, 23]
    assert slot.flatten().tolist() == [0, 0, 0]
    assert sums.flatten().tolist() == [2 * (21 + 22 + 23), 2 * (21**2 + 22**2 + 23**2)]


def test_the_number_of_threads_changes_no_bit() -> None:
    u, v, z, gradient, neighbors, slot, coefficients = drawn((5, 700, 20, 200), np.float32)
    results, before = [], numba.get_num_threads()
    try:
        for number in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(number)
            outs = np.empty_like(u), np.empty_like(u), np.empty_like(u), np.empty(u.shape, np.uint8)
            edge_conv.edge_gradients(gradient, z, u, v, neighbors, slot, coefficients, 0.2, *outs[:2])
            sums = edge_conv.largest_neighbors(u, v, neighbors, *outs[2:], True)
            flat = [each.reshape(-1, 200) for each in (gradient, z)]
            results.append([*outs, sums, edge_conv.gradient_sums(*flat, *coefficients[:3], 0.2)])
    finally:
        numba.set_num_threads(before)
    for result in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(result, results[0], strict=True))
