"""Products of many rows by the library that `kernels.products_torch` takes for them, beside `torch.mm`.

    python benchmarks/products.py [--quick] [--json] [--heap default|kept|both] [--only TEXT]

100 times 8192 rows (--quick: 10 times) of 64 and 128 numbers: times a weight, and left^T right, the sum of outer products. They agree if
both are float64's to within 1e-6 of its length.
"""

import torch
from torch import Tensor

from interleaved import Case, Run, main
from triform.kernels.products_torch import rows_times, sum_of_outer_products

NUM_ROWS = 8192


def drawn(before: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, weight, and rows of what comes out."""
    generator = torch.Generator().manual_seed(0)
    shapes = (NUM_ROWS, before), (width, before), (NUM_ROWS, width)
    rows, weight, out = (torch.randn(*shape, generator=generator) for shape in shapes)
    return rows, weight, out


def product(way: str, what: str, before: int, width: int) -> Tensor:
    rows, weight, out = drawn(before, width)
    if what == "rows times a weight":
        return rows_times(rows, weight) if way == "ours" else torch.mm(rows, weight.t())
    return sum_of_outer_products(out, rows) if way == "ours" else torch.mm(out.t(), rows)


def setup(way: str, what: str, before: int, width: int, quick: bool) -> Run:
    rows, weight, out = drawn(before, width)
    one = {
        ("ours", "rows times a weight"): lambda: rows_times(rows, weight),
        ("usual", "rows times a weight"): lambda: torch.mm(rows, weight.t()),
        ("ours", "outer products"): lambda: sum_of_outer_products(out, rows),
        ("usual", "outer products"): lambda: torch.mm(out.t(), rows),
    }[way, what]
    one()

    def run() -> None:
        for _ in range(10 if quick else 100):
            one()

    return run


def agree(what: str, before: int, width: int) -> bool:
    rows, weight, out = (each.double() for each in drawn(before, width))
    exact = rows @ weight.t() if what == "rows times a weight" else out.t() @ rows
    return all(float((product(way, what, before, width) - exact).norm() / exact.norm()) <= 1e-6 for way in ("ours", "usual"))


CASES = [
    Case(
        name=f"{what}, {before} to {width}",
        ours=lambda quick, given=(what, before, width): setup("ours", *given, quick),
        reference=lambda quick, given=(what, before, width): setup("usual", *given, quick),
        agree=lambda _quick, given=(what, before, width): agree(*given),
    )
    for what in ("rows times a weight", "outer products")
    for before, width in ((64, 64), (64, 128), (128, 256))
]

if __name__ == "__main__":
    main(CASES, __doc__)
