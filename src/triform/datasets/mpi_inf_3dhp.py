"""MPI-INF-3DHP as it is published, without its videos: eight people filmed by 14 cameras, six more for the test.

Licence: the data set's own, for research alone. Units: millimetres in the camera's frame, pixels. 25 or 50 frames a second.
Raw layout: `S1` to `S8`, each with `Seq1/annot.mat` and `Seq2/annot.mat` (MATLAB 5; cells by camera of annot2, annot3 and univ_annot3,
28 joints), and `TS1` to `TS6` with `annot_data.mat` (MATLAB 7.3; 17 joints and valid_frame), beside them, in `test` or in
`mpi_inf_3dhp_test_set`. Eight cameras are used. The files hold no calibration that is needed: focal lengths and centres follow from 2D
and 3D, by least squares, and what doesn't fit within a pixel is refused. Split: TS1 to TS6 are tested, on their valid frames.

Source: Mehta et al., "Monocular 3D human pose estimation in the wild using improved CNN supervision", 3DV 2017.
"""

from typing import TYPE_CHECKING, Literal

from triform.data.poses.config import PoseSettings
from triform.settings import settings

if TYPE_CHECKING:
    from triform.data.poses.raw_poses import RawPoses


@settings
class MpiInf3dhp(PoseSettings):
    """MPI-INF-3DHP in its own MATLAB files."""

    kind: Literal["mpi_inf_3dhp"] = "mpi_inf_3dhp"
    universal: bool = True
    """Take the 3D that is scaled to one stature (univ_annot3), as published numbers do, rather than annot3."""
    partial: bool = False
    """Go on where sequences, or frames at their ends, are missing."""

    def raw_poses(self) -> "RawPoses":
        """List the files. Raises: DataError: one is missing."""
        from triform.data.poses.mpi_annotations import list_mpi_annotations

        return list_mpi_annotations(self.raw_folder(), universal=self.universal, partial=self.partial)
