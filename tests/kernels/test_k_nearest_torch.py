"""Nearest vertices in feature space, in both forms: by brute force, ties, far from the origin, under autocast, and what is refused."""

import numpy as np
import pytest
import torch

from triform.kernels import choice
from triform.kernels.k_nearest_torch import _in_order, k_nearest, k_nearest_operator


@pytest.fixture(params=["fast", "reference"])
def form(request, monkeypatch):
    monkeypatch.setattr(choice, "_chosen", request.param)
    return request.param


def brute_force(x: np.ndarray, k: int) -> np.ndarray:
    squared = ((x[:, :, None].astype(np.float64) - x[:, None]) ** 2).sum(3)
    squared[:, np.arange(x.shape[1]), np.arange(x.shape[1])] = -1
    return squared.argsort(axis=2, kind="stable")[:, :, :k]


@pytest.mark.parametrize(("num_vertices", "channels", "k"), [(57, 3, 1), (57, 6, 20), (57, 64, 57), (900, 3, 20), (400, 5, 300)])
def test_the_nearest_itself_first_then_from_near_to_far(form, num_vertices, channels, k) -> None:
    x = np.random.default_rng(0).normal(size=(2, num_vertices, channels))
    found = k_nearest(torch.from_numpy(x), k)
    assert found.dtype == torch.int64
    assert np.array_equal(found, brute_force(x, k))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_on_a_grid_ties_go_to_the_lowest_index(form, dtype) -> None:
    """A grid about 0 whose distances are exact: many are equal."""
    axis = np.arange(-3, 4)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(1, -1, 3)
    grid = np.random.default_rng(0).permutation(grid, axis=1)
    for k in (2, 7, 20, 150):
        assert np.array_equal(k_nearest(torch.tensor(grid, dtype=dtype), k), brute_force(grid, k))


def test_both_forms_agree_in_every_index(monkeypatch) -> None:
    """In float32 too, where rounding decides near-ties: both see the same distances."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 1100, 9)).astype(np.float32))
    x[:, 500:600] = x[:, 300:400]
    results = []
    for form in ("fast", "reference"):
        monkeypatch.setattr(choice, "_chosen", form)
        results.append(k_nearest(x, 33))
    assert torch.equal(*results)


def test_order_is_that_of_a_stable_sort() -> None:
    """What orders float32 by its bits: negative numbers, both zeros, the smallest and the infinite."""
    special = torch.tensor([0.0, -0.0, 1e-45, -1e-45, torch.inf, -torch.inf, 3.4e38, -3.4e38, 1.0, -1.0])
    rows = special[torch.from_numpy(np.random.default_rng(0).integers(0, len(special), (50, 200)))]
    assert torch.equal(_in_order(rows, 60), rows.sort(dim=1, stable=True).indices[:, :60])


def test_by_hand(form) -> None:
    line = torch.tensor([[[0.0], [1.0], [3.0], [7.0]]])
    assert k_nearest(line, 2).tolist() == [[[0, 1], [1, 0], [2, 1], [3, 2]]]


def test_an_offset_changes_no_neighbour(form) -> None:
    """1000 off, |x|^2 takes all digits of float32; without the mean subtracted most sets are wrong. The grid has no near-ties lost to
    rounding of the input: its steps are binary fractions."""
    x = torch.from_numpy(np.random.default_rng(1).integers(0, 4096, (2, 200, 3)) / 1024).float()
    near, far = k_nearest(x.double(), 8), k_nearest(x + 1024, 8)
    distance = torch.cdist(x.double(), x.double())
    torch.testing.assert_close(distance.gather(2, far), distance.gather(2, near), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_vertices", [1, 9, 200])
def test_among_copies_a_vertex_is_its_own_neighbour_and_then_come_the_lowest(form, num_vertices) -> None:
    k = min(3, num_vertices)
    wanted = [[i, *[j for j in range(num_vertices) if j != i][: k - 1]] for i in range(num_vertices)]
    assert k_nearest(torch.zeros(1, num_vertices, 4), k)[0].tolist() == wanted


def test_autocast_leaves_distances_in_float32(form) -> None:
    x = torch.randn(1, 100, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = k_nearest(x, 5)
    assert torch.equal(found, k_nearest(x, 5))
    assert torch.equal(k_nearest(x.bfloat16(), 5), k_nearest(x.bfloat16().float(), 5))


def test_no_gradient_passes(form) -> None:
    assert not k_nearest(torch.randn(1, 8, 3, requires_grad=True), 2).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operator_keeps_the_rules_of_operators(form, dtype) -> None:
    torch.library.opcheck(k_nearest_operator, (torch.randn(2, 11, 3, dtype=dtype), 4))


def test_equal_bits_each_time_on_two_threads(form) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 700, 16)).astype(np.float32))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, *others = [k_nearest(x, 20) for _ in range(4)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(other, first) for other in others)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(form, value) -> None:
    x = torch.zeros(2, 5, 3)
    x[1, 2, 0] = value
    with pytest.raises(ValueError, match="x must be finite"):
        k_nearest(x, 2)


def test_what_overflows_is_refused(form) -> None:
    with pytest.raises(ValueError, match="x is too large"):
        k_nearest(torch.tensor([[[1e20], [-1e20], [0.0]]]), 2)


@pytest.mark.parametrize("k", [0, 6])
def test_k_is_1_to_the_number_of_vertices(k) -> None:
    with pytest.raises(ValueError, match="k must be 1 to the 5 vertices"):
        k_nearest(torch.zeros(1, 5, 3), k)


def test_nothing_to_search_is_refused() -> None:
    for shape in ((5, 3), (0, 5, 3), (1, 5, 0)):
        with pytest.raises(ValueError, match="x must be"):
            k_nearest(torch.zeros(shape), 1)
