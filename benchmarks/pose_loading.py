"""How long training on poses waits for its batches.

    python benchmarks/pose_loading.py [--quick] [--json]

Procedural people are prepared, and the real batches of 2 clips of 243 frames x 17 joints are made by one thread beside 6 real steps of the
default `DualStream` (--quick: 81 frames, 2 layers, 5 steps), as `triform train` runs them. Ours is the seconds that the loop waited for a
batch, the reference what making the batches takes.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from triform.backends.torch_backend import TorchBackend
from triform.data.loader import load
from triform.data.poses.poses import load_poses
from triform.data.poses.prepare import prepare
from triform.datasets.pose_npz import PoseNpz
from triform.datasets.synthetic.people import write_people_folder
from triform.tasks.human_pose.config import DualStream, PoseAugmentation, PoseLifting
from triform.tasks.human_pose.lifting import LiftingTask
from triform.training.config import Training
from triform.training.process import keep_heap

BATCH, NUM_THREADS = 2, 2


def waiting(config: DualStream, num_frames: int, steps: int) -> dict[str, float]:
    """Seconds of the loop with the real backend and loader, what of it was waiting for a batch, and what making one takes."""
    with tempfile.TemporaryDirectory() as folder:
        write_people_folder(Path(folder) / "raw", num_frames=2 * num_frames)
        data = PoseNpz(data_dir=f"{folder}/raw", prepared_dir=f"{folder}/prepared", num_frames=num_frames)
        prepare(data)
        poses = load_poses(data.prepared_folder(), "train", data)
        task = LiftingTask(PoseLifting(encoder=config, augmentation=PoseAugmentation(rotate_up_degrees=180, noise_std=0.01)))
        backend = TorchBackend(task, facts=poses.facts, settings=Training(batch_size=BATCH), seed=0, device="cpu")

        def make(number: int) -> dict[str, np.ndarray]:
            epoch, indices = task.select(poses, number, seed=0, batch_size=BATCH)
            return dict(task.batch(poses, indices, seed=0, epoch=epoch))

        begin = time.perf_counter()
        batch = make(0)
        making = time.perf_counter() - begin
        backend.train_step(batch, 0, 1e-4)
        waited, batches, begin = 0.0, load(make, 1, 1 + steps, workers=1), time.perf_counter()
        for number in range(1, 1 + steps):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            backend.train_step(batch, number, 1e-4)
        return {"loop": time.perf_counter() - begin, "waited": waited, "making": making}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="81 frames, 2 layers")
    parser.add_argument("--json", action="store_true", help="print the row as JSON")
    asked = parser.parse_args()
    keep_heap()
    torch.set_num_threads(NUM_THREADS)
    config, num_frames, steps = (DualStream(depth=2), 81, 5) if asked.quick else (DualStream(), 243, 6)
    found = waiting(config, num_frames, steps)
    making = steps * found["making"]
    row = {"name": "waiting for batches of poses, s", "ours": found["waited"], "reference": making, "ratio": making / found["waited"]}
    if asked.json:
        print(json.dumps([{**row, "ours_mb": None, "reference_mb": None, "agree": None}], indent=1))
        return
    share, making = found["waited"] / found["loop"], found["making"]
    print(f"The loop waited {share:.2%} of its time: {found['waited']:.4f} of {found['loop']:.1f} s; making one takes {making:.4f} s.")


if __name__ == "__main__":
    main()
