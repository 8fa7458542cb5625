"""Picking the least of rows of distances: against a stable sort, few and many groups, equal numbers, any number of threads."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triform.kernels.k_nearest import select_nearest


def by_sorting(distances: np.ndarray, first: int, k: int) -> np.ndarray:
    rows = np.arange(len(distances))
    distances = distances.copy()
    distances[rows, first + rows] = -np.inf
    return distances.argsort(axis=1, kind="stable")[:, :k]


def selected(distances: np.ndarray, first: int, k: int) -> np.ndarray:
    """By products that give exactly these distances."""
    nearest = np.full((len(distances), k), -1)
    squares = np.full(distances.shape[1], 0, distances.dtype)
    select_nearest(distances / -2, squares, first, nearest)
    return nearest


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    num_vertices=st.sampled_from([1, 2, 31, 127, 128, 129, 255, 256, 257, 700]),
    share=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    different=st.sampled_from([1, 2, 40, 10**9]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_it_is_a_stable_sort(seed, num_vertices, share, different, dtype) -> None:
    """`different`: numbers that occur, of either sign."""
    generator = np.random.default_rng(seed)
    first = int(generator.integers(0, num_vertices))
    distances = (generator.integers(0, different, (min(70, num_vertices - first), num_vertices)) - different // 3).astype(dtype)
    k = 1 + int(share * (num_vertices - 1))
    np.testing.assert_array_equal(selected(distances, first, k), by_sorting(distances, first, k))


@pytest.mark.parametrize("order", [1, -1])
def test_sorted_rows_and_far_outliers(order) -> None:
    row = np.concatenate([np.arange(600), [1e30, 3e38]])[::order].astype(np.float32)
    distances = np.tile(row, (3, 1))
    np.testing.assert_array_equal(selected(distances, 4, 20), by_sorting(distances, 4, 20))


def test_distances_are_the_squares_less_twice_the_products() -> None:
    products, squares = np.array([[0.0, 6.0, 5.0]]), np.array([0.0, 9.0, 8.0])
    nearest = np.empty((1, 3), np.int64)
    select_nearest(products, squares, 0, nearest)
    assert nearest.tolist() == [[0, 1, 2]]
    np.testing.assert_array_equal(products, [[np.inf, -3.0, -2.0]])


def test_the_number_of_threads_changes_nothing() -> None:
    distances = np.random.default_rng(0).normal(size=(900, 900)).astype(np.float32)
    results, before = [], numba.get_num_threads()
    try:
        for number in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(number)
            results.append(selected(distances, 0, 20))
    finally:
        numba.set_num_threads(before)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
