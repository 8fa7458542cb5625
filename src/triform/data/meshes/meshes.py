"""Reads prepared meshes, and believes none that differs from its manifest."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Int64

from triform.data.bookkeeping import MANIFEST_NAME
from triform.data.meshes.hdf5_folder import data_path, open_hdf5
from triform.data.meshes.manifest import MeshManifest, MeshRecord, load_manifest
from triform.data.meshes.prepared_files import read_arrays
from triform.data.meshes.sampled_mesh import sha256_of, shared_sha256_of
from triform.data.split import Split
from triform.errors import DataError

Pair = tuple[Float32[np.ndarray, "mesh vertex 3"], Float32[np.ndarray, "mesh vertex 3"]]


@dataclass(frozen=True, slots=True, eq=False)
class Meshes:
    """One split of prepared meshes, sorted by name. The arrays are read when they are asked for, each thread through its own handle."""

    names: tuple[str, ...]
    """`subject/mesh`."""
    subjects: Int64[np.ndarray, " mesh"]
    """Place of the mesh's subject in `subject_names`."""
    subject_names: tuple[str, ...]
    """The split's subjects, sorted."""
    labels: Int64[np.ndarray, " mesh"]
    """Class: place of the subject among the sorted training subjects; -1 where it is none of them."""
    num_classes: int
    """Training subjects."""
    num_vertices: int
    scale: float
    """RMS distance of a vertex from its mesh's centroid over the training meshes: one number for all, so that size stays."""
    faces: Int32[np.ndarray, "face 3"] | None
    mirror: Int32[np.ndarray, " vertex"] | None
    """Which vertex mirrors which."""
    template: Float32[np.ndarray, "vertex 3"] | None
    """Coordinates of the first training mesh, in every split, where there are faces: they measure their edges for all meshes."""
    registered: bool
    up_axis: str
    unit: str
    digest: str
    """Of the whole data set: that of its manifest."""
    _path: Path
    _stamp: tuple[int, int]
    """Which file it was when it was verified."""
    _cached: Pair | None
    _local: threading.local = field(default_factory=threading.local)

    @property
    def facts(self) -> dict[str, int]:
        """What a model is built by."""
        return {"num_vertices": self.num_vertices, "num_classes": self.num_classes}

    def read(self, indices: Sequence[int] | Int64[np.ndarray, " chosen"]) -> Pair:
        """Return coordinates (raw unit and place) and unit normals of these meshes. Raises: DataError: the file is gone or torn."""
        chosen = np.asarray(indices, np.int64)
        if self._cached is not None:
            return np.take(self._cached[0], chosen, axis=0), np.take(self._cached[1], chosen, axis=0)
        coordinates, normals = (np.empty((len(chosen), self.num_vertices, 3), np.float32) for _ in range(2))
        for place, index in enumerate(chosen):
            coordinates[place], normals[place] = _arrays_of(self._handle(), self.names[index], self.num_vertices)
        return coordinates, normals

    def close(self) -> None:
        """Close this thread's handle; others close when their threads end."""
        if (handle := getattr(self._local, "handle", None)) is not None:
            handle.close()
            del self._local.handle

    def _handle(self) -> Any:
        if not hasattr(self._local, "handle"):
            file = open_hdf5(self._path)
            if _stamp(self._path) != self._stamp:  # another preparation, whose meshes may have the same names
                raise _unusable(file, "it was replaced while it was in use")
            self._local.handle = file
        return self._local.handle


def load_meshes(prepared_dir: Path | str, split: Split, *, cache: bool = False, verify: bool = True) -> Meshes:
    """Open the meshes of one split.

    Args:
        cache: Whether to read them all into memory now.
        verify: Whether to read each once and compare it with the manifest's SHA-256.

    Raises: DataError: the folder isn't prepared, or a file is missing, torn or not the one that was prepared.
    """
    folder = Path(prepared_dir)
    manifest = load_manifest(folder)
    if manifest is None:
        raise DataError(f"{folder} has no {MANIFEST_NAME} of meshes", expected="a prepared folder", do="run `triform prepare`")
    records = manifest.of_split(split)
    path = data_path(folder, split)
    with open_hdf5(path) as file:
        stamp = _stamp(path)
        faces, mirror = _shared(file, manifest)
        cached = _read_all(file, records, manifest.num_vertices, cache=cache, verify=verify) if cache or verify else None
    template = None if faces is None else _first_mesh(folder, manifest)
    return _meshes(manifest, records, faces=faces, mirror=mirror, template=template, path=path, stamp=stamp, cached=cached)


def _meshes(manifest: MeshManifest, records: tuple[MeshRecord, ...], **arrays: Any) -> Meshes:
    class_of = {name: place for place, name in enumerate(sorted({record.subject for record in manifest.of_split("train")}))}
    subject_names = tuple(sorted({record.subject for record in records}))
    place_of = {name: place for place, name in enumerate(subject_names)}
    return Meshes(
        names=tuple(record.name for record in records),
        subjects=np.array([place_of[record.subject] for record in records], np.int64),
        subject_names=subject_names,
        labels=np.array([class_of.get(record.subject, -1) for record in records], np.int64),
        num_classes=len(class_of),
        num_vertices=manifest.num_vertices,
        scale=manifest.scale,
        registered=manifest.recipe.registered,
        up_axis=manifest.recipe.up_axis,
        unit=manifest.recipe.unit,
        digest=manifest.digest,
        faces=arrays["faces"],
        mirror=arrays["mirror"],
        template=arrays["template"],
        _path=arrays["path"],
        _stamp=arrays["stamp"],
        _cached=arrays["cached"],
    )


def _shared(file: Any, manifest: MeshManifest) -> tuple[Any, Any]:
    """Triangles and mirror, each where it is known."""
    faces, mirror = (np.asarray(file[name][()]) if name in file else None for name in ("faces", "mirror"))
    if shared_sha256_of(faces, mirror) != manifest.shared_sha256:
        raise _unusable(file, "faces or mirror are not what was prepared")
    return faces, mirror


def _first_mesh(folder: Path, manifest: MeshManifest) -> Float32[np.ndarray, "vertex 3"]:
    record = manifest.of_split("train")[0]
    with open_hdf5(data_path(folder, "train")) as file:
        found = _read_all(file, (record,), manifest.num_vertices, cache=True, verify=True)
    assert found is not None
    return np.asarray(found[0][0])


def _read_all(file: Any, records: tuple[MeshRecord, ...], num_vertices: int, *, cache: bool, verify: bool) -> Pair | None:
    shape = (len(records) if cache else 1, num_vertices, 3)
    coordinates, normals = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for i, record in enumerate(records):
        place = i if cache else 0
        coordinates[place], normals[place] = _arrays_of(file, record.name, num_vertices)
        if verify and sha256_of(coordinates[place], normals[place]) != record.sha256:
            raise _unusable(file, f"{record.name} is not what was prepared")
    return (coordinates, normals) if cache else None


def _arrays_of(file: Any, name: str, num_vertices: int) -> Any:
    try:
        found = read_arrays(file, name)
    except (KeyError, OSError, RuntimeError) as error:
        raise _unusable(file, f"{name}: {error}") from error
    if any(array.shape != (num_vertices, 3) for array in found):
        raise _unusable(file, f"{name} is not what was prepared")
    return found


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _unusable(file: Any, reason: str) -> DataError:
    return DataError(f"{file.filename} can't be used: {reason}", expected="the meshes its manifest names", do="run `triform prepare` again")
