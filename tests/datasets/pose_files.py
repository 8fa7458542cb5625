"""Small files in the formats of Human3.6M and MPI-INF-3DHP, of poses that move at random; what the package never writes itself."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from triform.data.poses.h36m_cameras import CAMERA_NAMES, h36m_camera
from triform.data.poses.motionbert import ACTIONS
from triform.data.poses.mpi_facts import CAMERAS, NUM_CAMERAS, TEST_SUBJECTS, TRAIN_SEQUENCES, TRAIN_SUBJECTS, test_size_px
from triform.data.poses.videopose3d import H36M_17_OF_32
from triform.geometry.camera import Camera
from triform.geometry.skeletons import H36M_17, MPI_17, MPI_28, convert, joint_map

_STANDING = (
    *((0, 0, 930), (130, 0, 930), (135, 20, 490), (140, 0, 80), (-130, 0, 930), (-135, 20, 490), (-140, 0, 80), (0, 10, 1180)),
    *((0, 0, 1430), (0, -60, 1510), (0, -10, 1620), (-170, 0, 1410), (-240, 20, 1130), (-250, -40, 890)),
    *((170, 0, 1410), (240, 20, 1130), (250, -40, 890)),
)
"""Hips to head in H36M_17, millimetres, z up."""


def world_walk(num_frames: int, *, seed: int = 0) -> np.ndarray:
    """Joints (frame, 17, 3) in H36M_17, millimetres, z up, within a metre of the origin: a standing person whose joints drift."""
    rng = np.random.default_rng(seed)
    drift = np.cumsum(rng.normal(0, 3, (num_frames, 17, 3)), axis=0)
    path = np.cumsum(rng.normal(0, 10, (num_frames, 1, 3)) * (1, 1, 0), axis=0)
    turn = rng.uniform(0, 2 * np.pi)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    return np.array(_STANDING, float) @ about_z.T + drift + path


def camera_walk(num_frames: int, *, seed: int = 0) -> np.ndarray:
    """The same four metres before a camera: x right, y down, z away."""
    return world_walk(num_frames, seed=seed)[..., [0, 2, 1]] * (1, -1, 1) + (0, 1000, 4000)


def write_videopose3d(
    folder: Path,
    *,
    subjects: Sequence[str] = ("S1", "S5", "S9", "S11"),
    takes: Sequence[str] = ("Directions", "Directions 1", "Photo", "WalkDog 1"),
    num_frames: int = 30,
    extra_frames: int = 0,
    detections: str = "gt",
    unlabelled: Sequence[str] = (),
    num_joints: int = 32,
    noise_px: float = 0.0,
    confidence: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`data_3d_h36m.npz` and `data_2d_h36m_<detections>.npz`. Returns: positions_2d and positions_3d (metres) as they were written.

    Args:
        extra_frames: By how much 2D is longer than 3D.
    """
    rng = np.random.default_rng(7)
    positions_2d: dict[str, Any] = {}
    positions_3d: dict[str, Any] = {}
    for i, subject in enumerate([*subjects, *unlabelled]):
        positions_2d[subject] = {}
        for j, take in enumerate(takes):
            metres = (world_walk(num_frames + extra_frames, seed=100 * i + j) / 1000).astype(np.float32)
            views = [h36m_camera(subject, name) for name in CAMERA_NAMES]
            pixels = [camera.project(camera.to_camera(metres.astype(float) * 1000)) for camera in views]
            pixels = [view + rng.normal(0, noise_px, view.shape) for view in pixels]
            seen = [rng.uniform(0, 1, (*view.shape[:-1], 1 if confidence else 0)) for view in pixels]
            positions_2d[subject][take] = [np.concatenate(both, -1).astype(np.float32) for both in zip(pixels, seen, strict=True)]
            if subject in subjects:
                positions_3d.setdefault(subject, {})[take] = _recorded(metres[:num_frames], num_joints)
    folder.mkdir(parents=True, exist_ok=True)
    save_pickled_npz(folder / "data_3d_h36m.npz", positions_3d=positions_3d)
    symmetry = [list(H36M_17.left), list(H36M_17.right)]
    metadata = {"layout_name": "h36m", "num_joints": 17, "keypoints_symmetry": symmetry}
    save_pickled_npz(folder / f"data_2d_h36m_{detections}.npz", positions_2d=positions_2d, metadata=metadata)
    return positions_2d, positions_3d


def save_pickled_npz(path: Path, **content: Any) -> None:
    """As the publishers do: each value a pickled object in an array without axes."""
    np.savez_compressed(path, **content)  # type: ignore[arg-type]


def _recorded(metres: np.ndarray, num_joints: int) -> np.ndarray:
    if num_joints == 17:
        return metres
    found = np.full((len(metres), 32, 3), 9.0, np.float32)
    found[:, H36M_17_OF_32] = metres
    return found


def motionbert_tables(
    *,
    train: Sequence[tuple[int, int, int]] = ((1, 2, 1), (1, 2, 2), (5, 16, 1)),
    test: Sequence[tuple[int, int, int]] = ((9, 2, 1), (9, 5, 1), (9, 5, 2), (11, 14, 1)),
    num_frames: int = 20,
    num_cameras: int = 4,
) -> dict[str, dict[str, Any]]:
    """What the pickle holds. Args: train, test: (subject, action's number from 2, take), each a sequence of every camera."""
    return {"train": _table(train, num_frames, num_cameras), "test": _table(test, num_frames, num_cameras)}


def write_motionbert(
    folder: Path, tables: dict[str, Any] | None = None, *, file: str = "h36m_sh_conf_cam_source_final.pkl"
) -> dict[str, Any]:
    """Write the pickle. Returns: its content."""
    tables = motionbert_tables() if tables is None else tables
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(pickle.dumps(tables, protocol=4))
    return tables


def _table(sequences: Sequence[tuple[int, int, int]], num_frames: int, num_cameras: int) -> dict[str, Any]:
    rows: dict[str, list[Any]] = {name: [] for name in ("joint_2d", "confidence", "joint3d_image", "joints_2.5d_image", "2.5d_factor")}
    names: dict[str, list[str]] = {"camera_name": [], "source": [], "action": []}
    for subject, action, take in sequences:
        for number, camera_name in enumerate(CAMERA_NAMES[:num_cameras], start=1):
            seed = 1000 * subject + 10 * action + take
            rng = np.random.default_rng([seed, number])
            camera = h36m_camera(f"S{subject}", camera_name)
            joints_mm = camera.to_camera(world_walk(num_frames, seed=seed))
            factor = joints_mm[:, 0, 2] / camera.focal_px[0]
            image = np.concatenate([camera.project(joints_mm), (joints_mm[..., 2:] - joints_mm[:, :1, 2:]) / factor[:, None, None]], -1)
            rows["joint_2d"].append(image[..., :2] + rng.normal(0, 2, (num_frames, 17, 2)))
            rows["confidence"].append(rng.uniform(0, 1, (num_frames, 17, 1)))
            rows["joint3d_image"].append(image)
            rows["joints_2.5d_image"].append(image * factor[:, None, None])
            rows["2.5d_factor"].append(factor)
            names["camera_name"] += [camera_name] * num_frames
            names["source"] += [f"s_{subject:02d}_act_{action:02d}_subact_{take:02d}_ca_{number:02d}"] * num_frames
            names["action"] += [ACTIONS[action - 2]] * num_frames
    return {name: np.concatenate(parts).astype(np.float32) for name, parts in rows.items()} | names


def pinhole(size_px: tuple[int, int], *, number: int = 0) -> Camera:
    """A camera without distortion, another for each number."""
    return Camera(size_px, (1500.0 + number, 1497.0 + number), (size_px[0] / 2 + 3, size_px[1] / 2 - 2))


def as_mpi_28(joints: np.ndarray) -> np.ndarray:
    """Joints in H36M_17 among the 28 of MPI-INF-3DHP; the others are in the neck's place."""
    found = np.repeat(joints[:, 8:9], 28, axis=1)
    found[:, joint_map(MPI_28, H36M_17).argmax(1)] = joints
    return found


def write_mpi(
    folder: Path,
    *,
    num_frames: int = 24,
    train: Sequence[str] = tuple(f"{subject}/{name}" for subject in TRAIN_SUBJECTS for name in TRAIN_SEQUENCES),
    test: Sequence[str] = TEST_SUBJECTS,
    test_folder: str = "mpi_inf_3dhp_test_set",
    universal_scale: float = 0.9,
    noise_px: float = 0.0,
) -> dict[str, dict[str, np.ndarray]]:
    """MATLAB files of short sequences, to be read with `partial`. Returns: annot2, annot3, univ_annot3 in H36M_17 by "S1/Seq1/0"."""
    made = {}
    for i, name in enumerate(train):
        cells = {key: np.empty((NUM_CAMERAS, 1), object) for key in ("annot2", "annot3", "univ_annot3")}
        for camera in range(NUM_CAMERAS):
            view = _view(num_frames, (2048, 2048), 50 * i + camera, universal_scale, noise_px)
            made |= {f"{name}/{camera}": view} if camera in CAMERAS else {}
            for key, joints in view.items():
                cells[key][camera, 0] = as_mpi_28(joints).reshape(num_frames, -1)
        path = folder / name / "annot.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(path, {**cells, "frames": np.arange(num_frames)[:, None]})
    for i, name in enumerate(test):
        view = _view(num_frames, test_size_px(name), 5000 + i, universal_scale, noise_px)
        made[f"{name}/{name}/0"] = view
        path = folder / test_folder / name / "annot_data.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_test(path, view, valid=np.arange(num_frames) % 5 != 0)
    return made


def _view(num_frames: int, size_px: tuple[int, int], seed: int, universal_scale: float, noise_px: float) -> dict[str, np.ndarray]:
    joints = camera_walk(num_frames, seed=seed)
    pixels = pinhole(size_px, number=seed).project(joints)
    pixels = pixels + np.random.default_rng(seed).normal(0, noise_px, pixels.shape)
    return {"annot2": pixels, "annot3": joints, "univ_annot3": (joints - joints[:, :1]) * universal_scale + joints[:, :1]}


def _write_test(path: Path, view: dict[str, np.ndarray], *, valid: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for key, joints in view.items():
            file[key] = convert(joints, H36M_17, MPI_17)[:, None]
        file["valid_frame"] = valid[:, None].astype(float)
        file["activity_annotation"] = np.ones((len(valid), 1))


def write_mpi_npz(folder: Path, *, num_frames: int = 24, train: Sequence[str] = ("S1 Seq1", "S2 Seq2", "S3 Seq1")) -> dict[str, Any]:
    """P-STMO's two files. Returns: what they hold, train and test together."""
    tables: dict[str, Any] = {name: [_npz_cameras(num_frames, 50 * i), 50 if i % 2 else 25] for i, name in enumerate(train)}
    tests = {}
    for i, name in enumerate(TEST_SUBJECTS):
        tests[name] = _npz_view(num_frames, test_size_px(name), 5000 + i) | {"valid": (np.arange(num_frames) % 5 != 0).astype(float)}
    folder.mkdir(parents=True, exist_ok=True)
    save_pickled_npz(folder / "data_train_3dhp.npz", data=tables)
    save_pickled_npz(folder / "data_test_3dhp.npz", data=tests)
    return tables | tests


def _npz_cameras(num_frames: int, seed: int) -> dict[str, Any]:
    return {str(camera): _npz_view(num_frames, (2048, 2048), seed + camera) for camera in CAMERAS}


def _npz_view(num_frames: int, size_px: tuple[int, int], seed: int) -> dict[str, np.ndarray]:
    view = _view(num_frames, size_px, seed, 0.9, 0.0)
    return {"data_2d": convert(view["annot2"], H36M_17, MPI_17), "data_3d": convert(view["univ_annot3"], H36M_17, MPI_17)}
