"""Poses on the whole road: each data set prepared, pretrained, fine-tuned, stopped and gone on with, evaluated, reported."""

import html
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triform import cli
from triform.data.poses.stature import LEG_SHARE, leg_length_mm
from triform.errors import DataError, Stopped
from triform.experiment import load
from triform.geometry.bvh_writer import write_bvh
from triform.geometry.skeletons import H36M_17
from triform.pipeline.evaluate import evaluate
from triform.pipeline.prepare import finalize, load_manifest, load_splits, located, plan, prepare, prepare_batch
from triform.pipeline.profile import profile
from triform.pipeline.report import film_report, write_report
from triform.run.folder import RunFolder
from triform.run.metrics_log import history

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))

from pose_files import save_pickled_npz, world_walk, write_motionbert, write_mpi, write_mpi_npz, write_videopose3d

DENOISING = ("--objective.kind", "denoising", "--unlabelled-from-epoch", "1")


def outcome(path: Path):
    folder = RunFolder(path)
    result = folder.result()
    assert result is not None
    return result["state_digest"], history(folder, result["history"]["generation"], result["history"]["metrics_bytes"])


MULTI_VIEW = ("--objective.kind", "multi_view", "--virtual-cameras", "3")


@pytest.fixture(params=["masks", "noise", "views", "fine-tuning"])
def road(request, tiny_pretraining_experiment, tiny_pose_experiment, pretrained_run) -> tuple[Path, tuple[str, ...]]:
    """An experiment file, and words that make it random in its own way."""
    return {
        "masks": (tiny_pretraining_experiment, ()),
        "noise": (tiny_pretraining_experiment, DENOISING),
        "views": (tiny_pretraining_experiment, MULTI_VIEW),
        "fine-tuning": (tiny_pose_experiment, ("--init-from", str(pretrained_run), "--num-epochs", "2")),
    }[request.param]


def test_stopped_and_gone_on_with_is_bitwise_the_same(road, train_torch, tmp_path):
    file, words = road
    train_torch(file, tmp_path / "straight", *words)
    for stop in (1, 3, 2):
        with pytest.raises(Stopped):
            train_torch(file, tmp_path / "run", *words, "--loader-workers", stop - 1, stop_after=stop)
    train_torch(file, tmp_path / "run", *words)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")
    assert RunFolder(tmp_path / "run").result()["generations"] == 4
    assert RunFolder(tmp_path / "run").result()["not_bit_exact_from"] is None


@pytest.mark.long
def test_gone_on_with_in_a_process_of_its_own(road, train_torch, tmp_path):
    file, words = road
    train_torch(file, tmp_path / "straight", *words)
    with pytest.raises(Stopped):
        train_torch(file, tmp_path / "run", *words, stop_after=4)
    command = [sys.executable, "-m", "triform", "train", str(file), "--output-dir", str(tmp_path / "run"), *words, "--loader-workers", "2"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_WAIT_POLICY": "passive"})
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_killed_in_a_process_of_its_own(road, train_torch, tmp_path):
    file, words = road
    train_torch(file, tmp_path / "straight", *words)
    command = [sys.executable, "-m", "triform", "train", str(file), "--output-dir", str(tmp_path / "run"), *words]
    with subprocess.Popen(command, env={**os.environ, "OMP_WAIT_POLICY": "passive"}, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list((tmp_path / "run" / "commits").glob("*.json")):
            pass
        process.kill()
    train_torch(file, tmp_path / "run", *words)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")


def test_another_seed_is_another_run(road, train_torch, tmp_path):
    file, words = road
    train_torch(file, tmp_path / "one", *words, "--num-epochs", 1)
    train_torch(file, tmp_path / "other", *words, "--num-epochs", 1, "--seed", 1)
    assert outcome(tmp_path / "one") != outcome(tmp_path / "other")


@pytest.mark.parametrize("words", [("--labelled-fraction", 0.3), ("--labelled-fraction", 0.3, "--labelled-draw", 1)])
def test_few_labelled_sequences_resume_alike(tiny_pose_experiment, train_torch, tmp_path, words):
    train_torch(tiny_pose_experiment, tmp_path / "straight", *words)
    with pytest.raises(Stopped):
        train_torch(tiny_pose_experiment, tmp_path / "run", *words, stop_after=2)
    train_torch(tiny_pose_experiment, tmp_path / "run", *words)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")


def test_it_learns_and_logs_its_losses(lifting_run, pretrained_run):
    for run, names in (
        (lifting_run, {"loss", "mpjpe", "n_mpjpe", "velocity", "gradient_norm", "learning_rate"}),
        (pretrained_run, {"loss", "hidden", "visible"}),
    ):
        rows = outcome(run)[1]
        assert {row.name for row in rows if row.split == "train"} >= names
        losses = [row.value for row in rows if row.name == "loss" and row.split == "train"]
        assert np.mean(losses[-4:]) < np.mean(losses[:4])
    assert {row.name for row in outcome(lifting_run)[1] if row.split == "val"} == {"mpjpe", "p_mpjpe", "n_mpjpe", "mpjve"}
    assert {row.name for row in outcome(pretrained_run)[1] if row.split == "val"} == {"hidden", "reconstruction"}


def test_what_evaluation_says_of_lifting(lifting_run):
    metrics = evaluate(RunFolder(lifting_run))
    assert metrics["headline"].keys() == {"val", "test"}
    assert metrics["headline"]["test"].keys() >= {"mpjpe_mm", "mpjpe_mm_flip", "mpjpe_mm_ridge", "mpjpe_mm_constant", "p_mpjpe_mm"}
    assert all(np.isfinite(value) for row in metrics["headline"].values() for value in row.values())
    assert "2 virtual cameras with imitated detector errors x 1" in metrics["protocol"]
    assert metrics["protocol"] in metrics["title"]
    best = RunFolder(lifting_run).result()["metrics"]["best"]["mpjpe"]
    assert metrics["headline"]["val"]["mpjpe_mm"] == pytest.approx(best, rel=0.2)  # windows overlap here, not in validation


@pytest.mark.parametrize(
    ("run", "parts"),
    [
        (
            "lifting_run",
            ("Lifted poses", "MPJPE by action, test", "Error by joint, test", "Attention", "ridge regression", "constant pose"),
        ),
        ("pretrained_run", ("Hidden joints given back", "What was hidden, test", "imitated detector errors")),
    ],
)
def test_what_a_report_shows(request, run, parts):
    folder = RunFolder(request.getfixturevalue(run))
    page = html.unescape(write_report(folder).read_text())
    protocol = evaluate(folder)["protocol"]
    for part in (*parts, protocol, "Settings", "data.virtual_cameras"):
        assert part in page, part
    assert list((folder.path / "plots").glob("*.png"))


@pytest.mark.long
def test_a_film_of_a_report(lifting_run, tmp_path):
    write_report(RunFolder(lifting_run))
    film_report(RunFolder(lifting_run), tmp_path / "poses.gif")
    assert (tmp_path / "poses.gif").read_bytes()[:6] == b"GIF89a"


def test_the_pieces_of_a_workflow_prepare_the_same_data(tiny_pose_experiment, lifting_run, tmp_path):
    experiment = located(load(tiny_pose_experiment, ["--prepared-dir", str(tmp_path / "prepared")]).experiment)
    planned = plan(experiment)
    for number in range(planned.num_batches):
        prepare_batch(planned.prepared_dir, number)
    manifest = finalize(planned.prepared_dir, num_batches=planned.num_batches)
    assert manifest.digest == RunFolder(lifting_run).result()["data_digest"]
    splits = load_splits(experiment, planned.prepared_dir, ("train", "val", "test"))
    sequences = {name: {track.sequence for track in data.tracks} for name, data in splits.items()}
    assert sum(map(len, sequences.values())) == len(set().union(*sequences.values())) == 18  # none is in two splits


def test_a_profile_names_every_part(tiny_pose_experiment):
    text = profile(located(load(tiny_pose_experiment, []).experiment))
    for part in ("forward", "backward", "attention", "mlp", "embed", "head", "loss", "data", "multiply-adds"):
        assert part in text, part


CMU_JOINTS = "Hips RightHip RightKnee RightAnkle LeftHip LeftKnee LeftAnkle Chest Neck Head HeadTop_End LeftShoulder LeftElbow LeftWrist"


def write_cmu(folder: Path) -> None:
    """Six takes of two subjects, y up."""
    names = replace(H36M_17, joints=tuple(f"{CMU_JOINTS} RightShoulder RightElbow RightWrist".split()))
    for number in range(6):
        path = folder / f"0{number % 2 + 1}" / f"0{number % 2 + 1}_0{number}.bvh"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bvh(path, world_walk(24, seed=number)[..., [0, 2, 1]] * (1, 1, -1), frame_rate=60, skeleton=names)


def write_people(folder: Path) -> None:
    from triform.datasets.synthetic.people import write_people_folder

    write_people_folder(folder, num_subjects=2, num_takes=1, num_frames=24)


KINDS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "pose_npz": (write_people, ()),
    "cmu_bvh": (write_cmu, ()),
    "h36m_videopose3d": (lambda folder: write_videopose3d(folder, detections="cpn_ft_h36m_dbb", noise_px=2), ()),
    "h36m_motionbert": (write_motionbert, ()),
    "mpi_inf_3dhp": (lambda folder: write_mpi(folder, train=("S1/Seq1", "S2/Seq1", "S3/Seq2"), test=("TS1", "TS6")), ("--partial",)),
    "mpi_inf_3dhp_npz": (write_mpi_npz, ()),
}
ROAD = """
name: road
data: {{kind: {kind}, data_dir: "{data}", num_frames: 9, clip_stride: 9}}
task: {{kind: pose_lifting, encoder: {{kind: alternating, depth: 1, width: 8, heads: 2}}, augmentation: {{rotate_up_degrees: 20}}}}
training: {{num_epochs: 1, batch_size: 4, num_threads: 1}}
"""


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_is_prepared_loaded_trained_on_and_validated(kind, train_torch, tmp_path, capsys):
    write, words = KINDS[kind]
    write(tmp_path / "raw")
    cli.prepare("--data.kind", kind, "--data-dir", str(tmp_path / "raw"), *words)
    assert "0 files quarantined" in capsys.readouterr().out
    (prepared,) = tmp_path.glob(f"raw.prepared-{kind}-*")
    manifest = load_manifest(prepared)
    assert manifest is not None
    (tmp_path / "road.yaml").write_text(ROAD.format(kind=kind, data=tmp_path / "raw"))
    with pytest.raises(Stopped):  # after one step
        train_torch(tmp_path / "road.yaml", tmp_path / "run", *words, stop_after=1)
    train_torch(tmp_path / "road.yaml", tmp_path / "run", *words)
    result = RunFolder(tmp_path / "run").result()
    assert result["data_digest"] == manifest.digest  # what the command prepared is what is trained on
    assert all(np.isfinite(value) and value > 0 for value in result["metrics"]["last"].values())
    assert result["metrics"]["last"].keys() == {"mpjpe", "p_mpjpe", "n_mpjpe", "mpjve"}


def test_a_run_in_the_unit_of_its_images_lifts_a_person_of_typical_stature(train_torch, tmp_path):
    write_motionbert(tmp_path / "raw")
    (tmp_path / "road.yaml").write_text(ROAD.format(kind="h36m_motionbert", data=tmp_path / "raw"))
    train_torch(tmp_path / "road.yaml", tmp_path / "run")
    pixels = world_walk(12)[..., [0, 2]] * (0.3, -0.3) + (640, 700)
    np.savez(tmp_path / "clip.npz", joints_2d_px=pixels, skeleton="h36m_17", size_px=(1280, 720), frame_rate=25)
    cli.predict(str(tmp_path / "run"), tmp_path / "clip.npz")
    with np.load(tmp_path / "clip.lifted.npz") as stored:
        assert leg_length_mm(stored["joints_3d_mm"]) == pytest.approx(LEG_SHARE * 1700, rel=1e-4)


def changed_npz(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = sorted(folder.rglob("*.npz"))[0]
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    change(arrays)
    np.savez(path, **arrays)


def with_nan(arrays: dict[str, Any]) -> None:
    arrays["joints_3d_mm"][3, 2, 1] = np.nan


def without_a_joint(arrays: dict[str, Any]) -> None:
    arrays["joints_3d_mm"] = arrays["joints_3d_mm"][:, :16]


def with_2d(arrays: dict[str, Any], *, fewer: int = 0, **camera: Any) -> None:
    arrays["joints_2d_px"] = np.full((len(arrays["joints_3d_mm"]) - fewer, 17, 2), 500.0)
    arrays |= {"size_px": (1000, 1000), **camera}


CAMERA = {"focal_px": (1100.0, 1100.0), "center_px": (500.0, 500.0), "rotation": np.eye(3), "translation_mm": np.zeros(3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_nan, r"joints_3d_mm is not finite at frame 3, joint 2 \(r_knee\)"),
        (without_a_joint, "shape .*16, 3.*17 joints"),
        (lambda arrays: with_2d(arrays, fewer=4, **CAMERA), "joints_3d_mm has 24 frames, joints_2d_px has 20 frames"),
        (with_2d, "no camera between them"),
    ],
    ids=["NaN", "joints", "frames", "camera"],
)
def test_a_folder_that_is_not_as_it_says_stops_before_training(train_torch, tmp_path, change, message):
    write_people(tmp_path / "raw")
    changed_npz(tmp_path / "raw", change)
    (tmp_path / "road.yaml").write_text(ROAD.format(kind="pose_npz", data=tmp_path / "raw"))
    with pytest.raises(DataError, match=f"(?s){message}"):
        train_torch(tmp_path / "road.yaml", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def refused(kind: str, folder: Path, *words: str) -> str:
    """What is said when this folder is to be prepared."""
    (folder.parent / "road.yaml").write_text(ROAD.format(kind=kind, data=folder))
    with pytest.raises(DataError) as caught:
        prepare(located(load(folder.parent / "road.yaml", words).experiment))
    assert caught.value.expected
    assert caught.value.do
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("h36m_videopose3d", "data_3d_h36m.npz"),
        ("h36m_videopose3d", "data_2d_h36m_cpn_ft_h36m_dbb.npz"),
        ("h36m_motionbert", "h36m_sh_conf_cam_source_final.pkl"),
        ("mpi_inf_3dhp_npz", "data_train_3dhp.npz"),
        ("mpi_inf_3dhp_npz", "data_test_3dhp.npz"),
    ],
)
def test_a_missing_file_is_named(tmp_path, kind, name):
    KINDS[kind][0](tmp_path / "raw")
    (tmp_path / "raw" / name).unlink()
    assert name in refused(kind, tmp_path / "raw")


def test_a_missing_sequence_of_mpi_is_named(tmp_path):
    write_mpi(tmp_path / "raw", num_frames=3, train=("S1/Seq1",), test=("TS1",))
    assert "S1/Seq2" in refused("mpi_inf_3dhp", tmp_path / "raw")


def test_an_empty_folder_of_every_kind(tmp_path):
    (tmp_path / "raw").mkdir()
    for kind in KINDS:
        assert str(tmp_path / "raw") in refused(kind, tmp_path / "raw")
        assert "missing" in refused(kind, tmp_path / "missing")


def test_2d_and_3d_of_unequal_length_and_cameras_that_are_not_there(tmp_path):
    positions_2d, _ = write_videopose3d(tmp_path / "raw", detections="cpn_ft_h36m_dbb")
    metadata = {"layout_name": "h36m", "num_joints": 17, "keypoints_symmetry": [list(H36M_17.left), list(H36M_17.right)]}
    file = tmp_path / "raw" / "data_2d_h36m_cpn_ft_h36m_dbb.npz"
    short = {**positions_2d, "S5": {**positions_2d["S5"], "Photo": [view[:-5] for view in positions_2d["S5"]["Photo"]]}}
    save_pickled_npz(file, positions_2d=short, metadata=metadata)
    told = refused("h36m_videopose3d", tmp_path / "raw")
    assert "S5" in told
    assert "Photo" in told
    assert "25" in told
    few = {**positions_2d, "S5": {**positions_2d["S5"], "Photo": positions_2d["S5"]["Photo"][:3]}}
    save_pickled_npz(file, positions_2d=few, metadata=metadata)
    told = refused("h36m_videopose3d", tmp_path / "raw")
    assert "S5" in told
    assert "camera" in told


def test_another_number_of_joints_in_h36m(tmp_path):
    write_videopose3d(tmp_path / "raw", detections="cpn_ft_h36m_dbb", num_joints=17)
    _, positions_3d = write_videopose3d(tmp_path / "raw", detections="cpn_ft_h36m_dbb")
    changed = {**positions_3d, "S1": {take: joints[:, :20] for take, joints in positions_3d["S1"].items()}}
    save_pickled_npz(tmp_path / "raw" / "data_3d_h36m.npz", positions_3d=changed)
    assert "20" in refused("h36m_videopose3d", tmp_path / "raw")
