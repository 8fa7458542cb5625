"""Reads and writes PLY point clouds in pure NumPy.

Source: Greg Turk, "The PLY Polygon File Format" (1994), and both spellings of its types that have been in use since.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Float, Float64, Shaped, UInt8

from triform.errors import DataError

_FORMATS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_SPELLINGS = {
    "i1": ("char", "int8"), "u1": ("uchar", "uint8"), "i2": ("short", "int16"), "u2": ("ushort", "uint16"),
    "i4": ("int", "int32"), "u4": ("uint", "uint32"), "f4": ("float", "float32"), "f8": ("double", "float64"),
}  # fmt: skip
_TYPES = {spelling: code for code, spellings in _SPELLINGS.items() for spelling in spellings}
_COUNT_TYPES = {spelling for spelling, code in _TYPES.items() if code[0] in "iu"}
_STRUCT_CODES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}
_DO = "Download or export the file again, or remove it from the data set"


@dataclass(frozen=True, slots=True)
class Ply:
    """The vertices of one file: `vertices` is a structured array with one field per scalar property, in file order."""

    vertices: Shaped[np.ndarray, " vertex"]
    comments: tuple[str, ...] = ()

    def points(self) -> Float64[np.ndarray, "vertex 3"]:
        """Return x, y, z of every vertex, in the unit of the file and in file order; the array is a fresh copy."""
        points = np.empty((len(self.vertices), 3))
        for axis, name in enumerate("xyz"):
            points[:, axis] = self.vertices[name]
        return points

    def colors(self) -> UInt8[np.ndarray, "vertex 3"] | None:
        """Return red, green, blue in 0-255, or None where the file has none. Real-valued colours are taken as 0-1, ushort as 0-65535."""
        names = ["red", "green", "blue"]
        if not set(names) <= set(self.vertices.dtype.names or ()):
            return None
        return np.stack([_as_uchar(self.vertices[name]) for name in names], axis=1)


@dataclass(frozen=True, slots=True)
class _Property:
    name: str
    type: str
    count_type: str | None = None
    """The type of a list's length; None for a scalar."""


@dataclass(slots=True)
class _Element:
    name: str
    count: int
    properties: list[_Property]

    def has_lists(self) -> bool:
        return any(prop.count_type for prop in self.properties)

    def dtype(self, order: str) -> np.dtype[np.void]:
        return np.dtype([(prop.name, order + prop.type) for prop in self.properties if not prop.count_type])

    def smallest_row(self) -> int:
        return sum(np.dtype(prop.count_type or prop.type).itemsize for prop in self.properties)


def read_ply(source: Path | bytes, *, name: str = "") -> Ply:
    """Read the vertices of a PLY file; what comes after them is never parsed.

    Args:
        source: A path, or the file's content (as it comes out of a zip archive).
        name: What error messages call the file; its path where empty.

    Raises:
        DataError: The file is missing, empty, not a PLY, truncated, or has no readable x, y, z.

    Binary files without lists in their vertices take no Python loop: 0.1 ms for 10,000 points (one core).
    """
    name = name or (str(source) if isinstance(source, Path) else "PLY data")
    data = _read_bytes(source) if isinstance(source, Path) else source
    try:
        lines, start = _split_header(data)
        order, elements, comments = _parse_header(lines)
        return Ply(_read_vertices(data, start, order, elements), comments)
    except _Broken as broken:
        raise DataError(f"{name}: {broken.got}", expected=broken.expected, do=_DO) from None


def write_ply(
    path: Path,
    points: Float[np.ndarray, "vertex 3"],
    *,
    colors: UInt8[np.ndarray, "vertex 3"] | None = None,
    comments: Sequence[str] = (),
) -> None:
    """Write a binary little-endian PLY: `double x y z` and, with `colors`, `uchar red green blue`.

    Raises:
        ValueError: `points` or `colors` has another shape, or a comment has a line break.
    """
    if points.ndim != 2 or points.shape[1] != 3 or (colors is not None and colors.shape != points.shape):
        raise ValueError(f"points and colors must be (vertex, 3), got {points.shape} and {None if colors is None else colors.shape}")
    if any(len(comment.splitlines()) > 1 for comment in comments):
        raise ValueError("a PLY comment is one line")
    fields = [("double", axis) for axis in "xyz"] + [("uchar", color) for color in ("red", "green", "blue") if colors is not None]
    vertices = np.empty(len(points), [(field, "<" + _TYPES[kind]) for kind, field in fields])
    for column, (_, field) in enumerate(fields):
        vertices[field] = points[:, column] if column < 3 or colors is None else colors[:, column - 3]
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {comment}" for comment in comments), f"element vertex {len(points)}"]
    header += [f"property {kind} {field}" for kind, field in fields] + ["end_header", ""]
    path.write_bytes("\n".join(header).encode() + vertices.tobytes())


class _Broken(Exception):
    """What is wrong with the content, before the file's name is known."""

    def __init__(self, got: str, expected: str) -> None:
        self.got, self.expected = got, expected
        super().__init__(got, expected)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}", expected="a readable PLY file") from error


def _as_uchar(column: Shaped[np.ndarray, " vertex"]) -> UInt8[np.ndarray, " vertex"]:
    values: Float64[np.ndarray, " vertex"] = np.nan_to_num(column.astype(np.float64))
    unit = {"f4": 1.0, "f8": 1.0, "u2": 65535.0}.get(column.dtype.str[1:], 255.0)
    colors: UInt8[np.ndarray, " vertex"] = np.rint(np.clip(values / unit, 0, 1) * 255).astype(np.uint8)
    return colors


def _split_header(data: bytes) -> tuple[list[list[str]], int]:
    """Return the words of each header line after `ply`, and the offset of the first byte after the header.

    The line break of the first line holds for the whole header: after a lone \\r, a binary body may begin with \\n.
    """
    if not data:
        raise _Broken("the file is empty", "a PLY file")
    first = re.match(rb"ply[ \t]*(\r\n|\n|\r)", data)
    if not first:
        raise _Broken(f"not a PLY file, it begins with {data[:8]!r}", "`ply` as the first line")
    last = re.compile(first[1] + rb"[ \t]*end_header[ \t]*" + first[1]).search(data, first.end(1) - len(first[1]))
    if not last:
        raise _Broken("the header has no end", "a line `end_header`")
    text = data[first.end() : last.start()].decode("utf-8", errors="replace")
    return [words for line in text.split(first[1].decode()) if (words := line.split())], last.end()


def _parse_header(lines: list[list[str]]) -> tuple[str, list[_Element], tuple[str, ...]]:
    """Return the byte order ("" for ascii), the elements in file order, and the comments."""
    order: str | None = None
    elements: list[_Element] = []
    comments: list[str] = []
    for words in lines:
        match words:
            case ["comment", *rest]:
                comments.append(" ".join(rest))
            case ["obj_info", *_]:
                pass
            case ["format", kind, "1.0"] if kind in _FORMATS:
                order = _FORMATS[kind]
            case ["element", name, count] if count.isdecimal() and len(count) < 19:
                elements.append(_Element(name, int(count), []))
            case ["property", "list", count_type, kind, name] if elements and kind in _TYPES and count_type in _COUNT_TYPES:
                elements[-1].properties.append(_Property(name, _TYPES[kind], _TYPES[count_type]))
            case ["property", kind, name] if elements and kind in _TYPES:
                elements[-1].properties.append(_Property(name, _TYPES[kind]))
            case _:
                _refuse_header_line(words)
    if order is None:
        raise _Broken("the header has no format line", f"`format <kind> 1.0` with a kind of {', '.join(_FORMATS)}")
    return order, elements, tuple(comments)


def _refuse_header_line(words: list[str]) -> NoReturn:
    expected = {
        "format": f"a kind of {', '.join(_FORMATS)}, version 1.0",
        "element": "`element <name> <count>` with a count of 0 or more",
        "property": f"`property <type> <name>` after an element, with a type of {', '.join(_TYPES)}",
    }.get(words[0], "format, element, property, comment or obj_info")
    raise _Broken(f"the header line {' '.join(words)[:80]!r} can't be read", expected)


def _read_vertices(data: bytes, start: int, order: str, elements: list[_Element]) -> Shaped[np.ndarray, " vertex"]:
    position = next((i for i, element in enumerate(elements) if element.name == "vertex"), None)
    if position is None:
        raise _Broken("there is no vertex element", "`element vertex <count>`")
    before, vertex = elements[:position], elements[position]
    scalars = [prop.name for prop in vertex.properties if not prop.count_type]
    if missing := [axis for axis in "xyz" if axis not in scalars]:
        raise _Broken(f"the vertices have no {', '.join(missing)}, only {', '.join(scalars) or 'nothing'}", "scalar properties x, y and z")
    if len(set(scalars)) < len(scalars):
        raise _Broken(f"a vertex property is there twice: {', '.join(scalars)}", "one property per name")
    return _read_binary(data, start, order, before, vertex) if order else _read_ascii(data[start:], before, vertex)


def _read_binary(data: bytes, offset: int, order: str, before: list[_Element], vertex: _Element) -> Shaped[np.ndarray, " vertex"]:
    for element in before:
        _require_bytes(data, offset, element)
        if element.has_lists():
            for _, end in _walk_rows(data, offset, order, element):
                offset = end
        else:
            offset += element.count * element.smallest_row()
    _require_bytes(data, offset, vertex)
    if vertex.has_lists():
        rows = [row for row, _ in _walk_rows(data, offset, order, vertex)]
        return np.array(rows, vertex.dtype(order))
    return np.frombuffer(data, vertex.dtype(order), vertex.count, offset)


def _require_bytes(data: bytes, offset: int, element: _Element) -> None:
    needed, got = element.count * element.smallest_row(), len(data) - offset
    if got < needed:
        least = "at least " if element.has_lists() else ""
        raise _Broken(f"truncated: {got:,} bytes are left for {element.count:,} rows of {element.name!r}", f"{least}{needed:,} bytes")


def _walk_rows(data: bytes, offset: int, order: str, element: _Element) -> Iterator[tuple[tuple[float, ...], int]]:
    """Yield the scalars of each row and the offset of its end; list values are passed over."""
    readers = [
        (struct.Struct(order + _STRUCT_CODES[prop.count_type or prop.type]), prop.count_type and np.dtype(prop.type).itemsize)
        for prop in element.properties
    ]
    for row in range(element.count):
        scalars: list[float] = []
        for reader, item_size in readers:
            if offset + reader.size > len(data):
                raise _Broken(f"truncated in row {row:,} of {element.name!r}: {len(data):,} bytes", f"{element.count:,} rows")
            (value,) = reader.unpack_from(data, offset)
            offset += reader.size
            if item_size is None:
                scalars.append(value)
            elif value < 0:
                raise _Broken(f"row {row:,} of {element.name!r} has a list of {value} values", "a length of 0 or more")
            else:
                offset += int(value) * int(item_size)
        yield tuple(scalars), offset
    if offset > len(data):
        raise _Broken(f"truncated in the last row of {element.name!r}: {len(data):,} bytes", f"{offset:,} bytes")


def _read_ascii(body: bytes, before: list[_Element], vertex: _Element) -> Shaped[np.ndarray, " vertex"]:
    lines = [line for line in body.splitlines() if line.strip()]
    first = sum(element.count for element in before if element.properties)
    rows = [line.split() for line in lines[first : first + vertex.count]]
    if len(rows) < vertex.count:
        raise _Broken(f"truncated: {len(rows):,} rows of vertices ({len(body):,} bytes)", f"{vertex.count:,} rows")
    if vertex.has_lists():
        rows = [_scalar_words(row, vertex.properties) for row in rows]
    dtype = vertex.dtype("<")
    width = len(dtype.names or ())
    if (wrong := next((i for i, row in enumerate(rows) if len(row) != width), None)) is not None:
        raise _Broken(f"vertex row {wrong:,} has {len(rows[wrong])} numbers", f"{width} numbers")
    return _columns_of(rows, dtype)


def _scalar_words(row: list[bytes], properties: list[_Property]) -> list[bytes]:
    position, scalars = 0, []
    for prop in properties:
        word = row[position : position + 1]
        if prop.count_type is None:
            scalars += word
        elif word and word[0].isdigit() and len(word[0]) < 10:
            position += int(word[0])
        else:
            raise _Broken(f"the list {prop.name!r} has no length in the vertex row {b' '.join(row)[:60]!r}", "a length of 0 or more")
        position += 1
    if position != len(row):
        raise _Broken(f"{len(row)} words in the vertex row {b' '.join(row)[:60]!r}", f"{position} words")
    return scalars


def _columns_of(rows: list[list[bytes]], dtype: np.dtype[np.void]) -> Shaped[np.ndarray, " vertex"]:
    try:
        values = np.array([float(word) for row in rows for word in row]).reshape(len(rows), len(dtype.names or ()))
    except ValueError as error:
        raise _Broken(f"a vertex is not numeric: {error}", "numbers only") from None
    vertices = np.empty(len(rows), dtype)
    for column, name in zip(values.T, dtype.names or (), strict=True):
        if dtype[name].kind != "f":
            info = np.iinfo(dtype[name])
            if not np.all((column >= info.min) & (column <= info.max)):
                raise _Broken(f"{name!r} is out of the range of its type", f"{info.min} to {info.max}")
        with np.errstate(over="ignore"):
            vertices[name] = column
    return vertices
