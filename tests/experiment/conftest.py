from collections.abc import Callable
from pathlib import Path

import pytest

from triform.errors import ExperimentError
from triform.experiment import load

SMALL = """\
name: small
data: {kind: ply_clouds, data_dir: clouds}
task:
  kind: point_autoencoder
training:
  num_epochs: 20
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The smallest complete file, `x.yaml` in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(SMALL)
    return Path("x.yaml")


@pytest.fixture
def mistakes(small: Path) -> Callable[..., list[str]]:
    """The lines of the error that a file's text and a command line's words give."""

    def lines(text: str | None = None, *words: str) -> list[str]:
        if text is not None:
            small.write_text(text)
        with pytest.raises(ExperimentError) as caught:
            load(small, words)
        assert caught.value.exit_code == 78
        assert caught.value.do
        return caught.value.got.splitlines()

    return lines
