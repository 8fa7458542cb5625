"""What a person reads after an evaluation."""

import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from triform import terminal


@pytest.fixture
def measured(tmp_path):
    columns = [f"a_long_column_{number}" for number in range(6)]
    headline = {split: {name: number + 0.5 for number, name in enumerate(columns)} for split in ("val", "test")}
    told = {"title": "Errors", "headline": headline, "order": {"splits": ["val", "test"], "columns": columns}}
    (tmp_path / "metrics.json").write_text(json.dumps(told))
    return SimpleNamespace(evaluation=tmp_path), columns


@pytest.mark.parametrize(("width", "first"), [(200, "split"), (60, "metric")])
def test_a_headline_that_is_wider_than_the_terminal_turns(measured, monkeypatch, width, first):
    folder, columns = measured
    console = Console(width=width, record=True, soft_wrap=True)
    monkeypatch.setattr(terminal, "console", console)
    terminal.show_metrics(folder)
    text = console.export_text()
    assert all(name in text for name in columns)
    lines = [line for line in text.splitlines() if first in line]
    assert len(lines) == 1
    assert max(map(len, text.splitlines())) <= width
    row = next(line for line in text.splitlines() if ("val" if first == "split" else columns[5]) in line)
    assert "5.5" in row
    assert ("0.5" in row) == (first == "split")
