"""Commits: what was written comes back, what was damaged does not."""

import numpy as np
import pytest

from triform.errors import LostOwnership
from triform.run.commit import Commit, collect, commits, newest_good, read_commit, state_digest, write_commit
from triform.run.folder import RunFolder
from triform.run.ownership import Ownership, take_claim

STATE = {"model/w": np.arange(6, dtype=np.float32).reshape(2, 3), "updates": np.array(3, np.int64)}
META = {"progress": {"best": {"step": None}}, "metrics_bytes": 0}


@pytest.fixture
def owner(tmp_path) -> Ownership:
    return take_claim(RunFolder(tmp_path), {"base": None})


def test_a_commit_comes_back_bit_for_bit(owner):
    write_commit(owner, 5, STATE, META)
    commit, state, record = newest_good(owner.folder)
    assert commit == Commit(1, 5)
    assert state.keys() == STATE.keys()
    assert all(np.array_equal(state[name], STATE[name]) and state[name].dtype == STATE[name].dtype for name in STATE)
    assert record["metrics_bytes"] == 0
    assert record["skipped"] == []


def test_order_is_by_generation_then_step(owner):
    write_commit(owner, 900, STATE, META)
    write_commit(owner, 1000, STATE, META)
    later = take_claim(owner.folder, {"base": None})
    write_commit(later, 10, STATE, META)
    assert commits(owner.folder) == [Commit(2, 10), Commit(1, 1000), Commit(1, 900)]


@pytest.mark.parametrize("damage", ["torn payload", "flipped payload", "missing payload", "torn record", "flipped record"])
def test_a_damaged_newest_commit_is_told_and_passed_over(owner, damage):
    write_commit(owner, 1, STATE, META)
    newest = write_commit(owner, 2, STATE, META)
    path = newest.payload(owner.folder) if "payload" in damage else newest.record(owner.folder)
    data = bytearray(path.read_bytes())
    if damage.startswith("missing"):
        path.unlink()
    elif damage.startswith("torn"):
        path.write_bytes(data[: len(data) // 2])
    else:
        data[-9] ^= 1
        path.write_bytes(data)
    commit, _, record = newest_good(owner.folder)
    assert commit == Commit(1, 1)
    assert len(record["skipped"]) == 1
    assert newest.name in record["skipped"][0]


def test_a_superseded_owner_can_not_commit(owner):
    write_commit(owner, 1, STATE, META)
    take_claim(owner.folder, {"base": None})
    with pytest.raises(LostOwnership, match="Generation 2 owns"):
        write_commit(owner, 2, STATE, META)
    assert commits(owner.folder) == [Commit(1, 1)]


def test_a_zombie_that_commits_late_is_ordered_before_its_successor(owner, monkeypatch):
    later = take_claim(owner.folder, {"base": None})
    write_commit(later, 5, STATE, META)
    monkeypatch.setattr(Ownership, "confirm", lambda self: None)  # stopped between its check and its write
    write_commit(owner, 800, STATE, META)
    assert newest_good(owner.folder)[0] == Commit(2, 5)


def test_collect_keeps_the_last_the_best_and_every_nth(owner):
    for step in range(1, 11):
        write_commit(owner, step, STATE, META)
    collect(owner, keep_last=3, keep_every=(4,), keep_steps=(2,))
    assert [commit.step for commit in commits(owner.folder)] == [10, 9, 8, 4, 2]
    payloads = sorted(path.stem for path in owner.folder.checkpoints.iterdir())
    assert payloads == sorted(commit.name for commit in commits(owner.folder))


def test_collect_removes_what_a_killed_process_left(owner):
    write_commit(owner, 1, STATE, META)
    (owner.folder.checkpoints / ".g.safetensors.99-0.tmp").write_bytes(b"half")
    (owner.folder.checkpoints / "g00000001-s0000000009.safetensors").write_bytes(b"no record")
    collect(owner, keep_last=2, keep_every=(0,), keep_steps=(None,))
    assert [path.name for path in owner.folder.checkpoints.iterdir()] == ["g00000001-s0000000001.safetensors"]


def test_the_digest_sees_every_array_and_number():
    base = state_digest(STATE, {"step": 1})
    assert base == state_digest(dict(reversed(STATE.items())), {"step": 1})
    assert base != state_digest(STATE, {"step": 2})
    assert base != state_digest({**STATE, "updates": np.array(4, np.int64)}, {"step": 1})
    assert base != state_digest({**STATE, "model/w": STATE["model/w"].reshape(3, 2)}, {"step": 1})
    assert base != state_digest({**STATE, "model/w": STATE["model/w"].astype(np.float64)}, {"step": 1})


def test_a_commit_of_another_version_is_not_guessed_at(owner):
    commit = write_commit(owner, 1, STATE, META)
    assert isinstance(read_commit(owner.folder, Commit(1, 2)), str)
    assert not isinstance(read_commit(owner.folder, commit), str)
