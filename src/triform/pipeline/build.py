"""From an experiment to a backend: the one place that names a framework."""

from triform.experiment import Experiment
from triform.training.backend import Backend
from triform.training.process import keep_heap, tame_threads


def build_backend(experiment: Experiment, *, num_threads: int, device: str | None = None) -> tuple[Backend, str]:
    """The experiment's model and optimizer, fresh, and the device they live on.

    Args: num_threads: of the mathematics. device: where a run began; None: as the experiment says.
    """
    tame_threads()
    keep_heap()
    from triform.backends import torch_backend

    torch_backend.use_threads(num_threads)
    where = device or torch_backend.pick_device(experiment.training.device)
    task = experiment.task.build()
    backend = torch_backend.TorchBackend(
        task, num_points=experiment.data.num_points, settings=experiment.training, seed=experiment.seed, device=where
    )
    return backend, where
