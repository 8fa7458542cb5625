"""A folder of mesh files of one topology, a folder a subject; `mirror.txt` beside the subjects may say which vertex mirrors which."""

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Interval

from triform.data.meshes.config import MeshSettings
from triform.settings import settings

if TYPE_CHECKING:
    from triform.data.meshes.raw_meshes import RawMeshes


@settings
class MeshFiles(MeshSettings):
    """`subject/mesh.ext`, OBJ, PLY, STL or GLB (extra `mesh`). Licence and units are those of your files."""

    kind: Literal["mesh_files"] = "mesh_files"
    val_fraction: Annotated[float, Interval(gt=0, lt=0.5)] = 0.2
    """Share of the subjects (open_set) or of each subject's meshes (closed_set) that chooses the best model."""
    test_fraction: Annotated[float, Interval(gt=0, lt=0.5)] = 0.2
    """Share of the subjects or of each subject's meshes that is kept for the last evaluation."""

    def raw_meshes(self) -> "RawMeshes":
        """List the files and deal them to the splits. Raises: DataError. UsageError: trimesh is not installed."""
        from triform.data.meshes.mesh_folder import list_mesh_files

        return list_mesh_files(
            self.raw_folder(),
            protocol=self.protocol,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            seed=self.split_seed,
        )
