"""The five words between the loop and a framework."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]


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
