"""Settings of the point-cloud autoencoder."""

from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Interval, MinLen
from pydantic import Field

from triform.settings import settings

if TYPE_CHECKING:
    from triform.tasks.point_autoencoder.task import PointAutoencoderTask

Positive = Annotated[int, Gt(0)]


@settings
class AbstractionLevel:
    """One set-abstraction level of single-scale grouping (PointNet++, section 3.2)."""

    num_centers: Positive
    """Centres kept by farthest point sampling (points)."""
    radius: Annotated[float, Gt(0)]
    """Ball radius, in units of the unit sphere."""
    num_neighbors: Positive
    """Neighbours grouped around a centre (points)."""
    widths: Annotated[tuple[Positive, ...], MinLen(1)]
    """Channels after each layer of the shared network."""


@settings
class Scale:
    """One of the radii of a multi-scale level."""

    radius: Annotated[float, Gt(0)]
    """Ball radius, in units of the unit sphere."""
    num_neighbors: Positive
    """Neighbours grouped around a centre (points)."""
    widths: Annotated[tuple[Positive, ...], MinLen(1)]
    """Channels after each layer of the shared network."""


@settings
class MultiScaleLevel:
    """One set-abstraction level of multi-scale grouping (PointNet++, section 3.3)."""

    num_centers: Positive
    """Centres kept by farthest point sampling (points)."""
    scales: Annotated[tuple[Scale, ...], MinLen(1)]
    """The radii, grouped side by side and concatenated."""


@settings
class SingleScaleEncoder:
    """PointNet++ with single-scale grouping."""

    kind: Literal["pointnet2_ssg"] = "pointnet2_ssg"
    levels: tuple[AbstractionLevel, ...] = (
        AbstractionLevel(num_centers=512, radius=0.2, num_neighbors=32, widths=(64, 64, 128)),
        AbstractionLevel(num_centers=128, radius=0.4, num_neighbors=64, widths=(128, 128, 256)),
    )
    """Levels from fine to coarse."""
    global_widths: Annotated[tuple[Positive, ...], MinLen(1)] = (256, 512, 1024)
    """Channels of the last level, which groups all that is left."""


@settings
class MultiScaleEncoder:
    """PointNet++ with multi-scale grouping."""

    kind: Literal["pointnet2_msg"] = "pointnet2_msg"
    levels: tuple[MultiScaleLevel, ...] = (
        MultiScaleLevel(
            num_centers=1024,
            scales=(Scale(radius=0.1, num_neighbors=16, widths=(32, 32, 64)), Scale(radius=0.2, num_neighbors=32, widths=(64, 64, 128))),
        ),
        MultiScaleLevel(
            num_centers=256,
            scales=(Scale(radius=0.2, num_neighbors=32, widths=(64, 64, 128)), Scale(radius=0.4, num_neighbors=64, widths=(128, 128, 256))),
        ),
        MultiScaleLevel(
            num_centers=64,
            scales=(
                Scale(radius=0.4, num_neighbors=64, widths=(128, 128, 256)),
                Scale(radius=0.8, num_neighbors=128, widths=(256, 256, 512)),
            ),
        ),
    )
    """Levels from fine to coarse."""
    global_widths: Annotated[tuple[Positive, ...], MinLen(1)] = (768, 512)
    """Channels of the last level, which groups all that is left."""


@settings
class MlpDecoder:
    """Fully connected layers from the latent to all points at once (Achlioptas et al., ICML 2018)."""

    kind: Literal["mlp"] = "mlp"
    widths: tuple[Positive, ...] = (512, 1024)
    """Hidden channels."""


@settings
class FoldingDecoder:
    """A square grid folded twice around the latent (FoldingNet, CVPR 2018)."""

    kind: Literal["folding"] = "folding"
    grid_size: Positive = 45
    """Grid points along a side; 45 gives 2025 points."""
    widths: Annotated[tuple[Positive, ...], MinLen(1)] = (512, 512)
    """Hidden channels of each fold."""


@settings
class Augmentation:
    """Random changes of a training cloud, each keyed by (seed, epoch, sample)."""

    rotate_up: bool = True
    """Rotate about the up axis by any angle."""
    scale_range: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (1.0, 1.0)
    """Smallest and largest factor of size."""
    jitter_std: Annotated[float, Ge(0)] = 0.0
    """Standard deviation of noise on each coordinate, in units of the unit sphere."""


@settings
class PointAutoencoder:
    """Compress a cloud to one latent vector and draw it again."""

    kind: Literal["point_autoencoder"] = "point_autoencoder"
    latent_dim: Positive = 128
    """Numbers in the latent vector."""
    encoder: Annotated[SingleScaleEncoder | MultiScaleEncoder, Field(discriminator="kind")] = field(default_factory=SingleScaleEncoder)
    """From points to the latent."""
    decoder: Annotated[MlpDecoder | FoldingDecoder, Field(discriminator="kind")] = field(default_factory=MlpDecoder)
    """From the latent to points."""
    loss: Literal["cd_l2", "cd_squared"] = "cd_l2"
    """Chamfer distance that is minimised: sum of the two directed means, of distances or of squared distances."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the decoder's hidden units left out in training."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random changes of training clouds."""

    def build(self) -> "PointAutoencoderTask":
        from triform.tasks.point_autoencoder.task import PointAutoencoderTask

        return PointAutoencoderTask(self)
