"""MPI-INF-3DHP as P-STMO prepares it: `data_train_3dhp.npz` and `data_test_3dhp.npz` in one folder.

Licence: the data set's own, for research alone. Units: millimetres in the camera's frame, pixels; 25 or 50 frames a second.
Raw layout: `data["S1 Seq1"]`, a pair of views by camera (`data_2d` (frame, 17, 2), `data_3d` (frame, 17, 3)) and frames a second;
`data["TS1"]` with `valid` as well. The order is the test set's own, the pelvis at 14. No cameras are in the files, so 2D can't be compared
with 3D. Split: TS1 to TS6 are tested, on their valid frames.

Source: Mehta et al., 3DV 2017; Shan et al., "P-STMO", ECCV 2022.
"""

from typing import TYPE_CHECKING, Literal

from triform.data.poses.config import PoseSettings
from triform.settings import settings

if TYPE_CHECKING:
    from triform.data.poses.raw_poses import RawPoses


@settings
class MpiInf3dhpNpz(PoseSettings):
    """MPI-INF-3DHP in P-STMO's two npz files."""

    kind: Literal["mpi_inf_3dhp_npz"] = "mpi_inf_3dhp_npz"

    def raw_poses(self) -> "RawPoses":
        """Read both files. Raises: DataError: one is missing or is not as its format says."""
        from triform.data.poses.mpi_npz import list_mpi_npz

        return list_mpi_npz(self.raw_folder())
