"""`triform` with the tests' NumPy backend in PyTorch's place: everything else is the real road.

TINY_KILL_AT=n ends the process by SIGKILL just before its n-th write, fsync, link, rename or removal; TINY_COUNT_TO=FILE writes
how many there were.
"""

import atexit
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy_backend

from triform.pipeline import build

WATCHED = ("fsync", "replace", "link", "write", "unlink")


def build_backend(experiment, *, num_threads, device=None):
    return numpy_backend.NumpyBackend(num_points=experiment.data.num_points, seed=experiment.seed), device or "cpu"


def watch_writes():
    count, deadly = 0, int(os.environ.get("TINY_KILL_AT", "0"))

    def watched(function):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in WATCHED:
        setattr(os, name, watched(getattr(os, name)))
    if place := os.environ.get("TINY_COUNT_TO"):
        atexit.register(lambda: Path(place).write_text(str(count)))


def main():
    build.build_backend = build_backend
    watch_writes()
    from triform import cli

    cli.main()


if __name__ == "__main__":
    main()
