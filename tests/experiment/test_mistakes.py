"""Every kind of mistake with its exact text."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triform.errors import ExperimentError
from triform.experiment import from_resolved, load, resolved

Mistakes = Callable[..., list[str]]
DATA_KINDS = (
    "ply_clouds, maize_field3d, mesh_hdf5, mesh_files, pose_npz, cmu_bvh, h36m_videopose3d, h36m_motionbert, mpi_inf_3dhp, mpi_inf_3dhp_npz"
)
TASK_KINDS = ("point_autoencoder", "mesh_identity", "pose_pretraining", "pose_lifting")
HEAD = "name: a\ndata: {kind: ply_clouds}\n"
TASK = "task: {kind: point_autoencoder}\n"


def test_lists_every_mistake_at_once_from_the_top(mistakes: Mistakes) -> None:
    text = """\
name: a/b
data: {kind: ply_cloud}
task:
  kind: point_autoencoder
  latent_dims: 5
  loss: cd_l3
  encoder:
    levels:
      - {num_centers: 512, radius: 0, num_neighbors: 32, widths: []}
    global_widths: [1, "2", true]
  augmentation: {scale_range: [1.0], rotate_up: no}
training:
  batch_size: 0
  num_epochs: 1.5
  learning_rate: .nan
  latent_dim: 4
  scheduler_type: cosin
  checkpoints:
"""
    assert mistakes(text, "--patience", "-1") == [
        'x.yaml:1:1 name: got "a/b", expected 1 to 64 letters, digits, dots, hyphens or underscores that begin with a letter or digit',
        f'x.yaml:2:8 data.kind: got "ply_cloud", expected one of {DATA_KINDS}; did you mean ply_clouds?',
        "x.yaml:5:3 task.latent_dims: is no field; did you mean latent_dim?",
        'x.yaml:6:3 task.loss: got "cd_l3", expected one of cd_l2, cd_squared; did you mean cd_l2?',
        "x.yaml:9:28 task.encoder.levels[0].radius: got 0, expected a number above 0",
        "x.yaml:9:58 task.encoder.levels[0].widths: got a list of 0, expected a list of integers above 0, at least 1 of them",
        'x.yaml:10:24 task.encoder.global_widths[1]: got the text "2", expected an integer above 0',
        "x.yaml:10:29 task.encoder.global_widths[2]: got true, expected an integer above 0",
        "x.yaml:11:18 task.augmentation.scale_range: got a list of 1, expected a list of 2 numbers above 0",
        'x.yaml:11:38 task.augmentation.rotate_up: got the text "no", expected true or false',
        "x.yaml:13:3 training.batch_size: got 0, expected an integer above 0",
        "x.yaml:14:3 training.num_epochs: got 1.5, expected an integer above 0",
        "x.yaml:15:3 training.learning_rate: got nan, expected a finite number",
        "x.yaml:16:3 training.latent_dim: is no field here; it belongs to task.latent_dim",
        'x.yaml:17:3 training.scheduler_type: got "cosin", expected one of cosine, step, exponential, constant; did you mean cosine?',
        "x.yaml:18:3 training.checkpoints: got nothing, expected a block of fields",
        "on the command line, --patience: got -1, expected an integer of at least 0",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "x.yaml got nothing, expected fields: name, data and task"),
        ("- 1", "x.yaml:1:1 got a list of 1, expected fields: name, data and task"),
        ("a: b: c", "x.yaml:1:5 not YAML: mapping values are not allowed here"),
        ("a:\n\t- b", "x.yaml:2:1 not YAML: while scanning for the next token, found character '\\t' that cannot start any token"),
        ("a: &b [*b]", "x.yaml:1:1 not YAML: an alias repeats too much, or holds itself"),
        ("[" * 3000, "x.yaml:1:1 not YAML: it is nested too deeply"),
        ("a: \x00", "x.yaml:1:1 not YAML: unacceptable character #x0000: special characters are not allowed"),
        (HEAD + "task: {}", f"x.yaml:3:1 task.kind: is missing, expected one of {', '.join(TASK_KINDS)}"),
        (HEAD, f"x.yaml:1:1 task: is missing, expected a block whose kind is {' or '.join(TASK_KINDS)}"),
        (
            "name: a\ndata: {}\n" + TASK,
            f"x.yaml:2:1 data.kind: is missing, expected one of {DATA_KINDS}",
        ),
        (HEAD + TASK + "seed: 1\nseed: 2\n", "x.yaml:5:1 seed: is written twice, first in line 4"),
        (HEAD + TASK + "training: 5\n", "x.yaml:4:1 training: got 5, expected a block of fields"),
        (HEAD + TASK + "seed: !!int x\n", "x.yaml:4:1 seed: got !!int x, expected a plain value"),
        (HEAD + TASK + "seed: !now 1\n", "x.yaml:4:1 seed: got !now 1, expected a plain value"),
        (HEAD + TASK + "? [b]\n: 1\n", "x.yaml:4:3 got a key that is no name in the file"),
        (
            HEAD + TASK + "<<: {seed: 1}\n",
            "x.yaml:4:1 <<: is no field, expected one of name, seed, backend, init_from, data, task, training",
        ),
        (HEAD + TASK + "training: {weight_decay: .inf}\n", "x.yaml:4:12 training.weight_decay: got inf, expected a finite number"),
        (HEAD + TASK + "seed: 4294967296\n", "x.yaml:4:1 seed: got 4294967296, expected an integer of at least 0 and at most 4294967295"),
    ],
)
def test_says_what_is_wrong_and_where(mistakes: Mistakes, text: str, line: str) -> None:
    assert mistakes(text) == [line]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--monitor=cd", 'on the command line, --monitor: got "cd", expected a metric of the task: cd_l2 or cd_squared'),
        ("--warmup-epochs=21", "on the command line, --warmup-epochs: got 21, expected at most num_epochs, 20"),
        ("--min-lr=0.1", "on the command line, --min-lr: got 0.1, expected at most learning_rate, 0.001"),
        ("--scale-range=[1.2,1]", "on the command line, --scale-range: got 1.2 before 1, expected the smallest factor first"),
        ("--num-points=300", "x.yaml:3:1 task.encoder.levels[0].num_centers: got 512, expected at most num_points, 300"),
        (
            "--levels.1.num-centers=512",
            "on the command line, --levels.1.num-centers: got 512, expected fewer than the level before, 512",
        ),
        (
            "--decoder.kind=folding --grid-size=8",
            "on the command line, --grid-size: got 8 (64 points), expected 32 to 64: half to twice num_points, 2048",
        ),
    ],
)
def test_fields_must_fit_each_other(mistakes: Mistakes, words: str, line: str) -> None:
    assert mistakes(None, *words.split()) == [line]


def test_clashes_stand_beside_other_mistakes(mistakes: Mistakes) -> None:
    assert mistakes(None, "--scale-range=[2,1]", "--batch-size=0", "--name=a/b", "--decoder.kind=folding", "--grid-size=8") == [
        "on the command line, --batch-size: got 0, expected an integer above 0",
        "on the command line, --grid-size: got 8 (64 points), expected 32 to 64: half to twice num_points, 2048",
        'on the command line, --name: got "a/b", expected 1 to 64 letters, digits, dots, hyphens or underscores '
        "that begin with a letter or digit",
        "on the command line, --scale-range: got 2 before 1, expected the smallest factor first",
    ]


def test_a_wrong_field_clashes_with_nothing(mistakes: Mistakes) -> None:
    assert mistakes(None, "--num-epochs=x", "--warmup-epochs=150") == [
        'on the command line, --num-epochs: got the text "x", expected an integer above 0'
    ]


@pytest.mark.usefixtures("small")
def test_a_missing_file_names_the_files_near() -> None:
    with pytest.raises(ExperimentError, match=r"^y\.yaml is no file\. .*take one of x\.yaml; did you mean x\.yaml\?$"):
        load(Path("y.yaml"))


def test_a_file_that_is_not_text(small: Path) -> None:
    small.write_bytes(b"name: \xff")
    with pytest.raises(ExperimentError, match=r"x\.yaml can't be read"):
        load(small)


def test_a_resolved_tree_passes_the_same_gate(small: Path) -> None:
    tree = resolved(load(small).experiment)
    tree["training"]["batch_size"] = "64"
    with pytest.raises(ExperimentError) as caught:
        from_resolved(tree)
    assert caught.value.got == 'the resolved experiment training.batch_size: got the text "64", expected an integer above 0'


def test_without_a_file_every_required_field_is_named() -> None:
    with pytest.raises(ExperimentError) as caught:
        load(None, ["--name=a"])
    assert caught.value.got.splitlines() == [
        f"data: is missing, expected a block whose kind is {DATA_KINDS.replace(', ', ' or ')}",
        f"task: is missing, expected a block whose kind is {' or '.join(TASK_KINDS)}",
    ]


def test_a_word_that_is_not_utf_8(mistakes: Mistakes) -> None:
    assert mistakes(None, "--data-dir=\udcff") == ["x.yaml:1:1 holds text that is not Unicode, expected UTF-8"]


FIELDS = [
    "name",
    "seed",
    "data",
    "kind",
    "task",
    "encoder",
    "levels",
    "decoder",
    "widths",
    "augmentation",
    "scale_range",
    "training",
    "head",
    "min_lr",
    "batch_size",
]
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["ply_clouds", "point_autoencoder", "mlp", "step", "x"])
TREES = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4), max_leaves=12
)
NAMES = st.lists(st.sampled_from([*FIELDS, "0", "7", "no-rotate-up", ""]), min_size=1, max_size=4).map(".".join)


@settings(max_examples=150, deadline=None)
@given(
    tree=st.dictionaries(st.sampled_from(FIELDS), TREES, max_size=5),
    words=st.lists(st.tuples(NAMES, st.sampled_from(["", "=", "=mlp", "=[1, 2]", "={kind: step}", "=0.5", "=ply_clouds"])), max_size=4),
)
def test_any_tree_and_words_give_an_experiment_or_its_mistakes(tree: dict[str, Any], words: list[tuple[str, str]]) -> None:
    with suppress(ExperimentError):
        load(None, [f"--{name}{value}" for name, value in words], defaults=tree)
