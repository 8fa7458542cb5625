"""What an experiment says: as a plain tree, as a digest, as rows for a terminal, as a commented file."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from triform.experiment.document import Document
from triform.experiment.reading import read_text
from triform.experiment.schema import Node, Path, child, default_kind, dotted, fields_of, root
from triform.experiment.tree import OPERATIONAL, Experiment


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One field of an experiment."""

    path: str
    """`task.encoder.levels[0].radius`"""
    value: Any
    """A plain value: text, number, bool, or a list of them."""
    meaning: str
    """Meaning and unit; for a `kind`, what that kind is."""
    default: bool
    """True where the value is the field's default; a field without a default is never at it."""


def resolved(experiment: Experiment) -> dict[str, Any]:
    """Return the whole tree as plain JSON-able values: every field, in the order of the classes."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(experiment)))
    return plain


def fingerprint(experiment: Experiment) -> str:
    """Return the SHA-256 (hex) of all that determines the finished model: the tree without `OPERATIONAL`, as canonical JSON."""
    tree = resolved(experiment)
    for path in OPERATIONAL:
        *above, last = path.split(".")
        block = tree
        for part in above:
            block = block[part]
        block.pop(last, None)
    canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def describe(experiment: Experiment) -> list[Row]:
    """Return one row a field, in file order, for `triform config`."""
    return list(_rows(root(), resolved(experiment), ()))


def to_yaml(experiment: Experiment) -> str:
    """Return a file that loads to the same tree and says each field's meaning."""
    return "\n".join(_lines(root(), resolved(experiment), "")) + "\n"


def _rows(node: Node, value: Any, path: Path, *, default: bool = False) -> Iterator[Row]:
    """Rows of a field; a block or list that is at its default is so in all its fields."""
    default = default or ("default" in node and node["default"] == value)
    if isinstance(value, dict):
        for key in fields_of(node, value):
            below, inner = child(node, value, key)
            # A kind's own default is the class's name; a union's default is another matter.
            yield from _rows({**below, "default": default_kind(node)} if key == "kind" else below, inner, (*path, key), default=default)
    elif _is_blocks(value):
        for index in range(len(value)):
            yield from _rows(*child(node, value, index), (*path, index), default=default)
    else:
        yield Row(dotted(path), value, node.get("description", ""), default)


def _lines(node: Node, tree: dict[str, Any], indent: str) -> Iterator[str]:
    for key in fields_of(node, tree):
        below, value = child(node, tree, key)
        comment = f"  # {' '.join(below.get('description', '').split())}".rstrip(" #")
        if isinstance(value, dict):
            yield f"{indent}{key}:{comment}"
            yield from _lines(below, value, indent + "  ")
        elif _is_blocks(value):
            yield f"{indent}{key}:{comment}"
            yield from (f"{indent}  - {_flow(item)}" for item in value)
        else:
            yield f"{indent}{key}: {_flow(value)}{comment}"


def _is_blocks(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _flow(value: object) -> str:
    """A value in YAML's flow style."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case str():
            return value if _is_plain(value) else _quoted(value)
    return json.dumps(value)


def _is_plain(text: str) -> bool:
    """Whether YAML reads the text as itself without quotes."""
    return bool(re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", text)) and read_text(text, document=Document()) == text


def _quoted(text: str) -> str:
    escaped = "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{escaped}"'
