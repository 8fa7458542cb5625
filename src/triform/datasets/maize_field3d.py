"""MaizeField3D: 1045 maize plants of a diversity panel, scanned in the field by a terrestrial laser scanner.

Licence: CC BY-NC 4.0. Units: metres. Up: z in most readers' hands, but not promised; see `up_axis`.
Raw layout: `datasets/FielGrwon_ZeaMays_RawPCD_{100k,50k,10k}.zip` on the Hugging Face Hub (the spelling is theirs), each a folder of
0001.ply to 1045.ply with about that many points, and `Metadata.xlsx`. There are no official splits.

Source: Kimara et al., "MaizeField3D", arXiv 2503.07813, and the card of BGLab/MaizeField3D.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from triform.data.config import CloudSettings, with_genotypes
from triform.data.raw_files import RawFiles, list_raw_files
from triform.errors import DataError, UsageError
from triform.settings import settings

_REPOSITORY = "BGLab/MaizeField3D"
_SPELLINGS = ("FielGrwon", "FieldGrow", "FieldGrown")


@settings
class MaizeField3D(CloudSettings):
    """MaizeField3D. With no `data_dir` it is downloaded once; else that is the archive, its unpacked folder, or a folder with it."""

    kind: Literal["maize_field3d"] = "maize_field3d"
    archive: Literal["100k", "50k", "10k"] = "10k"
    """Which archive of raw clouds: the number of points a plant, about."""

    def prepared_folder(self) -> Path:
        """Where the prepared clouds go: by default beside `data_dir`, or in the current folder after a download."""
        if self.prepared_dir or self.data_dir:
            return CloudSettings.prepared_folder(self)
        return Path.cwd() / f"maize_field3d_{self.archive}.prepared-{self.num_points}"

    def raw_files(self) -> RawFiles:
        """List the plants, downloading them first where `data_dir` is empty. Raises: DataError, UsageError."""
        if self.data_dir:
            archive = find_archive(self.raw_folder(), size=self.archive)
            table = self.raw_folder()
        else:
            archive, table = download(size=self.archive)
        source = list_raw_files(archive)
        # A plant may be there at more than one size, each in its folder: its number is its name.
        by_plant = replace(source, group_of={file.name: f"plant {file.stem}" for file in source.files})
        return with_genotypes(by_plant, self, near=table)


def find_archive(path: Path, *, size: str) -> Path:
    """The archive of this size in a folder without .ply files, under any of its spellings; else `path` itself."""
    if not path.is_dir() or any(name.lower().endswith(".ply") for _, _, names in os.walk(path) for name in names):
        return path
    wanted = {f"{spelling}_ZeaMays_RawPCD_{size}.zip".lower() for spelling in _SPELLINGS}
    return next((found for found in sorted(path.rglob("*.zip")) if found.name.lower() in wanted), path)


def download(*, size: str) -> tuple[Path, Path]:
    """Fetch an archive and, where there is one, the table of the plants; both stay in the Hub's cache.

    Returns: Path of the archive, and a path in whose folder the table lies.
    Raises: UsageError: huggingface_hub is not installed. DataError: the Hub doesn't answer, or has no such file.
    """
    hub = _import_hub()
    failures: list[str] = []
    for spelling in _SPELLINGS:
        try:
            archive = Path(hub.hf_hub_download(_REPOSITORY, f"datasets/{spelling}_ZeaMays_RawPCD_{size}.zip", repo_type="dataset"))
            return archive, _download_table(hub) or archive
        except (hub.errors.HfHubHTTPError, OSError) as error:
            failures.append(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
    raise DataError(
        f"{_REPOSITORY} can't be downloaded: {failures[0]}",
        expected=f"an archive {_SPELLINGS[0]}_ZeaMays_RawPCD_{size}.zip under one of its spellings",
        do="check the network, or download the archive by hand and give --data-dir",
    )


def _download_table(hub: Any) -> Path | None:
    try:
        return Path(hub.hf_hub_download(_REPOSITORY, "Metadata.xlsx", repo_type="dataset"))
    except (hub.errors.HfHubHTTPError, OSError):
        return None


def _import_hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise UsageError(
            "Downloading MaizeField3D needs the package huggingface_hub",
            expected="huggingface_hub, or the archive on this machine",
            do="pip install 'triform[hub]', or give --data-dir",
        ) from None
    return huggingface_hub
