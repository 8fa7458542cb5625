"""3D from 2D alone: the pose on which all cameras of a moment agree, wherever they stand.

Source: Kocabas, Karagoz and Akbas, "Self-Supervised Learning of 3D Human Pose using Multi-view Geometry" (CVPR 2019), which learns from
what other cameras saw without knowing where these are; here shape and cameras come from factorization instead of pairs' epipolar geometry.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Float64

from triform.data.poses.manifest import TrackRecord
from triform.data.poses.poses import Frames, Poses
from triform.data.poses.stature import LEG_SHARE, leg_length_mm
from triform.errors import DataError
from triform.geometry.camera import Camera, denormalise
from triform.geometry.factorization import Points, shape_and_motion
from triform.geometry.skeletons import H36M_17
from triform.tasks.human_pose.config import LEAST_VIEWS

_WORST_RESIDUAL = 0.2
"""Of the person's size: beyond it the cameras agree on nothing."""


def agreed_frames(poses: Poses, track: int, places: Float64[np.ndarray, " frame"], *, stature_m: float) -> Frames:
    """A track's frames with the 3D that follows from the 2D of all cameras of its sequence; no given 3D is read, nor any camera's place.

    It counts in frames that every camera saw whole, and in none where no shape explains what they saw. The root is in the origin.

    Args:
        places: From 0 to the track's last frame; in between, frames are interpolated.
        stature_m: Pictures tell no size; thigh and shank together become LEG_SHARE of this.

    Raises: DataError: fewer than LEAST_VIEWS cameras saw the sequence, or of one the intrinsics are not known.
    """
    views = poses.views(track)
    _refuse([poses.tracks[view] for view in views])
    seen = {view: poses.at(view, np.minimum(places, poses.tracks[view].num_frames - 1)) for view in views}
    whole = np.all([frames.confidence > 0 for frames in seen.values()], axis=(0, 2))
    joints_mm, valid = np.zeros((len(places), 17, 3), np.float32), np.zeros(len(places), np.bool_)
    if whole.any():
        plane = np.stack([_plane(frames.joints_2d[whole], poses.tracks[view]) for view, frames in seen.items()])
        if (found := _agreed(plane, views.index(track))) is not None:
            factor = LEG_SHARE * stature_m * 1000 / leg_length_mm(found)
            joints_mm[whole], valid[whole] = found * factor, True
    return replace(seen[track], joints_3d_mm=joints_mm, valid=valid)


def _refuse(views: list[TrackRecord]) -> None:
    if len(views) < LEAST_VIEWS:
        raise DataError(
            f"{views[0].sequence} was seen by {len(views)} camera{'s' if len(views) > 1 else ''}",
            expected=f"{LEAST_VIEWS} at least, for objective multi_view",
            do="give data of more cameras (data.virtual_cameras where none filmed), or another objective",
        )
    for record in views:
        if record.camera is None:
            raise DataError(
                f"{record.name} has no camera", expected="intrinsics, for objective multi_view", do="give them, or choose another objective"
            )


def _plane(joints_2d: Float32[np.ndarray, "frame 17 2"], record: TrackRecord) -> Float64[np.ndarray, "frame 17 2"]:
    """Places at depth 1, but for the lens's distortion."""
    assert record.camera is not None, "it was looked for"
    camera = Camera.from_tree(record.camera)
    pixels = denormalise(joints_2d.astype(np.float64), record.size_px)
    plane: Float64[np.ndarray, "frame 17 2"] = (pixels - camera.center_px) / camera.focal_px
    return plane


def _agreed(plane: Float64[np.ndarray, "view frame 17 2"], view: int) -> Points | None:
    """Root-relative, in one camera's axes, in no unit."""
    try:
        with np.errstate(all="ignore"):
            found = shape_and_motion(plane, H36M_17.bones)
    except np.linalg.LinAlgError:
        return None
    points = found.seen_from(view)
    if not (np.isfinite(points).all() and found.residual < _WORST_RESIDUAL):
        return None
    relative: Points = points - points[:, H36M_17.root, None]
    return relative
