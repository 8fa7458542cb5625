"""What the command that watches a run says of it."""

from pathlib import Path
from typing import Any, cast

from triform.durable.session import Asked, _tell, _Watched
from triform.experiment import Experiment
from triform.run.folder import RunFolder
from triform.run.ownership import take_claim


def claim(folder: RunFolder, *texts: str) -> None:
    take_claim(folder, {"base": None, "warnings": [{"kind": "initialised", "text": text} for text in texts], "environment": {}})


def test_what_a_generation_took_or_warned_of_is_said_once(tmp_path: Path) -> None:
    folder, said = RunFolder(tmp_path / "run"), list[str]()
    claim(folder, "of before this command")
    anything = cast(Any, None)
    watched = _Watched(Asked(experiment=cast(Experiment, None), folder=folder, say=said.append), anything, anything, True, told=1)
    _tell(watched)
    assert said == []
    claim(folder, "took encoder", "another processor")
    claim(folder, "another thread count")
    _tell(watched)
    _tell(watched)
    assert said == ["took encoder", "another processor", "another thread count"]
