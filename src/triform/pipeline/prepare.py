"""Prepare an experiment's data: whole, or in the pieces that a workflow hands out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from triform.data import manifest as cloud_manifest
from triform.data import prepare as clouds
from triform.data.manifest import Manifest
from triform.data.meshes import manifest as mesh_manifest
from triform.data.meshes import prepare as meshes
from triform.data.meshes.config import MeshSettings
from triform.data.meshes.manifest import MeshManifest
from triform.data.split import Split
from triform.errors import DataError
from triform.experiment import Experiment
from triform.run.provenance import usable_threads

AnyManifest = Manifest | MeshManifest


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
    if isinstance(data, MeshSettings):
        data = replace(data, vertex_indices=_absolute(data.vertex_indices), mirror_indices=_absolute(data.mirror_indices))
    if data.data_dir and load_manifest(data.data_dir) is not None:
        data = replace(data, prepared_dir=data.data_dir)
    elif data.data_dir or data.prepared_dir or data.kind == "maize_field3d":
        data = replace(data, prepared_dir=str(data.prepared_folder()))
    return replace(experiment, data=data)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def load_manifest(prepared_dir: Path | str) -> AnyManifest | None:
    """What a prepared folder holds, of whatever kind. Raises: DataError: it was changed."""
    return cloud_manifest.load_manifest(prepared_dir) or mesh_manifest.load_manifest(prepared_dir)


def load_splits(experiment: Experiment, prepared_dir: Path, splits: Iterable[Split]) -> dict[str, Any]:
    """Prepared samples by split. Raises: DataError."""
    if isinstance(experiment.data, MeshSettings):
        from triform.data.meshes.meshes import load_meshes

        return {split: load_meshes(prepared_dir, split, cache=experiment.data.cache_data) for split in splits}
    from triform.data.clouds import load_clouds

    return {split: load_clouds(prepared_dir, split) for split in splits}


def prepare(experiment: Experiment, *, progress: Callable[[int, int], None] = lambda _done, _total: None) -> AnyManifest:
    """Prepare all samples, redoing only what changed. Raises: DataError, CannotWrite, DiskFull."""
    if (known := _prepared_already(experiment)) is not None:
        return known
    if isinstance(experiment.data, MeshSettings):
        return meshes.prepare(experiment.data, workers=usable_threads(), progress=progress)
    return clouds.prepare(experiment.data, workers=usable_threads(), progress=progress)


def plan(experiment: Experiment) -> Planned:
    """List the work. Raises: DataError, CannotWrite, DiskFull."""
    if (known := _prepared_already(experiment)) is not None:
        return Planned(known.prepared_dir, 0, known.digest)
    data = experiment.data
    made = meshes.plan(data) if isinstance(data, MeshSettings) else clouds.plan(data, data.raw_files())
    return Planned(made.prepared_dir, made.num_batches, made.digest)


def _prepared_already(experiment: Experiment) -> AnyManifest | None:
    """The manifest of data that was given prepared. Raises: DataError: by other settings, and there is no raw data to do it again."""
    data = experiment.data
    if isinstance(data, MeshSettings):
        return meshes.prepared_already(data if data.data_dir or not data.prepared_dir else replace(data, data_dir=data.prepared_dir))
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
    if meshes.is_planned(prepared_dir):
        meshes.prepare_batch(meshes.load_plan(prepared_dir), number)
    else:
        clouds.prepare_batch(clouds.load_plan(prepared_dir), number)


def finalize(prepared_dir: Path, *, num_batches: int) -> AnyManifest:
    """Check what the batches made and write the manifest. Raises: DataError."""
    if num_batches and meshes.is_planned(prepared_dir):
        return meshes.finalize(meshes.load_plan(prepared_dir))
    if num_batches:
        return clouds.finalize(clouds.load_plan(prepared_dir))
    known = load_manifest(prepared_dir)
    if known is None:
        raise DataError(f"{prepared_dir} is not prepared any more", do="run the same command again")
    return known
