"""The metrics log: one append-only file a generation, of which a commit counts only its beginning.

A commit records how many bytes of its generation's file belong to it, and a claim records the same of the commit it goes on from.
So a killed trainer's rows after its last commit are never counted, a zombie can't disturb its successor's file, and the rows of a
run that was killed a hundred times equal those of one that was not.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from triform.files import disk_errors
from triform.run.folder import RunFolder
from triform.run.ownership import lineage


class Row(NamedTuple):
    """One number of the history; wall times live elsewhere."""

    step: int
    split: str
    name: str
    value: float


@dataclass
class MetricsLog:
    """Appends to the file of one generation."""

    folder: RunFolder
    generation: int
    _descriptor: int = -1
    _bytes: int = 0

    def open(self) -> None:
        path = self.folder.metrics(self.generation)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def append(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """One line for all values of a step and split."""
        line = json.dumps({"step": step, "split": split, "values": dict(values)}).encode() + b"\n"
        with disk_errors(self.folder.metrics(self.generation)):
            rest = line
            while rest:  # a disk that fills up takes a part first and refuses the next call
                rest = rest[os.write(self._descriptor, rest) :]
        self._bytes += len(line)

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self._bytes

    def sync(self) -> None:
        """Make what was appended durable. Raises: DiskFull, CannotWrite."""
        with disk_errors(self.folder.metrics(self.generation)):
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def history(folder: RunFolder, generation: int, position: int | None = None) -> list[Row]:
    """All rows up to byte `position` of `generation` (None: to its end), in the order of the steps."""
    rows: list[Row] = []
    chain = lineage(folder, generation)
    ends = [claim["base"]["metrics_bytes"] for claim in chain[1:]] + [position]
    for claim, end in zip(chain, ends, strict=True):
        path = folder.metrics(claim["generation"])
        text = path.read_bytes()[:end] if path.exists() else b""
        for line in text[: text.rfind(b"\n") + 1].splitlines():
            entry = json.loads(line)
            rows += [Row(entry["step"], entry["split"], name, value) for name, value in entry["values"].items()]
    return rows
