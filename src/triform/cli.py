"""The command line: one function a verb, no logic."""

import asyncio
import json
import logging
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter

from triform import __version__
from triform.errors import TriformError, UsageError
from triform.growing import GROWING
from triform.training.process import keep_kernels

if TYPE_CHECKING:
    from triform.durable.session import Asked
    from triform.experiment import Loaded
    from triform.run.folder import RunFolder

app = App(
    name="triform",
    help="Train 3D models so that a run can't be lost. Start with: triform run EXPERIMENT.yaml",
    version=__version__,
)
for grow in GROWING:
    app.command(grow)

Words = Annotated[
    str,
    Parameter(allow_leading_hyphen=True, help="EXPERIMENT.yaml and any of its fields: --batch-size 64, --training.batch-size 64"),
]
OutputDir = Annotated[Path | None, Parameter(help="the run's folder (default: runs/NAME)")]
Address = Annotated[str | None, Parameter(help="host:port of a Temporal cluster (default: its environment, else this user's own server)")]
AsJson = Annotated[bool, Parameter(name="--json")]
Run = Annotated[str, Parameter(help="a run's name under runs/, or its folder")]


@app.command
def run(*words: Words, output_dir: OutputDir = None, address: Address = None, detach: bool = False) -> None:
    """Run an experiment to the end under Temporal: prepare, train, evaluate, report. Start it again to go on."""
    from triform.durable import session
    from triform.terminal import LiveProgress, say, show_finished

    asked = _asked(words, output_dir, address=address, detach=detach)
    if show_finished(asked.folder):
        return
    with LiveProgress(asked.experiment.name) as live:
        result = asyncio.run(session.run(session.showing(asked, say=live.say, show=live.show)))
    if result is None:
        say(f"{asked.experiment.name} goes on in the background. Watch: the same command without --detach; end: triform stop")
    else:
        show_finished(asked.folder)


@app.command
def prepare(*words: Words, download: bool = False) -> None:
    """Prepare an experiment's data; only what changed is redone. --download fetches MaizeField3D."""
    from triform.pipeline.prepare import located
    from triform.pipeline.prepare import prepare as prepare_data
    from triform.terminal import counting, say
    from triform.training.process import say_what_compiles

    given = ["--data.kind", "maize_field3d", *words] if download else list(words)
    experiment = located(_load(given, named=False).experiment)
    say_what_compiles(say)
    with counting("preparing") as progress:
        manifest = prepare_data(experiment, progress=progress)
    quarantined = f"{len(manifest.quarantined)} files quarantined"
    say(f"{manifest.num_samples} samples in {manifest.prepared_dir}, {quarantined}, digest {manifest.digest}")
    if (error := getattr(manifest, "largest_2d_error_px", None)) is not None:
        say(f"  2D that is said to be exact lies up to {error:.2g} px from the projection of its 3D")
    for bad in manifest.quarantined:
        say(f"  quarantined {bad.member}: {bad.reason}")


@app.command
def train(
    *words: Words,
    config: Annotated[Path | None, Parameter(help="the experiment file, the same as naming it first")] = None,
    output_dir: OutputDir = None,
    resume: Annotated[str | None, Parameter(help="a run to go on with, or a checkpoint to start a new run from")] = None,
    verbose: bool = False,
) -> None:
    """Train in this process, without a server. The same command goes on with an unfinished run."""
    from triform.pipeline.local import train_here
    from triform.terminal import LiveProgress, show_result

    given = [*words, *([str(config)] if config else [])]
    experiment_file, overrides = _split(given)
    with LiveProgress() as live:
        result = train_here(
            experiment_file, overrides, output_dir=output_dir, resume=resume, verbose=verbose, say=live.say, show=live.show_training
        )
    show_result(result)


@app.command
def evaluate(run: Run, *, prepared_dir: Path | None = None) -> None:
    """Measure a finished run's model beside floor and baselines."""
    from triform.pipeline.evaluate import evaluate as evaluate_run
    from triform.terminal import say, show_metrics
    from triform.training.stopping import end_with_supervisor

    end_with_supervisor()
    folder = _folder_of(run)
    evaluate_run(folder, prepared_dir=prepared_dir, say=say)
    show_metrics(folder)


@app.command
def report(
    run: Run,
    *,
    prepared_dir: Path | None = None,
    animation: Annotated[Path | None, Parameter(help="also film the poses it shows, as .gif or .mp4")] = None,
) -> None:
    """Write a run's report: one HTML file that opens offline."""
    from triform.pipeline.report import film_report, write_report
    from triform.terminal import say
    from triform.training.stopping import end_with_supervisor

    end_with_supervisor()
    say(str(write_report(_folder_of(run), prepared_dir=prepared_dir)))
    if animation is not None:
        film_report(_folder_of(run), animation)
        say(str(animation))


@app.command
def predict(
    run: Run,
    file: Path,
    *,
    output: Annotated[Path | None, Parameter(help="where, without suffix (default: beside the file)")] = None,
    skeleton: Annotated[str | None, Parameter(help="coco_17, h36m_17 or halpe_26, where the file does not say")] = None,
    image_size: Annotated[str | None, Parameter(help="WxH in pixels, where the file does not say")] = None,
    frame_rate: Annotated[float | None, Parameter(help="frames a second, where the file does not say")] = None,
    flip: Annotated[bool, Parameter(help="average with the mirror image's prediction")] = True,
    animation: Annotated[Path | None, Parameter(help="also film it, as .gif or .mp4")] = None,
) -> None:
    """Lift 2D key points (.npz or .json) to 3D with a finished run; writes .npz and .bvh."""
    from triform.pipeline.predict import predict as lift_file
    from triform.terminal import say

    size_px = _size(image_size)
    lifted = lift_file(
        _folder_of(run),
        file,
        output=output,
        skeleton=skeleton,
        size_px=size_px,
        frame_rate=frame_rate,
        flip=flip,
        animation=animation,
        say=say,
    )
    say(f"{len(lifted.joints_3d_mm)} frames lifted: {', '.join(map(str, lifted.files))}")


@app.command
def worker(
    *,
    queue: Literal["cpu", "gpu", "all"] = "all",
    address: Address = None,
    embedded: Annotated[Path | None, Parameter(show=False)] = None,
    until_closed: Annotated[str | None, Parameter(show=False)] = None,
) -> None:
    """Serve a Temporal cluster: cpu takes workflows and preprocessing, gpu trains and evaluates, one run at a time."""
    from triform.durable import session

    asyncio.run(session.work(queue, address=address, folder=embedded, until_closed=until_closed))


@app.command
def status(run: Run, *, address: Address = None, json_output: AsJson = False) -> None:
    """Say where a run stands."""
    from triform.durable import session
    from triform.terminal import show_status

    folder = _folder_of(run)
    show_status(folder, asyncio.run(session.look(_name_of(run), folder.path, address=address)), as_json=json_output)


@app.command
def pause(run: Run, *, address: Address = None) -> None:
    """Commit a checkpoint and hold a run; no step is repeated."""
    _steer(run, "pause", address)


@app.command
def resume(run: Run, *, address: Address = None) -> None:
    """Go on with a paused run."""
    _steer(run, "resume", address)


@app.command
def stop(run: Run, *, address: Address = None) -> None:
    """End a run where it is and evaluate what is there."""
    from triform.durable import session

    if asyncio.run(session.is_under_way(_name_of(run), _folder_of(run).path, address=address)):
        _steer(run, "stop", address)
        return
    from triform.pipeline.local import stop_here
    from triform.terminal import say, show_finished

    stop_here(_folder_of(run), say=say)
    show_finished(_folder_of(run))


@app.command
def set_epochs(run: Run, num_epochs: int, *, address: Address = None) -> None:
    """Change how long a run is to be, from where it stands."""
    from triform.durable import session
    from triform.terminal import say

    folder = _folder_of(run)
    if asyncio.run(session.is_under_way(_name_of(run), folder.path, address=address)):
        step = asyncio.run(session.steer(_name_of(run), folder.path, "set_epochs", [num_epochs], address=address))
    else:
        from triform.pipeline.local import set_epochs_here

        step = set_epochs_here(folder, num_epochs)
    say(f"{run} is planned for {num_epochs} epochs from step {step} on")


@app.command
def config(*words: Words, schema: bool = False, json_output: AsJson = False) -> None:
    """Print the resolved experiment with each field's meaning; --schema prints a JSON schema for editors."""
    from triform import experiment

    if schema:
        print(json.dumps(experiment.schema(), indent=1))
        return
    loaded = _load(words)
    print(json.dumps(experiment.resolved(loaded.experiment), indent=1) if json_output else experiment.to_yaml(loaded.experiment))


@app.command
def doctor(*, address: Address = None, get_server: bool = False, compile_kernels: bool = False, json_output: AsJson = False) -> None:
    """Say what is installed and what is missing, and how to mend it.

    --get-server gets a Temporal server; --compile-kernels compiles the fast kernels now, so that no training waits for it.
    """
    from triform.terminal import say, show_checks

    if compile_kernels:
        from triform.kernels import compile_torch

        compile_torch.compile_kernels()
        say(f"The fast kernels are in {os.environ['NUMBA_CACHE_DIR']}")
        return

    if get_server:
        from triform.durable.server_binary import obtain

        say(f"Temporal server: {obtain(say)}")
        return
    from triform.doctor import checks

    show_checks(checks(address), as_json=json_output)


@app.command
def profile(*words: Words, output: Annotated[Path | None, Parameter(help="file for the report (default: print only)")] = None) -> None:
    """Measure an experiment's training step: seconds, samples a second, memory, each part's share, multiply-adds."""
    from triform.files import replace_quickly
    from triform.pipeline.prepare import located
    from triform.pipeline.profile import profile as measure
    from triform.terminal import say

    text = measure(located(_load(words).experiment))
    say(text)
    if output is not None:
        replace_quickly(output, f"{text}\n".encode())


def _split(words: "tuple[str, ...] | list[str]") -> tuple[Path | None, list[str]]:
    """The experiment file, which is the word that ends in .yaml, and the rest."""
    files = [word for word in words if word.endswith((".yaml", ".yml")) and not word.startswith("-")]
    if len(files) > 1:
        raise UsageError(f"got {len(files)} experiment files ({', '.join(files)})", expected="one", do="start a command for each")
    return (Path(files[0]) if files else None), [word for word in words if word not in files]


def _load(words: "tuple[str, ...] | list[str]", *, named: bool = True) -> "Loaded":
    from triform.experiment import load

    path, overrides = _split(words)
    if path is None and named:
        raise UsageError("no experiment file is named", expected="a word that ends in .yaml", do="see experiments/ for some")
    if named or path is not None:
        return load(path, overrides)
    from triform.pipeline.local import any_task

    return load(None, overrides, defaults={"name": "prepare", "data": {"kind": "ply_clouds"}, "task": any_task(overrides)})


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,5})[xX]([1-9]\d{0,5})", text.strip())
    if found is None:
        raise UsageError(f"got --image-size {text}", expected="width and height in pixels, as 1920x1080", do="correct it")
    return int(found[1]), int(found[2])


def _asked(words: tuple[str, ...], output_dir: Path | None, *, address: str | None, detach: bool) -> "Asked":
    from triform.durable.session import Asked
    from triform.experiment import fingerprint, resolved
    from triform.pipeline.local import run_folder
    from triform.pipeline.prepare import located

    loaded = _load(words)
    experiment = located(loaded.experiment)
    folder = run_folder(experiment, output_dir)
    folder.refuse_other(fingerprint(experiment), resolved(experiment))
    command = shlex.join(["triform", *sys.argv[1:]])
    return Asked(experiment=experiment, folder=folder, overrides=loaded.overrides, address=address, detach=detach, command=command)


def _folder_of(run: str) -> "RunFolder":
    from triform.pipeline.local import find_run

    return find_run(run)


def _name_of(run: str) -> str:
    identity = _folder_of(run).identity()
    return identity["name"] if identity else Path(run).name


def _steer(run: str, update: str, address: str | None) -> None:
    from triform.durable import session
    from triform.terminal import say

    folder = _folder_of(run)
    asyncio.run(session.steer(_name_of(run), folder.path, update, address=address))
    say(f"{run}: {update} is acknowledged")


def main() -> NoReturn:
    """Run a command; errors become one paragraph and an exit code."""
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False, result_action="return_value")
        sys.exit(0)
    except CycloptsError as error:
        _fail(UsageError(str(error).strip(), do="see `triform --help`"))
    except TriformError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        _last_words(kind="", retryable=True, text=f"{type(error).__name__}: {error}")
        raise


def enter() -> NoReturn:
    """The program: `main`, and an end that the threads of Temporal's SDK can't disturb.

    They may meet an interpreter that is taking itself apart and abort the process ("PyGILState_Release", exit code -6), seen once
    at a worker's end. All is written by then, so the process leaves at once.
    """
    keep_kernels()
    try:
        main()
    except SystemExit as ended:
        if "temporalio" not in sys.modules:
            raise
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)


def _fail(error: TriformError) -> NoReturn:
    """Say what happened, to the person and to a supervisor."""
    _last_words(kind=type(error).__name__, retryable=error.retryable, text=str(error))
    print(f"triform: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


def _last_words(**told: object) -> None:
    """Leave what happened where the supervising activity looks."""
    if place := os.environ.get("TRIFORM_ERROR_FILE"):
        Path(place).write_text(json.dumps(told))


if __name__ == "__main__":
    enter()
