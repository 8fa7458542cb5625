"""Human3.6M in MotionBERT's pickle: runs of frames become tracks, and what is refused."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pose_files import motionbert_tables, world_walk, write_motionbert

from triform.data.plain_pickle import read_plain
from triform.data.poses.h36m_cameras import CAMERA_NAMES, h36m_camera
from triform.data.poses.motionbert import ACTIONS
from triform.data.poses.prepare import finalize, plan, prepare_batch
from triform.data.quarantine import BadFile
from triform.datasets.h36m_motionbert import H36mMotionBert
from triform.errors import DataError


def settings(folder: Path, **changes: Any) -> H36mMotionBert:
    return H36mMotionBert(**{"data_dir": str(folder), **changes})


def test_actions_by_number() -> None:
    assert len(ACTIONS) == 15
    assert (ACTIONS[2 - 2], ACTIONS[5 - 2], ACTIONS[10 - 2], ACTIONS[13 - 2], ACTIONS[16 - 2]) == (
        *("Directions", "Greeting", "SittingDown", "Waiting", "WalkTogether"),
    )


def test_listing(tmp_path: Path) -> None:
    write_motionbert(tmp_path)
    raw = settings(tmp_path).raw_poses()
    assert [(sequence.name, sequence.action, sequence.split) for sequence in raw.sequences] == [
        ("S1/Directions 1", "Directions", None),
        ("S1/Directions 2", "Directions", None),
        ("S11/Walking 1", "Walking", "test"),
        ("S5/WalkTogether 1", "WalkTogether", None),
        ("S9/Directions 1", "Directions", "test"),
        ("S9/Greeting 1", "Greeting", "test"),
    ]
    assert raw.protocol == (
        "Human3.6M, S9 and S11, without S9/Greeting 2, 17 joints about the hip, 2D and 2.5D: h36m_sh_conf_cam_source_final.pkl, "
        "mean over 3 actions"
    )
    everything = settings(tmp_path, skip_corrupted=False).raw_poses()
    assert len(everything.sequences) == 7
    assert "all takes" in everything.protocol


def test_every_frame_of_every_track(tmp_path: Path) -> None:
    table = write_motionbert(tmp_path)["test"]
    raw = settings(tmp_path, skip_corrupted=False).raw_poses()
    sequence = next(sequence for sequence in raw.sequences if sequence.name == "S9/Greeting 2")
    tracks = raw.read(sequence)
    assert [track.camera_name for track in tracks] == sorted(CAMERA_NAMES)
    assert [track.size_px for track in tracks] == [(1000, 1002), (1000, 1000), (1000, 1000), (1000, 1002)]
    for track in tracks:
        rows = [
            i
            for i, (source, camera) in enumerate(zip(table["source"], table["camera_name"], strict=True))
            if source.startswith("s_09_act_05_subact_02") and camera == track.camera_name
        ]
        assert len(rows) == 20
        np.testing.assert_array_equal(track.joints_2d_px, table["joint_2d"][rows])
        np.testing.assert_array_equal(track.confidence, table["confidence"][rows, :, 0])
        np.testing.assert_array_equal(track.joints_3d_camera_mm, table["joints_2.5d_image"][rows])
        # A network sees an image 2 wide: one unit is half its width, times the frame's factor.
        np.testing.assert_array_equal(track.mm_per_unit, table["2.5d_factor"][rows] * np.float32(500))
        assert track.mm_per_unit is not None
        assert track.mm_per_unit.dtype == np.float32
        assert track.camera is None
        assert not track.ground_truth_2d


def test_labels_are_near_the_true_pose(tmp_path: Path) -> None:
    """2.5D about the hip is the pose but for perspective: centimetres here, where another unit or factor would be metres off."""
    write_motionbert(tmp_path)
    raw = settings(tmp_path).raw_poses()
    track = raw.read(next(sequence for sequence in raw.sequences if sequence.name == "S1/Directions 1"))[0]
    true_mm = h36m_camera("S1", track.camera_name).to_camera(world_walk(20, seed=1021))
    found = track.joints_3d_camera_mm
    assert found is not None
    error_mm = np.linalg.norm((found - found[:, :1]) - (true_mm - true_mm[:, :1]), axis=-1)
    assert error_mm.mean() < 60


def change_field(part: str, field: str, change: Any) -> dict[str, Any]:
    tables = motionbert_tables()
    tables[part][field] = change(tables[part][field])
    return tables


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            change_field("train", "joint_2d", lambda array: array[:-1]),
            "train has arrays of other numbers of frames: joint_2d 239, 2.5d_factor 240",
        ),
        (change_field("test", "source", lambda names: names[:-1]), "joint_2d 320, source 319"),
        (change_field("test", "confidence", lambda array: array[:5]), "confidence 5"),
        (change_field("test", "joints_2.5d_image", lambda array: array[:, :16]), r"test/joints_2\.5d_image has 16 joints"),
        (change_field("train", "camera_name", lambda names: ["1"] * len(names)), 'no camera "1"'),
        (change_field("train", "camera_name", lambda names: [*names[:10], names[100], *names[11:]]), "_ca_01 has two cameras"),
        (change_field("train", "source", lambda names: ["s_01_act_17_subact_01_ca_01"] * len(names)), "has the source"),
        (change_field("train", "source", lambda names: ["walking"] * len(names)), 'has the source "walking"'),
        (change_field("train", "source", lambda names: [*names[:5], *names[80:85], *names[10:]]), "twice, or in train and test"),
        ({"train": {}}, 'train has no "joint_2d"'),
        ({"test": {}}, 'has no "train": it has test'),
        ([1, 2], 'has no "train": it is list'),
    ],
)
def test_other_forms_are_refused(tmp_path: Path, tables: Any, message: str) -> None:
    write_motionbert(tmp_path, tables)
    with pytest.raises(DataError, match=message):
        settings(tmp_path).raw_poses()


def test_missing_file_and_missing_confidence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"other\.pkl is not there"):
        settings(tmp_path, file="other.pkl").raw_poses()
    tables = motionbert_tables()
    del tables["train"]["confidence"]
    write_motionbert(tmp_path, tables, file="other.pkl")
    raw = settings(tmp_path, file="other.pkl").raw_poses()
    assert raw.read(raw.sequences[0])[0].confidence is None


def test_a_workflows_batches_read_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    monkeypatch.setattr("triform.data.poses.motionbert.read_plain", lambda path: [reads.append(path), read_plain(path)][1])
    write_motionbert(tmp_path)
    wanted = replace(settings(tmp_path), prepared_dir=str(tmp_path / "prepared"))
    made = plan(wanted)
    for number in range(made.num_batches):
        prepare_batch(made, number, wanted.raw_poses())
    assert len(reads) == 1
    finalize(made)
    wanted.raw_poses()
    assert len(reads) == 2, "finalize gives the memory back"
    assert len(replace(wanted, skip_corrupted=False).raw_poses().sequences) > len(made.sequences)


def test_a_nan_spoils_its_sequence_alone(tmp_path: Path) -> None:
    tables = motionbert_tables()
    tables["train"]["2.5d_factor"][85] = np.inf
    write_motionbert(tmp_path, tables)
    raw = settings(tmp_path).raw_poses()
    with pytest.raises(BadFile, match="S1/Directions 2 has numbers that are NaN or infinite, first in frame 5"):
        raw.read(raw.sequences[1])
    assert len(raw.read(raw.sequences[0])) == 4


def test_a_pickle_that_runs_a_command_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {trace}",)

    write_motionbert(tmp_path, {"train": Evil(), "test": {}})
    with pytest.raises(DataError, match="nothing of it was run"):
        settings(tmp_path).raw_poses()
    assert not trace.exists()
