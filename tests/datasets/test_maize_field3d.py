import sys
import types
import zipfile
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from pydantic import TypeAdapter

from triform.data.prepare import prepare
from triform.datasets.maize_field3d import MaizeField3D
from triform.datasets.ply_clouds import PlyClouds
from triform.errors import DataError, UsageError
from triform.geometry.ply import write_ply


def make_archive(path: Path, num_plants: int = 5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(1, num_plants + 1):
            write_ply(path.with_suffix(".ply"), np.random.default_rng(number).normal(size=(100, 3)))
            archive.write(path.with_suffix(".ply"), f"{path.stem}/{number:04d}.ply")
        path.with_suffix(".ply").unlink()
    return path


class FakeHub(types.ModuleType):
    """Stands for huggingface_hub: serves the files below a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__("huggingface_hub")
        self.folder, self.asked = folder, []
        self.errors: Any = types.ModuleType("huggingface_hub.errors")
        self.errors.HfHubHTTPError = type("HfHubHTTPError", (OSError,), {})

    def hf_hub_download(self, repository: str, name: str, *, repo_type: str) -> str:
        self.asked.append((repository, name, repo_type))
        if not (self.folder / name).exists():
            raise self.errors.HfHubHTTPError(f"404: {name}")
        return str(self.folder / name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", fake.errors)
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.mark.parametrize("spelling", ["FielGrwon", "FieldGrow"])
def test_the_archive_is_downloaded_under_either_spelling(hub: FakeHub, tmp_path: Path, spelling: str) -> None:
    make_archive(hub.folder / "datasets" / f"{spelling}_ZeaMays_RawPCD_10k.zip")
    manifest = prepare(MaizeField3D(num_points=64))
    assert [cloud.name for cloud in manifest.clouds] == ["0001", "0002", "0003", "0004", "0005"]
    assert manifest.prepared_dir == tmp_path / "maize_field3d_10k.prepared-64"
    assert hub.asked[0] == ("BGLab/MaizeField3D", "datasets/FielGrwon_ZeaMays_RawPCD_10k.zip", "dataset")


def test_genotypes_of_the_downloaded_table(hub: FakeHub) -> None:
    make_archive(hub.folder / "datasets" / "FielGrwon_ZeaMays_RawPCD_10k.zip")
    book = openpyxl.Workbook()
    for row in [["ID", "Genotype"], [1, "a"], [2, "a"], [3, "b"], [4, "c"], [5, "c"]]:
        book.worksheets[0].append(row)
    book.save(hub.folder / "Metadata.xlsx")
    assert MaizeField3D(num_points=64).raw_files().group_of["0002"] == "genotype a"


@pytest.mark.usefixtures("hub")
def test_a_download_that_fails() -> None:
    with pytest.raises(DataError, match=r"404: datasets/FielGrwon.*--data-dir"):
        MaizeField3D(archive="100k").raw_files()


def test_without_the_hub_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"pip install 'triform\[hub\]'"):
        MaizeField3D().raw_files()


@pytest.mark.parametrize("spelling", ["FielGrwon", "FieldGrow"])
def test_a_folder_with_the_archive_the_archive_and_its_unpacked_folder(tmp_path: Path, spelling: str) -> None:
    name = f"{spelling}_ZeaMays_RawPCD_10k"
    archive = make_archive(tmp_path / "maize" / "datasets" / f"{name}.zip")
    make_archive(tmp_path / "maize" / "datasets" / f"{spelling}_ZeaMays_RawPCD_50k.zip", 9)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "unpacked" / name)
    roots = [tmp_path / "maize", archive, tmp_path / "unpacked"]
    listed = [MaizeField3D(data_dir=str(root)).raw_files() for root in roots]
    assert [[file.name for file in source.files] for source in listed] == [["0001", "0002", "0003", "0004", "0005"]] * 3


def test_a_plant_at_two_sizes_is_one_plant(tmp_path: Path) -> None:
    for size in ("10k", "50k"):
        with zipfile.ZipFile(make_archive(tmp_path / f"{size}.zip")) as packed:
            packed.extractall(tmp_path / "both")
    groups = MaizeField3D(data_dir=str(tmp_path / "both")).raw_files().group_of
    assert groups["10k/0003"] == groups["50k/0003"] == "plant 0003"


@pytest.mark.parametrize("kind", [PlyClouds, MaizeField3D])
def test_every_setting_says_what_it_means(kind: type) -> None:
    # Pydantic reads the docstrings in a class's own source only.
    schemas = [TypeAdapter(base).json_schema()["properties"] for base in kind.__mro__ if is_dataclass(base)]
    told = {name for fields in schemas for name, field in fields.items() if field.get("description")}
    assert set(schemas[0]) - told == {"kind"}


def test_settings_are_checked() -> None:
    gate = TypeAdapter(PlyClouds)
    assert gate.validate_python({"data_dir": "x"}) == PlyClouds(data_dir="x")
    for wrong in ({"num_points": 0}, {"val_fraction": 0.0}, {"up_axis": "w"}, {"nothing": 1}, {"max_quarantine_fraction": 2}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            gate.validate_python(wrong)
