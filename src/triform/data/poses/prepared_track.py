"""One raw track -> the arrays of a prepared one, checked."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Shaped

from triform.data.poses.detector_noise import detector_noise
from triform.data.poses.draw import keyed_generator
from triform.data.poses.raw_poses import RawSequence, RawTrack
from triform.data.poses.resample import resampled
from triform.data.poses.virtual_cameras import SIZE_PX, place_camera, up_vector
from triform.data.quarantine import BadFile
from triform.errors import DataError
from triform.geometry.camera import normalise
from triform.geometry.skeletons import H36M_17

if TYPE_CHECKING:
    from triform.data.poses.plan import PosePlan

STEP_VERSION = 1
"""To be raised where a change here changes any prepared array."""
_LARGEST_2D_ERROR_PX = 1.0
_LARGEST_CONFIDENCE = 2.0
"""Peaks of a detector's map may lie a little above 1, and count as 1; percents do not."""
_SIZES_MM = (100.0, 20_000.0)

Arrays = dict[str, Shaped[np.ndarray, "frame *rest"]]


@dataclass(frozen=True, slots=True, eq=False)
class PreparedTrack:
    """What one camera saw of a sequence."""

    raw: RawTrack
    arrays: Arrays
    largest_2d_error_px: float | None
    """Of a 2D that is said to be exact."""

    @property
    def sha256(self) -> str:
        """Of the arrays."""
        return sha256_of(self.arrays)


def sha256_of(arrays: Mapping[str, np.ndarray]) -> str:
    """Digest of arrays by name, with their shapes."""
    made = hashlib.sha256()
    for name in sorted(arrays):
        made.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        made.update(np.ascontiguousarray(arrays[name]).data)
    return made.hexdigest()


def prepare_tracks(made: "PosePlan", sequence: RawSequence, tracks: tuple[RawTrack, ...]) -> Iterator[PreparedTrack]:
    """The prepared tracks of one sequence: its own, or those of virtual cameras.

    Raises: BadFile: a value is not finite, or a joint lies behind its camera. DataError: an exact 2D isn't.
    """
    for track in tracks:
        check_track(track)
        resampled_track = resampled(track, made.recipe["frame_rate"])
        filmed = [resampled_track] if track.joints_3d_world_mm is None else _film(made, sequence, resampled_track)
        for one in filmed:
            yield _prepare(one, name=f"{sequence.name}/{one.camera_name}", error=largest_2d_error(track, sequence.name))


def check_track(track: RawTrack) -> None:
    """Raises: BadFile: arrays have other shapes, hold what is not finite, or a joint lies behind its camera; it says where."""
    joints = len(H36M_17.joints)
    wanted: dict[str, tuple[int, ...]] = {
        "joints_2d_px": (joints, 2),
        "joints_3d_camera_mm": (joints, 3),
        "joints_3d_world_mm": (joints, 3),
    }
    wanted |= {"confidence": (joints,), "valid": (), "mm_per_unit": ()}
    given = {name: array for name in wanted if (array := getattr(track, name)) is not None}
    if len({len(array) for array in given.values()}) > 1:
        raise BadFile(f"frames differ: {', '.join(f'{name} has {len(array)}' for name, array in given.items())}")
    for name, array in given.items():
        if array.shape[1:] != wanted[name] or not len(array):
            raise BadFile(f"{name} has shape {array.shape}, not (frames, {', '.join(map(str, wanted[name]))})")
        if not np.isfinite(array).all():
            raise BadFile(f"{name} is not finite {_where(~np.isfinite(array))}")
    if track.mm_per_unit is not None and not (track.mm_per_unit > 0).all():
        raise BadFile(f"mm_per_unit is not above 0 {_where(track.mm_per_unit <= 0)}")
    if track.confidence is not None and (above := track.confidence > _LARGEST_CONFIDENCE).any():
        raise BadFile(f"confidence is {track.confidence[above][0]:g} {_where(above)}, not 0 to 1")
    if track.camera is not None and track.joints_3d_camera_mm is not None:
        behind = track.joints_3d_camera_mm[..., 2] <= 0
        if track.valid is not None:
            behind &= track.valid[:, None]
        if behind.any():
            raise BadFile(f"a joint lies behind the camera {track.camera_name} {_where(behind)}")


def largest_2d_error(track: RawTrack, sequence: str) -> float | None:
    """Distance in pixels of 2D that is said to be exact from the projection of its 3D. Raises: DataError: it is above 1 pixel."""
    if track.largest_2d_error_px is not None:
        return track.largest_2d_error_px
    if not track.ground_truth_2d or track.camera is None or track.joints_3d_camera_mm is None or track.joints_2d_px is None:
        return None
    distance = np.linalg.norm(track.camera.project(track.joints_3d_camera_mm) - track.joints_2d_px, axis=-1)
    if track.valid is not None:
        distance = distance[track.valid]
    largest = float(distance.max(initial=0))
    if not largest <= _LARGEST_2D_ERROR_PX:
        raise DataError(
            f"{sequence}/{track.camera_name}: the 2D that is said to be exact is up to {largest:.4g} px from the projection of the 3D",
            expected=f"at most {_LARGEST_2D_ERROR_PX:g} px",
            do="look for another skeleton, unit or camera in these files",
        )
    return largest


def _film(made: "PosePlan", sequence: RawSequence, track: RawTrack) -> Iterator[RawTrack]:
    assert track.joints_3d_world_mm is not None
    world = track.joints_3d_world_mm * made.scale_of.get(sequence.subject, 1.0)
    up, seed, count = up_vector(made.recipe["up_axis"]), made.recipe["split_seed"], made.recipe["virtual_cameras"]
    for number in range(count):
        camera = place_camera(world, sequence.name, number=number, count=count, seed=seed, up=up)
        joints = camera.to_camera(world)
        noise = keyed_generator(seed, sequence.name, number, "noise")
        offset, confidence = detector_noise(noise, len(world), factor=made.recipe["detection_noise"])
        yield replace(
            track,
            camera_name=f"virtual {number}",
            size_px=SIZE_PX,
            joints_2d_px=(camera.project(joints) + offset * (SIZE_PX[0] / 2)).astype(np.float32),
            confidence=confidence,
            joints_3d_camera_mm=joints,
            joints_3d_world_mm=None,
            camera=camera,
            up_camera=camera.rotation @ up,
        )


def _prepare(track: RawTrack, *, name: str, error: float | None) -> PreparedTrack:
    joints_2d: Float[np.ndarray, "frame 17 2"]
    if track.joints_2d_px is not None:
        joints_2d = track.joints_2d_px
    elif track.camera is not None and track.joints_3d_camera_mm is not None:
        joints_2d = track.camera.project(track.joints_3d_camera_mm)
    else:
        raise BadFile(f"{name} has neither 2D nor a camera")
    labelled = track.joints_3d_camera_mm is not None
    valid = np.full(len(joints_2d), labelled) if track.valid is None else track.valid & labelled
    if track.joints_3d_camera_mm is not None and valid.any():
        _refuse_other_unit(track.joints_3d_camera_mm[valid], name)
    arrays: dict[str, Any] = {"joints_2d_px": joints_2d, "joints_2d": normalise(joints_2d, track.size_px)}
    arrays["confidence"] = np.ones(joints_2d.shape[:2]) if track.confidence is None else np.clip(track.confidence, 0, 1)
    if labelled:
        arrays["joints_3d_camera_mm"] = track.joints_3d_camera_mm
    if track.mm_per_unit is not None and (track.mm_per_unit != 1000).any():
        arrays["mm_per_unit"] = track.mm_per_unit
    plain = {key: np.ascontiguousarray(array, np.float32) for key, array in arrays.items()}
    return PreparedTrack(track, {**plain, "valid": valid.astype(np.uint8)}, error)


def _refuse_other_unit(joints_mm: Float[np.ndarray, "frame 17 3"], name: str) -> None:
    """Raises: BadFile: this is nobody's size. A projection does not tell: it is the same in metres."""
    size_mm = float(np.median(np.ptp(joints_mm, axis=1).max(axis=-1)))
    if not _SIZES_MM[0] < size_mm < _SIZES_MM[1]:
        raise BadFile(f"{name}: its joints lie {size_mm:.3g} mm apart at most, as nobody's do: another unit than millimetres")


def _where(bad: Shaped[np.ndarray, "frame *rest"]) -> str:
    frame, *rest = np.argwhere(bad)[0]
    return f"at frame {frame}" + (f", joint {rest[0]} ({H36M_17.joints[rest[0]]})" if rest else "")
