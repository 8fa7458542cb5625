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
from triform.data.poses import manifest as pose_manifest
from triform.data.poses import prepare as poses
from triform.data.poses.config import PoseSettings
from triform.data.poses.manifest import PoseManifest
from triform.data.split import Split
from triform.errors import DataError
from triform.experiment import Experiment, data_of
from triform.run.provenance import usable_threads

AnyManifest = Manifest | MeshManifest | PoseManifest


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
    return replace(experiment, data=data, init_from=_absolute(_run_named(experiment.init_from)))


def _run_named(init_from: str) -> str:
    """A run may be named as on the command line, by its folder under `runs/`."""
    named = Path("runs") / init_from
    return str(named) if init_from and not Path(init_from).expanduser().exists() and (named / "run.json").exists() else init_from


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def load_manifest(prepared_dir: Path | str) -> AnyManifest | None:
    """What a prepared folder holds, of whatever kind. Raises: DataError: it was changed."""
    readers = (cloud_manifest.load_manifest, mesh_manifest.load_manifest, pose_manifest.load_manifest)
    return next((found for read in readers if (found := read(prepared_dir)) is not None), None)


def load_splits(experiment: Experiment, prepared_dir: Path, splits: Iterable[Split]) -> dict[str, Any]:
    """Prepared samples by split. Raises: DataError."""
    if isinstance(experiment.data, MeshSettings):
        from triform.data.meshes.meshes import load_meshes

        return {split: load_meshes(prepared_dir, split, cache=experiment.data.cache_data) for split in splits}
    if isinstance(experiment.data, PoseSettings):
        from triform.data.poses.poses import load_poses

        return {split: load_poses(prepared_dir, split, experiment.data) for split in splits}
    from triform.data.clouds import load_clouds

    return {split: load_clouds(prepared_dir, split) for split in splits}


def prepare(experiment: Experiment, *, progress: Callable[[int, int], None] = lambda _done, _total: None) -> AnyManifest:
    """Prepare all samples, redoing only what changed. Raises: DataError, CannotWrite, DiskFull."""
    if (known := _prepared_already(experiment)) is not None:
        return known
    manifest: AnyManifest = _preparation(experiment).prepare(experiment.data, workers=usable_threads(), progress=progress)
    return manifest


def _preparation(experiment: Experiment) -> Any:
    """The module that prepares this kind of data."""
    if isinstance(experiment.data, PoseSettings):
        return poses
    return meshes if isinstance(experiment.data, MeshSettings) else clouds


def _planned_by(prepared_dir: Path) -> Any:
    """The module whose plan lies in a prepared folder."""
    return next((module for module in (poses, meshes) if module.is_planned(prepared_dir)), clouds)


def plan(experiment: Experiment) -> Planned:
    """List the work. Raises: DataError, CannotWrite, DiskFull."""
    if (known := _prepared_already(experiment)) is not None:
        return Planned(known.prepared_dir, 0, known.digest)
    data = experiment.data
    made = _preparation(experiment).plan(data)
    return Planned(made.prepared_dir, made.num_batches, made.digest)


def _prepared_already(experiment: Experiment) -> AnyManifest | None:
    """The manifest of data that was given prepared. Raises: DataError: by other settings, and there is no raw data to do it again."""
    data = experiment.data
    given = data if data.data_dir else replace(data, data_dir=data.prepared_dir)
    try:
        known: AnyManifest | None = _preparation(experiment).prepared_already(given)
    except DataError:
        if data.data_dir or data.kind != "maize_field3d":
            raise
        return None  # its raw data can be downloaded
    return known


def prepare_batch(prepared_dir: Path, number: int) -> None:
    """Do one batch of the plan that lies in the prepared folder."""
    module = _planned_by(prepared_dir)
    planned = module.load_plan(prepared_dir)
    source = [data_of({**planned.recipe, "data_dir": str(planned.root)}).raw_poses()] if module is poses else []
    module.prepare_batch(planned, number, *source)


def finalize(prepared_dir: Path, *, num_batches: int) -> AnyManifest:
    """Check what the batches made and write the manifest. Raises: DataError."""
    if num_batches:
        module = _planned_by(prepared_dir)
        made: AnyManifest = module.finalize(module.load_plan(prepared_dir))
        return made
    known = load_manifest(prepared_dir)
    if known is None:
        raise DataError(f"{prepared_dir} is not prepared any more", do="run the same command again")
    return known
