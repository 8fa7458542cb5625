import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from triform.data.clouds import load_clouds
from triform.data.config import CloudSettings
from triform.data.manifest import load_manifest
from triform.data.prepare import finalize, load_plan, plan, prepare, prepare_batch, prepared_already
from triform.errors import CannotWrite, DataError
from triform.geometry.ply import write_ply

SHARED = Path(__file__).parents[2] / "../shared/data"
SettingsFor = Callable[..., CloudSettings]


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def result(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in content(folder).items() if not name.startswith("plan/")}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.stem: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (folder / "clouds").rglob("*.npz")}


def test_end_to_end(raw: Path, settings_for: SettingsFor) -> None:
    seen: list[tuple[int, int]] = []
    manifest = prepare(settings_for(raw), progress=lambda done, total: seen.append((done, total)))
    assert manifest.prepared_dir == raw.with_name("plants.prepared-64")
    assert seen == [(done, 12) for done in range(1, 13)]
    assert [len(manifest.of_split(split)) for split in ("train", "val", "test")] == [10, 1, 1]
    assert load_manifest(manifest.prepared_dir) == manifest
    assert not list(manifest.prepared_dir.rglob("*.tmp"))
    train, val = load_clouds(manifest.prepared_dir, "train"), load_clouds(manifest.prepared_dir, "val")
    assert train.points.shape == (10, 64, 3)
    assert train.points.dtype == np.float32
    assert train.resampled is None
    assert train.names == tuple(cloud.name for cloud in manifest.of_split("train"))
    assert val.resampled is not None
    assert not np.array_equal(np.sort(val.points, axis=1), np.sort(val.resampled, axis=1))
    assert (train.centroid.dtype, train.centroid.shape, train.scale.shape) == (np.float64, (10, 3), (10,))
    assert (train.up_axis, train.unit, train.digest) == ("z", "m", manifest.digest)


def test_the_digest_knows_no_paths_and_times(raw: Path, tmp_path: Path, settings_for: SettingsFor) -> None:
    first = prepare(settings_for(raw))
    nested = tmp_path / "elsewhere" / "RawPCD" / "RawPCD"
    shutil.copytree(raw, nested)
    for path in nested.iterdir():
        os.utime(path, (1, 1))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in raw.iterdir():
            archive.write(path, f"RawPCD/{path.name}")
    for other in (tmp_path / "elsewhere", tmp_path / "packed.zip"):
        again = prepare(settings_for(other), workers=1)
        assert again.digest == first.digest
        assert result(again.prepared_dir) == result(first.prepared_dir)
    assert prepare(settings_for(raw, prepared_dir=str(tmp_path / "s"), up_axis="y")).digest != first.digest


def test_only_what_changed_is_made_again(raw: Path, settings_for: SettingsFor, plant: Callable[..., np.ndarray]) -> None:
    manifest = prepare(settings_for(raw))
    before = stamps(manifest.prepared_dir)
    assert prepare(settings_for(raw)) == manifest
    assert stamps(manifest.prepared_dir) == before
    write_ply(raw / "0003.ply", plant(99))
    changed = prepare(settings_for(raw))
    after = stamps(manifest.prepared_dir)
    assert {name for name in before if before[name] != after[name]} == {"0003"}
    assert changed.digest != manifest.digest
    damaged = manifest.prepared_dir / "clouds" / "0005.npz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert prepare(settings_for(raw)).digest == changed.digest
    load_clouds(manifest.prepared_dir, "train")
    assert {name for name, stamp in stamps(manifest.prepared_dir).items() if stamp != after[name]} == {"0005"}


def test_another_number_of_points_makes_all_again(raw: Path, tmp_path: Path, settings_for: SettingsFor) -> None:
    there = str(tmp_path / "prepared")
    prepare(settings_for(raw, prepared_dir=there))
    prepare(settings_for(raw, prepared_dir=there, num_points=100))
    assert load_clouds(there, "val").points.shape == (1, 100, 3)


def test_a_file_that_vanished_leaves(raw: Path, settings_for: SettingsFor) -> None:
    manifest = prepare(settings_for(raw))
    (raw / "0004.ply").unlink()
    after = prepare(settings_for(raw))
    assert {cloud.name for cloud in manifest.clouds} - {cloud.name for cloud in after.clouds} == {"0004"}
    assert set(stamps(after.prepared_dir)) == {cloud.name for cloud in after.clouds}
    fresh = prepare(settings_for(raw, prepared_dir=str(raw.with_name("fresh"))))
    assert result(fresh.prepared_dir) == result(after.prepared_dir)


def test_equal_contents_stay_together(raw: Path, settings_for: SettingsFor) -> None:
    for number in range(2, 9):
        shutil.copy(raw / "0001.ply", raw / f"{number:04d}.ply")
    for seed in range(4):
        manifest = prepare(settings_for(raw, split_seed=seed, prepared_dir=str(raw.with_name(f"s{seed}"))))
        assert len({cloud.split for cloud in manifest.clouds[:8]}) == 1
        assert {cloud.split for cloud in manifest.clouds} == {"train", "val", "test"}
        for split in ("train", "val", "test"):
            load_clouds(manifest.prepared_dir, split)


def test_every_kind_of_bad_file(raw: Path, settings_for: SettingsFor, plant: Callable[..., np.ndarray]) -> None:
    good = (raw / "0001.ply").read_bytes()
    bad = {
        "empty.ply": (b"", "empty"),
        "truncated.ply": (good[:-5], "truncated"),
        "header.ply": (good.replace(b"property double x", b"property triple x"), "header line"),
        "text.ply": (b"hello", "not a PLY file"),
        "few.ply": (None, "63 points, fewer than 64"),
        "holes.ply": (None, "not finite, more than 1 percent"),
        "same.ply": (None, "distinct points"),
    }
    for name, (data, _) in bad.items():
        (raw / name).write_bytes(data or b"")
    write_ply(raw / "few.ply", plant(5, num_points=63))
    write_ply(raw / "holes.ply", np.concatenate([plant(5), np.full((3, 3), np.nan)]))
    write_ply(raw / "same.ply", np.tile(plant(5, num_points=20), (10, 1)))
    (raw / "gone.ply").symlink_to(raw / "nowhere")
    manifest = prepare(settings_for(raw, max_quarantine_fraction=0.5))
    lines = [json.loads(line) for line in (manifest.prepared_dir / "quarantine.jsonl").read_text().splitlines()]
    reasons = {line["member"]: line["reason"] for line in lines}
    assert set(reasons) == {*bad, "gone.ply"}
    for name, (_, reason) in bad.items():
        assert reason in reasons[name]
    assert "can't be read" in reasons["gone.ply"]
    assert len(manifest.clouds) == 12
    assert [file.member for file in manifest.quarantined] == [line["member"] for line in lines]
    with pytest.raises(DataError, match=r"8 of 20 files can't be used") as caught:
        prepare(settings_for(raw))
    assert "  few.ply: 63 points" in str(caught.value)
    assert "--max-quarantine-fraction 0.4" in str(caught.value)
    assert caught.value.exit_code == 65


def test_the_message_lists_twenty(raw: Path, settings_for: SettingsFor) -> None:
    for number in range(30):
        (raw / f"bad{number:02d}.ply").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        prepare(settings_for(raw))
    assert str(caught.value).count("the file is empty") == 20
    assert "and 10 more" in str(caught.value)


def test_a_file_that_turns_bad_leaves_and_its_plant_is_dealt_anew(raw: Path, settings_for: SettingsFor) -> None:
    manifest = prepare(settings_for(raw))
    (val,) = manifest.of_split("val")
    (raw / f"{val.name}.ply").write_bytes(b"")
    after = prepare(settings_for(raw, max_quarantine_fraction=0.1))
    assert load_clouds(after.prepared_dir, "val").resampled is not None
    assert not val.path(after.prepared_dir).exists()
    fresh = prepare(settings_for(raw, max_quarantine_fraction=0.1, prepared_dir=str(raw.with_name("fresh"))))
    assert result(fresh.prepared_dir) == result(after.prepared_dir)
    before = stamps(after.prepared_dir)
    prepare(settings_for(raw, max_quarantine_fraction=0.1))
    assert stamps(after.prepared_dir) == before


def test_too_few_clouds(tmp_path: Path, write_plants: Callable[..., Path], settings_for: SettingsFor) -> None:
    raw = write_plants(tmp_path / "plants", 3)
    assert [len(prepare(settings_for(raw)).of_split(split)) for split in ("train", "val", "test")] == [1, 1, 1]
    (raw / "0001.ply").write_bytes(b"")
    with pytest.raises(DataError, match="2 usable clouds"):
        prepare(settings_for(raw, max_quarantine_fraction=1.0))
    with pytest.raises(DataError, match="No raw data"):
        prepare(settings_for(""))
    with pytest.raises(DataError, match="does not exist"):
        prepare(settings_for(tmp_path / "nowhere"))


def test_a_prepared_folder_is_used_as_it_is(raw: Path, settings_for: SettingsFor) -> None:
    manifest = prepare(settings_for(raw))
    shutil.rmtree(raw)
    assert prepare(settings_for(manifest.prepared_dir)) == manifest
    with pytest.raises(DataError, match=r"num_points is 64, not 2048; split_seed is 0, not 3"):
        prepared_already(settings_for(manifest.prepared_dir, num_points=2048, split_seed=3))


def test_a_folder_of_other_things_is_refused(raw: Path, tmp_path: Path, settings_for: SettingsFor) -> None:
    (tmp_path / "home" / "clouds").mkdir(parents=True)
    (tmp_path / "home" / "clouds" / "mine.npz").write_bytes(b"precious")
    with pytest.raises(CannotWrite, match="--prepared-dir"):
        prepare(settings_for(raw, prepared_dir=str(tmp_path / "home")))
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="--prepared-dir"):
        prepare(settings_for(raw, prepared_dir=str(tmp_path / "file" / "below")))


def test_pieces_in_any_order_at_once_and_again(raw: Path, settings_for: SettingsFor, tmp_path: Path) -> None:
    expected = prepare(settings_for(raw))
    settings = settings_for(raw, prepared_dir=str(tmp_path / "pieces"))
    made = plan(settings, settings.raw_files())
    assert load_plan(tmp_path / "pieces") == made
    assert load_plan(tmp_path / "pieces").digest == made.digest
    with pytest.raises(DataError, match="Batch 0 of 1 is not prepared"):
        finalize(made)
    beats: list[str] = []
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: prepare_batch(made, 0, on_file=lambda: beats.append(threading.current_thread().name)), range(3)))
    assert len(beats) == 36
    assert finalize(made) == finalize(load_plan(tmp_path / "pieces"))
    assert result(tmp_path / "pieces") == result(expected.prepared_dir)
    with pytest.raises(IndexError):
        prepare_batch(made, 1)


def test_what_on_file_raises_ends_the_batch(raw: Path, settings_for: SettingsFor) -> None:
    class Enough(Exception):
        pass

    def stop(done: int, _total: int) -> None:
        if done == 3:
            raise Enough

    with pytest.raises(Enough):
        prepare(settings_for(raw), progress=stop)
    assert load_manifest(settings_for(raw).prepared_folder()) is None
    prepare(settings_for(raw))


_KILLED = """
import os, signal, sys
import triform.files
from triform.data.config import CloudSettings
from triform.data.prepare import prepare

left = int(sys.argv[2])
replace = os.replace
def killed(source, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
triform.files.os.replace = killed
prepare(CloudSettings(data_dir=sys.argv[1], num_points=64))
"""


def test_what_another_process_is_writing_stays(raw: Path, settings_for: SettingsFor) -> None:
    folder = prepare(settings_for(raw)).prepared_dir
    places = [folder, folder / "plan", folder / "clouds", folder / "clouds" / "below"]
    (folder / "clouds" / "below").mkdir()
    for place in places:
        (place / f".live.{os.getppid()}-0.tmp").write_bytes(b"half")
        (place / ".dead.999999999-0.tmp").write_bytes(b"half")
    prepare(settings_for(raw))
    assert {path.parent for path in folder.rglob("*.tmp")} == set(places)
    assert not list(folder.rglob(".dead*"))


@pytest.mark.parametrize("renames", [0, 1, 30, 42, 43, 44])
def test_killed_between_two_renames_and_run_again(
    tmp_path: Path, write_plants: Callable[..., Path], settings_for: SettingsFor, renames: int
) -> None:
    # 40 plants in two batches: plan, 32 clouds, their record, 8 clouds, their record, quarantine, manifest.
    raw = write_plants(tmp_path / "plants", 40, num_points=80)
    expected = prepare(settings_for(raw, prepared_dir=str(tmp_path / "whole")))
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(raw), str(renames)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert load_manifest(settings_for(raw).prepared_folder()) is None
    again = prepare(settings_for(raw))
    assert result(again.prepared_dir) == result(expected.prepared_dir)
    assert not list(again.prepared_dir.rglob("*.tmp"))


def test_clouds_are_not_believed_blindly(raw: Path, tmp_path: Path, settings_for: SettingsFor) -> None:
    with pytest.raises(DataError, match="triform prepare"):
        load_clouds(tmp_path, "train")
    manifest = prepare(settings_for(raw))
    first = manifest.of_split("train")[0].path(manifest.prepared_dir)
    data = first.read_bytes()
    first.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    with pytest.raises(DataError, match=rf"{first.name} can't be used.*triform prepare"):
        load_clouds(manifest.prepared_dir, "train")
    first.unlink()
    with pytest.raises(DataError, match="No such file"):
        load_clouds(manifest.prepared_dir, "train", verify=False)
    path = manifest.prepared_dir / "manifest.json"
    path.write_text(path.read_text().replace('"split": "test"', '"split": "train"'))
    with pytest.raises(DataError, match="not as it was written"):
        load_manifest(manifest.prepared_dir)
    assert prepare(settings_for(raw)) == manifest


def test_real_files(tmp_path: Path, settings_for: SettingsFor) -> None:
    if not (SHARED / "ply").exists():
        pytest.skip("the files lie beside the repository only")
    raw = tmp_path / "real"
    for name in ("ply", "corn"):
        shutil.copytree(SHARED / name, raw / name)
    manifest = prepare(settings_for(raw, num_points=2048, max_quarantine_fraction=0.9))
    assert [cloud.name for cloud in manifest.clouds] == ["corn/10", "corn/11", "corn/12", "ply/bunny"]
    assert len(manifest.quarantined) == 8
    assert all("fewer than 2048" in file.reason for file in manifest.quarantined)
    assert load_clouds(manifest.prepared_dir, "train").points.shape == (2, 2048, 3)
