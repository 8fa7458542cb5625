"""Order: a pure function of seed and step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform.data.loader import load
from triform.data.order import batch_indices, steps_per_epoch

SIZES = {"num_samples": st.integers(1, 40), "batch_size": st.integers(1, 12), "seed": st.integers(0, 2**32 - 1)}


@given(**SIZES, epoch=st.integers(0, 1000))
def test_an_epoch_takes_no_sample_twice_and_leaves_out_less_than_a_batch(num_samples, batch_size, seed, epoch):
    steps = steps_per_epoch(num_samples, batch_size)
    found = [batch_indices(seed, epoch * steps + i, num_samples=num_samples, batch_size=batch_size) for i in range(steps)]
    taken = np.concatenate([indices for _, indices in found])
    assert {number for number, _ in found} == {epoch}
    assert len(np.unique(taken)) == len(taken)
    assert num_samples - len(taken) < batch_size


def test_seeds_and_epochs_differ_and_repeat():
    one, again = (batch_indices(7, 12, num_samples=100, batch_size=10)[1] for _ in range(2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, batch_indices(8, 12, num_samples=100, batch_size=10)[1])
    assert not np.array_equal(one, batch_indices(7, 2, num_samples=100, batch_size=10)[1])


def test_any_number_of_workers_gives_the_same_batches_in_order():
    expected = [i * i for i in range(5, 60)]
    for workers in (0, 1, 2, 5):
        assert list(load(lambda i: i * i, 5, 60, workers=workers)) == expected


def test_an_error_in_a_worker_reaches_the_loop():
    def make(i):
        if i == 7:
            raise ValueError("bad sample")
        return i

    with pytest.raises(ValueError, match="bad sample"):
        list(load(make, 0, 20, workers=2))
