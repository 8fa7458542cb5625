"""The five words in PyTorch: what a state holds, exact reload, dropout keyed by the step, refusals; and the promise with real kills."""

import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from triform.backends import torch_backend
from triform.backends.torch_backend import TorchBackend, pick_device
from triform.errors import ExperimentError, Stopped
from triform.experiment import load
from triform.pipeline import train as training
from triform.pipeline.build import build_backend
from triform.pipeline.prepare import located, prepare
from triform.run.commit import commits
from triform.run.folder import RunFolder
from triform.run.metrics_log import history
from triform.run.ownership import claims
from triform.tasks.point_autoencoder.config import AbstractionLevel, MlpDecoder, PointAutoencoder, SingleScaleEncoder
from triform.training.config import Training

LEVEL = AbstractionLevel(num_centers=12, radius=0.5, num_neighbors=4, widths=(4, 8))
TASK = PointAutoencoder(
    latent_dim=3, encoder=SingleScaleEncoder(levels=(LEVEL,), global_widths=(8,)), decoder=MlpDecoder(widths=(16,)), dropout=0.3
)
SEED = 7


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch_backend.use_threads(before)


def make(task=TASK, seed=SEED, **settings):
    return TorchBackend(task.build(), facts={"num_points": 32}, settings=Training(**settings), seed=seed, device="cpu")


def batch(step):
    return {"points": np.random.default_rng(step).normal(0, 0.4, (4, 32, 3)).astype(np.float32)}


def run(backend, first, last):
    return [backend.train_step(batch(step), step, 1e-2) for step in range(first, last)]


def bits(backend):
    return {name: (array.shape, array.dtype.str, array.tobytes()) for name, array in backend.state().items()}


def test_a_state_is_parameters_buffers_moments_and_the_number_of_updates():
    backend = make()
    state = backend.state()
    parameters = {f"model/{name}" for name, _ in backend.model.named_parameters()}
    buffers = {f"model/{name}" for name, _ in backend.model.named_buffers() if not name.endswith("num_batches_tracked")}
    moments = {name.replace("model/", f"{kind}/") for name in parameters for kind in "mv"}
    assert state.keys() == parameters | buffers | moments | {"updates"}
    assert any("running_mean" in name for name in buffers)
    assert int(state["updates"]) == 0
    run(backend, 0, 2)
    assert int(backend.state()["updates"]) == 2
    assert all(array.dtype.kind in "fi" for array in state.values())


def test_reloading_in_the_middle_changes_no_bit():
    straight = make()
    scalars = run(straight, 0, 6)
    first = make()
    before = run(first, 0, 3)
    kept = {name: np.array(array) for name, array in first.state().items()}
    run(first, 3, 5)
    second = make(seed=SEED)
    run(second, 0, 1)  # what it holds is replaced whole
    second.load_state(kept)
    assert before + run(second, 3, 6) == scalars
    assert bits(second) == bits(straight)


def test_accumulated_gradients_are_the_mean_over_microbatches():
    """Without BatchNorm's statistics in the way: the same samples twice give what they give once."""
    once, twice = make(replace(TASK, dropout=0.0)), make(replace(TASK, dropout=0.0), gradient_accumulation_steps=2)
    half = batch(0)
    whole = {name: np.concatenate([array, array]) for name, array in half.items()}
    told, again = once.train_step(half, 0, 1e-2), twice.train_step(whole, 0, 1e-2)
    assert again == pytest.approx(told, rel=1e-5)
    for name, array in once.state().items():
        if name.startswith(("m/", "v/")):
            np.testing.assert_allclose(twice.state()[name], array, rtol=1e-4, atol=1e-7)


def test_a_batch_of_fewer_samples_than_microbatches_still_gives_the_mean():
    told = [make(replace(TASK, dropout=0.0), gradient_accumulation_steps=number).train_step(batch(0), 0, 1e-2) for number in (4, 8)]
    assert told[0] == told[1]


def test_mixed_precision_stays_near_float32():
    exact, mixed = make(), make(mixed_precision=True)
    first, second = run(exact, 0, 3), run(mixed, 0, 3)
    assert second[0]["loss"] == pytest.approx(first[0]["loss"], rel=0.05)
    assert second != first
    assert all(array.dtype == np.float32 for name, array in mixed.state().items() if name != "updates")
    assert mixed.predict(batch(9))["embedding"].dtype == np.float32


def test_loading_copies():
    backend = make()
    kept = {name: np.array(array) for name, array in backend.state().items()}
    backend.load_state(kept)
    run(backend, 0, 1)
    assert int(kept["updates"]) == 0
    assert bits(make()) == {name: (array.shape, array.dtype.str, array.tobytes()) for name, array in kept.items()}


def test_dropout_is_keyed_by_seed_and_step_alone():
    def first_loss(step, seed=SEED, disturb=False):
        backend = make()
        backend.seed = seed
        if disturb:
            torch.rand(1000)
        return backend.train_step(batch(0), step, 1e-2)["loss"]

    assert first_loss(5) == first_loss(5, disturb=True)
    assert first_loss(5) != first_loss(6)
    assert first_loss(5) != first_loss(5, seed=SEED + 1)


def test_the_seed_decides_the_first_weights():
    assert bits(make()) == bits(make())
    assert bits(make()) != bits(make(seed=SEED + 1))


def test_prediction_leaves_no_trace_and_does_not_drop():
    backend = make()
    run(backend, 0, 1)
    before = bits(backend)
    first, second = backend.predict(batch(1)), backend.predict(batch(1))
    assert first["reconstruction"].shape == (4, 32, 3)
    assert first["embedding"].shape == (4, 3)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert bits(backend) == before


def test_another_models_state_is_refused_by_its_names():
    other = make(replace(TASK, latent_dim=5)).state()
    with pytest.raises(ValueError, match=r"does not fit this model.*decoder"):
        make().load_state(other)
    lacking = make().state()
    del lacking["updates"]
    with pytest.raises(ValueError, match="updates"):
        make().load_state(lacking)


def test_the_gradients_norm_is_clipped_and_told_as_it_was():
    """Under AdamW a common factor of the gradient cancels; the first moment shows it."""
    free, clipped = make(gradient_clip=0.0), make(gradient_clip=1e-3)
    told = free.train_step(batch(0), 0, 1e-2)["gradient_norm"]
    assert clipped.train_step(batch(0), 0, 1e-2)["gradient_norm"] == told > 1e-3

    def norm_of_moment(backend):
        return np.sqrt(sum(float(np.square(array).sum()) for name, array in backend.state().items() if name.startswith("m/")))

    assert norm_of_moment(free) == pytest.approx(0.1 * told, rel=1e-4)
    assert norm_of_moment(clipped) == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_a_rate_of_zero_keeps_every_parameter():
    backend = make()
    before = {name: parameter.detach().clone() for name, parameter in backend.parameters.items()}
    backend.train_step(batch(0), 0, 0.0)
    assert all(torch.equal(before[name], parameter) for name, parameter in backend.parameters.items())


def test_auto_is_the_cpu_where_there_is_no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert (pick_device("auto"), pick_device("mps")) == ("cpu", "mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (pick_device("auto"), pick_device("cpu")) == ("cuda", "cpu")


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_missing_is_named(monkeypatch, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ExperimentError, match=f"no device {wanted} here.*one of cpu"):
        pick_device(wanted)


def test_building_fixes_the_number_of_threads(tiny_experiment):
    for number in (1, 3):
        _, device = build_backend(load(tiny_experiment).experiment, {"num_points": 48}, num_threads=number, device="cpu")
        assert (torch.get_num_threads(), device) == (number, "cpu")


STEP = """
import sys
from pathlib import Path
import numpy as np
import torch
torch.get_num_threads()  # PyTorch has settled its number before Numba starts its threads
from triform.experiment import load
from triform.pipeline.build import build_backend
backend, _ = build_backend(load(Path(sys.argv[1])).experiment, {"num_points": 48}, num_threads=1)
backend.train_step({"points": np.random.default_rng(0).normal(0, 0.3, (2, 48, 3)).astype(np.float32)}, 0, 1e-3)
print(torch.get_num_threads())
"""


@pytest.mark.long
def test_numbas_threads_do_not_change_the_number(tiny_experiment):
    """In a process of its own, where no kernel has run yet."""
    env = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", STEP, str(tiny_experiment)], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def outcome(path):
    folder = RunFolder(path)
    result = folder.result()
    return result["state_digest"], history(folder, result["history"]["generation"], result["history"]["metrics_bytes"])


def train(experiment_file, path, *words, parent=None):
    """Train in this process, which has PyTorch loaded already."""
    experiment = located(load(experiment_file, [str(word) for word in words]).experiment)
    training.train(experiment, RunFolder(path), prepared_dir=prepare(experiment).prepared_dir, parent=parent)
    return outcome(path)


def kill(command, folder, *, commits_before, delay_s=0.0):
    """SIGKILL a while after the new generation made so many commits; True if it was still running."""
    generation = len(claims(folder)) + 1
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and sum(commit.generation == generation for commit in commits(folder)) < commits_before:
            time.sleep(0.002)
        time.sleep(delay_s)
        process.kill()
        return process.wait() == -9


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_a_killed_training_ends_in_the_same_bits_and_with_the_threads_it_began_with(tiny_experiment, tmp_path, kills):
    """The real model, with dropout, killed at random moments in processes that may use one processor; the ends may use all."""
    words = ("--dropout", 0.2, "--num-epochs", 10 * kills + 10, "--keep-last", 99, "--every-steps", 1)
    straight = train(tiny_experiment, tmp_path / "straight", *words)
    folder, generator, deaths = RunFolder(tmp_path / "run"), random.Random(3), 0
    alone = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if shutil.which("taskset") else []
    command = [*alone, sys.executable, "-m", "triform", "train", str(tiny_experiment), "--output-dir", str(folder.path), *map(str, words)]
    while deaths < kills and folder.result() is None:
        deaths += kill(command, folder, commits_before=generator.randint(1, 3), delay_s=generator.uniform(0, 0.05))
    assert deaths == kills
    assert train(tiny_experiment, folder.path, *words) == straight
    assert folder.result()["generations"] == kills + 1
    assert folder.result()["not_bit_exact_from"] is None


def test_a_resumed_training_restores_its_threads(tiny_experiment, tmp_path, monkeypatch):
    """Begun with three threads, of a machine that has them; then on a smaller one it still computes with three."""
    folder, seen = RunFolder(tmp_path / "run"), []
    stop = iter([None, None, "asked"])
    experiment = located(load(tiny_experiment, ["--num-threads", "0"]).experiment)
    prepared = prepare(experiment).prepared_dir
    monkeypatch.setattr(training.provenance, "usable_threads", lambda: 3)
    with pytest.raises(Stopped):
        training.train(experiment, folder, prepared_dir=prepared, stop_requested=lambda: next(stop))
    monkeypatch.setattr(training.provenance, "usable_threads", lambda: 1)
    torch_backend.use_threads(1)
    training.train(experiment, folder, prepared_dir=prepared, stop_requested=lambda: seen.append(torch.get_num_threads()))
    assert set(seen) == {3}
    assert [claim["environment"]["num_threads"] for claim in claims(folder)] == [3, 3]


def test_a_checkpoint_of_another_model_is_refused_in_words(tiny_experiment, tmp_path):
    train(tiny_experiment, tmp_path / "run", "--num-epochs", 2)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ExperimentError, match="does not fit this experiment's model") as caught:
        train(tiny_experiment, tmp_path / "other", "--latent-dim", 5, parent=commits(folder)[0].payload(folder))
    assert caught.value.exit_code == 78
