"""The best validation so far, and how long ago it was."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Best:
    """What is remembered of the validations; lower values are better."""

    value: float | None = None
    step: int | None = None
    validations_since: int = 0

    def after(self, value: float, step: int, *, min_delta: float) -> "Best":
        """The memory after one more validation; it improves only if it falls by more than `min_delta`."""
        threshold = math.inf if self.value is None else self.value - min_delta
        if value < threshold:
            return Best(value, step, 0)
        return replace(self, validations_since=self.validations_since + 1)

    def exhausted(self, patience: int) -> bool:
        """True once `patience` validations in a row did not improve; 0 means never."""
        return bool(patience) and self.validations_since >= patience
