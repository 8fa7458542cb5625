"""A linear layer whose products go where they are fastest."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from triform.kernels.choice import fast
from triform.kernels.products_torch import rows_times

_FEWEST_ROWS = 512
"""With fewer rows, putting the weights into oneDNN's order takes as long as the product."""


class Linear(nn.Linear):
    """`nn.Linear`, with its parameters and names. In float32 on x86 CPUs, many rows are multiplied by oneDNN, forward and backward.

    What is compiled or exported has the linear layer itself.
    """

    def forward(self, x: Float[Tensor, "*row in"]) -> Float[Tensor, "*row out"]:
        if torch.compiler.is_compiling() or x.numel() < _FEWEST_ROWS * self.in_features or not fast():
            return super().forward(x)
        return rows_times(x.reshape(-1, self.in_features), self.weight, self.bias).view(*x.shape[:-1], self.out_features)
