"""The kinematic skeleton of procedural people: bones of given lengths, turned by angles, with feet that are put where they belong.

World in millimetres, y up; the person's left is +x where it faces +z.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from triform.geometry.rotations import from_euler
from triform.geometry.skeletons import H36M_17

Path3 = Float64[np.ndarray, "frame 3"]
Series = Float64[np.ndarray, " frame"]
Turns = Float64[np.ndarray, "frame 3 3"]
_SOFT = 0.97
"""Share of a leg's length from which it is stretched ever less, so that the knee does not snap as it becomes straight."""


@dataclass(frozen=True, slots=True)
class Body:
    """Lengths of one subject's bones (mm), the same on both sides."""

    hip: float
    """Half of the pelvis's width."""
    thigh: float
    shank: float
    ankle: float
    """Height of the ankle above the ground."""
    waist: float
    chest: float
    neck: float
    skull: float
    shoulder: float
    """Half of the shoulders' width."""
    upper_arm: float
    forearm: float

    @property
    def leg(self) -> float:
        """Thigh and shank."""
        return self.thigh + self.shank


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """How one takes part: where the pelvis and the ankles are, how trunk and head are turned, and the arms' angles (radians)."""

    pelvis: Path3
    heading: Series
    """Turn of the whole body about the vertical."""
    pelvis_angles: Path3
    """About y, x and z, from the heading on; positive x leans forward."""
    trunk_angles: Path3
    """Of the chest, from the heading on."""
    head_angles: Path3
    """Of the head, from the heading on."""
    ankles: tuple[Path3, Path3]
    """Left and right."""
    arms: tuple[Path3, Path3]
    """Left and right: forward, sideways (away from the body) and about the upper arm (outward)."""
    elbows: tuple[Series, Series]
    """How far they are bent."""


def pose(person: Body, motion: Motion) -> Float64[np.ndarray, "frame 17 3"]:
    """Where a motion puts a body's joints."""
    ahead = from_euler("y", motion.heading[:, None])
    pelvis, chest, head = (ahead @ from_euler("yxz", angles) for angles in (motion.pelvis_angles, motion.trunk_angles, motion.head_angles))
    waist = ahead @ from_euler("yxz", (motion.pelvis_angles + motion.trunk_angles) / 2)
    places = {"hip": motion.pelvis, "spine": motion.pelvis + _along(waist, (0, person.waist, 0))}
    places["thorax"] = places["spine"] + _along(chest, (0, person.chest, 0))
    places["nose"] = places["thorax"] + _along(head, (0, 0.88 * person.neck, 0.47 * person.neck))
    places["head"] = places["nose"] + _along(head, (0, 0.9 * person.skull, -0.43 * person.skull))
    for side, sign, ankle, arm, elbow in zip("lr", (1, -1), motion.ankles, motion.arms, motion.elbows, strict=True):
        hip = motion.pelvis + _along(pelvis, (sign * person.hip, 0, 0))
        shoulder = places["thorax"] + _along(chest, (sign * person.shoulder, -0.12 * person.shoulder, 0))
        knee, foot = bend_leg(person, hip, ankle, ahead[:, :, 2] + 0.15 * sign * ahead[:, :, 0])
        upper = chest @ from_euler("zxy", np.stack([sign * arm[:, 1], -arm[:, 0], sign * arm[:, 2]], axis=1))
        hand = upper @ from_euler("x", -elbow[:, None])
        bent = shoulder + _along(upper, (0, -person.upper_arm, 0))
        wrist = bent + _along(hand, (0, -person.forearm, 0))
        places |= {f"{side}_hip": hip, f"{side}_knee": knee, f"{side}_ankle": foot}
        places |= {f"{side}_shoulder": shoulder, f"{side}_elbow": bent, f"{side}_wrist": wrist}
    return np.stack([places[joint] for joint in H36M_17.joints], axis=1)


def bend_leg(person: Body, hip: Path3, ankle: Path3, forward: Path3) -> tuple[Path3, Path3]:
    """Knee and ankle of a leg from the hip towards where the ankle should be; the knee points forward. What is too far is not reached."""
    reach = ankle - hip
    asked = np.linalg.norm(reach, axis=1)
    beyond, left = np.maximum(asked - _SOFT * person.leg, 0), (1 - _SOFT) * person.leg
    distance = np.maximum(asked - beyond + left * (1 - np.exp(-beyond / left)), abs(person.thigh - person.shank) + 1)
    along = reach / asked[:, None]
    across = forward - (forward * along).sum(axis=1, keepdims=True) * along
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    share = (distance**2 + person.thigh**2 - person.shank**2) / (2 * distance)
    height = np.sqrt(np.maximum(person.thigh**2 - share**2, 0))
    return hip + share[:, None] * along + height[:, None] * across, hip + distance[:, None] * along


def _along(turns: Turns, offset: tuple[float, float, float]) -> Path3:
    return np.asarray(turns @ np.array(offset, np.float64))
