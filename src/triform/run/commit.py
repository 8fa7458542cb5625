"""Commits: immutable snapshots of a run's whole state, ordered by (generation, step)."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from triform.files import create_durably, remove_litter, write_durably
from triform.run.folder import Json, RunFolder, read_json, sealed, to_json, unsealed
from triform.run.ownership import Ownership

State = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, order=True)
class Commit:
    """One record under `commits/` and the payload it names; later ones are greater."""

    generation: int
    step: int

    @property
    def name(self) -> str:
        return f"g{self.generation:08d}-s{self.step:010d}"

    def record(self, folder: RunFolder) -> Path:
        return folder.commits / f"{self.name}.json"

    def payload(self, folder: RunFolder) -> Path:
        return folder.checkpoints / f"{self.name}.safetensors"


def state_digest(state: Mapping[str, NDArray[np.generic]], meta: Json) -> str:
    """sha256 over all arrays (name, type, shape, bytes) and over `meta`."""
    digest = hashlib.sha256(to_json(meta))
    for name in sorted(state):
        array = np.asarray(state[name], order="C")
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def write_commit(owner: Ownership, step: int, state: State, meta: Json) -> Commit:
    """Make `state` and `meta` (numbers of the loop, environment) durable as the newest commit.

    The payload is renamed into place before the record that counts is created, so a kill between any two writes leaves the
    commit before this one the newest.

    Raises: LostOwnership, DiskFull, CannotWrite.
    """
    folder, commit = owner.folder, Commit(owner.generation, step)
    payload = save({name: np.asarray(array, order="C") for name, array in state.items()})
    write_durably(commit.payload(folder), payload)
    owner.confirm()
    record = {"generation": commit.generation, "step": step, "sha256": hashlib.sha256(payload).hexdigest(), "bytes": len(payload), **meta}
    create_durably(commit.record(folder), to_json(sealed(record)))
    return commit


def commits(folder: RunFolder) -> list[Commit]:
    """All commits by name, newest first; not verified."""
    names = (path.stem for path in folder.commits.glob("g*-s*.json"))
    return sorted((Commit(int(name[1:9]), int(name[11:])) for name in names), reverse=True)


def read_commit(folder: RunFolder, commit: Commit) -> tuple[State, Json] | str:
    """State and record of a commit, or what is wrong with it."""
    record = unsealed(read_json(commit.record(folder)))
    if record is None:
        return "its record is torn or altered"
    try:
        payload = commit.payload(folder).read_bytes()
    except OSError as error:
        return f"its payload can't be read ({error.strerror})"
    if len(payload) != record["bytes"]:
        return f"its payload has {len(payload)} bytes instead of {record['bytes']}"
    if hashlib.sha256(payload).hexdigest() != record["sha256"]:
        return "its payload's digest differs from the recorded one"
    try:
        return load(payload), record
    except SafetensorError as error:
        return f"its payload is not readable ({error})"


def newest_good(folder: RunFolder) -> tuple[Commit, State, Json] | None:
    """The newest commit that verifies, or None; `record["skipped"]` lists the newer ones that did not."""
    skipped: list[str] = []
    for commit in commits(folder):
        found = read_commit(folder, commit)
        if isinstance(found, str):
            skipped.append(f"{commit.name}: {found}")
        else:
            state, record = found
            return commit, state, {**record, "skipped": skipped}
    return None


def collect(owner: Ownership, *, keep_last: int, keep_every: Collection[int], keep_steps: Collection[int | None]) -> None:
    """Remove commits that are neither among the newest, nor at one of `keep_steps`, nor at a multiple of a number in `keep_every`.

    The record goes first: a kill in between leaves a payload nobody names, which the next call removes. Only the newest generation
    may collect.

    Raises: LostOwnership.
    """
    owner.confirm()
    folder = owner.folder
    known = commits(folder)
    kept = set(known[:keep_last])
    kept |= {commit for commit in known if any(every and commit.step % every == 0 for every in keep_every)}
    newest_at = {commit.step: commit for commit in reversed(known)}
    kept |= {newest_at[step] for step in keep_steps if step in newest_at}
    for commit in set(known) - kept:
        commit.record(folder).unlink(missing_ok=True)
    names = {commit.name for commit in kept}
    for payload in folder.checkpoints.glob("g*.safetensors"):
        if payload.stem not in names:
            payload.unlink(missing_ok=True)
    for place in (folder.checkpoints, folder.commits):
        remove_litter(place)
