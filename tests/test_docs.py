"""Whatever a person can name is named in the docs."""

import re
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
