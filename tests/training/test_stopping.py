"""A trainer hears signals and the end of its supervisor; each in a process of its own, because handlers are the process's."""

import os
import signal
import subprocess
import sys

import pytest

from triform.training.stopping import LIVENESS_FD, StopRequest

PROGRAM = """
import sys, time
from triform.training.stopping import StopRequest
stop = StopRequest()
stop.listen()
print("listening", flush=True)
deadline = time.monotonic() + float(sys.argv[1])
while stop() is None and time.monotonic() < deadline:
    time.sleep(0.01)
print("heard", stop(), flush=True)
time.sleep(float(sys.argv[2]))
"""


def start(wait_s=30.0, linger_s=0.0, **options):
    command = [sys.executable, "-c", PROGRAM, str(wait_s), str(linger_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    assert process.stdout.readline() == "listening\n"
    return process


def ended(process):
    told, _ = process.communicate(timeout=30)
    return process.returncode, told


def test_nothing_is_asked_at_first():
    assert StopRequest()() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_remembered_by_its_name(number):
    process = start()
    process.send_signal(number)
    assert ended(process) == (0, f"heard {number.name}\n")


def test_a_second_ctrl_c_ends_the_process_at_once():
    process = start(linger_s=30.0)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "heard SIGINT\n"
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "")


def test_a_second_sigterm_does_not():
    process = start(linger_s=0.3)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "heard SIGTERM\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (0, "")


def supervised(**options):
    """A process under a supervisor's pipe, and the end that the supervisor holds."""
    read_end, write_end = os.pipe()
    process = start(env={**os.environ, LIVENESS_FD: str(read_end)}, pass_fds=(read_end,), **options)
    os.close(read_end)
    return process, write_end


def test_the_end_of_the_supervisor_is_heard():
    process, held = supervised()
    os.close(held)
    assert ended(process) == (0, "heard its supervisor is gone\n")


def test_under_a_supervisor_ctrl_c_is_not_for_the_trainer():
    process, held = supervised(wait_s=0.5)
    process.send_signal(signal.SIGINT)
    assert ended(process) == (0, "heard None\n")
    os.close(held)
