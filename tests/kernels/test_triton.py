"""The Triton kernels without a GPU: their logic by the interpreter, and that they compile for one without fused multiply-add.

Triton decides at its import whether it interprets, so the tests beside this file run in a process of their own.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def run(command, **environment) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRITON_", "PYTEST_"))}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=kept | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
@pytest.mark.long
def test_kernels_under_the_interpreter() -> None:
    files = sorted(str(path) for path in HERE.glob("test_*_triton.py"))
    assert len(files) == 5
    output = run(["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *files], TRITON_INTERPRET="1", OMP_NUM_THREADS="1")
    assert "passed" in output
    assert "skipped" not in output


@pytest.mark.timeout(300)
def test_kernels_compile_for_a_gpu(tmp_path) -> None:
    output = run([str(HERE / "compile_triton.py")], TRITON_CACHE_DIR=str(tmp_path))
    fused = dict(line.rsplit(" ", 1) for line in output.splitlines())
    assert {name for name, count in fused.items() if int(count)} == {"k_nearest _select"}, "only products may be fused"
    assert len(fused) == 10
