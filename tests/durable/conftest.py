"""A real Temporal server for this folder, and a stage for each test to play a run on."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stage import Outcome, Server, Stage, outcome, run_paced

from triform.durable import server_binary


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The binary on a database of its own; tests may kill it, as long as they start it again."""
    binary = server_binary.find()
    if binary is None:
        pytest.skip("no Temporal server binary")
    made = Server(binary, tmp_path_factory.mktemp("server"))
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="session")
def undisturbed(tiny_experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What the run gives that nobody disturbs, without any server."""
    place = tmp_path_factory.mktemp("undisturbed")
    assert run_paced(place, "train", tiny_experiment, "--output-dir", place / "run") == 0
    return outcome(place / "run")


@pytest.fixture
def stage(server: Server, tiny_experiment: Path, tmp_path: Path) -> Iterator[Stage]:
    """A run that is not started yet; afterwards none of its processes may live."""
    server.start()
    made = Stage(server, tiny_experiment, tmp_path)
    yield made
    made.close()
