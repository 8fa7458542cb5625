"""What a DT-GCNN costs, counted from its settings."""

from itertools import pairwise

from triform.tasks.mesh_identity.config import MeshIdentity
from triform.tasks.mesh_identity.initial import NUM_FEATURES, linear_shapes
from triform.tasks.mesh_identity.levels import levels


def macs(config: MeshIdentity, num_vertices: int, num_classes: int) -> dict[str, int]:
    """Return the multiply-adds of a forward pass for one mesh: "knn", "edge_conv", "point", "head".

    Additions and comparisons alone (the neighbourhoods' sums and maxima), normalisation and activations are not counted.

    - knn: all distances, as if without a grid: vertices^2 x channels for each dynamic layer, vertices^2 x 3 for each level's spatial
      graph; farthest point sampling, vertices x kept x 3.
    - edge_conv: the two products of a vertex, vertices x 2 channels x width (`kernels.edge_conv_torch`).
    - point: vertices of the last level x sum of widths x point_width.
    - head: hidden layers, embedding and classifier, in x out each.

    Args:
        num_vertices: Vertices of the prepared meshes.
        num_classes: Training subjects.
    """
    shapes = linear_shapes(config, num_classes)
    places = levels(config, num_vertices)
    edge_conv = sum(place.num_vertices * _size(shapes[f"edge.{i}.linear.weight"]) for i, place in enumerate(places))
    point = places[-1].num_vertices * _size(shapes["point.linear.weight"])
    head = sum(_size(shape) for name, shape in shapes.items() if not name.startswith(("edge.", "point.")))
    return {"knn": _neighbor_search(config, num_vertices), "edge_conv": edge_conv, "point": point, "head": head}


def _neighbor_search(config: MeshIdentity, num_vertices: int) -> int:
    places = levels(config, num_vertices)
    channels = [NUM_FEATURES[config.features], *(layer.width for layer in config.layers)]
    dynamic = sum(
        place.num_vertices**2 * width
        for layer, place, width in zip(config.layers, places, channels, strict=False)
        if layer.graph == "dynamic"
    )
    spatial = {place.level: place.num_vertices for layer, place in zip(config.layers, places, strict=True) if layer.graph == "spatial"}
    sizes = [num_vertices, *(place.num_vertices for place in places if place.begins_level)]
    return dynamic + sum(3 * size**2 for size in spatial.values()) + sum(3 * before * kept for before, kept in pairwise(sizes))


def _size(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1]
