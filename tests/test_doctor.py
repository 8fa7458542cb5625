"""The doctor answers at once, loads nothing heavy, and says for each lack how to mend it."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from triform import doctor

FIRST_LINE = """
import sys, time
from triform import doctor
begin = time.monotonic()
first = next(doctor.checks())
heavy = [name for name in ("torch", "numba", "scipy", "matplotlib", "temporalio") if name in sys.modules]
print(time.monotonic() - begin, first.name, heavy)
"""


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No binary, no configuration, an empty state folder."""
    for name in (
        "TRIFORM_TEMPORAL",
        "TEMPORAL_ADDRESS",
        "TEMPORAL_PROFILE",
        "TEMPORAL_NAMESPACE",
        "TEMPORAL_CONFIG_FILE",
        "NUMBA_CACHE_DIR",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TRIFORM_STATE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_first_line_comes_at_once_and_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_LINE], capture_output=True, text=True, check=True)
    seconds, name, heavy = done.stdout.split(maxsplit=2)
    assert float(seconds) < 0.3
    assert (name, heavy.strip()) == ("Python", "[]")


def test_every_finding_that_is_not_ok_says_what_to_do(alone: Path) -> None:
    found = {check.name: check for check in doctor.checks()}
    assert {"Python", "packages", "processors", "memory", "working folder", "state folder", "Temporal binary", "torch"} <= set(found)
    assert all(check.do for check in found.values() if check.status != "ok")
    assert found["Temporal binary"].status == "warn"
    assert "triform doctor --get-server" in found["Temporal binary"].do
    assert found["Temporal server"].status == "ok"
    assert metadata.version("torch").split("+")[0] in found["torch"].found
    assert not (alone / "triform_state_dir").exists(), "looking changes nothing"


@pytest.mark.usefixtures("alone")
def test_a_configured_address_that_is_silent_fails_by_name() -> None:
    (check,) = doctor._server("127.0.0.1:9")
    assert (check.name, check.status) == ("Temporal server", "fail")
    assert "127.0.0.1:9" in check.found
    assert check.do


def test_a_missing_and_an_old_package_fail_with_the_command_that_mends(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=999", "no-such-package>=1.2", "huggingface-hub>=999 ; extra == 'absent'", "psutil>=1"]
    monkeypatch.setattr(metadata, "requires", lambda _: wanted)
    found = {(check.status, check.do) for check in doctor._packages()}
    assert ("fail", "pip install 'numpy>=999'") in found
    assert ("fail", "pip install 'no-such-package>=1.2'") in found
    assert ("ok", "") in found


@pytest.mark.parametrize(
    ("version", "requirement", "holds"),
    [
        ("2.13.0+cpu", "torch>=2.9", True),
        ("2.8.1", "torch>=2.9", False),
        ("6.0", "cyclopts<6,>=5.4", False),
        ("5.10", "cyclopts<6,>=5.4", True),
        ("1", "x==1.0.0", True),
        ("3.1", "anything", True),
    ],
)
def test_bounds_compare_numbers_and_not_text(version: str, requirement: str, holds: bool) -> None:
    assert doctor.satisfies(version, requirement) is holds


def test_the_cpu_quota_of_both_cgroup_versions(tmp_path: Path) -> None:
    assert doctor.cpu_quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert doctor.cpu_quota(tmp_path) is None
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("250000\n")
    assert doctor.cpu_quota(tmp_path) == 2.5
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert doctor.cpu_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert doctor.cpu_quota(tmp_path) is None


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> float:
        raise OSError("no such call")

    monkeypatch.setattr(doctor.shutil, "disk_usage", broken)
    found = list(doctor._every([("disk", doctor._disk), ("Python", doctor._python)]))
    assert [(check.name, check.status) for check in found] == [("disk", "fail"), ("Python", "ok")]
