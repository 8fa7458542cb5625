"""Settings of prepared meshes: what the result depends on, and where things lie."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Interval

from triform.errors import DataError
from triform.settings import settings

if TYPE_CHECKING:
    from triform.data.meshes.raw_meshes import RawMeshes


@settings
class MeshRecipe:
    """All that decides the content of a prepared folder, beside the raw files. Recorded in its manifest."""

    num_vertices: Annotated[int, Ge(0)] = 1723
    """Vertices of a prepared mesh (0: as many as the files have)."""
    protocol: Literal["closed_set", "open_set"] = "open_set"
    """closed_set: other meshes of the training subjects are recognised; open_set: subjects that were never seen are told apart."""
    registered: bool = True
    """Vertex i is the same place on every mesh. If not, each mesh keeps its own random choice and order of its vertices."""
    vertex_indices: str = ""
    """A text or .npy file of the vertices to keep (empty: farthest point sampling on the first mesh)."""
    mirror_indices: str = ""
    """A text or .npy file that says for each raw vertex which one mirrors it (empty: the data's own, where it has one)."""
    split_seed: int = 0
    """Another seed deals subjects or meshes to the splits, and chooses vertices, another way."""
    up_axis: Literal["x", "y", "z"] = "y"
    """The axis that points up."""
    unit: str = "m"
    """Unit of the coordinates."""


@settings
class MeshSettings(MeshRecipe):
    """Where the meshes lie, where the prepared ones go, and how many bad files are tolerable."""

    data_dir: str = ""
    """Folder of the meshes, or a folder that is already prepared."""
    prepared_dir: str = ""
    """Folder of the prepared meshes (empty: beside `data_dir`, named `<data_dir>.prepared-<num_vertices>`)."""
    max_quarantine_fraction: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Share of the meshes that may be unusable before preparation fails."""
    cache_data: bool = False
    """Keep all meshes in memory instead of reading each batch from the file."""

    def raw_folder(self) -> Path:
        """The absolute path of `data_dir`. Raises: DataError where it is empty."""
        if not self.data_dir:
            raise DataError("No data is named", expected="a folder of meshes", do="give --data-dir")
        return Path(os.path.abspath(Path(self.data_dir).expanduser()))  # noqa: PTH100 (resolve() would leave a linked folder's side)

    def prepared_folder(self) -> Path:
        """Where the prepared meshes go. Raises: DataError where neither folder is named."""
        if self.prepared_dir:
            return Path(os.path.abspath(Path(self.prepared_dir).expanduser()))  # noqa: PTH100
        raw = self.raw_folder()
        special = ("" if self.registered else "-unregistered") + ("" if self.protocol == "open_set" else "-closed_set")
        return raw.with_name(f"{raw.name}.prepared-{self.num_vertices or 'all'}{special}")

    def raw_meshes(self) -> "RawMeshes":
        """List the raw meshes, in HDF5 files where the data set says nothing else. Raises: DataError, UsageError."""
        from triform.data.meshes.hdf5_folder import list_hdf5_meshes

        # Scans that nothing registers may have as many vertices as they like, if each keeps the same number.
        return list_hdf5_meshes(self.raw_folder(), same_shape=self.registered or not self.num_vertices)
