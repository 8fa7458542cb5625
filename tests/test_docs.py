"""Whatever a person can name is named in the docs."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from triform.experiment import schema
from triform.run.folder import RunFolder

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MORE = ("ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))


@pytest.fixture(scope="module")
def text():
    return "\n".join(page.read_text() for page in PAGES)


def kinds():
    """Every value of every `kind` in the schema."""
    found = set()

    def walk(node):
        if isinstance(node, dict):
            kind = node.get("properties", {}).get("kind") if isinstance(node.get("properties"), dict) else None
            if kind:
                found.update(kind.get("enum", [kind["const"]] if "const" in kind else []))
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(schema())
    return sorted(found)


def verbs():
    from triform.cli import app

    return sorted(name for name in app if not name.startswith("-"))


def test_the_lists_below_are_not_empty():
    assert {"train", "set-epochs"} <= set(verbs())
    assert {"ply_clouds", "maize_field3d", "point_autoencoder", "pointnet2_msg", "folding", "mesh_identity", "arcface"} <= set(kinds())
    assert len(EXPERIMENTS) >= 4


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_is_in_the_docs(text, verb):
    assert re.search(rf"triform {verb}\b", text)


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_is_in_the_docs(text, kind):
    assert re.search(rf"\b{kind}\b", text)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_file_is_in_the_docs_and_loads(text, path):
    from triform.experiment import load

    assert f"experiments/{path.name}" in text
    assert load(path).experiment.name == path.stem


def commands(path):
    """The commands of a page's blocks, or of an experiment file's head, that train an experiment for poses."""
    text = path.read_text().replace("\\\n#", "")
    lines = [line.lstrip("# ") for line in text.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if re.match(r"triform (run|train) experiments/pose_", line)]


POSE_COMMANDS = [(page, words) for page in (ROOT / "docs/poses.md", ROOT / "README.md", *EXPERIMENTS) for words in commands(page)]


def loaded(words):
    from triform.experiment import load

    return load(ROOT / words[2], words[3:]).experiment


def test_every_file_for_poses_has_its_commands_even_over_two_lines():
    assert any("--detections" in words for words in commands(ROOT / "experiments/pose_finetune_h36m_videopose3d.yaml"))
    assert {page.name for page, _ in POSE_COMMANDS} >= {
        "README.md",
        "poses.md",
        *(path.name for path in EXPERIMENTS if "pose_" in path.name),
    }


@pytest.mark.parametrize(("page", "words"), POSE_COMMANDS, ids=lambda part: part.name if isinstance(part, Path) else "")
def test_the_commands_for_poses_name_experiments_that_load(page, words):
    assert loaded(words).task.kind.startswith("pose_")


@pytest.mark.parametrize("path", [path for path in EXPERIMENTS if "pose_finetune" in path.name], ids=lambda path: path.stem)
def test_a_fine_tuning_file_begins_with_a_run_that_a_command_makes_and_whose_encoder_fits(path):
    from triform.experiment import load

    tuned = load(path).experiment
    made = [found for page, words in POSE_COMMANDS if page == path or page.stem == Path(tuned.init_from).name for found in [loaded(words)]]
    pretrained = [found for found in made if f"runs/{found.name}" == tuned.init_from]
    assert pretrained
    for found in pretrained:
        assert found.task.kind == "pose_pretraining"
        assert (found.task.encoder, found.data.num_frames) == (tuned.task.encoder, tuned.data.num_frames)


@pytest.mark.parametrize(
    ("scratch", "tuned", "published"),
    [("pose_scratch_npz", "pose_finetune_npz", {}), ("pose_scratch_h36m", "pose_finetune_h36m_motionbert", {"num_epochs": 120})],
)
def test_from_scratch_all_else_is_as_in_fine_tuning(scratch, tuned, published):
    from triform.experiment import load

    one, other = (load(ROOT / "experiments" / f"{name}.yaml").experiment for name in (scratch, tuned))
    assert one == replace(other, name=scratch, init_from="", training=replace(other.training, **published))


def test_every_exit_code_is_in_the_docs(text):
    from triform.errors import BY_EXIT_CODE

    for code in BY_EXIT_CODE:
        assert re.search(rf"\b{code}\b", text), code


def test_every_operational_field_is_in_the_docs(text):
    from triform.experiment.tree import OPERATIONAL

    for field in OPERATIONAL:
        assert field in text, field


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name
)
def test_links_between_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


def test_files_and_tests_that_the_docs_name_are_there(text):
    text += "".join((ROOT / f"{name}.md").read_text() for name in MORE)
    for name in set(re.findall(r"`((?:tests|src|docs|experiments|benchmarks)/[\w/.-]+)`", text)):
        assert (ROOT / name).exists(), name


def test_the_run_folder_in_the_architecture_is_the_one_in_the_code(tmp_path):
    told = (ROOT / "ARCHITECTURE.md").read_text()
    folder = RunFolder(tmp_path)
    for path in (folder.lock, folder.claims, folder.commits, folder.checkpoints, folder.horizons, folder.evaluation, folder.report):
        assert path.name in told, path.name
