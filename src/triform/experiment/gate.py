"""The one gate: a plain tree becomes an `Experiment`, or one error that lists every mistake in plain words."""

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import ValidationError

from triform.experiment.checks import clashes
from triform.experiment.document import Document, Tree
from triform.experiment.schema import (
    Node,
    Path,
    adapter,
    at,
    child,
    default_kind,
    dotted,
    expected,
    fields_of,
    got,
    kinds,
    nearest,
    paths,
    root,
)
from triform.experiment.tree import Data, Experiment


def check(document: Document) -> Experiment:
    """The document's tree as an `Experiment`.

    Raises:
        ExperimentError: every mistake noted so far and found here, a line each.
    """
    _choose_kinds(document, root(), document.tree, ())
    for path in _not_finite(document.tree, ()):
        document.report(path, f"got {got(at(path, document.tree)[1])}, expected a finite number")
    experiment: Experiment | None = None
    try:
        experiment = _validate(document.tree)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            _explain(document, found["type"], found["loc"])
    _report_clashes(document, experiment)
    document.raise_mistakes()
    assert experiment is not None, "every error of pydantic is a mistake"
    return experiment


def _validate(tree: Tree) -> Experiment:
    # JSON, because strict mode then takes lists for tuples and blocks for classes, but no text or bool for a number.
    return adapter().validate_json(json.dumps(tree), strict=True)


def _report_clashes(document: Document, experiment: Experiment | None) -> None:
    """Report what does not fit; where some fields are wrong in themselves, only between the others."""
    wrong = [_removable(mistake.path) for mistake in document.mistakes if mistake.path]
    rest = _without(document.tree, wrong) if experiment is None else experiment
    for clash in clashes(rest) if rest else ():
        if not any(path[: len(bad)] == bad for bad in wrong for path in (clash.path, clash.beside)):
            document.report(clash.path, clash.text)


def _removable(path: Path) -> Path:
    """The field to take out of a tree for a mistake at `path`: the list for its item, the block for its kind."""
    outside = tuple(itertools.takewhile(lambda part: isinstance(part, str), path))
    return outside[:-1] if len(outside) > 1 and outside[-1] == "kind" else outside


def _without(tree: Tree, wrong: list[Path]) -> Experiment | None:
    """The experiment with defaults for the wrong fields; None where there is no default."""
    rest: Tree = json.loads(json.dumps(tree))
    for path in wrong:
        block: Any = rest
        for part in path[:-1]:
            block = block.get(part) if isinstance(block, dict) else None
        if isinstance(block, dict):
            block.pop(path[-1], None)
    try:
        return _validate({"name": "unnamed", **rest})
    except ValidationError:
        return None


def from_resolved(tree: dict[str, Any]) -> Experiment:
    """Return the experiment of a plain tree, as `resolved` gives it and a run folder keeps it.

    Raises:
        ExperimentError: the tree is not an experiment of this version; every mistake is listed.
    """
    return check(Document(file="the resolved experiment", tree=json.loads(json.dumps(tree))))


def data_of(tree: dict[str, Any]) -> Any:
    """Return the data settings of a plain tree that a plan kept; it was checked when the plan was made."""
    return TypeAdapter(Data).validate_json(json.dumps(tree))


def _choose_kinds(document: Document, node: Node, value: object, path: Path) -> None:
    """Write the default kind into blocks that name none; pydantic needs it, and says nothing where a union has one member."""
    if isinstance(value, dict):
        if kinds(node) and "kind" not in value:
            kind = default_kind(node)
            if kind is None:
                document.report((*path, "kind"), f"is missing, expected {expected(fields_of(node, value)['kind'])}")
            else:
                value["kind"] = kind
        for key in set(value) & set(fields_of(node, value)):
            _choose_kinds(document, *child(node, value, key), (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            _choose_kinds(document, *child(node, value, index), (*path, index))


def _not_finite(value: object, path: Path) -> Iterator[Path]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    elif isinstance(value, dict | list):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _not_finite(below, (*path, key))


def _explain(document: Document, kind: str, location: tuple[str | int, ...]) -> None:
    """One of pydantic's errors in plain words."""
    if kind == "json_invalid":  # a word of the command line that is not UTF-8
        document.report((), "holds text that is not Unicode, expected UTF-8")
        return
    path = _without_kinds(location, document.tree)
    node, value = at(path, document.tree)
    parent, block = at(path[:-1], document.tree)
    if kind.startswith("union_tag"):
        path = (*path, "kind")
        node, value = at(path, document.tree)
    if kind == "unexpected_keyword_argument":
        document.report(path, _unknown(document, path, fields_of(parent, block)))
    elif kind == "missing" and not isinstance(path[-1], int):
        document.report(path, f"is missing, expected {expected(node)}")
    elif kind in ("missing", "too_long") and isinstance(path[-1], int):
        document.report(path[:-1], f"got {got(block)}, expected {expected(parent)}")
    else:
        hint = nearest(value, node.get("enum") or [node["const"]]) if isinstance(value, str) and {"enum", "const"} & set(node) else ""
        document.report(path, f"got {got(value, node=node)}, expected {expected(node)}{hint}")


def _without_kinds(location: tuple[str | int, ...], tree: object) -> Path:
    """Pydantic puts the kind of each union's member into a location; a path has only fields and items."""
    path: Path = ()
    node, value, parts = root(), tree, list(location)
    while parts:
        part = parts.pop(0)
        node, value = child(node, value, part)
        path = (*path, part)
        if "oneOf" in node and parts:
            parts.pop(0)
    return path


def _unknown(document: Document, path: Path, known: Node) -> str:
    hint = nearest(str(path[-1]), known)
    elsewhere = [] if hint else [dotted(other) for other in paths(root(), document.tree) if other[-1] == path[-1]]
    if elsewhere:
        return f"is no field here; it belongs to {' or '.join(elsewhere)}"
    return f"is no field{hint or ', expected one of ' + ', '.join(known)}"
