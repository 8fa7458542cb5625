"""Human3.6M as MotionBERT prepares it: one pickle with Stacked Hourglass detections and their confidence.

Licence: Human3.6M's own, for research alone. Units: pixels; labels are 2.5D, pixels times a factor for each frame that makes them
millimetres. 50 frames a second.
Raw layout: a dict of train and test, each with `joint_2d` (frame, 17, 2), `confidence`, `joints_2.5d_image` (frame, 17, 3),
`2.5d_factor`, `camera_name` and `source` ("s_09_act_05_subact_02_ca_01"). The pickle is read without running what it says.
Three takes of S9 whose joints are known to be wrong are left out, as MotionBERT leaves them: numbers with and without differ.

Source: Ionescu et al., "Human3.6M", TPAMI 2014; Zhu et al., "MotionBERT", ICCV 2023.
"""

from typing import TYPE_CHECKING, Literal

from triform.data.poses.config import PoseSettings
from triform.settings import settings

if TYPE_CHECKING:
    from triform.data.poses.raw_poses import RawPoses


@settings
class H36mMotionBert(PoseSettings):
    """Human3.6M in MotionBERT's pickle, which says itself what is tested."""

    kind: Literal["h36m_motionbert"] = "h36m_motionbert"
    file: str = "h36m_sh_conf_cam_source_final.pkl"
    """The pickle inside `data_dir`."""
    skip_corrupted: bool = True
    """Leave out S9's Greeting 2, SittingDown 2 and Waiting 1."""

    def raw_poses(self) -> "RawPoses":
        """Read the pickle. Raises: DataError: it is missing or is not as its format says."""
        from triform.data.poses.motionbert import list_motionbert

        return list_motionbert(self.raw_folder(), file=self.file, skip_corrupted=self.skip_corrupted)
