"""Multiply-adds: those that PyTorch counts, the small model's bound, and one by hand."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from triform.tasks.human_pose.config import Alternating, DualStream, FrameTokens
from triform.tasks.human_pose.cost import macs
from triform.tasks.human_pose.model_torch import EncoderConfig, LiftNet

SIZES = {"depth": 3, "width": 12, "heads": 3, "mlp_ratio": 1.5}


@pytest.mark.parametrize("config", [DualStream(**SIZES), Alternating(**SIZES), FrameTokens(**SIZES)], ids=lambda config: config.kind)
def test_they_are_those_that_pytorch_counts(config: EncoderConfig) -> None:
    net = LiftNet(config, {"num_frames": 9, "num_joints": 17}).eval()
    # Only this kernel's products are counted; the sum of two streams is none.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
        net(torch.zeros(1, 9, 17, 3))
    added = 9 * 17 * 3 * 2 * 12 if isinstance(config, DualStream) else 0
    assert sum(macs(config, 9, 17).values()) - added == counted.get_total_flops() / 2


def test_one_layer_by_hand() -> None:
    found = macs(DualStream(depth=1, width=8, heads=2, mlp_ratio=4), 5, 17)
    joints, frames = 4 * 8 * 8 + 2 * 17 * 8, 4 * 8 * 8 + 2 * 5 * 8
    assert found["attention"] == 5 * 17 * 2 * (joints + frames)
    assert found["mlp"] == 5 * 17 * 4 * 2 * 8 * 32
    assert found["fusion"] == 5 * 17 * (16 * 2 + 2 * 8)
    assert found["embed"] == 5 * 17 * 6 * 8
    assert found["head"] == 5 * 17 * 3 * 8
    assert macs(Alternating(depth=1, width=8, heads=2, mlp_ratio=4), 5, 17)["attention"] == 5 * 17 * (joints + frames)


def test_the_small_model_takes_about_a_billion() -> None:
    assert sum(macs(Alternating(), 27, 17).values()) == pytest.approx(1e9, rel=0.05)
