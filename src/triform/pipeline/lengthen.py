"""Change how long a run is to be, from where it stands."""

from pathlib import Path

from triform.data.order import steps_per_epoch
from triform.errors import DataError, UsageError
from triform.experiment import from_resolved
from triform.pipeline.prepare import load_manifest
from triform.pipeline.train import samples_per_step
from triform.run.commit import newest_good
from triform.run.folder import RunFolder
from triform.run.horizon import add_horizon
from triform.run.ownership import acquire_lock


def set_epochs(folder: RunFolder, prepared_dir: Path, num_epochs: int, *, key: str) -> int:
    """Record the new length; the schedule uses it from the newest commit's step on, which comes back.

    Raises: UsageError: the run is finished, or past that length. RunInUse: a live trainer would not see it.
    """
    identity, manifest = folder.identity(), load_manifest(prepared_dir)
    if identity is None or manifest is None:
        raise DataError(f"{folder.path} is no run, or {prepared_dir} is not prepared", do="name an existing run")
    if folder.result() is not None:
        raise UsageError(f"{folder.path} is finished, and finished runs are final", do="start a new run from its last checkpoint")
    lock = acquire_lock(folder)
    try:
        found = newest_good(folder)
        step = found[0].step if found else 0
        per_epoch = steps_per_epoch(manifest.count("train"), samples_per_step(from_resolved(identity["experiment"]).training))
        if num_epochs * per_epoch < step:
            raise UsageError(
                f"{num_epochs} epochs are {num_epochs * per_epoch} steps, and the run is at step {step}",
                expected=f"{-(-step // per_epoch)} epochs at least",
                do="use `triform stop` to end it where it is",
            )
        add_horizon(folder, num_epochs, from_step=step, key=key)
        return step
    finally:
        lock.release()
