"""The house as it is drawn: who imports whom, what is light, what is never written."""

import ast
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "triform"
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("torch", "mlx", "matplotlib", "numba", "scipy", "tensorboard", "pandas")
HELP_SECONDS = 0.3


def modules_after(statement):
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("triform", (*HEAVY, "temporalio", "numpy", "pydantic", "rich")),
        ("triform.cli", (*HEAVY, "temporalio", "numpy", "pydantic")),
        ("triform.experiment", (*HEAVY, "temporalio")),
        ("triform.durable.workflows", (*HEAVY, "numpy", "pydantic", "psutil")),
        ("triform.durable.client", HEAVY),
        ("triform.pipeline.local", (*HEAVY, "temporalio")),
    ],
)
def test_importing_stays_light(module, absent):
    assert not set(absent) & modules_after(f"import {module}")


@pytest.mark.alone
def test_help_answers_at_once():
    """Wall time, best of five, with compiled files as every installation has them; `make` runs it with nothing beside it."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def seconds():
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "triform", "--help"], env=env, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - begun

    seconds()
    assert min(seconds() for _ in range(5)) < HELP_SECONDS


def test_the_import_contracts_hold():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=SOURCE.parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_is_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in {"utils", "util", "common", "misc", "helpers", "helper"}


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            yield node, function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


RESTRICTED_UNPICKLER = {"plain_pickle.py", "pickled_arrays.py"}


def test_nothing_that_runs_code_from_data():
    """No pickle and its kin but in the restricted reader of other people's data, no eval and exec, no reader that is told to unpickle."""
    for path in FILES:
        tree = ast.parse(path.read_text())
        allowed = {"pickle"} if path.name in RESTRICTED_UNPICKLER else set()
        assert not ({"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"} - allowed) & set(imported(tree)), path
        for node, name in calls(tree):
            plain = isinstance(node.func, ast.Name)
            assert not (plain and name in {"eval", "exec", "compile", "__import__"}), f"{path}:{node.lineno}"
            told = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            assert told.get("allow_pickle", False) is False, f"{path}:{node.lineno}"
            assert told.get("weights_only", True) is True, f"{path}:{node.lineno}"
            of_numpy = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "np"
            assert not (of_numpy and name == "load" and "allow_pickle" not in told), f"{path}:{node.lineno}: say allow_pickle=False"


def test_every_task_has_its_metrics_checked():
    from typing import get_args

    from triform.experiment import Task
    from triform.experiment.checks import METRICS

    union, _ = get_args(Task)
    assert {member.__dataclass_fields__["kind"].default for member in get_args(union)} == METRICS.keys()


def test_every_module_and_every_public_class_says_what_it_is():
    lacking = []
    for path in FILES:
        tree = ast.parse(path.read_text())
        if path.name not in {"__init__.py", "__main__.py"} and not ast.get_docstring(tree):
            lacking.append(str(path))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
        lacking += [f"{path}:{node.lineno} {node.name}" for node in classes if not ast.get_docstring(node)]
    assert lacking == []


def test_the_project_speaks_of_itself_alone():
    """No absolute path of somebody's machine in the source."""
    for path in FILES:
        assert not re.search(r"""["'](/home/|/Users/|/root/)""", path.read_text()), path
