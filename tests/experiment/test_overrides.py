from collections.abc import Callable
from pathlib import Path

import pytest

from triform.experiment import load
from triform.experiment.tree import Experiment
from triform.tasks.point_autoencoder.config import FoldingDecoder, MlpDecoder, MultiScaleEncoder

Mistakes = Callable[..., list[str]]


def changed(path: Path, *words: str) -> Experiment:
    return load(path, words).experiment


@pytest.mark.parametrize(
    "words",
    ["--training.batch-size 64", "--training.batch_size 64", "--training.batch-size=64", "--batch-size 64", "--batch_size=64"],
)
def test_forms_of_a_name(small: Path, words: str) -> None:
    assert changed(small, *words.split()).training.batch_size == 64


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("--rotate-up", True),
        ("--no-rotate-up", False),
        ("--rotate-up false", False),
        ("--rotate-up=true", True),
        ("--no-rotate-up --seed 1", False),
        ("--augmentation.no-rotate-up", False),
        ("--no-augmentation.rotate-up", False),
    ],
)
def test_switches(small: Path, words: str, value: bool) -> None:
    assert changed(small, *words.split()).task.augmentation.rotate_up is value


def test_values_are_yaml_1_2_and_text_is_taken_as_it_is(small: Path) -> None:
    experiment = changed(
        small, "--learning-rate", "1e-3", "--name", "010", "--unit=no", "--data-dir", "a: b # c", "--global-widths", "[64, 128]"
    )
    assert experiment.training.learning_rate == 0.001
    assert (experiment.name, experiment.data.unit, experiment.data.data_dir) == ("010", "no", "a: b # c")
    assert experiment.task.encoder.global_widths == (64, 128)


def test_the_last_word_wins_and_words_are_kept(small: Path) -> None:
    loaded = load(small, ["--seed=1", "--seed", "2"])
    assert loaded.experiment.seed == 2
    assert loaded.overrides == ("--seed=1", "--seed", "2")
    assert loaded.path == small


def test_an_item_of_a_list(small: Path) -> None:
    first, second = changed(small, "--levels.0.radius", "0.15").task.encoder.levels
    assert (first.radius, first.num_centers, second.radius) == (0.15, 512, 0.4)


def add_decoder(path: Path, block: str) -> None:
    path.write_text(path.read_text().replace("training:", f"  decoder: {block}\ntraining:"))


def test_a_block_as_a_whole(small: Path) -> None:
    assert changed(small, "--decoder", "{kind: folding, grid_size: 40}").task.decoder == FoldingDecoder(grid_size=40)


def test_another_kind_drops_the_old_member_in_any_order(small: Path) -> None:
    add_decoder(small, "{kind: mlp, widths: [3]}")
    words = ["--task.encoder.kind", "pointnet2_msg", "--grid-size=40", "--decoder.kind=folding"]
    experiment = changed(small, *words)
    assert experiment.task.encoder == MultiScaleEncoder()
    assert experiment.task.decoder == FoldingDecoder(grid_size=40)


def test_the_same_kind_keeps_its_fields(small: Path) -> None:
    add_decoder(small, "{kind: folding, grid_size: 40}")
    assert changed(small, "--decoder.kind", "folding").task.decoder == FoldingDecoder(grid_size=40)


def test_a_block_without_kind_is_of_the_default_kind(small: Path) -> None:
    add_decoder(small, "{widths: [3]}")
    assert changed(small).task.decoder == MlpDecoder(widths=(3,))


def test_without_a_file() -> None:
    defaults = {"task": {"kind": "point_autoencoder", "decoder": {"kind": "folding", "grid_size": 40}}, "seed": 3}
    words = ["--name=a", "--data.kind", "ply_clouds", "--data-dir", "b"]
    experiment = load(None, words, defaults=defaults).experiment
    assert (experiment.name, experiment.seed, experiment.data.data_dir) == ("a", 3, "b")
    assert experiment.task.decoder == FoldingDecoder(grid_size=40)


def test_defaults_lie_under_the_file(small: Path) -> None:
    defaults = {"training": {"num_epochs": 7, "batch_size": 5}, "data": {"kind": "maize_field3d", "archive": "50k"}}
    experiment = load(small, defaults=defaults).experiment
    assert (experiment.training.num_epochs, experiment.training.batch_size) == (20, 5)
    assert experiment.data.kind == "ply_clouds"
    assert defaults["data"] == {"kind": "maize_field3d", "archive": "50k"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--batch-sze 4", "--batch-sze: is no field; did you mean --batch-size?"),
        ("--trainig.batch-size 4", "--trainig.batch-size: is no field; did you mean --training.batch-size?"),
        (
            "--kind x",
            "--kind: names more than one field: --data.kind, --task.kind, --task.encoder.kind, --task.decoder.kind; write one of these",
        ),
        ("--decoder.kind foldin", '--decoder.kind: got "foldin", expected one of mlp, folding; did you mean folding?'),
        ("--grid-size 4", "--grid-size: is no field; task.decoder has it where its kind is folding"),
        ("--batch-size", "--batch-size: got no value, expected one after it"),
        ("--batch-size 0", "--batch-size: got 0, expected an integer above 0"),
        ("--batch-size true", "--batch-size: got true, expected an integer above 0"),
        ("--batch-size '64'", '--batch-size: got the text "64", expected an integer above 0'),
        ("--rotate-up maybe", '--rotate-up: got the text "maybe", expected true or false'),
        ("--no-rotate-up true", "--no-rotate-up: got the value true, expected none after --no-"),
        ("--no-batch-size", "--no-batch-size: --training.batch-size is no switch, expected --field value"),
        ("seed=3", "seed=3: belongs to no option, expected --field value"),
        ("--levels.7.radius 1", "--levels.7.radius: got item 7, expected one of the 2 of task.encoder.levels, counted from 0"),
        ("--levels.0.radus 1", "--levels.0.radus: is no field; did you mean radius?"),
        ("--levels.0.radius 0", "--levels.0.radius: got 0, expected a number above 0"),
        (
            "--augmentation={jitter_std:",
            "--augmentation: not YAML: while parsing a flow node, expected the node content, but found '<stream end>'",
        ),
        ("--global-widths=[1,0]", "--global-widths[1]: got 0, expected an integer above 0"),
    ],
)
def test_mistakes_name_the_option(mistakes: Mistakes, words: str, line: str) -> None:
    assert mistakes(None, *words.split()) == [f"on the command line, {line}"]
