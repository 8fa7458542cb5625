import numpy as np
import pytest

from triform.data.poses.detector_noise import detector_noise
from triform.geometry.skeletons import H36M_17


def noise(seed: int = 0, num_frames: int = 243, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    return detector_noise(np.random.default_rng(seed), num_frames, factor=factor)


@pytest.mark.parametrize("num_frames", [1, 2, 8, 27, 243])
def test_shapes_and_purity(num_frames: int) -> None:
    (offset, confidence), (again, same) = noise(1, num_frames), noise(1, num_frames)
    assert (offset.shape, offset.dtype, confidence.shape, confidence.dtype) == (
        (num_frames, 17, 2),
        np.float32,
        (num_frames, 17),
        np.float32,
    )
    assert offset.tobytes() + confidence.tobytes() == again.tobytes() + same.tobytes()
    assert np.isfinite(offset).all()
    assert (confidence >= 0).all()
    assert (confidence <= 1).all()
    assert not np.array_equal(offset, noise(2, num_frames)[0])


def test_no_errors_at_factor_0() -> None:
    offset, confidence = noise(factor=0.0)
    assert not offset.any()
    assert (confidence == 1).all()


def test_the_factor_scales_the_errors() -> None:
    np.testing.assert_allclose(noise(factor=3.0)[0], 3 * noise(factor=1.0)[0], rtol=1e-6)


def test_wrists_and_ankles_are_worst() -> None:
    spread = noise(3, 20000)[0].std(axis=(0, 2))
    of = dict(zip(H36M_17.joints, spread, strict=True))
    assert {*sorted(of, key=lambda name: -of[name])[:4]} == {"l_wrist", "r_wrist", "l_ankle", "r_ankle"}
    assert spread.mean() < 0.015


def test_the_spread_of_a_wrist_by_hand() -> None:
    # A key's variance is 0.7 * 0.0095^2 + 0.3 * 0.06^2 / 12; between keys the mean of (1-t)^2 + t^2 is 2/3; a frame adds 0.002^2.
    wanted = np.sqrt((0.7 * 0.0095**2 + 0.3 * 0.06**2 / 12) * 2 / 3 + 0.002**2)
    wrist = H36M_17.joints.index("l_wrist")
    assert noise(4, 60000)[0][:, wrist].std() == pytest.approx(wanted, rel=0.03)


def test_errors_go_on_from_frame_to_frame() -> None:
    offset = noise(5, 9000)[0].astype(np.float64)
    near, far = (np.mean(offset[step:] * offset[:-step]) / np.mean(offset**2) for step in (1, 40))
    assert near > 0.8
    assert abs(far) < 0.05


def test_confidence_falls_with_the_error() -> None:
    offset, confidence = noise(6, 20000)
    distance = np.linalg.norm(offset, axis=-1)
    small, large = confidence[distance < 0.003].mean(), confidence[(distance > 0.02) & (distance < 0.03)].mean()
    # a / (d + a) + b d at 0.002 and at 0.025, less what clipping at 1 takes.
    assert 0.85 < small < 0.96
    assert large == pytest.approx(0.028 / 0.053 + 1.1 * 0.025 - 0.0046, abs=0.03)
