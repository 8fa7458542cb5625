"""Verbs that write sample data, for a first try of each task."""

from pathlib import Path
from typing import Literal


def grow_maize(folder: Path, *, num_plants: int = 48, num_points: int = 10_000, seed: int = 0) -> None:
    """Write procedural field-grown maize plants as .ply files, for a first try."""
    from triform.datasets.synthetic.maize import write_maize_folder
    from triform.terminal import say

    write_maize_folder(folder, num_plants=num_plants, num_points=num_points, seed=seed)
    say(f"{num_plants} plants of {num_points} points in {folder}")


def grow_bodies(folder: Path, *, num_subjects: int = 24, num_meshes: int = 8, seed: int = 0) -> None:
    """Write procedural registered bodies, subject/mesh.ply, for a first try of mesh identity."""
    from triform.datasets.synthetic.bodies import write_body_folder
    from triform.terminal import say

    write_body_folder(folder, num_subjects=num_subjects, num_meshes=num_meshes, seed=seed)
    say(f"{num_subjects} subjects with {num_meshes} meshes each in {folder}")


def grow_faces(
    model: Path,
    folder: Path,
    *,
    num_subjects: int = 100,
    num_expressions: int = 10,
    protocol: Literal["open_set", "closed_set"] = "open_set",
    seed: int = 0,
) -> None:
    """Write random faces of a morphable model (.npz: neutral, faces, identity, expression) as mesh_hdf5 data."""
    from triform.datasets.synthetic.faces import write_face_folder
    from triform.terminal import say

    write_face_folder(folder, model=model, num_subjects=num_subjects, num_expressions=num_expressions, protocol=protocol, seed=seed)
    known = " the first 60 percent of" if protocol == "closed_set" else ""
    say(f"{num_expressions} faces of each of{known} {num_subjects} subjects, dealt to train, val and test, in {folder}")


def grow_people(folder: Path, *, num_subjects: int = 6, num_takes: int = 2, num_frames: int = 200, seed: int = 0) -> None:
    """Write procedural people who walk, wave and sit as pose_npz data, for a first try of lifting."""
    from triform.datasets.synthetic.people import write_people_folder
    from triform.terminal import say

    write_people_folder(folder, num_subjects=num_subjects, num_takes=num_takes, num_frames=num_frames, seed=seed)
    say(f"{num_subjects} people, {num_takes} takes of each of three actions, in {folder}")


GROWING = (grow_maize, grow_bodies, grow_faces, grow_people)
