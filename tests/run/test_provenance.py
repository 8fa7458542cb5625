"""What a run was made with, and what is told of changes."""

import json
import os
import platform
import subprocess

import pytest

from triform.run import provenance


def test_an_environment_is_plain_and_stable():
    first = provenance.environment(num_threads=3, device="cpu")
    assert json.loads(json.dumps(first)) == first
    assert provenance.environment(num_threads=3, device="cpu") == first
    assert first["packages"]["python"] == platform.python_version()
    assert {"torch", "numpy", "numba", "triform"} <= first["packages"].keys()
    assert first["processor"]["machine"] == platform.machine()
    assert len(first["processor"]["features"]) == 16
    assert provenance.changes(first, first) == []


def test_changes_are_told_in_words():
    before = {"packages": {"numpy": "1.0", "scipy": "1.1"}, "num_threads": 2, "device": "cpu"}
    after = {"packages": {"numpy": "2.0", "torch": "2.9"}, "num_threads": 2, "device": "cuda"}
    assert provenance.changes(before, after) == [
        "device: cpu -> cuda",
        "packages numpy: 1.0 -> 2.0",
        "packages scipy: 1.1 -> None",
        "packages torch: None -> 2.9",
    ]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_threads_are_the_processors_that_this_process_may_use():
    allowed = os.sched_getaffinity(0)
    assert provenance.usable_threads() == len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert provenance.usable_threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_and_whether_files_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_commit() is None
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert provenance.git_commit() == head
    (tmp_path / "file").write_text("two")
    assert provenance.git_commit() == f"{head}+changes"


def test_no_git_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_commit() is None
