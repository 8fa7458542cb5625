"""Prepares clouds in three steps that survive being killed: plan, any number of batches at once, finalize.

A batch records its outcome beside the plan; what is already there, made of the same content, is left alone. Only `finalize` knows
which files are usable and which have one content, so it deals the splits for good and makes anew the few clouds whose role changed.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from triform.data.batches import in_threads, refuse_other_recipe
from triform.data.config import CloudRecipe, CloudSettings
from triform.data.manifest import MANIFEST_NAME, CloudRecord, Manifest, cloud_path, load_manifest, make_manifest, read_object, recipe_of
from triform.data.plan import Plan, load_plan, plan
from triform.data.quarantine import BadFile, Quarantined, as_lines, refuse_too_many
from triform.data.raw_files import RawFile, Read, open_raw_files
from triform.data.sampled_cloud import STEP_VERSION, sample_cloud
from triform.data.split import Split, join_groups
from triform.errors import DataError
from triform.files import flush_folders, write_all

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
    if manifest := prepared_already(settings):
        return manifest
    made = plan(settings, settings.raw_files())
    in_threads(
        lambda number, one_more: prepare_batch(made, number, on_file=one_more),
        made.num_batches,
        num_files=len(made.files),
        workers=workers,
        progress=progress,
    )
    return finalize(made)


def prepared_already(settings: CloudSettings) -> Manifest | None:
    """The manifest of `settings.data_dir`, where that is a prepared folder itself.

    Raises: DataError: It was prepared by other settings; the message names them.
    """
    manifest = load_manifest(settings.raw_folder()) if settings.data_dir else None
    if manifest is None:
        return None
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
    outcome = {"step": _step(made.recipe), "plan": made.digest, "clouds": [record.as_tree() for record in records]}
    outcome["quarantined"] = [asdict(file) for file in quarantined]
    write_all({made.batch_path(number): json.dumps(outcome, indent=1).encode()})


def finalize(made: Plan, *, on_file: Callable[[], None] = lambda: None) -> Manifest:
    """Deal the splits, check every cloud's digest, write `manifest.json` and remove what it doesn't name. Safe to repeat.

    Raises: DataError: a batch is missing, too many files are bad, fewer than three clouds are usable, or a cloud was changed.
        CannotWrite, DiskFull.
    """
    records, quarantined = _outcomes(made)
    write_all({made.prepared_dir / "quarantine.jsonl": as_lines(quarantined)})
    refuse_too_many(quarantined, len(made.files), max_fraction=made.max_quarantine_fraction)
    groups = join_groups({record.name: made.groups[record.name] for record in records}, {r.name: r.source_sha256 for r in records})
    split_of = made.split_of(groups)
    records = [replace(record, group=groups[record.name]) for record in records]
    records = _give_roles(made, records, split_of, on_file=on_file)
    for record in records:
        if _sha256_of(record.path(made.prepared_dir)) != record.sha256:
            raise DataError(f"{record.path(made.prepared_dir)} changed during preparation", do="run `triform prepare` again")
    manifest = make_manifest(made.prepared_dir, made.recipe, clouds=records, quarantined=quarantined)
    write_all({made.prepared_dir / MANIFEST_NAME: manifest.as_json()})
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
        there = _sha256_of(cloud_path(made.prepared_dir, file.name))
        for record in candidates:
            if record.sha256 == there:
                return record, None
    cloud = sample_cloud(data, num_points=made.recipe.num_points, resample=split != "train")
    npz = cloud.as_npz(source_sha256=source)
    sha256 = hashlib.sha256(npz).hexdigest()
    return CloudRecord(file.name, split, made.groups[file.name], source, cloud.num_source_points, cloud.num_dropped, sha256), npz


def _sha256_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _outcomes(made: Plan) -> tuple[list[CloudRecord], list[Quarantined]]:
    """The records of all batches, which together name every planned file once."""
    records: list[CloudRecord] = []
    quarantined: list[Quarantined] = []
    digest = made.digest
    for number in range(made.num_batches):
        outcome = read_object(made.batch_path(number))
        if outcome.get("plan") != digest:
            raise DataError(f"Batch {number} of {made.num_batches} is not prepared", do="run `triform prepare` again")
        records += [CloudRecord(**tree) for tree in outcome["clouds"]]
        quarantined += [Quarantined(**tree) for tree in outcome["quarantined"]]
    assert sorted([r.name for r in records] + [q.name for q in quarantined]) == sorted(file.name for file in made.files)
    return records, quarantined


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
    folder = made.prepared_dir
    named = {record.path(folder) for record in manifest.clouds} | {made.batch_path(number) for number in range(made.num_batches)}
    stale = [path for path in _files_below(folder / "clouds") if path not in named]
    stale += [path for path in (folder / "plan").iterdir() if path.name.startswith(("batch-", ".")) and path not in named]
    stale += folder.glob(".*.tmp")
    for path in stale:
        path.unlink(missing_ok=True)
    for path in sorted((path for path in (folder / "clouds").rglob("*") if path.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
    flush_folders({path.parent for path in stale if path.parent.exists()})


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
