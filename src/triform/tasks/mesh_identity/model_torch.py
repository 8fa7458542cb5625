"""DT-GCNN in PyTorch: EdgeConvs on graphs that change with the features, an embedding, and a classifier behind a BNNeck.

Parameters have the names and layouts of the MLX model, so that a checkpoint serves both.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.profiler import record_function

from triform.errors import Diverged, ExperimentError
from triform.kernels.edge_conv_torch import edge_conv
from triform.kernels.gather_torch import gather_points
from triform.kernels.k_nearest_torch import k_nearest
from triform.kernels.linear_torch import Linear
from triform.tasks.mesh_identity.config import ArcFaceHead, EdgeLayer, MeshIdentity
from triform.tasks.mesh_identity.initial import initial_weights, linear_shapes, norm_channels
from triform.tasks.mesh_identity.levels import LayerLevel, levels

Output = tuple[Tensor, Tensor, Tensor]
"""Unit embedding, neck and logits."""

NEGATIVE_SLOPE = 0.2


def normalized(x: Float[Tensor, "... channel"]) -> Float[Tensor, "... channel"]:
    """Return vectors of length one; the gradient of a zero vector is finite."""
    return x / (x.square().sum(-1, keepdim=True) + 1e-12).sqrt()


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the second, in float32 under autocast too.

    Channels stand second because on the CPU torch takes the statistics of channels-last input in plain float32, 200 times less exact.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Float[Tensor, "batch channel *vertex"]) -> Float[Tensor, "batch channel *vertex"]:
        """Raises: ExperimentError: one row to train on has no variance."""
        if self.training and x.numel() == x.shape[1]:
            raise ExperimentError("Batch normalisation has one mesh to train on", expected="at least 2 in a batch", do="raise batch_size")
        x = x.to(self.weight.dtype)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, momentum=self.momentum, eps=self.eps
        )

    @torch.no_grad()
    def follow(self, mean: Float[Tensor, " channel"], var: Float[Tensor, " channel"], count: int) -> None:
        """Move the running statistics towards the moments of `count` values; the variance that comes is biased, the running one is not."""
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), self.momentum)


class EdgeConv(nn.Module):
    """max over neighbours j of LeakyReLU(BatchNorm(W [x_j - x_i; x_i])); see `kernels.edge_conv_torch`.

    Source: Wang et al., Dynamic Graph CNN for Learning on Point Clouds (ACM TOG 2019), section 3 and equation 8.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.linear, self.norm = _linear(shape), BatchNorm(shape[0])

    def forward(
        self, x: Float[Tensor, "batch vertex channel"], neighbors: Int[Tensor, "batch vertex k"]
    ) -> Float[Tensor, "batch vertex width"]:
        """Raises: Diverged: the features are not finite."""
        norm = self.norm
        known = (None, None) if self.training else (norm.running_mean, norm.running_var)
        try:
            out, mean, var = edge_conv(
                x, neighbors, self.linear.weight, norm.weight, norm.bias, *known, eps=norm.eps, negative_slope=NEGATIVE_SLOPE
            )
        except ValueError as problem:
            if x.isfinite().all():  # then it is a mistake of ours, and lowering the learning rate won't mend it
                raise
            raise Diverged(f"EdgeConv can't go on: {problem}", expected="finite features", do="lower the learning rate") from problem
        if self.training:
            norm.follow(mean, var, neighbors.numel())
        return out


class Dense(nn.Module):
    """Linear, BatchNorm, LeakyReLU; channels stand second in what comes out."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.linear, self.norm = _linear(shape), BatchNorm(shape[0])

    def forward(self, x: Float[Tensor, "batch *vertex channel"]) -> Float[Tensor, "batch width *vertex"]:
        product: Tensor = self.linear(x)
        if product.dim() == 3:
            product = product.transpose(1, 2).contiguous()
        return F.leaky_relu(self.norm(product), NEGATIVE_SLOPE)


class IdentityNet(nn.Module):
    """A mesh to its embedding and to the logits of the training subjects."""

    def __init__(self, config: MeshIdentity, num_classes: int, seed: int = 0) -> None:
        """Args: seed: of the first weights."""
        super().__init__()
        shapes = linear_shapes(config, num_classes)
        self.config = config
        self.edge = nn.ModuleList(EdgeConv(shapes[f"edge.{i}.linear.weight"]) for i in range(len(config.layers)))
        self.point = Dense(shapes["point.linear.weight"])
        self.hidden = nn.ModuleList(Dense(shapes[f"hidden.{i}.linear.weight"]) for i in range(len(config.hidden_widths)))
        self.embedding = _linear(shapes["embedding.weight"])
        self.neck = BatchNorm(norm_channels(config)["neck"])
        self.classifier = _linear(shapes["classifier.weight"])
        first = initial_weights(config, num_classes, seed)
        self.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in first.items()})

    def forward(self, batch: dict[str, Tensor]) -> Output:
        """Return the unit embedding, the neck (batch, embedding) and the logits (batch, class) without a margin.

        Args:
            batch: "coordinates" (batch, vertex, 3) and "normals"; "pool_{level}" (batch, kept) for each pooling; "spatial_{level}" and
                "mesh_{level}" (batch, vertex, k) where a layer uses that graph.

        Raises:
            Diverged: the features that a dynamic layer searches are not finite.
            ExperimentError: one mesh to train on.
        """
        x = self._vertices(batch)
        with record_function("point"):
            x = self.point(x)
            x = torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1)
        with record_function("head"):
            for layer in self.hidden:
                x = F.dropout(layer(x), self.config.dropout, self.training)
            z = self.embedding(x).to(self.neck.weight.dtype)
            neck = self.neck(z)
            return normalized(z), neck, self._logits(neck)

    def _vertices(self, batch: dict[str, Tensor]) -> Float[Tensor, "batch kept channel"]:
        """Return what all EdgeConvs give, side by side, at the vertices of the last level."""
        x = batch["coordinates"]
        if self.config.features == "coordinates_normals":
            x = torch.cat([x, batch["normals"]], dim=2)
        x = x.to(self.neck.weight.dtype)
        outputs: list[Tensor] = []
        for conv, layer, place in zip(self.edge, self.config.layers, levels(self.config, x.shape[1]), strict=True):
            if place.begins_level:
                pool = batch[f"pool_{place.level}"]
                x, *outputs = [gather_points(value, pool) for value in (x, *outputs)]
            neighbors = _neighbors(batch, x, layer, place)
            with record_function("edge_conv"):
                x = conv(x, neighbors)
            outputs.append(x)
        return torch.cat(outputs, dim=2)

    def _logits(self, neck: Float[Tensor, "batch embedding"]) -> Float[Tensor, "batch class"]:
        head = self.config.head
        if isinstance(head, ArcFaceHead):
            return head.scale * F.linear(normalized(neck), normalized(self.classifier.weight))
        logits: Tensor = self.classifier(neck)
        return logits


def _neighbors(batch: dict[str, Tensor], x: Tensor, layer: EdgeLayer, place: LayerLevel) -> Int[Tensor, "batch vertex k"]:
    if layer.graph != "dynamic":
        return batch[f"{layer.graph}_{place.level}"]
    with record_function("knn"):
        try:
            neighbors: Tensor = k_nearest(x, place.k)
        except ValueError as problem:
            raise Diverged(
                f"The features of a vertex have no neighbours: {problem}", expected="finite features", do="lower the learning rate"
            ) from problem
    return neighbors


def _linear(shape: tuple[int, int]) -> nn.Linear:
    """A linear layer (out, in) without bias."""
    return Linear(shape[1], shape[0], bias=False)
