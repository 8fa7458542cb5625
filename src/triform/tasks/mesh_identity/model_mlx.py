"""DT-GCNN in MLX: EdgeConvs on graphs that change with the features, an embedding, and a classifier behind a BNNeck.

Parameters have the names and layouts of the PyTorch model, so that a checkpoint serves both. All layers are written out here because MLX's
own differ where it counts: its LeakyReLU is compiled, which takes a C++ compiler on the CPU, and its BatchNorm adds up 10^6 rows one by
one (variance off by 5e-4).
"""

# mypy: allow-untyped-calls
# Methods of mlx.nn.Module have no annotations.

import mlx.core as mx
from jaxtyping import Float, Int
from mlx.nn.layers.base import Module
from mlx.nn.layers.dropout import Dropout

from triform.errors import ExperimentError
from triform.tasks.mesh_identity.config import ArcFaceHead, EdgeLayer, MeshIdentity
from triform.tasks.mesh_identity.initial import initial_weights, linear_shapes, norm_channels
from triform.tasks.mesh_identity.levels import LayerLevel, levels

Output = tuple[mx.array, mx.array, mx.array]
"""Unit embedding, neck and logits."""

NEGATIVE_SLOPE = 0.2


def leaky_relu(x: mx.array) -> mx.array:
    return mx.maximum(x, NEGATIVE_SLOPE * x)


def normalized(x: Float[mx.array, "... channel"]) -> Float[mx.array, "... channel"]:
    """Return vectors of length one; the gradient of a zero vector is finite."""
    return x * mx.rsqrt(mx.sum(x * x, axis=-1, keepdims=True) + 1e-12)


def row_mean(x: Float[mx.array, "... channel"]) -> Float[mx.array, " channel"]:
    """Return the mean over all axes but the last, axis by axis: no sum in float32 then has more than a few thousand terms."""
    while x.ndim > 1:
        x = mx.mean(x, axis=-2)
    return x


def rows(x: Float[mx.array, "batch vertex channel"], indices: Int[mx.array, "batch ..."]) -> Float[mx.array, "batch ... channel"]:
    """Return each sample's rows at `indices`, which MLX does not check."""
    first = mx.arange(len(x)).reshape(-1, *[1] * (indices.ndim - 1)) * x.shape[1]
    return mx.take(x.reshape(-1, x.shape[-1]), indices.astype(first.dtype) + first, axis=0)


def nearest(x: Float[mx.array, "batch vertex channel"], k: int) -> Int[mx.array, "batch vertex k"]:
    """Return the k nearest vertices of each, itself always among them, in any order; no gradient flows.

    Around the mean: 20 units off-centre, float32 gave another set to half the vertices of a deep layer. Among exact ties any may be taken.
    """
    x = mx.stop_gradient(x)
    x = x - mx.mean(x, axis=1, keepdims=True)
    itself = mx.where(mx.eye(x.shape[1], dtype=mx.bool_), -mx.inf, 0.0).astype(x.dtype)
    distances = mx.sum(x * x, axis=-1)[:, None] - 2 * (x @ x.swapaxes(1, 2))
    return mx.argpartition(distances + itself, kth=k - 1, axis=-1)[..., :k]


class Linear(Module):
    """x W^T, in bfloat16 where the model is told so; what comes out has the weight's dtype."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.weight = mx.zeros(shape)
        self._products: mx.Dtype | None = None

    def __call__(self, x: Float[mx.array, "... channel"]) -> Float[mx.array, "... width"]:
        return self.product(x, self.weight)

    def product(self, x: Float[mx.array, "... channel"], weight: Float[mx.array, "width channel"]) -> Float[mx.array, "... width"]:
        """Return x times `weight`, which is made of this layer's, in this layer's precision."""
        dtype = self._products or weight.dtype
        return (x.astype(dtype) @ weight.T.astype(dtype)).astype(weight.dtype)


class BatchNorm(Module):
    """Batch normalisation over all axes but the last; the running variance is unbiased, as PyTorch's."""

    def __init__(self, channels: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = mx.ones(channels), mx.zeros(channels)
        self.running_mean, self.running_var = mx.zeros(channels), mx.ones(channels)
        self._momentum, self._eps = momentum, eps
        self.freeze(keys=["running_mean", "running_var"], recurse=False)

    def __call__(self, x: Float[mx.array, "... channel"]) -> Float[mx.array, "... channel"]:
        if not self.training:
            return self.applied(x, self.running_mean, self.running_var)
        mean = row_mean(x)
        variance = row_mean(mx.square(x - mean))
        self.remember(mean, variance, x.size // x.shape[-1])
        return self.applied(x, mean, variance)

    def applied(self, x: mx.array, mean: Float[mx.array, " channel"], variance: Float[mx.array, " channel"]) -> mx.array:
        return (x - mean) * (mx.rsqrt(variance + self._eps) * self.weight) + self.bias

    def remember(self, mean: Float[mx.array, " channel"], variance: Float[mx.array, " channel"], count: int) -> None:
        """Move the running statistics towards a batch's.

        Args:
            variance: Biased.
            count: Rows of the batch.

        Raises:
            ExperimentError: One row has no variance.
        """
        if count < 2:
            raise ExperimentError("Batch normalisation has one mesh to train on", expected="at least 2 in a batch", do="raise batch_size")
        keep, unbiased = 1 - self._momentum, variance * (count / (count - 1))
        self.running_mean = keep * self.running_mean + self._momentum * mx.stop_gradient(mean)
        self.running_var = keep * self.running_var + self._momentum * mx.stop_gradient(unbiased)


class EdgeConv(Module):
    """max_j LeakyReLU(BatchNorm(W [x_j - x_i; x_i])) without a tensor of edge features.

    With W = [A, B] an edge is u_i + v_j, where u = (B - A) x and v = A x: one product a vertex, not one an edge. What follows is monotone
    in each channel, so the largest v_j (the least where the scale is negative) is taken first, and BatchNorm's moments over the edges come
    from each vertex's mean of v_j and of v_j^2. Only v_j itself is ever as large as the edges. Never in bfloat16: u and v are large where
    their sum is small.

    Source: Wang et al., Dynamic Graph CNN for Learning on Point Clouds (ACM TOG 2019), section 3 and equation 8.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.linear = Linear(shape)
        self.norm = BatchNorm(shape[0])

    def __call__(
        self, x: Float[mx.array, "batch vertex channel"], neighbors: Int[mx.array, "batch vertex k"]
    ) -> Float[mx.array, "batch vertex width"]:
        nearby, own = mx.split(self.linear.weight, 2, axis=1)
        u, v = x @ (own - nearby).T, x @ nearby.T
        sign = mx.stop_gradient(mx.where(self.norm.weight < 0, -1.0, 1.0).astype(v.dtype))
        if not self.training:
            farthest = sign * mx.max(rows(sign * v, neighbors), axis=2)
            return leaky_relu(self.norm.applied(u + farthest, self.norm.running_mean, self.norm.running_var))
        # Moments about the vertices' means, which are near the edges': squares of plain values would cancel in float32.
        u_mean, v_mean = row_mean(u), row_mean(v)
        u, edges = u - u_mean, rows(sign * (v - v_mean), neighbors)
        mean_v, mean_v_squared = sign * mx.mean(edges, axis=2), mx.mean(edges * edges, axis=2)
        shift = row_mean(mean_v)
        # Where u and v cancel on all edges, rounding leaves less than nothing, whose root is no number.
        variance = mx.maximum(row_mean(u * u + 2 * u * mean_v + mean_v_squared) - shift * shift, 0)
        self.norm.remember(u_mean + v_mean + shift, variance, neighbors.size)
        return leaky_relu(self.norm.applied(u + sign * mx.max(edges, axis=2), shift, variance))


class Dense(Module):
    """Linear, BatchNorm, LeakyReLU."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.linear = Linear(shape)
        self.norm = BatchNorm(shape[0])

    def __call__(self, x: Float[mx.array, "... channel"]) -> Float[mx.array, "... width"]:
        return leaky_relu(self.norm(self.linear(x)))


class IdentityNet(Module):
    """A mesh to its embedding and to the logits of the training subjects."""

    def __init__(self, config: MeshIdentity, num_classes: int, seed: int = 0) -> None:
        """Args: seed: of the first weights."""
        super().__init__()
        shapes = linear_shapes(config, num_classes)
        self._config = config
        self.edge = [EdgeConv(shapes[f"edge.{i}.linear.weight"]) for i in range(len(config.layers))]
        self.point = Dense(shapes["point.linear.weight"])
        self.hidden = [Dense(shapes[f"hidden.{i}.linear.weight"]) for i in range(len(config.hidden_widths))]
        self.dropout = Dropout(config.dropout)
        self.embedding = Linear(shapes["embedding.weight"])
        self.neck = BatchNorm(norm_channels(config)["neck"])
        self.classifier = Linear(shapes["classifier.weight"])
        self.load_weights([(name, mx.array(value)) for name, value in initial_weights(config, num_classes, seed).items()])

    def set_products(self, dtype: mx.Dtype) -> None:
        """From now on multiply matrices in `dtype`, but for EdgeConv's; weights, statistics and all else stay as they are."""
        for module in self.modules():
            if isinstance(module, Linear):
                module._products = dtype

    def __call__(self, batch: dict[str, mx.array]) -> Output:
        """Return the unit embedding, the neck (batch, embedding) and the logits (batch, class) without a margin."""
        x = self.point(self._vertices(batch))
        x = mx.concatenate([mx.max(x, axis=1), mx.mean(x, axis=1)], axis=-1)
        for layer in self.hidden:
            x = self.dropout(layer(x))
        z = self.embedding(x)
        neck = self.neck(z)
        return normalized(z), neck, self._logits(neck)

    def _vertices(self, batch: dict[str, mx.array]) -> Float[mx.array, "batch kept channel"]:
        """Return what all EdgeConvs give, side by side, at the vertices of the last level."""
        x = batch["coordinates"]
        if self._config.features == "coordinates_normals":
            x = mx.concatenate([x, batch["normals"]], axis=-1)
        outputs: list[mx.array] = []
        for conv, layer, place in zip(self.edge, self._config.layers, levels(self._config, x.shape[1]), strict=True):
            if place.begins_level:
                pool = batch[f"pool_{place.level}"]
                x, *outputs = [rows(value, pool) for value in (x, *outputs)]
            x = conv(x, _neighbors(batch, x, layer, place))
            outputs.append(x)
        return mx.concatenate(outputs, axis=-1)

    def _logits(self, neck: Float[mx.array, "batch embedding"]) -> Float[mx.array, "batch class"]:
        head = self._config.head
        if isinstance(head, ArcFaceHead):
            return head.scale * self.classifier.product(normalized(neck), normalized(self.classifier.weight))
        return self.classifier(neck)


def _neighbors(batch: dict[str, mx.array], x: mx.array, layer: EdgeLayer, place: LayerLevel) -> Int[mx.array, "batch vertex k"]:
    return nearest(x, place.k) if layer.graph == "dynamic" else batch[f"{layer.graph}_{place.level}"]
