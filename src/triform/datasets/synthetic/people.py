"""Procedural people who walk, wave and sit, as a folder of pose sequences: a stand-in for motion capture, for demos and tests.

Each has bones of a length of their own and moves them by turning joints; feet are put on the ground, and knees follow (two-bone inverse
kinematics). World in millimetres, y up; the person's left is +x where it faces +z. No number comes from a recorded person.
Source: Drillis and Contini, "Body segment parameters" (1966), for the segments' share of stature.
"""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from triform.datasets.synthetic.people_motions import ACTIONS
from triform.datasets.synthetic.people_skeleton import Body, pose
from triform.files import write_durably
from triform.geometry.skeletons import H36M_17

FRAME_RATE = 50.0


def body(seed: int, subject: int) -> Body:
    """The bones of a subject, a pure function of (seed, subject)."""
    rng = _generator(seed, 0, subject)
    stature_mm = float(np.clip(rng.normal(1700, 90), 1500, 1920))
    shares = Body(0.072, 0.245, 0.246, 0.039, 0.138, 0.148, 0.083, 0.076, 0.1, 0.17, 0.148)
    drawn = {name: getattr(shares, name) * stature_mm * float(np.clip(rng.normal(1, 0.04), 0.9, 1.1)) for name in Body.__dataclass_fields__}
    return Body(**drawn)


def take(action: str, *, seed: int, subject: int, number: int, num_frames: int) -> Float32[np.ndarray, "frame 17 3"]:
    """Joints in the world (mm, y up) at 50 Hz in the order H36M_17, a pure function of its arguments. Args: action: one of ACTIONS."""
    person = body(seed, subject)
    rng = _generator(seed, 1 + list(ACTIONS).index(action), subject, number)
    motion = ACTIONS[action](person, rng, np.arange(num_frames) / FRAME_RATE)
    return pose(person, motion).astype(np.float32)


def write_people_folder(folder: Path, *, num_subjects: int = 6, num_takes: int = 2, num_frames: int = 200, seed: int = 0) -> None:
    """Write `S1/walking_1.npz`, ... in the form that `kind: pose_npz` reads; the same arguments give the same bytes.

    Args:
        num_takes: Of each action, by each subject.
        num_frames: Of each take, at 50 Hz.
        seed: Each take is a pure function of (seed, subject, action, number).

    Raises: CannotWrite, DiskFull.
    """
    for subject in range(1, num_subjects + 1):
        for action in ACTIONS:
            for number in range(1, num_takes + 1):
                joints = take(action, seed=seed, subject=subject, number=number, num_frames=num_frames)
                content = io.BytesIO()
                names = {"skeleton": np.array(H36M_17.name), "subject": np.array(f"S{subject}"), "action": np.array(action)}
                np.savez(content, allow_pickle=False, joints_3d_mm=joints, frame_rate=np.array(FRAME_RATE), **names)
                write_durably(folder / f"S{subject}" / f"{action}_{number}.npz", content.getvalue())


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
