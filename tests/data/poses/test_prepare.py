import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from triform.data.poses import prepare as module
from triform.data.poses.manifest import TrackRecord, load_manifest
from triform.data.poses.poses import load_poses
from triform.data.poses.prepare import finalize, plan, prepare, prepare_batch, prepared_already
from triform.data.split import SPLITS
from triform.errors import CannotWrite, DataError
from triform.geometry.camera import Camera, normalise


def content(folder: Path) -> dict[str, bytes]:
    """All that counts."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in [*folder.glob("*.json*"), *folder.glob("shards/*")]}


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("shards/*")}


def in_order(made, source) -> None:
    for number in range(made.num_batches):
        prepare_batch(made, number, source)


def test_end_to_end(folder) -> None:
    seen: list[tuple[int, int]] = []
    settings = folder.write_all().settings()
    manifest = prepare(settings, progress=lambda done, total: seen.append((done, total)))
    assert manifest.prepared_dir.parent == folder.path.parent
    assert re.fullmatch(r"figures\.prepared-pose_npz-[0-9a-f]{8}", manifest.prepared_dir.name)
    assert seen == [(done, 18) for done in range(1, 19)]
    assert (manifest.num_samples, manifest.average, manifest.largest_2d_error_px) == (36, "action", None)
    assert {split: manifest.count(split) for split in SPLITS} == {"train": 22, "val": 6, "test": 8}
    assert load_manifest(manifest.prepared_dir) == manifest
    assert manifest.tracks[0].name == "ann/sit_1/virtual 0"
    assert not list(manifest.prepared_dir.rglob("*.tmp"))


def test_the_arrays_by_hand(folder) -> None:
    settings = folder.write_all().settings(detection_noise=0.0, split_seed=3)
    prepare(settings)
    poses = load_poses(settings.prepared_folder(), "train", settings)
    for number, record in enumerate(poses.tracks[:4]):
        world = np.load(folder.path / f"{record.sequence}.npz")["joints_3d_mm"]
        camera = Camera.from_tree(record.camera)
        found = poses.read(number, np.arange(record.num_frames))
        np.testing.assert_allclose(found.joints_3d_mm, camera.to_camera(world), atol=1e-2)
        np.testing.assert_allclose(found.joints_2d, normalise(camera.project(camera.to_camera(world)), (1000, 1000)), atol=1e-6)
        np.testing.assert_allclose(record.up_camera, camera.rotation @ [0, 1, 0], atol=1e-12)
        assert (found.confidence == 1).all()
        assert found.valid.all()
        assert (found.mm_per_unit == 1000).all()


def test_imitated_errors_are_in_the_2d_alone(folder) -> None:
    settings = folder.write_all().settings()
    prepare(settings)
    poses = load_poses(settings.prepared_folder(), "test", settings)
    record, found = poses.tracks[0], poses.read(0, np.arange(poses.tracks[0].num_frames))
    exact = normalise(Camera.from_tree(record.camera).project(found.joints_3d_mm), (1000, 1000))
    error = np.linalg.norm(found.joints_2d - exact, axis=-1)
    assert 0.002 < error.mean() < 0.02
    assert np.corrcoef(error.ravel(), found.confidence.ravel())[0, 1] < -0.2


def test_the_content_is_a_pure_function(folder, tmp_path: Path) -> None:
    settings = folder.write_all().settings()
    prepare(settings, workers=3)
    moved = tmp_path / "elsewhere" / "other name"
    shutil.copytree(folder.path, moved)
    again = replace(settings, data_dir=str(moved))
    prepare(again, workers=1)
    assert content(settings.prepared_folder()) == content(again.prepared_folder())


def test_done_batches_are_not_redone(folder, monkeypatch) -> None:
    settings = folder.write_all().settings()
    first = prepare(settings)
    before = stamps(first.prepared_dir)
    torn = first.prepared_dir / "shards" / first.tracks[-1].shard
    torn.write_bytes(torn.read_bytes()[:-1])
    done: list[str] = []
    prepare_tracks = module.prepare_tracks
    monkeypatch.setattr(module, "prepare_tracks", lambda made, one, raw: done.append(one.subject) or prepare_tracks(made, one, raw))
    seen: list[int] = []
    assert prepare(settings, progress=lambda number, _: seen.append(number)) == first
    assert done == ["cid"] * 6
    assert len(seen) == 18
    after = stamps(first.prepared_dir)
    assert {name for name in before if before[name] != after[name]} == {torn.name}


def test_other_data_other_digest_and_no_litter(folder) -> None:
    settings = folder.write_all().settings()
    first = prepare(settings)
    folder.write("ann/sit_1", 77)
    (first.prepared_dir / "shards" / ".x.999999999-0.tmp").write_bytes(b"litter")
    second = prepare(settings)
    assert second.digest != first.digest
    assert (
        {path.name for path in (second.prepared_dir / "shards").iterdir()} == {*second.shards} == {track.shard for track in second.tracks}
    )
    assert len({*first.shards} & {*second.shards}) == 2
    for path in (folder.path / "cid").iterdir():
        path.unlink()
    third = prepare(settings)
    assert len(list((third.prepared_dir / "plan").glob("batch-*.json"))) == 2 == len(third.shards)


def test_a_killed_preparation_goes_on(folder, tmp_path: Path) -> None:
    settings = folder.write_all().settings()
    whole = content(prepare(replace(settings, prepared_dir=str(tmp_path / "whole"))).prepared_dir)
    broken = replace(settings, prepared_dir=str(tmp_path / "broken"))
    script = (
        "import os, sys\nfrom triform import files\nfrom triform.data.poses import prepare as module\n"
        "from triform.datasets.pose_npz import PoseNpz\nleft = int(sys.argv[3])\nwrite = files._write_temporary\n"
        "def dies(path, data):\n    global left\n    left -= 1\n    if left < 0: os._exit(9)\n    return write(path, data)\n"
        "files._write_temporary = dies\n"
        "module.prepare(PoseNpz(data_dir=sys.argv[1], prepared_dir=sys.argv[2], virtual_cameras=2), workers=1)\n"
    )
    for writes in (1, 2, 5, 4):  # after the plan; after a shard; between batches; before the manifest
        command = [sys.executable, "-c", script, settings.data_dir, broken.prepared_dir, str(writes)]
        assert subprocess.run(command, check=False).returncode == 9
        assert load_manifest(broken.prepared_dir) is None
        with pytest.raises(DataError):
            load_poses(broken.prepared_dir, "train", settings)
    prepare(broken)
    assert content(Path(broken.prepared_dir)) == whole


def test_finalize_wants_every_batch_of_its_own_plan(folder) -> None:
    settings = folder.write_all().settings()
    made = plan(settings)
    in_order(made, settings.raw_poses())
    assert finalize(made) == finalize(made)
    other = plan(replace(settings, split_seed=1))
    with pytest.raises(DataError, match=r"batch-00000\.json is missing or of another plan"):
        finalize(other)


def test_a_bad_sequence_is_set_aside(folder) -> None:
    settings = folder.write_all().settings()
    spoiled = np.load(folder.path / "bob" / "walk_1.npz")["joints_3d_mm"]
    spoiled[4, 3, 1] = np.nan
    folder.write("bob/walk_1", joints_3d_mm=spoiled)
    with pytest.raises(DataError, match=r"1 of 18 files can't be used:\n  bob/walk_1.npz: .*frame 4, joint 3 \(r_ankle\)"):
        prepare(settings)
    assert load_manifest(settings.prepared_folder()) is None
    manifest = prepare(replace(settings, max_quarantine_fraction=0.06))
    assert [(file.name, file.member) for file in manifest.quarantined] == [("bob/walk_1", "bob/walk_1.npz")]
    assert json.loads((manifest.prepared_dir / "quarantine.jsonl").read_text())["name"] == "bob/walk_1"
    assert not any(track.sequence == "bob/walk_1" for track in manifest.tracks)


def test_a_batch_of_bad_sequences_and_a_split_without_any(memory, track, folder) -> None:
    good = {f"s/walk {n}": (track(n),) for n in range(8)}
    settings = folder.settings(prepared_dir=str(folder.path), max_quarantine_fraction=1.0, test_subjects=("s",), val_fraction=0.5)
    source = memory(good | {f"t/walk {n}": (track(n),) for n in range(8)} | {f"u/walk {n}": "torn" for n in range(8)})
    made = plan(settings, source)
    in_order(made, source)
    assert finalize(made) == finalize(made)
    source.tracks |= dict.fromkeys(good, "torn")
    made = plan(replace(settings, split_seed=1), source)
    in_order(made, source)
    with pytest.raises(DataError, match="No usable sequence is left in test"):
        finalize(made)


def test_an_exact_2d_is_compared(memory, track, folder) -> None:
    tracks = {f"s/walk {n}": (track(n, ground_truth_2d=True),) for n in range(6)}
    moved = track(3, ground_truth_2d=True)
    tracks["s/walk 3"] = (replace(moved, joints_2d_px=moved.joints_2d_px + np.float32([0.0, 0.5])),)
    settings = folder.settings(prepared_dir=str(folder.path))
    source = memory(tracks)
    made = plan(settings, source)
    in_order(made, source)
    manifest = finalize(made)
    assert manifest.largest_2d_error_px == pytest.approx(0.5, abs=1e-3)
    assert (manifest.protocol, manifest.average) == ("made by a test", "frame")
    source.tracks["s/walk 4"] = (replace(moved, joints_2d_px=moved.joints_2d_px + np.float32([3.0, 4.0])),)
    with pytest.raises(DataError, match=r"s/walk 4/cam.*up to 5 px"):
        in_order(plan(replace(settings, split_seed=1), source), source)


def test_frames_without_a_label_have_no_size(memory, track, folder) -> None:
    joints = np.where((np.arange(40) < 10)[:, None, None], track().joints_3d_camera_mm, np.float64([0, 0, 1]))
    tracks = {f"s/walk {n}": (track(n, joints_3d_camera_mm=joints, valid=np.arange(40) < 10),) for n in range(6)}
    settings, source = folder.settings(prepared_dir=str(folder.path)), memory(tracks)
    made = plan(settings, source)
    in_order(made, source)
    assert finalize(made).num_samples == 6
    source.tracks = {name: (replace(one, valid=None),) for name, (one,) in tracks.items()}
    made = plan(replace(settings, split_seed=1), source)
    in_order(made, source)
    with pytest.raises(DataError, match="another unit than millimetres"):
        finalize(made)


def test_resampled_while_it_is_prepared(folder) -> None:
    settings = folder.write_all().settings(frame_rate=25.0, detection_noise=0.0)
    prepare(settings)
    poses = load_poses(settings.prepared_folder(), "train", settings)
    record = poses.tracks[0]
    world = np.load(folder.path / f"{record.sequence}.npz")["joints_3d_mm"][::2]
    assert (record.frame_rate, record.num_frames) == (25.0, len(world))
    seen = poses.read(0, np.arange(len(world))).joints_3d_mm
    np.testing.assert_allclose(Camera.from_tree(record.camera).to_world(seen), world, atol=1e-2)


def test_prepared_already(folder) -> None:
    settings = folder.write_all().settings(test_actions=("walk",))
    manifest = prepare(settings)
    used = replace(settings, data_dir=str(manifest.prepared_dir), num_frames=5, max_quarantine_fraction=0.5)
    assert prepared_already(used) == manifest == prepare(used)
    assert prepared_already(settings) is None
    with pytest.raises(DataError, match=r"other settings: test_actions is .'walk'., not ..; virtual_cameras is 2, not 3\. Expected"):
        prepared_already(replace(used, test_actions=(), virtual_cameras=3))


def test_a_manifest_that_was_changed(folder) -> None:
    manifest = prepare(folder.write_all().settings())
    path = manifest.prepared_dir / "manifest.json"
    path.write_text(path.read_text().replace('"split": "val"', '"split": "test"'))
    with pytest.raises(DataError, match="not as it was written"):
        load_manifest(manifest.prepared_dir)


def test_a_folder_with_other_things_is_left_alone(folder) -> None:
    with pytest.raises(CannotWrite, match="holds other files"):
        plan(folder.write_all().settings(prepared_dir=str(folder.path)))


@pytest.mark.parametrize("factor", [0.001, 100])
def test_joints_in_another_unit_are_set_aside(folder, factor: float) -> None:
    for path in (folder.write_all().path / "ann").iterdir():
        folder.write(f"ann/{path.stem}", joints_3d_mm=np.load(path)["joints_3d_mm"] * np.float32(factor))
    with pytest.raises(DataError, match=r"ann/walk_1/virtual 0: its joints lie .* mm apart .* another unit than millimetres"):
        prepare(folder.settings())
    assert prepare(folder.settings(stature_m=1.7)).num_samples == 36, "whoever is scaled has no unit"


def test_names_of_other_alphabets_and_with_dots_and_slashes(folder) -> None:
    for seed, name in enumerate(
        ("日本/歩く\u3000走る 1", "a.b/c.d/walk.v2 1", "x../CON", "ann/walk", "ann/walk/camera", "ann/walk/world/x 3")
    ):
        folder.write(name, seed, num_frames=36 + seed)
    settings = folder.settings()
    manifest = prepare(settings)
    lengths = {track.sequence: track.num_frames for track in manifest.tracks}
    assert lengths == {
        "日本/歩く\u3000走る 1": 36,
        "a.b/c.d/walk.v2 1": 37,
        "x../CON": 38,
        "ann/walk": 39,
        "ann/walk/camera": 40,
        "ann/walk/world/x 3": 41,
    }
    for split in SPLITS:
        for number, track in enumerate((poses := load_poses(manifest.prepared_dir, split, settings)).tracks):
            assert np.isfinite(poses.read(number, np.arange(track.num_frames)).joints_2d).all()


def test_a_record_reads_as_it_was_written(folder) -> None:
    record = prepare(folder.write_all().settings()).tracks[0]
    assert TrackRecord.from_tree(json.loads(json.dumps(record.as_tree()))) == record
