"""Where a training step's time goes in MLX."""

import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from triform.backends.mlx_backend import Batch, MlxBackend
from triform.training.timings import PARTS, Timings


class _Watched:
    """Stands in a module's place and adds the seconds of its call to a part; what it is given is computed before, which for a layer
    on a graph is the search of neighbours."""

    def __init__(self, module: Callable[..., mx.array], part: str, seconds: dict[str, float]) -> None:
        self.module, self.part, self.seconds = module, part, seconds

    def __call__(self, x: mx.array, *graph: mx.array) -> mx.array:
        mx.eval(x)
        self.seconds["knn"] += _seconds(lambda: graph)
        begun = time.perf_counter()
        found = self.module(x, *graph)
        mx.eval(found)
        self.seconds[self.part] += time.perf_counter() - begun
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


def measure(backend: MlxBackend, batch: Batch, *, repeats: int = 3) -> Timings:
    """Median seconds of forward, backward and update, and of each part's forward pass. Changes the model; nothing can be trained after."""
    backend.train_step(batch, 0, 0.0)
    arrays = backend.arrays(batch)
    forward = _median(lambda: backend.task.loss_mlx(backend.model, arrays), repeats)
    gradient = _median(lambda: backend.gradient(arrays), repeats)
    step = _median(lambda: backend.train_step(batch, 0, 0.0), repeats)
    parts = _parts(backend, arrays, forward)
    return Timings(forward, max(0.0, gradient - forward), max(0.0, step - gradient), parts, backend.memory()["peak_mb"], of="forward")


def _parts(backend: MlxBackend, arrays: dict[str, mx.array], forward: float) -> dict[str, float]:
    seconds, model = dict.fromkeys(PARTS, 0.0), backend.model
    for name, part in (("point", "point"), ("embedding", "head"), ("neck", "head"), ("classifier", "head")):
        model[name] = _Watched(model[name], part, seconds)
    for name, part in (("edge", "edge_conv"), ("hidden", "head")):
        model[name] = [_Watched(layer, part, seconds) for layer in model[name]]
    whole = _seconds(lambda: backend.task.loss_mlx(model, arrays))
    seconds["loss"] = max(0.0, whole - sum(seconds.values()))
    return {name: value * forward / whole for name, value in seconds.items()}


def _seconds(make: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    mx.eval(make())
    return time.perf_counter() - begun


def _median(make: Callable[[], Any], repeats: int) -> float:
    return sorted(_seconds(make) for _ in range(repeats))[repeats // 2]
