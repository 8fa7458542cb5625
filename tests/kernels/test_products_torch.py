"""Products of rows: equal to float64's, whatever library finds them; equal bits each time."""

import pytest
import torch

from triform.kernels.products_torch import rows_times, sum_of_outer_products

SIZES = [(1, 1, 1), (1, 7, 5), (7, 1, 3), (5, 3, 1), (300, 64, 128), (4099, 3, 64)]
"""Rows, channels in, channels out."""


def drawn(size, dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows, before, width = size
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*shape, generator=generator).to(dtype) for shape in ((rows, before), (width, before), (rows, width)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES)
def test_they_are_those_of_float64(size, dtype) -> None:
    rows, weight, left = drawn(size, dtype)
    bias = left[0]
    exact = rows.double() @ weight.double().t()
    for found, wanted in (
        (rows_times(rows, weight), exact),
        (rows_times(rows, weight, bias), exact + bias.double()),
        (sum_of_outer_products(left, rows), left.double().t() @ rows.double()),
    ):
        assert found.dtype == dtype
        assert found.is_contiguous()
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=(1e-5 if dtype == torch.float32 else 1e-12) * size[0] ** 0.5)


def test_no_rows() -> None:
    assert rows_times(torch.zeros(0, 3), torch.ones(2, 3)).shape == (0, 2)
    assert torch.equal(sum_of_outer_products(torch.zeros(0, 2), torch.zeros(0, 3)), torch.zeros(2, 3))


def test_rows_that_do_not_lie_one_behind_the_other() -> None:
    rows, weight, left = drawn((300, 64, 128), torch.float32)
    torch.testing.assert_close(rows_times(rows.t().contiguous().t(), weight), rows_times(rows, weight))
    torch.testing.assert_close(rows_times(rows, weight.t().contiguous().t()), rows_times(rows, weight))
    torch.testing.assert_close(sum_of_outer_products(left, rows.repeat(1, 2)[:, :64]), sum_of_outer_products(left, rows))


def test_equal_bits_each_time_on_two_threads() -> None:
    rows, weight, left = drawn((20_000, 64, 128), torch.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, *others = [(rows_times(rows, weight), sum_of_outer_products(left, rows)) for _ in range(6)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for found in others for one, other in zip(found, first, strict=True))
