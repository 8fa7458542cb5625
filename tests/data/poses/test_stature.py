import numpy as np
import pytest

from triform.data.poses.poses import load_poses
from triform.data.poses.prepare import plan, prepare
from triform.data.poses.raw_poses import RawTrack
from triform.data.poses.stature import leg_length_mm, stature_factors


def test_a_leg_by_hand() -> None:
    joints = np.zeros((2, 17, 3))
    joints[:, 2, 1], joints[:, 3, 1] = -400, -800  # right: 400 + 400
    joints[:, 5, 0], joints[:, 6, 0] = 500, 1000  # left: 500 + 500
    joints[1, 6, 0] = 1200  # and in the second frame 500 + 700
    assert leg_length_mm(joints) == pytest.approx((800 + 1100) / 2)


def test_each_subject_by_its_first_good_sequence(memory) -> None:
    def world(leg_mm: float) -> RawTrack:
        joints = np.zeros((3, 17, 3))
        joints[:, [2, 5], 1], joints[:, [3, 6], 1] = -leg_mm / 2, -leg_mm
        return RawTrack("world", (1, 1), 50.0, joints_3d_world_mm=joints)

    source = memory({"a/walk 1": "torn", "a/walk 2": (world(982),), "a/walk 3": (world(9),), "b/walk": (world(491),), "c/walk": "torn"})
    assert stature_factors(source, stature_m=2.0) == pytest.approx({"a": 1.0, "b": 2.0})
    assert stature_factors(source, stature_m=0.0) == {}


def test_a_camera_of_its_own_keeps_the_size(memory, track) -> None:
    assert stature_factors(memory({"a/walk": (track(),)}), stature_m=1.7) == {}


def test_prepared_legs_have_the_stature(folder) -> None:
    folder.write_all().write("ann/large_1", 99, size=2.0)
    settings = folder.settings(stature_m=1.7, detection_noise=0.0)
    assert plan(settings).scale_of.keys() == {"ann", "bob", "cid"}
    prepare(settings)
    legs = {}
    for split in ("train", "val", "test"):
        poses = load_poses(settings.prepared_folder(), split, settings)
        for number, record in enumerate(poses.tracks):
            legs[record.sequence] = leg_length_mm(poses.read(number, np.arange(record.num_frames)).joints_3d_mm)
    # `ann` is measured on her first sequence by name, which is the large one.
    for name, leg in legs.items():
        wanted = 0.491 * 1700 / (2 if name.startswith("ann/") and "large" not in name else 1)
        assert leg == pytest.approx(wanted, rel=1e-4), name
