import numpy as np
import pytest

from triform.data.poses.virtual_cameras import place_camera, up_vector


def crowd(seed: int, spread_mm: float, axis: str) -> np.ndarray:
    """Frames whose root walks `spread_mm` to either side, with joints 1 m around it."""
    rng = np.random.default_rng(seed)
    root = np.linspace(-spread_mm, spread_mm, 30)[:, None] * np.roll(up_vector(axis), 1) + rng.normal(0, 3000, 3)
    joints = root[:, None] + rng.uniform(-1000, 1000, (30, 17, 3))
    joints[:, 0] = root
    return joints


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("spread_mm", [0.0, 500.0, 9000.0])
def test_every_joint_is_in_the_image(axis: str, spread_mm: float) -> None:
    for seed in range(5):
        joints, up = crowd(seed, spread_mm, axis), up_vector(axis)
        for number in range(4):
            camera = place_camera(joints, f"s{seed}", number=number, count=4, seed=0, up=up)
            seen = camera.to_camera(joints)
            pixels = camera.project(seen)
            assert seen[..., 2].min() >= 1000 - 1e-6
            assert (pixels.min(), pixels.max()) >= (50 - 1e-6, 0)
            assert pixels.max() <= 950 + 1e-6


def test_places_by_hand() -> None:
    joints = crowd(1, 0.0, "y") * 0.3
    target, up = joints[0, 0], up_vector("y")
    azimuths = []
    for number in range(8):
        camera = place_camera(joints, "a", number=number, count=8, seed=0, up=up)
        away = camera.to_world(np.zeros(3)) - target
        distance = np.linalg.norm(away)
        assert 3500 <= distance <= 5500
        assert 0 <= np.degrees(np.arcsin(away @ up / distance)) <= 20
        np.testing.assert_allclose(camera.project(camera.to_camera(target)), [500, 500], atol=1e-6)
        # y, z, x of the others: the first axis of the circle is z, the second y x z = x.
        azimuths.append(np.arctan2(away[0], away[2]) % (2 * np.pi))
    assert [int(azimuth // (np.pi / 4)) for azimuth in azimuths] == list(range(8))


def test_a_long_way_needs_no_more_than_it_needs() -> None:
    joints = crowd(2, 9000.0, "y")
    camera = place_camera(joints, "a", number=0, count=4, seed=0, up=up_vector("y"))
    seen = camera.to_camera(joints)
    pixels = camera.project(seen)
    tight = max(np.abs(pixels - 500).max() / 450, 1000 / seen[..., 2].min())
    assert tight == pytest.approx(1)


def test_what_decides_a_camera() -> None:
    joints, up = crowd(3, 100.0, "z"), up_vector("z")

    def tree(name: str, number: int, seed: int) -> dict[str, object]:
        return place_camera(joints, name, number=number, count=4, seed=seed, up=up).as_tree()

    assert tree("a", 0, 0) == tree("a", 0, 0)
    assert all(tree("a", 0, 0) != other for other in (tree("b", 0, 0), tree("a", 1, 0), tree("a", 0, 1)))
