"""What is exported with a batch of any size takes one, and gives what the operators give."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from triform.kernels.ball_query_torch import ball_query
from triform.kernels.edge_conv_torch import edge_conv
from triform.kernels.farthest_point_sample_torch import farthest_point_sample
from triform.kernels.k_nearest_torch import k_nearest
from triform.kernels.nearest_neighbors_torch import nearest_neighbors
from triform.kernels.set_abstraction_torch import set_abstraction

WEIGHT, MEAN, VAR = torch.linspace(-1, 1, 30).view(5, 6), torch.zeros(5), torch.ones(5)
LAYERS = [(WEIGHT[:, :3], VAR, MEAN), (WEIGHT[:, :5], VAR, MEAN)]

OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "farthest_point_sample": lambda x: farthest_point_sample(x, 4),
    "ball_query": lambda x: ball_query(x, x[:, :4], radius=0.5, num_neighbors=3),
    "k_nearest": lambda x: k_nearest(x, 3),
    "nearest_neighbors": lambda x: nearest_neighbors(x, x[:, :4])[0],
    "edge_conv": lambda x: edge_conv(x, k_nearest(x, 3), WEIGHT, VAR, MEAN, MEAN, VAR)[0],
    "set_abstraction": lambda x: set_abstraction(x, None, x, k_nearest(x, 3), LAYERS, [(MEAN, VAR)] * 2)[0],
}


@pytest.mark.parametrize("name", OPERATORS)
def test_a_batch_of_any_size(name) -> None:
    class Net(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return OPERATORS[name](x)

    four, seven = torch.rand(11, 20, 3, generator=torch.Generator().manual_seed(0)).split([4, 7])
    with torch.no_grad():
        exported = torch.export.export(Net(), (four,), dynamic_shapes={"x": {0: torch.export.Dim("batch", min=2)}}).module()
        for x in (four, seven):
            assert torch.equal(exported(x), OPERATORS[name](x))
