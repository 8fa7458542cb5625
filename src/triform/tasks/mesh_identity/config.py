"""Settings of mesh identity: whose mesh it is."""

from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Interval, MinLen
from pydantic import Field

from triform.settings import settings

if TYPE_CHECKING:
    from triform.tasks.mesh_identity.task import MeshIdentityTask

Positive = Annotated[int, Gt(0)]
Share = Annotated[float, Interval(ge=0, lt=1)]
Probability = Annotated[float, Interval(ge=0, le=1)]


@settings
class EdgeLayer:
    """One EdgeConv (DGCNN, section 3): a shared layer over each vertex's edges, then the largest value over its neighbours."""

    width: Positive
    """Channels it gives."""
    graph: Literal["dynamic", "spatial", "mesh"] = "dynamic"
    """Neighbours: the k nearest in the features of the layer before, in space, or along the mesh's own edges."""
    keep_vertices: Annotated[int, Ge(0)] = 0
    """Vertices kept before this layer by farthest point sampling (0: all)."""


@settings
class SoftmaxHead:
    """Classification by softmax and cross-entropy."""

    kind: Literal["softmax"] = "softmax"
    label_smoothing: Share = 0.1
    """Share of each label that is spread over all classes."""


@settings
class ArcFaceHead:
    """Classification by angles with an additive margin (Deng et al., ArcFace, CVPR 2019)."""

    kind: Literal["arcface"] = "arcface"
    label_smoothing: Share = 0.0
    """Share of each label that is spread over all classes."""
    scale: Annotated[float, Gt(0)] = 30.0
    """Factor of the cosines."""
    angle_margin: Annotated[float, Interval(ge=0, lt=1.5)] = 0.5
    """Angle added to that of the right class (radians)."""


@settings
class Triplets:
    """The triplet loss and which triplets it takes (Hermans et al., In Defense of the Triplet Loss, 2017)."""

    mining: Literal["batch_hard", "batch_semi_hard", "batch_all", "random"] = "batch_hard"
    """Triplets of a batch: hardest of each anchor, nearest negative beyond each positive, all that are active, or one drawn."""
    margin: Annotated[float, Ge(0)] = 0.3
    """How much farther a negative must be than a positive; distances between unit vectors, 0 to 2."""
    soft_margin: bool = False
    """log(1 + exp(difference)) in place of the hinge at `margin`."""
    meshes_per_subject: Annotated[int, Ge(2)] = 4
    """Meshes of each subject in a batch; a batch holds batch_size / meshes_per_subject subjects."""


@settings
class MeshAugmentation:
    """Random changes of training meshes, each keyed by (seed, epoch, sample)."""

    rotate: Literal["none", "up", "any"] = "up"
    """Axis of the rotation: none, the up axis, or one drawn."""
    rotate_degrees: Annotated[float, Interval(ge=0, le=180)] = 180.0
    """Largest angle of the rotation to either side."""
    scale_range: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (1.0, 1.0)
    """Smallest and largest factor of size. Size is identity: leave it at 1 unless the scans' size means nothing."""
    jitter_std: Annotated[float, Ge(0)] = 0.0
    """Standard deviation of noise on each coordinate, in the mesh's own unit."""
    mirror_probability: Probability = 0.0
    """Chance that left and right are swapped; the data must know which vertex mirrors which."""
    vertex_dropout: Share = 0.0
    """Share of the vertices that are replaced by a copy of a kept neighbour."""
    edge_dropout: Share = 0.0
    """Share of the edges of spatial and mesh graphs that are replaced by loops."""
    neighbor_dropout: Share = 0.0
    """Share of the vertices that vanish from all neighbourhoods of spatial and mesh graphs."""
    smoothing_probability: Probability = 0.0
    """Chance that every vertex moves halfway to the mean of its neighbours."""
    patch_probability: Probability = 0.0
    """Chance that a patch is removed: its vertices become copies of the nearest one outside."""
    patch_fraction: Annotated[float, Interval(gt=0, lt=0.5)] = 0.1
    """Share of the vertices in a removed patch."""


@settings
class MeshIdentity:
    """Learn whose mesh it is: DT-GCNN, EdgeConvs on graphs that change with the features (Wang et al., DGCNN, ACM TOG 2019)."""

    kind: Literal["mesh_identity"] = "mesh_identity"
    features: Literal["coordinates", "coordinates_normals"] = "coordinates_normals"
    """What a vertex brings: its place, or its place and normal."""
    k: Annotated[int, Interval(ge=2, le=255)] = 20
    """Neighbours of a vertex, itself among them."""
    layers: Annotated[tuple[EdgeLayer, ...], MinLen(1)] = (
        EdgeLayer(width=64, graph="spatial"),
        EdgeLayer(width=64, graph="spatial"),
        EdgeLayer(width=128, graph="dynamic", keep_vertices=512),
        EdgeLayer(width=256, graph="dynamic"),
    )
    """EdgeConvs in their order; what they give is concatenated."""
    point_width: Positive = 512
    """Channels of the layer over the concatenation, before the largest and the mean over all vertices are taken."""
    hidden_widths: tuple[Positive, ...] = (512,)
    """Hidden channels between that and the embedding."""
    embedding_dim: Annotated[int, Ge(2)] = 256
    """Numbers in the embedding, a unit vector."""
    dropout: Share = 0.3
    """Share of the hidden units left out in training."""
    head: Annotated[SoftmaxHead | ArcFaceHead, Field(discriminator="kind")] = field(default_factory=SoftmaxHead)
    """Classification of the training subjects."""
    triplets: Triplets = field(default_factory=Triplets)
    """Distances between embeddings."""
    classification_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of the classification loss."""
    triplet_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of the triplet loss."""
    augmentation: MeshAugmentation = field(default_factory=MeshAugmentation)
    """Random changes of training meshes."""
    gallery_draws: Positive = 10
    """How often an evaluation draws the gallery's mesh of each subject."""

    def build(self) -> "MeshIdentityTask":
        from triform.tasks.mesh_identity.task import MeshIdentityTask

        return MeshIdentityTask(self)
