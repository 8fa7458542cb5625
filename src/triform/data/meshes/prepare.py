"""Prepares meshes in three steps that survive being killed: plan, any number of batches at once, finalize.

A batch records its outcome beside the plan, its arrays too unless they lie in the prepared files already. `finalize` gathers all arrays
into one HDF5 file a split, writes the manifest last, and then removes the batches' arrays: at every moment each array is somewhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from triform.data.batches import outcomes, prepare_all, refuse_other_recipe
from triform.data.bookkeeping import read_object
from triform.data.meshes.config import MeshSettings
from triform.data.meshes.hdf5_folder import metadata_path
from triform.data.meshes.manifest import MeshManifest, MeshRecord, load_manifest, make_manifest, recipe_of
from triform.data.meshes.meshes import load_meshes
from triform.data.meshes.plan import MeshPlan, is_planned, load_plan, plan
from triform.data.meshes.prepared_files import (
    Arrays,
    StoredMeshes,
    all_paths,
    batch_bytes,
    metadata_bytes,
    read_batch,
    write_data_files,
)
from triform.data.meshes.raw_meshes import MeshArrays, RawMesh, check_protocol, open_raw_meshes
from triform.data.meshes.sampled_mesh import sample_mesh, shared_sha256_of
from triform.data.quarantine import BadFile, Quarantined
from triform.data.split import SPLITS
from triform.errors import DataError
from triform.files import flush_folders, remove_dead_litter, write_all

__all__ = ["finalize", "is_planned", "load_plan", "plan", "prepare", "prepare_batch", "prepared_already"]

_AGAIN = "run `triform prepare` again"


def prepare(settings: MeshSettings, *, workers: int = 2, progress: Callable[[int, int], None] = lambda _done, _total: None) -> MeshManifest:
    """Prepare the meshes of `settings.data_dir`, or use them as they are where that folder is prepared already.

    Args:
        workers: Threads; sampling and hashing let other threads run.
        progress: Called after each mesh with the number done and the number of all.

    Raises: DataError, CannotWrite, DiskFull, UsageError.
    """
    return prepared_already(settings) or prepare_all(plan(settings), prepare_batch, finalize, workers=workers, progress=progress)


def prepared_already(settings: MeshSettings) -> MeshManifest | None:
    """The manifest of `settings.data_dir`, where that is a prepared folder itself.

    Raises: DataError: It was prepared by other settings; the message names them.
    """
    manifest = load_manifest(settings.raw_folder()) if settings.data_dir else None
    if manifest:
        refuse_other_recipe(settings.data_dir, wanted=recipe_of(settings), found=manifest.recipe)
    return manifest


def prepare_batch(made: MeshPlan, number: int, *, on_file: Callable[[], None] = lambda: None) -> None:
    """Prepare one batch and record its outcome. Safe to repeat, and to run in several threads and processes at once.

    A bad mesh is recorded with its reason and stops nothing. `on_file` is called after each mesh; what it raises ends the batch.

    Raises: DataError: the raw files can't be opened. CannotWrite, DiskFull, UsageError.
    """
    path = made.batch_path(number)
    known, arrays_there = _known_records(made, number), read_batch(path.with_suffix(".npz"))
    records: list[MeshRecord] = []
    quarantined: list[Quarantined] = []
    arrays: dict[str, Arrays] = {}
    all_stored = True
    with open_raw_meshes(made.root, made.kind) as read, StoredMeshes(made.prepared_dir) as stored:
        for mesh in made.batch(number):
            try:
                raw = read(mesh)
                record, found = _reused(mesh, raw, known.get(mesh.name, []), stored, arrays_there)
                all_stored &= found is not None and mesh.name not in arrays_there
                if record is None or found is None:
                    record, found = _prepare_mesh(made, mesh, raw)
                records.append(record)
                arrays[mesh.name] = found
            except BadFile as bad:
                quarantined.append(Quarantined(mesh.name, mesh.member, str(bad)))
            on_file()
    if arrays and not all_stored:
        write_all({path.with_suffix(".npz"): batch_bytes(arrays)})
    made.write_outcome(number, step=made.step, plan=made.digest, meshes=records, quarantined=quarantined)


def finalize(made: MeshPlan, *, on_file: Callable[[], None] = lambda: None) -> MeshManifest:
    """Gather the batches, check every mesh's digest, write `manifest.json` and remove what is needed no more. Safe to repeat.

    Raises: DataError: a batch is missing, too many meshes are bad, a mesh is in two splits, or what is left breaks the protocol.
        CannotWrite, DiskFull.
    """
    records, quarantined = outcomes(made, "meshes", MeshRecord)
    _check_what_is_left(made, records)
    manifest = make_manifest(
        made.prepared_dir,
        made.recipe,
        num_vertices=made.template.num_vertices,
        shared_sha256=shared_sha256_of(made.template.faces, made.template.mirror),
        meshes=records,
        quarantined=quarantined,
    )
    if not _is_there(manifest):
        try:
            write_data_files(made.prepared_dir, _gather(made, records, on_file=on_file), made.template)
        except DataError:
            if _is_there(manifest):  # another process ended first, and removed the batches' arrays
                return manifest
            raise
        write_all({metadata_path(made.prepared_dir, split): metadata_bytes(manifest.of_split(split)) for split in SPLITS})
    manifest.write()
    _remove_unneeded(made)
    return manifest


def _known_records(made: MeshPlan, number: int) -> dict[str, list[MeshRecord]]:
    """Meshes that earlier runs made in the same way: from their batches' records, whichever number these had."""
    known: dict[str, list[MeshRecord]] = {}
    wanted = {mesh.name for mesh in made.batch(number)}
    own = made.batch_path(number)
    others = sorted(path for path in own.parent.glob("batch-*.json") if path != own)
    # Only an earlier preparation that was gathered can have left this batch's meshes under another number.
    gathered = any(path.exists() for path in all_paths(made.prepared_dir))
    for path in [own, *(others if gathered else [])]:
        if len(known) == len(wanted):
            break
        outcome = read_object(path)
        for tree in outcome["meshes"] if outcome.get("step") == made.step else ():
            if tree["name"] in wanted:
                known.setdefault(tree["name"], []).append(MeshRecord(**tree))
    return known


def _reused(
    mesh: RawMesh, raw: MeshArrays, known: list[MeshRecord], stored: StoredMeshes, batch: dict[str, Arrays]
) -> tuple[MeshRecord | None, Arrays | None]:
    """The record and arrays that were made of the same content, if they are still there."""
    for record in known:
        if record.source_sha256 == raw.sha256 and (arrays := stored.find(record, batch)) is not None:
            return replace(record, split=mesh.split, label=mesh.label), arrays
    return None, None


def _prepare_mesh(made: MeshPlan, mesh: RawMesh, raw: MeshArrays) -> tuple[MeshRecord, Arrays]:
    sampled = sample_mesh(raw, made.template, made.recipe, name=mesh.name)
    record = MeshRecord(
        mesh.name, mesh.subject, mesh.split, mesh.label, raw.sha256, sampled.content_sha256, sampled.sha256, sampled.mean_square
    )
    return record, (sampled.coordinates, sampled.normals)


def _check_what_is_left(made: MeshPlan, records: list[MeshRecord]) -> None:
    names = {record.name for record in records}
    check_protocol((mesh for mesh in made.meshes if mesh.name in names), made.recipe.protocol)
    first: dict[str, MeshRecord] = {}
    for record in records:
        other = first.setdefault(record.content_sha256, record)
        if other.split != record.split:
            raise DataError(
                f"{other.name} in {other.split} and {record.name} in {record.split} are the same mesh",
                expected="other meshes in each split",
                do="remove one of them",
            )


def _is_there(manifest: MeshManifest) -> bool:
    """Whether the prepared files are those of this manifest already, every array with its digest."""
    try:
        there = load_manifest(manifest.prepared_dir)
        if there is None or there.digest != manifest.digest or not all(path.exists() for path in all_paths(manifest.prepared_dir)):
            return False
        for split in SPLITS:
            if metadata_path(manifest.prepared_dir, split).read_bytes() != metadata_bytes(manifest.of_split(split)):
                return False
            load_meshes(manifest.prepared_dir, split).close()
    except (DataError, OSError):
        return False
    return True


def _gather(made: MeshPlan, records: list[MeshRecord], *, on_file: Callable[[], None]) -> Iterator[tuple[MeshRecord, Arrays]]:
    of_name = {record.name: record for record in records}
    with StoredMeshes(made.prepared_dir) as stored:
        for number in range(made.num_batches):
            batch = read_batch(made.batch_path(number).with_suffix(".npz"))
            for mesh in made.batch(number):
                if (record := of_name.get(mesh.name)) is None:
                    continue
                arrays = stored.find(record, batch)
                if arrays is None:
                    raise DataError(f"The arrays of {mesh.name} are gone or changed during preparation", do=_AGAIN)
                yield record, arrays
                on_file()


def _remove_unneeded(made: MeshPlan) -> None:
    """Remove the batches' arrays, records and templates of earlier plans, and what a killed process left."""
    folder = made.prepared_dir / "plan"
    needed = {made.batch_path(number) for number in range(made.num_batches)}
    needed |= {path for path in folder.glob("template-*.npz") if path.stem == f"template-{made.template.sha256[:16]}"}
    stale = [path for path in folder.glob("*") if path.name.startswith(("batch-", "template-")) and path not in needed]
    for path in stale:
        path.unlink(missing_ok=True)
    remove_dead_litter(made.prepared_dir)
    flush_folders([folder])
