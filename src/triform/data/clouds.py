"""Reads prepared clouds into memory, and believes none that differs from its manifest."""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from triform.data.bookkeeping import MANIFEST_NAME
from triform.data.manifest import CloudRecord, load_manifest
from triform.data.split import Split
from triform.errors import DataError


@dataclass(frozen=True, slots=True)
class Clouds:
    """One split of a prepared data set, sorted by name."""

    names: tuple[str, ...]
    points: Float32[np.ndarray, "cloud point 3"]
    """In the unit sphere, in the order of farthest point sampling."""
    resampled: Float32[np.ndarray, "cloud point 3"] | None
    """A second sampling of each plant, for the sampling floor; None for train."""
    centroid: Float64[np.ndarray, "cloud 3"]
    scale: Float64[np.ndarray, " cloud"]
    """`points * scale + centroid` are raw coordinates, in `unit`."""
    up_axis: str
    unit: str
    digest: str
    """Of the whole data set: that of its manifest."""

    @property
    def facts(self) -> dict[str, int]:
        """What a model must know."""
        return {"num_points": self.points.shape[1]}


def load_clouds(prepared_dir: Path | str, split: Split, *, verify: bool = True) -> Clouds:
    """Read the clouds of one split.

    Args:
        verify: Whether to compare each file with the manifest's SHA-256, which costs 0.02 ms a cloud.

    Raises: DataError: the folder isn't prepared, or a file is missing, torn or not the one that was prepared.
    """
    folder = Path(prepared_dir)
    manifest = load_manifest(folder)
    if manifest is None:
        raise DataError(f"{folder} has no {MANIFEST_NAME} of this version", expected="a prepared folder", do="run `triform prepare`")
    records = manifest.of_split(split)
    shape = (len(records), manifest.recipe.num_points, 3)
    points, centroid, scale = np.empty(shape, np.float32), np.empty((len(records), 3)), np.empty(len(records))
    resampled = np.empty(shape, np.float32) if split != "train" else None
    for i, record in enumerate(records):
        arrays = _read(folder, record, verify=verify)
        points[i], centroid[i], scale[i] = arrays["points"], arrays["centroid"], arrays["scale"]
        if resampled is not None:
            resampled[i] = arrays["resampled"]
    names = tuple(record.name for record in records)
    return Clouds(names, points, resampled, centroid, scale, manifest.recipe.up_axis, manifest.recipe.unit, manifest.digest)


def _read(folder: Path, record: CloudRecord, *, verify: bool) -> dict[str, np.ndarray]:
    path = record.path(folder)
    try:
        data = path.read_bytes()
        if verify and hashlib.sha256(data).hexdigest() != record.sha256:
            raise ValueError("its content is not what was prepared")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            wanted = {"points", "centroid", "scale"} | ({"resampled"} if record.split != "train" else set())
            return {name: arrays[name] for name in wanted}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(
            f"{path} can't be used: {reason}", expected="the cloud its manifest names", do="run `triform prepare` again"
        ) from error
