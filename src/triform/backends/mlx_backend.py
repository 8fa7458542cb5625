"""The loop's five words in MLX."""

# mypy: allow-untyped-calls
# Methods of mlx.nn.Module have no annotations.

import os
from collections.abc import Callable, Mapping
from functools import reduce
from logging import getLogger
from typing import Any, Protocol, cast

# Ten bits of mantissa in a distance matrix would scramble the neighbours; MLX reads this once, when it is first imported.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from mlx.nn.utils import value_and_grad
from mlx.utils import tree_flatten, tree_unflatten
from numpy.typing import NDArray

from triform.errors import ExperimentError
from triform.training.backend import Arrays, Facts, microbatches
from triform.training.config import Training

logger = getLogger(__name__)

Batch = Mapping[str, NDArray[np.generic]]
Tree = dict[str, mx.array]

BETAS = (0.9, 0.999)
EPS = 1e-8
MIB = 2.0**20
DTYPES = {"float32": mx.float32, "float64": mx.float64}


class MlxTask(Protocol):
    """What a task tells this backend."""

    def build_mlx(self, facts: Facts, seed: int) -> Module: ...

    def loss_mlx(self, model: Module, batch: dict[str, mx.array]) -> tuple[mx.array, dict[str, mx.array]]: ...

    def predict_mlx(self, model: Module, batch: dict[str, mx.array]) -> dict[str, mx.array]: ...


def pick_device(wanted: str) -> str:
    """Return "metal", "cuda" or "cpu"; `auto` takes the first of them that is there.

    Raises:
        ExperimentError: The wanted device is not there.
    """
    there = [name for name, found in (("metal", mx.metal.is_available()), ("cuda", mx.cuda.is_available()), ("cpu", True)) if found]
    if wanted == "auto":
        return there[0]
    if wanted in there:
        return wanted
    raise ExperimentError(
        f"MLX has no device {wanted!r} here", expected=f"one of {', '.join(there)}", do="set device: auto, or install the MLX for your GPU"
    )


def _key(seed: int, step: int, part: int) -> int:
    return int(np.random.SeedSequence([seed, step, part]).generate_state(1, np.uint64)[0])


class MlxBackend:
    """A task's model under AdamW. The step's number keys dropout, so that no random state is saved.

    One thread makes the backend and calls it: MLX keeps its random key, stream and compiled functions for each thread. All arrays are
    computed before a word returns. What a compiled step has captured - the model, the moments, the random key - is changed in place,
    never replaced.
    """

    def __init__(self, task: MlxTask, *, facts: Facts, settings: Training, seed: int, device: str, dtype: str = "float32") -> None:
        """Args: device: a name of `pick_device`. dtype: float32; float64, on the CPU alone, is for comparing frameworks."""
        mx.set_default_device(mx.Device(mx.cpu if device == "cpu" else mx.gpu))
        self.task, self.settings, self.seed, self.device, self.dtype = task, settings, seed, device, DTYPES[dtype]
        self._limits = _set_limits(settings)
        self.model = task.build_mlx(facts, seed)
        self.model.set_dtype(self.dtype)
        if settings.mixed_precision:
            self.model.set_products(mx.bfloat16)
        self.first, self.second = ({name: mx.zeros_like(p) for name, p in self._parameters().items()} for _ in range(2))
        self.updates = 0
        self.gradient: Callable[[Tree], tuple[Tree, Tree]] = self._plain_gradient
        self._update: Callable[[Tree, mx.array], mx.array] = self._plain_update
        if settings.jit_compile:
            held = [self.model.state, self.first, self.second, mx.random.state]
            self.gradient = cast(Any, mx.compile(self._plain_gradient, inputs=held, outputs=held))
            self._update = cast(Any, mx.compile(self._plain_update, inputs=held, outputs=held))
        mx.eval(self.model.parameters(), self.first, self.second)

    def train_step(self, batch: Batch, step: int, lr: float) -> dict[str, float]:
        """One update; returns the loss and the task's scalars, means over the microbatches, and the norm of the mean gradient."""
        self.model.train()
        parts = self.settings.gradient_accumulation_steps
        results = [self._part(part, _key(self.seed, step, number)) for number, part in enumerate(microbatches(batch, parts))]
        gradient, told = (reduce(_sum, trees) for trees in zip(*results, strict=True))
        norm = self._update({name: value / parts for name, value in gradient.items()}, self._rates(lr))
        self.updates += 1
        mx.eval(norm, self.model.parameters(), self.first, self.second)
        if (step + 1) % self.settings.log_interval == 0:
            logger.info("MLX memory on %s: %s", self.device, ", ".join(f"{name} {value:.0f}" for name, value in self.memory().items()))
        means = {name: value / parts for name, value in told.items()}
        return {name: float(np.array(value)) for name, value in {**means, "gradient_norm": norm}.items()}

    def predict(self, batch: Batch) -> Arrays:
        self.model.eval()
        found = self.task.predict_mlx(self.model, self.arrays(batch))
        return {name: np.array(value) for name, value in found.items()}

    def state(self) -> Arrays:
        """`model/`, `m/` and `v/` arrays and the number of updates; copies."""
        trees = {"model": _flat(self.model.parameters()), "m": self.first, "v": self.second}
        flat: Arrays = {f"{kind}/{name}": np.array(value) for kind, tree in trees.items() for name, value in tree.items()}
        flat["updates"] = np.array(self.updates, np.int64)
        return flat

    def load_state(self, state: Arrays) -> None:
        """Copy a state of this backend, or of PyTorch's, in. Raises: ValueError: names or shapes differ from this model's."""
        own = {name: array.shape for name, array in self.state().items()}
        if own != {name: array.shape for name, array in state.items()}:
            odd = sorted(set(own.items()) ^ {(name, array.shape) for name, array in state.items()})
            raise ValueError(f"the checkpoint does not fit this model: {odd[:5]}")
        values = {name: mx.array(array, dtype=self.dtype) for name, array in state.items() if name != "updates"}
        self.model.update(tree_unflatten([(name, values[f"model/{name}"]) for name in _flat(self.model.parameters())]))
        self.first.update({name: values[f"m/{name}"] for name in self.first})
        self.second.update({name: values[f"v/{name}"] for name in self.second})
        self.updates = int(state["updates"])
        mx.eval(self.model.parameters(), self.first, self.second)

    def memory(self) -> dict[str, float]:
        """Memory of MLX in this process: at its highest since this backend was made, now in use, and kept for reuse (MiB)."""
        sizes = {"peak_mb": mx.get_peak_memory(), "active_mb": mx.get_active_memory(), "cache_mb": mx.get_cache_memory()}
        return {name: size / MIB for name, size in sizes.items()}

    def close(self) -> None:
        """Give the limits back as they were, and the memory kept for reuse."""
        memory, cache = self._limits
        if memory is not None:
            mx.set_memory_limit(memory)
        if cache is not None:
            mx.set_cache_limit(cache)
        self._limits = (None, None)
        mx.clear_cache()

    def arrays(self, batch: Batch) -> Tree:
        """A batch on the device, floats in the model's precision."""
        return {name: mx.array(array, dtype=self.dtype if array.dtype.kind == "f" else None) for name, array in batch.items()}

    def _part(self, part: Batch, key: int) -> tuple[Tree, Tree]:
        """One microbatch: its gradient, and its loss and scalars."""
        mx.random.seed(key)
        gradient, told = self.gradient(self.arrays(part))
        mx.eval(gradient, told, self.model.parameters())
        return gradient, told

    def _plain_gradient(self, batch: Tree) -> tuple[Tree, Tree]:
        def loss(batch: Tree) -> tuple[mx.array, Tree]:
            value, scalars = self.task.loss_mlx(self.model, batch)
            return value, scalars

        (value, scalars), gradient = value_and_grad(self.model, loss)(batch)
        return _flat(gradient), {"loss": value, **scalars}

    def _plain_update(self, gradient: Tree, rates: mx.array) -> mx.array:
        """AdamW on all parameters; returns the gradient's norm before clipping.

        Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (ICLR 2019), algorithm 2, as PyTorch has it.
        """
        norm = mx.sqrt(sum((mx.sum(g * g) for g in gradient.values()), mx.zeros((), self.dtype)))
        if self.settings.gradient_clip:
            factor = mx.minimum(self.settings.gradient_clip / (norm + 1e-6), 1)
            gradient = {name: factor * g for name, g in gradient.items()}
        decay, rate, correction = rates
        updated: Tree = {}
        for name, p in self._parameters().items():
            g = gradient[name]
            self.first[name] = m = BETAS[0] * self.first[name] + (1 - BETAS[0]) * g
            self.second[name] = v = BETAS[1] * self.second[name] + (1 - BETAS[1]) * (g * g)
            updated[name] = p * decay - rate * m / (mx.sqrt(v) * correction + EPS)
        self.model.update(tree_unflatten(list(updated.items())))
        return norm

    def _rates(self, lr: float) -> mx.array:
        """What an update takes from the host, where it is computed in double precision; an array, so that nothing is compiled anew."""
        first, second = (1 - beta ** (self.updates + 1) for beta in BETAS)
        return mx.array(np.array([1 - lr * self.settings.weight_decay, lr / first, second**-0.5]), dtype=self.dtype)

    def _parameters(self) -> Tree:
        return _flat(self.model.trainable_parameters())


def _flat(tree: Any) -> Tree:
    return dict(tree_flatten(tree))


def _sum(one: Tree, other: Tree) -> Tree:
    return {name: value + other[name] for name, value in one.items()}


def _set_limits(settings: Training) -> tuple[int | None, int | None]:
    """Set the limits that are asked for and begin a new peak; returns those that held before."""
    mx.reset_peak_memory()
    memory, cache = settings.mlx_memory_limit_mb, settings.mlx_cache_limit_mb
    return (
        mx.set_memory_limit(int(memory * MIB)) if memory else None,
        mx.set_cache_limit(int(cache * MIB)) if cache else None,
    )
