"""A tree that is being read: its values, where each was written, and the mistakes found so far."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from triform.errors import ExperimentError
from triform.experiment.schema import Path, dotted

Tree = dict[str, Any]


class Origin(NamedTuple):
    """Where a value was written: a place in a file, or an option of the command line."""

    option: str = ""
    line: int = 0
    column: int = 0


class Mistake(NamedTuple):
    """One line of an error; the order of the fields is the order of the lines: the file from its top, then the command line."""

    origin: Origin
    path: Path
    text: str


@dataclass
class Document:
    """Values, origins and mistakes of one experiment."""

    file: str = ""
    tree: Tree = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def origin(self, path: Path) -> tuple[Origin, Path]:
        """Where the nearest written block or value above `path` stands, and what is left of the path below it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]], path[length:]
        return Origin(), path

    def report(self, path: Path, text: str, *, origin: Origin | None = None) -> None:
        """Note a mistake; a second one at the same path adds nothing."""
        if not path or all(path != known.path for known in self.mistakes):
            self.mistakes.append(Mistake(self.origin(path)[0] if origin is None else origin, path, text))

    def forget(self, path: Path) -> None:
        """Drop the origins below a block that is replaced."""
        self.origins = {known: origin for known, origin in self.origins.items() if known[: len(path)] != path}

    def raise_mistakes(self) -> None:
        """Raise one `ExperimentError` with every mistake, a line each, if there are any."""
        if self.mistakes:
            lines = [self._line(mistake) for mistake in sorted(self.mistakes, key=lambda mistake: mistake.origin)]
            raise ExperimentError("\n".join(lines), do="correct this; `triform config --schema` lists every field")

    def _line(self, mistake: Mistake) -> str:
        origin, path = mistake.origin, mistake.path
        if origin.option:
            below = self.origin(path)[1] if path else ()
            return f"on the command line, {dotted((origin.option, *below))}: {mistake.text}"
        place = f"{self.file}:{origin.line}:{origin.column}" if origin.line else self.file
        return " ".join(part for part in (place, f"{dotted(path)}:" if path else "", mistake.text) if part)
