"""Films and PNGs of poses: they are what they claim to be, equal each time, and refused with a reason."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pose_sample import attention, clip, clips, flat_player

from triform.errors import CannotWrite, UsageError
from triform.report.animation import animate
from triform.report.panels import Bars, BarSeries, Heatmaps, PoseClips
from triform.report.plots import draw_panels
from triform.report.pose_plots import draw_bars, draw_heatmaps, draw_poses


def film(path: Path) -> tuple[int, int, np.ndarray]:
    """Pictures of a GIF, milliseconds of each, and all of them as (picture, row, column) of grey."""
    from PIL import Image

    with Image.open(path) as image:
        duration = image.info["duration"]
        pictures = []
        for at in range(image.n_frames):
            image.seek(at)
            pictures.append(np.asarray(image.convert("L"), dtype=np.float64))
        return image.n_frames, duration, np.stack(pictures)


def walkers() -> PoseClips:
    """Two clips, one over before the other."""
    return clips(clip("long", frames=16), clip("short", frames=4, rate=25.0))


def test_a_gif_moves_at_the_clips_speed_and_is_equal_each_time(tmp_path: Path) -> None:
    for name in ("a.gif", "b.gif"):
        animate(tmp_path / "films" / name, walkers(), dpi=30)
    assert (tmp_path / "films" / "a.gif").read_bytes() == (tmp_path / "films" / "b.gif").read_bytes()
    count, duration, pictures = film(tmp_path / "films" / "a.gif")
    assert (count, duration) == (8, 40)
    assert pictures.shape[1:] == (174, 156)
    upper, lower = np.split(pictures, 2, axis=1)
    assert (np.abs(np.diff(upper, axis=0)).max((1, 2)) > 30).all()
    moves = np.abs(np.diff(lower, axis=0)).max((1, 2)) > 30
    assert moves.tolist() == [True, True, True, False, False, False, False]
    assert "matplotlib.pyplot" not in sys.modules
    assert sorted(path.name for path in (tmp_path / "films").iterdir()) == ["a.gif", "b.gif"]


@pytest.mark.parametrize(("speed", "count", "duration"), [(1.0, 3, 40), (0.5, 6, 40), (0.25, 6, 80), (2.0, 2, 40)])
def test_speed_changes_how_long_it_takes(speed: float, count: int, duration: int, tmp_path: Path) -> None:
    animate(tmp_path / "a.gif", clips(clip("a", frames=6)), dpi=20, speed=speed)
    assert film(tmp_path / "a.gif")[:2] == (count, duration)


def test_flat_clips_and_missing_joints_are_filmed(tmp_path: Path) -> None:
    animate(tmp_path / "flat.gif", replace(flat_player(), clips=(replace(clip("a", frames=2), truth=None, prediction=None),)), dpi=20)
    lost = clip("a", frames=2)
    lost.prediction[:, 3], lost.truth[:] = np.nan, np.nan
    animate(tmp_path / "lost.gif", clips(lost), dpi=20)
    assert film(tmp_path / "flat.gif")[0] == film(tmp_path / "lost.gif")[0] == 1


def test_a_film_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.gif or \.mp4"):
        animate(tmp_path / "a.avi", walkers())
    with pytest.raises(UsageError, match="0 clips"):
        animate(tmp_path / "a.gif", clips())
    with pytest.raises(UsageError, match="speed"):
        animate(tmp_path / "a.gif", walkers(), speed=0.0)
    assert list(tmp_path.iterdir()) == []


def test_mp4_without_ffmpeg_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="Install it"):
        animate(tmp_path / "a.mp4", walkers())


def test_mp4_where_ffmpeg_is_installed(tmp_path: Path) -> None:
    from matplotlib.animation import FFMpegWriter

    if not FFMpegWriter.isAvailable():
        pytest.skip("no ffmpeg here")
    animate(tmp_path / "a.mp4", walkers(), dpi=30)
    assert (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.gif").mkdir()
    with pytest.raises(CannotWrite, match=r"a\.gif"):
        animate(tmp_path / "a.gif", clips(clip("a", frames=2)), dpi=20)
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]


def few_bars() -> Bars:
    """Two series over three joints."""
    return Bars("Error by joint", ("hip", "knee", "ankle"), (BarSeries("MPJPE", [0, 40.5, 61]), BarSeries("P-MPJPE", [0, 30, 44])), "mm")


def one_map() -> Heatmaps:
    """Attention between frames."""
    return replace(attention(), maps=attention().maps[1:])


DRAWN: list[Callable[[Path], None]] = [
    lambda path: draw_bars(path, few_bars()),
    lambda path: draw_bars(path, Bars("$odd_", ("_a", "$b"), (BarSeries("_s", [np.nan, -1.0]),), "")),
    lambda path: draw_heatmaps(path, one_map()),
    lambda path: draw_poses(path, clips(clip("a", frames=2))),
]


@pytest.mark.parametrize("draw", DRAWN)
def test_pictures_are_drawn_and_equal_each_time(draw: Callable[[Path], None], tmp_path: Path) -> None:
    from matplotlib.image import imread

    for name in ("a.png", "b.png"):
        draw(tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    image = imread(tmp_path / "a.png")
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 50


def test_bars_maps_and_poses_are_files_named_after_their_titles(tmp_path: Path) -> None:
    draw_panels(tmp_path, [few_bars(), one_map(), clips(clip("a", frames=1))])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attention.png", "error_by_joint.png", "prediction_over_truth.png"]
