"""Any folder or zip archive of .ply files, one plant (or other object) a file."""

from typing import Literal

from triform.data.config import CloudSettings
from triform.settings import settings


@settings
class PlyClouds(CloudSettings):
    """One cloud a .ply file, at any depth, in a folder or a zip archive. Licence and units are those of your files."""

    kind: Literal["ply_clouds"] = "ply_clouds"
