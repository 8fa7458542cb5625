"""A run's log under `logs/`, a file a generation: what it began from, validations, checkpoints, and how it ended."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triform.files import disk_errors

FORMAT = "%(asctime)s %(levelname)s %(message)s"


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
