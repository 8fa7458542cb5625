"""What a trainer says of itself while it runs, and how it ended: for people and supervisors, never for resuming."""

from triform.files import replace_quickly, write_durably
from triform.run.folder import Json, RunFolder, read_json, to_json
from triform.run.ownership import newest_generation


def write_status(folder: RunFolder, generation: int, status: Json) -> None:
    """Replace the status of this generation."""
    replace_quickly(folder.status(generation), to_json(status))


def read_status(folder: RunFolder) -> Json | None:
    """The newest generation's status."""
    return read_json(folder.status(newest_generation(folder)))


def write_outcome(folder: RunFolder, generation: int, outcome: Json) -> None:
    """Record how this generation ended; a generation without this file was killed."""
    write_durably(folder.outcome(generation), to_json(outcome))


def read_outcome(folder: RunFolder, generation: int) -> Json | None:
    return read_json(folder.outcome(generation))
