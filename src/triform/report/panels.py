"""What a report can show. Plain NumPy, text and numbers: a task makes these, `page`, `plots` and `tensorboard` draw them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32
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
class MeshView:
    """A mesh of vertices (n, 3), float32, and triangles (f, 3), int32 - without triangles, a cloud - with a value (n,) at each vertex."""

    name: str
    caption: str
    vertices: NDArray[np.float32]
    faces: NDArray[np.int32] | None
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class MeshViews:
    """Meshes that turn together, coloured on one scale, in `unit`; `up_axis` points to the top of the picture.

    `value_label` says what the values are, with their unit. The scale starts at 0 unless a value is negative.
    """

    title: str
    views: tuple[MeshView, ...]
    unit: str
    up_axis: Literal["x", "y", "z"]
    value_label: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class HistogramSeries:
    """One distribution: `counts[i]` values lay between `edges[i]` and `edges[i + 1]`."""

    name: str
    edges: Numbers
    counts: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Distributions over one axis. With `share`, each is drawn as shares of its own total, so that a small one shows beside a large one."""

    title: str
    series: tuple[HistogramSeries, ...]
    x_label: str
    y_label: str = ""
    note: str = ""
    share: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Scatter:
    """A map of embeddings: points (n, 2), and for each point the label shown on hover and the group that colours it.

    `noun` is what the groups are, in the plural: where they are many, the legend says "60 subjects" until it's opened.
    """

    title: str
    points: NDArray[Any]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    note: str = ""
    noun: str = "groups"


@dataclass(frozen=True, slots=True, eq=False)
class BarSeries:
    """One bar at each of the panel's labels. A value that isn't finite is left out."""

    name: str
    values: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """Values by name - an error by joint, by action - as bars that lie under one another, in `unit`."""

    title: str
    labels: tuple[str, ...]
    series: tuple[BarSeries, ...]
    unit: str
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Heatmap:
    """A matrix of values, the first row at the top; labels name all rows or columns, or none."""

    name: str
    caption: str
    values: Float32[np.ndarray, "row column"]
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Heatmaps:
    """Matrices side by side, each coloured on its own scale, which is written below it."""

    title: str
    maps: tuple[Heatmap, ...]
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PoseClip:
    """A moving person: prediction over truth, and the 2D joints that the network saw (the image is 2 wide, y points down).

    `hidden` marks the joints of `input_2d` that the network did not see. A joint that isn't finite is not drawn.
    """

    name: str
    caption: str
    truth: Float32[np.ndarray, "frame joint 3"] | None
    prediction: Float32[np.ndarray, "frame joint 3"] | None
    input_2d: Float32[np.ndarray, "frame joint 2"] | None
    hidden: Bool[np.ndarray, "frame joint"] | None
    frame_rate: float


@dataclass(frozen=True, slots=True, eq=False)
class PoseClips:
    """Clips of one skeleton that play in step, coordinates in `unit`; `up` points to the top of the picture.

    `parents[i]` is the joint from which joint i hangs, -1 at the root; `left` and `right` are the joints of the person's own sides.
    """

    title: str
    clips: tuple[PoseClip, ...]
    parents: tuple[int, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    unit: str
    up: tuple[float, float, float]
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


Panel: TypeAlias = Curves | Histogram | Table | CloudPairs | MeshViews | PoseClips | Bars | Heatmaps | Scatter | Events | KeyValues


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The whole page, in the order in which it's read."""

    title: str
    subtitle: str
    facts: tuple[Fact, ...]
    panels: tuple[Panel, ...]
    footer: str
