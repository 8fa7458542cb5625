"""`triform` with the tests' NumPy backend in PyTorch's place: everything else is the real road.

TINY_KILL_AT=n ends the process by SIGKILL just before its n-th open, write, fsync, link, rename or removal in the run's folder;
TINY_COUNT_TO=FILE writes how many there were. TINY_COMMITS=n puts that death off until n checkpoints are committed, so that a loaded
machine, whose thread commits late, dies later.

TINY_DIE_AFTER=n ends it by SIGKILL in its n-th step, a random moment of up to 20 ms later.

A checkpoint that comes due while the one before is being written waits for it, where a real training would skip it: which steps are
committed is then a matter of steps, not of the machine's load.

With the word `serve` it stays and takes commands from standard input, a JSON line each, and forks a process for each: what is
imported once (a second) is not imported again.
"""

import atexit
import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy_backend

import triform.files
import triform.run.commit
import triform.run.metrics_log
from triform.pipeline import build
from triform.training.checkpoint import Checkpointer

WATCHED = ("open", "write", "fsync", "replace", "link", "unlink")


def build_backend(experiment, facts, *, num_threads, device=None):
    return numpy_backend.NumpyBackend(num_points=facts["num_points"], seed=experiment.seed), device or "cpu"


class WatchedOs:
    """The module `os`, except that the calls that change the disk are counted, and the deadly one is never made."""

    def __init__(self):
        self.count, self.deadly = 0, int(os.environ.get("TINY_KILL_AT", "0"))
        self.commits_to_come = int(os.environ.get("TINY_COMMITS", "0"))

    def __getattr__(self, name):
        function = getattr(os, name)
        return self.watched(function) if name in WATCHED else function

    def watched(self, function):
        def call(*args, **kwargs):
            self.count += 1
            if self.deadly and self.count >= self.deadly and self.commits_to_come <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **kwargs)
            self.commits_to_come -= function.__name__ == "link" and Path(args[1]).parent.name == "commits"
            return result

        return call


def wait_for_the_checkpoint_before(offer):
    def call(self, *args):
        self._settle()
        offer(self, *args)

    return call


def watch_writes():
    watched = WatchedOs()
    triform.files.os = triform.run.metrics_log.os = watched
    for name in ("open", "unlink"):
        setattr(Path, name, watched.watched(getattr(Path, name)))
    if place := os.environ.get("TINY_COUNT_TO"):
        atexit.register(lambda: os.write(os.open(place, os.O_WRONLY | os.O_CREAT), str(watched.count).encode()))


def main():
    from triform import cli

    if os.environ.keys() & {"TINY_KILL_AT", "TINY_COUNT_TO"}:
        watch_writes()
    cli.enter()


def serve():
    """Import what a training needs, then fork for each command and print its exit code."""
    import numpy as np
    import tensorboard.summary.writer.event_file_writer  # noqa: F401

    import triform.kernels.nearest_neighbors
    import triform.pipeline.train
    import triform.tasks.point_autoencoder.task  # noqa: F401
    from triform import experiment
    from triform.kernels.farthest_point_sample import farthest_point_sample_one

    # A serial kernel readies numba; a parallel one would start threads, which a fork does not survive.
    farthest_point_sample_one(np.zeros((4, 3), np.float32), 2, start=0)
    tree = {"name": "warm", "data": {"kind": "ply_clouds"}, "task": {"kind": "point_autoencoder"}}
    experiment.load(None, [], defaults=tree)

    for line in sys.stdin:
        command = json.loads(line)
        child = os.fork()
        if child == 0:
            os.environ.update(command["env"])
            sys.argv = ["triform", *command["argv"]]
            with Path(command["log"]).open("ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            main()
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


if __name__ == "__main__":
    build.build_backend = build_backend
    Checkpointer.offer = wait_for_the_checkpoint_before(Checkpointer.offer)
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main()
