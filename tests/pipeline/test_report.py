"""The report of a run that had an eventful life, and what is drawn beside it."""

import html
import json
import re
import shutil
import signal

import numpy as np
import pytest

from triform.run.commit import commits
from triform.run.folder import RunFolder
from triform.run.metrics_log import history


@pytest.fixture(scope="module")
def eventful(tiny, tiny_experiment, plants, tmp_path_factory):
    """Killed, its newest checkpoint damaged, stopped by a loss that is not finite, then finished; one file of its data is bad."""
    place = tmp_path_factory.mktemp("eventful")
    shutil.copytree(plants, place / "plants")
    (place / "plants" / "torn.ply").write_bytes((place / "plants" / "0001.ply").read_bytes()[:-7])
    folder = RunFolder(place / "run")
    data = ("--data-dir", place / "plants", "--max-quarantine-fraction", 0.2)
    words = ("train", tiny_experiment, *data, "--output-dir", folder.path, "--every-steps", 1, "--plot-every", 2)
    assert tiny("prepare", tiny_experiment, *data) == 0
    assert tiny(*words, TINY_KILL_AT=170, TINY_COMMITS=2) == -signal.SIGKILL
    newest = commits(folder)[0]
    newest.payload(folder).write_bytes(b"torn")
    assert tiny(*words, TINY_NAN_AT=20) == 77
    assert tiny(*words) == 0
    assert tiny("report", folder.path) == 0
    return folder, newest


@pytest.fixture(scope="module")
def page(eventful):
    return eventful[0].report.read_text()


def rows_of(folder):
    result = folder.result()
    return history(folder, result["history"]["generation"], result["history"]["metrics_bytes"])


def test_it_is_one_file_that_asks_for_nothing(page):
    assert page.startswith("<!doctype html>")
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert "default-src 'none'" in html.unescape(page)


def test_it_holds_curves_table_pairs_history_and_settings(page):
    titles = [html.unescape(title) for title in re.findall(r"<h2[^>]*>(.*?)</h2>", page)]
    for title in ("Reconstruction, mean over clouds", "History of the run", "Quarantined files", "Settings"):
        assert title in titles
    kinds = re.findall(r'class="panel (\w+)', page)
    assert {"curves", "table", "cloudpairs", "scatter", "events", "keyvalues"} <= set(kinds)
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    for word in ("sampling floor", "best constant cloud", "nearest training cloud", "training.batch_size", "data.num_points", "48"):
        assert word in text


def test_the_history_tells_generations_interruptions_and_the_fallback(eventful, page):
    folder, damaged = eventful
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    assert folder.result()["generations"] == 3
    for number in (1, 2, 3):
        assert re.search(rf"generation {number} from", text)
    assert "generation 1 ended without a word" in text
    assert f"checkpoint {damaged.name}: its payload has 4 bytes" in text
    assert "Diverged" in text
    assert "Step 21 gave loss = nan" in text
    assert re.search(r"Generations\s+3\b", text)


def test_quarantined_files_are_listed_with_their_reason(eventful, page):
    manifest = json.loads((eventful[0].path.parent / "plants.prepared-48" / "manifest.json").read_text())
    (bad,) = manifest["quarantined"]
    assert bad["member"] == "torn.ply"
    assert bad["reason"] in html.unescape(page)


def test_the_metrics_history_is_the_history(eventful):
    folder, _ = eventful
    told = json.loads((folder.path / "metrics_history.json").read_text())
    assert [(row["step"], row["split"], row["name"], row["value"]) for row in told] == rows_of(folder)
    assert {row["step"] for row in told if row["split"] == "train"} == set(range(1, 33))


def test_curves_are_drawn_as_a_picture(eventful):
    from matplotlib.image import imread

    picture = imread(eventful[0].path / "plots" / "curves.png")
    assert min(picture.shape[:2]) > 200
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 10


def tensorboard_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder.path / "tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def as_tensorboard_has_them(rows):
    found = {}
    for row in rows:
        found.setdefault(f"{row.split}/{row.name}", []).append((row.step, float(np.float32(row.value))))
    return found


def test_tensorboard_shows_each_step_once(eventful):
    assert tensorboard_of(eventful[0]) == as_tensorboard_has_them(rows_of(eventful[0]))


def test_what_tensorboard_was_told_before_a_commit_survives_a_kill(tiny, tiny_experiment, tmp_path):
    """Nothing but commits writes the events here: the only validation is the last."""
    folder = RunFolder(tmp_path / "run")
    words = ("train", tiny_experiment, "--output-dir", folder.path, "--validate-every", 8, "--every-steps", 2)
    assert tiny(*words, TINY_KILL_AT=190, TINY_COMMITS=2) == -signal.SIGKILL
    assert commits(folder)
    assert tiny(*words) == 0
    assert tensorboard_of(folder) == as_tensorboard_has_them(rows_of(folder))


def test_each_generation_has_a_log(eventful):
    folder, damaged = eventful
    first, second, third = (folder.log(number).read_text() for number in (1, 2, 3))
    assert "generation 1 from the beginning" in first
    assert f"WARNING checkpoint {damaged.name}" in second
    assert "epoch 8, step 32" in third


def test_an_unfinished_run_has_no_report(tiny, tiny_experiment, tmp_path):
    path = tmp_path / "run"
    assert tiny("train", tiny_experiment, "--output-dir", path, TINY_NAN_AT=9) == 77
    assert tiny("report", path) == 65
    assert not RunFolder(path).report.exists()
