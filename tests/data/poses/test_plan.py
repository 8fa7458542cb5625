import shutil
from collections import Counter
from dataclasses import replace

import pytest

from triform.data.poses.prepare import is_planned, load_plan, plan
from triform.errors import DataError


def test_batches_keep_subjects_together(folder) -> None:
    made = plan(folder.write_all().settings())
    assert [[sequence.subject for sequence in made.batch(number)] for number in range(3)] == [[who] * 6 for who in ("ann", "bob", "cid")]
    for number in range(20):
        folder.write(f"dan/long_{number}", 100 + number)
    for number in range(2):
        folder.write(f"eve/short_{number}", 200 + number)
    made = plan(folder.settings())
    assert made.batch_sizes == (6, 6, 6, 8, 8, 6)
    assert Counter(sequence.subject for sequence in made.batch(5)) == {"dan": 4, "eve": 2}
    with pytest.raises(IndexError):
        made.batch(6)


def test_a_plan_reads_as_it_was_written(folder) -> None:
    made = plan(folder.write_all().settings(stature_m=1.7, max_quarantine_fraction=0.5, test_actions=("walk",)))
    again = load_plan(made.prepared_dir)
    assert again == made
    assert again.digest == made.digest
    assert is_planned(made.prepared_dir)
    assert not is_planned(folder.path)
    with pytest.raises(DataError, match="no plan of this version"):
        load_plan(folder.path)


def test_two_sequences_of_one_name(folder) -> None:
    folder.write_all().write("more/walk_1", subject="ann")
    with pytest.raises(DataError, match=r"ann/walk_1.npz and more/walk_1.npz are both called ann/walk_1"):
        plan(folder.settings())


def test_one_recording_by_two_names(folder) -> None:
    folder.write_all()
    shutil.copy(folder.path / "ann/walk_1.npz", folder.path / "bob/copied.npz")
    with pytest.raises(DataError, match=r"ann/walk_1\.npz and bob/copied\.npz hold the same recording"):
        plan(folder.settings())


def test_a_name_that_is_no_text(memory, track, folder) -> None:
    source = memory({f"s/caf{letter}": (track(),) for letter in "ab\udce9"})
    with pytest.raises(DataError, match=r"caf\\udce9.file' has a name that is no text"):
        plan(folder.settings(prepared_dir=str(folder.path)), source)


def test_allowing_more_bad_files_makes_nothing_again(folder) -> None:
    settings = folder.write_all().settings()
    assert plan(replace(settings, max_quarantine_fraction=0.5)).digest == plan(settings).digest
    assert plan(replace(settings, split_seed=5)).digest != plan(settings).digest
