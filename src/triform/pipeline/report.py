"""Put a run's report together: what its task shows, its history, its settings."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from triform.errors import UsageError
from triform.experiment import Experiment
from triform.pipeline.evaluate import evaluate
from triform.pipeline.local import experiment_of, settings_of
from triform.pipeline.observers import draw
from triform.pipeline.prepare import AnyManifest, load_manifest
from triform.report.page import write_report as write_page
from triform.report.panels import Event, Events, Fact, KeyValues, Panel, PoseClips, Report, Table
from triform.report.plots import draw_panels
from triform.run.folder import Json, RunFolder
from triform.run.metrics_log import history
from triform.run.ownership import claims
from triform.run.status import read_outcome
from triform.training.task import HistoryRow


def write_report(folder: RunFolder, *, prepared_dir: Path | None = None) -> Path:
    """Write `report.html`, `metrics_history.json` and the final curves of a finished run; evaluates it first where that is missing.

    Raises: DataError: the run is not finished.
    """
    metrics = evaluate(folder, prepared_dir=prepared_dir)
    result, experiment = folder.result() or {}, experiment_of(folder, prepared_dir=prepared_dir)
    rows = history(folder, result["history"]["generation"], result["history"]["metrics_bytes"])
    draw(folder, rows)
    shown = _shown(folder, experiment, rows)
    draw_panels(folder.path / "plots", shown)
    manifest = load_manifest(experiment.data.prepared_folder())
    report = Report(
        title=experiment.name,
        subtitle=f"{experiment.task.kind.replace('_', ' ')}, {result['steps']} steps",
        facts=tuple(_facts(result, metrics)),
        panels=(*shown, _events(folder), *_quarantined(manifest), KeyValues("Settings", tuple(settings_of(folder)))),
        footer=_footer(folder, result),
    )
    write_page(folder.report, report)
    return folder.report


def film_report(folder: RunFolder, path: Path) -> None:
    """Film the poses that the report shows, as .gif or .mp4. Raises: UsageError: it shows none, or the suffix is another."""
    shown = _shown(folder, experiment_of(folder), ())
    clips = [panel for panel in shown if isinstance(panel, PoseClips)]
    if not clips:
        raise UsageError(f"{folder.path} shows no poses", expected="a run of pose_lifting or pose_pretraining", do="leave out --animation")
    from triform.report.animation import animate

    animate(path, clips[0])


def _shown(folder: RunFolder, experiment: Experiment, rows: Iterable[HistoryRow]) -> tuple[Panel, ...]:
    """What the task shows of the saved evaluation."""
    with np.load(folder.evaluation / "arrays.npz", allow_pickle=False) as arrays:
        panels: tuple[Panel, ...] = experiment.task.build().panels(dict(arrays), rows)
    return panels


def _facts(result: Json, metrics: Json) -> Iterator[Fact]:
    yield from (Fact(label, value, note) for label, value, note in metrics["facts"])
    yield Fact("Steps", str(result["steps"]), f"best at step {result['metrics']['best_step']}, finished {result['finished']}")
    inexact = result["not_bit_exact_from"]
    yield Fact("Generations", str(result["generations"]), "bit-exact" if inexact is None else f"not bit-exact from step {inexact}")


def _events(folder: RunFolder) -> Events:
    """When each generation began and from where, what it warned of, and how it ended."""
    rows: list[Event] = []
    for claim in claims(folder):
        base, owner, number = claim["base"], claim["owner"], claim["generation"]
        begun = f"from step {base['step']}" if base else "from the beginning"
        device = claim["environment"]["device"]
        rows.append(
            Event(_time(claim["time"]), "start", f"generation {number} {begun}, {device}, process {owner['pid']} on {owner['host']}")
        )
        rows += [Event(_time(claim["time"]), warning["kind"], warning["text"]) for warning in claim["warnings"]]
        outcome = read_outcome(folder, number)
        if outcome is None:
            rows.append(Event("", "killed", f"generation {number} ended without a word"))
        else:
            rows.append(Event(_time(outcome["time"]), outcome["kind"], outcome["text"]))
    return Events("History of the run", tuple(rows), note="Every start of a trainer is a generation. Times are UTC.")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _quarantined(manifest: AnyManifest | None) -> Iterator[Table]:
    if manifest is not None and manifest.quarantined:
        rows = tuple((bad.member, bad.reason) for bad in manifest.quarantined)
        yield Table("Quarantined files", ("file", "reason"), rows)


def _footer(folder: RunFolder, result: Json) -> str:
    identity = folder.identity() or {}
    packages = ", ".join(f"{name} {version}" for name, version in identity.get("packages", {}).items())
    overrides = " ".join(identity.get("overrides", ()))
    return (
        f"State {result['state_digest']}. Data {result['data_digest']}. Experiment {identity.get('fingerprint')}. "
        f"Code {identity.get('git_commit') or 'not under git'}. {packages}. Overrides: {overrides or 'none'}."
    )
