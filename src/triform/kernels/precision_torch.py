"""The precision in which sums over many numbers are taken."""

import torch
from torch import Tensor


def wide(values: Tensor) -> torch.dtype:
    """float64, where the device has it."""
    return torch.float32 if values.device.type == "mps" else torch.float64
