import numpy as np

from triform.geometry.surface_net import surface_net


def test_a_sphere_is_closed_and_turned_outward() -> None:
    places = np.stack(np.meshgrid(*(np.arange(-8, 8.0),) * 3, indexing="ij"), axis=-1)
    vertices, faces = surface_net(np.linalg.norm(places, axis=-1) - 5.3)
    vertices = vertices - 8
    edges, counts = np.unique(
        np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0, return_counts=True
    )
    assert (counts == 2).all()
    assert len(vertices) - len(edges) + len(faces) == 2
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 5.3, atol=0.15)
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    assert ((np.cross(b - a, c - a) * (a + b + c)).sum(axis=1) > 0).all()
    volume = (a * np.cross(b, c)).sum() / 6
    assert abs(volume / (4 / 3 * np.pi * 5.3**3) - 1) < 0.04


def test_one_point_inside_by_hand() -> None:
    values = np.ones((3, 3, 3))
    values[1, 1, 1] = -1
    vertices, faces = surface_net(values)
    # Each of eight cells is crossed halfway along three of its edges: the corners of a cube.
    np.testing.assert_allclose(np.sort(vertices, axis=0), np.repeat([[1 - 1 / 6], [1 + 1 / 6]], 4, axis=0) * np.ones(3))
    assert faces.shape == (12, 3)
