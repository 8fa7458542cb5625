"""Faces of a morphable model as registered meshes in HDF5: subjects differ by identity, the meshes of one by expression.

The model is any `.npz` of `neutral` (V, 3), `faces` (F, 3), `identity` (I, V, 3) and `expression` (E, V, 3); one is derived from
ICT-FaceKit (MIT, 9409 vertices, centimetres, y up). The rest of a mesh's format is that of `mesh_hdf5`, without normals.
Source: Li et al., "Learning Formation of Physically-Based Face Attributes" (CVPR 2020), for the model; Blanz and Vetter, "A morphable
model for the synthesis of 3D faces" (SIGGRAPH 1999), for the sum of modes.
"""

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int32

from triform.data.meshes.hdf5_folder import data_path, metadata_path
from triform.data.split import SPLITS, Split
from triform.errors import DataError
from triform.files import disk_errors, write_all
from triform.geometry.template import mirror_by_place

Members = dict[Split, list[tuple[int, int]]]
"""(subject, expression), both from 0."""


@dataclass(frozen=True, slots=True)
class FaceModel:
    """A morphable face: modes are added to the neutral face."""

    neutral: Float32[np.ndarray, "vertex 3"]
    faces: Int32[np.ndarray, "face 3"]
    identity: Float32[np.ndarray, "identity vertex 3"]
    expression: Float32[np.ndarray, "expression vertex 3"]

    def face(self, seed: int, *, subject: int, expression: int) -> Float32[np.ndarray, "vertex 3"]:
        """neutral + sum of N(0, 1) identity modes + sum of U(0, 1) expression modes, keyed by (seed, subject, expression)."""
        identity = self._sum(self.identity, _generator(seed, 0, subject).standard_normal(len(self.identity)))
        shown = self._sum(self.expression, _generator(seed, 1, subject, expression).random(len(self.expression)))
        return np.asarray(self.neutral + identity + shown, np.float32)

    def _sum(self, modes: Float32[np.ndarray, "mode vertex 3"], weights: Float64[np.ndarray, " mode"]) -> Float64[np.ndarray, "vertex 3"]:
        # Mode by mode: a product of matrices may be summed in another order on another machine, and the bits with it.
        total = np.zeros(self.neutral.shape)
        for mode, weight in zip(modes, weights, strict=True):
            total += weight * mode
        return total


def load_face_model(model: Path) -> FaceModel:
    """Read a model. Raises: DataError: it is missing or lacks an array."""
    try:
        with np.load(model, allow_pickle=False) as arrays:
            return FaceModel(arrays["neutral"], arrays["faces"].astype(np.int32), arrays["identity"], arrays["expression"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{model} can't be read: {error}", expected="neutral, faces, identity, expression", do="correct its path"
        ) from error


def write_face_folder(
    folder: Path,
    *,
    model: Path,
    num_subjects: int = 100,
    num_expressions: int = 10,
    protocol: Literal["open_set", "closed_set"] = "open_set",
    seed: int = 0,
) -> None:
    """Write `{split}_metadata.json` and `{split}_data.h5`, float32, with the model's triangles and which vertex mirrors which.

    The first 60 percent of the subjects are those to train on, under both protocols, and the same faces. open_set: 20 percent each
    validate and test, with all their expressions. closed_set: only the first 60 percent, of whose expressions a sixth each validates and
    tests (12: 8, 2 and 2).

    Args:
        num_subjects: 5 or more.
        num_expressions: meshes of a subject; for closed_set 3 or more.

    Raises: DataError: the model can't be read. CannotWrite, DiskFull.
    """
    source = load_face_model(model)
    mirror = mirror_by_place(source.neutral)
    members = _deal(num_subjects, num_expressions, protocol)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        _write_data(data_path(folder, split), source, members[split], mirror=mirror, seed=seed)
    write_all({metadata_path(folder, split): _metadata(members[split]) for split in SPLITS})


def _deal(num_subjects: int, num_expressions: int, protocol: str) -> Members:
    if num_subjects < 5 or num_expressions < (3 if protocol == "closed_set" else 1):
        raise ValueError(f"num_subjects must be 5 or more, num_expressions 3 or more, got {num_subjects} and {num_expressions}")
    num_train, num_held = round(0.6 * num_subjects), max(1, num_expressions // 6)
    if protocol == "closed_set":
        ends = {"train": num_expressions - 2 * num_held, "val": num_expressions - num_held, "test": num_expressions}
        starts = {"train": 0, "val": ends["train"], "test": ends["val"]}
        return {split: [(i, j) for i in range(num_train) for j in range(starts[split], ends[split])] for split in SPLITS}
    num_val = (num_subjects - num_train) // 2
    subjects = {"train": range(num_train), "val": range(num_train, num_train + num_val), "test": range(num_train + num_val, num_subjects)}
    return {split: [(i, j) for i in subjects[split] for j in range(num_expressions)] for split in SPLITS}


def _write_data(path: Path, source: FaceModel, members: list[tuple[int, int]], *, mirror: Any, seed: int) -> None:
    import h5py

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with disk_errors(path):
        try:
            with h5py.File(partial, "w") as file:
                file["faces"] = source.faces
                if mirror is not None:
                    file["mirror"] = mirror
                for subject, expression in members:
                    name = f"subject_{subject + 1:04d}/mesh_{expression + 1:06d}"
                    file[f"{name}/coordinates"] = source.face(seed, subject=subject, expression=expression)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _metadata(members: list[tuple[int, int]]) -> bytes:
    samples = [
        {"subject_id": f"subject_{subject + 1:04d}", "mesh_id": f"mesh_{expression + 1:06d}", "label": subject}
        for subject, expression in members
    ]
    return (json.dumps({"samples": samples}, indent=1) + "\n").encode()


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
