"""Prepares poses in three steps that survive being killed: plan, any number of batches at once, finalize.

A batch writes one shard, named by its content, and then records its outcome beside the plan; a batch whose record and shard are there is
not done again. `finalize` writes the manifest last, and then removes what earlier plans left.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from triform.data.batches import prepare_all, refuse_other_recipe
from triform.data.bookkeeping import read_object, sha256_of_file
from triform.data.poses.kept import forget
from triform.data.poses.manifest import PoseManifest, TrackRecord, load_manifest, make_manifest
from triform.data.poses.plan import PosePlan, is_planned, load_plan, plan
from triform.data.poses.prepared_track import PreparedTrack, prepare_tracks, sha256_of
from triform.data.poses.raw_poses import RawPoses, RawSequence
from triform.data.poses.shards import shard_bytes, shard_path
from triform.data.quarantine import BadFile, Quarantined
from triform.data.split import SPLITS
from triform.errors import DataError
from triform.files import flush_folders, remove_dead_litter, write_all

if TYPE_CHECKING:
    from triform.data.poses.config import PoseSettings

__all__ = ["finalize", "is_planned", "load_plan", "plan", "prepare", "prepare_batch", "prepared_already"]

_AGAIN = "run `triform prepare` again"
_RAW_ARRAYS = ("joints_2d_px", "confidence", "joints_3d_camera_mm", "joints_3d_world_mm", "valid", "mm_per_unit")


def prepare(
    settings: "PoseSettings", *, workers: int = 2, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> PoseManifest:
    """Prepare the recordings of `settings.data_dir`, or use them as they are where that folder is prepared already.

    Args:
        workers: Threads.
        progress: Called after each sequence with the number done and the number of all.

    Raises: DataError, CannotWrite, DiskFull.
    """
    if manifest := prepared_already(settings):
        return manifest
    source = settings.raw_poses()
    do_batch = partial(prepare_batch, source=source)
    return prepare_all(plan(settings, source), do_batch, finalize, workers=workers, progress=progress)


def prepared_already(settings: "PoseSettings") -> PoseManifest | None:
    """The manifest of `settings.data_dir`, where that is a prepared folder itself.

    Raises: DataError: It was prepared by other settings; the message names them.
    """
    manifest = load_manifest(settings.raw_folder()) if settings.data_dir else None
    if manifest:
        refuse_other_recipe(settings.data_dir, wanted=settings.recipe(), found=manifest.recipe)
    return manifest


def prepare_batch(made: PosePlan, number: int, source: RawPoses, *, on_file: Callable[[], None] = lambda: None) -> None:
    """Prepare one batch and record its outcome. Safe to repeat, and to run in several threads and processes at once.

    A bad sequence is recorded with its reason and stops nothing. `on_file` is called after each sequence; what it raises ends the batch.

    Raises: DataError: a 2D that is said to be exact isn't, or the raw files can't be opened. CannotWrite, DiskFull.
    """
    if _is_done(made, number):
        for _ in made.batch(number):
            on_file()
        return
    found: list[tuple[dict[str, Any], PreparedTrack]] = []
    quarantined: list[Quarantined] = []
    for sequence in made.batch(number):
        try:
            found += _tracks_of(made, sequence, source)
        except BadFile as bad:
            quarantined.append(Quarantined(sequence.name, sequence.member, str(bad)))
        on_file()
    _write_batch(made, number, found, quarantined)


def finalize(made: PosePlan) -> PoseManifest:
    """Check that every batch is there, write `manifest.json`, and remove what earlier plans left. Safe to repeat.

    Raises: DataError: a batch is missing, too many sequences are bad, or a split is empty without them. CannotWrite, DiskFull.
    """
    forget()
    outcomes = [_outcome(made, number) for number in range(made.num_batches)]
    quarantined = [Quarantined(**file) for outcome in outcomes for file in outcome["quarantined"]]
    made.set_aside(quarantined)
    errors = [error for outcome in outcomes if (error := outcome["largest_2d_error_px"]) is not None]
    manifest = make_manifest(
        made.prepared_dir,
        made.recipe,
        tracks=[TrackRecord.from_tree(track) for outcome in outcomes for track in outcome["tracks"]],
        shards={outcome["shard"]: outcome["sha256"] for outcome in outcomes if outcome["shard"]},
        quarantined=quarantined,
        protocol=made.protocol,
        average=made.average,
        largest_2d_error_px=max(errors, default=None),
    )
    if empty := [split for split in SPLITS if not manifest.count(split)]:
        raise DataError(f"No usable sequence is left in {', '.join(empty)}", expected="one at least in each split", do="repair the files")
    manifest.write()
    _remove_unneeded(made, manifest)
    return manifest


def _tracks_of(made: PosePlan, sequence: RawSequence, source: RawPoses) -> list[tuple[dict[str, Any], PreparedTrack]]:
    """Record without its shard, and arrays, of each track. Raises: BadFile, DataError."""
    raw = source.read(sequence)
    return [(_record(sequence, track), track) for track in prepare_tracks(made, sequence, raw)]


def _record(sequence: RawSequence, track: PreparedTrack) -> dict[str, Any]:
    raw = track.raw
    return {
        "name": f"{sequence.name}/{raw.camera_name}",
        "sequence": sequence.name,
        "subject": sequence.subject,
        "action": sequence.action,
        "camera_name": raw.camera_name,
        "split": sequence.split,
        "num_frames": len(track.arrays["joints_2d"]),
        "frame_rate": float(raw.frame_rate),
        "size_px": [int(side) for side in raw.size_px],
        "labelled": "joints_3d_camera_mm" in track.arrays,
        "camera": None if raw.camera is None else raw.camera.as_tree(),
        "up_camera": None if raw.up_camera is None else [float(x) for x in raw.up_camera],
        "constant_unit": "mm_per_unit" not in track.arrays,
        "source_sha256": sha256_of({name: array for name in _RAW_ARRAYS if (array := getattr(raw, name)) is not None}),
        "sha256": track.sha256,
    }


def _write_batch(made: PosePlan, number: int, found: list[tuple[dict[str, Any], PreparedTrack]], quarantined: list[Quarantined]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for record, track in found:
        arrays.update({f"{record['name']}/{name}": array for name, array in track.arrays.items()})
    data = shard_bytes(arrays) if arrays else b""
    sha256 = hashlib.sha256(data).hexdigest()
    shard = f"{number:05d}-{sha256[:16]}.safetensors" if arrays else ""
    errors = [track.largest_2d_error_px for _, track in found if track.largest_2d_error_px is not None]
    if shard:
        write_all({shard_path(made.prepared_dir, shard): data})
    facts = {"plan": made.digest, "shard": shard, "sha256": sha256, "largest_2d_error_px": max(errors, default=None)}
    made.write_outcome(number, **facts, tracks=[record | {"shard": shard} for record, _ in found], quarantined=quarantined)


def _is_done(made: PosePlan, number: int) -> bool:
    outcome = read_object(made.batch_path(number))
    if outcome.get("plan") != made.digest:
        return False
    return not outcome["shard"] or sha256_of_file(shard_path(made.prepared_dir, outcome["shard"])) == outcome["sha256"]


def _outcome(made: PosePlan, number: int) -> dict[str, Any]:
    path = made.batch_path(number)
    outcome = read_object(path)
    if outcome.get("plan") != made.digest or (outcome["shard"] and not shard_path(made.prepared_dir, outcome["shard"]).exists()):
        raise DataError(f"{path} is missing or of another plan", expected=f"{made.num_batches} batches of this plan", do=_AGAIN)
    return outcome


def _remove_unneeded(made: PosePlan, manifest: PoseManifest) -> None:
    """Remove shards and records of earlier plans, and what a killed process left. A reader that has a shard mapped keeps it."""
    plans, shards = made.prepared_dir / "plan", made.prepared_dir / "shards"
    needed = {made.batch_path(number) for number in range(made.num_batches)} | {shards / name for name in manifest.shards}
    for path in [*plans.glob("batch-*.json"), *shards.glob("*.safetensors")]:
        if path not in needed:
            path.unlink(missing_ok=True)
    remove_dead_litter(made.prepared_dir)
    flush_folders([plans, shards])
