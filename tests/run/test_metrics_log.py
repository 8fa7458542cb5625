"""The metrics log: rows after the last commit of a killed generation never count."""

import errno
import os

import pytest

from triform.errors import DiskFull
from triform.run.folder import RunFolder
from triform.run.metrics_log import MetricsLog, Row, history
from triform.run.ownership import take_claim


def write(folder, base, steps, value):
    owner = take_claim(folder, {"base": base})
    log = MetricsLog(folder, owner.generation)
    log.open()
    positions = {}
    for step in steps:
        log.append(step, "train", {"loss": value + step})
        positions[step] = {"generation": owner.generation, "step": step, "metrics_bytes": log.position}
    log.sync()
    log.close()
    return positions


def test_history_joins_generations_at_their_commits(tmp_path):
    folder = RunFolder(tmp_path)
    first = write(folder, None, [1, 2, 3, 4], 0.0)
    second = write(folder, first[2], [3, 4, 5], 100.0)
    write(folder, second[4], [5, 6], 200.0)
    assert history(folder, 3) == [
        Row(1, "train", "loss", 1.0),
        Row(2, "train", "loss", 2.0),
        Row(3, "train", "loss", 103.0),
        Row(4, "train", "loss", 104.0),
        Row(5, "train", "loss", 205.0),
        Row(6, "train", "loss", 206.0),
    ]


def test_history_ends_at_a_given_position(tmp_path):
    folder = RunFolder(tmp_path)
    positions = write(folder, None, [1, 2, 3], 0.0)
    assert [row.step for row in history(folder, 1, positions[2]["metrics_bytes"])] == [1, 2]


def test_a_torn_last_line_is_left_out(tmp_path):
    folder = RunFolder(tmp_path)
    write(folder, None, [1, 2], 0.0)
    with folder.metrics(1).open("ab") as file:
        file.write(b'{"step": 3, "spl')
    assert [row.step for row in history(folder, 1)] == [1, 2]


def test_values_come_back_exactly(tmp_path):
    folder = RunFolder(tmp_path)
    log = MetricsLog(folder, take_claim(folder, {"base": None}).generation)
    log.open()
    values = {"a": 0.1 + 0.2, "b": 1e-300, "c": -123456789.123456789}
    log.append(1, "val", values)
    log.close()
    assert {row.name: row.value for row in history(folder, 1)} == values


def test_a_row_that_the_disk_takes_in_parts_is_whole(tmp_path, monkeypatch):
    class Slow:
        def __getattr__(self, name):
            return getattr(os, name)

        def write(self, descriptor, data):
            return os.write(descriptor, data[:3])

        def fsync(self, _descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("triform.run.metrics_log.os", Slow())
    folder = RunFolder(tmp_path)
    take_claim(folder, {"base": None})
    log = MetricsLog(folder, 1)
    log.open()
    for step in (1, 2):
        log.append(step, "train", {"loss": 0.5})
    with pytest.raises(DiskFull):
        log.sync()
    log.close()
    assert folder.metrics(1).stat().st_size == log.position
    assert [tuple(row) for row in history(folder, 1)] == [(1, "train", "loss", 0.5), (2, "train", "loss", 0.5)]
