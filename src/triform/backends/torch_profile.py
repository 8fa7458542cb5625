"""Where a training step's time goes in PyTorch."""

import resource
import sys
import time
from collections.abc import Callable

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from triform.backends.torch_backend import Batch, TorchBackend
from triform.training.timings import PARTS, Timings


def measure(backend: TorchBackend, batch: Batch, *, repeats: int = 3) -> Timings:
    """Median seconds of forward, backward and update, and each part's share in both passes. Changes the model."""
    backend.train_step(batch, 0, 0.0)  # compiles kernels, fills the heap
    rounds = sorted((_one_step(backend, batch) for _ in range(repeats)), key=sum)
    forward, backward, update = rounds[repeats // 2]
    return Timings(forward, backward, update, _parts(backend, batch, forward + backward), _peak_mb(backend.device))


def _one_step(backend: TorchBackend, batch: Batch) -> tuple[float, float, float]:
    clock, marks = _clock(backend.device), []
    backend.model.train()
    backend.optimizer.zero_grad(set_to_none=True)
    marks.append(clock())
    with backend.precision():
        loss, _ = backend.task.loss_torch(backend.model, backend.tensors(batch))
    marks.append(clock())
    loss.backward()  # type: ignore[no-untyped-call]
    marks.append(clock())
    backend.optimizer.step()
    marks.append(clock())
    return marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]


def _clock(device: torch.device) -> Callable[[], float]:
    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def _parts(backend: TorchBackend, batch: Batch, whole_s: float) -> dict[str, float]:
    """Seconds by part: forward in the model's `record_function` blocks, backward by the forward operators that asked for it.

    Args: whole_s: forward and backward without the profiler, which slows them down.
    """
    cuda = backend.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as recorded:
        forward, backward, _ = _one_step(backend, batch)
    found = dict.fromkeys(PARTS, 0.0)
    events = recorded.events() or []
    part_of = {event.sequence_nr: part for event in events if event.sequence_nr >= 0 and (part := _part(event)) is not None}
    for event in events:
        seconds = (event.device_time_total if cuda else event.cpu_time_total) / 1e6
        if event.name in found and _part(event.cpu_parent) is None:
            found[event.name] += seconds
        elif event.name.startswith("autograd::engine::evaluate_function") and event.sequence_nr in part_of:
            found[part_of[event.sequence_nr]] += seconds
    return {name: seconds * whole_s / (forward + backward) for name, seconds in found.items()}


def _part(event: FunctionEvent | None) -> str | None:
    """The outermost part that an event lies in."""
    part = None
    while event is not None:
        part = event.name if event.name in PARTS else part
        event = event.cpu_parent
    return part


def _peak_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
