"""The loop's five words in PyTorch."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from triform.errors import ExperimentError
from triform.kernels.nearest_neighbors import nearest_neighbors
from triform.training.backend import Arrays, Facts, microbatches
from triform.training.config import Training

Batch = Mapping[str, NDArray[np.generic]]


class TorchTask(Protocol):
    """What a task tells this backend."""

    def build_torch(self, facts: Facts, seed: int) -> nn.Module: ...

    def loss_torch(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]: ...

    def predict_torch(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]: ...

    def rate_factor(self, name: str) -> float:
        """Of the learning rate of the parameter of this name."""


def pick_device(wanted: str) -> str:
    """`auto` is a CUDA device where there is one, else the CPU (the one that gives equal bits; MPS only when asked for)."""
    if wanted == "metal":
        raise ExperimentError(
            "got the device metal, which is MLX's", expected="auto, cpu, cuda or mps", do="give another --device, or --backend mlx"
        )
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return "cuda" if there["cuda"] else "cpu"
    if not there[wanted]:
        names = ", ".join(name for name, found in there.items() if found)
        raise ExperimentError(
            f"PyTorch has no device {wanted} here", expected=f"one of {names}", do="set device: auto, or install the PyTorch for your GPU"
        )
    return wanted


def use_threads(number: int) -> None:
    """Fix the number of threads, which is part of a run: it changes the order of sums in convolutions and products.

    Numba's first parallel kernel starts its threads and sets OpenMP's number for the calling thread, and so PyTorch's, to its own;
    that must have happened before.
    """
    point = np.zeros((1, 1, 3), np.float32)
    nearest_neighbors(point, point)
    numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    torch.set_num_threads(number)


def _key(seed: int, step: int) -> int:
    """One number for both: PyTorch's CPU generator reads only the low 32 bits of a seed."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])


def _by_factor(factors: Mapping[str, float]) -> dict[float, list[str]]:
    """Parameters by their factor of the learning rate, in the order in which they first come."""
    groups: dict[float, list[str]] = {}
    for name, factor in factors.items():
        groups.setdefault(factor, []).append(name)
    return groups


class TorchBackend:
    """A task's model under AdamW. The step's number keys dropout, so that no random state is saved."""

    def __init__(self, task: TorchTask, *, facts: Facts, settings: Training, seed: int, device: str) -> None:
        if device == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it took 7 % of a step
        torch.manual_seed(seed)
        self.task, self.settings, self.seed, self.device = task, settings, seed, torch.device(device)
        self.model = task.build_torch(facts, seed).to(self.device)
        if settings.jit_compile:
            self.model.compile()
        self.parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        groups = _by_factor({name: task.rate_factor(name) for name in self.parameters})
        self.optimizer = torch.optim.AdamW(
            [{"params": [self.parameters[name] for name in names], "factor": factor} for factor, names in groups.items()],
            lr=0.0,
            weight_decay=settings.weight_decay,
            fused=device != "mps",
        )
        self._set_moments({name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in self.parameters.items()}, 0)

    def train_step(self, batch: Batch, step: int, lr: float) -> dict[str, float]:
        """One update; returns the loss, the task's scalars and the gradient's norm."""
        torch.manual_seed(_key(self.seed, step))
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        self.optimizer.zero_grad(set_to_none=True)
        parts = list(microbatches(batch, self.settings.gradient_accumulation_steps))
        told = [self._gradient(part, number=len(parts)) for part in parts]
        limit = self.settings.gradient_clip or float("inf")
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), limit)
        self.optimizer.step()
        means = {name: sum(scalars[name] for scalars in told) / len(told) for name in told[0]}
        return {**means, "gradient_norm": norm.item()}

    def _gradient(self, batch: Batch, *, number: int) -> dict[str, float]:
        """Add the gradient of one of `number` microbatches; returns its loss and scalars."""
        with self.precision():
            loss, scalars = self.task.loss_torch(self.model, self.tensors(batch))
        (loss / number).backward()  # type: ignore[no-untyped-call]
        return {"loss": loss.item(), **{name: value.item() for name, value in scalars.items()}}

    def precision(self) -> AbstractContextManager[None]:
        """Under it products are taken in the settings' precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.mixed_precision)

    @torch.no_grad()
    def predict(self, batch: Batch) -> Arrays:
        self.model.eval()
        with self.precision():
            predicted = self.task.predict_torch(self.model, self.tensors(batch))
        return {name: value.float().cpu().numpy() for name, value in predicted.items()}

    def state(self) -> Arrays:
        """`model/`, `m/` and `v/` arrays and the number of updates; views of live memory on the CPU."""
        arrays = {f"model/{name}": value for name, value in self._model_state().items()}
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state[parameter]
            arrays[f"m/{name}"], arrays[f"v/{name}"] = moments["exp_avg"], moments["exp_avg_sq"]
        flat: Arrays = {name: value.detach().cpu().numpy() for name, value in arrays.items()}
        flat["updates"] = np.array(self._updates(), np.int64)
        return flat

    def load_state(self, state: Arrays) -> None:
        """Raises: ValueError: names or shapes differ from this model's."""
        own = {name: array.shape for name, array in self.state().items()}
        if own != {name: array.shape for name, array in state.items()}:
            odd = sorted(set(own.items()) ^ {(name, array.shape) for name, array in state.items()})
            raise ValueError(f"the checkpoint does not fit this model: {odd[:5]}")
        with torch.no_grad():
            for name, value in self._model_state().items():
                value.copy_(torch.from_numpy(np.array(state[f"model/{name}"])))
        moments = {name: (self._tensor(state[f"m/{name}"]), self._tensor(state[f"v/{name}"])) for name in self.parameters}
        self._set_moments(moments, int(state["updates"]))

    def close(self) -> None:
        """Nothing is held outside this object."""

    def _model_state(self) -> dict[str, Tensor]:
        """BatchNorm's own counter is left out: nothing depends on it."""
        return {name: value for name, value in self.model.state_dict().items() if not name.endswith("num_batches_tracked")}

    def _set_moments(self, moments: dict[str, tuple[Tensor, Tensor]], updates: int) -> None:
        for name, parameter in self.parameters.items():
            first, second = moments[name]
            self.optimizer.state[parameter] = {"step": torch.tensor(float(updates)), "exp_avg": first, "exp_avg_sq": second}

    def _updates(self) -> int:
        return int(self.optimizer.state[next(iter(self.parameters.values()))]["step"].item())

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.array(array)).to(self.device)

    def tensors(self, batch: Batch) -> dict[str, Tensor]:
        """A batch on the device."""
        return {name: torch.from_numpy(np.asarray(array, order="C")).to(self.device) for name, array in batch.items()}
