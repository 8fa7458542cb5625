"""One word for a group of settings: a frozen, keyword-only, slotted dataclass that refuses unknown keys."""

from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

Class = TypeVar("Class", bound=type[Any])


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: Class) -> Class:
    """Make `cls` a settings class; the docstring under each field says its meaning and unit.

    `experiment.load()` is the one gate that checks values, through pydantic; this module does not import it.
    """
    cls.__pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}
    return dataclass(frozen=True, kw_only=True, slots=True)(cls)
