"""One word for a group of settings: a frozen, keyword-only, slotted dataclass that refuses unknown keys."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[T]) -> type[T]:
    """Make `cls` a settings class; the docstring under each field says its meaning and unit.

    `experiment.load()` is the one gate that checks values, through pydantic; this module does not import it.
    """
    setattr(cls, "__pydantic_config__", {"extra": "forbid", "use_attribute_docstrings": True})  # noqa: B010 (no field of the class)
    return dataclass(frozen=True, kw_only=True, slots=True)(cls)
