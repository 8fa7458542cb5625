"""Human3.6M as VideoPose3D prepares it: `data_3d_h36m.npz` and `data_2d_h36m_<detections>.npz` in one folder.

Licence: Human3.6M's own, for research alone. Units: metres in the world, pixels. 50 frames a second. Up: z.
Raw layout: `positions_3d[subject][take]` (frame, 32, 3) and `positions_2d[subject][take]`, a list of the cameras 54138969, 55011271,
58860488 and 60457274, each (frame, 17, 2), maybe with a third number, the confidence. The files hold no cameras; their calibration is
`data/poses/h36m_cameras.json`. Split: S9 and S11 are tested.

Source: Ionescu et al., "Human3.6M", TPAMI 2014; Pavllo et al., "3D human pose estimation in video", CVPR 2019.
"""

from typing import TYPE_CHECKING, Literal

from triform.data.poses.config import PoseSettings
from triform.settings import settings

if TYPE_CHECKING:
    from triform.data.poses.raw_poses import RawPoses


@settings
class H36mVideoPose3D(PoseSettings):
    """Human3.6M in VideoPose3D's two npz files."""

    kind: Literal["h36m_videopose3d"] = "h36m_videopose3d"
    detections: Literal["gt", "cpn_ft_h36m_dbb", "detectron_ft_h36m"] = "cpn_ft_h36m_dbb"
    """Which 2D: the end of the file's name. gt: the projections themselves."""
    unlabelled: bool = False
    """Take in subjects with 2D alone (S2, S3, S4), for pretraining; without their takes of `test_actions`."""
    test_subjects: tuple[str, ...] = ("S9", "S11")
    """Subjects kept for the last evaluation."""

    def raw_poses(self) -> "RawPoses":
        """Read both files. Raises: DataError: one is missing or is not as its format says."""
        from triform.data.poses.videopose3d import list_videopose3d

        return list_videopose3d(
            self.raw_folder(),
            detections=self.detections,
            unlabelled=self.unlabelled,
            test_subjects=self.test_subjects,
            test_actions=self.test_actions,
        )
