"""Measure a finished run's model beside floor and baselines."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load

from triform.errors import DataError, ExperimentError
from triform.experiment import Experiment
from triform.files import write_durably
from triform.pipeline.build import build_backend
from triform.pipeline.local import experiment_of
from triform.pipeline.prepare import load_splits
from triform.run.folder import Json, RunFolder, read_json, to_json
from triform.run.provenance import usable_threads
from triform.training.backend import Backend, Facts
from triform.training.task import Evaluation


def evaluate(folder: RunFolder, *, prepared_dir: Path | None = None, say: Callable[[str], None] = lambda _: None) -> Json:
    """Write `evaluation/` (metrics.json, table.csv, arrays.npz) and return the metrics; at once where they are there already.

    Raises: DataError: the run is not finished, or the prepared data is not what it was trained on.
    """
    result = folder.result()
    if result is None:
        raise DataError(f"{folder.path} is not finished", do="train it to the end, or end it here with `triform stop`")
    done = read_json(folder.evaluation / "metrics.json")
    if done is not None and done["state_digest"] == result["state_digest"]:
        return done
    experiment = experiment_of(folder, prepared_dir=prepared_dir)
    place = experiment.data.prepared_folder()
    splits = load_splits(experiment, place, ("train", "val", "test"))
    if splits["train"].digest != result["data_digest"]:
        raise DataError(
            f"{place} is not the data that {folder.path} was trained on",
            do="prepare it again by the run's settings (`triform prepare`), or name that data's folder with --prepared-dir",
        )
    backend = open_model(folder, experiment, splits["train"].facts, say)
    task = experiment.task.build()
    evaluation = task.evaluate(splits, backend.predict, batch_size=experiment.training.batch_size, seed=experiment.seed, say=say)
    backend.close()
    return _write(folder, result, evaluation)


def open_model(folder: RunFolder, experiment: Experiment, facts: Facts, say: Callable[[str], None]) -> Backend:
    """A finished run's model in the run's own framework and device, or, where these are not there, on PyTorch's best: it is the same."""
    num_threads = experiment.training.num_threads or usable_threads()
    try:
        backend = build_backend(experiment, facts, num_threads=num_threads)[0]
    except ExperimentError as error:
        say(f"{error.got}; measured in PyTorch instead")
        instead = replace(experiment, backend="torch", training=replace(experiment.training, device="auto"))
        backend = build_backend(instead, facts, num_threads=num_threads)[0]
    weights = load((folder.path / "final" / "model.safetensors").read_bytes())
    backend.load_state({**backend.state(), **{f"model/{name}": array for name, array in weights.items()}})
    return backend


def _write(folder: RunFolder, result: Json, evaluation: Evaluation) -> Json:
    """Arrays and table first: metrics.json says that all is there."""
    packed = io.BytesIO()
    arrays: dict[str, Any] = evaluation.arrays()
    np.savez(packed, **arrays)
    write_durably(folder.evaluation / "arrays.npz", packed.getvalue())
    write_durably(folder.evaluation / "table.csv", _csv(evaluation.table()).encode())
    headline = evaluation.headline()
    order = {"splits": list(headline), "columns": list(dict.fromkeys(column for row in headline.values() for column in row))}
    told = {"title": evaluation.title, "headline": headline, "order": order, "facts": evaluation.facts()}
    metrics = {**evaluation.summary(), **told, "state_digest": result["state_digest"]}
    write_durably(folder.evaluation / "metrics.json", to_json(metrics))
    return metrics


def _csv(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [",".join(columns), *(",".join(str(row.get(column, "")) for column in columns) for row in rows)]
    return "\n".join(lines) + "\n"
