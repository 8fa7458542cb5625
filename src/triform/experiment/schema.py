"""The tree as JSON schema, and the questions that reading, overriding and describing ask of it."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from triform.experiment.tree import NAME_PATTERN, Experiment

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Node = Mapping[str, Any]
Path = tuple[str | int, ...]

PATTERNS = {NAME_PATTERN: "1 to 64 letters, digits, dots, hyphens or underscores that begin with a letter or digit"}
LIMITS = (
    ("exclusiveMinimum", "above {}"),
    ("minimum", "at least {}"),
    ("exclusiveMaximum", "below {}"),
    ("maximum", "at most {}"),
)


@cache
def adapter() -> "TypeAdapter[Experiment]":
    """Pydantic's validator of the tree, built once a process."""
    from pydantic import TypeAdapter

    return TypeAdapter(Experiment)


@cache
def root() -> Node:
    """The whole tree's schema; shared, so not to be changed."""
    from pydantic.json_schema import GenerateJsonSchema
    from pydantic_core.core_schema import DataclassSchema, WithDefaultSchema, with_default_schema

    class Generate(GenerateJsonSchema):
        """Adds what pydantic leaves out: defaults from a `default_factory`, meanings of a kind and of inherited fields."""

        def default_schema(self, schema: WithDefaultSchema) -> dict[str, Any]:
            make: Any = schema.get("default_factory")
            return super().default_schema(with_default_schema(schema["schema"], default=make()) if make else schema)

        def dataclass_schema(self, schema: DataclassSchema) -> dict[str, Any]:
            block = super().dataclass_schema(schema)
            meanings = {"kind": block.get("description", ""), **_inherited_meanings(schema["cls"])}
            for name, field in block["properties"].items():
                if name in meanings:
                    field.setdefault("description", meanings[name])
            return block

    tree = adapter().json_schema(schema_generator=Generate)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **tree, "title": "Triform experiment"}


def _inherited_meanings(cls: type) -> dict[str, str]:
    """Docstrings of the fields of a class's bases; pydantic reads only those in the class's own source."""
    from pydantic import TypeAdapter

    found: dict[str, str] = {}
    for base in reversed([base for base in cls.__mro__[1:] if is_dataclass(base)]):
        fields = TypeAdapter(base).json_schema().get("properties", {})
        found |= {name: field["description"] for name, field in fields.items() if "description" in field}
    return found


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of an experiment file, with meanings and defaults, for editors."""
    return deepcopy(dict(root()))


def resolve(node: Node) -> Node:
    """The node with its reference replaced by what it names; what stands beside the reference wins."""
    while "$ref" in node:
        target = root()["$defs"][node["$ref"].rsplit("/", 1)[1]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def kinds(node: Node) -> dict[str, Node]:
    """Members of a union by their kind; a class with a `kind` is a union of one, any other node has none."""
    node = resolve(node)
    members = [resolve(member) for member in node.get("oneOf", [node])]
    return {member["properties"]["kind"]["const"]: member for member in members if "kind" in member.get("properties", {})}


def default_kind(node: Node) -> str | None:
    """Kind of a block that does not name one; None where it must."""
    default = resolve(node).get("default")
    return default.get("kind") if isinstance(default, dict) else None


def fields_of(node: Node, value: object) -> Mapping[str, Node]:
    """Fields of the block that `value` is read as, after its kind is chosen; none where it can't be."""
    members = kinds(node)
    if not members:
        properties: Mapping[str, Node] = resolve(node).get("properties", {})
        return properties
    kind = value.get("kind", default_kind(node)) if isinstance(value, dict) else default_kind(node)
    chosen = members.get(kind) if isinstance(kind, str) else None
    if chosen is None:
        return {"kind": {"enum": list(members), "type": "string"}}
    # The kind comes first, where an inherited field would otherwise stand before it.
    return {
        "kind": {**chosen["properties"]["kind"], "enum": list(members)},
        **{k: v for k, v in chosen["properties"].items() if k != "kind"},
    }


def item_of(node: Node, index: int) -> Node:
    """Schema of a list's item; an empty one beyond a fixed list's end."""
    node = resolve(node)
    fixed = node.get("prefixItems", [])
    return resolve(fixed[index] if index < len(fixed) else node.get("items") or {})


def child(node: Node, value: object, part: str | int) -> tuple[Node, Any]:
    """Schema and value (the default where none is written) one step down; empty and None where there is nothing."""
    if isinstance(part, int):
        return item_of(node, part), value[part] if isinstance(value, list) and 0 <= part < len(value) else None
    below = resolve(fields_of(node, value).get(part, {}))
    return below, value.get(part, below.get("default")) if isinstance(value, dict) else below.get("default")


def at(path: Path, tree: object) -> tuple[Node, Any]:
    """Schema and value at a path of a tree."""
    node, value = root(), tree
    for part in path:
        node, value = child(node, value, part)
    return node, value


def paths(node: Node, value: object, path: Path = ()) -> Iterator[Path]:
    """Every field outside lists of a tree whose kinds are chosen."""
    for name in fields_of(node, value):
        yield (*path, name)
        yield from paths(*child(node, value, name), (*path, name))


def expected(node: Node) -> str:
    """What a field takes, in plain words."""
    node = resolve(node)
    if "enum" in node or "const" in node:
        choices = node.get("enum") or [node["const"]]
        return f"one of {', '.join(choices)}" if len(choices) > 1 else str(choices[0])
    if "pattern" in node:
        return PATTERNS.get(node["pattern"], f"text that matches {node['pattern']}")
    match node.get("type"):
        case "integer" | "number" as kind:
            limits = " and ".join(words.format(_short(node[key])) for key, words in LIMITS if key in node)
            return f"{'an integer' if kind == 'integer' else 'a number'} {'of ' * limits.startswith('at')}{limits}".strip()
        case "boolean":
            return "true or false"
        case "string":
            return "text"
        case "array":
            return _expected_list(node)
    return f"a block whose kind is {' or '.join(kinds(node))}" if kinds(node) else "a block of fields"


def _expected_list(node: Node) -> str:
    item = expected(item_of(node, 0)).removeprefix("an ").removeprefix("a ")
    noun, _, rest = item.partition(" ")
    items = f"{noun}s {rest}".strip()
    if "prefixItems" in node:
        return f"a list of {len(node['prefixItems'])} {items}"
    least = node.get("minItems", 0)
    return f"a list of {items}" + (f", at least {least} of them" if least else "")


def got(value: object, *, node: Node | None = None) -> str:
    """A value as a person would write it; text is called so where `node` takes something else."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a block"
        case list():
            return f"a list of {len(value)}"
        case str():
            quoted = json.dumps(value if len(value) <= 60 else value[:57] + "...", ensure_ascii=False)
            return quoted if (node or {}).get("type") == "string" else f"the text {quoted}"
        case bool():
            return "true" if value else "false"
    return _short(value)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` for the nearest of the known names, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def dotted(path: Sequence[str | int]) -> str:
    """A path as text: `task.encoder.levels[0].radius`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and value.is_integer() and abs(value) < 1e6 else str(value)
