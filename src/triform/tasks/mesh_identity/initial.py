"""The first weights of a DT-GCNN, drawn once in NumPy, so that both frameworks start from the same numbers."""

import numpy as np
from jaxtyping import Float32

from triform.tasks.mesh_identity.config import MeshIdentity

Weights = dict[str, Float32[np.ndarray, "..."]]

NUM_FEATURES = {"coordinates": 3, "coordinates_normals": 6}
"""What `config.features` brings to a vertex, in numbers."""


def initial_weights(config: MeshIdentity, num_classes: int, seed: int) -> Weights:
    """Return every parameter and buffer by its name in the model, a pure function of the arguments.

    Linear layers: uniform in +-1/sqrt(fan_in), the default of both frameworks. Batch normalisation: scale 1, shift 0, mean 0, variance 1.

    Args:
        num_classes: Training subjects, at least 1.
        seed: At least 0.

    Source:
        The BNNeck before the classifier: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-Identification (CVPRW 2019).
    """
    generator = np.random.default_rng(seed)
    weights: Weights = {}
    for name, (num_out, num_in) in linear_shapes(config, num_classes).items():
        bound = 1 / np.sqrt(num_in)
        weights[name] = generator.uniform(-bound, bound, size=(num_out, num_in)).astype(np.float32)
    for name, channels in norm_channels(config).items():
        for part, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            weights[f"{name}.{part}"] = np.full(channels, value, np.float32)
    return weights


def linear_shapes(config: MeshIdentity, num_classes: int) -> dict[str, tuple[int, int]]:
    """Return (channels out, channels in) of each linear layer's weight, by its name, from input to output."""
    shapes: dict[str, tuple[int, int]] = {}
    channels = NUM_FEATURES[config.features]
    for i, layer in enumerate(config.layers):
        shapes[f"edge.{i}.linear.weight"] = (layer.width, 2 * channels)
        channels = layer.width
    shapes["point.linear.weight"] = (config.point_width, sum(layer.width for layer in config.layers))
    channels = 2 * config.point_width
    for i, width in enumerate(config.hidden_widths):
        shapes[f"hidden.{i}.linear.weight"] = (width, channels)
        channels = width
    shapes["embedding.weight"] = (config.embedding_dim, channels)
    shapes["classifier.weight"] = (num_classes, config.embedding_dim)
    return shapes


def norm_channels(config: MeshIdentity) -> dict[str, int]:
    """Return the channels of each batch normalisation, by its name."""
    channels = {f"edge.{i}.norm": layer.width for i, layer in enumerate(config.layers)}
    channels["point.norm"] = config.point_width
    channels |= {f"hidden.{i}.norm": width for i, width in enumerate(config.hidden_widths)}
    return channels | {"neck": config.embedding_dim}
