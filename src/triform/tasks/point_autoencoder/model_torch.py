"""PointNet++ encoders, and the decoders that draw a cloud from a latent vector. Features are (batch, point, channel)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.profiler import record_function

from triform.kernels.ball_query_torch import ball_query
from triform.kernels.farthest_point_sample_torch import farthest_point_sample
from triform.kernels.gather_torch import gather_points
from triform.kernels.linear_torch import Linear
from triform.kernels.set_abstraction_torch import LayerMoments, set_abstraction
from triform.tasks.point_autoencoder.config import (
    AbstractionLevel,
    FoldingDecoder,
    MlpDecoder,
    MultiScaleEncoder,
    MultiScaleLevel,
    PointAutoencoder,
    Scale,
    SingleScaleEncoder,
)


class SharedMlp(nn.Module):
    """Pointwise linear, BatchNorm, ReLU, for each width, over all neighbours of a centre; then the largest of each channel.

    The modules hold the parameters and the running statistics; `set_abstraction` does the work. `first_linear=False` leaves the first
    linear map to the caller, as the state dict has it.
    """

    def __init__(self, channels: int, widths: Sequence[int], *, first_linear: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (before, width) in enumerate(pairwise((channels, *widths))):
            if number:
                layers.append(nn.ReLU(inplace=True))
            if number or first_linear:
                layers.append(nn.Conv1d(before, width, 1, bias=False))
            layers.append(nn.BatchNorm1d(width))
        self.layers = nn.Sequential(*layers)

    def forward(
        self,
        points: Float[Tensor, "batch point 3"],
        features: Float[Tensor, "batch point channel"] | None,
        centers: Float[Tensor, "batch center 3"],
        neighbors: Int[Tensor, "batch center neighbor"],
        first: nn.Conv1d | None = None,
    ) -> Float[Tensor, "batch center width"]:
        norms = [layer for layer in self.layers if isinstance(layer, nn.BatchNorm1d)]
        linear = [layer for layer in (first, *self.layers) if isinstance(layer, nn.Conv1d)]
        layers = [(conv.weight[:, :, 0], norm.weight, norm.bias) for conv, norm in zip(linear, norms, strict=True)]
        known = None if self.training else [_running(norm) for norm in norms]
        with record_function("set_abstraction"):
            pooled, moments = set_abstraction(points, features, centers, neighbors, layers, known, eps=norms[0].eps)
        if self.training:
            for norm, found in zip(norms, moments, strict=True):
                _follow(norm, found, neighbors.numel())
        return pooled


def _running(norm: nn.BatchNorm1d) -> LayerMoments:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def _follow(norm: nn.BatchNorm1d, moments: LayerMoments, num_edges: int) -> None:
    """Let the running statistics follow, the variance unbiased, as `nn.BatchNorm1d` has it."""
    mean, var = moments
    assert norm.momentum is not None
    assert norm.num_batches_tracked is not None
    for running, found in zip(_running(norm), (mean, var * (num_edges / (num_edges - 1))), strict=True):
        running.mul_(1 - norm.momentum).add_(found.to(running.dtype), alpha=norm.momentum)
    norm.num_batches_tracked.add_(1)


class BallGroup(nn.Module):
    """One radius of a set abstraction: group neighbours around centres, shared MLP, max over neighbours.

    Source: PointNet++ (Qi et al., NeurIPS 2017), section 3.2.
    """

    def __init__(self, channels: int, scale: Scale | AbstractionLevel) -> None:
        super().__init__()
        self.radius, self.num_neighbors = scale.radius, scale.num_neighbors
        self.first = nn.Conv1d(3 + channels, scale.widths[0], 1, bias=False)
        self.shared = SharedMlp(scale.widths[0], scale.widths, first_linear=False)

    def forward(
        self,
        points: Float[Tensor, "batch point 3"],
        features: Float[Tensor, "batch point channel"] | None,
        centers: Float[Tensor, "batch center 3"],
    ) -> Float[Tensor, "batch center width"]:
        with record_function("ball_query"):
            neighbors = ball_query(points, centers, radius=self.radius, num_neighbors=self.num_neighbors)
        pooled: Tensor = self.shared(points, features, centers, neighbors, self.first)
        return pooled


class SetAbstraction(nn.Module):
    """Farthest point sampling, then one or more balls side by side: single-scale or multi-scale grouping (sections 3.2 and 3.3)."""

    def __init__(self, channels: int, level: AbstractionLevel | MultiScaleLevel) -> None:
        super().__init__()
        scales = level.scales if isinstance(level, MultiScaleLevel) else (level,)
        self.num_centers = level.num_centers
        self.groups = nn.ModuleList(BallGroup(channels, scale) for scale in scales)
        self.width = sum(scale.widths[-1] for scale in scales)

    def forward(
        self, points: Float[Tensor, "batch point 3"], features: Float[Tensor, "batch point channel"] | None
    ) -> tuple[Float[Tensor, "batch center 3"], Float[Tensor, "batch center width"]]:
        with record_function("farthest_point_sample"):
            centers = gather_points(points, farthest_point_sample(points, self.num_centers))
        return centers, torch.cat([group(points, features, centers) for group in self.groups], dim=2)


class Encoder(nn.Module):
    """PointNet++: set abstractions, a last level that groups all that is left, and a linear map to the latent.

    The order of the points matters only where farthest point sampling or the first K neighbours meet a tie or a full ball.
    """

    def __init__(self, config: SingleScaleEncoder | MultiScaleEncoder, latent_dim: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        channels = 0
        for level in config.levels:
            abstraction = SetAbstraction(channels, level)
            self.levels.append(abstraction)
            channels = abstraction.width
        self.shared = SharedMlp(3 + channels, config.global_widths)
        self.latent = nn.Linear(config.global_widths[-1], latent_dim)

    def forward(self, points: Float[Tensor, "batch point 3"]) -> Float[Tensor, "batch latent"]:
        features: Tensor | None = None
        for level in self.levels:
            points, features = level(points, features)
        everywhere = torch.arange(points.shape[1], device=points.device).expand(len(points), 1, -1)
        pooled = self.shared(points, features, points.new_zeros(len(points), 1, 3), everywhere)
        latent: Tensor = self.latent(pooled[:, 0])
        return latent


class MlpDrawing(nn.Module):
    """Linear layers with ReLU and no BatchNorm, from the latent to all coordinates (Achlioptas et al., ICML 2018, section 4)."""

    def __init__(self, config: MlpDecoder, latent_dim: int, num_points: int, *, dropout: float) -> None:
        super().__init__()
        self.hidden = _perceptron((latent_dim, *config.widths), dropout)
        self.out = Linear((latent_dim, *config.widths)[-1], 3 * num_points)

    def forward(self, latent: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch point 3"]:
        drawn: Tensor = self.out(self.hidden(latent)).unflatten(1, (-1, 3))
        return drawn


class Fold(nn.Module):
    """A perceptron of (latent, place) for each place. Its first layer is W_z z + W_p p: the latent's share is computed once."""

    def __init__(self, latent_dim: int, place_dim: int, widths: Sequence[int], *, dropout: float) -> None:
        super().__init__()
        self.code = nn.Linear(latent_dim, widths[0])
        self.place = Linear(place_dim, widths[0], bias=False)
        self.hidden = _perceptron(widths, dropout)
        self.out = Linear(widths[-1], 3)

    def forward(self, latent: Float[Tensor, "batch latent"], places: Float[Tensor, "#batch point place"]) -> Float[Tensor, "batch point 3"]:
        folded: Tensor = self.out(self.hidden((self.code(latent)[:, None] + self.place(places)).relu()))
        return folded


class FoldingDrawing(nn.Module):
    """A square grid folded into space, and the result folded again (FoldingNet, Yang et al., CVPR 2018, section 3.2).

    It draws grid_size^2 points, whatever the input has. Our grid spans [-1, 1], the size of the unit sphere.
    """

    grid: Tensor

    def __init__(self, config: FoldingDecoder, latent_dim: int, *, dropout: float) -> None:
        super().__init__()
        side = torch.linspace(-1, 1, config.grid_size)
        self.register_buffer("grid", torch.cartesian_prod(side, side)[None], persistent=False)
        self.first = Fold(latent_dim, 2, config.widths, dropout=dropout)
        self.second = Fold(latent_dim, 3, config.widths, dropout=dropout)

    def forward(self, latent: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch point 3"]:
        folded: Tensor = self.second(latent, self.first(latent, self.grid))
        return folded


def _perceptron(widths: Sequence[int], dropout: float) -> nn.Sequential:
    layers = (nn.Sequential(Linear(before, width), nn.ReLU(), nn.Dropout(dropout)) for before, width in pairwise(widths))
    return nn.Sequential(*layers)


class AutoencoderNet(nn.Module):
    """Cloud to latent to cloud. Parameters are drawn from torch's present seed."""

    def __init__(self, config: PointAutoencoder, num_points: int) -> None:
        super().__init__()
        self.encoder = Encoder(config.encoder, config.latent_dim)
        self.decoder: nn.Module
        if isinstance(config.decoder, FoldingDecoder):
            self.decoder = FoldingDrawing(config.decoder, config.latent_dim, dropout=config.dropout)
        else:
            self.decoder = MlpDrawing(config.decoder, config.latent_dim, num_points, dropout=config.dropout)

    def forward(self, points: Float[Tensor, "batch point 3"]) -> tuple[Float[Tensor, "batch drawn 3"], Float[Tensor, "batch latent"]]:
        """Return the reconstruction and the latent. In training mode BatchNorm needs more than one value a channel."""
        latent = self.encoder(points)
        with record_function("decoder"):
            return self.decoder(latent), latent
