import heapq

import numpy as np
import pytest

from triform.geometry.mesh_graph import nearest_of, ring_neighbors


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    faces = np.stack([np.stack([corner, corner + 1, corner + side], 1), np.stack([corner + 1, corner + side + 1, corner + side], 1)], 1)
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    return faces.reshape(-1, 3), np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3).astype(float)


def dijkstra_by_hand(faces: np.ndarray, coordinates: np.ndarray, source: int) -> list[int]:
    """All vertices that are reached, itself first, then by (distance, index)."""
    around: dict[int, set[int]] = {}
    for face in faces.tolist():
        for a in face:
            around.setdefault(a, set()).update(b for b in face if b != a)
    distance, heap = {source: 0.0}, [(0.0, source)]
    while heap:
        far, vertex = heapq.heappop(heap)
        if far > distance[vertex]:
            continue
        for other in around.get(vertex, ()):
            length = far + float(np.linalg.norm(coordinates[vertex] - coordinates[other]))
            if length < distance.get(other, np.inf):
                distance[other] = length
                heapq.heappush(heap, (length, other))
    return sorted(distance, key=lambda vertex: (vertex != source, distance[vertex], vertex))


def test_a_strip_by_hand() -> None:
    # Along the edges 3 is nearer to 0 (1 + 1) than straight distance says of 4, which no edge joins.
    coordinates = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 2, 0], [0.1, 0, 0]])
    neighbors = ring_neighbors(np.array([[0, 1, 2], [1, 2, 3]]), coordinates, 3)
    assert neighbors.dtype == np.int32
    np.testing.assert_array_equal(neighbors, [[0, 1, 2], [1, 0, 2], [2, 1, 3], [3, 2, 1], [4, 4, 4]])


@pytest.mark.parametrize("k", [1, 7, 30])
def test_against_the_plain_algorithm(k: int) -> None:
    faces, coordinates = grid(18)  # 324 vertices: more than one pass of sources
    coordinates = coordinates + np.random.default_rng(0).normal(0, 0.3, coordinates.shape)
    neighbors = ring_neighbors(faces, coordinates, k)
    for source in range(0, 324, 17):
        assert neighbors[source].tolist() == dijkstra_by_hand(faces, coordinates, source)[:k]


def test_ties_go_to_the_lowest_index() -> None:
    faces, coordinates = grid(5)
    np.testing.assert_array_equal(ring_neighbors(faces, coordinates, 5)[12], [12, 7, 11, 13, 17])


def test_short_components_repeat_themselves_and_long_ones_are_filled() -> None:
    faces, coordinates = grid(4)
    both = np.concatenate([faces, [[16, 17, 18]]])
    places = np.concatenate([coordinates, [[0.0, 0, 9], [1, 0, 9], [0, 3, 9]]])
    neighbors = ring_neighbors(both, places, 16)
    np.testing.assert_array_equal(neighbors[16], [16, 17, 18] + [16] * 13)
    assert sorted(neighbors[0]) == list(range(16))


def test_edges_of_no_length() -> None:
    coordinates = np.array([[0.0, 0, 0], [0, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(ring_neighbors(np.array([[0, 1, 2]]), coordinates, 3), [[0, 1, 2], [1, 0, 2], [2, 0, 1]])


def test_the_nearest_kept_along_the_mesh() -> None:
    # A hairpin: 0-1-2-3-4 with 0 and 4 close in space, and 5 on its own.
    coordinates = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0.1, 0], [1, 0.2, 0], [0, 0.2, 0], [0.1, 5, 0]])
    faces = np.array([[0, 1, 1], [1, 2, 2], [2, 3, 3], [3, 4, 4]])
    kept = np.array([3, 0])
    np.testing.assert_array_equal(nearest_of(kept, coordinates, faces), [1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(nearest_of(kept, coordinates, None)[4], 1)
