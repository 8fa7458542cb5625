import os
import sys
from pathlib import Path

import numpy as np
import pytest

from triform.data.meshes.mesh_folder import join_corners, list_mesh_files, read_mesh_file
from triform.data.meshes.meshes import load_meshes
from triform.data.meshes.prepare import prepare
from triform.data.quarantine import BadFile
from triform.datasets.mesh_files import MeshFiles
from triform.errors import DataError, UsageError

trimesh = pytest.importorskip("trimesh")


def bumpy(subject: int, mesh: int = 0):
    ball = trimesh.creation.icosphere(subdivisions=1)
    noise = np.random.default_rng([subject, mesh]).normal(0, 0.02, ball.vertices.shape)
    return trimesh.Trimesh(ball.vertices * [1, 1 + 0.1 * subject, 1] + noise, ball.faces, process=False)


def write(folder: Path, *, num_subjects: int = 5, num_meshes: int = 3, suffix: str = "ply") -> Path:
    for subject in range(num_subjects):
        (folder / f"s{subject}").mkdir(parents=True)
        for mesh in range(num_meshes):
            bumpy(subject, mesh).export(folder / f"s{subject}" / f"m{mesh}.{suffix}")
    return folder


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "glb"])
def test_every_kind_of_file_keeps_correspondence(tmp_path: Path, suffix: str) -> None:
    folder = write(tmp_path / "meshes", suffix=suffix)
    manifest = prepare(MeshFiles(data_dir=str(folder), num_vertices=0))
    assert (manifest.num_vertices, manifest.num_samples, len(manifest.quarantined)) == (42, 15, 0)
    meshes = load_meshes(manifest.prepared_dir, "train")
    coordinates, normals = meshes.read([0])
    subject, mesh = (int(word[1:]) for word in meshes.names[0].split("/"))
    expected = bumpy(subject, mesh)
    order = np.arange(42) if suffix != "stl" else list(dict.fromkeys(expected.faces.ravel().tolist()))
    np.testing.assert_allclose(coordinates[0], expected.vertices[order], atol=1e-6)
    assert ((coordinates[0] * normals[0]).sum(axis=1) > 0).all()


def test_texture_seams_split_no_vertex(tmp_path: Path) -> None:
    ball = bumpy(0)
    lines = [f"v {x} {y} {z}" for x, y, z in ball.vertices] + [f"vt {i / 50} {i / 60}" for i in range(60)]
    lines += ["f " + " ".join(f"{v + 1}/{(3 * i + k) % 60 + 1}" for k, v in enumerate(face)) for i, face in enumerate(ball.faces)]
    (tmp_path / "seams.obj").write_text("\n".join(lines))
    arrays = read_mesh_file(tmp_path / "seams.obj")
    np.testing.assert_allclose(arrays.coordinates, ball.vertices)
    np.testing.assert_array_equal(arrays.faces, ball.faces)


def test_joined_corners_by_hand() -> None:
    corners = np.array([[1.0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 0], [-0.0, 0, 0], [0, 0, 2]])
    coordinates, faces = join_corners(corners, np.array([[0, 1, 2], [3, 4, 5]]))
    np.testing.assert_array_equal(coordinates, [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 2]])
    np.testing.assert_array_equal(faces, [[0, 1, 2], [2, 1, 3]])


def test_bad_files_are_set_aside_with_their_reasons(tmp_path: Path) -> None:
    folder = write(tmp_path / "meshes")
    whole = (folder / "s1/m1.ply").read_bytes()
    (folder / "s1/m1.ply").write_bytes(whole[: len(whole) // 2])
    trimesh.creation.icosphere(subdivisions=2).export(folder / "s2/m2.ply")
    turned = bumpy(3, 1)
    trimesh.Trimesh(turned.vertices, np.roll(turned.faces, 1, axis=0), process=False).export(folder / "s3/m1.ply")
    with pytest.raises(DataError, match="3 of 15 files can't be used"):
        prepare(MeshFiles(data_dir=str(folder), num_vertices=20))
    manifest = prepare(MeshFiles(data_dir=str(folder), num_vertices=20, max_quarantine_fraction=0.3))
    reasons = {bad.member: bad.reason for bad in manifest.quarantined}
    assert set(reasons) == {"s1/m1.ply", "s2/m2.ply", "s3/m1.ply"}
    assert "can't be read" in reasons["s1/m1.ply"]
    assert "162 vertices, where the first mesh has 42" in reasons["s2/m2.ply"]
    assert "triangles are not those of the first mesh" in reasons["s3/m1.ply"]


def test_a_cloud_is_no_mesh(tmp_path: Path) -> None:
    trimesh.PointCloud(np.eye(3)).export(tmp_path / "cloud.ply")
    with pytest.raises(BadFile, match=r"can't be read|no triangles"):
        read_mesh_file(tmp_path / "cloud.ply")


def list_them(folder: Path, protocol: str = "open_set", seed: int = 0, **fractions: float):
    return list_mesh_files(folder, protocol=protocol, seed=seed, **({"val_fraction": 0.2, "test_fraction": 0.2} | fractions)).meshes


def empty(folder: Path, *, num_subjects: int, num_meshes: int) -> Path:
    for subject in range(num_subjects):
        (folder / f"s{subject:02d}").mkdir(parents=True)
        for mesh in range(num_meshes):
            (folder / f"s{subject:02d}" / f"m{mesh}.ply").touch()
    return folder


def test_subjects_are_dealt_whole_in_an_open_set(tmp_path: Path) -> None:
    folder = empty(tmp_path, num_subjects=10, num_meshes=4)
    meshes = list_them(folder)
    of_split = {split: {mesh.subject for mesh in meshes if mesh.split == split} for split in ("train", "val", "test")}
    assert [len(subjects) for subjects in of_split.values()] == [6, 2, 2]
    assert len(set.union(*of_split.values())) == 10
    assert {mesh.subject: mesh.label for mesh in meshes} == {f"s{i:02d}": i for i in range(10)}
    assert list_them(folder) == meshes
    assert any(list_them(folder, seed=seed) != meshes for seed in (1, 2))


def test_each_subjects_meshes_are_dealt_in_a_closed_set(tmp_path: Path) -> None:
    meshes = list_them(empty(tmp_path, num_subjects=3, num_meshes=10), "closed_set", val_fraction=0.3, test_fraction=0.1)
    for subject in ("s00", "s01", "s02"):
        splits = [mesh.split for mesh in meshes if mesh.subject == subject]
        assert [splits.count(split) for split in ("train", "val", "test")] == [6, 3, 1]


def test_what_can_not_be_dealt_or_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 subjects"):
        list_them(empty(tmp_path / "a", num_subjects=2, num_meshes=4))
    with pytest.raises(DataError, match="2 meshes of s00"):
        list_them(empty(tmp_path / "b", num_subjects=3, num_meshes=2), "closed_set")
    with pytest.raises(DataError, match="holds no meshes"):
        list_them(empty(tmp_path / "c", num_subjects=3, num_meshes=0))
    with pytest.raises(DataError, match="is no folder"):
        list_them(tmp_path / "d")
    twice = empty(tmp_path / "e", num_subjects=3, num_meshes=1)
    (twice / "s00" / "m0.obj").touch()
    with pytest.raises(DataError, match=r"m0.obj and s00/m0.ply"):
        list_them(twice)


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    folder = empty(tmp_path, num_subjects=3, num_meshes=1)
    (folder / "s00" / os.fsdecode(b"caf\xe9.ply")).touch()
    with pytest.raises(DataError, match=r"caf\\udce9.ply.*UTF-8.*rename"):
        list_them(folder)


def test_without_trimesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(UsageError, match=r"pip install 'triform\[mesh\]'"):
        prepare(MeshFiles(data_dir=str(empty(tmp_path, num_subjects=3, num_meshes=1))))
