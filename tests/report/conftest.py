"""The sample report, drawn once for all tests of this folder that only read it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def sample_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of the sample report's page."""
    from sample import sample_report

    from triform.report.page import write_report

    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, sample_report())
    return path
