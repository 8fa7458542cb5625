"""A report of human pose: walkers with predictions, a clip with hidden frames, errors as bars, attention as maps."""

from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from sample import sample_report

from triform.geometry.skeletons import H36M_17
from triform.report.panels import Bars, BarSeries, Heatmap, Heatmaps, PoseClip, PoseClips, Report

ACTIONS = ("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases")
ACTIONS += ("Sitting", "SittingDown", "Smoking", "Waiting", "WalkDog", "Walking", "WalkTogether")


def walker(frames: int, *, rate: float = 50.0, turn: float = 0.6) -> Float32[np.ndarray, "frame 17 3"]:
    """Somebody who walks on the spot, root-relative, in mm: x right, y down, z away from the camera."""
    phase = 2 * np.pi * 0.9 * np.arange(frames) / rate
    joints = np.zeros((frames, 17, 3))
    for first, side, swing in ((1, -1, phase), (4, 1, phase + np.pi)):
        thigh, shin = 0.5 * np.sin(swing), 0.5 * np.sin(swing) - 0.55 * np.maximum(np.sin(swing - 1.2), 0)
        joints[:, first] = (130 * side, 0, 0)
        joints[:, first + 1] = joints[:, first] + 440 * _swung(thigh)
        joints[:, first + 2] = joints[:, first + 1] + 430 * _swung(shin)
    joints[:, 7], joints[:, 8], joints[:, 9], joints[:, 10] = (0, -235, 0), (0, -480, 0), (0, -570, -60), (0, -670, 0)
    for first, side, swing in ((11, 1, phase), (14, -1, phase + np.pi)):
        joints[:, first] = (150 * side, -460, 0)
        joints[:, first + 1] = joints[:, first] + 280 * _swung(0.6 * np.sin(swing))
        joints[:, first + 2] = joints[:, first + 1] + 250 * _swung(0.6 * np.sin(swing) + 0.5)
    cos, sin = np.cos(turn), np.sin(turn)
    return (joints @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])).astype(np.float32)


def _swung(angle: Float64[np.ndarray, " frame"]) -> Float64[np.ndarray, "frame 3"]:
    return np.stack([np.zeros_like(angle), np.cos(angle), -np.sin(angle)], axis=1)


def seen(joints: Float32[np.ndarray, "frame 17 3"]) -> Float32[np.ndarray, "frame 17 2"]:
    """The 2D of a pinhole camera 4.5 m away, where the image is 2 wide."""
    depth = joints[..., 2:] + 4500
    return (2.3 * joints[..., :2] / depth).astype(np.float32)


def clip(name: str, *, frames: int = 81, error_mm: float = 30.0, seed: int = 0, rate: float = 50.0, turn: float = 0.6) -> PoseClip:
    """A walker with a prediction that errs smoothly, and a 2D input of which a run of frames and single joints are hidden."""
    rng, truth = np.random.default_rng(seed), walker(frames, rate=rate, turn=turn)
    waves = rng.normal(0, error_mm / 1.6, (2, 17, 3))
    phase = np.arange(frames)[:, None, None] / 11 + seed
    wrong = waves[0] * np.sin(phase) + waves[1] * np.cos(0.6 * phase)
    prediction = truth + (wrong * (np.arange(17) > 0)[:, None]).astype(np.float32)
    hidden = rng.random((frames, 17)) < 0.06
    hidden[frames // 3 : frames // 3 + 9] = True
    return PoseClip(name, f"Walking, MPJPE {error_mm:.0f} mm", truth, prediction.astype(np.float32), seen(truth), hidden, rate)


def clips(*chosen: PoseClip, **changes: Any) -> PoseClips:
    """A panel of the clips given; `changes` replace fields of it."""
    fields: dict[str, Any] = {
        "title": "Prediction over truth",
        "parents": H36M_17.parents,
        "left": H36M_17.left,
        "right": H36M_17.right,
        "unit": "mm",
        "up": (0.0, -1.0, 0.0),
        "note": "Best, median and worst clip of the test split.",
    }
    return PoseClips(clips=chosen, **(fields | changes))


def player() -> PoseClips:
    """Best, median, worst, and one that is shorter and slower."""
    named = (
        ("Best", 18.0, 81, 50.0, 0.5),
        ("Median", 42.0, 81, 50.0, -0.7),
        ("Worst", 105.0, 81, 50.0, 1.3),
        ("Short", 30.0, 20, 25.0, 2.4),
    )
    return clips(
        *(
            clip(name, error_mm=error, frames=frames, rate=rate, turn=turn, seed=seed)
            for seed, (name, error, frames, rate, turn) in enumerate(named)
        )
    )


def flat_player() -> PoseClips:
    """2D alone, as masked pretraining sees it."""
    whole = clip("S9/Walking 1/54138969@120", frames=81)
    return clips(
        PoseClip(whole.name, "27 of 81 frames seen", None, None, whole.input_2d, whole.hidden, 50.0), title="What was hidden", note=""
    )


def bars() -> tuple[Bars, Bars]:
    """Error by joint and by action, with and without flip averaging."""
    rng = np.random.default_rng(2)
    panels = []
    for title, labels in (("Error by joint", H36M_17.joints), ("Error by action", ACTIONS)):
        values = rng.gamma(6, 7, len(labels))
        panels.append(
            Bars(title, labels, (BarSeries("MPJPE", values), BarSeries("P-MPJPE", 0.72 * values)), "mm", "Test split, flip-averaged.")
        )
    return panels[0], panels[1]


def attention() -> Heatmaps:
    """Attention between joints, and between frames."""
    rng = np.random.default_rng(4)
    joints = rng.dirichlet(np.full(17, 0.4), 17).astype(np.float32)
    away = np.abs(np.arange(81)[:, None] - np.arange(81))
    frames = np.exp(-away / 9) + 0.2 * np.cos(away / 4) ** 2
    spatial = Heatmap("Joints", "layer 5, mean over heads", joints, H36M_17.joints, H36M_17.joints)
    temporal = Heatmap("Frames", "layer 5, mean over heads", (frames / frames.sum(1, keepdims=True)).astype(np.float32))
    return Heatmaps("Attention", (spatial, temporal), "Rows attend to columns.")


def pose_report() -> Report:
    """What human pose shows beside curves and tables."""
    return sample_report(title="h36m-lift-01", facts=(), panels=(player(), flat_player(), *bars(), attention()))
