"""`init_from`: the weights that a run starts with, taken from a pretrained model as far as they fit."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from triform.errors import DataError, ExperimentError
from triform.pipeline.portable import read_portable
from triform.run.folder import Json, RunFolder
from triform.training.backend import Backend

logger = logging.getLogger(__name__)
Weights = Mapping[str, NDArray[np.generic]]

PRETRAINED = "encoder"
"""The part of a model that must be taken whole; any other part is taken where all of it fits, and is new where not."""


def weights_file(init_from: str) -> Path:
    """The model file that the setting names: its own path, or the final model of the run in that folder. Raises: DataError."""
    path = Path(init_from).expanduser().absolute()
    if path.suffix in (".npz", ".safetensors") and path.is_file():
        return path
    folder = RunFolder(path)
    if folder.result() is not None:
        return path / "final" / "model.safetensors"
    begun = folder.identity() is not None
    what, do = ("is a run that is not finished", "end it with `triform stop`") if begun else ("is no run", "train that run first")
    raise DataError(
        f"init_from: {path} {what}",
        expected="the folder of a finished run, or its final/model.safetensors or checkpoints/best_model.npz",
        do=f"{do}, or name another",
    )


def pointer_to_weights(init_from: str) -> Json:
    """What `run.json` keeps of the weights that a run starts with. Raises: DataError."""
    path = weights_file(init_from)
    return {"weights": str(path), "sha256": hashlib.sha256(_bytes_of(path)).hexdigest()}


def initialise(backend: Backend, pointer: Json) -> str:
    """Put the weights into a fresh model; returns what was taken and what is new.

    Raises: DataError: the file is gone or changed. ExperimentError: the encoder does not fit.
    """
    weights, state = _read(pointer), backend.state()
    own = {name.removeprefix("model/"): array for name, array in state.items() if name.startswith("model/")}
    taken, new = _parts(own, weights, pointer)
    backend.load_state({**state, **{f"model/{name}": weights[name] for name in own if _part(name) in taken}})
    number = sum(array.size for name, array in own.items() if _part(name) in taken)
    left = sorted({_part(name) for name in weights} - set(taken))
    told = f"started with {pointer['weights']}: took {', '.join(taken)} ({number:,} of {sum(a.size for a in own.values()):,} numbers)"
    return f"{told}; new: {', '.join(new) or 'nothing'}; left there: {', '.join(left) or 'nothing'}"


def _parts(own: Weights, weights: Weights, pointer: Json) -> tuple[list[str], list[str]]:
    """Parts of the model that are taken, and those that are new."""
    odd: dict[str, list[str]] = {part: [] for part in dict.fromkeys(map(_part, own))}
    for name, array in own.items():
        if name not in weights:
            odd[_part(name)].append(f"{name} is not there")
        elif weights[name].shape != array.shape:
            odd[_part(name)].append(f"{name} is {_size(weights[name])} there and {_size(array)} here")
    for name in weights.keys() - own.keys():
        if _part(name) == PRETRAINED:
            odd.setdefault(PRETRAINED, []).append(f"{name} is not here")
    if misfits := odd.get(PRETRAINED, [f"there is no {PRETRAINED}"]):
        raise ExperimentError(
            f"init_from: the {PRETRAINED} in {pointer['weights']} does not fit this model: {'; '.join(misfits[:5])}",
            expected="an encoder of the same settings, and clips of as many frames",
            do="give task.encoder and data.num_frames as in the pretrained run",
        )
    return [part for part, found in odd.items() if not found], [part for part, found in odd.items() if found]


def _read(pointer: Json) -> Weights:
    path = Path(pointer["weights"])
    data = _bytes_of(path)
    try:
        if hashlib.sha256(data).hexdigest() != pointer["sha256"]:
            raise DataError(
                f"{path} is not what it was when this run was to start with it",
                expected=f"sha256 {pointer['sha256']}",
                do="put the former file back, or start another run under another --name",
            )
        if path.suffix == ".npz":
            state = read_portable(path)[0]
            return {name.removeprefix("model/"): array for name, array in state.items() if name.startswith("model/")}
        return load(data)
    except SafetensorError as error:
        raise _unreadable(path, error) from error


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} can't be read: {error}", expected="the weights this run starts with", do="put the file back")


def _part(name: str) -> str:
    return name.split(".")[0]


def _size(array: NDArray[np.generic]) -> str:
    return " x ".join(map(str, array.shape)) or "one number"
