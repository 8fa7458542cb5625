"""What procedural people do: walk, wave and sit, as paths of pelvis and ankles and angles of the rest."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from triform.datasets.synthetic.people_skeleton import Body, Motion, Path3, Series

Way = Callable[[Series], tuple[Path3, Series]]
"""Place and heading at each distance along a path (mm)."""
_STANCE = 0.48
"""Share of a stride for which an ankle rests: the heel rises before the toes leave the ground, at about 0.6."""


def walking(person: Body, rng: np.random.Generator, seconds: Series) -> Motion:
    """A gait along a curve: each foot rests for half of a stride, then swings to its next place; arms swing against the legs."""
    stride = 1.45 * person.leg * rng.uniform(0.9, 1.08)
    way = stride * rng.uniform(0.8, 1.0) * seconds + stride * rng.uniform(0, 1)
    follow = _curve(rng, stride)
    phase = 2 * np.pi * way / stride
    feet = [_foot(person, follow, way / stride, stride, side=side) for side in (1, -1)]
    ankles = (feet[0], feet[1])
    place, heading = follow(way)
    sway = 0.02 * person.leg * np.cos(phase)
    pelvis = place + _sideways(heading) * sway[:, None]
    pelvis[:, 1] = _pelvis_height(person, pelvis, ankles)
    swing, elbow = rng.uniform(0.35, 0.55), rng.uniform(0.15, 0.35)
    arms = [np.stack([sign * -swing * np.cos(phase - 0.25) + 0.05, 0 * phase + 0.12, 0 * phase], axis=1) for sign in (1, -1)]
    elbows = [elbow + 0.15 * (1 + arm[:, 0] / swing) for arm in arms]
    turn, lean = 0.12 * np.cos(phase), rng.uniform(0.02, 0.1)
    roll = 0.05 * np.sin(phase)
    return Motion(
        pelvis,
        heading,
        np.stack([-turn, 0.03 + 0 * turn, -roll], axis=1),
        np.stack([turn, lean + 0.02 * np.cos(2 * phase), 0.4 * roll], axis=1),
        np.stack([_wander(rng, seconds, 0.15), 0.05 + _wander(rng, seconds, 0.06), 0 * turn], axis=1),
        ankles,
        (arms[0], arms[1]),
        (elbows[0], elbows[1]),
    )


def waving(person: Body, rng: np.random.Generator, seconds: Series) -> Motion:
    """Standing, an arm is raised, the hand waves, and the arm goes down again."""
    motion = standing(person, rng, seconds)
    period = rng.uniform(3.4, 4.4)
    raised = _held(seconds / period + rng.uniform(0, 1), rise=0.22, hold=0.45)
    height, beats = rng.uniform(1.25, 1.6), 2 * np.pi * rng.uniform(1.3, 1.9) * seconds
    side = int(rng.integers(2))
    arms, elbows = list(motion.arms), list(motion.elbows)
    up = np.stack([0.15 + 0 * beats, height + 0.08 * np.sin(beats), np.full_like(beats, 1.35)], axis=1)
    arms[side] = arms[side] + raised[:, None] * (up - arms[side])
    elbows[side] = elbows[side] + raised * (1.45 + 0.4 * np.sin(beats + 0.5) - elbows[side])
    tilt = np.stack([0 * raised, 0 * raised, (1 - 2 * side) * -0.06 * raised], axis=1)
    return replace(motion, arms=(arms[0], arms[1]), elbows=(elbows[0], elbows[1]), trunk_angles=motion.trunk_angles + tilt)


def sitting(person: Body, rng: np.random.Generator, seconds: Series) -> Motion:
    """Down on a seat behind, hands on the knees, and up again."""
    motion = standing(person, rng, seconds)
    stage = seconds / rng.uniform(3.6, 4.4) + rng.uniform(0, 1)
    down = _held(stage, rise=0.3, hold=0.3)
    moving = 4 * down * (1 - down)
    seat = person.ankle + person.shank * rng.uniform(0.98, 1.12)
    back = person.thigh * rng.uniform(0.86, 0.94)
    ahead = np.stack([np.sin(motion.heading), 0 * down, np.cos(motion.heading)], axis=1)
    pelvis = motion.pelvis - ahead * (back * _smooth(down))[:, None]
    pelvis[:, 1] += down * (seat - pelvis[:, 1])
    lean = rng.uniform(0.5, 0.75) * moving + rng.uniform(0.05, 0.2) * down
    angles = np.stack([0 * lean, lean, 0 * lean], axis=1)
    on_knees = np.stack([rng.uniform(0.45, 0.6) + 0.35 * moving, 0.12 + 0 * down, -0.1 + 0 * down], axis=1)
    arms = [arm + down[:, None] * (on_knees - arm) + 0.3 * moving[:, None] * np.array([1.0, 0, 0]) for arm in motion.arms]
    elbows = [elbow + down * (0.75 - elbow) for elbow in motion.elbows]
    return replace(
        motion,
        pelvis=pelvis,
        pelvis_angles=motion.pelvis_angles + 0.6 * angles - 0.15 * np.stack([0 * down, down, 0 * down], axis=1),
        trunk_angles=motion.trunk_angles + angles,
        head_angles=motion.head_angles + 0.35 * angles,
        arms=(arms[0], arms[1]),
        elbows=(elbows[0], elbows[1]),
    )


def standing(person: Body, rng: np.random.Generator, seconds: Series) -> Motion:
    """Both feet on the ground, the weight shifting a little; what waving and sitting begin from."""
    heading = np.full_like(seconds, rng.uniform(-np.pi, np.pi))
    place = np.array([rng.uniform(-800, 800), 0, rng.uniform(-800, 800)])
    apart, ahead = person.hip * rng.uniform(1.0, 1.35), np.stack([np.sin(heading), 0 * heading, np.cos(heading)], axis=1)
    feet = [place + sign * apart * _sideways(heading) + ahead * rng.uniform(-40, 40) + [0, person.ankle, 0] for sign in (1, -1)]
    pelvis = place + _sideways(heading) * _wander(rng, seconds, 0.25 * apart)[:, None] + ahead * _wander(rng, seconds, 12)[:, None]
    pelvis[:, 1] = _pelvis_height(person, pelvis, (feet[0], feet[1]))
    arms = [np.stack([0.08 + _wander(rng, seconds, 0.06), rng.uniform(0.1, 0.2) + 0 * seconds, 0 * seconds], axis=1) for _ in range(2)]
    elbows = [rng.uniform(0.2, 0.4) + _wander(rng, seconds, 0.06) for _ in range(2)]
    small = [
        np.stack([_wander(rng, seconds, size), 0.03 + _wander(rng, seconds, size / 2), 0 * seconds], axis=1) for size in (0.04, 0.1, 0.25)
    ]
    return Motion(pelvis, heading, small[0], small[1], small[2], (feet[0], feet[1]), (arms[0], arms[1]), (elbows[0], elbows[1]))


ACTIONS: dict[str, Callable[[Body, np.random.Generator, Series], Motion]] = {"walking": walking, "waving": waving, "sitting": sitting}
"""What people do, by name."""


def _foot(person: Body, follow: Way, strides: Series, stride: float, *, side: int) -> Path3:
    """The path of an ankle. Args: strides: how far the body has come, in strides; the right foot (side -1) is half of one behind."""
    delay = 0.0 if side > 0 else 0.5
    number = np.floor(strides - delay + 0.25)
    swing = np.clip((strides - delay + 0.25 - number - _STANCE) / (1 - _STANCE), 0, 1)
    plants = []
    for step in (number, number + 1):
        place, heading = follow((step + delay) * stride)
        plants.append(place + side * 0.75 * person.hip * _sideways(heading))
    path = plants[0] + _smooth(swing)[:, None] * (plants[1] - plants[0])
    path[:, 1] = person.ankle + 0.14 * person.leg * np.sin(np.pi * swing**0.8) ** 2
    return path


def _pelvis_height(person: Body, pelvis: Path3, ankles: tuple[Path3, Path3]) -> Series:
    """As high as nearly straight legs let it be above feet on the ground, smoothly."""
    limits = []
    for ankle in ankles:
        away = np.hypot(ankle[:, 0] - pelvis[:, 0], ankle[:, 2] - pelvis[:, 2])
        limits.append(ankle[:, 1] + np.sqrt(np.maximum((0.98 * person.leg) ** 2 - away**2, 0)))
    lowest = np.minimum(*limits)
    reach = 8
    window = np.hanning(2 * reach + 1)
    return np.convolve(np.pad(lowest, reach, mode="edge"), window / window.sum(), mode="valid") - 0.004 * person.leg


def _curve(rng: np.random.Generator, stride: float) -> Way:
    """A smooth path on the ground: place and heading at each distance along it."""
    start, bend = rng.uniform(-np.pi, np.pi), rng.uniform(-1, 1) * 0.35 / stride
    wave, period, offset = rng.uniform(0.1, 0.35), rng.uniform(2.5, 4) * stride, rng.uniform(0, 2 * np.pi)
    origin = rng.uniform(-1500, 1500, 2)
    grid = np.arange(-2 * stride, 400 * stride, 20.0)
    headings = start + bend * grid + wave * np.sin(2 * np.pi * grid / period + offset)
    x, z = (origin[axis] + np.cumsum(turned) * 20.0 for axis, turned in enumerate((np.sin(headings), np.cos(headings))))

    def follow(distance: Series) -> tuple[Path3, Series]:
        place = np.stack([np.interp(distance, grid, x), 0 * distance, np.interp(distance, grid, z)], axis=1)
        return place, np.interp(distance, grid, headings)

    return follow


def _held(stage: Series, *, rise: float, hold: float) -> Series:
    """0, smoothly up to 1, held, and down again, with the period 1. Args: rise, hold: shares of the period."""
    stage = stage % 1
    return np.asarray(_smooth(np.clip(stage / rise, 0, 1)) - _smooth(np.clip((stage - rise - hold) / rise, 0, 1)))


def _smooth(share: Series) -> Series:
    """From 0 to 1 without a jerk at the ends (the polynomial of least jerk: Flash and Hogan, 1985)."""
    return np.asarray(share**3 * (10 - 15 * share + 6 * share**2))


def _wander(rng: np.random.Generator, seconds: Series, size: float) -> Series:
    """A slow motion to and fro about 0: three sines of drawn periods (1.5 to 6 s) and phases."""
    parts = [np.sin(2 * np.pi * (seconds / rng.uniform(1.5, 6) + rng.uniform(0, 1))) for _ in range(3)]
    return np.asarray(size / 3 * sum(parts))


def _sideways(heading: Series) -> Path3:
    """The person's left, level."""
    return np.stack([np.cos(heading), 0 * heading, -np.sin(heading)], axis=1)
