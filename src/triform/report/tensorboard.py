"""Scalars as TensorBoard event files, without torch. What a resumed run logs again appears once."""

import io
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from triform.errors import CannotWrite
from triform.files import disk_errors


class EventWriter:
    """Appends scalars to a new event file in `folder`; nothing is imported or opened before the first of them.

    The file starts with TensorBoard's mark of a restarted session at `purge_step`: readers then drop every event of earlier files
    whose step is `purge_step` or later, which are the steps that the run is about to log again. Events wait in memory for `flush`:
    TensorBoard's own writer has a thread that opens the file for every event, and a full disk ends it with a traceback.

    Source: `event_accumulator.py` in TensorBoard, `_CheckForRestartAndMaybePurge` (file version 2 and later).
    """

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        self._folder, self._purge_step = folder, purge_step
        self._path: Path | None = None
        self._waiting, self._lock = io.BytesIO(), threading.Lock()
        self._closed = False

    def scalar(self, step: int, name: str, value: float, *, wall_time: float | None = None) -> None:
        """Add one value; `wall_time` is in seconds since 1970, now if left out.

        Raises:
            CannotWrite: The folder can't be made, or the writer is closed.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._closed:
            raise CannotWrite(f"The event file in {self._folder} is closed", do="Make a new EventWriter whose purge_step is the next step")
        summary = Summary(value=[Summary.Value(tag=name, simple_value=float(value))])
        self._add(step, time.time() if wall_time is None else wall_time, summary=summary)

    def flush(self) -> None:
        """Hand everything added so far to the operating system.

        Raises:
            CannotWrite, DiskFull: The file can't be written.
        """
        with self._lock:
            data, self._waiting = self._waiting.getvalue(), io.BytesIO()
        if self._path is not None and data:
            with disk_errors(self._path), self._path.open("ab") as file:
                file.write(data)

    def close(self) -> None:
        """Write everything; the writer takes no scalar after that. Raises: CannotWrite, DiskFull."""
        self._closed = True
        self.flush()

    def _add(self, step: int, wall_time: float, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._path is None:
            self._open(wall_time)
        with self._lock:
            RecordWriter(self._waiting).write(Event(step=step, wall_time=wall_time, **content).SerializeToString())

    def _open(self, wall_time: float) -> None:
        """TensorBoard reads files in the order of their names, and the mark must come after the files it speaks of."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        path = self._folder / f"events.out.tfevents.{seconds:010d}.{nanoseconds:09d}.{socket.gethostname()}.{os.getpid()}"
        with disk_errors(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            path.touch()
        self._path = path
        self._add(0, wall_time, file_version="brain.Event:2")
        self._add(self._purge_step, wall_time, session_log=SessionLog(status=SessionLog.START))
