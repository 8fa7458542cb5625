"""Settings of prepared clouds: what the result depends on, and where things lie."""

import os
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from triform.data.raw_files import RawFiles, list_raw_files
from triform.errors import DataError
from triform.settings import settings


@settings
class CloudRecipe:
    """All that decides the content of a prepared folder, beside the raw files. Recorded in its manifest."""

    num_points: Annotated[int, Ge(16)] = 2048
    """Points of a prepared cloud."""
    val_fraction: Annotated[float, Interval(gt=0, lt=0.5)] = 0.1
    """Share of the clouds that chooses the best model; one cloud at least."""
    test_fraction: Annotated[float, Interval(gt=0, lt=0.5)] = 0.1
    """Share of the clouds that is kept for the last evaluation; one cloud at least."""
    split_seed: int = 0
    """Another seed deals the plants to the splits another way."""
    group_by: Literal["genotype", "plant"] = "genotype"
    """What never spans two splits: a whole genotype where the metadata names one, or each plant by itself."""
    up_axis: Literal["x", "y", "z"] = "z"
    """The axis that points up in the raw files; recorded, the points are not turned."""
    unit: str = "m"
    """Unit of the raw coordinates, and so of every cloud's centroid and scale."""


@settings
class CloudSettings(CloudRecipe):
    """Where the raw files lie, where the prepared clouds go, and how many bad files are tolerable."""

    data_dir: str = ""
    """A folder or zip archive of .ply files, at any depth, or a folder that is already prepared."""
    prepared_dir: str = ""
    """Folder of the prepared clouds (empty: beside `data_dir`, named `<data_dir>.prepared-<num_points>`)."""
    metadata: str = ""
    """Table of the plants, .csv or .xlsx (empty: `Metadata.xlsx` or `Metadata.csv` in `data_dir`, where there is one)."""
    max_quarantine_fraction: Annotated[float, Interval(ge=0, le=1)] = 0.02
    """Share of the files that may be unusable before preparation fails."""

    def raw_folder(self) -> Path:
        """The absolute path of `data_dir`. Raises: DataError where it is empty."""
        if not self.data_dir:
            raise DataError("No raw data is named", expected="a folder or zip archive of .ply files", do="give --data-dir")
        return Path(os.path.abspath(Path(self.data_dir).expanduser()))  # noqa: PTH100 (resolve() would leave a linked folder's side)

    def prepared_folder(self) -> Path:
        """Where the prepared clouds go. Raises: DataError where neither folder is named."""
        if self.prepared_dir:
            return Path(os.path.abspath(Path(self.prepared_dir).expanduser()))  # noqa: PTH100
        raw = self.raw_folder()
        stem = raw.name[:-4] if raw.suffix.lower() == ".zip" else raw.name
        return raw.with_name(f"{stem}.prepared-{self.num_points}")

    def raw_files(self) -> RawFiles:
        """List the raw files and the genotype of each, where one is known. Raises: DataError."""
        return with_genotypes(list_raw_files(self.raw_folder()), self, near=self.raw_folder())


def with_genotypes(source: RawFiles, settings: CloudSettings, *, near: Path) -> RawFiles:
    """Add the genotypes of `settings.metadata`, or of the table found in or beside `near`."""
    from triform.data.genotypes import find_table, read_genotypes

    table = Path(settings.metadata).expanduser() if settings.metadata else find_table(near)
    if table is None or settings.group_by == "plant":
        return source
    return source.grouped_by(read_genotypes(table, required=bool(settings.metadata)))
