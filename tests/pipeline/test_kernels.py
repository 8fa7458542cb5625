"""The kernels are a setting: ten steps of each task by the fast ones and by the plain forms come out alike."""

import shutil

import pytest

from triform.experiment import load
from triform.kernels.choice import fast, use_kernels
from triform.pipeline.prepare import located
from triform.pipeline.profile import profile
from triform.run.folder import RunFolder
from triform.run.metrics_log import history

TEN_STEPS = {
    "tiny_experiment": ("--num-epochs", "3", "--batch-size", "2"),
    "tiny_mesh_experiment": ("--num-epochs", "5"),
    "tiny_pose_experiment": ("--num-epochs", "1", "--batch-size", "4"),
    "tiny_pretraining_experiment": ("--num-epochs", "1", "--batch-size", "4"),
}


@pytest.fixture(autouse=True)
def _chosen_as_before():
    yield
    use_kernels("auto")


def losses(run):
    """Of every step and of every validation."""
    made = run.result()["history"]
    rows = history(run, made["generation"], made["metrics_bytes"])
    return {(row.step, row.split, row.name): row.value for row in rows if row.name in ("loss", "cd_l2", "eer", "mpjpe", "hidden")}


@pytest.mark.parametrize("name", TEN_STEPS)
def test_ten_steps_by_either_form_come_out_alike(name, request, train_torch, tmp_path):
    file, words, found = request.getfixturevalue(name), TEN_STEPS[name], {}
    for kernels in ("reference", "fast"):
        result = train_torch(file, tmp_path / kernels, *words, "--kernels", kernels, "--learning-rate", "1e-4")
        assert fast() == (kernels == "fast")
        assert result["steps"] >= 10
        found[kernels] = losses(RunFolder(tmp_path / kernels))
    assert len(found["fast"]) > 10
    assert found["fast"] == pytest.approx(found["reference"], rel=2e-4, abs=1e-6)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # the compiler's own
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_ten_steps_compiled_come_out_alike(tiny_experiment, train_torch, tmp_path):
    """The operators' gradients lie as they tell the compiler. Of this task alone, which has no dropout."""
    words, found = TEN_STEPS["tiny_experiment"], {}
    for compiled in ("false", "true"):
        train_torch(tiny_experiment, tmp_path / compiled, *words, "--jit-compile", compiled, "--learning-rate", "1e-4")
        found[compiled] = losses(RunFolder(tmp_path / compiled))
    assert found["true"] == pytest.approx(found["false"], rel=2e-4, abs=1e-6)


def test_a_profile_names_each_operators_share(tiny_experiment):
    text = profile(located(load(tiny_experiment, []).experiment))
    shares = {line.split()[0]: float(line.split()[1].rstrip("%")) for line in text.splitlines() if "%" in line}
    assert shares.keys() >= {"farthest_point_sample", "ball_query", "set_abstraction", "decoder", "nearest_neighbors"}
    assert shares["set_abstraction"] > 0
    assert sum(shares.values()) == pytest.approx(100, abs=1)
