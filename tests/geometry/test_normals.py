import numpy as np

from triform.geometry.normals import estimated_normals, to_unit, vertex_normals

TETRAHEDRON = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
OUTWARD = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def sphere(num_points: int) -> np.ndarray:
    """A Fibonacci spiral."""
    z = 1 - (2 * np.arange(num_points) + 1) / num_points
    turn = np.pi * (1 + np.sqrt(5)) * np.arange(num_points)
    return np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z], axis=1)


def test_a_tetrahedron_by_hand() -> None:
    normals = vertex_normals(TETRAHEDRON, OUTWARD)
    np.testing.assert_allclose(normals[0], -np.ones(3) / np.sqrt(3))
    # Twice the areas around (1, 0, 0): (0, 0, -1) + (0, -1, 0) + (1, 1, 1).
    np.testing.assert_allclose(normals[1], [1, 0, 0], atol=1e-15)


def test_areas_are_the_weights() -> None:
    # At the origin a triangle of area 2 in the plane z = 0 meets one of area 1/2 in x = 0.
    points = np.array([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 1, 0], [0, 0, 1]])
    normal = vertex_normals(points, np.array([[0, 1, 2], [0, 3, 4]]))[0]
    np.testing.assert_allclose(normal, np.array([1, 0, 4]) / np.sqrt(17))


def test_a_vertex_without_area_points_outward() -> None:
    points = np.concatenate([TETRAHEDRON, [[0.0, 0, 9]]])
    normal = vertex_normals(points, OUTWARD)[4]
    offset = points[4] - points.mean(axis=0)
    np.testing.assert_allclose(normal, offset / np.linalg.norm(offset))


def test_estimated_on_a_sphere() -> None:
    points = sphere(500) * 3 + np.array([10.0, 0, -4])
    cosines = (estimated_normals(points) * sphere(500)).sum(axis=1)
    assert cosines.min() > np.cos(np.radians(3))


def test_few_points_have_some_normal() -> None:
    for count in (1, 2, 3):
        np.testing.assert_allclose(np.linalg.norm(estimated_normals(TETRAHEDRON[:count]), axis=1), 1)


def test_tiny_and_zero_lengths() -> None:
    units = to_unit(np.array([[3e-200, 0, 4e-200], [0, 0, 0], [0, 0, 0]]), np.array([[0.0, 1, 0], [0, -1, 0], [0, 0, 0]]))
    np.testing.assert_allclose(units, [[0.6, 0, 0.8], [0, -1, 0], [0, 0, 1]])
