"""The manifest of a folder of prepared poses: every track with its digest and split, what made them, and one digest over all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triform.data.bookkeeping import Book, ManifestOf, plain, read_manifest
from triform.data.poses.prepared_track import STEP_VERSION
from triform.data.poses.raw_poses import Average
from triform.data.quarantine import Quarantined
from triform.data.split import Split

_PLAIN = ("recipe", "shards", "protocol", "average", "largest_2d_error_px")


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """One prepared track: a sequence as one camera saw it."""

    name: str
    """`sequence/camera`."""
    sequence: str
    subject: str
    action: str
    camera_name: str
    split: Split
    num_frames: int
    frame_rate: float
    size_px: tuple[int, int]
    """Width and height of the image."""
    labelled: bool
    """Whether its 3D is known."""
    camera: dict[str, Any] | None
    """As `Camera.as_tree` has it."""
    up_camera: tuple[float, float, float] | None
    """The world's up direction in the camera's frame."""
    constant_unit: bool
    """Whether the network's unit is the metre; if not, each frame has its own."""
    shard: str
    """The file that holds its arrays."""
    source_sha256: str
    """Of the raw arrays."""
    sha256: str
    """Of the prepared arrays."""

    def as_tree(self) -> dict[str, Any]:
        """The fields by name, plain."""
        tree: dict[str, Any] = plain(self)
        return tree

    @staticmethod
    def from_tree(tree: Mapping[str, Any]) -> "TrackRecord":
        """The inverse of `as_tree`. Raises: KeyError, TypeError."""
        up = tree["up_camera"]
        return TrackRecord(**{**tree, "size_px": tuple(tree["size_px"]), "up_camera": None if up is None else tuple(up)})


@dataclass(frozen=True, slots=True)
class PoseManifest(ManifestOf[TrackRecord]):
    """A folder of prepared poses."""

    BOOK = Book("triform prepared poses", STEP_VERSION, "tracks", (*_PLAIN, "tracks"))

    recipe: dict[str, Any]
    tracks: tuple[TrackRecord, ...]
    shards: dict[str, str]
    """File -> SHA-256."""
    protocol: str
    """What stands beside every number: which 2D, which clips are left out, how it is averaged."""
    average: Average
    largest_2d_error_px: float | None
    """Of 2D that is said to be exact; None where none is."""


def make_manifest(
    prepared_dir: Path,
    recipe: dict[str, Any],
    *,
    tracks: Iterable[TrackRecord],
    shards: Mapping[str, str],
    quarantined: Iterable[Quarantined],
    protocol: str,
    average: Average,
    largest_2d_error_px: float | None,
) -> PoseManifest:
    """Sort the tracks and take the digest over all of them."""
    in_order = tuple(sorted(tracks, key=lambda track: track.name))
    facts = (recipe, in_order, dict(sorted(shards.items())), protocol, average, largest_2d_error_px)
    return PoseManifest(prepared_dir, "", tuple(quarantined), *facts).sealed()


def load_manifest(prepared_dir: Path | str) -> PoseManifest | None:
    """Read the manifest of a prepared folder, or return None where there is none of this version. Raises: DataError: It was changed."""
    return read_manifest(PoseManifest, Path(prepared_dir), _parse)


def _parse(tree: dict[str, Any]) -> dict[str, Any]:
    return {"tracks": tuple(TrackRecord.from_tree(track) for track in tree["tracks"]), **{name: tree[name] for name in _PLAIN}}
