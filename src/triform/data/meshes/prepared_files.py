"""The arrays of prepared meshes on the disk: `.npz` a batch while it is prepared, `{split}_data.h5` in the end."""

import io
import itertools
import json
import os
import re
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from triform.data.meshes.hdf5_folder import data_path, metadata_path, open_hdf5
from triform.data.meshes.manifest import MeshRecord
from triform.data.meshes.sampled_mesh import sha256_of
from triform.data.meshes.template import Template
from triform.data.split import SPLITS, Split
from triform.errors import DataError
from triform.files import disk_errors, flush_folders

Arrays = tuple[Float32[np.ndarray, "vertex 3"], Float32[np.ndarray, "vertex 3"]]
"""Coordinates and normals."""
_serial = itertools.count()


class StoredMeshes:
    """Finds arrays that an earlier preparation left, by name and digest. What is torn or something else is not there."""

    def __init__(self, prepared_dir: Path) -> None:
        self._folder = prepared_dir
        self._stack = ExitStack()
        self._files: list[Any] = []

    def __enter__(self) -> "StoredMeshes":
        for split in SPLITS:
            try:
                self._files.append(self._stack.enter_context(open_hdf5(data_path(self._folder, split))))
            except DataError:
                continue
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def find(self, record: MeshRecord, batch: dict[str, Arrays]) -> Arrays | None:
        """The arrays of a record, from its batch or from the HDF5 file of any split."""
        for arrays in itertools.chain([batch[record.name]] if record.name in batch else [], self._candidates(record.name)):
            if sha256_of(*arrays) == record.sha256:
                return arrays
        return None

    def _candidates(self, name: str) -> Iterator[Arrays]:
        for file in self._files:
            try:
                if name in file:
                    yield read_arrays(file, name)
            except (OSError, RuntimeError, KeyError, AttributeError):
                continue


def batch_bytes(meshes: dict[str, Arrays]) -> bytes:
    """A batch's arrays as .npz."""
    file = io.BytesIO()
    coordinates, normals = (np.stack(arrays) for arrays in zip(*meshes.values(), strict=True))
    np.savez(file, names=np.array(list(meshes)), coordinates=coordinates, normals=normals)
    return file.getvalue()


def read_batch(path: Path) -> dict[str, Arrays]:
    """The arrays of a batch by name; none, where the file is gone or torn."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names, coordinates, normals = (arrays[key] for key in ("names", "coordinates", "normals"))
        return {str(name): (coordinates[i], normals[i]) for i, name in enumerate(names)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}


def read_arrays(file: Any, name: str) -> Arrays:
    """Coordinates and normals of one prepared mesh. Raises: KeyError, OSError."""
    group = file[name]
    return group["coordinates"][()], group["normals"][()]


def metadata_bytes(records: Iterable[MeshRecord]) -> bytes:
    """The content of `{split}_metadata.json`."""
    samples = [{"subject_id": r.subject, "mesh_id": r.name[len(r.subject) + 1 :], "label": r.label} for r in records]
    return (json.dumps({"samples": samples}, indent=1) + "\n").encode()


def write_data_files(folder: Path, meshes: Iterable[tuple[MeshRecord, Arrays]], template: Template) -> None:
    """Replace `{split}_data.h5` of all splits: to temporary names, fsynced, then renamed. One mesh is in memory at a time.

    Raises: DiskFull, CannotWrite.
    """
    serial = f"{os.getpid()}-{threading.get_ident()}-{next(_serial)}"
    temporaries: dict[Split, Path] = {split: folder / f".{split}_data.h5.{serial}.tmp" for split in SPLITS}
    with hdf5_errors(folder):
        try:
            _write_files(temporaries, meshes, template)
            for split, temporary in temporaries.items():
                _fsync(temporary)
                os.replace(temporary, data_path(folder, split))
        finally:
            for temporary in temporaries.values():
                temporary.unlink(missing_ok=True)
    flush_folders([folder])


@contextmanager
def hdf5_errors(path: Path) -> Iterator[None]:
    """As `disk_errors`; h5py says the system's error number in its text alone."""
    with disk_errors(path):
        try:
            yield
        except (OSError, RuntimeError) as error:
            number = re.search(r"errno = (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def all_paths(folder: Path) -> list[Path]:
    """The files of the public format."""
    return [path(folder, split) for split in SPLITS for path in (data_path, metadata_path)]


def _write_files(paths: dict[Split, Path], meshes: Iterable[tuple[MeshRecord, Arrays]], template: Template) -> None:
    import h5py

    with ExitStack() as stack:
        files = {split: stack.enter_context(h5py.File(path, "w")) for split, path in paths.items()}
        for file in files.values():
            if template.faces is not None:
                file["faces"] = template.faces
            if template.mirror is not None:
                file["mirror"] = template.mirror
        for record, (coordinates, normals) in meshes:
            group = files[record.split].create_group(record.name)
            group["coordinates"], group["normals"] = coordinates, normals


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
