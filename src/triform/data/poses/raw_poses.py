"""What a data set gives before anything is prepared: its sequences, and for each the tracks that cameras saw."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Bool, Float, Float32

from triform.data.split import Split
from triform.geometry.camera import Camera

Average = Literal["action", "frame"]


@dataclass(frozen=True, slots=True)
class RawSequence:
    """One recording that was listed."""

    name: str
    """`subject/action-or-take`, such as "S1/Directions 1"."""
    subject: str
    action: str
    """Without the number of the take."""
    member: str
    """Its file inside the folder, and what it is in there after a colon."""
    split: Split | None = None
    """Where the data set itself says."""


@dataclass(frozen=True, slots=True, eq=False)
class RawTrack:
    """A sequence as one camera saw it, joints in the order H36M_17; or, without 2D, as it was in the world."""

    camera_name: str
    size_px: tuple[int, int]
    """Width and height of the image."""
    frame_rate: float
    joints_2d_px: Float32[np.ndarray, "frame 17 2"] | None = None
    confidence: Float32[np.ndarray, "frame 17"] | None = None
    """0 to 1, 0 where nothing was seen (None: 1 throughout)."""
    joints_3d_camera_mm: Float[np.ndarray, "frame 17 3"] | None = None
    """Absolute in the camera's frame."""
    joints_3d_world_mm: Float[np.ndarray, "frame 17 3"] | None = None
    """Only where there is no camera: virtual ones are placed."""
    camera: Camera | None = None
    up_camera: Float[np.ndarray, " 3"] | None = None
    """The world's up direction in the camera's frame."""
    valid: Bool[np.ndarray, " frame"] | None = None
    """Frames whose 3D is right and is scored (None: all)."""
    mm_per_unit: Float32[np.ndarray, " frame"] | None = None
    """Millimetres in the network's unit (None: 1000)."""
    ground_truth_2d: bool = False
    """Whether the 2D is said to be exact: it is compared with the 3D's projection."""
    largest_2d_error_px: float | None = None
    """Where the reader has compared it."""


class RawPoses(Protocol):
    """All recordings of one folder."""

    @property
    def root(self) -> Path:
        """The folder."""
        ...

    @property
    def sequences(self) -> tuple[RawSequence, ...]:
        """Sorted by name."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read."""
        ...

    @property
    def protocol(self) -> str:
        """One line that stands beside every number: which 2D, which clips are left out, how it is averaged."""
        ...

    @property
    def average(self) -> Average:
        """Whether a score is the mean over actions of the mean over frames, or the mean over frames."""
        ...

    def read(self, sequence: RawSequence) -> tuple[RawTrack, ...]:
        """Read one sequence; threads may do so at once. Raises: BadFile: it alone is unusable. DataError."""
        ...
