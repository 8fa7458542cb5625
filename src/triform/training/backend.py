"""The five words between the loop and a framework."""

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]
Facts = Mapping[str, int]
"""What a model must know of the data: sizes and counts by name."""


def microbatches(batch: Mapping[str, NDArray[np.generic]], number: int) -> Iterator[dict[str, NDArray[np.generic]]]:
    """`number` parts of a batch in order, as equal as can be; fewer where there are fewer samples."""
    parts = np.array_split(np.arange(len(next(iter(batch.values())))), number)
    for part in (part for part in parts if len(part)):
        yield {name: array[part[0] : part[-1] + 1] for name, array in batch.items()}


class Backend(Protocol):
    """A model, its loss and its optimizer in some framework; everything outside is NumPy.

    `state()` holds all that the next step depends on besides the step's number: `model/<name>` for parameters and buffers,
    `m/<name>` and `v/<name>` for AdamW's moments, and what else a framework needs. It may hand out views.
    """

    def train_step(self, batch: Mapping[str, NDArray[np.generic]], step: int, lr: float) -> dict[str, float]: ...

    def predict(self, batch: Mapping[str, NDArray[np.generic]]) -> Arrays: ...

    def state(self) -> Arrays: ...

    def load_state(self, state: Arrays) -> None: ...

    def close(self) -> None: ...
