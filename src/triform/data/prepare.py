"""Prepares clouds in three steps that survive being killed: plan, any number of batches at once, finalize.

A batch records its outcome beside the plan; what is already there, made of the same content, is left alone. Only `finalize` knows
which files are usable and which have one content, so it deals the splits for good and makes anew the few clouds whose role changed.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from triform.data.batches import outcomes, prepare_all, refuse_other_recipe
from triform.data.bookkeeping import read_object, sha256_of_file
from triform.data.config import CloudRecipe, CloudSettings
from triform.data.manifest import CloudRecord, Manifest, cloud_path, load_manifest, make_manifest, recipe_of
from triform.data.plan import Plan, load_plan, plan
from triform.data.quarantine import BadFile, Quarantined
from triform.data.raw_files import RawFile, Read, open_raw_files
from triform.data.sampled_cloud import STEP_VERSION, sample_cloud
from triform.data.split import Split, join_groups
from triform.errors import DataError
from triform.files import flush_folders, remove_dead_litter, write_all

__all__ = ["finalize", "load_plan", "plan", "prepare", "prepare_batch", "prepared_already"]

_WRITE_AHEAD = 32
"""Clouds that are made before they are written, in `finalize`."""


def prepare(settings: CloudSettings, *, workers: int = 2, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Manifest:
    """Prepare the clouds of `settings.data_dir`, or use them as they are where that folder is prepared already.

    Args:
        workers: Threads; parsing, sampling and hashing let other threads run.
        progress: Called after each file with the number done and the number of all.

    Raises: DataError, CannotWrite, DiskFull.
    """
    return prepared_already(settings) or prepare_all(plan(settings), prepare_batch, finalize, workers=workers, progress=progress)


def prepared_already(settings: CloudSettings) -> Manifest | None:
    """The manifest of `settings.data_dir`, where that is a prepared folder itself.

    Raises: DataError: It was prepared by other settings; the message names them.
    """
    manifest = load_manifest(settings.raw_folder()) if settings.data_dir else None
    if manifest:
        refuse_other_recipe(settings.data_dir, wanted=recipe_of(settings), found=manifest.recipe)
    return manifest


def prepare_batch(made: Plan, number: int, *, on_file: Callable[[], None] = lambda: None) -> None:
    """Prepare one batch and record its outcome. Safe to repeat, and to run in several threads and processes at once.

    A bad file is recorded with its reason and stops nothing. `on_file` is called after each file; what it raises ends the batch.

    Raises: DataError: the archive is gone. CannotWrite, DiskFull.
    """
    known = _known_records(made, number)
    split_of = made.split_of(made.groups)
    records: list[CloudRecord] = []
    quarantined: list[Quarantined] = []
    outputs: dict[Path, bytes] = {}
    with open_raw_files(made.root) as read:
        for file in made.batch(number):
            try:
                record, npz = _prepare_file(made, file, read, split=split_of[file.name], known=known.get(file.name, []))
                records.append(record)
                outputs |= {record.path(made.prepared_dir): npz} if npz else {}
            except BadFile as bad:
                quarantined.append(Quarantined(file.name, file.member, str(bad)))
            on_file()
    write_all(outputs)
    made.write_outcome(number, step=_step(made.recipe), plan=made.digest, clouds=records, quarantined=quarantined)


def finalize(made: Plan, *, on_file: Callable[[], None] = lambda: None) -> Manifest:
    """Deal the splits, check every cloud's digest, write `manifest.json` and remove what it doesn't name. Safe to repeat.

    Raises: DataError: a batch is missing, too many files are bad, fewer than three clouds are usable, or a cloud was changed.
        CannotWrite, DiskFull.
    """
    records, quarantined = outcomes(made, "clouds", CloudRecord)
    groups = join_groups({record.name: made.groups[record.name] for record in records}, {r.name: r.source_sha256 for r in records})
    split_of = made.split_of(groups)
    records = [replace(record, group=groups[record.name]) for record in records]
    records = _give_roles(made, records, split_of, on_file=on_file)
    for record in records:
        if sha256_of_file(record.path(made.prepared_dir)) != record.sha256:
            raise DataError(f"{record.path(made.prepared_dir)} changed during preparation", do="run `triform prepare` again")
    manifest = make_manifest(made.prepared_dir, made.recipe, clouds=records, quarantined=quarantined)
    manifest.write()
    _remove_unnamed(made, manifest)
    return manifest


def _step(recipe: CloudRecipe) -> str:
    """What decides a cloud's bytes, beside its raw file and its role."""
    return f"{STEP_VERSION}/{recipe.num_points}"


def _known_records(made: Plan, number: int) -> dict[str, list[CloudRecord]]:
    """Clouds that an earlier run made in the same way: from its manifest, and from this batch's record where it was cut short."""
    try:
        manifest = load_manifest(made.prepared_dir)
    except DataError:
        manifest = None
    known: dict[str, list[CloudRecord]] = {}
    for record in manifest.clouds if manifest and _step(manifest.recipe) == _step(made.recipe) else ():
        known.setdefault(record.name, []).append(record)
    outcome = read_object(made.batch_path(number))
    for tree in outcome["clouds"] if outcome.get("step") == _step(made.recipe) else ():
        known.setdefault(tree["name"], []).append(CloudRecord(**tree))
    return known


def _prepare_file(
    made: Plan, file: RawFile, read: Read, *, split: Split, known: list[CloudRecord] | None = None
) -> tuple[CloudRecord, bytes | None]:
    """Return the record of a cloud and its .npz bytes, or None for bytes that are there already. Raises: BadFile."""
    data = read(file.member)
    source = hashlib.sha256(data).hexdigest()
    if candidates := [record for record in known or [] if record.source_sha256 == source]:
        there = sha256_of_file(cloud_path(made.prepared_dir, file.name))
        for record in candidates:
            if record.sha256 == there:
                return record, None
    cloud = sample_cloud(data, num_points=made.recipe.num_points, resample=split != "train")
    npz = cloud.as_npz(source_sha256=source)
    sha256 = hashlib.sha256(npz).hexdigest()
    return CloudRecord(file.name, split, made.groups[file.name], source, cloud.num_source_points, cloud.num_dropped, sha256), npz


def _give_roles(made: Plan, records: list[CloudRecord], split_of: dict[str, Split], *, on_file: Callable[[], None]) -> list[CloudRecord]:
    """Put the final split into each record; make a cloud anew where only one of its old and new split has a second sampling."""
    settled = [replace(record, split=split_of[record.name]) for record in records]
    changed = {new.name for old, new in zip(records, settled, strict=True) if (old.split == "train") != (new.split == "train")}
    outputs: dict[Path, bytes] = {}
    with open_raw_files(made.root) as read:
        for place, record in enumerate(settled):
            if record.name in changed:
                settled[place], npz = _make_again(made, record, read)
                outputs[record.path(made.prepared_dir)] = npz
                on_file()
            if len(outputs) == _WRITE_AHEAD:
                write_all(outputs)
                outputs = {}
    write_all(outputs)
    return settled


def _make_again(made: Plan, record: CloudRecord, read: Read) -> tuple[CloudRecord, bytes]:
    file = next(file for file in made.files if file.name == record.name)
    try:
        again, npz = _prepare_file(made, file, read, split=record.split)
    except BadFile as bad:
        raise DataError(f"{file.member} changed during preparation: {bad}", do="run `triform prepare` again") from bad
    if npz is None or again.source_sha256 != record.source_sha256:
        raise DataError(f"{file.member} changed during preparation", do="run `triform prepare` again")
    return replace(again, group=record.group), npz


def _remove_unnamed(made: Plan, manifest: Manifest) -> None:
    """Remove clouds whose raw file vanished or turned bad, records of batches that are no more, and what a killed process left."""
    folder, clouds = made.prepared_dir, made.prepared_dir / "clouds"
    named = {record.path(folder) for record in manifest.clouds} | {made.batch_path(number) for number in range(made.num_batches)}
    files = [path for path in [*clouds.rglob("*"), *(folder / "plan").glob("batch-*")] if path.is_file() and path.suffix != ".tmp"]
    stale = [path for path in files if path not in named]
    for path in stale:
        path.unlink(missing_ok=True)
    remove_dead_litter(folder)
    for path in sorted((path for path in clouds.rglob("*") if path.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
    flush_folders({path.parent for path in stale if path.parent.exists()})
