"""TensorBoard's own reader sees each step once, also when a killed run logged further than its last commit."""

import subprocess
import sys
from pathlib import Path

import pytest

from triform.errors import CannotWrite
from triform.report.tensorboard import EventWriter


def read(folder: Path, name: str) -> list[tuple[int, float]]:
    """(step, value) as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=True)
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def log(folder: Path, *, start: int, stop: int, offset: float = 0.0) -> EventWriter:
    """Log steps `start` to `stop - 1` with two names."""
    writer = EventWriter(folder, purge_step=start)
    for step in range(start, stop):
        writer.scalar(step, "train/loss", step + offset, wall_time=1000.0 + step)
        writer.scalar(step, "train/learning_rate", 0.5, wall_time=1000.0 + step)
    return writer


def test_one_session(tmp_path: Path) -> None:
    log(tmp_path, start=0, stop=5).close()
    assert read(tmp_path, "train/loss") == [(step, float(step)) for step in range(5)]


@pytest.mark.parametrize("committed", [0, 3, 7, 10])
def test_repeated_steps_appear_once(tmp_path: Path, committed: int) -> None:
    log(tmp_path, start=0, stop=10).close()
    log(tmp_path, start=committed, stop=12, offset=0.25).close()
    assert read(tmp_path, "train/loss") == [(step, float(step) + (0.25 if step >= committed else 0.0)) for step in range(12)]
    assert [step for step, _ in read(tmp_path, "train/learning_rate")] == list(range(12))


def test_flush_shows_values_before_close(tmp_path: Path) -> None:
    writer = log(tmp_path, start=0, stop=3)
    writer.flush()
    assert len(read(tmp_path, "train/loss")) == 3
    writer.close()


def test_nothing_happens_before_the_first_scalar(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "tensorboard", purge_step=0)
    writer.flush()
    writer.close()
    assert not (tmp_path / "tensorboard").exists()


def test_a_closed_writer_takes_no_scalar(tmp_path: Path) -> None:
    writer = log(tmp_path, start=0, stop=1)
    writer.close()
    with pytest.raises(CannotWrite, match="is closed"):
        writer.scalar(1, "train/loss", 0.0)


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from triform.report.tensorboard import EventWriter; assert 'tensorboard' not in sys.modules;"
        f"w = EventWriter(pathlib.Path({str(tmp_path)!r}), purge_step=0); w.scalar(0, 'a', 1.0); w.close();"
        "assert not {'torch', 'tensorflow', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
