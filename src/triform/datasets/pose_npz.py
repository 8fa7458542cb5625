"""A folder of .npz files of joints, at any depth, one sequence a file. Licence is that of your files.

`joints_3d_mm` (frames, joints, 3) in the world, in millimetres, and `skeleton`, the name of their order (`h36m_17`, `mpi_28`, `mpi_17`,
`coco_17`, `halpe_26`); if known `frame_rate` (else 50), `subject` (else the folder) and `action` (else the file's name without its last
number). Virtual cameras film them, unless the file has 2D of its own: `joints_2d_px` (frames, joints, 2), `confidence` (frames, joints;
0 where nothing was seen), `size_px` (width, height), and the camera: `focal_px` (2), `center_px` (2), `rotation` (3, 3),
`translation_mm` (3), with X_camera = rotation @ X_world + translation, and if known `radial` (k1, k2, k3) and `tangential` (p1, p2).
2D alone is a sequence without labels.
"""

from typing import TYPE_CHECKING, Literal

from triform.data.poses.config import WorldPoses
from triform.settings import settings

if TYPE_CHECKING:
    from triform.data.poses.raw_poses import RawPoses


@settings
class PoseNpz(WorldPoses):
    """Any folder of .npz with `joints_3d_mm` and `skeleton`, one sequence a file. Licence is that of your files."""

    kind: Literal["pose_npz"] = "pose_npz"

    def raw_poses(self) -> "RawPoses":
        """List the files. Raises: DataError: the folder is missing or empty, or a file is not as its format says."""
        from triform.data.poses.npz_folder import list_npz_folder

        filmed = f"{self.virtual_cameras} virtual cameras with imitated detector errors x {self.detection_noise:g}"
        protocol = f"2D: the files' own, else {filmed}; no clip is left out; mean over actions"
        return list_npz_folder(self.raw_folder(), up_axis=self.up_axis, protocol=protocol)
