"""How a trainer hears that it should stop: signals, and a pipe whose other end dies with its supervisor."""

import ctypes
import os
import signal
import sys
import threading
from types import FrameType

from triform.errors import Stopped

LIVENESS_FD = "TRIFORM_LIVENESS_FD"
PR_SET_PDEATHSIG = 1


class StopRequest:
    """Remembers why a stop was asked for; the loop looks at it after each step."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def listen(self) -> None:
        """Hear SIGTERM, SIGINT (a second one ends the process at once) and the end of the supervisor."""
        signal.signal(signal.SIGTERM, self._on_signal)
        pipe = os.environ.get(LIVENESS_FD)
        if pipe is None:
            signal.signal(signal.SIGINT, self._on_signal)
            return
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which asks by SIGTERM
        threading.Thread(target=self._watch, args=(int(pipe),), daemon=True, name="liveness").start()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    def __call__(self) -> str | None:
        return self.reason

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            os._exit(130)
        self.reason = self.reason or signal.Signals(number).name

    def _watch(self, descriptor: int) -> None:
        """Nobody ever writes to the pipe: reading returns when the supervisor is gone, however it went."""
        os.read(descriptor, 1)
        self.reason = self.reason or "its supervisor is gone"


def end_with_supervisor() -> None:
    """For work that is simply done again: end this process at once when its supervisor is gone. Without a supervisor, nothing."""
    pipe = os.environ.get(LIVENESS_FD)
    if pipe is not None:
        threading.Thread(target=_exit_at_end_of, args=(int(pipe),), daemon=True, name="liveness").start()


def _exit_at_end_of(descriptor: int) -> None:
    os.read(descriptor, 1)
    os._exit(Stopped.exit_code)
