"""`triform predict` on a tiny finished run: what it reads, what it writes, what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triform import cli
from triform.errors import DataError, UsageError
from triform.geometry.bvh import read_bvh
from triform.geometry.bvh_writer import upright
from triform.geometry.skeletons import COCO_17, H36M_17, convert
from triform.run.folder import RunFolder

SIZE = (1280, 720)
NUM_FRAMES = 20


def key_points(num_joints: int = 17) -> np.ndarray:
    """Pixels and confidence of somebody in the middle of a picture."""
    rng = np.random.default_rng(0)
    still, motion = rng.normal(0, 90, (1, num_joints, 2)), np.cumsum(rng.normal(0, 2, (NUM_FRAMES, num_joints, 2)), 0)
    confidence = rng.uniform(0.3, 1, (NUM_FRAMES, num_joints, 1))
    return np.concatenate([still + motion + [640, 360], confidence], -1).astype(np.float32)


def written(place: Path, form: str, joints: np.ndarray, **fields: Any) -> Path:
    path = place / f"clip.{form}"
    if form == "npz":
        np.savez(path, joints_2d_px=joints[..., :2], confidence=joints[..., 2], **fields)
    else:
        path.write_text(json.dumps({"keypoints": joints.tolist(), **{key: np.asarray(value).tolist() for key, value in fields.items()}}))
    return path


def lifted(run: Path, file: Path, **words: Any) -> dict[str, np.ndarray]:
    cli.predict(str(run), file, **words)
    with np.load(file.with_name(f"{file.stem}.lifted.npz"), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.parametrize("form", ["npz", "json"])
@pytest.mark.parametrize("skeleton", ["coco_17", "h36m_17"])
def test_every_form_and_layout_becomes_npz_and_bvh(lifting_run, tmp_path, capsys, form, skeleton):
    joints = key_points()
    file = written(tmp_path, form, joints, skeleton=skeleton, size_px=SIZE, frame_rate=25)
    told = lifted(lifting_run, file)
    poses = told["joints_3d_mm"]
    assert poses.shape == (NUM_FRAMES, 17, 3)
    assert np.isfinite(poses).all()
    assert not poses[:, 0].any()
    assert poses.std() > 1  # millimetres of a person
    assert (told["frame_rate"], told["size_px"].tolist(), str(told["skeleton"])) == (25, list(SIZE), "h36m_17")
    assert str(told["model_digest"]) == RunFolder(lifting_run).result()["state_digest"]
    own = convert(joints[..., :2].astype(float), COCO_17, H36M_17) if skeleton == "coco_17" else joints[..., :2]
    np.testing.assert_allclose(told["joints_2d_px"], own, rtol=1e-5)
    assert f"{NUM_FRAMES} frames lifted: {tmp_path}/clip.lifted.npz" in capsys.readouterr().out.replace("\n", "")


def test_the_bvh_read_back_points_every_bone_the_same_way(lifting_run, tmp_path):
    poses = lifted(lifting_run, written(tmp_path, "npz", key_points(), skeleton="h36m_17", size_px=SIZE, frame_rate=25))["joints_3d_mm"]
    bvh = read_bvh(tmp_path / "clip.lifted.bvh")
    assert (bvh.frame_rate, len(bvh.motion)) == (25, NUM_FRAMES)
    places, at = bvh.positions(), {joint.name: index for index, joint in enumerate(bvh.joints)}
    for joint, parent in H36M_17.bones:
        one = upright(poses)[:, joint] - upright(poses)[:, parent]
        other = places[:, at[H36M_17.joints[joint]]] - places[:, at[H36M_17.joints[parent]]]
        cosine = (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)
        np.testing.assert_allclose(cosine, 1, atol=1e-4)


def test_without_the_images_size_it_asks_for_it(lifting_run, tmp_path):
    file = written(tmp_path, "npz", key_points(), skeleton="h36m_17")
    with pytest.raises(UsageError, match=r"how large the image is.*--image-size WxH"):
        cli.predict(str(lifting_run), file)
    assert not list(tmp_path.glob("*.lifted.*"))
    for size in ("1280", "0x720", "1280 x 720", "axb"):
        with pytest.raises(UsageError, match="got --image-size"):
            cli.predict(str(lifting_run), file, image_size=size)
    told = lifted(lifting_run, file, image_size="1280x720", frame_rate=50)
    assert (told["size_px"].tolist(), told["frame_rate"]) == (list(SIZE), 50)


def test_the_command_lines_words_stand_above_the_files(lifting_run, tmp_path):
    told = lifted(lifting_run, written(tmp_path, "npz", key_points(), skeleton="h36m_17", size_px=SIZE), skeleton="coco_17")
    np.testing.assert_allclose(told["joints_2d_px"], convert(key_points()[..., :2].astype(float), COCO_17, H36M_17), rtol=1e-5)


def test_the_mirror_image_is_averaged_in_unless_it_is_left_out(lifting_run, tmp_path):
    file = written(tmp_path, "npz", key_points(), skeleton="h36m_17", size_px=SIZE)
    both, plain = (lifted(lifting_run, file, flip=flip)["joints_3d_mm"] for flip in (True, False))
    assert np.abs(both - plain).max() > 1e-3
    mirrored = key_points()[:, H36M_17.mirrored]
    mirrored[..., 0] = SIZE[0] - mirrored[..., 0]
    (tmp_path / "other").mkdir()
    other = lifted(lifting_run, written(tmp_path / "other", "npz", mirrored, skeleton="h36m_17", size_px=SIZE))["joints_3d_mm"]
    np.testing.assert_allclose(other[:, H36M_17.mirrored] * [-1, 1, 1], both, atol=1e-2)


def test_one_frame_is_enough(lifting_run, tmp_path):
    file = written(tmp_path, "npz", key_points()[:1], skeleton="h36m_17", size_px=SIZE)
    assert lifted(lifting_run, file)["joints_3d_mm"].shape == (1, 17, 3)
    assert len(read_bvh(tmp_path / "clip.lifted.bvh").motion) == 1


def test_frames_without_anybody_are_lifted_from_the_line_between_their_neighbours(lifting_run, tmp_path):
    """A network that never learned from hidden frames makes a pose of its own of them, and of the frames beside them a worse one."""
    joints = key_points()
    joints[:] = joints[0] + np.arange(NUM_FRAMES)[:, None, None] * np.array([2, 1, 0])
    whole = lifted(lifting_run, written(tmp_path, "npz", joints, skeleton="h36m_17", size_px=SIZE))["joints_3d_mm"]
    joints[5:8] = 0
    told = lifted(lifting_run, written(tmp_path, "npz", joints, skeleton="h36m_17", size_px=SIZE))
    np.testing.assert_array_equal(told["missing"], [5, 6, 7])
    assert not told["confidence"][5:8].any()
    np.testing.assert_allclose(told["joints_3d_mm"], whole, atol=0.05)


def test_where_it_is_to_lie_and_a_film_of_it(lifting_run, tmp_path):
    file = written(tmp_path, "npz", key_points()[:4], skeleton="h36m_17", size_px=SIZE)
    cli.predict(str(lifting_run), file, output=tmp_path / "out" / "v1.2", animation=tmp_path / "film.gif")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"v1.2.npz", "v1.2.bvh"}
    assert (tmp_path / "film.gif").read_bytes()[:6] == b"GIF89a"


def test_a_run_of_another_task_and_one_that_is_not_finished(pretrained_run, lifting_run, tmp_path):
    file = written(tmp_path, "npz", key_points(), skeleton="h36m_17", size_px=SIZE)
    with pytest.raises(UsageError, match=r"is a run of pose_pretraining.*a finished run of pose_lifting"):
        cli.predict(str(pretrained_run), file)
    shutil.copytree(lifting_run, tmp_path / "begun", ignore=shutil.ignore_patterns("final"))
    with pytest.raises(UsageError, match="is not finished"):
        cli.predict(str(tmp_path / "begun"), file)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [("clip.npz", b"no archive", DataError), ("clip.json", b"{", DataError), ("clip.mp4", b"", UsageError), (None, b"", DataError)],
)
def test_files_that_are_no_key_points(lifting_run, tmp_path, name, content, error):
    if name is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error):
        cli.predict(str(lifting_run), tmp_path / (name or "missing.npz"), image_size="10x10")


def test_the_same_file_gives_the_same_bytes(lifting_run, tmp_path):
    file = written(tmp_path, "npz", key_points(), skeleton="h36m_17", size_px=SIZE)
    one, other = (lifted(lifting_run, file)["joints_3d_mm"].tobytes() for _ in range(2))
    assert one == other


def test_prepared_data_is_not_needed(lifting_run, tmp_path):
    """A run is lifted with where only its folder is: 2D of somebody new is all it takes."""
    shutil.copytree(lifting_run, tmp_path / "run")
    known = json.loads((tmp_path / "run" / "run.json").read_text())
    data = known["experiment"]["data"] | {"data_dir": "/nowhere", "prepared_dir": "/nowhere.prepared"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(known | {"experiment": known["experiment"] | {"data": data}}))
    file = written(tmp_path, "npz", key_points(), skeleton="h36m_17", size_px=SIZE)
    assert np.isfinite(lifted(tmp_path / "run", file)["joints_3d_mm"]).all()
