"""`triform` on the tests' NumPy backend, at a pace that a test sets while it runs.

The file `pace` in the folder PACE_DIR holds the seconds of a step; each step that is trained adds a line (process, step, seconds) to
the file `steps` there before it takes its time.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny"))

import command
from numpy_backend import NumpyBackend

PLACE = Path(os.environ["PACE_DIR"])


class PacedBackend(NumpyBackend):
    """Writes down each step, then takes its time."""

    def train_step(self, batch, step, lr):
        seconds = float((PLACE / "pace").read_text())
        with (PLACE / "steps").open("a") as steps:
            steps.write(f"{os.getpid()} {step} {seconds}\n")
        time.sleep(seconds)
        return super().train_step(batch, step, lr)


if __name__ == "__main__":
    command.numpy_backend.NumpyBackend = PacedBackend
    command.build.build_backend = command.build_backend
    command.main()
