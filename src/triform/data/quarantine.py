"""Bad files: each is set aside with its reason, and only too many of them stop the preparation."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from triform.errors import DataError

_NUM_LISTED = 20


class BadFile(Exception):
    """One raw file can't be used; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that was set aside."""

    name: str
    member: str
    reason: str


def as_lines(quarantined: Sequence[Quarantined]) -> bytes:
    """The content of `quarantine.jsonl`: one JSON object a file."""
    return "".join(json.dumps(asdict(file)) + "\n" for file in quarantined).encode()


def refuse_too_many(quarantined: Sequence[Quarantined], num_files: int, *, max_fraction: float) -> None:
    """Raises: DataError: more than `max_fraction` of the files are bad; it lists the first 20 with their reasons."""
    if len(quarantined) <= max_fraction * num_files:
        return
    listed = [f"  {file.member}: {file.reason}" for file in quarantined[:_NUM_LISTED]]
    rest = len(quarantined) - len(listed)
    listed += [f"  and {rest} more"] if rest else []
    raise DataError(
        f"{len(quarantined)} of {num_files} files can't be used:\n" + "\n".join(listed) + "\n",
        expected=f"at most {max_fraction:.3g} of them, as --max-quarantine-fraction says",
        do=f"repair or remove these files, or allow more: --max-quarantine-fraction {_round_up(len(quarantined) / num_files)}",
    )


def _round_up(fraction: float) -> float:
    return min(1.0, -(-fraction * 100 // 1) / 100)
