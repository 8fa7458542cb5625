"""P x K batches: what is in one, and that they are a pure function of (seed, step)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from triform.tasks.mesh_identity.sampler import select

TEN = np.repeat(np.arange(10), 6)


def test_a_batch_holds_p_subjects_and_k_different_meshes_of_each_side_by_side() -> None:
    indices = select(TEN, seed=0, step=3, batch_size=32, meshes_per_subject=4)
    subjects = TEN[indices].reshape(8, 4)
    assert (subjects == subjects[:, :1]).all()
    assert len(set(subjects[:, 0])) == 8
    assert len(set(indices)) == 32


def test_it_depends_on_seed_and_step_alone_and_comes_to_all() -> None:
    def batch(seed: int, step: int) -> list[int]:
        return select(TEN, seed=seed, step=step, batch_size=8, meshes_per_subject=2).tolist()

    assert batch(0, 5) == batch(0, 5)
    assert len({tuple(batch(seed, step)) for seed in (0, 1) for step in range(4)}) == 8
    assert {mesh for step in range(60) for mesh in batch(0, step)} == set(range(60))


def test_few_subjects_give_more_meshes_each_and_a_part_of_the_batch_still_holds_several() -> None:
    two = np.array([7, 3] * 8)
    indices = select(two, seed=0, step=0, batch_size=12, meshes_per_subject=2)
    assert np.bincount(two[indices])[[3, 7]].tolist() == [6, 6]
    assert len(set(indices)) == 12
    assert all(len(set(two[part])) == 2 for part in np.split(indices, 3))


def test_a_subject_of_few_meshes_gives_all_before_it_gives_one_again() -> None:
    subjects = np.array([0, 1, 1, 1])
    indices = select(subjects, seed=0, step=0, batch_size=8, meshes_per_subject=4)
    assert sorted(indices.tolist()).count(0) == 4
    assert sorted(np.bincount(indices)[1:].tolist()) == [1, 1, 2]


def test_a_batch_smaller_than_two_shares_still_holds_two_subjects() -> None:
    assert len(set(TEN[select(TEN, seed=0, step=0, batch_size=4, meshes_per_subject=4)])) == 2
    assert len(select(TEN, seed=0, step=0, batch_size=1, meshes_per_subject=4)) == 1


@given(
    subjects=st.lists(st.integers(-3, 6), min_size=1, max_size=30),
    step=st.integers(0, 2**40),
    batch_size=st.integers(1, 40),
    per_subject=st.integers(1, 6),
)
def test_every_batch_is_full_and_fair(subjects: list[int], step: int, batch_size: int, per_subject: int) -> None:
    told = np.array(subjects)
    indices = select(told, seed=1, step=step, batch_size=batch_size, meshes_per_subject=per_subject)
    assert len(indices) == batch_size
    counts = np.unique(told[indices], return_counts=True)[1]
    assert counts.max() - counts.min() <= 1
    _, own = np.unique(indices, return_counts=True)
    for subject in np.unique(told[indices]):
        repeats = [int((indices == mesh).sum()) for mesh in np.flatnonzero(told == subject)]
        assert max(repeats) - min(repeats) <= 1
    assert own.sum() == batch_size
