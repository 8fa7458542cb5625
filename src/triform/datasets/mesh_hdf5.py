"""Meshes in HDF5 files with their splits in JSON: a `{split}_data.h5` beside a `{split}_metadata.json`, for train, val and test.

`{split}_metadata.json`: `{"samples": [{"subject_id": "subject_0001", "mesh_id": "mesh_000001", "label": 0}]}`, one label a subject.
`{split}_data.h5`: a group `subject_0001/mesh_000001` a mesh with `coordinates` and, if known, `normals`, both (num_vertices, 3) of float32
or float64, and `faces` (num_faces, 3); `faces` that all share, and `mirror` (which vertex mirrors which), may lie at the root instead.
"""

from typing import Literal

from triform.data.meshes.config import MeshSettings
from triform.settings import settings


@settings
class MeshHdf5(MeshSettings):
    """A folder of `{train,val,test}_metadata.json` and `{split}_data.h5`. Licence and units are those of your files."""

    kind: Literal["mesh_hdf5"] = "mesh_hdf5"
