"""Human3.6M in VideoPose3D's files: positions in the world in one, detections in the pictures of four cameras in the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from triform.data.plain_pickle import read_plain_npz
from triform.data.poses.h36m_cameras import CAMERA_NAMES, FRAME_RATE, h36m_camera, up_in
from triform.data.poses.kept import kept
from triform.data.poses.raw_arrays import field_of, joints_of, listed, refuse_not_finite
from triform.data.poses.raw_poses import Average, RawSequence, RawTrack
from triform.data.split import Split
from triform.errors import DataError

_LEFT_OUT = (4, 5, 9, 10, 11, 16, 20, 21, 22, 23, 24, 28, 29, 30, 31)
H36M_17_OF_32 = tuple(joint for joint in range(32) if joint not in _LEFT_OUT)
"""The 17 joints that are lifted among the 32 that were recorded."""
_FARTHEST_M = 100.0

Table = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class VideoPose3D:
    """Both files, read."""

    root: Path
    sequences: tuple[RawSequence, ...]
    files: tuple[Path, ...]
    protocol: str
    positions_2d: Table
    positions_3d: Table
    ground_truth: bool
    average: Average = "action"

    def read(self, sequence: RawSequence) -> tuple[RawTrack, ...]:
        """The tracks of the four cameras, in metres at first. Raises: BadFile: a number is not finite."""
        take = sequence.name.removeprefix(f"{sequence.subject}/")
        world = self.positions_3d.get(sequence.subject, {}).get(take)
        world_mm = None if world is None else np.asarray(_seventeen(world), np.float64) * 1000
        # Detectors ran to the end of the film, which is a little longer than the recording of the joints.
        views = [view if world_mm is None else view[: len(world_mm)] for view in self.positions_2d[sequence.subject][take]]
        refuse_not_finite(sequence.name, world_mm, *views)
        return tuple(self._track(sequence, name, view, world_mm) for name, view in zip(CAMERA_NAMES, views, strict=True))

    def _track(self, sequence: RawSequence, name: str, view: np.ndarray, world_mm: Float[np.ndarray, "frame 17 3"] | None) -> RawTrack:
        camera = h36m_camera(sequence.subject, name)
        view = np.asarray(view, np.float32)
        return RawTrack(
            camera_name=name,
            size_px=camera.size_px,
            frame_rate=FRAME_RATE,
            joints_2d_px=np.ascontiguousarray(view[..., :2]),
            confidence=np.ascontiguousarray(view[..., 2]) if view.shape[-1] == 3 else None,
            joints_3d_camera_mm=None if world_mm is None else camera.to_camera(world_mm),
            camera=camera,
            up_camera=up_in(camera),
            ground_truth_2d=self.ground_truth and world_mm is not None,
        )


def list_videopose3d(
    root: Path, *, detections: str, unlabelled: bool, test_subjects: Sequence[str], test_actions: Sequence[str]
) -> VideoPose3D:
    """Read both files and check all but the numbers themselves.

    Args:
        detections: The end of the 2D file's name.
        unlabelled: Whether subjects with 2D alone are listed too.
        test_subjects, test_actions: Who and what is tested (both empty: a draw of the takes).
    Raises: DataError: A file, subject, take or view is missing, or has another form.
    """
    path_2d, path_3d = root / f"data_2d_h36m_{detections}.npz", root / "data_3d_h36m.npz"
    positions_3d, positions_2d = kept(lambda: (_table(path_3d, "positions_3d"), _table(path_2d, "positions_2d")), [path_3d, path_2d])
    if lacking := [subject for subject in test_subjects if subject not in positions_3d]:
        raise DataError(
            f"{path_3d} has no {listed(lacking)}", expected=f"the test subjects; it has {listed(positions_3d)}", do="set test_subjects"
        )
    sequences = [*_labelled(positions_2d, positions_3d, path_2d, path_3d)]
    if unlabelled:
        # Without 3D nothing can be scored, and what is tested is not trained on.
        free = (sequence for sequence in _unlabelled(positions_2d, positions_3d, path_2d) if sequence.action not in test_actions)
        sequences += free
    protocol = _protocol(sequences, [*test_subjects, *test_actions], detections)
    ordered = tuple(sorted(sequences, key=lambda sequence: sequence.name))
    return VideoPose3D(root, ordered, (path_2d, path_3d), protocol, positions_2d, positions_3d, detections == "gt")


def _protocol(sequences: Sequence[RawSequence], named: Sequence[str], detections: str) -> str:
    actions = {sequence.action for sequence in sequences if not named or sequence.subject in named or sequence.action in named}
    tested = f"{' and '.join(named)}, all takes" if named else "a draw of the takes"
    return f"Human3.6M, {tested}, 17 joints about the hip, 2D: {detections}, mean over {len(actions)} actions"


def _table(path: Path, name: str) -> Table:
    table = field_of(read_plain_npz(path), name, where=str(path))
    if not isinstance(table, dict) or not table or not all(isinstance(takes, dict) for takes in table.values()):
        raise DataError(f"{name} in {path} is not takes by subject", expected="VideoPose3D's form", do="get the file again")
    return table


def _labelled(positions_2d: Table, positions_3d: Table, path_2d: Path, path_3d: Path) -> Iterator[RawSequence]:
    for subject, takes in positions_3d.items():
        for take, world in takes.items():
            where = f"{path_3d.name}: {subject}/{take}"
            joints_of(world, num_joints=(17, 32), num_axes=(3,), where=where)
            if np.abs(np.nan_to_num(world[:1])).max() > _FARTHEST_M:
                raise DataError(f"{where} lies {np.abs(world[:1]).max():.0f} m away", expected="metres", do="divide millimetres by 1000")
            view_of = field_of(positions_2d, subject, where=path_2d.name)
            views = _views(field_of(view_of, take, where=f"{path_2d.name}: {subject}"), f"{path_2d.name}: {subject}/{take}")
            if (shortest := min(len(view) for view in views)) < len(world):
                raise DataError(
                    f"{subject}/{take} has {shortest} frames in 2D ({path_2d.name}) and {len(world)} in 3D",
                    expected="as many in 2D, or more",
                    do="get both files in one version",
                )
            yield _sequence(subject, take, path_3d)


def _unlabelled(positions_2d: Table, positions_3d: Table, path_2d: Path) -> Iterator[RawSequence]:
    """Subjects with 2D alone. Takes whose 3D is missing of a subject that has some are left out: its 3D was found broken."""
    for subject, takes in positions_2d.items():
        for take, views in takes.items() if subject not in positions_3d else ():
            _views(views, f"{path_2d.name}: {subject}/{take}")
            yield _sequence(subject, take, path_2d, split="train")


def _views(views: object, where: str) -> Sequence[np.ndarray]:
    if not isinstance(views, list | tuple | np.ndarray) or len(views) != len(CAMERA_NAMES):
        got = f"{len(views)} views" if isinstance(views, list | tuple | np.ndarray) else type(views).__name__
        raise DataError(f"{where} has {got}", expected=f"the four cameras {listed(CAMERA_NAMES)}", do="get the file again")
    return [joints_of(view, num_joints=(17,), num_axes=(2, 3), where=where) for view in views]


def _sequence(subject: str, take: str, path: Path, *, split: Split | None = None) -> RawSequence:
    for name in CAMERA_NAMES:
        h36m_camera(subject, name)
    return RawSequence(f"{subject}/{take}", subject, take.split(" ")[0], f"{path.name}: {subject}/{take}", split)


def _seventeen(world: np.ndarray) -> np.ndarray:
    return world if world.shape[1] == 17 else world[:, H36M_17_OF_32]
