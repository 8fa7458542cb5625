"""From an experiment to a backend: the one place that names a framework."""

import importlib.util
import platform
import sys
from typing import Any

from triform.errors import ExperimentError
from triform.experiment import Experiment
from triform.kernels.choice import use_kernels
from triform.training.backend import Backend, Facts
from triform.training.process import keep_heap, tame_threads


def framework(experiment: Experiment) -> str:
    """`torch` or `mlx`. Raises: ExperimentError: the one that is asked for is not installed."""
    if experiment.backend == "torch" or experiment.task.kind != "mesh_identity":
        return "torch"
    there = importlib.util.find_spec("mlx") is not None
    if experiment.backend == "mlx" and not there:
        raise ExperimentError("MLX is not installed", expected="the extra `mlx`", do="pip install 'triform[mlx]', or give --backend torch")
    apple = sys.platform == "darwin" and platform.machine() == "arm64" and experiment.training.device != "mps"  # PyTorch's name for it
    return "mlx" if there and (apple or experiment.backend == "mlx") else "torch"


def build_backend(experiment: Experiment, facts: Facts, *, num_threads: int, device: str | None = None) -> tuple[Backend, str]:
    """The experiment's model and optimizer, fresh, and the framework and device they live on.

    Args: facts: of the data. num_threads: of the mathematics. device: instead of the experiment's.
    """
    tame_threads()
    keep_heap()
    settings, seed = experiment.training, experiment.seed
    wanted = device or settings.device
    if framework(experiment) == "mlx":
        from triform.backends import mlx_backend

        where = mlx_backend.pick_device(wanted)
        task: Any = experiment.task.build()
        return mlx_backend.MlxBackend(task, facts=facts, settings=settings, seed=seed, device=where), f"mlx {where}"
    from triform.backends import torch_backend

    use_kernels(settings.kernels)
    torch_backend.use_threads(num_threads)
    where = torch_backend.pick_device(wanted)
    return torch_backend.TorchBackend(experiment.task.build(), facts=facts, settings=settings, seed=seed, device=where), where
