"""What raw meshes there are, before any is read: names, subjects, splits; and the rules these must keep."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from triform.data.split import SPLITS, Split
from triform.errors import DataError

Protocol = Literal["closed_set", "open_set"]
SourceKind = Literal["hdf5", "files"]


@dataclass(frozen=True, slots=True)
class RawMesh:
    """One mesh that was listed."""

    name: str
    """`subject/mesh`."""
    subject: str
    label: int
    split: Split
    member: str
    """Its file inside the folder, and in HDF5 the group after a colon."""


@dataclass(frozen=True, slots=True)
class RawMeshes:
    """All raw meshes of one folder, sorted by name."""

    root: Path
    kind: SourceKind
    meshes: tuple[RawMesh, ...]


@dataclass(frozen=True, slots=True)
class MeshArrays:
    """What one raw mesh holds, as it was stored."""

    coordinates: Float[np.ndarray, "vertex 3"]
    normals: Float[np.ndarray, "vertex 3"] | None
    faces: Int[np.ndarray, "face 3"] | None
    sha256: str
    """Of the raw content."""


Read = Callable[[RawMesh], MeshArrays]
"""Reads one mesh. Raises: BadFile."""


def open_raw_meshes(root: Path, kind: SourceKind) -> AbstractContextManager[Read]:
    """Give a function that reads a mesh, for one thread. Raises: DataError: the folder's files can't be opened."""
    if kind == "hdf5":
        from triform.data.meshes.hdf5_folder import open_hdf5_meshes

        return open_hdf5_meshes(root)
    return _open_files(root)


@contextmanager
def _open_files(root: Path) -> Iterator[Read]:
    from triform.data.meshes.mesh_folder import read_mesh_file

    yield lambda mesh: read_mesh_file(root / mesh.member)


def raw_mirror(root: Path, kind: SourceKind) -> Int[np.ndarray, " vertex"] | None:
    """Return what the data itself says about which vertex mirrors which: `mirror` in the HDF5 file, or `mirror.txt` beside the subjects."""
    if kind == "hdf5":
        from triform.data.meshes.hdf5_folder import read_mirror

        return read_mirror(root)
    from triform.data.meshes.indices import read_indices

    path = root / "mirror.txt"
    return read_indices(path, what="mirror") if path.exists() else None


def is_text(name: str) -> bool:
    """Whether HDF5 and JSON can hold a name: file names that are no UTF-8, and broken escapes in JSON, they can't."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def check_names(meshes: Iterable[RawMesh]) -> None:
    """Raises: DataError: a subject is called as what lies beside the subjects in a prepared file."""
    for mesh in meshes:
        if (first := mesh.subject.split("/")[0]) in ("faces", "mirror"):
            raise DataError(
                f'{mesh.member} makes "{first}" a subject, which is the name of what all meshes share',
                expected="subjects that are called otherwise",
                do="rename the subject",
            )


def check_labels(meshes: Iterable[RawMesh]) -> None:
    """Raises: DataError: a mesh is listed twice, a subject has two labels, or a label two subjects, in any of the splits."""
    seen: dict[str, RawMesh] = {}
    label_of: dict[str, RawMesh] = {}
    subject_of: dict[int, RawMesh] = {}
    for mesh in meshes:
        if (other := seen.setdefault(mesh.name, mesh)) is not mesh:
            where = f"in {other.split} and in {mesh.split}" if other.split != mesh.split else f"twice in {mesh.split}"
            raise DataError(f"{mesh.name} is listed {where}", expected="each mesh once, in one split", do="correct the metadata")
        if (first := label_of.setdefault(mesh.subject, mesh)).label != mesh.label:
            raise DataError(
                f"{mesh.subject} has the label {first.label} ({first.name}, {first.split}) and {mesh.label} ({mesh.name}, {mesh.split})",
                expected="one label a subject, the same in all splits",
                do="correct the metadata",
            )
        if (first := subject_of.setdefault(mesh.label, mesh)).subject != mesh.subject:
            raise DataError(
                f"The label {mesh.label} belongs to {first.subject} ({first.split}) and to {mesh.subject} ({mesh.split})",
                expected="one subject a label, the same in all splits",
                do="correct the metadata",
            )


def check_protocol(meshes: Iterable[RawMesh], protocol: Protocol) -> None:
    """Raises: DataError: a split is empty, open_set with a subject in two splits or without a second mesh of any to measure by, or
    closed_set with a subject that training lacks."""
    counts: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}
    for mesh in meshes:
        counts[mesh.split][mesh.subject] += 1
    subjects = {split: set(counts[split]) for split in SPLITS}
    for split in SPLITS:
        if not subjects[split]:
            raise DataError(f"There is no usable mesh in {split}", expected="meshes in train, val and test", do="correct the metadata")
    pairs: tuple[tuple[Split, Split], ...] = (("train", "val"), ("train", "test"), ("val", "test"))
    for one, other in pairs if protocol == "open_set" else ():
        if shared := sorted(subjects[one] & subjects[other]):
            raise DataError(
                f"{one} and {other} share {_listed(shared)}",
                expected="other subjects in each split, as protocol open_set says",
                do="move all meshes of a subject to one split, or set protocol to closed_set",
            )
    for split in ("val", "test") if protocol == "open_set" else ():
        if max(counts[split].values()) < 2:
            raise DataError(
                f"No subject in {split} has two meshes, so none can be recognised by another",
                expected="two meshes of a subject at least, as protocol open_set says",
                do="add meshes, or move subjects between the splits",
            )
    for split in ("val", "test") if protocol == "closed_set" else ():
        if unknown := sorted(subjects[split] - subjects["train"]):
            raise DataError(
                f"train has no mesh of {_listed(unknown)}, which {split} has",
                expected="the training subjects in each split, as protocol closed_set says",
                do="add meshes of these subjects to train, or set protocol to open_set",
            )


def _listed(subjects: list[str]) -> str:
    shown = ", ".join(subjects[:5])
    return shown if len(subjects) <= 5 else f"{shown} and {len(subjects) - 5} more"
