from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from triform.datasets.synthetic.people import FRAME_RATE, body, take, write_people_folder
from triform.datasets.synthetic.people_motions import ACTIONS
from triform.datasets.synthetic.people_skeleton import bend_leg
from triform.geometry.skeletons import H36M_17

EACH = pytest.mark.parametrize("action", ACTIONS)
J = {name: index for index, name in enumerate(H36M_17.joints)}


def one(action: str, *, subject: int = 1, number: int = 1, num_frames: int = 250, seed: int = 0) -> np.ndarray:
    return take(action, seed=seed, subject=subject, number=number, num_frames=num_frames).astype(np.float64)


def lengths(joints: np.ndarray) -> np.ndarray:
    return np.stack([np.linalg.norm(joints[:, joint] - joints[:, parent], axis=1) for joint, parent in H36M_17.bones], axis=1)


@EACH
def test_bones_keep_their_lengths_and_both_sides_are_alike(action: str) -> None:
    found = lengths(one(action))
    assert (np.ptp(found, axis=0) < 0.01).all()
    mirrored = [joint for joint, _ in H36M_17.bones]
    swapped = [mirrored.index(int(H36M_17.mirrored[joint])) for joint in mirrored]
    np.testing.assert_allclose(found, found[:, swapped], atol=0.01)


def test_subjects_differ_in_bones_and_takes_of_one_do_not() -> None:
    bones = [lengths(one("walking", subject=subject, num_frames=1))[0] for subject in range(1, 7)]
    assert all(np.abs(a - b).max() > 5 for i, a in enumerate(bones) for b in bones[:i])
    np.testing.assert_allclose(lengths(one("sitting", subject=3, number=2, num_frames=1))[0], bones[2], atol=0.01)
    assert all(700 < body(0, subject).leg < 1000 for subject in range(50))


@EACH
def test_a_take_is_a_function_of_its_key_alone(action: str) -> None:
    np.testing.assert_array_equal(one(action), one(action))
    for other in ({"subject": 2}, {"number": 2}, {"seed": 1}):
        assert np.abs(one(action, **other) - one(action)).max() > 50


@EACH
@pytest.mark.parametrize("subject", range(1, 5))
def test_people_are_upright_on_the_ground_and_move_smoothly(action: str, subject: int) -> None:
    joints = one(action, subject=subject)
    ground = body(0, subject).ankle
    feet = joints[:, [J["l_ankle"], J["r_ankle"]], 1]
    np.testing.assert_allclose(feet.min(axis=1), ground, atol=12)  # one foot at least, with a leg that is stretched a little less
    assert feet.max() < ground + 250
    assert (joints[:, J["head"], 1] > joints[:, J["hip"], 1] + 400).all()
    assert (joints[:, J["hip"], 1] > feet.mean(axis=1) + 300).all()
    acceleration = np.linalg.norm(np.diff(joints, n=2, axis=0), axis=-1) * FRAME_RATE**2 / 1000
    assert acceleration.max() < 60  # m/s^2


@EACH
def test_knees_and_elbows_bend_the_way_they_do(action: str) -> None:
    joints = one(action)
    left = joints[:, J["l_hip"]] - joints[:, J["r_hip"]]
    ahead = np.cross(left, [0, 1, 0])
    for side in "lr":
        hip, knee, ankle = (joints[:, J[f"{side}_{name}"]] for name in ("hip", "knee", "ankle"))
        assert (np.einsum("fa,fa->f", knee - (hip + ankle) / 2, ahead) > 0).all()
        upper, fore = (joints[:, J[f"{side}_{b}"]] - joints[:, J[f"{side}_{a}"]] for a, b in pairwise(("shoulder", "elbow", "wrist")))
        cosine = (upper * fore).sum(axis=1) / (np.linalg.norm(upper, axis=1) * np.linalg.norm(fore, axis=1))
        assert (cosine > np.cos(2.3)).all()
    if action == "walking":
        way = np.diff(joints[:, J["hip"]], axis=0)
        assert (np.einsum("fa,fa->f", way, ahead[1:]) > 0).all()


def test_a_foot_in_walking_rests_while_it_is_on_the_ground() -> None:
    foot = one("walking")[:, J["l_ankle"]]
    still = foot[:, 1] < body(0, 1).ankle + 3
    speed = np.linalg.norm(np.diff(foot, axis=0), axis=1)[still[1:] & still[:-1]] * FRAME_RATE / 1000
    assert 0.3 < still.mean() < 0.7
    assert np.median(speed) < 0.02


def test_who_sits_goes_down_to_the_seat_and_who_waves_lifts_one_hand() -> None:
    hips = one("sitting")[:, J["hip"], 1]
    assert hips.min() < 0.68 * hips.max()
    waved = one("waving")
    over = [(waved[:, J[f"{side}_wrist"], 1] > waved[:, J["thorax"], 1]).any() for side in "lr"]
    assert sorted(over) == [False, True]


def test_a_leg_bends_to_where_its_ankle_should_be() -> None:
    person = body(0, 1)
    hip, ankle = np.array([[0.0, 900, 0]]), np.array([[30.0, 300, 100]])
    knee, foot = bend_leg(person, hip, ankle, np.array([[0.0, 0, 1]]))
    np.testing.assert_allclose(foot, ankle, atol=1e-9)
    assert np.linalg.norm(knee - hip) == pytest.approx(person.thigh)
    assert np.linalg.norm(knee - foot) == pytest.approx(person.shank)
    assert knee[0, 2] > 100
    _, short = bend_leg(person, hip, np.array([[0.0, -900, 0]]), np.array([[0.0, 0, 1]]))
    assert 0.99 * person.leg < 900 - short[0, 1] <= person.leg


def test_the_folder_has_a_file_a_take_whose_bytes_are_a_function_of_the_arguments(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_people_folder(tmp_path / folder, num_subjects=2, num_takes=1, num_frames=20)
    files = sorted(path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*.npz"))
    assert files == [f"S{subject}/{action}_1.npz" for subject in (1, 2) for action in sorted(ACTIONS)]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with np.load(tmp_path / "a/S2/waving_1.npz", allow_pickle=False) as file:
        assert (file["joints_3d_mm"].shape, file["joints_3d_mm"].dtype) == ((20, 17, 3), np.float32)
        assert [str(file[name]) for name in ("skeleton", "subject", "action", "frame_rate")] == ["h36m_17", "S2", "waving", "50.0"]
