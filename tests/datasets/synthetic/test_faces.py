from pathlib import Path

import h5py
import numpy as np
import pytest

from triform.data.meshes.meshes import load_meshes
from triform.data.meshes.prepare import prepare
from triform.datasets.mesh_hdf5 import MeshHdf5
from triform.datasets.synthetic.faces import load_face_model, write_face_folder
from triform.errors import DataError

ICT = Path(__file__).parents[3] / "../shared/data/faces/ict_face9409.npz"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A mask of 5 x 5 vertices, 3 modes of identity and 2 of expression."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-2, 2, 5), np.linspace(0, 4, 5))
    corner = (np.arange(4)[:, None] * 5 + np.arange(4)).ravel()
    faces = np.concatenate([np.stack([corner, corner + 1, corner + 5], 1), np.stack([corner + 1, corner + 6, corner + 5], 1)])
    path = tmp_path / "model.npz"
    neutral = np.stack([x, y, 4 - x * x], axis=-1).reshape(-1, 3).astype(np.float32)
    modes = {"identity": rng.normal(0, 0.1, (3, 25, 3)), "expression": rng.normal(0, 0.05, (2, 25, 3))}
    np.savez(path, neutral=neutral, faces=faces, **{name: mode.astype(np.float32) for name, mode in modes.items()})
    return path


def test_a_face_is_the_sum_of_its_modes(model: Path) -> None:
    source = load_face_model(model)
    faces = np.stack([source.face(7, subject=subject, expression=0) for subject in range(400)]) - source.neutral
    weights, *_ = np.linalg.lstsq(
        np.concatenate([source.identity, source.expression]).reshape(5, -1).T, faces.reshape(400, -1).T, rcond=None
    )
    identity, expression = weights[:3], weights[3:]
    assert abs(identity.mean()) < 0.1
    assert abs(identity.std() - 1) < 0.1
    assert (expression.min(), expression.max()) == pytest.approx((0, 1), abs=0.02)
    one, other = (source.face(7, subject=3, expression=expression) - source.neutral for expression in (0, 1))
    difference, residual, *_ = np.linalg.lstsq(source.expression.reshape(2, -1).T, (one - other).ravel(), rcond=None)
    assert residual[0] < 1e-10  # expressions of one subject share its identity
    assert abs(difference).max() > 0.01


def test_open_set(model: Path, tmp_path: Path) -> None:
    write_face_folder(tmp_path / "faces", model=model, num_subjects=10, num_expressions=4)
    manifest = prepare(MeshHdf5(data_dir=str(tmp_path / "faces"), num_vertices=11, unit="cm"))
    assert [manifest.count(split) for split in ("train", "val", "test")] == [24, 8, 8]
    meshes = load_meshes(manifest.prepared_dir, "test")
    assert meshes.subject_names == ("subject_0009", "subject_0010")
    assert meshes.mirror is not None
    with h5py.File(tmp_path / "faces" / "test_data.h5") as file:
        stored = file["subject_0009/mesh_000003/coordinates"]
        assert stored.dtype == np.float32
        np.testing.assert_array_equal(stored[()], load_face_model(model).face(0, subject=8, expression=2))


def test_closed_set_trains_on_the_same_faces(model: Path, tmp_path: Path) -> None:
    write_face_folder(tmp_path / "open", model=model, num_subjects=10, num_expressions=8)
    write_face_folder(tmp_path / "closed", model=model, num_subjects=10, num_expressions=12, protocol="closed_set")
    manifest = prepare(MeshHdf5(data_dir=str(tmp_path / "closed"), num_vertices=0, protocol="closed_set"))
    assert [manifest.count(split) for split in ("train", "val", "test")] == [6 * 8, 6 * 2, 6 * 2]
    first = prepare(MeshHdf5(data_dir=str(tmp_path / "open"), num_vertices=0))
    one, other = (load_meshes(folder.prepared_dir, "train") for folder in (first, manifest))
    assert one.names == other.names
    np.testing.assert_array_equal(one.read(range(48))[0], other.read(range(48))[0])


def test_wrong_requests(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read"):
        write_face_folder(tmp_path / "faces", model=tmp_path / "none.npz")
    with pytest.raises(ValueError, match="num_subjects must be 5"):
        write_face_folder(tmp_path / "faces", model=model, num_subjects=4)


@pytest.mark.skipif(not ICT.exists(), reason="needs the shared data")
def test_the_real_model(tmp_path: Path) -> None:
    write_face_folder(tmp_path / "faces", model=ICT, num_subjects=5, num_expressions=2)
    manifest = prepare(MeshHdf5(data_dir=str(tmp_path / "faces"), unit="cm"))
    meshes = load_meshes(manifest.prepared_dir, "train")
    assert (meshes.num_vertices, meshes.num_classes) == (1723, 3)
    assert meshes.mirror is not None
    coordinates, normals = meshes.read([0])
    assert normals[0][np.argmax(coordinates[0][:, 2])][2] > 0.5  # the tip of the nose looks ahead
