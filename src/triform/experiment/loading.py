"""An experiment from its file and the words of a command line."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triform.experiment import overrides as command_line
from triform.experiment.document import Document, Tree
from triform.experiment.gate import check
from triform.experiment.reading import read_file
from triform.experiment.tree import Experiment


@dataclass(frozen=True, slots=True)
class Loaded:
    """An experiment, and what it was made of."""

    experiment: Experiment
    overrides: tuple[str, ...]
    """Words of the command line, as typed."""
    path: Path | None
    """The experiment file."""


def load(path: Path | None, overrides: Sequence[str] = (), *, defaults: dict[str, Any] | None = None) -> Loaded:
    """Read an experiment: `defaults` lie under the file, the file under `overrides`.

    Args:
        path: the YAML file; None where `defaults` and `overrides` say all.
        overrides: words as typed, `--training.batch-size 64`.
        defaults: a plain tree. A block of another `kind` in the file replaces the one here.

    Raises:
        ExperimentError: every mistake, a line each, with file, line, column and path.
    """
    document = Document() if path is None else read_file(path)
    document.tree = _over(deepcopy(defaults or {}), document.tree)
    command_line.apply(document, overrides)
    return Loaded(check(document), tuple(overrides), path)


def _over(below: Tree, above: Tree) -> Tree:
    """`above` laid over `below`, block by block."""
    if above.get("kind", below.get("kind")) != below.get("kind"):
        return above
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _over(below[key], above[key])
    return merged
