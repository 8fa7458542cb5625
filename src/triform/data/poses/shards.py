"""Prepared arrays on the disk: a safetensors file a batch, mapped into memory where it is read."""

import json
import mmap
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triform.errors import DataError

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1")}


def shard_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A file's content; the same arrays give the same bytes."""
    from safetensors.numpy import save

    return save(dict(arrays))


def shard_path(prepared_dir: Path, name: str) -> Path:
    """Where a shard of this name lies."""
    return prepared_dir / "shards" / name


class MappedShard:
    """Arrays of one file, as views of the mapped file: nothing is read before it is looked at, and threads may look at once.

    safetensors' own slices copy through a lock and take a header look-up each; a view is made once.
    """

    def __init__(self, path: Path) -> None:
        """Raises: DataError: the file is gone or torn."""
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            size = int.from_bytes(self._map[:8], "little")
            header = json.loads(self._map[8 : 8 + size])
            self.arrays = {name: self._view(8 + size, entry) for name, entry in header.items() if name != "__metadata__"}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} can't be used: {error}", expected="the file that was prepared", do="run `triform prepare` again"
            ) from error

    def _view(self, start: int, entry: Mapping[str, Any]) -> np.ndarray:
        first, end = entry["data_offsets"]
        dtype = _DTYPES[entry["dtype"]]
        return np.frombuffer(self._map, dtype, (end - first) // dtype.itemsize, start + first).reshape(entry["shape"])


class Shards:
    """The shards of a prepared folder, each opened when it is first asked for."""

    def __init__(self, prepared_dir: Path) -> None:
        self._folder = prepared_dir
        self._opened: dict[str, MappedShard] = {}
        self._lock = threading.Lock()

    def arrays_of(self, shard: str, track: str) -> dict[str, np.ndarray]:
        """The arrays of one track by their short names. Raises: DataError."""
        with self._lock:
            if shard not in self._opened:
                self._opened[shard] = MappedShard(shard_path(self._folder, shard))
            arrays = self._opened[shard].arrays
        start = f"{track}/"
        return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
