"""What a profile of one training step says, in any framework."""

from dataclasses import dataclass
from typing import Literal

PARTS = (
    *("farthest_point_sample", "ball_query", "set_abstraction", "decoder", "nearest_neighbors"),
    *("knn", "edge_conv", "point", "embed", "attention", "mlp", "head", "loss"),
)
"""Names of a model's parts in a profile; what lies in none is `other`."""


@dataclass(frozen=True)
class Timings:
    """Seconds of a step."""

    forward_s: float
    backward_s: float
    update_s: float
    parts: dict[str, float]
    """Seconds by part, of what `of` says."""
    peak_mb: float
    """Largest memory: of the device, or of the process on the CPU (MiB)."""
    of: Literal["forward and backward", "forward"] = "forward and backward"
