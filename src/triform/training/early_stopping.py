"""The best validation so far, and how long ago it was."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Best:
    """What is remembered of the validations."""

    value: float | None = None
    step: int | None = None
    validations_since: int = 0

    def after(self, value: float, step: int, *, min_delta: float, higher_is_better: bool = False) -> "Best":
        """The memory after one more validation; it improves only by more than `min_delta`."""
        gain = 0.0 if self.value is None else value - self.value if higher_is_better else self.value - value
        if self.value is None or gain > min_delta:
            return Best(value, step, 0)
        return replace(self, validations_since=self.validations_since + 1)

    def exhausted(self, patience: int) -> bool:
        """True once `patience` validations in a row did not improve; 0 means never."""
        return bool(patience) and self.validations_since >= patience
