"""`checkpoints/best_model.npz`: the best model with its optimizer's state in one file that NumPy and MLX read as it is."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triform.errors import DataError
from triform.files import write_durably
from triform.pipeline.observers import Watcher
from triform.run.commit import State
from triform.run.folder import Json
from triform.run.ownership import Ownership
from triform.training.backend import Backend
from triform.training.early_stopping import Best
from triform.training.loop import Progress

FORMAT = "triform model"


class BestModelObserver(Watcher):
    """Writes the file at each validation that is the best so far, before any commit of that step can count.

    So a run that goes on from a commit finds the file of the best validation up to there, or writes it again.
    """

    def __init__(self, owner: Ownership, backend: Backend, meta: Json) -> None:
        """Args: meta: environment, data_digest, and measured_by."""
        self.owner, self.backend, self.meta = owner, backend, meta

    def begin(self, state: State, progress: Progress) -> None:
        """Let the file hold the best model that the run goes on with, where it does not: a run that begins from another one's checkpoint
        may never find a better one. Beside weights of an earlier step stands the optimizer's state of this step, the only one kept."""
        best = Best(progress.best.value, progress.best.step)
        if best.step is None or self._written() == best:
            return
        weights = {name.replace("best/", "model/", 1): array for name, array in state.items() if name.startswith("best/")}
        state = {name: array for name, array in state.items() if not name.startswith("best/")} | weights
        self._write(state, Progress(best.step, best), {self.meta["measured_by"]["monitor"]: best.value})

    def on_validation(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        if progress.best.step == progress.step:
            self._write(self.backend.state(), progress, metrics)

    def _written(self) -> Best | None:
        try:
            return Best(**read_portable(self.owner.folder.best_model)[1]["progress"]["best"])
        except DataError:
            return None

    def _write(self, state: State, progress: Progress, metrics: Mapping[str, float | None]) -> None:
        self.owner.confirm()
        record = {**self.meta, "format": FORMAT, "progress": progress.to_json(), "metrics": dict(metrics)}
        write_durably(self.owner.folder.best_model, packed(state, record))


def packed(state: State, record: Json) -> bytes:
    """The file's bytes: the arrays under their names, and the record as the UTF-8 bytes of its JSON (MLX can't load text)."""
    file = io.BytesIO()
    arrays: dict[str, Any] = {**dict(sorted(state.items())), "record": np.frombuffer(json.dumps(record, sort_keys=True).encode(), np.uint8)}
    np.savez(file, **arrays)
    return file.getvalue()


def read_portable(path: Path) -> tuple[State, Json]:
    """State and record of such a file; the record gets the file's SHA-256. Raises: DataError."""
    try:
        data = path.read_bytes()
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            state = {name: arrays[name] for name in arrays.files}
        record: Json = json.loads(state.pop("record").tobytes())
        if record["format"] != FORMAT:
            raise ValueError(f"its format is {record['format']}")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} can't be used: {error}", expected="a best_model.npz that a run left", do="name another file, or a run's checkpoint"
        ) from error
    return state, {**record, "sha256": hashlib.sha256(data).hexdigest()}
