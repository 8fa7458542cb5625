"""A run's log under `logs/`, a file a generation: what it began from, validations, checkpoints, and how it ended."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from triform.files import disk_errors
from triform.training.loop import Progress

FORMAT = "%(asctime)s %(levelname)s %(message)s"
logger = logging.getLogger(__name__)


class _LogFile(logging.FileHandler):
    """Says nothing where it can't write: a full disk has its own error, and a log must not end a run."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Append what the package logs to `path`. Raises: CannotWrite, DiskFull: the file can't be opened."""
    package = logging.getLogger("triform")
    with disk_errors(path):
        path.parent.mkdir(exist_ok=True)
        file = _LogFile(path, encoding="utf-8")
    file.setFormatter(logging.Formatter(FORMAT))
    level = package.level
    package.setLevel(logging.INFO)
    package.addHandler(file)
    try:
        yield
    finally:
        package.removeHandler(file)
        package.setLevel(level)
        file.close()


class LogObserver:
    """Logs validations and checkpoints."""

    def __init__(self, *, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch

    def on_step(self, _progress: Progress, _scalars: Mapping[str, float], _lr: float) -> None:
        """Every step is in the metrics log."""

    def on_validation(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        told = ", ".join(f"{name} {value:.6g}" for name, value in metrics.items())
        best = " (best so far)" if progress.best.step == progress.step else ""
        logger.info("epoch %d, step %d: %s%s", progress.step // self.steps_per_epoch, progress.step, told, best)

    def on_commit(self, step: int) -> None:
        logger.info("checkpoint at step %d", step)
