"""How right the 3D is on which cameras agree without anybody knowing where they stand, beside triangulation by the places they have.

    python tools/cmu_npz.py cmu_train_h36m17_mm_60hz.npz cmu
    python benchmarks/multi_view.py cmu [--quick] [--json]

Clips of 27 frames (every second one) of the training sequences, four virtual cameras, an imitated detector's errors, people of 1.7 m.
Errors are MPJPE (mm) to the truth, root-relative, in each camera's axes, not scaled: what is found has legs of a person of 1.7 m. The
reference is linear triangulation (Hartley and Zisserman, "Multiple View Geometry", section 12.2) from the true cameras. --quick: people
of the generator, few clips.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from triform.data.poses.poses import Poses, load_poses
from triform.data.poses.prepare import prepare
from triform.datasets.pose_npz import PoseNpz
from triform.datasets.synthetic.people import write_people_folder
from triform.geometry.camera import Camera, denormalise
from triform.tasks.human_pose.multi_view import agreed_frames

BOUND_MM = 30.0
"""Above it the 3D would teach less than it does."""


def prepared(data_dir: Path, folder: Path) -> Poses:
    settings = PoseNpz(data_dir=str(data_dir), prepared_dir=str(folder), stature_m=1.7, num_frames=27, frame_stride=2, clip_stride=54)
    prepare(settings, workers=1)
    return load_poses(folder, "train", settings)


def rooted(joints: np.ndarray) -> np.ndarray:
    return joints - joints[:, :1]


def triangulated(poses: Poses, track: int, places: np.ndarray) -> np.ndarray:
    """In the camera's axes; least squares of x (r3 X + t3) = r1 X + t1 and of y likewise, over all cameras."""
    rows, values = [], []
    for view in poses.views(track):
        camera = Camera.from_tree(poses.tracks[view].camera)
        pixels = denormalise(poses.at(view, places).joints_2d.astype(np.float64), camera.size_px)
        plane = (pixels - camera.center_px) / camera.focal_px
        for axis in range(2):
            rows.append(plane[..., axis, None] * camera.rotation[2] - camera.rotation[axis])
            values.append(camera.translation_mm[axis] - plane[..., axis] * camera.translation_mm[2])
    a, b = np.stack(rows, axis=-2), np.stack(values, axis=-1)[..., None]
    world = np.linalg.solve(a.swapaxes(-1, -2) @ a, a.swapaxes(-1, -2) @ b)[..., 0]
    return rooted(Camera.from_tree(poses.tracks[track].camera).to_camera(world))


def measured(poses: Poses) -> dict[str, list[float]]:
    """Errors (mm) and seconds a clip, by who finds the 3D; and the share of its frames that are left out."""
    found: dict[str, list[Any]] = {name: [] for name in ("ours", "triangulated", "ours_s", "triangulated_s")}
    for clip in range(len(poses.names)):
        track = int(poses.clip_track[clip])
        last = poses.tracks[track].num_frames - 1
        places = np.minimum(poses.clip_start[clip] + 2.0 * np.arange(27), last)
        truth = rooted(poses.at(track, places).joints_3d_mm)
        for name, find in (("ours", ours), ("triangulated", triangulated)):
            began = time.perf_counter()
            joints = find(poses, track, places)
            found[f"{name}_s"].append(time.perf_counter() - began)
            found[name].append(np.linalg.norm(joints - truth, axis=-1).mean(-1))
    counts = np.isfinite(found["ours"])  # the other frames have a joint that a camera did not see
    found["left_out"] = (~counts).mean(1).tolist()
    for name in ("ours", "triangulated"):
        found[name] = np.mean(found[name], axis=1, where=counts).tolist()
    return {name: [value for value, share in zip(values, found["left_out"], strict=True) if share < 1] for name, values in found.items()}


def ours(poses: Poses, track: int, places: np.ndarray) -> np.ndarray:
    frames = agreed_frames(poses, track, places, stature_m=1.7)
    return np.where(frames.valid[:, None, None], frames.joints_3d_mm, np.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder that tools/cmu_npz.py wrote")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = asked.data
        if asked.quick:
            data = Path(scratch) / "people"
            write_people_folder(data, num_subjects=2, num_takes=2, num_frames=120, seed=0)
        elif data is None:
            parser.error("name the folder that tools/cmu_npz.py wrote, or give --quick")
        found = measured(prepared(data, Path(scratch) / "prepared"))
    mean = {name: float(np.mean(values)) for name, values in found.items()}
    row = {"name": "3D of four cameras, mm", "ours": mean["ours"], "reference": mean["triangulated"]}
    row |= {"ratio": mean["triangulated"] / mean["ours"], "ours_mb": None, "reference_mb": None, "agree": mean["ours"] <= BOUND_MM}
    if asked.json:
        print(json.dumps([row], indent=1))
        return
    print(f"{len(found['ours'])} clips; {np.mean(found['left_out']):.1%} of their frames have a joint that a camera did not see")
    for name, who in (("ours", "places unknown"), ("triangulated", "places known")):
        worst, mean_ms = max(found[name]), 1000 * mean[f"{name}_s"]
        print(f"{who}: {mean[name]:.1f} mm (median {np.median(found[name]):.1f}, worst clip {worst:.1f}), {mean_ms:.1f} ms a clip")


if __name__ == "__main__":
    main()
