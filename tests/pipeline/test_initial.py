"""Fine-tuning from a pretrained run: what is taken, what is refused, and that nothing of it is lost on the way."""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from triform.errors import ConfigConflict, DataError, ExperimentError, Stopped
from triform.experiment import load
from triform.pipeline.initial import pointer_to_weights
from triform.pipeline.local import train_here
from triform.pipeline.prepare import located
from triform.pipeline.report import write_report
from triform.run.commit import commits, read_commit
from triform.run.folder import RunFolder
from triform.run.metrics_log import history
from triform.run.ownership import claims

SHORT = ("--num-epochs", 1)
STAY = (*SHORT, "--learning-rate", 1e-30, "--weight-decay", 0, "--min-lr", 0)
"""A training that leaves all weights where they are."""


@pytest.fixture
def finetune(train_torch, tiny_pose_experiment, tmp_path):
    """Trains with these weights in `tmp_path`/run or another folder there."""

    def run(init_from: object, *words: object, name: str = "run", **changed: Any) -> dict[str, Any]:
        found: dict[str, Any] = train_torch(tiny_pose_experiment, tmp_path / name, "--init-from", init_from, *words, **changed)
        return found

    return run


def outcome(path: Path):
    folder = RunFolder(path)
    result = folder.result()
    assert result is not None
    return result["state_digest"], history(folder, result["history"]["generation"], result["history"]["metrics_bytes"])


def first_state(path: Path):
    folder = RunFolder(path)
    contents = read_commit(folder, commits(folder)[-1])
    assert not isinstance(contents, str)
    assert contents[1]["progress"]["step"] == 0
    return contents[0]


def copied(run: Path, place: Path) -> Path:
    shutil.copytree(run, place)
    return place


@pytest.mark.parametrize("file", ["", "final/model.safetensors", "checkpoints/best_model.npz"])
def test_the_encoder_is_taken_bit_for_bit_and_the_head_is_new(finetune, pretrained_run, tmp_path, file):
    finetune(pretrained_run / file, *STAY, "--keep-last", 5)
    weights = load_file(pretrained_run / "final" / "model.safetensors")
    state = first_state(tmp_path / "run")
    encoder = {name: array for name, array in weights.items() if name.startswith("encoder.")}
    assert len(encoder) > 20
    assert all(np.array_equal(state[f"model/{name}"], array) for name, array in encoder.items())
    assert state["model/head.weight"].shape != weights["head.weight"].shape
    assert all(not array.any() for name, array in state.items() if name[:2] in ("m/", "v/"))
    assert state["updates"] == 0


@pytest.mark.long
def test_what_was_taken_and_what_is_new_is_told_in_log_claim_and_report(finetune, pretrained_run, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    finetune(pretrained_run, *SHORT)
    weights = load_file(pretrained_run / "final" / "model.safetensors")
    number = sum(array.size for name, array in weights.items() if name.startswith("encoder."))
    text = f"started with {pretrained_run}/final/model.safetensors: took encoder ({number:,} of {number + 51:,} numbers); new: head; "
    text += "left there: decoder, head"
    assert text in caplog.messages
    assert claims(RunFolder(tmp_path / "run"))[0]["warnings"] == [{"kind": "initialised", "text": text}]
    page = write_report(RunFolder(tmp_path / "run")).read_text()
    assert f"took encoder ({number:,} of {number + 51:,} numbers)" in page


def test_a_head_that_fits_is_taken_too(finetune, lifting_run, tmp_path):
    finetune(lifting_run, *STAY)
    assert "new: nothing; left there: nothing" in claims(RunFolder(tmp_path / "run"))[0]["warnings"][0]["text"]
    before, after = (load_file(path / "final" / "model.safetensors") for path in (lifting_run, tmp_path / "run"))
    np.testing.assert_allclose(after["head.weight"], before["head.weight"], atol=1e-12)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--width", 20), r"encoder\.embed\.bias is 16 there and 20 here"),
        (("--depth", 1), r"encoder\.layers\.1\S+ is not here"),
        (("--depth", 3), r"encoder\.layers\.2\S+ is not there"),
        (("--num-frames", 7), r"encoder\.positions\.frame is 9 x 16 there and 7 x 16 here"),
        (("--encoder.kind", "frame_tokens", "--heads", 2, "--width", 16), "encoder.embed.weight is 16 x 6 there and 16 x 102 here"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_another_encoder_is_refused_by_name(finetune, pretrained_run, tmp_path, words, message):
    with pytest.raises(ExperimentError, match=rf"does not fit this model: .*{message}") as caught:
        finetune(pretrained_run, *words)
    assert "data.num_frames" in str(caught.value)
    assert not commits(RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run" / "run.json").exists()  # the name is free for the corrected settings


def test_no_run_an_unfinished_one_and_one_that_lost_its_model(finetune, train_torch, tiny_pretraining_experiment, pretrained_run, tmp_path):
    with pytest.raises(DataError, match=r"nowhere is no run.*train that run first"):
        finetune(tmp_path / "nowhere")
    with pytest.raises(Stopped):
        train_torch(tiny_pretraining_experiment, tmp_path / "begun", stop_after=3)
    with pytest.raises(DataError, match=r"begun is a run that is not finished.*triform stop"):
        finetune(tmp_path / "begun")
    emptied = copied(pretrained_run, tmp_path / "emptied")
    (emptied / "final" / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors can't be read"):
        finetune(emptied)
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.npz"])
def test_a_file_that_is_no_model(finetune, tmp_path, name):
    (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(DataError, match=rf"{name} can't be (read|used)"):
        finetune(tmp_path / name)


def test_a_model_without_an_encoder(finetune, tmp_path):
    save_file({"decoder.weight": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ExperimentError, match=r"encoder\.\S+ is not there"):
        finetune(tmp_path / "model.safetensors")


def test_a_run_by_its_name_and_by_a_relative_path(pretrained_run, tiny_pose_experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copied(pretrained_run, tmp_path / "runs" / "pre")
    for word in ("pre", "runs/pre", "./runs/pre/"):
        assert located(load(tiny_pose_experiment, ["--init-from", word]).experiment).init_from == str(tmp_path / "runs" / "pre")
    copied(pretrained_run, tmp_path / "pre")  # a folder of that name is meant before a run of it
    assert located(load(tiny_pose_experiment, ["--init-from", "pre"]).experiment).init_from == str(tmp_path / "pre")
    sha256 = hashlib.sha256((pretrained_run / "final" / "model.safetensors").read_bytes()).hexdigest()
    assert pointer_to_weights("pre") == {"weights": str(tmp_path / "pre" / "final" / "model.safetensors"), "sha256": sha256}


def test_a_run_that_goes_on_needs_the_pretrained_one_no_more(finetune, pretrained_run, tmp_path):
    kept, gone = copied(pretrained_run, tmp_path / "kept"), copied(pretrained_run, tmp_path / "gone")
    finetune(kept, *SHORT, name="straight")
    with pytest.raises(Stopped):
        finetune(gone, *SHORT, stop_after=2)
    shutil.rmtree(gone)
    finetune(gone, *SHORT)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")
    warnings = [claim["warnings"] for claim in claims(RunFolder(tmp_path / "run"))]
    assert [len(told) for told in warnings] == [1, 0]


def killed_before_its_first_commit(path: Path) -> None:
    """Leave what a run has that died just after its folder was founded."""
    for part in ("commits", "ckpt", "final", "metrics", "checkpoints"):
        shutil.rmtree(path / part)


def test_until_the_first_commit_the_same_weights_are_needed(finetune, pretrained_run, tmp_path):
    source = copied(pretrained_run, tmp_path / "source")
    finetune(source, *SHORT)
    straight = outcome(tmp_path / "run")
    killed_before_its_first_commit(tmp_path / "run")
    finetune(source, *SHORT)
    assert outcome(tmp_path / "run")[0] == straight[0]
    killed_before_its_first_commit(tmp_path / "run")
    shutil.rmtree(source)
    with pytest.raises(DataError, match=r"model\.safetensors can't be read"):
        finetune(source, *SHORT)


def changed(run: Path) -> None:
    file = run / "final" / "model.safetensors"
    weights = load_file(file)
    save_file(weights | {"head.bias": weights["head.bias"] + 1}, file)


def test_other_weights_under_the_same_name_are_refused(finetune, pretrained_run, lifting_run, tmp_path):
    source = copied(pretrained_run, tmp_path / "source")
    with pytest.raises(Stopped):
        finetune(source, *SHORT, stop_after=2)
    with pytest.raises(ConfigConflict, match=r"began from .*source.*, not from .*lifting"):
        finetune(lifting_run, *SHORT)
    changed(source)
    with pytest.raises(ConfigConflict, match="began from"):
        finetune(source, *SHORT)
    finetune(pretrained_run, *SHORT)  # the same content elsewhere
    assert RunFolder(tmp_path / "run").result() is not None


def test_weights_for_a_run_that_began_without_are_refused(finetune, pretrained_run):
    with pytest.raises(Stopped):
        finetune("", *SHORT, stop_after=2)
    with pytest.raises(ConfigConflict, match="began from the beginning, not from"):
        finetune(pretrained_run, *SHORT)


def go_on(run: Path, **changed: Any):
    return train_here(None, [], output_dir=None, resume=str(run), verbose=False, say=lambda _: None, **changed)


@pytest.fixture
def _own_logging():
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers[:] = before


@pytest.mark.usefixtures("_own_logging")
def test_a_run_named_to_go_on_with_asks_for_no_weights(finetune, pretrained_run, tmp_path):
    """The refusal above says `triform train --resume RUN`, so that must work."""
    source = copied(pretrained_run, tmp_path / "source")
    finetune(pretrained_run, *SHORT, name="straight")
    with pytest.raises(Stopped):
        finetune(source, *SHORT, stop_after=2)
    changed(source)
    go_on(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")


@pytest.mark.usefixtures("_own_logging")
def test_a_run_from_a_checkpoint_of_a_fine_tuned_one_can_be_gone_on_with(finetune, pretrained_run, tmp_path):
    finetune(pretrained_run, "--num-epochs", 2, "--keep-last", 9)
    folder = RunFolder(tmp_path / "run")
    checkpoint = commits(folder)[-2].payload(folder)
    train_here(None, [], output_dir=tmp_path / "branch", resume=str(checkpoint), verbose=False, say=lambda _: None)
    assert json.loads((tmp_path / "branch" / "run.json").read_text())["parent"]["run"] == str(tmp_path / "run")
    (tmp_path / "branch" / "final" / "result.json").unlink()
    go_on(tmp_path / "branch")
    assert outcome(tmp_path / "branch")[0] == outcome(tmp_path / "run")[0]


def test_a_run_that_was_founded_by_another_process_starts_with_the_weights_too(finetune, pretrained_run, tiny_pose_experiment, tmp_path):
    """Under a server the folder is founded before the trainer starts."""
    from triform.pipeline.train import found

    experiment = located(load(tiny_pose_experiment, ["--init-from", str(pretrained_run), *map(str, SHORT)]).experiment)
    found(experiment, RunFolder(tmp_path / "run"))
    finetune(pretrained_run, *SHORT)
    finetune(pretrained_run, *SHORT, name="straight")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")


def test_other_tasks_refuse_it(tiny_experiment, tiny_mesh_experiment, pretrained_run):
    for file in (tiny_experiment, tiny_mesh_experiment):
        with pytest.raises(ExperimentError, match=r"--init-from: got \S+, expected none|--init-from: expected none") as caught:
            load(file, ["--init-from", str(pretrained_run)])
        assert "no encoder that is pretrained" in caught.value.got
