"""Reads a folder of mesh files, a folder a subject, and deals them to the splits."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Int64

from triform.data.meshes.raw_meshes import MeshArrays, Protocol, RawMesh, RawMeshes, is_text
from triform.data.quarantine import BadFile
from triform.data.split import SPLITS, Split
from triform.errors import DataError, UsageError

_SUFFIXES = {".obj", ".ply", ".stl", ".glb"}


def list_mesh_files(root: Path, *, protocol: Protocol, val_fraction: float, test_fraction: float, seed: int) -> RawMeshes:
    """List `subject/mesh.ext`; subjects (open_set) or each subject's meshes (closed_set) are dealt in the order of SHA-256 of (seed, name).

    A subject's label is its place among all, sorted.

    Args:
        val_fraction, test_fraction: shares of the subjects or of each subject's meshes, rounded, one at least.

    Raises:
        DataError: the folder is missing or empty, two files have one name, or there are too few to deal.
        UsageError: trimesh is not installed.
    """
    _import_trimesh()
    members = _members(root)
    subjects = sorted({name.split("/")[0] for name in members})
    if protocol == "open_set":
        dealt = _deal(subjects, "subjects", val_fraction=val_fraction, test_fraction=test_fraction, seed=seed)
        split_of = {name: dealt[name.split("/")[0]] for name in members}
    else:
        split_of = {}
        for subject in subjects:
            own = [name for name in members if name.split("/")[0] == subject]
            split_of |= _deal(own, f"meshes of {subject}", val_fraction=val_fraction, test_fraction=test_fraction, seed=seed)
    label_of = {subject: label for label, subject in enumerate(subjects)}
    owners = {name: name.split("/")[0] for name in members}
    meshes = (RawMesh(name, owners[name], label_of[owners[name]], split_of[name], members[name]) for name in sorted(members))
    return RawMeshes(root, "files", tuple(meshes))


def read_mesh_file(path: Path) -> MeshArrays:
    """Read one mesh with its vertices in the order of the file.

    The corners of an STL file's triangles are joined where they coincide exactly, in the order in which they first appear: the same for
    all files of one topology, and any difference shows in the triangles.

    Raises: BadFile: it can't be read, or holds no triangles. UsageError: trimesh is not installed.
    """
    trimesh = _import_trimesh()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadFile(f"can't be read: {error.strerror}") from error
    suffix = path.suffix.lower()[1:]
    options = {"maintain_order": True, "skip_materials": True} if suffix == "obj" else {}
    try:
        mesh = trimesh.load_mesh(io.BytesIO(data), file_type=suffix, process=False, **options)
        coordinates, faces = np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64)
    except Exception as error:  # its readers answer a broken file with whatever went wrong in them
        raise BadFile(f"can't be read: {error}") from error
    if not len(coordinates) or not len(faces) or faces.ndim != 2 or faces.shape[1] != 3:
        raise BadFile("holds no triangles")
    if suffix == "stl":
        coordinates, faces = join_corners(coordinates, faces)
    return MeshArrays(coordinates, None, faces, hashlib.sha256(data).hexdigest())


def join_corners(
    coordinates: Float64[np.ndarray, "corner 3"], faces: Int[np.ndarray, "face 3"]
) -> tuple[Float64[np.ndarray, "vertex 3"], Int64[np.ndarray, "face 3"]]:
    """Return vertices without exact repetitions, in the order in which they first appear in the triangles, and the triangles of them."""
    corners = (coordinates + 0.0)[faces.ravel()]  # -0 becomes 0
    _, first, place = np.unique(corners, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return corners[first[order]], rank[place.reshape(-1)].reshape(-1, 3).astype(np.int64)


def _import_trimesh() -> Any:
    try:
        import trimesh
    except ImportError:
        raise UsageError(
            "Reading mesh files needs the package trimesh", expected="trimesh, or meshes in HDF5", do="pip install 'triform[mesh]'"
        ) from None
    return trimesh


def _members(root: Path) -> dict[str, str]:
    """Name -> file inside the folder, for all files of a known kind one folder down; hidden ones are passed over."""
    if not root.is_dir():
        raise DataError(f"{root} is no folder", expected="a folder of subject/mesh.ext", do="correct --data-dir")
    members: dict[str, str] = {}
    for path in sorted(root.glob("*/*")):
        subject = path.parent.name
        if path.suffix.lower() not in _SUFFIXES or path.name.startswith(".") or subject.startswith("."):
            continue
        name, member = f"{subject}/{path.stem}", f"{subject}/{path.name}"
        if not is_text(name):
            raise DataError(f"{root} holds {member!a}", expected="file names in UTF-8", do="rename the file or its folder")
        if name in members:
            raise DataError(f"{root} holds {members[name]} and {member}", expected="one file a mesh", do="remove or rename one")
        members[name] = member
    if not members:
        kinds = ", ".join(sorted(_SUFFIXES))
        raise DataError(f"{root} holds no meshes", expected=f"subject/mesh.ext, one of {kinds}", do="correct --data-dir")
    return members


def _deal(names: list[str], what: str, *, val_fraction: float, test_fraction: float, seed: int) -> Mapping[str, Split]:
    """Name -> split, at least one name in each."""
    if len(names) < len(SPLITS):
        raise DataError(f"There are {len(names)} {what}", expected="three at least, one each for train, val and test", do="add some")
    num_val, num_test = (max(1, round(fraction * len(names))) for fraction in (val_fraction, test_fraction))
    while num_val + num_test >= len(names):
        num_val, num_test = (num_val - 1, num_test) if num_val >= num_test else (num_val, num_test - 1)
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    ends = num_val, num_val + num_test
    return {name: "val" if place < ends[0] else "test" if place < ends[1] else "train" for place, name in enumerate(order)}
