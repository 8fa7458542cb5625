"""Reads which genotype each plant is from a table whose column names nobody promised."""

import csv
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from triform.data.raw_files import plant_key
from triform.errors import DataError

_ID_COLUMNS = (
    "id",
    "plant_id",
    "plant",
    "sample_id",
    "sample",
    "file",
    "filename",
    "file_name",
    "name",
    "pointcloud",
    "point_cloud",
    "pcd",
)
_GENOTYPE_COLUMNS = ("genotype", "genotype_id", "genotype_name", "accession", "line", "inbred", "inbred_line", "hybrid", "pedigree")
_TABLE_NAMES = ("metadata.xlsx", "metadata.csv")


def find_table(near: Path) -> Path | None:
    """Return `Metadata.xlsx` or `Metadata.csv`, in any case, in a folder, or beside an archive."""
    folder = near if near.is_dir() else near.parent
    found = {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True)} if folder.is_dir() else {}
    return next((found[name] for name in _TABLE_NAMES if name in found), None)


def read_genotypes(table: Path, *, required: bool) -> dict[str, str]:
    """Return plant (as `plant_key` spells it) -> genotype, for all rows that name both.

    Args:
        table: .csv with a header, or .xlsx, of which the first sheet is read.
        required: Whether it is an error that no column names the plants, or none the genotypes; else nothing is returned.

    Raises: DataError: The table can't be read, or `required` and a column is missing.
    """
    rows = _read_rows(table)
    header = next(rows, [])
    columns = [_column(header, _ID_COLUMNS), _column(header, _GENOTYPE_COLUMNS)]
    if None in columns:
        if required:
            raise DataError(
                f"{table} has the columns {', '.join(header) or 'nothing'}",
                expected=f"plants in one of {', '.join(_ID_COLUMNS)}, and genotypes in one of {', '.join(_GENOTYPE_COLUMNS)}",
                do="rename its columns, or leave out --metadata to split by plant",
            )
        return {}
    plant, genotype = (int(column) for column in columns if column is not None)
    full = (row for row in rows if len(row) > max(plant, genotype) and row[plant] and row[genotype])
    return {plant_key(row[plant]): row[genotype].casefold() for row in full}


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    """Where the first of `names` that the header has stands; spaces, hyphens and case don't count."""
    spelled = ["_".join(word.replace("-", " ").replace("_", " ").split()).casefold() for word in header]
    return next((spelled.index(name) for name in names if name in spelled), None)


def _read_rows(table: Path) -> Iterator[list[str]]:
    try:
        rows = _read_xlsx(table) if table.suffix.lower() == ".xlsx" else _read_csv(table)
    except Exception as error:  # openpyxl answers a broken file with errors of a dozen kinds
        raise DataError(f"{table} can't be read: {error}", expected="a table, .csv or .xlsx", do="correct --metadata") from error
    return iter([[_text(value) for value in row] for row in rows])


def _read_csv(table: Path) -> list[list[str]]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def _read_xlsx(table: Path) -> list[tuple[Any, ...]]:
    import openpyxl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and validations that nobody reads here
        book = openpyxl.load_workbook(table, read_only=True, data_only=True)
    try:
        return list(book.worksheets[0].iter_rows(values_only=True))
    finally:
        book.close()


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()
