"""What a person sees in the terminal; plain lines where it is no terminal."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from triform.run.folder import Json, RunFolder, read_json

if TYPE_CHECKING:
    from triform.doctor import Check
    from triform.durable.client import Snapshot

PLAIN_SECONDS = 5.0
console = Console(highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """One line for a person."""
    console.print(line, markup=False)


def duration(seconds: float | None) -> str:
    """`25 h 03 m`, `4 m 10 s` or `12 s`."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{whole // 60} m {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def progress_line(look: "Snapshot") -> str:
    """Epoch and step of total, loss, best, speed, time left, age of the last checkpoint; or what the run waits for."""
    if look.waiting:
        return f"{look.stage}: waiting for {look.waiting}"
    if look.stage != "train" or "step" not in look.details:
        return look.stage
    return training_line(look.details)


def training_line(told: Json) -> str:
    """The same of a trainer's status."""
    checkpoint = told.get("checkpoint") or {}
    age = duration(time.time() - checkpoint["time"]) + " ago" if checkpoint else "none yet"
    best = "-" if told.get("best") is None else f"{told['best']:.4f}"
    return (
        f"train: epoch {told['epoch']}/{told['epochs']}, step {told['step']}/{told['steps']}, loss {told['loss']:.4f}, "
        f"best {told.get('monitor', '')} {best}, {told['samples_per_second']:.1f} samples/s, "
        f"{duration(told['seconds_left'])} left, checkpoint {age}"
    )


class LiveProgress:
    """One line that changes; where output is no terminal, a line every few seconds if it changed."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        # A console of its own: under soft wrap a live line is cut at the terminal's edge instead of wrapped.
        own = Console(highlight=False)
        self._live = Live(console=own, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._last, self._time = "", 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        (self._live.console if self._live else console).print(line, markup=False)

    def show(self, look: "Snapshot") -> None:
        self._show(f"{self.name}  {progress_line(look)}")

    def show_training(self, status: Json) -> None:
        """For a training in this process."""
        self._show(training_line(status))

    def _show(self, line: str) -> None:
        if self._live:
            self._live.update(Text(line))
        elif line != self._last and time.monotonic() - self._time > PLAIN_SECONDS:
            self._last, self._time = line, time.monotonic()
            say(line)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A count that runs along in a terminal and stays silent elsewhere."""
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        yield lambda done, total: live.update(Text(f"{what} {done}/{total}"))


def show_result(result: Json) -> None:
    """The end of a training."""
    best = ", ".join(f"{name} {value:.4f}" for name, value in result["metrics"]["best"].items())
    starts = f"{result['generations']} generation{'s' if result['generations'] != 1 else ''}"
    say(f"Trained {result['steps']} steps in {starts}; best validation: {best or 'none'}")
    if result["not_bit_exact_from"] is not None:
        say(f"Not bit-exact from step {result['not_bit_exact_from']} on: processor, device, framework or packages changed there")
    say(f"Model   {result['model_path']}")
    say(f"State   {result['state_digest']}")


def show_metrics(folder: RunFolder) -> None:
    """The evaluation's headline: the model beside what it is to be measured by."""
    measured = read_json(folder.evaluation / "metrics.json") or {}
    headline = measured.get("headline", {})
    order = measured.get("order", {"splits": [], "columns": []})  # JSON objects are kept sorted
    columns = order["columns"]
    rows = [["split", *columns], *([split, *(_cell(headline[split].get(name)) for name in columns)] for split in order["splits"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + 3 * len(widths) + 1 > console.width:
        rows = [list(row) for row in zip(*rows, strict=True)]  # a split a column, because cut names and numbers say nothing
        rows[0][0] = "metric"
    table = Table(title=measured.get("title", ""), title_justify="left")
    for number, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if number else "left")
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def show_finished(folder: RunFolder) -> bool:
    """Show a run that has its model, its evaluation and its report; False where one is missing."""
    result = folder.result()
    if result is None or not (folder.evaluation / "metrics.json").exists() or not folder.report.exists():
        return False
    say(f"Run {folder.path} is finished.")
    show_result(result)
    show_metrics(folder)
    say(f"Report  {folder.report}")
    return True


def show_status(folder: RunFolder, look: "Snapshot | None", *, as_json: bool) -> None:
    """Where a run stands, by its server and by its folder."""
    from triform.run.commit import commits
    from triform.run.ownership import live_owner
    from triform.run.status import read_status

    result, owner = folder.result(), live_owner(folder)
    told: dict[str, Any] = {
        "run": str(folder.path),
        "finished": result is not None,
        "trainer": owner,
        "newest_commit": next((commit.name for commit in commits(folder)), None),
        "status": read_status(folder),
        "workflow": None if look is None else {"status": look.status, "stage": look.stage, "waiting": look.waiting, **look.details},
    }
    if as_json:
        print(json.dumps(told, indent=1))
        return
    say(f"{folder.path}: {'finished' if result else 'not finished'}, newest checkpoint {told['newest_commit'] or 'none'}")
    say(_doing(folder, look, owner))


def _doing(folder: RunFolder, look: "Snapshot | None", owner: Json | None) -> str:
    """What happens to a run now; if nothing does, how its last trainer ended and what goes on with it."""
    from triform.run.ownership import newest_generation
    from triform.run.status import read_outcome, read_status

    if look is not None and not look.closed:
        return progress_line(look)
    if owner is not None:
        status = read_status(folder)
        return f"process {owner['pid']} on {owner['host']} trains in it; {training_line(status) if status else 'no step is done yet'}"
    ended = "" if look is None or look.status == "NOT_FOUND" else f"its workflow is {look.status.lower()}; "
    if folder.result() is not None and folder.report.exists():
        return f"{ended}its report is {folder.report}"
    if folder.result() is not None:
        return f"{ended}nothing is left to do but `triform evaluate` and `triform report`"
    if generation := newest_generation(folder):
        outcome = read_outcome(folder, generation) or {"kind": "killed", "text": "without a word"}
        ended += f"its last trainer ended: {outcome['kind']} ({outcome['text']}); "
    return f"{ended}to go on: triform train --resume {folder.path}"


def show_checks(checks: "Iterable[Check]", *, as_json: bool) -> None:
    """The doctor's findings, each as soon as it is known."""
    if as_json:
        print(json.dumps([{"name": c.name, "status": c.status, "found": c.found, "do": c.do} for c in checks], indent=1))
        return
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    for check in checks:
        line = (
            Text(f"{check.status:5}", style=colours[check.status])
            .append(f"{check.name:18}", style="bold")
            .append(check.found, style="default")
        )
        console.print(line)
        if check.do:
            console.print(Text(f"{'':23}-> {check.do}", style="dim"))
