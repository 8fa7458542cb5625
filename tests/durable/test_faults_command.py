"""`triform run` as a person uses it: interrupted, killed with everything that belongs to it, sent to the background."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from stage import SHORT, STEPS, Outcome, outcome, paced, set_pace, steps_of, until

from triform.durable import server_binary
from triform.run.commit import commits
from triform.run.folder import RunFolder

pytestmark = [pytest.mark.server, pytest.mark.skipif(server_binary.find() is None, reason="no Temporal server binary")]


class Person:
    """Types `triform run` again and again, always the same; owns the server that comes with it."""

    def __init__(self, experiment_file: Path, place: Path) -> None:
        self.experiment_file, self.place = experiment_file, place
        self.folder = RunFolder(place / "run")
        self.typed: list[subprocess.Popen[str]] = []

    def types(self, *more: str, pace: float = 0.0) -> subprocess.Popen[str]:
        """Start the command; its output goes to the file `said`."""
        environment = paced(self.place / "pace", seconds=pace) | {
            "TRIFORM_STATE_DIR": str(self.place / "state"),
            "TRIFORM_POLICIES": json.dumps(asdict(SHORT)),
        }
        command = [sys.executable, "-m", "triform", *self.words, *more]
        with (self.place / "said").open("a") as said:
            self.typed.append(subprocess.Popen(command, env=environment, stdout=said, stderr=said, text=True, cwd=self.place))
        return self.typed[-1]

    @property
    def words(self) -> list[str]:
        return ["run", str(self.experiment_file), "--output-dir", str(self.folder.path)]

    @property
    def said(self) -> str:
        return (self.place / "said").read_text()

    @property
    def steps(self) -> list[int]:
        return [done.step for done in steps_of(self.place / "pace")]

    async def at_step(self, step: int) -> None:
        await until(lambda: self.steps and self.steps[-1] >= step and commits(self.folder))

    def processes(self) -> list[psutil.Process]:
        """All that belongs to the run: the command, its worker, the trainer, the server and the server's keeper."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.place) in " ".join(process.cmdline()) + process.cwd() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return [process for process in found if process.pid != os.getpid()]


@pytest.fixture
def person(tiny_experiment: Path, tmp_path: Path) -> Iterator[Person]:
    made = Person(tiny_experiment, tmp_path)
    yield made
    deadline = time.monotonic() + 30
    while made.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    left = made.processes()
    for process in left:
        process.kill()
    for command in made.typed:
        command.wait()
    assert not left, f"left behind: {left}; said:\n{made.said}"


async def ended(command: "subprocess.Popen[str]") -> int:
    await until(lambda: command.poll() is not None, seconds=90)
    return int(command.returncode)


async def test_interrupted_it_commits_names_the_command_and_leaves_nothing_behind(person: Person) -> None:
    command = person.types(pace=0.1)
    await person.at_step(8)
    command.send_signal(signal.SIGINT)
    assert await ended(command) == 75
    step = commits(person.folder)[0].step
    assert step == person.steps[-1] + 1 < STEPS
    assert f"the newest checkpoint is at step {step}" in person.said
    assert f"\nTo go on: triform {shlex.join(person.words)}\n" in person.said
    await until(lambda: not person.processes(), seconds=30)


async def test_killed_with_server_worker_and_trainer_the_same_command_goes_on(person: Person, undisturbed: Outcome) -> None:
    person.types(pace=0.1)
    await person.at_step(8)
    belonging = person.processes()
    assert len(belonging) == 5, belonging
    for process in belonging:
        process.kill()
    await until(lambda: not person.processes(), seconds=30)
    assert await ended(person.types()) == 0, person.said
    assert outcome(person.folder.path) == undisturbed
    assert person.folder.report.exists()


@pytest.mark.long
async def test_interrupted_twice_it_stops_at_once_and_its_trainer_commits_alone(person: Person, undisturbed: Outcome) -> None:
    command = person.types(pace=0.1)
    await person.at_step(6)
    set_pace(person.place / "pace", 8.0)
    await until(lambda: steps_of(person.place / "pace")[-1].seconds == 8.0)
    command.send_signal(signal.SIGINT)
    await until(lambda: "Ctrl-C again" in person.said)
    begun = time.monotonic()
    command.send_signal(signal.SIGINT)
    assert await ended(command) == 130
    assert time.monotonic() - begun < 4, "it does not wait for the step"
    set_pace(person.place / "pace", 0.0)
    await until(lambda: not person.processes(), seconds=60)
    assert commits(person.folder)[0].step == person.steps[-1] + 1
    assert await ended(person.types()) == 0
    assert outcome(person.folder.path) == undisturbed
    assert person.steps == list(range(STEPS))


@pytest.mark.long
async def test_a_killed_worker_is_replaced_by_the_command_that_watches(person: Person, undisturbed: Outcome) -> None:
    command = person.types(pace=0.1)
    await person.at_step(8)
    workers = [process for process in person.processes() if "worker" in process.cmdline()]
    assert len(workers) == 1
    workers[0].kill()
    assert await ended(command) == 0
    assert outcome(person.folder.path) == undisturbed
    assert person.steps == list(range(STEPS))


@pytest.mark.long
async def test_in_the_background_the_worker_ends_with_its_run_and_the_server_after_it(person: Person, undisturbed: Outcome) -> None:
    command = person.types("--detach", pace=0.2)
    assert await ended(command) == 0
    assert "goes on in the background" in person.said
    assert person.folder.result() is None
    await until(person.folder.report.exists)
    await until(lambda: not person.processes(), seconds=30)
    assert outcome(person.folder.path) == undisturbed
    assert await ended(person.types()) == 0
    assert "is finished" in person.said
    assert not person.processes(), "a finished run needs no server"


@pytest.mark.long
async def test_two_commands_on_one_run_share_it_and_the_second_carries_on(person: Person, undisturbed: Outcome) -> None:
    first = person.types(pace=0.2)
    await person.at_step(5)
    second = person.types(pace=0.2)
    await until(lambda: person.said.count("Temporal UI") == 2)
    first.send_signal(signal.SIGINT)
    assert await ended(first) == 75
    assert await ended(second) == 0
    assert outcome(person.folder.path) == undisturbed
    assert person.steps == list(range(STEPS))
