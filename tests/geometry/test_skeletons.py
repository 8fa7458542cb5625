import numpy as np
import pytest

from triform.errors import UsageError
from triform.geometry.skeletons import (
    COCO_17,
    H36M_17,
    HALPE_26,
    MPI_17,
    MPI_28,
    SKELETONS,
    Skeleton,
    convert,
    convert_confidence,
    joint_map,
)

ALL = list(SKELETONS.values())
EXACT = [(MPI_17, H36M_17), (H36M_17, MPI_17), (MPI_28, MPI_17), (MPI_28, H36M_17), *((one, one) for one in ALL)]


def numbered(skeleton: Skeleton) -> np.ndarray:
    """Each joint is its own number."""
    return np.repeat(np.arange(len(skeleton.joints), dtype=np.float32)[:, None], 3, axis=1)


@pytest.mark.parametrize("skeleton", ALL, ids=lambda s: s.name)
def test_a_skeleton_is_a_tree_with_pairs(skeleton: Skeleton) -> None:
    count = len(skeleton.joints)
    assert int(skeleton.name.split("_")[1]) == count == len(set(skeleton.joints)) == len(skeleton.parents)
    for joint in range(count):
        steps = 0
        while joint != skeleton.root:
            joint, steps = skeleton.parents[joint], steps + 1
            assert steps < count
    assert len(skeleton.bones) == count - 1
    np.testing.assert_array_equal(skeleton.mirrored[skeleton.mirrored], np.arange(count))
    assert all(skeleton.joints[r] == "r_" + skeleton.joints[le][2:] for le, r in zip(skeleton.left, skeleton.right, strict=True))
    assert sum(joint.startswith(("l_", "r_")) for joint in skeleton.joints) == 2 * len(skeleton.left)


@pytest.mark.parametrize("skeleton", ALL, ids=lambda s: s.name)
def test_parents_are_mirrored_too(skeleton: Skeleton) -> None:
    mirrored = skeleton.mirrored
    for joint, parent in skeleton.bones:
        assert skeleton.parents[mirrored[joint]] == mirrored[parent]


def test_the_published_tables() -> None:
    assert H36M_17.parents == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
    assert (H36M_17.left, sorted(H36M_17.right)) == ((4, 5, 6, 11, 12, 13), [1, 2, 3, 14, 15, 16])
    assert (MPI_17.left, MPI_17.right) == ((5, 6, 7, 11, 12, 13), (2, 3, 4, 8, 9, 10))
    assert MPI_17.root == 14
    assert (COCO_17.joints[5:7], HALPE_26.joints[17:20]) == (("l_shoulder", "r_shoulder"), ("head", "neck", "hip"))


def test_exact_maps_are_the_published_permutations() -> None:
    of_28 = [7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6]
    np.testing.assert_array_equal(convert(numbered(MPI_28), MPI_28, MPI_17)[:, 0], of_28)
    to_h36m = [14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4]
    np.testing.assert_array_equal(convert(numbered(MPI_17), MPI_17, H36M_17)[:, 0], to_h36m)
    np.testing.assert_array_equal(convert(numbered(MPI_28), MPI_28, H36M_17)[:, 0], np.array(of_28)[to_h36m])


def test_names_agree_across_the_exact_maps() -> None:
    same = {"hip": "pelvis", "thorax": "neck", "nose": "head", "head": "head_top"}
    for joint, name in enumerate(H36M_17.joints):
        source = int(joint_map(MPI_17, H36M_17)[joint].argmax())
        assert MPI_17.joints[source] == same.get(name, name)


def test_the_maps_between_h36m_and_3dhp_undo_each_other() -> None:
    pose = np.random.default_rng(0).normal(size=(2, 5, 17, 3)).astype(np.float32)
    for one, other in ((H36M_17, MPI_17), (MPI_17, H36M_17)):
        np.testing.assert_array_equal(convert(convert(pose, one, other), other, one), pose)


@pytest.mark.parametrize(("source", "target"), EXACT, ids=lambda s: s.name)
def test_exact_maps_copy_bits(source: Skeleton, target: Skeleton) -> None:
    pose = np.random.default_rng(1).normal(size=(4, len(source.joints), 3)).astype(np.float32)
    found = convert(pose, source, target)
    assert found.dtype == np.float32
    assert {row.tobytes() for row in found.reshape(-1, 3)} <= {row.tobytes() for row in pose.reshape(-1, 3)}


@pytest.mark.parametrize("source", [COCO_17, HALPE_26], ids=lambda s: s.name)
def test_key_points_by_name(source: Skeleton) -> None:
    pose = np.random.default_rng(2).normal(size=(3, len(source.joints), 2))
    at = {name: pose[:, i] for i, name in enumerate(source.joints)}
    middle = {"hip": (at["l_hip"] + at["r_hip"]) / 2, "thorax": (at["l_shoulder"] + at["r_shoulder"]) / 2}
    middle |= {"head": (at["l_eye"] + at["r_eye"]) / 2} if source == COCO_17 else {name: at[name] for name in ("hip", "head")}
    middle |= {} if source == COCO_17 else {"thorax": at["neck"]}
    middle["spine"] = (middle["hip"] + middle["thorax"]) / 2
    found = convert(pose, source, H36M_17)
    for joint, name in enumerate(H36M_17.joints):
        np.testing.assert_allclose(found[:, joint], middle.get(name, at.get(name)), atol=1e-12, err_msg=name)


def test_confidence_of_means_by_hand() -> None:
    confidence = np.ones((2, 17), np.float32)
    confidence[0, COCO_17.joints.index("l_hip")] = 0.5
    confidence[1, COCO_17.joints.index("r_eye")] = 0
    found = convert_confidence(confidence, COCO_17)
    at = {name: found[:, joint].tolist() for joint, name in enumerate(H36M_17.joints)}
    assert (at["hip"], at["l_hip"], at["spine"], at["thorax"], at["head"]) == ([0.75, 1], [0.5, 1], [0.875, 1], [1, 1], [1, 0])
    np.testing.assert_array_equal(convert_confidence(confidence, H36M_17), confidence)


@pytest.mark.parametrize("source", [COCO_17, HALPE_26, MPI_17, MPI_28], ids=lambda s: s.name)
def test_maps_and_mirror_images_commute(source: Skeleton) -> None:
    pose = np.random.default_rng(3).normal(size=(len(source.joints), 3))
    one = convert(pose[source.mirrored], source, H36M_17)
    np.testing.assert_allclose(one, convert(pose, source, H36M_17)[H36M_17.mirrored], atol=1e-12)


@pytest.mark.parametrize(("source", "target"), [(COCO_17, MPI_28), (H36M_17, COCO_17), (MPI_17, MPI_28)], ids=lambda s: s.name)
def test_a_map_that_is_not_there(source: Skeleton, target: Skeleton) -> None:
    with pytest.raises(UsageError, match=f"{source.name} can't become {target.name}"):
        convert(numbered(source), source, target)
