from pathlib import Path

import numpy as np
import pytest

from triform.data.meshes.meshes import load_meshes
from triform.data.meshes.prepare import prepare
from triform.datasets.mesh_files import MeshFiles
from triform.datasets.synthetic.bodies import body, body_template, write_body_folder


def span(points: np.ndarray) -> np.ndarray:
    return points.max(axis=0) - points.min(axis=0)


@pytest.mark.parametrize(("cell_m", "num_vertices"), [(0.0325, 2454), (0.04, 1602)])
def test_the_template_is_one_closed_symmetric_surface(cell_m: float, num_vertices: int) -> None:
    template = body_template(cell_m)
    faces, places = template.faces, template.coordinates
    edges, counts = np.unique(
        np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0, return_counts=True
    )
    assert (counts == 2).all()
    assert (len(places), len(places) - len(edges) + len(faces)) == (num_vertices, 2)
    np.testing.assert_allclose(places[template.mirror], places * [-1, 1, 1], atol=1e-9)
    np.testing.assert_allclose(template.weights.sum(axis=1), 1)
    assert 1.6 < span(places)[1] < 1.9


def test_size_tells_subjects_apart_and_pose_does_not() -> None:
    template = body_template(0.04)
    bodies = np.stack([[body(template, 0, subject=subject, mesh=mesh) for mesh in range(4)] for subject in range(8)])
    assert np.isfinite(bodies).all()
    assert abs(bodies[..., 1].min(axis=2)).max() == 0
    # Between two rings of one shin, which no joint bends: it differs between subjects, hardly between poses.
    upper, lower = (int(np.abs(template.coordinates - place).sum(axis=1).argmin()) for place in ([0.22, 0.3, 0], [0.22, 0.2, 0]))
    shins = np.linalg.norm(bodies[:, :, upper] - bodies[:, :, lower], axis=-1)
    assert shins.mean(axis=1).std() > 2 * shins.std(axis=1).mean()
    assert np.abs(bodies[:, 0] - bodies[:, 1]).max(axis=(1, 2)).min() > 0.05


def test_each_mesh_is_a_pure_function_of_its_key() -> None:
    template = body_template(0.04)
    np.testing.assert_array_equal(body(template, 3, subject=1, mesh=2), body(template, 3, subject=1, mesh=2))
    assert not np.array_equal(body(template, 3, subject=1, mesh=2), body(template, 4, subject=1, mesh=2))


def test_a_folder_that_is_prepared(tmp_path: Path) -> None:
    pytest.importorskip("trimesh")
    folder = tmp_path / "bodies"
    write_body_folder(folder, num_subjects=4, num_meshes=2, seed=5, cell_m=0.04)
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*.ply")}
    torn = folder / "subject_0002/mesh_000001.ply"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:100])
    write_body_folder(folder, num_subjects=4, num_meshes=2, seed=5, cell_m=0.04)
    assert torn.read_bytes() == whole
    assert [path for path in stamps if path.stat().st_mtime_ns != stamps[path]] == [torn]
    manifest = prepare(MeshFiles(data_dir=str(folder), num_vertices=300))
    meshes = load_meshes(manifest.prepared_dir, "train")
    assert meshes.mirror is not None
    subject, mesh = (int(word[-4:]) for word in meshes.names[0].split("/"))
    expected = body(body_template(0.04), 5, subject=subject, mesh=mesh).astype(np.float32)
    kept = meshes.read([0])[0][0]
    assert all((expected == vertex).all(axis=1).any() for vertex in kept)
    # Outward: most normals of a body point away from its vertical axis or its ends.
    coordinates, normals = meshes.read([0])
    assert ((coordinates[0] - coordinates[0].mean(axis=0)) * normals[0]).sum(axis=1).mean() > 0.05
