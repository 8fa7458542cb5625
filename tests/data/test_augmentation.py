"""Augmentation: geometry by hand, and a pure function of (seed, epoch, sample)."""

import numpy as np
import pytest

from triform.data.augmentation import augment_cloud, rotate_about, sample_generator
from triform.data.order import epoch_order

EYE = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(("axis", "source", "target"), [("z", 0, 1), ("x", 1, 2), ("y", 2, 0)])
def test_a_quarter_turn_takes_one_axis_to_the_next(axis, source, target) -> None:
    turned = rotate_about(EYE, axis, angle_rad=np.pi / 2)
    np.testing.assert_allclose(turned[source], EYE[target], atol=1e-7)
    np.testing.assert_array_equal(turned["xyz".index(axis)], EYE["xyz".index(axis)])
    assert turned.dtype == np.float32


def changed(seed: int = 0, *, epoch: int = 0, sample: int = 0, jitter_std: float = 0.0) -> np.ndarray:
    generator = sample_generator(seed, epoch=epoch, sample=sample)
    return augment_cloud(EYE, generator, rotate_axis="z", scale_range=(0.5, 1.5), jitter_std=jitter_std)


def test_it_is_a_pure_function_and_each_key_matters() -> None:
    np.testing.assert_array_equal(changed(), changed())
    for other in (changed(1), changed(epoch=1), changed(sample=1)):
        assert not np.allclose(changed(), other)
    assert np.allclose(EYE, np.eye(3)), "the input stays"


def test_samples_draw_from_streams_that_differ_from_the_order_of_the_epoch() -> None:
    order = np.random.Generator(np.random.Philox(key=[0, 0])).random(64)
    drawn = [sample_generator(0, epoch=0, sample=sample).random(64) for sample in range(4)]
    assert len(np.unique(np.concatenate([order, *drawn]))) == 64 * 5
    assert sorted(epoch_order(0, 0, 5)) == [0, 1, 2, 3, 4]


def test_turning_and_scaling_keep_the_shape() -> None:
    cloud = changed()
    lengths = np.linalg.norm(cloud, axis=1)
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-6)
    assert 0.5 <= lengths[0] <= 1.5
    assert not np.allclose(cloud, changed(jitter_std=0.01))
    assert np.abs(cloud - changed(jitter_std=0.01)).max() < 0.06


def test_with_everything_off_nothing_changes() -> None:
    generator = sample_generator(0, epoch=0, sample=0)
    kept = augment_cloud(EYE, generator, rotate_axis=None, scale_range=(1, 1), jitter_std=0)
    np.testing.assert_array_equal(kept, EYE)
