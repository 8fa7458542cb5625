"""Ends the tries of a run that dies again and again on the same spot."""

from triform.errors import DiskFull, LostOwnership, Stopped
from triform.run.commit import commits
from triform.run.folder import RunFolder, read_json
from triform.run.ownership import claims
from triform.run.status import read_outcome

TRIES = 5
BLAMELESS = {Stopped.exit_code, DiskFull.exit_code, LostOwnership.exit_code}


def stuck_at(folder: RunFolder, workflow: str) -> int | None:
    """The step from which the last trainers of `workflow` all went on and died, each after a step or more; None while there is hope.

    Only trainers of this one execution count, so that whoever starts the run again has as many tries again.
    """
    last = [claim for claim in claims(folder) if claim.get("asked_by", {}).get("workflow") == workflow][-TRIES:]
    bases = {claim["base"]["step"] if claim["base"] else 0 for claim in last}
    newest = next((commit.step for commit in commits(folder)), 0)
    if len(last) < TRIES or bases != {newest}:
        return None
    return newest if all(_died_training(folder, claim["generation"], newest) for claim in last) else None


def _died_training(folder: RunFolder, generation: int, base: int) -> bool:
    """True if it trained and then crashed or was killed: an end before its first step proves nothing."""
    outcome, status = read_outcome(folder, generation) or {}, read_json(folder.status(generation)) or {}
    return outcome.get("exit_code") not in BLAMELESS and status.get("step", 0) > base
