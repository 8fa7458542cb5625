from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from triform.data.poses.manifest import load_manifest
from triform.data.poses.poses import load_poses
from triform.data.poses.prepare import finalize, plan, prepare, prepare_batch
from triform.data.poses.windows import clip_frames
from triform.data.split import SPLITS
from triform.errors import DataError


@pytest.fixture
def settings(folder):
    made = folder.write_all().settings()
    prepare(made)
    return made


def test_training_clips(settings) -> None:
    poses = load_poses(settings.prepared_folder(), "train", settings)
    assert (len(poses.tracks), poses.facts) == (22, {"num_frames": 9, "num_joints": 17})
    assert poses.names[:3] == tuple(f"{poses.tracks[0].name}@{start}" for start in (0, 4, 8))
    assert len(poses.names) == len(poses.clip_track) == len(poses.clip_start) == len(poses.labelled) == len({*poses.names})
    for track, start in zip(poses.clip_track, poses.clip_start, strict=True):
        assert start + 9 <= poses.tracks[track].num_frames
    assert poses.labelled.all()
    assert [track.name for track in poses.tracks] == sorted(track.name for track in poses.tracks)


@pytest.mark.parametrize("split", ["val", "test"])
def test_scored_clips_hold_every_frame_once(settings, split) -> None:
    poses = load_poses(settings.prepared_folder(), split, replace(settings, frame_stride=2, labelled_fraction=0.1))
    seen = {track: [] for track in range(len(poses.tracks))}
    for track, start in zip(poses.clip_track, poses.clip_start, strict=True):
        frames = clip_frames(start, num_frames=9, frame_stride=2)
        seen[track] += frames[frames < poses.tracks[track].num_frames].tolist()
    assert all(sorted(frames) == list(range(poses.tracks[track].num_frames)) for track, frames in seen.items())


def test_windows_of_a_track(settings) -> None:
    poses = load_poses(settings.prepared_folder(), "test", settings)
    for number, record in enumerate(poses.tracks):
        found = poses.windows(number)
        assert found.shape[1] == 9
        assert set(found.ravel()) == set(range(record.num_frames))


def test_no_sequence_is_in_two_splits(settings) -> None:
    of = {split: {track.sequence for track in load_poses(settings.prepared_folder(), split, settings).tracks} for split in SPLITS}
    assert sum(map(len, of.values())) == len(set.union(*of.values())) == 18


def test_the_labelled_draw(settings) -> None:
    def drawn(fraction: float, draw: int) -> set[str]:
        chosen = replace(settings, labelled_fraction=fraction, labelled_draw=draw)
        return {track.sequence for track in load_poses(settings.prepared_folder(), "train", chosen).tracks}

    everything = drawn(1.0, 0)
    assert len(everything) == 11
    assert {name.split("/")[1].split("_")[0] for name in drawn(0.1, 0)} == {"walk", "wave", "sit"}
    assert len(drawn(0.1, 0)) == 3
    assert len(drawn(0.5, 0)) == round(5.5)
    assert drawn(0.1, 0) == drawn(0.1, 0) <= drawn(0.5, 0) <= everything
    assert len({frozenset(drawn(0.1, draw)) for draw in range(5)}) > 1


def test_reading_is_a_pure_function_in_threads(settings) -> None:
    poses = load_poses(settings.prepared_folder(), "train", settings)
    asked = [(track, np.random.default_rng(track).integers(0, 36, 9)) for track in range(22)] * 20

    def bits(one: tuple[int, np.ndarray]) -> bytes:
        found = poses.read(*one)
        return b"".join(np.asarray(getattr(found, name)).tobytes() for name in type(found).__slots__)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(bits, asked)) == [bits(one) for one in asked]


def test_frames_are_copies_in_the_order_asked_for(settings) -> None:
    poses = load_poses(settings.prepared_folder(), "train", settings)
    whole, some = poses.read(2, np.arange(30)), poses.read(2, np.array([7, 7, 3]))
    for name in type(whole).__slots__:
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[[7, 7, 3]])
    some.joints_2d[:] = 5
    assert not (poses.read(2, np.array([7])).joints_2d == 5).any()
    with pytest.raises(IndexError):
        poses.read(2, np.array([10_000]))


def test_types(settings) -> None:
    found = load_poses(settings.prepared_folder(), "val", settings).read(0, np.arange(4))
    types = {name: np.asarray(getattr(found, name)).dtype for name in type(found).__slots__}
    assert types == dict.fromkeys(("joints_2d", "confidence", "joints_3d_mm", "mm_per_unit"), np.float32) | {"valid": np.bool_}


def test_tracks_with_units_validity_and_without_labels(memory, track, folder) -> None:
    unit = np.linspace(500, 900, 40).astype(np.float32)
    tracks = {f"s/walk {n}": (track(n),) for n in range(4)}
    tracks["t/own 1"] = (
        track(7, mm_per_unit=unit, valid=np.arange(40) % 3 > 0),
        track(8, camera_name="b", joints_3d_camera_mm=None, camera=None),
    )
    source, settings = memory(tracks), folder.settings(prepared_dir=str(folder.path), test_subjects=("t",))
    made = plan(settings, source)
    for number in range(made.num_batches):
        prepare_batch(made, number, source)
    finalize(made)
    poses = load_poses(made.prepared_dir, "test", settings)
    frames = np.array([0, 1, 39])
    bare, own = poses.read(0, frames), poses.read(1, frames)
    assert [(one.camera_name, one.labelled, one.constant_unit) for one in poses.tracks] == [("b", False, True), ("cam", True, False)]
    np.testing.assert_array_equal(poses.labelled, poses.clip_track == 1)
    assert bare.joints_3d_mm is None
    assert not bare.valid.any()
    assert (bare.mm_per_unit == 1000).all()
    np.testing.assert_array_equal(own.mm_per_unit, unit[frames])
    assert own.valid.tolist() == [False, True, False]
    assert (poses.average, poses.protocol) == ("frame", "made by a test")


@pytest.mark.parametrize("harm", ["changed", "torn", "gone"])
def test_a_shard_that_is_not_what_was_prepared(settings, harm: str) -> None:
    path = next(iter(sorted((settings.prepared_folder() / "shards").iterdir())))
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-4] + (b"\xff\xff\xff\x7f" if harm == "changed" else b""))
    with pytest.raises(DataError, match=f"{path.name} (is not what was prepared|can't be read)"):
        for split in SPLITS:
            load_poses(settings.prepared_folder(), split, settings)
    if harm != "changed":
        with pytest.raises(DataError, match=path.name):
            for split in SPLITS:
                load_poses(settings.prepared_folder(), split, settings, verify=False)


def test_a_folder_that_is_not_prepared(folder) -> None:
    with pytest.raises(DataError, match=r"has no manifest.json of poses"):
        load_poses(folder.path, "train", folder.settings())


def test_a_split_without_tracks(settings) -> None:
    manifest = load_manifest(settings.prepared_folder())
    replace(manifest, tracks=manifest.of_split("train")).sealed().write()
    assert load_poses(settings.prepared_folder(), "train", settings).names
    with pytest.raises(DataError, match=r"has no poses in val.*triform prepare"):
        load_poses(settings.prepared_folder(), "val", settings)
