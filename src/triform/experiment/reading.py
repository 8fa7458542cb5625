"""YAML 1.2 text to plain values with the place of each. ruamel.yaml reads it: PyYAML takes `1e-3` for text and `no` for false."""

from contextlib import suppress
from pathlib import Path as FilePath
from typing import Any

from triform.errors import ExperimentError
from triform.experiment.document import Document, Origin
from triform.experiment.schema import Path, dotted, got, nearest

TAG = "tag:yaml.org,2002:"
NUMBERS = {"int", "float", "bool", "null"}
# A date stands for its own text: no field is a date. The merge key `<<` is YAML 1.1 and becomes an unknown key.
TEXTS = {"str", "timestamp", "merge", "value"}
MOST_VALUES = 10_000


class NotYaml(Exception):
    """Text that is not YAML: what is wrong, and where (line and column from 1)."""

    def __init__(self, problem: str, *, line: int = 1, column: int = 1) -> None:
        super().__init__(f"not YAML: {problem}")
        self.line, self.column = line, column


def read_file(path: FilePath) -> Document:
    """Read an experiment file.

    Raises:
        ExperimentError: the file is missing, is not UTF-8, or is not YAML.
    """
    document = Document(file=str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ExperimentError(f"{path} is no file", expected="an experiment file", do=_files_near(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path} can't be read: {error}", expected="a YAML file in UTF-8") from None
    try:
        tree = read_text(text, document=document)
    except NotYaml as error:
        document.report((), str(error), origin=Origin("", error.line, error.column))
    else:
        document.tree = tree if isinstance(tree, dict) else {}
        if not isinstance(tree, dict):
            document.report((), f"got {got(tree)}, expected fields: name, data and task")
            document.raise_mistakes()
        return document
    document.raise_mistakes()
    return document


def read_text(text: str, *, document: Document, path: Path = (), option: str = "") -> Any:
    """Read YAML into plain values; note origins and mistakes in `document`, below `path` (and under `option`).

    Raises:
        NotYaml: with the place.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
        return None if node is None else _Reader(yaml, document, option).value(node, path)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(words for words in (error.context, error.problem) if words)
        raise NotYaml(problem, line=mark.line + 1 if mark else 1, column=mark.column + 1 if mark else 1) from None
    except YAMLError as error:
        raise NotYaml(str(error).splitlines()[0]) from None
    except RecursionError:
        raise NotYaml("it is nested too deeply") from None


class _Reader:
    """Turns composed nodes into values. Nodes, not ruamel's constructor, so that every duplicate and place is seen."""

    def __init__(self, yaml: Any, document: Document, option: str) -> None:
        self.yaml, self.document, self.option, self.count = yaml, document, option, 0

    def value(self, node: Any, path: Path, *, mark: Any = None) -> Any:
        """The node's value; `mark` is the place of its key."""
        self.count += 1
        if self.count > MOST_VALUES or len(path) > 20:
            raise NotYaml("an alias repeats too much, or holds itself")
        mark = mark or node.start_mark
        if not self.option:
            self.document.origins[path] = self._origin(mark)
        match node.id, node.tag.removeprefix(TAG):
            case "mapping", "map":
                return self._mapping(node, path)
            case "sequence", "seq":
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            case "scalar", kind if kind in TEXTS:
                return node.value
            case "scalar", kind if kind in NUMBERS:
                with suppress(ValueError, KeyError):  # `!!int x`, or more digits than Python reads
                    return self.yaml.constructor.construct_object(node)
        written = f"{node.tag.replace(TAG, '!!')} {str(node.value)[:40]}"
        self.document.report(path, f"got {written}, expected a plain value", origin=self._origin(mark))
        return None

    def _origin(self, mark: Any) -> Origin:
        return Origin(self.option) if self.option else Origin("", mark.line + 1, mark.column + 1)

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, below in node.value:
            name = key.value if key.id == "scalar" else ""
            origin = self._origin(key.start_mark)
            if not name:
                self.document.report((), f"got a key that is no name in {dotted(path) or 'the file'}", origin=origin)
            elif name in found:
                first = self.document.origins.get((*path, name), Origin()).line
                self.document.report((*path, name), "is written twice" + (f", first in line {first}" if first else ""), origin=origin)
            else:
                found[name] = self.value(below, (*path, name), mark=key.start_mark)
        return found


def _files_near(path: FilePath) -> str:
    """Which experiment files stand near a missing one."""
    folders = [folder for folder in (path, path.parent, FilePath("experiments")) if folder.is_dir()]
    found = sorted({str(file) for folder in folders for file in folder.iterdir() if file.suffix in (".yaml", ".yml")})
    if not found:
        return "write the path of an experiment file (.yaml)"
    close = nearest(str(path), found) or nearest(path.stem, {FilePath(file).stem: file for file in found})
    shown = ", ".join(found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")
    return f"take one of {shown}{close}"
