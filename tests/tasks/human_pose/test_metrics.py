"""Each metric equals what is found by hand, and the laws that name them hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from triform.tasks.human_pose.averaging import averaged
from triform.tasks.human_pose.metrics import (
    METRICS,
    PCK_JOINTS,
    acceleration_error,
    auc,
    bone_length_error,
    mpjpe,
    mpjve,
    n_mpjpe,
    p_mpjpe,
    pck_150mm,
    per_joint,
    procrustes,
    rescaled,
    rooted,
    symmetry_error,
    totals,
)

SEEDS = st.integers(0, 2**32 - 1)


def poses(seed: int, num_frames: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=300, size=(num_frames, 17, 3)) + np.array([0, 0, 4000])


def off(joint: int, by: tuple[float, float, float], num_frames: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true poses that differ in one joint alone."""
    true = poses(0, num_frames)
    predicted = true.copy()
    predicted[:, joint] += by
    return predicted, true


def test_mpjpe_is_the_mean_distance_of_root_relative_joints() -> None:
    predicted, true = off(3, (3, 4, 0))
    assert mpjpe(predicted, true) == pytest.approx(5 / 17)
    assert mpjpe(predicted + np.array([10, 20, 30]), true) == pytest.approx(5 / 17)
    np.testing.assert_allclose(per_joint(predicted, true), np.where(np.arange(17) == 3, 5.0, 0.0), atol=1e-9)
    moved_root, _ = off(0, (0, 0, 7))
    assert mpjpe(moved_root, true) == pytest.approx(7 * 16 / 17)


def test_frames_that_are_not_valid_are_never_looked_at() -> None:
    predicted, true = off(3, (3, 4, 0))
    true[1] = np.nan
    valid = np.array([True, False, True])
    for metric in (mpjpe, p_mpjpe, n_mpjpe, pck_150mm, auc, bone_length_error):
        assert np.isfinite(metric(predicted, true, valid))
    assert mpjpe(predicted, true, valid) == pytest.approx(5 / 17)
    assert np.isnan(mpjpe(predicted, true, np.zeros(3, bool)))
    assert np.isnan(acceleration_error(predicted, true, valid))


def test_n_mpjpe_scales_each_frame_by_the_dot_products() -> None:
    predicted = np.array([[[0.0, 0, 0], [1, 0, 0]]])
    true = np.array([[[5.0, 5, 5], [8, 9, 5]]])
    np.testing.assert_allclose(rescaled(predicted, true), [[[0, 0, 0], [3, 0, 0]]])
    assert n_mpjpe(predicted, true) == pytest.approx(2.0)
    assert n_mpjpe(np.zeros((1, 2, 3)), true) == pytest.approx(2.5)


def test_p_mpjpe_does_not_undo_a_reflection() -> None:
    """Mirrored, the moments are 18, 8 and -2, so that the best is no turn and a scale of (18 + 8 - 2) / 28."""
    true = np.array([[3.0, 0, 0], [-3, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 1], [0, 0, -1]])[None]
    mirrored = true * [1, 1, -1]
    np.testing.assert_allclose(procrustes(mirrored, true), mirrored * 6 / 7, atol=1e-12)
    assert p_mpjpe(mirrored, true) == pytest.approx((3 / 7 + 2 / 7 + 13 / 7) / 3)


def test_p_mpjpe_of_a_point_is_the_distance_to_the_middle() -> None:
    true = np.array([[[0.0, 0, 0], [2, 0, 0]]])
    assert p_mpjpe(np.zeros((1, 2, 3)), true) == pytest.approx(1.0)


def test_velocity_and_acceleration_count_runs_of_valid_frames() -> None:
    true = poses(0, 5)
    predicted = true.copy()
    times = np.arange(5.0)
    predicted[:, 5, 0] += times**2
    assert mpjve(predicted, true) == pytest.approx((1 + 3 + 5 + 7) / 4 / 17)
    assert mpjve(predicted, true, frame_rate=50.0) == pytest.approx(50 * 4 / 17)
    assert acceleration_error(predicted, true) == pytest.approx(2 / 17)
    gap = np.array([True, True, False, True, True])
    predicted[2] = np.nan
    assert mpjve(predicted, true, gap) == pytest.approx((1 + 7) / 2 / 17)
    assert np.isnan(acceleration_error(predicted, true, gap))
    told = totals(predicted, true, gap, frame_rate=50.0)
    counts = dict(zip(METRICS, told[:, 1].tolist(), strict=True))
    assert (counts["mpjpe_mm"], counts["mpjve_mm_frame"], counts["acceleration_mm_frame2"]) == (4, 2, 0)


def test_pck_counts_14_joints_and_errors_strictly_below_150_mm() -> None:
    true = np.zeros((1, 17, 3))
    for error, joint, expected in ((150.0, 1, 13 / 14), (149.9, 1, 1.0), (500.0, 9, 1.0), (500.0, 7, 1.0), (500.0, 10, 13 / 14)):
        predicted = true.copy()
        predicted[0, joint, 1] = error
        assert pck_150mm(predicted, true) == pytest.approx(expected)


def test_auc_is_the_mean_over_31_thresholds() -> None:
    true = np.zeros((1, 17, 3))
    predicted = true.copy()
    assert auc(predicted, true) == pytest.approx(30 / 31)
    predicted[0, PCK_JOINTS, 2] = 12.0
    assert auc(predicted, true) == pytest.approx(28 / 31)
    predicted[0, PCK_JOINTS, 2] = 15.0
    assert auc(predicted, true) == pytest.approx(27 / 31)


def test_bones_and_sides() -> None:
    true = np.zeros((1, 17, 3))
    true[0, 3], true[0, 6] = (0, 100, 0), (0, 100, 0)
    predicted = true.copy()
    predicted[0, 3, 1] = 108
    assert bone_length_error(predicted, true) == pytest.approx(8 / 16)
    assert symmetry_error(predicted) == pytest.approx(8 / 6)
    assert symmetry_error(true) == 0


def test_leading_axes_are_clips() -> None:
    predicted, true = poses(1, 6).reshape(2, 3, 17, 3), poses(2, 6).reshape(2, 3, 17, 3)
    assert mpjpe(predicted, true) == pytest.approx(np.mean([mpjpe(a, b) for a, b in zip(predicted, true, strict=True)]))
    assert mpjve(predicted, true) == pytest.approx(np.mean([mpjve(a, b) for a, b in zip(predicted, true, strict=True)]))
    valid = np.array([[True, True, False], [True, True, True]])
    assert p_mpjpe(predicted, true, valid) == pytest.approx(
        p_mpjpe(predicted.reshape(1, 6, 17, 3), true.reshape(1, 6, 17, 3), valid.reshape(1, 6))
    )


def test_totals_agree_with_each_metric() -> None:
    predicted, true, valid = poses(1, 4), poses(2, 4), np.array([True, True, True, False])
    told = dict(zip(METRICS, (lambda pair: pair[:, 0] / pair[:, 1])(totals(predicted, true, valid, frame_rate=25.0)), strict=True))
    expected = {
        "mpjpe_mm": mpjpe(predicted, true, valid),
        "p_mpjpe_mm": p_mpjpe(predicted, true, valid),
        "n_mpjpe_mm": n_mpjpe(predicted, true, valid),
        "mpjve_mm_frame": mpjve(predicted, true, valid),
        "mpjve_mm_s": mpjve(predicted, true, valid, frame_rate=25.0),
        "acceleration_mm_frame2": acceleration_error(predicted, true, valid),
        "pck_150mm": pck_150mm(predicted, true, valid),
        "auc": auc(predicted, true, valid),
        "bone_length_mm": bone_length_error(predicted, true, valid),
        "symmetry_mm": symmetry_error(predicted, valid),
    }
    assert told == pytest.approx(expected)


@given(SEEDS, st.floats(0.01, 100), st.floats(-1e4, 1e4))
def test_procrustes_undoes_any_similarity(seed: int, scale: float, shift: float) -> None:
    true = poses(seed)
    turn = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    moved = scale * true @ turn.T + [shift, -shift, 2 * shift]
    size = np.abs(true).max() + np.abs(moved).max() / scale
    np.testing.assert_allclose(procrustes(moved, true), true, rtol=0, atol=1e-9 * size)
    assert p_mpjpe(moved, true) < 1e-9 * size


@given(SEEDS, SEEDS)
def test_no_scaling_is_nearer_than_the_best_similarity(seed: int, other: int) -> None:
    predicted, true = poses(seed), poses(other)
    similar = np.square(procrustes(predicted, true) - true).sum((1, 2))
    plain = np.square(rooted(predicted) - rooted(true)).sum((1, 2))
    forward = (rooted(predicted) * rooted(true)).sum((1, 2)) > 0
    scaled = np.square(rescaled(predicted, true) - rooted(true)).sum((1, 2))
    assert (similar <= plain * (1 + 1e-9) + 1e-6).all()
    assert (similar <= scaled * (1 + 1e-9) + 1e-6)[forward].all()
    assert (scaled <= plain * (1 + 1e-9) + 1e-6).all()


@given(SEEDS, st.floats(0.01, 100), st.floats(-1e4, 1e4))
def test_mpjpe_ignores_place_and_n_mpjpe_size(seed: int, scale: float, shift: float) -> None:
    predicted, true = poses(seed), poses(seed + 1)
    assert mpjpe(predicted + shift, true) == pytest.approx(mpjpe(predicted, true), rel=1e-6)
    assert n_mpjpe(scale * predicted, true) == pytest.approx(n_mpjpe(predicted, true), rel=1e-6)


def test_averages_over_frames_or_over_actions() -> None:
    sums = np.array([[[10.0, 10]], [[30, 10]], [[100, 5]], [[0, 0]]])
    actions = ("walk", "walk", "sit", "lie")
    assert averaged(sums, actions, "frame") == pytest.approx([140 / 25])
    assert averaged(sums, actions, "action") == pytest.approx([(2 + 20) / 2])
    assert np.isnan(averaged(sums[3:], actions[3:], "action")).all()
