"""A folder of mesh files of one topology, a folder a subject."""

from typing import Annotated, Literal

from annotated_types import Interval

from triform.data.meshes.config import MeshSettings
from triform.settings import settings


@settings
class MeshFiles(MeshSettings):
    """`subject/mesh.ext`, OBJ, PLY, STL or GLB (extra `mesh`). Licence and units are those of your files."""

    kind: Literal["mesh_files"] = "mesh_files"
    val_fraction: Annotated[float, Interval(gt=0, lt=0.5)] = 0.2
    """Share of the subjects (open_set) or of each subject's meshes (closed_set) that chooses the best model."""
    test_fraction: Annotated[float, Interval(gt=0, lt=0.5)] = 0.2
    """Share of the subjects or of each subject's meshes that is kept for the last evaluation."""
