"""A run's folder: which file lies where, and which experiment it belongs to."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triform.errors import CannotWrite, ConfigConflict
from triform.files import create_durably, write_durably

Json = dict[str, Any]


def to_json(value: Json) -> bytes:
    """Canonical text: sorted keys, no NaN, one trailing newline."""
    return (json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def read_json(path: Path) -> Json | None:
    """The object in `path`; None where there is no such file or it holds something else."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def sealed(value: Json) -> Json:
    """`value` with the digest of its own text, so that a flipped bit shows."""
    return {**value, "seal": hashlib.sha256(to_json(value)).hexdigest()}


def unsealed(value: Json | None) -> Json | None:
    """What `sealed` was given; None where the seal does not fit."""
    if value is None:
        return None
    body = {key: item for key, item in value.items() if key != "seal"}
    return body if sealed(body) == value else None


@dataclass(frozen=True)
class RunFolder:
    """The names inside `runs/<name>/`."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @property
    def claims(self) -> Path:
        return self.path / "claims"

    @property
    def commits(self) -> Path:
        return self.path / "commits"

    @property
    def checkpoints(self) -> Path:
        return self.path / "ckpt"

    @property
    def best_model(self) -> Path:
        return self.path / "checkpoints" / "best_model.npz"

    @property
    def horizons(self) -> Path:
        return self.path / "control"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def claim(self, generation: int) -> Path:
        return self.claims / f"{generation:08d}.json"

    def metrics(self, generation: int) -> Path:
        return self.path / "metrics" / f"g{generation:08d}.jsonl"

    def status(self, generation: int) -> Path:
        return self.path / f"status-g{generation:08d}.json"

    def outcome(self, generation: int) -> Path:
        return self.path / f"outcome-g{generation:08d}.json"

    def log(self, generation: int) -> Path:
        return self.path / "logs" / f"g{generation:08d}.log"

    def identity(self) -> Json | None:
        """What `found` recorded, or None before that."""
        return read_json(self.path / "run.json")

    def found(self, identity: Json) -> Json:
        """Record whose run this is, once; later calls must bring the same fingerprint.

        Args: identity: `name`, `fingerprint`, `experiment` (resolved tree) and provenance.
        Raises: ConfigConflict: the folder belongs to another experiment.
        """
        try:
            create_durably(self.path / "run.json", to_json(identity))
        except OSError as error:
            raise CannotWrite(
                f"{self.path} can't be a run's folder ({error.strerror})",
                expected="a folder, or a free name",
                do="give another --output-dir",
            ) from error
        known = self.identity()
        if known is None:
            raise CannotWrite(
                f"{self.path / 'run.json'} is not readable as a run's identity", do="move this folder away or give another --output-dir"
            )
        self.refuse_other(identity["fingerprint"], identity["experiment"])
        return known

    def forget(self) -> None:
        """Free the name of a run that never began."""
        (self.path / "run.json").unlink(missing_ok=True)

    def refuse_other(self, fingerprint: str, experiment: Json) -> None:
        """Raises: ConfigConflict: the folder belongs to a run of another experiment."""
        known = self.identity()
        if known is not None and known["fingerprint"] != fingerprint:
            raise ConfigConflict(
                f"The run folder {self.path} belongs to another experiment: {_differences(known['experiment'], experiment)}",
                expected="the settings the run began with (its length alone may change: `triform set-epochs`)",
                do="give the run another name (`--name NEW`) or undo the change",
            )

    def result(self) -> Json | None:
        """The finished run's result, or None while it is not finished."""
        return read_json(self.path / "final" / "result.json")

    def finish(self, model: bytes, result: Json) -> None:
        """Write the final model, then the result that makes the run final."""
        write_durably(self.path / "final" / "model.safetensors", model)
        write_durably(self.path / "final" / "result.json", to_json(result))


def _differences(old: Json, new: Json, prefix: str = "") -> str:
    rows = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            rows.append(_differences(before, after, f"{prefix}{key}."))
        elif before != after:
            rows.append(f"{prefix}{key} was {before!r} and is now {after!r}")
    return "; ".join(row for row in rows if row)
