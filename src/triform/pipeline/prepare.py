"""Prepare an experiment's data: whole, or in the pieces that a workflow hands out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from triform.data import prepare as clouds
from triform.data.manifest import Manifest, load_manifest
from triform.errors import DataError
from triform.experiment import Experiment
from triform.run.provenance import usable_threads


@dataclass(frozen=True)
class Planned:
    """What is to be prepared, and where."""

    prepared_dir: Path
    num_batches: int
    """0: the data is prepared already."""
    digest: str


def located(experiment: Experiment) -> Experiment:
    """The experiment with absolute data folders, so that it means the same from every working directory."""
    data = experiment.data
    if data.data_dir:
        data = replace(data, data_dir=str(data.raw_folder()))
    if data.data_dir and load_manifest(data.data_dir) is not None:
        data = replace(data, prepared_dir=data.data_dir)
    elif data.data_dir or data.prepared_dir or data.kind == "maize_field3d":
        data = replace(data, prepared_dir=str(data.prepared_folder()))
    return replace(experiment, data=data)


def prepare(experiment: Experiment, *, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Manifest:
    """Prepare all clouds, redoing only what changed. Raises: DataError, CannotWrite, DiskFull."""
    if (known := _prepared_already(experiment)) is not None:
        return known
    return clouds.prepare(experiment.data, workers=usable_threads(), progress=progress)


def plan(experiment: Experiment) -> Planned:
    """List the work. Raises: DataError, CannotWrite, DiskFull."""
    if (known := _prepared_already(experiment)) is not None:
        return Planned(known.prepared_dir, 0, known.digest)
    made = clouds.plan(experiment.data, experiment.data.raw_files())
    return Planned(made.prepared_dir, made.num_batches, made.digest)


def _prepared_already(experiment: Experiment) -> Manifest | None:
    """The manifest of data that was given prepared. Raises: DataError: by other settings, and there is no raw data to do it again."""
    data = experiment.data
    if data.data_dir or not data.prepared_dir:
        return clouds.prepared_already(data)
    try:
        return clouds.prepared_already(replace(data, data_dir=data.prepared_dir))
    except DataError:
        if data.kind == "maize_field3d":  # its raw data can be downloaded
            return None
        raise


def prepare_batch(prepared_dir: Path, number: int) -> None:
    """Do one batch of the plan that lies in the prepared folder."""
    clouds.prepare_batch(clouds.load_plan(prepared_dir), number)


def finalize(prepared_dir: Path, *, num_batches: int) -> Manifest:
    """Check what the batches made and write the manifest. Raises: DataError."""
    if num_batches:
        return clouds.finalize(clouds.load_plan(prepared_dir))
    known = load_manifest(prepared_dir)
    if known is None:
        raise DataError(f"{prepared_dir} is not prepared any more", do="run the same command again")
    return known
