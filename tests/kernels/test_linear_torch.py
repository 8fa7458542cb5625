"""The linear layer is PyTorch's own, wherever its products are found."""

import pytest
import torch

from triform.kernels import choice
from triform.kernels.linear_torch import Linear


def results(layer: torch.nn.Linear, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.detach().requires_grad_()
    out = layer(x)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])]


def alike(*layers_of) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    torch.manual_seed(0)
    ours = Linear(*layers_of)
    theirs = torch.nn.Linear(*layers_of)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("shape", [(2, 3, 6), (6,), (3, 700, 6), (2, 400, 3, 6), (0, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_those_of_a_linear_layer(shape, bias) -> None:
    ours, theirs = alike(6, 5, bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for one, other in zip(results(ours, x), results(theirs, x), strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_gradients_in_float64_are_those_of_finite_differences() -> None:
    ours, _ = alike(2, 2)
    assert torch.autograd.gradcheck(ours.double(), torch.rand(600, 2, dtype=torch.float64, requires_grad=True))


def test_x_whose_rows_do_not_lie_one_behind_the_other() -> None:
    ours, theirs = alike(6, 5)
    x = torch.randn(6, 30, 40, generator=torch.Generator().manual_seed(0)).permute(2, 1, 0)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_equal_bits_each_time_on_two_threads() -> None:
    ours, _ = alike(64, 128)
    x, threads = torch.randn(5000, 64, generator=torch.Generator().manual_seed(0)), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, *others = [results(ours, x) for _ in range(6)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for found in others for one, other in zip(found, first, strict=True))


def test_under_autocast_as_a_linear_layer() -> None:
    ours, theirs = alike(6, 5)
    x = torch.randn(900, 6, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        for given in (x, x.bfloat16()):
            found, wanted = ours(given), theirs(given)
            assert found.dtype == wanted.dtype == torch.bfloat16
            torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)


def test_what_is_exported_has_the_linear_layer_itself() -> None:
    ours, theirs = alike(6, 5)
    x = torch.randn(900, 6)
    exported = torch.export.export(ours, (x,))
    assert {str(node.target) for node in exported.graph.nodes if node.op == "call_function"} == {"aten.linear.default"}
    torch.testing.assert_close(torch.compile(ours, fullgraph=True, backend="aot_eager")(x), theirs(x))


def test_the_plain_form_is_pytorchs_bit_for_bit(monkeypatch) -> None:
    monkeypatch.setattr(choice, "_chosen", "reference")
    ours, theirs = alike(6, 5)
    x = torch.randn(900, 6)
    assert all(torch.equal(one, other) for one, other in zip(results(ours, x), results(theirs, x), strict=True))
