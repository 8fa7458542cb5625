from pathlib import Path

import openpyxl
import pytest

from triform.data.config import CloudSettings
from triform.data.genotypes import find_table, read_genotypes
from triform.data.prepare import prepare
from triform.errors import DataError

ROWS = [["Notes", "Plant ID", "Genotype"], ["x", 1, "B73"], ["", 2.0, "b73 "], [None, "0003.ply", "Mo17"], ["y", 4, None]]


def write_table(path: Path, rows: list[list[object]]) -> Path:
    if path.suffix == ".csv":
        path.write_text("\n".join(",".join("" if cell is None else str(cell) for cell in row) for row in rows))
    else:
        book = openpyxl.Workbook()
        for row in rows:
            book.worksheets[0].append(row)
        book.save(path)
    return path


@pytest.mark.parametrize("name", ["Metadata.xlsx", "metadata.csv"])
def test_columns_are_found_whatever_their_case(tmp_path: Path, name: str) -> None:
    table = write_table(tmp_path / name, ROWS)
    assert find_table(tmp_path) == table
    assert find_table(tmp_path / "plants.zip") == table
    assert read_genotypes(table, required=True) == {"1": "b73", "2": "b73", "3": "mo17"}


def test_a_table_without_genotypes(tmp_path: Path) -> None:
    table = write_table(tmp_path / "metadata.csv", [["id", "leaves"], [1, 8]])
    assert read_genotypes(table, required=False) == {}
    with pytest.raises(DataError, match="columns id, leaves"):
        read_genotypes(table, required=True)


def test_a_broken_table(tmp_path: Path) -> None:
    (tmp_path / "metadata.xlsx").write_bytes(b"no zip")
    with pytest.raises(DataError, match="can't be read"):
        read_genotypes(tmp_path / "metadata.xlsx", required=False)


def test_a_genotype_never_spans_two_splits(raw: Path, settings_for: type[CloudSettings]) -> None:
    genotype = {number: "ABCDE"[number % 5] for number in range(1, 13)}
    write_table(raw / "Metadata.xlsx", [["ID", "GENOTYPE"], *([number, name] for number, name in genotype.items())])
    manifest = prepare(settings_for(raw, test_fraction=0.3))
    assert {cloud.group for cloud in manifest.clouds} == {f"genotype {letter}" for letter in "abcde"}
    assert len({(cloud.group, cloud.split) for cloud in manifest.clouds}) == 5
    by_plant = prepare(settings_for(raw, test_fraction=0.3, group_by="plant"))
    assert len({cloud.group for cloud in by_plant.clouds}) == 12
    assert by_plant.digest != manifest.digest
