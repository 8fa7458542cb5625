"""Words of the command line that change fields of a tree: `--training.batch-size 64`, `--batch-size=64`, `--no-rotate-up`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from triform.experiment.document import Document, Origin
from triform.experiment.reading import NotYaml, read_text
from triform.experiment.schema import Path, at, default_kind, dotted, fields_of, kinds, nearest, paths, root


@dataclass(frozen=True, slots=True)
class _Option:
    flag: str
    value: str | None

    @property
    def name(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")


class _Unknown(Exception):
    """No field, or more than one, goes by an option's name; the text says which."""


def apply(document: Document, words: Sequence[str]) -> None:
    """Set the fields that the words name; note in `document` what can't be set.

    Kinds are set first, so that the order of the words does not matter.
    """
    options = list(_split(document, words))
    for option in sorted(options, key=lambda option: option.name.split(".")[-1] != "kind"):
        try:
            _apply_one(document, option)
        except (_Unknown, NotYaml) as error:
            document.report((), str(error), origin=Origin(option.flag))


def _split(document: Document, words: Sequence[str]) -> Iterator[_Option]:
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if not re.match(r"--[A-Za-z]", flag):
            document.report((), "belongs to no option, expected --field value", origin=Origin(word))
        elif equals:
            yield _Option(flag, value)
        else:
            yield _Option(flag, rest.pop(0) if rest and not rest[0].startswith("--") else None)


def _apply_one(document: Document, option: _Option) -> None:
    path, negated = _find(document.tree, option)
    node, _ = at(path, document.tree)
    if node.get("type") == "boolean" and option.value is None:
        _set(document, path, not negated, option=option)
    elif negated:
        raise _Unknown(f"got the value {option.value}, expected none after --no-")
    elif option.value is None:
        raise _Unknown("got no value, expected one after it")
    elif path[-1] == "kind":
        _switch(document, path[:-1], option.value, option=option)
    elif node.get("type") == "string":
        _set(document, path, option.value, option=option)
    else:
        _set(document, path, read_text(option.value, document=document, path=path, option=option.flag), option=option)


def _find(tree: Mapping[str, Any], option: _Option) -> tuple[Path, bool]:
    """The path that an option names, and whether it says no to it."""
    try:
        return _path(tree, option.name), False
    except _Unknown:
        positive = re.sub(r"^no_|(?<=\.)no_(?=[^.]*$)", "", option.name)
        if positive == option.name:
            raise
    path = _path(tree, positive)
    if at(path, tree)[0].get("type") != "boolean":
        raise _Unknown(f"{_flag(path)} is no switch, expected --field value")
    return path, True


def _path(tree: Mapping[str, Any], name: str) -> Path:
    """The path that a name means: the whole path, or its last words where only one field has them; numbers count in lists."""
    parts = name.split(".")
    named = next((index for index, part in enumerate(parts) if part.isdecimal()), len(parts))
    words = tuple(parts[:named])
    known = list(paths(root(), tree))
    found = [words] if words in known else [path for path in known if path[-len(words) :] == words]
    if len(found) == 1:
        return _inside(tree, found[0], parts[named:])
    if found:
        raise _Unknown(f"names more than one field: {', '.join(map(_flag, found))}; write one of these")
    flags = [_flag(path[cut:]) for path in known for cut in (0, -1)]
    raise _Unknown("is no field" + (_elsewhere(tree, known, words) or nearest(_flag(words), flags)))


def _elsewhere(tree: Mapping[str, Any], known: Sequence[Path], words: Path) -> str:
    """Which blocks would have a field if they were of another kind."""
    hints = ""
    for path in known:
        whole = (*path, words[-1])
        members = kinds(at(path, tree)[0]).items()
        having = [kind for kind, member in members if words[-1] in member["properties"]]
        if having and whole not in known and whole[-len(words) :] == words:
            hints += f"; {dotted(path)} has it where its kind is {' or '.join(having)}"
    return hints


def _inside(tree: Mapping[str, Any], path: Path, parts: Sequence[str]) -> Path:
    """A path that goes on into a list."""
    for part in parts:
        node, value = at(path, tree)
        step = int(part) if part.isdecimal() else part
        size = len(value) if isinstance(value, list) else 0
        if isinstance(step, int) and step >= size:
            raise _Unknown(f"got item {step}, expected one of the {size} of {dotted(path)}, counted from 0")
        if isinstance(step, str) and step not in fields_of(node, value):
            raise _Unknown(f"is no field{nearest(step, fields_of(node, value))}")
        path = (*path, step)
    return path


def _set(document: Document, path: Path, value: object, *, option: _Option) -> None:
    """Write a value; blocks above it that the tree lacks begin as their defaults."""
    place: Any = document.tree
    for length, part in enumerate(path[:-1], start=1):
        if isinstance(place, dict) and part not in place:
            place[part] = deepcopy(at(path[:length], document.tree)[0].get("default", {}))
        place = place[part]
        if not isinstance(place, list if isinstance(path[length], int) else dict):
            return  # the file's own mistake, which the gate reports
    document.forget(path)
    place[path[-1]] = value
    document.origins[path] = Origin(option.flag)


def _switch(document: Document, path: Path, kind: str, *, option: _Option) -> None:
    """Choose a member of a union; a block of another kind is dropped with all its fields."""
    node, value = at(path, document.tree)
    known = kinds(node)
    if kind not in known:
        raise _Unknown(f'got "{kind}", expected one of {", ".join(known)}{nearest(kind, known)}')
    present = value.get("kind", default_kind(node)) if isinstance(value, dict) else None
    if present != kind:
        _set(document, path, {}, option=option)
        document.origins.pop(path, None)
    _set(document, (*path, "kind"), kind, option=option)


def _flag(path: Path) -> str:
    return "--" + dotted(path).replace("_", "-")
