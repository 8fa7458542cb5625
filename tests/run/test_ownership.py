"""Who may write: locks that vanish with their holder, generations that only grow."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from triform.errors import LostOwnership, RunInUse
from triform.run.folder import RunFolder
from triform.run.ownership import acquire_lock, lineage, lives_here, newest_generation, take_claim, this_process

HOLDER = """
import sys, time, signal
from pathlib import Path
from triform.run.folder import RunFolder
from triform.run.ownership import acquire_lock
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
acquire_lock(RunFolder(Path(sys.argv[1])))
print("held", flush=True)
time.sleep(60)
"""


def hold(folder, how="polite"):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), how], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_trainer_is_refused_with_process_and_host(tmp_path):
    holder = hold(tmp_path)
    try:
        with pytest.raises(RunInUse, match=rf"process {holder.pid} on {this_process()['host']}"):
            acquire_lock(RunFolder(tmp_path))
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    acquire_lock(RunFolder(tmp_path)).release()


@pytest.mark.parametrize(("how", "ended_by"), [("polite", signal.SIGTERM), ("deaf", signal.SIGKILL)])
def test_a_successor_takes_over_politely_then_by_force(tmp_path, how, ended_by):
    holder = hold(tmp_path, how)
    lock = acquire_lock(RunFolder(tmp_path), take_over_after_s=1.0)
    assert holder.wait() == -ended_by
    assert json.loads(RunFolder(tmp_path).lock.read_text())["pid"] == os.getpid()
    lock.release()
    holder.stdout.close()


def test_a_stopped_holder_is_woken_and_ended(tmp_path):
    holder = hold(tmp_path)
    holder.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    acquire_lock(RunFolder(tmp_path), take_over_after_s=5.0).release()
    assert time.monotonic() - begun < 5.0
    assert holder.wait() == -signal.SIGTERM
    holder.stdout.close()


def test_a_process_number_given_to_another_is_not_mistaken(tmp_path):
    me = this_process()
    assert lives_here(me)
    assert not lives_here({**me, "started": me["started"] - 100})
    assert not lives_here({**me, "boot": "another"})
    assert not lives_here({**me, "host": "another"})


def test_claims_are_unique_also_in_a_race(tmp_path):
    folder = RunFolder(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        owners = list(pool.map(lambda _: take_claim(folder, {"base": None}), range(40)))
    assert sorted(owner.generation for owner in owners) == list(range(1, 41))
    assert newest_generation(folder) == 40


def test_only_the_newest_generation_is_confirmed(tmp_path):
    folder = RunFolder(tmp_path)
    first, second = take_claim(folder, {"base": None}), take_claim(folder, {"base": None})
    second.confirm()
    with pytest.raises(LostOwnership):
        first.confirm()


def test_the_lineage_follows_bases_and_leaves_out_dead_branches(tmp_path):
    folder = RunFolder(tmp_path)
    take_claim(folder, {"base": None})
    take_claim(folder, {"base": {"generation": 1, "step": 5, "metrics_bytes": 10}})
    take_claim(folder, {"base": {"generation": 1, "step": 5, "metrics_bytes": 10}})
    assert [claim["generation"] for claim in lineage(folder, 3)] == [1, 3]
