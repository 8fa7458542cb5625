"""What a report can show. Plain NumPy, text and numbers: a task makes these, `page`, `plots` and `tensorboard` draw them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = Sequence[float] | NDArray[Any]
Cell: TypeAlias = str | float | int | None


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One line of a chart; `values[i]` was measured at `steps[i]`. A value that isn't finite is shown as a gap."""

    name: str
    steps: Numbers
    values: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """A chart of one or more series over a common horizontal axis. With `log_y`, values that aren't positive are gaps."""

    title: str
    series: tuple[Series, ...]
    x_label: str = "step"
    y_label: str = ""
    log_y: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under column names; a missing value is None. `emphasize` is the index of the row that matters most."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    emphasize: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CloudPair:
    """An input cloud (n, 3) beside its reconstruction (m, 3), both float32, in one frame and unit.

    `error` (m,) is each reconstructed point's distance to the input, `input_error` (n,) each input point's distance to the
    reconstruction, both in the unit of the panel.
    """

    name: str
    caption: str
    input: NDArray[np.float32]
    reconstruction: NDArray[np.float32]
    error: NDArray[np.float32] | None = None
    input_error: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CloudPairs:
    """Pairs that share one colour scale, in `unit`; `up_axis` points to the top of the picture."""

    title: str
    pairs: tuple[CloudPair, ...]
    unit: str
    up_axis: Literal["x", "y", "z"]
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Scatter:
    """A map of embeddings: points (n, 2), and for each point the label shown on hover and the group that colours it."""

    title: str
    points: NDArray[Any]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run's life: when, what kind (one or two words), and what exactly."""

    time: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Events:
    """The history of a run, oldest first."""

    title: str
    rows: tuple[Event, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Names and values, for settings and provenance."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """A headline number with its unit, and beside it what makes it readable: a floor, a baseline."""

    label: str
    value: str
    note: str = ""


Panel: TypeAlias = Curves | Table | CloudPairs | Scatter | Events | KeyValues


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The whole page, in the order in which it's read."""

    title: str
    subtitle: str
    facts: tuple[Fact, ...]
    panels: tuple[Panel, ...]
    footer: str
