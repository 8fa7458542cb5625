"""Skeletons as lines of a matplotlib chart, from the camera of the posters."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64

from triform.report.panels import PoseClip, PoseClips
from triform.report.pose_geometry import bone_sides, clip_frame, flat_box, solid, upright
from triform.report.poster import Frame, camera_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDES = ("#1b2129", "#d9822b", "#2c66c4")
"""Colours of the middle, the left and the right: those of the page."""

PALE = ("#c3c9d1", "#e3cdb5", "#b5c5df")
UNSEEN = "#b8405e"


class Lines:
    """One skeleton of a chart, to be placed anew in every frame of a film."""

    def __init__(self, axes: "Axes", panel: PoseClips, *, colours: tuple[str, ...], width: float) -> None:
        from matplotlib.collections import LineCollection

        self._bones = bone_sides(panel)
        tints = [colours[side] for _, _, side in self._bones]
        self._lines = LineCollection([], colors=tints, linewidths=width, capstyle="round")
        axes.add_collection(self._lines, autolim=False)

    def place(self, places: Float64[np.ndarray, "joint 2"]) -> None:
        """Bones with an end that isn't finite are not drawn."""
        ends = [np.stack([places[parent], places[joint]]) for joint, parent, _ in self._bones]
        self._lines.set_segments([end if np.isfinite(end).all() else np.full((2, 2), np.nan) for end in ends])


class SolidView:
    """Prediction over truth, seen from beside the clip's own camera."""

    def __init__(self, axes: "Axes", clip: PoseClip, panel: PoseClips, frame: Frame) -> None:
        truth, prediction = clip.truth, clip.prediction
        self._parts = [
            (_projected(part, panel, frame), Lines(axes, panel, colours=colours, width=width))
            for part, colours, width in ((truth, PALE, 6.0), (prediction, SIDES, 1.8))
            if part is not None
        ]
        _square(axes, -frame.radius, frame.radius, -frame.half_height, frame.half_height)

    def place(self, at: int) -> None:
        """Show frame number `at`."""
        for places, lines in self._parts:
            lines.place(places[at])


class FlatView:
    """The 2D input; joints that the network did not see are crosses, and no bone leads to them."""

    def __init__(self, axes: "Axes", clip: PoseClip, panel: PoseClips) -> None:
        assert clip.input_2d is not None
        self._places = clip.input_2d.astype(np.float64)
        self._hidden: Bool[np.ndarray, "frame joint"] = np.zeros(self._places.shape[:2], bool) if clip.hidden is None else clip.hidden
        self._lines = Lines(axes, panel, colours=SIDES, width=1.8)
        (self._unseen,) = axes.plot([], [], linestyle="", marker="x", markersize=3.5, color=UNSEEN)
        left, top, side = flat_box(clip)
        _square(axes, left, left + side, top + side, top)

    def place(self, at: int) -> None:
        """Show frame number `at`."""
        hidden = self._hidden[at]
        self._lines.place(np.where(hidden[:, None], np.nan, self._places[at]))
        self._unseen.set_data(*self._places[at][hidden].T)


def clip_views(axes: "list[Axes]", clip: PoseClip, panel: PoseClips) -> list[SolidView | FlatView]:
    """The clip's views, 2D first, as many of the charts as it needs; the others are cleared away."""
    views: list[SolidView | FlatView] = []
    if clip.input_2d is not None:
        views.append(FlatView(axes[0], clip, panel))
    if solid(clip):
        views.append(SolidView(axes[len(views)], clip, panel, clip_frame(clip, panel.up)))
    for each in axes[len(views) :]:
        each.set_axis_off()
    return views


def _projected(part: np.ndarray, panel: PoseClips, frame: Frame) -> Float64[np.ndarray, "frame joint 2"]:
    right, above, _ = camera_axes(frame)
    centred = upright(part, panel.up) - frame.center
    return np.stack([centred @ right, centred @ above], axis=2)


def _square(axes: "Axes", left: float, right: float, bottom: float, top: float) -> None:
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
