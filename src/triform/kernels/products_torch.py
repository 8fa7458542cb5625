"""Matrix products of many rows, by the library that is fastest at them.

In float32 on x86 CPUs that is oneDNN, which PyTorch asks for convolutions alone: a product of rows is a convolution of 1x1 over an image of
them, channels last. `torch.mm` asks MKL, which leaves AVX-512 aside on AMD's processors: 180 against 400 GFLOP/s on two cores of a Zen 5
(`benchmarks/products.py`). Elsewhere, and in float64, `torch.mm` it is. Either gives equal bits each time with an equal number of threads.
"""

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.grad import conv2d_weight

_WIDTH = 128
"""Of the image whose outer products are summed: as narrow as one row, it may take oneDNN twice as long."""


def rows_times(
    rows: Float[Tensor, "row in"], weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None = None
) -> Float[Tensor, "row out"]:
    """Return rows W^T, and the bias added to each; contiguous."""
    if not _as_convolution(rows):
        return F.linear(rows, weight, bias)
    image: Tensor = F.conv2d(_image(rows), weight[:, :, None, None], bias)
    return image.permute(0, 2, 3, 1).reshape(len(rows), len(weight))


def sum_of_outer_products(left: Float[Tensor, "row out"], right: Float[Tensor, "row in"]) -> Float[Tensor, "out in"]:
    """Return left^T right, the sum over all rows."""
    whole = len(left) // _WIDTH * _WIDTH if _as_convolution(left) else 0
    if whole == 0:
        return left.t() @ right
    first, second = (_image(each[:whole], _WIDTH) for each in (left, right))
    shape = [left.shape[1], right.shape[1], 1, 1]
    product: Tensor = conv2d_weight(second, shape, first)  # type: ignore[no-untyped-call, unused-ignore]
    return torch.addmm(product[:, :, 0, 0], left[whole:].t(), right[whole:])


def _as_convolution(rows: Tensor) -> bool:
    return rows.dtype == torch.float32 and rows.device.type == "cpu" and len(rows) > 0 and _onednn_is_faster()


@cache
def _onednn_is_faster() -> bool:
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call, unused-ignore]
    return there and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def _image(rows: Float[Tensor, "row channel"], width: int = 1) -> Float[Tensor, "1 channel line {width}"]:
    return rows.reshape(1, -1, width, rows.shape[1]).permute(0, 3, 1, 2)
