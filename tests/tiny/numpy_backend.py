"""A backend in NumPy: it proves that the loop knows no framework, and makes a whole run a matter of seconds.

Its model is one cloud that is predicted for everything, learned by Adam on the mean squared distance to the batch.
"""

import os
import random
import signal
import threading
import time

import numpy as np


class NumpyBackend:
    """Learns one cloud of `num_points` points."""

    def __init__(self, *, num_points: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        cloud = generator.normal(0.0, 0.3, (num_points, 3)).astype(np.float32)
        self.seed, self.steps_here = seed, 0
        self.arrays = {
            "model/cloud": cloud,
            "model/mean": np.zeros(3, np.float32),
            "m/cloud": np.zeros_like(cloud),
            "v/cloud": np.zeros_like(cloud),
            "updates": np.array(0, np.int64),
        }

    def train_step(self, batch, step, lr):
        self.steps_here += 1
        if self.steps_here == int(os.environ.get("TINY_DIE_AFTER", "0")):
            delay_s = random.uniform(0.0, 0.02)  # before, within or after the commit of the step before
            threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
        time.sleep(float(os.environ.get("TINY_SLEEP", "0")))
        noise = np.random.default_rng([self.seed, step]).normal(0.0, 1e-3, 3).astype(np.float32)
        points, cloud = batch["points"] + noise, self.arrays["model/cloud"]
        difference = cloud - points.mean(axis=0)
        gradient = 2.0 * difference / len(cloud)
        self._adam(gradient, lr)
        self.arrays["model/mean"] *= np.float32(0.9)
        self.arrays["model/mean"] += np.float32(0.1) * points.mean(axis=(0, 1))
        loss = float(np.square(difference).sum(axis=1).mean())
        if os.environ.get("TINY_NAN_AT") == str(step):
            loss = float("nan")
        return {"loss": loss}

    def _adam(self, gradient, lr):
        updates = int(self.arrays["updates"]) + 1
        first, second = self.arrays["m/cloud"], self.arrays["v/cloud"]
        first *= np.float32(0.9)
        first += np.float32(0.1) * gradient
        second *= np.float32(0.999)
        second += np.float32(0.001) * np.square(gradient)
        size = lr * (1 - 0.999**updates) ** 0.5 / (1 - 0.9**updates)
        self.arrays["model/cloud"] -= np.float32(size) * first / (np.sqrt(second) + np.float32(1e-8))
        self.arrays["updates"][...] = updates

    def predict(self, batch):
        count = len(batch["points"])
        cloud = self.arrays["model/cloud"] + self.arrays["model/mean"]
        return {"reconstruction": np.repeat(cloud[None], count, axis=0), "embedding": batch["points"].mean(axis=1)}

    def state(self):
        return dict(self.arrays)

    def load_state(self, state):
        assert state.keys() == self.arrays.keys()
        self.arrays = {name: np.array(array) for name, array in state.items()}

    def close(self):
        pass
