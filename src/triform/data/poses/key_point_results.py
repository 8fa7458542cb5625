"""Results of 2D detectors as JSON lists: COCO's, a person a line with its image's number, and AlphaPose's, with the image's name."""

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from triform.errors import DataError

_MOST_MISSING = 0.9
"""Share of frames without a person above which the numbers are taken for those of unrelated images."""


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """One person a frame; frames without one are 0 throughout."""

    joints: Float64[np.ndarray, "frame joint 3"]
    """x, y in pixels, and confidence."""
    notes: tuple[str, ...]
    """What was chosen."""


def read_results(path: Path, results: list[Any]) -> Detections:
    """One person for each image number from the first to the last: the best-scored, or the largest where scores are equal or missing.

    Source: cocodataset.org/#format-results; AlphaPose's docs/output.md.
    Raises: DataError: a result lacks its image or key points, or the images are not a video's.
    """
    people: dict[int, list[dict[str, Any]]] = {}
    for number, result in enumerate(results):
        people.setdefault(_image_number(path, number, result), []).append(result)
    frames = sorted(people)
    step = math.gcd(*(frame - frames[0] for frame in frames)) or 1
    num_frames = (frames[-1] - frames[0]) // step + 1
    if len(frames) < (1 - _MOST_MISSING) * num_frames:
        raise DataError(
            f"{path} has {len(frames)} images, numbered from {frames[0]} to {frames[-1]}",
            expected="the frames of one video, most of them with a person",
            do="give the results of one video, its frames numbered in order",
        )
    best = {frame: _key_points(path, max(people[frame], key=_rank)) for frame in frames}
    if len(counts := {len(points) for points in best.values()}) > 1:
        raise DataError(f"{path} has people of {sorted(counts)} joints", expected="one number of joints", do="give one detector's results")
    joints = np.zeros((num_frames, counts.pop(), 3))
    for frame, points in best.items():
        joints[(frame - frames[0]) // step] = points
    return Detections(joints, (*_notes(people, step), *_jumps(joints)))


def _notes(people: dict[int, list[dict[str, Any]]], step: int) -> tuple[str, ...]:
    several = sum(len(found) > 1 for found in people.values())
    notes = [f"{several} of {len(people)} images show several people: the best-scored one of each is taken"] if several else []
    notes += [f"image numbers go up by {step}: every one is a frame"] if step > 1 else []
    return tuple(notes)


def _jumps(joints: Float64[np.ndarray, "frame joint 3"]) -> tuple[str, ...]:
    """A word where two images in a row show people who stand apart: then they are not the same one."""
    seen = [points[points[:, 2] > 0, :2] for points in joints]
    boxes = [(points.min(axis=0), points.max(axis=0)) if len(points) else None for points in seen]
    pairs = [(one, other) for one, other in pairwise(boxes) if one is not None and other is not None]
    apart = sum(bool((np.maximum(one[0], other[0]) > np.minimum(one[1], other[1])).any()) for one, other in pairs)
    told = f"{apart} times the person of an image stands apart from that of the one before: give the results of one person alone"
    return (told,) if apart else ()


def _image_number(path: Path, number: int, result: Any) -> int:
    image = result.get("image_id") if isinstance(result, dict) else None
    if isinstance(image, int) and not isinstance(image, bool):
        return image
    digits = re.findall(r"\d+", Path(image).stem) if isinstance(image, str) else []
    if not digits:
        raise DataError(
            f"{path}: result {number} (the first is 0) has image_id {image!r}",
            expected='a number, or a name with one such as "12.jpg"',
            do="number the video's images",
        )
    return int(digits[-1])


def _key_points(path: Path, result: dict[str, Any]) -> Float64[np.ndarray, "joint 3"]:
    try:
        numbers = np.array(result["keypoints"], np.float64).ravel()
        return numbers.reshape(-1, 3)
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{path}: the key points of image {result['image_id']!r} are missing, or no triples of numbers",
            expected="x, y, confidence of each joint in a row",
            do="write the detector's results again",
        ) from None


def _rank(result: dict[str, Any]) -> tuple[float, float]:
    """Score, then the area that the key points cover."""
    score = result.get("score", 0.0)
    try:
        points = np.array(result["keypoints"], np.float64).reshape(-1, 3)
        area = float(np.prod(np.ptp(points[:, :2], axis=0))) if len(points) else 0.0
    except (KeyError, TypeError, ValueError):
        area = 0.0
    return (float(score) if isinstance(score, (int, float)) else 0.0), area
