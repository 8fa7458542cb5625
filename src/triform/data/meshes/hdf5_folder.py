"""Reads the raw format: `{split}_metadata.json` beside `{split}_data.h5`, a group a mesh, opened read-only."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from triform.data.meshes.raw_meshes import MeshArrays, RawMesh, RawMeshes, Read, check_labels, is_text
from triform.data.quarantine import BadFile
from triform.data.split import SPLITS, Split
from triform.errors import DataError

_FOLDER = "a folder of {train,val,test}_metadata.json and {train,val,test}_data.h5"
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def list_hdf5_meshes(root: Path, *, same_shape: bool = True) -> RawMeshes:
    """List the meshes of all splits and check that each is there, and of what shape.

    Args:
        same_shape: whether all meshes must have equally many vertices.

    Raises: DataError: a file is missing or broken, a listed mesh is not there or has another shape, or the labels contradict one another.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder", expected=_FOLDER, do="correct --data-dir")
    meshes: list[RawMesh] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for split in SPLITS:
        listed = [_as_mesh(sample, split, root) for sample in _samples(root, split)]
        with open_hdf5(data_path(root, split)) as file:
            shapes |= {mesh.name: _shape_of(file, mesh) for mesh in listed}
        meshes += listed
    check_labels(meshes)
    _check_shapes(shapes, same_shape=same_shape)
    return RawMeshes(root, "hdf5", tuple(sorted(meshes, key=lambda mesh: mesh.name)))


@contextmanager
def open_hdf5_meshes(root: Path) -> Iterator[Read]:
    """Give a function that reads a mesh from files that are opened once. Raises: DataError: a file can't be opened."""
    with ExitStack() as stack:
        files = {split: stack.enter_context(open_hdf5(data_path(root, split))) for split in SPLITS}
        faces = {split: _root_array(file, "faces") for split, file in files.items()}
        yield lambda mesh: _read(files[mesh.split], mesh, faces[mesh.split])


def read_mirror(root: Path) -> Int[np.ndarray, " vertex"] | None:
    """The root dataset `mirror` of the training file, where there is one. Raises: DataError."""
    with open_hdf5(data_path(root, "train")) as file:
        mirror: Int[np.ndarray, " vertex"] | None = _root_array(file, "mirror")
        return mirror


def data_path(root: Path, split: Split) -> Path:
    """Where the arrays of a split lie."""
    return root / f"{split}_data.h5"


def metadata_path(root: Path, split: Split) -> Path:
    """Where the list of a split lies."""
    return root / f"{split}_metadata.json"


def open_hdf5(path: Path) -> Any:
    """Open an HDF5 file to read. Raises: DataError."""
    import h5py

    if not path.exists():
        raise DataError(f"{path} does not exist", expected=_FOLDER, do="correct --data-dir")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} can't be opened: {error}", expected="an HDF5 file", do="copy or export it again") from error


def _samples(root: Path, split: Split) -> list[dict[str, Any]]:
    path = metadata_path(root, split)
    try:
        samples = json.loads(path.read_bytes())["samples"]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", expected=_FOLDER, do="correct --data-dir") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} can't be read: {error!r}", expected='{"samples": [...]}', do="correct the file") from error
    if not isinstance(samples, list) or not samples:
        raise DataError(f"{path} lists no samples", expected="one mesh at least in each split", do="correct the file")
    return samples


def _as_mesh(sample: Any, split: Split, root: Path) -> RawMesh:
    known = isinstance(sample, dict) and {"subject_id", "mesh_id", "label"} <= set(sample)
    if not known or not isinstance(sample["label"], int) or isinstance(sample["label"], bool):
        raise DataError(
            f"{metadata_path(root, split)} has the sample {json.dumps(sample)[:200]}",
            expected='{"subject_id": "subject_0001", "mesh_id": "mesh_000001", "label": 0}',
            do="correct the file",
        )
    subject, mesh = _spelled(sample["subject_id"], "subject_{:04d}"), _spelled(sample["mesh_id"], "mesh_{:06d}")
    name = f"{subject}/{mesh}"
    if not is_text(name):
        raise DataError(f"{metadata_path(root, split)} names {name!a}", expected="names that UTF-8 can hold", do="correct the file")
    return RawMesh(name, subject, sample["label"], split, f"{data_path(root, split).name}:{name}")


def _spelled(given: Any, pattern: str) -> str:
    """Ids are text, as groups are named, or plain numbers."""
    return pattern.format(given) if isinstance(given, int) else str(given)


def _shape_of(file: Any, mesh: RawMesh) -> tuple[int, ...]:
    """The shape of a mesh's coordinates, once they and the normals are known to be there and to agree."""
    group = file.get(mesh.name)
    coordinates = _dataset(group, "coordinates")
    if coordinates is None:
        what = mesh.name if group is None else f"{mesh.name}/coordinates"
        raise DataError(
            f"{file.filename} has no {what}, which {mesh.split}_metadata.json lists", do="correct the metadata, or add the mesh"
        )
    shape = tuple(coordinates.shape)
    if len(shape) != 2 or shape[1] != 3 or shape[0] == 0 or coordinates.dtype not in _DTYPES:
        got = f"{mesh.name}/coordinates in {file.filename} is {coordinates.dtype} {shape}"
        raise DataError(got, expected="float32 or float64 (num_vertices, 3)", do="export the meshes again")
    normals = _dataset(group, "normals")
    if normals is not None and (tuple(normals.shape) != shape or normals.dtype not in _DTYPES):
        raise DataError(
            f"{mesh.name} in {file.filename} has coordinates {shape} and normals {normals.dtype} {tuple(normals.shape)}",
            expected="a normal for each vertex",
            do="export the meshes again, or leave the normals out",
        )
    return shape


def _dataset(group: Any, name: str) -> Any:
    """A dataset of a group; None where either is missing or of another kind."""
    found = group.get(name) if hasattr(group, "get") else None
    return found if hasattr(found, "shape") else None


def _check_shapes(shapes: dict[str, tuple[int, ...]], *, same_shape: bool) -> None:
    first = next(iter(shapes))
    for name in shapes:
        if same_shape and shapes[name] != shapes[first]:
            raise DataError(
                f"{name} has {shapes[name][0]} vertices, {first} has {shapes[first][0]}",
                expected="meshes of one topology",
                do="remove the odd ones, or set registered to false and num_vertices to a number that all have",
            )


def _root_array(file: Any, name: str) -> Any:
    dataset = _dataset(file, name)
    if dataset is None:
        return None
    array = np.asarray(dataset[()])
    if array.dtype.kind not in "iu" or (name == "faces" and (array.ndim != 2 or array.shape[1] != 3)):
        raise DataError(
            f"{name} in {file.filename} is {array.dtype} {array.shape}",
            expected="integers, for faces (num_faces, 3)",
            do=f"export {name} again, or leave them out",
        )
    return array


def _read(file: Any, mesh: RawMesh, faces: Any) -> MeshArrays:
    try:
        group = file.get(mesh.name)
        found = (_dataset(group, name) for name in ("coordinates", "normals", "faces"))
        coordinates, normals, own_faces = (None if dataset is None else dataset[()] for dataset in found)
    except (OSError, RuntimeError) as error:
        raise BadFile(f"can't be read: {error}") from error
    if coordinates is None:
        raise BadFile("is not there any more")
    faces = faces if own_faces is None else own_faces
    content = hashlib.sha256()
    for array in (coordinates, normals, faces):
        content.update(b"-" if array is None else f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return MeshArrays(coordinates, normals, faces, content.hexdigest())
