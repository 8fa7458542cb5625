import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triform.experiment import describe, fingerprint, from_resolved, load, resolved, to_yaml
from triform.experiment.schema import root
from triform.experiment.tree import OPERATIONAL, Experiment
from triform.tasks.point_autoencoder.config import PointAutoencoder

WORDS = [
    [],
    ["--encoder.kind=pointnet2_msg", "--decoder.kind=folding"],
    ["--data.kind=maize_field3d", "--archive=50k", "--min-lr=1e-9", "--learning-rate=3"],
]


@pytest.mark.parametrize("words", WORDS)
def test_a_tree_survives_both_ways(small: Path, words: list[str]) -> None:
    experiment = load(small, words).experiment
    assert from_resolved(json.loads(json.dumps(resolved(experiment)))) == experiment
    small.write_text(to_yaml(experiment))
    assert load(small).experiment == experiment


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=12) | st.sampled_from(["null", "true", "1e3", "~", "no", "1:30", "- a", "# b", "", "0x1", "a: b", ".inf"]))
def test_any_text_survives_a_file(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    experiment = load(None, ["--name=a", "--data.kind=ply_clouds", "--task.kind=point_autoencoder", f"--data-dir={text}"]).experiment
    assert experiment.data.data_dir == text
    file = tmp_path_factory.getbasetemp() / "text.yaml"
    file.write_text(to_yaml(experiment), encoding="utf-8")
    assert load(file).experiment == experiment


def test_resolved_holds_every_field_in_order(small: Path) -> None:
    tree = resolved(load(small).experiment)
    assert list(tree) == ["name", "seed", "backend", "init_from", "data", "task", "training"]
    assert tree["task"]["encoder"]["levels"][1]["widths"] == [128, 128, 256]
    assert {name: tree["training"][name] for name in ("scheduler_type", "min_lr")} == {"scheduler_type": "cosine", "min_lr": 1e-6}


def test_rows_say_value_meaning_and_default(small: Path) -> None:
    rows = {row.path: row for row in describe(load(small, ["--levels.0.radius=0.3"]).experiment)}
    assert (rows["training.num_epochs"].value, rows["training.num_epochs"].default) == (20, False)
    assert (rows["training.batch_size"].value, rows["training.batch_size"].default) == (32, True)
    assert rows["training.batch_size"].meaning == "Samples of a batch."
    assert rows["task.encoder.levels[0].radius"].value == 0.3
    assert rows["task.decoder.kind"].default
    assert not rows["data.kind"].default


def test_a_list_at_its_default_is_so_in_every_field(small: Path) -> None:
    rows = {row.path: row for row in describe(load(small).experiment)}
    assert rows["task.encoder.levels[1].num_centers"].default


@pytest.mark.parametrize("words", WORDS)
def test_every_field_has_a_meaning(small: Path, words: list[str]) -> None:
    assert [row.path for row in describe(load(small, words).experiment) if not row.meaning] == []


def test_every_field_of_every_kind_has_a_meaning() -> None:
    missing = [
        f"{name}.{field}"
        for name, block in {**root()["$defs"], "Experiment": root()}.items()
        for field, node in block["properties"].items()
        if not node.get("description")
    ]
    assert missing == []


@pytest.mark.parametrize(
    "words",
    [
        "--name=b",
        "--data-dir=elsewhere",
        "--prepared-dir=elsewhere",
        "--max-quarantine-fraction=0.5",
        "--every-seconds=1",
        "--keep-last=9",
        "--plot-every=1",
        "--loader-workers=0",
    ],
)
def test_operational_fields_leave_the_fingerprint(small: Path, words: str) -> None:
    assert fingerprint(load(small, [words]).experiment) == fingerprint(load(small).experiment)


@pytest.mark.parametrize(
    "words", ["--seed=1", "--num-points=1024", "--batch-size=8", "--num-threads=1", "--val-fraction=0.2", "--jitter-std=1e-9"]
)
def test_all_else_changes_the_fingerprint(small: Path, words: str) -> None:
    assert fingerprint(load(small, [words]).experiment) != fingerprint(load(small).experiment)


def test_the_fingerprint_does_not_depend_on_how_the_file_is_written(small: Path) -> None:
    before = fingerprint(load(small).experiment)
    small.write_text("training: {num_epochs: 20, learning_rate: 0.1e-2, gradient_clip: 1}\n" + small.read_text().split("training")[0])
    assert fingerprint(load(small).experiment) == before
    assert len(before) == 64


def test_operational_fields_exist(small: Path) -> None:
    meshes = ["--data.kind", "mesh_files", "--task.kind", "mesh_identity"]
    paths = [row.path for words in ([], meshes) for row in describe(load(small, words).experiment)]
    assert [path for path in OPERATIONAL if not any(f"{known}.".startswith(f"{path}.") for known in paths)] == []


def test_settings_are_plain_python() -> None:
    assert PointAutoencoder().latent_dim == 128
    assert Experiment.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_the_guide_names_every_operational_field_and_kind() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")
    known = [block["properties"]["kind"]["const"] for block in root()["$defs"].values() if "kind" in block["properties"]]
    assert [word for word in (*OPERATIONAL, *known) if f"`{word}`" not in guide] == []
