"""How fast and in how much memory the dual-stream encoder learns, beside explicit softmax attention; and whether loading keeps up.

    python benchmarks/pose.py [--quick] [--json] [--heap kept|default] [--only step|memory|loading]

A step is forward, lifting losses, backward and AdamW on 2 clips of 243 frames x 17 joints (--quick: 81 frames, 2 layers), by the default
`DualStream`. The explicit way is the same network, but its attention is written out from the published equation, so that all scores are
held for the backward pass. Both ways take turns within one process; the ratio is the median of the pairs' ratios, explicit / ours, of time
and, for a machine that is shared, of the processors' time. Memory is the peak of a process that trains in one way, without what it took to
start. Agreement is that of outputs and gradients in float64.
The heap is the one that `triform train` keeps, or glibc's as it comes. Loading: procedural people are prepared, and the real batches are
made by one thread beside real steps; the share is the time that the loop waited for a batch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from torch import Tensor, nn

from triform.backends.torch_backend import TorchBackend
from triform.data.loader import load
from triform.data.poses.poses import load_poses
from triform.data.poses.prepare import prepare
from triform.datasets.pose_npz import PoseNpz
from triform.datasets.synthetic.people import write_people_folder
from triform.tasks.human_pose.config import DualStream, LiftingLosses, PoseAugmentation, PoseLifting
from triform.tasks.human_pose.lifting import LiftingTask
from triform.tasks.human_pose.loss_torch import lifting_loss
from triform.tasks.human_pose.model_torch import Block, LiftNet
from triform.training.config import Training
from triform.training.process import keep_heap

NUM_THREADS, BATCH, NUM_JOINTS = 2, 2, 17
WAYS = ("ours", "explicit")
RATIO_BOUND, MEMORY_BOUND, AGREEMENT_BOUND = 0.97, 0.90, 1e-9


class ExplicitAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V for every head (Vaswani et al., NeurIPS 2017, equation 1), its scores held for the backward pass.

    The scale is on Q, which is smaller than the scores, and what lies apart in memory is left to the product: the better of the usual ways.
    """

    def __init__(self, width: int, heads: int, over: str) -> None:
        super().__init__()
        self.heads, self.over = heads, over
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self.split(layer(x)) for layer in (self.query, self.key, self.value))
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        mixed = scores.softmax(-1) @ value
        mixed = mixed.transpose(2, 3) if self.over == "joints" else mixed.permute(0, 3, 1, 2, 4)
        result: Tensor = self.out(mixed.reshape(x.shape))
        return result

    def split(self, x: Tensor) -> Tensor:
        """(batch, frame, head, joint, channel), or (batch, joint, head, frame, channel)."""
        heads = x.view(*x.shape[:3], self.heads, -1)
        return heads.transpose(2, 3) if self.over == "joints" else heads.permute(0, 2, 3, 1, 4)


def network(way: str, config: DualStream, num_frames: int) -> LiftNet:
    """The same weights each time."""
    torch.manual_seed(0)
    net = LiftNet(config, {"num_frames": num_frames, "num_joints": NUM_JOINTS})
    if way == "explicit":
        for block in [module for module in net.modules() if isinstance(module, Block)]:
            ours, block.attention = block.attention, ExplicitAttention(config.width, config.heads, block.attention.over)  # type: ignore[assignment]
            block.attention.load_state_dict(ours.state_dict())
    return net


def clips(num_frames: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Arrays of a lifting batch, random."""
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, num_frames, NUM_JOINTS, 3)
    joints = {name: torch.randn(shape, generator=generator, dtype=dtype) for name in ("joints_2d", "joints_3d", "target_2d")}
    ones = torch.ones(shape[:2], dtype=dtype)
    return {**joints, "weight": ones, "seen": ones}


def stepper(way: str, config: DualStream, num_frames: int) -> Callable[[], tuple[float, float]]:
    """A function that trains for one step and returns its seconds, and those of all processors together."""
    net, batch = network(way, config, num_frames), clips(num_frames, torch.float32)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def step() -> tuple[float, float]:
        begin, begin_cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss, _ = lifting_loss(LiftingLosses(), net(batch["joints_2d"]), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return time.perf_counter() - begin, time.process_time() - begin_cpu

    return step


def settle(heap: str) -> None:
    """As a trainer's process is set up."""
    if heap == "kept":
        keep_heap()
    torch.set_num_threads(NUM_THREADS)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def paired_times(config: DualStream, num_frames: int, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of steps that took turns, each way first every other time; one of each to warm up."""
    steppers = {way: stepper(way, config, num_frames) for way in WAYS}
    for step in steppers.values():
        step()
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for turn in range(repeats):
        for way in WAYS if turn % 2 == 0 else WAYS[::-1]:
            times[way].append(steppers[way]())
    return times


def peak_kb() -> int:
    """Of this process alone (Linux): `ru_maxrss` would begin with what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def memory_mb(way: str, config: DualStream, num_frames: int) -> float:
    """What two steps take beyond what the process held before."""
    torch.randn(512, 512) @ torch.randn(512, 512)
    at_start, step = peak_kb(), stepper(way, config, num_frames)
    step()
    step()
    return (peak_kb() - at_start) / 1024


def differences(config: DualStream, num_frames: int = 20) -> dict[str, float]:
    """The largest difference in float64, relative to the largest number, of outputs and gradients."""
    found: dict[str, list[Tensor]] = {}
    for way in WAYS:
        net, batch = network(way, config, num_frames).double(), clips(num_frames, torch.float64)
        output = net(batch["joints_2d"])
        lifting_loss(LiftingLosses(), output, batch)[0].backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None]
        found[way] = [output.detach(), torch.cat(gradients)]
    pairs = zip(("outputs", "gradients"), *found.values(), strict=True)
    return {name: float((ours - explicit).abs().max() / explicit.abs().max()) for name, ours, explicit in pairs}


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


def run_child(words: list[str]) -> Any:
    done = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def child(part: str, *, quick: bool, heap: str) -> Any:
    """One process's work; JSON."""
    settle(heap)
    config, num_frames = (DualStream(depth=2), 81) if quick else (DualStream(), 243)
    if part == "step":
        return paired_times(config, num_frames, repeats=5 if quick else 7)
    if part == "loading":
        return waiting(config, num_frames, steps=5 if quick else 6)
    if part == "agreement":
        return differences(DualStream(depth=2, width=64))
    return memory_mb(part, config, num_frames)


def rows(parts: list[str], words: list[str]) -> list[dict[str, Any]]:
    """What was measured, each with its bound."""
    found: list[dict[str, Any]] = []
    if "step" in parts:
        differ, times = (run_child(["--child", part, *words]) for part in ("agreement", "step"))
        agree = max(differ.values()) <= AGREEMENT_BOUND
        for clock, name in enumerate(("step, s", "step, processors' s")):
            ours, explicit = ([step[clock] for step in times[way]] for way in WAYS)
            ratio = statistics.median(there / here for here, there in zip(ours, explicit, strict=True))
            seconds = {"ours": statistics.median(ours), "reference": statistics.median(explicit)}
            found.append({"name": name, **seconds, "ratio": ratio, "ok": agree and ratio >= RATIO_BOUND, "differ": differ})
    if "memory" in parts:
        ours, explicit = (run_child(["--child", way, *words]) for way in WAYS)
        found.append({"name": "memory, MB", "ours": ours, "reference": explicit, "ratio": explicit / ours})
        found[-1]["ok"] = ours <= MEMORY_BOUND * explicit
    if "loading" in parts:
        one = run_child(["--child", "loading", *words])
        found.append({"name": "waiting for a batch, share of the loop", "ours": one["waited"] / one["loop"], **one})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="81 frames, 2 layers")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--heap", choices=["kept", "default"], default="kept", help="the allocator's heap")
    parser.add_argument("--only", choices=["step", "memory", "loading"], help="one part")
    parser.add_argument("--child", choices=["step", "agreement", "loading", *WAYS], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(child(asked.child, quick=asked.quick, heap=asked.heap)))
        return
    words = ["--heap", asked.heap, *(["--quick"] if asked.quick else [])]
    found = rows([asked.only] if asked.only else ["step", "memory", "loading"], words)
    if asked.json:
        print(json.dumps(found, indent=1))
        return
    threads = f"{NUM_THREADS} threads; load {os.getloadavg()[0]:.1f}"
    print(f"OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}; {asked.heap} heap; {threads}; ours, explicit")
    for one in found:
        if "reference" in one:
            verdict = "holds" if one["ok"] else "MISSED"
            print(f"{one['name']:<20} {one['ours']:9.3f} {one['reference']:9.3f} {one['ratio']:6.2f}x  {verdict}  {one.get('differ', '')}")
        else:
            print(f"{one['name']}: {one['ours']:.2%} ({one['waited']:.3f} of {one['loop']:.1f} s; making one takes {one['making']:.3f} s)")


if __name__ == "__main__":
    main()
