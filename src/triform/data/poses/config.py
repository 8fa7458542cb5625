"""Settings of prepared poses: what the result depends on, where things lie, and how sequences are cut into clips."""

import hashlib
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Interval

from triform.errors import DataError
from triform.settings import settings

if TYPE_CHECKING:
    from triform.data.poses.raw_poses import RawPoses

Share = Annotated[float, Interval(gt=0, lt=0.5)]


@settings
class Clips:
    """How prepared sequences are cut into clips. Nothing prepared depends on it."""

    num_frames: Annotated[int, Ge(1)] = 243
    """Frames of a clip."""
    frame_stride: Annotated[int, Gt(0)] = 1
    """Every how manieth frame is taken."""
    clip_stride: Annotated[int, Gt(0)] = 81
    """Frames between the beginnings of two training clips."""
    labelled_fraction: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Share of the training sequences that are used; every action with at least two sequences keeps one."""
    labelled_draw: Annotated[int, Ge(0)] = 0
    """Another number draws other sequences."""


@settings
class PoseSettings(Clips):
    """Where the recordings lie, where the prepared ones go, who is tested, and what 2D is made where none is given."""

    data_dir: str = ""
    """Folder of the recordings, or a folder that is already prepared."""
    prepared_dir: str = ""
    """Folder of the prepared poses (empty: beside `data_dir`, named `<data_dir>.prepared-<kind>-<digest of the recipe>`)."""
    max_quarantine_fraction: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Share of the sequences that may be unusable before preparation fails."""
    test_subjects: tuple[str, ...] = ()
    """Subjects kept for the last evaluation."""
    test_actions: tuple[str, ...] = ()
    """Actions kept for the last evaluation."""
    test_fraction: Share = 0.2
    """Share of the sequences kept for it, where neither subjects nor actions are named; every action with at least two gives one."""
    val_fraction: Share = 0.1
    """Share of the other sequences that chooses the best model."""
    split_seed: Annotated[int, Ge(0)] = 0
    """Another seed deals the sequences, and places virtual cameras, another way."""
    frame_rate: Annotated[float, Ge(0)] = 0.0
    """Frames a second of the prepared sequences, by linear interpolation (0: as recorded)."""

    PLACES: ClassVar = ("data_dir", "prepared_dir", "max_quarantine_fraction")

    def recipe(self) -> dict[str, Any]:
        """All that decides the content of a prepared folder, beside the raw files: recorded in its manifest."""
        left_out = {*self.PLACES, *(field.name for field in fields(Clips))}
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}

    def raw_folder(self) -> Path:
        """The absolute path of `data_dir`. Raises: DataError where it is empty."""
        if not self.data_dir:
            raise DataError("No data is named", expected="a folder of recordings", do="give --data-dir")
        return Path(os.path.abspath(Path(self.data_dir).expanduser()))  # noqa: PTH100 (resolve() would leave a linked folder's side)

    def prepared_folder(self) -> Path:
        """Where the prepared poses go. Raises: DataError where neither folder is named."""
        if self.prepared_dir:
            return Path(os.path.abspath(Path(self.prepared_dir).expanduser()))  # noqa: PTH100
        raw = self.raw_folder()
        recipe = self.recipe()
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
        return raw.with_name(f"{raw.name}.prepared-{recipe['kind']}-{digest[:8]}")

    def raw_poses(self) -> "RawPoses":
        """List the recordings. Raises: DataError: a file is missing or is not as its format says."""
        raise NotImplementedError


@settings
class WorldPoses(PoseSettings):
    """Recordings in space without pictures: virtual cameras film them, and a detector's errors are imitated."""

    up_axis: Literal["x", "y", "z"] = "y"
    """The axis that points up."""
    stature_m: Annotated[float, Ge(0)] = 0.0
    """Scale each subject so that thigh and shank are 0.491 of this (0: as recorded; Drillis and Contini, 1966)."""
    virtual_cameras: Annotated[int, Gt(0)] = 4
    """Cameras around each sequence."""
    detection_noise: Annotated[float, Ge(0)] = 1.0
    """Factor of the imitated detector's errors (0: exact 2D)."""
