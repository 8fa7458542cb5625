"""Lift somebody's 2D key points with a finished run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from triform.data.poses.key_points import KeyPoints, read_key_points, write_prediction
from triform.data.poses.stature import LEG_SHARE, leg_length_mm
from triform.errors import UsageError
from triform.experiment import Experiment
from triform.geometry.bvh_writer import upright, write_bvh
from triform.geometry.camera import normalise
from triform.geometry.skeletons import H36M_17
from triform.pipeline.evaluate import open_model
from triform.pipeline.local import experiment_of
from triform.run.folder import RunFolder
from triform.tasks.human_pose.config import PoseLifting

TYPICAL_STATURE_MM = 1700.0
"""Of a person whose size the run's unit does not tell."""


Joints = Float32[np.ndarray, "frame 17 3"]


@dataclass(frozen=True)
class Lifted:
    """What was lifted, and where it lies."""

    joints_3d_mm: Joints
    """Relative to the root, in the camera's frame."""
    files: tuple[Path, ...]


def predict(
    folder: RunFolder,
    file: Path,
    *,
    output: Path | None,
    skeleton: str | None,
    size_px: tuple[int, int] | None,
    frame_rate: float | None,
    flip: bool,
    animation: Path | None,
    say: Callable[[str], None],
) -> Lifted:
    """Write `<output>.npz` and `<output>.bvh`, and a moving picture where one is asked for.

    Args:
        file: .npz or .json, see `data.poses.key_points`.
        output: without suffix (None: beside the file, named `<file>.lifted`).
        skeleton: of the key points, where the file does not say.
        size_px: width and height of the image, where the file does not say.
        frame_rate: frames a second, where the file does not say.
        flip: average with the mirror image's prediction.
    Raises: UsageError: the run is not finished or lifts nothing. DataError: the file is not as its format says.
    """
    result, experiment = folder.result(), experiment_of(folder)
    if result is None or not isinstance(experiment.task, PoseLifting):
        what = "is not finished" if result is None else f"is a run of {experiment.task.kind}"
        raise UsageError(f"{folder.path} {what}", expected="a finished run of pose_lifting", do="train one, or name another")
    keys = read_key_points(file, skeleton=skeleton, size_px=size_px, frame_rate=frame_rate)
    for note in keys.notes:
        say(note)
    lifted = _lift(folder, experiment, keys, flip=flip, say=say)
    stem = output or file.with_name(f"{file.stem}.lifted")
    packed, bvh = stem.with_name(f"{stem.name}.npz"), stem.with_name(f"{stem.name}.bvh")
    write_prediction(packed, lifted, key_points=keys, model_digest=result["state_digest"])
    write_bvh(bvh, upright(lifted), frame_rate=keys.frame_rate)
    if animation is not None:
        _animate(animation, keys, lifted)
    return Lifted(lifted, (packed, bvh, *([animation] if animation else [])))


def _lift(folder: RunFolder, experiment: Experiment, keys: KeyPoints, *, flip: bool, say: Callable[[str], None]) -> Joints:
    from triform.tasks.human_pose.inference import lift

    data: Any = experiment.data
    backend = open_model(folder, experiment, {"num_frames": data.num_frames, "num_joints": len(H36M_17.joints)}, say)
    units = lift(
        backend.predict,
        np.concatenate([normalise(keys.joints_2d_px, keys.size_px), keys.shown_confidence[..., None]], -1, dtype=np.float32),
        num_frames=data.num_frames,
        frame_stride=data.frame_stride,
        batch_size=experiment.training.batch_size,
        flip=flip,
    )
    backend.close()
    if data.kind != "h36m_motionbert":
        return units * np.float32(1000)
    say(f"the run's unit is that of its images: the person is scaled to a stature of {TYPICAL_STATURE_MM / 1000:g} m")
    return units * np.float32(LEG_SHARE * TYPICAL_STATURE_MM / leg_length_mm(units))


def _animate(path: Path, keys: KeyPoints, lifted: Joints) -> None:
    from triform.report.animation import animate
    from triform.report.panels import PoseClip, PoseClips

    plane = normalise(keys.joints_2d_px, keys.size_px).astype(np.float32)
    clip = PoseClip(path.stem, f"{len(lifted)} frames", None, lifted, plane, None, keys.frame_rate)
    animate(path, PoseClips("Lifted", (clip,), H36M_17.parents, H36M_17.left, H36M_17.right, "mm", (0.0, -1.0, 0.0)))
