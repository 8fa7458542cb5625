"""What `set-epochs` recorded of a run's length, each change with the step from which it holds."""

from triform.files import create_durably
from triform.run.folder import RunFolder, read_json, to_json


def read_horizons(folder: RunFolder) -> list[tuple[int, int]]:
    """(from_step, num_epochs) of every change, in the order they were made."""
    records = (read_json(path) for path in sorted(folder.horizons.glob("epochs-*.json")))
    return [(record["from_step"], record["num_epochs"]) for record in records if record]


def add_horizon(folder: RunFolder, num_epochs: int, *, from_step: int, key: str) -> None:
    """Record a new length from `from_step` on; `key` names the request, so that asking twice records once."""
    known = list(folder.horizons.glob("epochs-*.json"))
    if any(path.stem.endswith(f"-{key}") for path in known):
        return
    number = len(known)
    record = to_json({"from_step": from_step, "num_epochs": num_epochs, "key": key})
    while not create_durably(folder.horizons / f"epochs-{number:04d}-{key}.json", record):
        number += 1
