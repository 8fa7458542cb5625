"""Scalars as TensorBoard event files, without torch. What a resumed run logs again appears once."""

import time
from pathlib import Path
from typing import Any

from triform.errors import CannotWrite


class EventWriter:
    """Appends scalars to a new event file in `folder`; nothing is imported or opened before the first of them.

    The file starts with TensorBoard's mark of a restarted session at `purge_step`: readers then drop every event of earlier files
    whose step is `purge_step` or later, which are the steps that the run is about to log again.

    Source: `event_accumulator.py` in TensorBoard, `_CheckForRestartAndMaybePurge` (file version 2 and later).
    """

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        self._folder, self._purge_step = folder, purge_step
        self._writer: Any = None
        self._closed = False

    def scalar(self, step: int, name: str, value: float, *, wall_time: float | None = None) -> None:
        """Add one value; `wall_time` is in seconds since 1970, now if left out.

        Raises:
            CannotWrite: The folder can't be made or written, or the writer is closed.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=name, simple_value=float(value))])
        self._add(step, time.time() if wall_time is None else wall_time, summary=summary)

    def flush(self) -> None:
        """Hand everything added so far to the operating system."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Write everything and close the file; the writer takes no scalar after that."""
        if self._writer is not None:
            self._writer.close()
        self._writer, self._closed = None, True

    def _add(self, step: int, wall_time: float, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if self._writer is None:
            self._open(wall_time)
        self._writer.add_event(Event(step=step, wall_time=wall_time, **content))

    def _open(self, wall_time: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if self._closed:
            raise CannotWrite(f"The event file in {self._folder} is closed", do="Make a new EventWriter whose purge_step is the next step")
        try:
            self._writer = EventFileWriter(str(self._folder))
        except OSError as error:
            raise CannotWrite(
                f"{self._folder} can't be written: {error.strerror}", expected="a writable folder", do="Check its permissions"
            ) from error
        self._writer.add_event(Event(step=self._purge_step, wall_time=wall_time, session_log=SessionLog(status=SessionLog.START)))
