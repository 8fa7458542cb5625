"""What the pipeline asks of a task and of its data, whatever they are."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from triform.training.backend import Arrays, Facts

Batch = Mapping[str, NDArray[np.generic]]
Predict = Callable[[Batch], Arrays]


class HistoryRow(Protocol):
    """One number of a run's metrics log."""

    @property
    def step(self) -> int: ...

    @property
    def split(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> float: ...


class Samples(Protocol):
    """One split of a prepared data set."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def digest(self) -> str: ...

    @property
    def facts(self) -> Facts: ...


class Evaluation(Protocol):
    """A model measured beside what it is to be measured by."""

    @property
    def title(self) -> str:
        """What the headline's numbers are, and which way is better."""

    def headline(self) -> dict[str, dict[str, Any]]:
        """split -> column -> number or None."""

    def facts(self) -> list[tuple[str, str, str]]:
        """Label, value and note of what stands first in a report."""

    def summary(self) -> dict[str, Any]: ...

    def table(self) -> list[dict[str, Any]]: ...

    def arrays(self) -> dict[str, NDArray[Any]]: ...


class Task(Protocol):
    """A learning problem without its framework."""

    def select(self, data: Any, step: int, *, seed: int, batch_size: int) -> tuple[int, Int[np.ndarray, " batch"]]:
        """Epoch and samples of batch number `step`, a pure function of its arguments."""

    def batch(self, data: Any, indices: Int[np.ndarray, " batch"], *, seed: int, epoch: int | None) -> Batch:
        """Arrays of these samples; changed at random by (seed, epoch, sample), or as they are where `epoch` is None."""

    def validate(self, splits: Mapping[str, Any], predict: Predict, *, batch_size: int, seed: int) -> dict[str, float]:
        """The validation metrics of splits["val"]."""

    def watch(self, scalars: Mapping[str, float]) -> str | None:
        """A warning where a step's scalars show that training goes wrong."""

    def evaluate(
        self, splits: Mapping[str, Any], predict: Predict, *, batch_size: int, seed: int, say: Callable[[str], None]
    ) -> Evaluation: ...

    def panels(self, arrays: Batch, history: Iterable[HistoryRow]) -> tuple[Any, ...]:
        """What a report shows of a saved evaluation and of the metrics log."""
