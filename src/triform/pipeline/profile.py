"""Where an experiment's training step spends its time, as a text."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from triform.experiment import Experiment
from triform.pipeline.build import build_backend, framework
from triform.pipeline.prepare import load_splits, prepare
from triform.run.provenance import processor, usable_threads
from triform.tasks.human_pose.config import PoseLifting, PosePretraining
from triform.tasks.mesh_identity.config import MeshIdentity
from triform.training.backend import Facts
from triform.training.timings import Timings

BATCHES = 3


def profile(experiment: Experiment) -> str:
    """Prepare the data where needed, train a few steps that nobody keeps, and tell where the time went. Raises: DataError."""
    settings = replace(experiment.training, gradient_accumulation_steps=1)  # each batch of a step takes as long
    experiment = replace(experiment, training=settings)
    data = load_splits(experiment, prepare(experiment).prepared_dir, ("train",))["train"]
    num_threads = settings.num_threads or usable_threads()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler talks of GPUs that are not there
    backend: Any
    backend, device = build_backend(experiment, data.facts, num_threads=num_threads)
    task, size = experiment.task.build(), settings.batch_size
    begun = time.perf_counter()
    for step in range(BATCHES):
        epoch, indices = task.select(data, step, seed=experiment.seed, batch_size=size)
        batch: Any = task.batch(data, indices, seed=experiment.seed, epoch=epoch)
    data_s = (time.perf_counter() - begun) / BATCHES
    if framework(experiment) == "mlx":
        from triform.backends.mlx_profile import measure as measure_mlx

        timings = measure_mlx(backend, batch)
    else:
        from triform.backends.torch_profile import measure as measure_torch

        timings = measure_torch(backend, batch)
    backend.close()
    where = f"{framework(experiment)} on {device.removeprefix('mlx ')}, {num_threads} threads, {processor()['model']}"
    return "\n".join(_lines(experiment, data.facts, timings, data_s, num_samples=len(indices), where=where))


def _lines(experiment: Experiment, facts: Facts, timings: Timings, data_s: float, *, num_samples: int, where: str) -> Iterator[str]:
    step_s = timings.forward_s + timings.backward_s + timings.update_s
    yield f"{experiment.name}: {experiment.task.kind}, {where}"
    yield f"{num_samples} samples a batch, {', '.join(f'{name} {value}' for name, value in facts.items())}"
    yield ""
    yield f"forward   {timings.forward_s * 1e3:10.1f} ms"
    yield f"backward  {timings.backward_s * 1e3:10.1f} ms"
    yield f"update    {timings.update_s * 1e3:10.1f} ms"
    yield f"step      {step_s * 1e3:10.1f} ms, {num_samples / step_s:.1f} samples a second"
    yield f"data      {data_s * 1e3:10.1f} ms a batch, in threads beside the step"
    yield f"memory    {timings.peak_mb:10.0f} MiB at the most"
    yield ""
    yield f"{'part':21}  share of {timings.of}"
    whole = timings.forward_s + (timings.backward_s if timings.of == "forward and backward" else 0.0)
    parts = {name: seconds for name, seconds in timings.parts.items() if seconds}
    for name, seconds in {**parts, "other": max(0.0, whole - sum(parts.values()))}.items():
        yield f"{name:21}  {seconds / whole:6.1%}  {seconds * 1e3:10.1f} ms"
    yield from _cost(experiment, facts)


def _cost(experiment: Experiment, facts: Facts) -> Iterator[str]:
    """Multiply-adds of one sample's forward pass, where the task counts them."""
    counted = _counted(experiment, facts)
    if not counted:
        return
    yield ""
    yield "multiply-adds of a sample's forward pass"
    for name, number in {**counted, "all": sum(counted.values())}.items():
        yield f"{name:10}  {number / 1e6:10.1f} million"


def _counted(experiment: Experiment, facts: Facts) -> Mapping[str, int]:
    task = experiment.task
    if isinstance(task, MeshIdentity):
        from triform.tasks.mesh_identity.cost import macs

        return macs(task, facts["num_vertices"], facts["num_classes"])
    if isinstance(task, PosePretraining | PoseLifting):
        from triform.tasks.human_pose.cost import macs as pose_macs

        return pose_macs(task.encoder, facts["num_frames"], facts["num_joints"])
    return {}
