import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform.geometry.sampling import farthest_from_centroid, farthest_point_sample_reference
from triform.geometry.template import farthest_vertices, is_involution, mirror_by_place, reduce_faces, reduce_mirror


def symmetric(num_pairs: int, num_alone: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    right = rng.normal(size=(num_pairs, 3)) + np.array([4.0, 0, 0])
    points = np.concatenate([right, right * [-1, 1, 1], rng.normal(size=(num_alone, 3)) * [0, 1, 1]])
    mirror = np.concatenate([np.arange(num_pairs) + num_pairs, np.arange(num_pairs), 2 * num_pairs + np.arange(num_alone)])
    order = rng.permutation(len(points))
    rank = np.argsort(order)
    return points[order], rank[mirror[order]]


def test_without_a_mirror_it_is_farthest_point_sampling() -> None:
    points = np.random.default_rng(1).normal(size=(100, 3))
    expected = farthest_point_sample_reference(points, 20, start=int(farthest_from_centroid(points)))
    np.testing.assert_array_equal(farthest_vertices(points, 20), np.sort(expected))


def test_no_vertex_comes_twice_even_where_all_coincide() -> None:
    np.testing.assert_array_equal(farthest_vertices(np.zeros((5, 3)), 4), [0, 1, 2, 3])


@given(st.integers(0, 12), st.integers(1, 6), st.integers(0, 3), st.data())
def test_a_symmetric_choice_mirrors_into_itself(num_pairs: int, num_alone: int, seed: int, data: st.DataObject) -> None:
    points, mirror = symmetric(num_pairs, num_alone, seed)
    assert is_involution(mirror)
    number = data.draw(st.integers(1, len(points)))
    chosen = farthest_vertices(points, number, mirror=mirror)
    assert len(np.unique(chosen)) == number
    lonely = set(mirror[chosen].tolist()) ^ set(chosen.tolist())
    middle = set(np.flatnonzero(mirror == np.arange(len(mirror))).tolist())
    assert len(lonely) <= (2 if middle <= set(chosen.tolist()) else 0)


def test_an_odd_place_goes_to_a_vertex_of_the_middle() -> None:
    points, mirror = symmetric(20, 3)
    for number in (1, 5, 11, 17):
        chosen = farthest_vertices(points, number, mirror=mirror)
        assert set(mirror[chosen].tolist()) == set(chosen.tolist())


def test_reduced_faces_by_hand() -> None:
    faces = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 3, 0], [2, 4, 3]])
    owner = np.array([0, 1, 2, 1, 0])
    # The first keeps three owners; the second loses one; the third is the first again, turned; so are the rest or they fall.
    np.testing.assert_array_equal(reduce_faces(faces, owner), [[0, 1, 2]])
    np.testing.assert_array_equal(reduce_faces(faces[1:], owner), [[1, 0, 2]])


def test_a_mirror_that_is_no_involution_any_more() -> None:
    mirror, kept = np.array([1, 0, 3, 2]), np.array([0, 2, 3])
    np.testing.assert_array_equal(reduce_mirror(mirror, np.array([0, 1]), np.array([0, 1, 0, 1])), [1, 0])
    assert reduce_mirror(mirror, kept, np.array([0, 1, 1, 2])) is None


def test_the_mirror_by_place() -> None:
    points, mirror = symmetric(10, 3)
    np.testing.assert_array_equal(mirror_by_place(points), mirror)
    assert mirror_by_place(np.array([[1.0, 0, 0], [2, 0, 0], [-1.4, 0, 0]])) is None


@pytest.mark.parametrize("number", [0, 4])
def test_a_number_that_does_not_fit(number: int) -> None:
    with pytest.raises(ValueError, match="num_vertices must be 1 to 3"):
        farthest_vertices(np.eye(3), number)
