"""The five words in MLX: what a state holds, exact reload, dropout keyed by the step, AdamW, refusals, devices, limits, compiling."""

import logging
import os
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")

from triform.backends import mlx_backend  # noqa: E402
from triform.backends.mlx_backend import MlxBackend, pick_device  # noqa: E402
from triform.errors import ExperimentError  # noqa: E402
from triform.tasks.mesh_identity.config import EdgeLayer, MeshIdentity, Triplets  # noqa: E402
from triform.tasks.mesh_identity.loss_mlx import identity_loss  # noqa: E402
from triform.tasks.mesh_identity.model_mlx import IdentityNet  # noqa: E402
from triform.training.config import Training  # noqa: E402

SEED = 7
FACTS = {"num_vertices": 20, "num_classes": 3}
CONFIG = MeshIdentity(
    features="coordinates",
    k=4,
    layers=(EdgeLayer(width=4, graph="spatial"), EdgeLayer(width=6, keep_vertices=10)),
    point_width=8,
    hidden_widths=(8,),
    embedding_dim=5,
    dropout=0.3,
    triplets=Triplets(meshes_per_subject=2),
)


@dataclass
class Task:
    """The task's MLX words alone."""

    config: MeshIdentity = CONFIG

    def build_mlx(self, facts, seed):
        return IdentityNet(self.config, facts["num_classes"], seed)

    def loss_mlx(self, model, batch):
        return identity_loss(self.config, model(batch), batch)

    def predict_mlx(self, model, batch):
        embedding, _, logits = model(batch)
        return {"embedding": embedding, "logits": logits}


def make(config=CONFIG, seed=SEED, dtype="float32", **settings):
    return MlxBackend(Task(config), facts=FACTS, settings=Training(**settings), seed=seed, device="cpu", dtype=dtype)


def batch(step, size=8):
    generator = np.random.default_rng(step)
    subject = np.arange(size) // 2 % 3
    return {
        "coordinates": generator.normal(size=(size, 20, 3)).astype(np.float32),
        "spatial_0": generator.integers(0, 20, (size, 20, 4)).astype(np.int32),
        "pool_1": np.stack([generator.permutation(20)[:10] for _ in range(size)]).astype(np.int32),
        "subject": subject,
        "label": subject,
    }


def run(backend, first, last):
    return [backend.train_step(batch(step), step, 1e-2) for step in range(first, last)]


def bits(backend):
    return {name: (array.shape, array.dtype.str, array.tobytes()) for name, array in backend.state().items()}


def kept(backend):
    return {name: np.array(array) for name, array in backend.state().items()}


def test_a_state_is_parameters_buffers_moments_and_the_number_of_updates():
    backend = make()
    state = backend.state()
    model = {name for name in state if name.startswith("model/")}
    moments = {name.replace("model/", f"{kind}/") for name in model if "running" not in name for kind in "mv"}
    assert state.keys() == model | moments | {"updates"}
    assert {"model/edge.0.linear.weight", "model/edge.1.norm.running_var", "model/neck.bias", "m/classifier.weight"} <= state.keys()
    assert int(state["updates"]) == 0
    run(backend, 0, 2)
    assert int(backend.state()["updates"]) == 2
    assert {array.dtype.str for name, array in state.items() if name != "updates"} == {"<f4"}
    assert state["updates"].dtype == np.int64


@pytest.mark.parametrize("parts", [1, 2])
def test_reloading_in_the_middle_changes_no_bit(parts):
    straight = make(gradient_accumulation_steps=parts)
    scalars = run(straight, 0, 10)
    first = make(gradient_accumulation_steps=parts)
    before = run(first, 0, 5)
    middle = kept(first)
    run(first, 5, 7)
    second = make(gradient_accumulation_steps=parts)
    run(second, 0, 1)  # what it holds is replaced whole
    second.load_state(middle)
    assert before + run(second, 5, 10) == scalars
    assert bits(second) == bits(straight)


CONTINUE = """
import importlib.util, sys
import numpy as np
spec = importlib.util.spec_from_file_location("own", sys.argv[1])
own = importlib.util.module_from_spec(spec)
sys.modules["own"] = own
spec.loader.exec_module(own)
backend = own.make(jit_compile=len(sys.argv) > 4)
with np.load(sys.argv[2]) as file:
    backend.load_state(dict(file))
own.run(backend, 5, 10)
np.savez(sys.argv[3], **backend.state())
"""


def in_another_process(folder, backend, *words, **environment):
    """Steps 5 to 10 from the backend's state, in a new process."""
    np.savez(folder / "before.npz", **backend.state())
    command = [sys.executable, "-c", CONTINUE, __file__, str(folder / "before.npz"), str(folder / "after.npz"), *words]
    subprocess.run(command, check=True, env={**os.environ, **environment})
    with np.load(folder / "after.npz") as file:
        return {name: (array.shape, array.dtype.str, array.tobytes()) for name, array in file.items()}


def test_another_process_goes_on_in_the_same_bits(tmp_path):
    straight = make()
    run(straight, 0, 5)
    after = in_another_process(tmp_path, straight)
    run(straight, 5, 10)
    assert after == bits(straight)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_compiled_step_reads_what_was_loaded_and_ends_as_the_plain_one(tmp_path):
    """In a process with an own folder for what MLX compiles; the same bits are not promised, and so not asked for."""
    straight = make()
    run(straight, 0, 5)
    environment = {name: value for name, value in os.environ.items() if name != "MLX_DISABLE_COMPILE"}
    after = in_another_process(tmp_path, straight, "jit", **{**environment, "TMPDIR": str(tmp_path)})
    run(straight, 5, 10)
    for name, array in straight.state().items():
        np.testing.assert_allclose(np.frombuffer(after[name][2], array.dtype).reshape(array.shape), array, rtol=1e-2, atol=1e-2)


def test_the_words_of_a_compiled_step_fit_together():
    """Without a compiler MLX runs the same functions as they are."""
    plain = make()
    mx.disable_compile()
    try:
        compiled = make(jit_compile=True)
        assert run(compiled, 0, 3) == run(plain, 0, 3)
    finally:
        mx.enable_compile()
    assert bits(compiled) == bits(plain)


def test_loading_copies():
    backend = make()
    before = kept(backend)
    backend.load_state(before)
    run(backend, 0, 1)
    assert int(before["updates"]) == 0
    assert bits(make()) == {name: (array.shape, array.dtype.str, array.tobytes()) for name, array in before.items()}


def test_dropout_is_keyed_by_seed_step_and_microbatch_alone():
    def first_loss(step, seed=SEED, disturb=False):
        backend = make()
        backend.seed = seed
        if disturb:
            mx.eval(mx.random.normal((1000,)))
        return backend.train_step(batch(0), step, 1e-2)["loss"]

    assert first_loss(5) == first_loss(5, disturb=True)
    assert first_loss(5) != first_loss(6)
    assert first_loss(5) != first_loss(5, seed=SEED + 1)
    twice = {name: np.concatenate([array, array]) for name, array in batch(0).items()}
    assert make(gradient_accumulation_steps=2).train_step(twice, 5, 1e-2)["loss"] != first_loss(5)


def test_the_seed_decides_the_first_weights():
    assert bits(make()) == bits(make())
    assert bits(make()) != bits(make(seed=SEED + 1))


def test_prediction_leaves_no_trace_and_does_not_drop():
    backend = make()
    run(backend, 0, 1)
    before = bits(backend)
    first, second = backend.predict(batch(1)), backend.predict(batch(1))
    assert first["embedding"].shape == (8, 5)
    assert first["logits"].shape == (8, 3)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert bits(backend) == before
    assert run(make(), 0, 2)[1] == run(backend, 1, 2)[0]  # back in training mode


def test_another_models_state_is_refused_by_its_names():
    other = make(replace(CONFIG, embedding_dim=6)).state()
    with pytest.raises(ValueError, match=r"does not fit this model.*classifier"):
        make().load_state(other)
    lacking = make().state()
    del lacking["updates"]
    with pytest.raises(ValueError, match="updates"):
        make().load_state(lacking)


def test_a_refused_state_leaves_all_as_it_was():
    backend = make()
    before, broken = bits(backend), make(seed=SEED + 1).state()
    broken["v/neck.bias"] = broken["v/neck.bias"][:-1]
    with pytest.raises(ValueError, match="neck"):
        backend.load_state(broken)
    assert bits(backend) == before


def test_an_update_is_adamw_by_hand():
    """From moments of many updates; the gradient is read off the first moment of a fresh backend."""
    settings = {"weight_decay": 0.1, "gradient_clip": 0.0}
    fresh = make(dtype="float64", **settings)
    fresh.train_step(batch(0), 0, 0.0)
    gradients = {name[2:]: array / 0.1 for name, array in fresh.state().items() if name.startswith("m/")}
    backend = make(dtype="float64", **settings)
    before = kept(backend)
    generator = np.random.default_rng(3)
    before |= {name: generator.uniform(0.1, 1, array.shape) for name, array in before.items() if name[:2] in ("m/", "v/")}
    before["updates"] = np.array(4)
    backend.load_state(before)
    backend.train_step(batch(0), 0, 1e-2)
    after = backend.state()
    for name, g in gradients.items():
        m, v = 0.9 * before[f"m/{name}"] + 0.1 * g, 0.999 * before[f"v/{name}"] + 0.001 * g**2
        change = m / (1 - 0.9**5) / (np.sqrt(v / (1 - 0.999**5)) + 1e-8)
        wanted = before[f"model/{name}"] * (1 - 1e-2 * 0.1) - 1e-2 * change
        np.testing.assert_allclose(after[f"model/{name}"], wanted, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(after[f"m/{name}"], m, rtol=1e-12)
        np.testing.assert_allclose(after[f"v/{name}"], v, rtol=1e-12)


def test_the_gradients_norm_is_clipped_and_told_as_it_was():
    """Under AdamW a common factor of the gradient cancels; the first moment shows it."""
    free, clipped = make(gradient_clip=0.0), make(gradient_clip=1e-3)
    told = free.train_step(batch(0), 0, 1e-2)["gradient_norm"]
    assert clipped.train_step(batch(0), 0, 1e-2)["gradient_norm"] == told > 1e-3
    norms = [np.sqrt(sum((a**2).sum() for name, a in b.state().items() if name.startswith("m/"))) / 0.1 for b in (free, clipped)]
    np.testing.assert_allclose(norms, [told, 1e-3 * told / (told + 1e-6)], rtol=1e-5)


def test_microbatches_give_the_mean_of_their_gradients_and_move_the_statistics_in_turn():
    config = replace(CONFIG, dropout=0.0)
    halves = [{name: array[part] for name, array in batch(0).items()} for part in (slice(0, 4), slice(4, 8))]
    settings = {"gradient_clip": 0.0, "dtype": "float64"}
    both = make(config, gradient_accumulation_steps=2, **settings)
    told = both.train_step(batch(0), 0, 0.0)
    alone = [make(config, **settings) for _ in halves]
    losses = [backend.train_step(half, 0, 0.0)["loss"] for backend, half in zip(alone, halves, strict=True)]
    assert told["loss"] == pytest.approx(np.mean(losses), rel=1e-12)
    first, second, state = alone[0].state(), alone[1].state(), both.state()
    for name in (name for name in state if name.startswith("m/")):
        np.testing.assert_allclose(state[name], (first[name] + second[name]) / 2, rtol=1e-9, atol=1e-12)
    alone[0].train_step(halves[1], 1, 0.0)
    for name, array in alone[0].state().items():
        if "running" in name:
            np.testing.assert_allclose(state[name], array, rtol=1e-12)
    assert state["updates"] == 1


def test_half_precision_learns_with_weights_and_moments_in_float32():
    backend = make(mixed_precision=True)
    scalars = [backend.train_step(batch(0), step, 1e-2)["loss"] for step in range(15)]
    assert scalars[-1] < scalars[0]
    assert scalars[0] != run(make(), 0, 1)[0]["loss"]
    assert {array.dtype.str for array in backend.state().values()} == {"<f4", "<i8"}


def test_scalars_are_plain_finite_numbers():
    told = make().train_step(batch(0), 0, 1e-2)
    assert next(iter(told)) == "loss"
    assert list(told)[-1] == "gradient_norm"
    assert {"classification_loss", "triplet_loss", "accuracy", "active_triplets"} < told.keys()
    assert all(type(value) is float and np.isfinite(value) for value in told.values())


@pytest.mark.parametrize(
    ("metal", "cuda", "first"), [(True, False, "metal"), (False, True, "cuda"), (True, True, "metal"), (False, False, "cpu")]
)
def test_auto_takes_the_best_device_there_is(monkeypatch, metal, cuda, first):
    monkeypatch.setattr(mx.metal, "is_available", lambda: metal)
    monkeypatch.setattr(mx.cuda, "is_available", lambda: cuda)
    assert pick_device("auto") == first
    assert pick_device("cpu") == "cpu"


def test_a_device_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    monkeypatch.setattr(mx.cuda, "is_available", lambda: False)
    for wanted in ("metal", "cuda", "mps"):
        with pytest.raises(ExperimentError, match=f"no device '{wanted}'.*one of cpu"):
            pick_device(wanted)


def test_memory_is_told_limited_and_given_back(caplog):
    before = mx.set_cache_limit(2**30)
    memory_before = mx.get_memory_limit()
    try:
        backend = make(mlx_memory_limit_mb=600, mlx_cache_limit_mb=3, log_interval=2)
        assert mx.get_memory_limit() == 600 * 2**20
        with caplog.at_level(logging.INFO, "triform.backends"):
            run(backend, 0, 4)
        assert len(caplog.records) == 2
        assert "MLX memory on cpu: peak_mb" in caplog.text
        memory = backend.memory()
        assert memory.keys() == {"peak_mb", "active_mb", "cache_mb"}
        assert 0 < memory["active_mb"] <= memory["peak_mb"]
        assert memory["cache_mb"] <= 3
        backend.close()
        backend.close()
        assert mx.get_memory_limit() == memory_before
        assert mx.set_cache_limit(before) == 2**30
    finally:
        mx.set_cache_limit(before)
        mx.set_memory_limit(memory_before)


def test_short_floats_are_off_before_mlx_is_read():
    code = "import os, triform.backends.mlx_backend; print(os.environ['MLX_ENABLE_TF32'])"
    environment = {name: value for name, value in os.environ.items() if name != "MLX_ENABLE_TF32"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True).stdout == "0\n"
    assert mlx_backend.os.environ["MLX_ENABLE_TF32"] == "0"
