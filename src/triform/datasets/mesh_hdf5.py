"""Meshes in HDF5 files with their splits in JSON: a `{split}_data.h5` beside a `{split}_metadata.json`."""

from typing import Literal

from triform.data.meshes.config import MeshSettings
from triform.settings import settings


@settings
class MeshHdf5(MeshSettings):
    """A folder of `{train,val,test}_metadata.json` and `{split}_data.h5`. Licence and units are those of your files."""

    kind: Literal["mesh_hdf5"] = "mesh_hdf5"
