"""Clips of poses as a film: GIF everywhere, MP4 where ffmpeg is installed."""

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from triform.errors import UsageError
from triform.report.atomic import replace_bytes
from triform.report.figures import literal, new_figure
from triform.report.panels import PoseClips
from triform.report.pose_geometry import check_clips, clip_length
from triform.report.pose_lines import clip_views

if TYPE_CHECKING:
    from matplotlib.animation import AbstractMovieWriter

FRAME_RATE = 25.0
"""Pictures a second at most: browsers play GIFs that want more than 50 at 10."""

CELL = 2.6
"""Side of a view in inches."""


def animate(path: Path, panel: PoseClips, *, dpi: int = 100, speed: float = 1.0) -> None:
    """Film all clips of `panel`, one below the other: the 2D input beside prediction over truth. Equal panels give equal GIFs.

    All start together; a clip that is over stays on its last frame. Frames are left out where more than 25 a second would be shown.

    Args:
        path: Where; its suffix, .gif or .mp4, chooses the format.
        dpi: Pixels of an inch; a view is 2.6 inches wide and high.
        speed: 0.5 shows half as fast as things happened, 2 twice as fast; greater than 0.

    Raises:
        UsageError: Another suffix, no clip, `speed` or `dpi` not greater than 0, or MP4 without ffmpeg.
        DataError: Arrays of a clip don't fit together or the skeleton.
        CannotWrite, DiskFull: The system refused; `path` is as it was.
    """
    check_clips(panel)
    if not panel.clips or not speed > 0 or dpi < 1:
        raise UsageError(
            f"A film of {len(panel.clips)} clips at {speed} times the speed and {dpi} dpi can't be made",
            expected="at least one clip, and speed and dpi greater than 0",
            do="Choose a clip, and speed 1",
        )
    pictures, rate = _clock(panel, speed)
    writer = _writer(path, rate)
    with tempfile.TemporaryDirectory(prefix="triform-film-") as folder:
        film = Path(folder) / f"film{path.suffix.lower()}"
        _film(film, panel, writer, [picture * speed / rate for picture in range(pictures)], dpi)
        replace_bytes(path, film.read_bytes())


def _clock(panel: PoseClips, speed: float) -> tuple[int, float]:
    """How many pictures there are, and how many a second: every n-th frame of the quickest clip."""
    quickest = max(clip.frame_rate for clip in panel.clips) * speed
    rate = quickest / math.ceil(quickest / FRAME_RATE - 1e-9)
    seconds = max(clip_length(clip) / clip.frame_rate for clip in panel.clips) / speed
    return max(math.ceil(seconds * rate - 1e-9), 1), rate


def _writer(path: Path, rate: float) -> "AbstractMovieWriter":
    from matplotlib.animation import FFMpegWriter, PillowWriter

    if path.suffix.lower() == ".gif":
        return PillowWriter(fps=rate)  # type: ignore[arg-type]
    if path.suffix.lower() != ".mp4":
        raise UsageError(
            f"{path.name} is no film that can be written", expected="a name that ends in .gif or .mp4", do="Choose one of them"
        )
    if not FFMpegWriter.isAvailable():
        raise UsageError(
            f"{path.name} needs ffmpeg, which is not installed here",
            expected="the program ffmpeg on the PATH",
            do="Install it (apt install ffmpeg, brew install ffmpeg), or choose a name that ends in .gif",
        )
    return FFMpegWriter(fps=rate, codec="libx264", extra_args=["-pix_fmt", "yuv420p"])  # type: ignore[arg-type]


def _film(film: Path, panel: PoseClips, writer: "AbstractMovieWriter", times: list[float], dpi: int) -> None:
    """Args: times: where each picture stands in the clips, in seconds."""
    rows = len(panel.clips)
    figure = new_figure(2 * CELL, (CELL + 0.3) * rows, dpi=dpi)
    views = []
    for row, clip in enumerate(panel.clips):
        charts = [figure.add_subplot(rows, 2, 2 * row + side + 1) for side in (0, 1)]
        charts[0].set_title(literal(f"{clip.name}  {clip.caption}"), fontsize=8, loc="left")
        views.append((clip, clip_views(charts, clip, panel)))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    with writer.saving(figure, str(film), dpi):
        for time in times:
            for clip, parts in views:
                at = min(int(time * clip.frame_rate + 1e-6), clip_length(clip) - 1)
                for part in parts:
                    part.place(at)
            writer.grab_frame()
