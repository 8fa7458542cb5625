"""Which vertices and how many neighbours each layer of a DT-GCNN works on. Known from the settings alone, before there is a batch."""

from dataclasses import dataclass

from triform.errors import ExperimentError
from triform.tasks.mesh_identity.config import MeshIdentity


@dataclass(frozen=True, slots=True)
class LayerLevel:
    """Where one EdgeConv works."""

    level: int
    """0 is all vertices; each pooling begins the next."""
    num_vertices: int
    """Vertices of the level."""
    begins_level: bool
    """Whether the vertices are pooled before this layer."""
    k: int
    """Neighbours of a vertex, itself among them: the settings' k, or all vertices where they are fewer."""


def levels(config: MeshIdentity, num_vertices: int) -> list[LayerLevel]:
    """Return the level of each layer, in the order of `config.layers`.

    A layer begins the next level where 0 < keep_vertices < the vertices that are present; otherwise it stays.

    Args:
        num_vertices: Vertices of the prepared meshes, at least 1.

    Raises:
        ExperimentError: A layer wants the mesh's graph on a pooled level, which has no edges.
    """
    found: list[LayerLevel] = []
    level, present = 0, num_vertices
    for layer in config.layers:
        begins = 0 < layer.keep_vertices < present
        if begins:
            level, present = level + 1, layer.keep_vertices
        if level > 0 and layer.graph == "mesh":
            raise ExperimentError(
                f"Layer {len(found)} wants the mesh's edges, but only {present} of the {num_vertices} vertices are left there",
                expected="graph mesh only before the first keep_vertices",
                do="set its graph to spatial or dynamic",
            )
        found.append(LayerLevel(level, present, begins, min(config.k, present)))
    return found
