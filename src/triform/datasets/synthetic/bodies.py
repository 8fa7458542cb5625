"""Procedural human-like bodies as registered meshes: a stand-in of the same kind as scans fitted with a body model, for demos and tests.

One closed surface is made once, of smooth capsules around bones. A subject is a set of bone lengths and girths, a mesh a pose of its
joints with a little noise. The form is our own: no number comes from a person or from a body model.
Source of the deformation: Magnenat-Thalmann et al., "Joint-dependent local deformations" (Graphics Interface 1988), linear blend skinning.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32

from triform.errors import DataError
from triform.files import disk_errors, write_durably
from triform.geometry.ply import read_ply
from triform.geometry.surface_net import surface_net
from triform.geometry.template import mirror_by_place

_NOISE_M = 0.001
_BLEND_M = 0.035
"""How far two capsules melt into one another."""


@dataclass(frozen=True, slots=True)
class _Bone:
    """One bone in the rest pose, metres, y up, facing +z; `l` is +x."""

    name: str
    parent: str
    tail: tuple[float, float, float]
    radii: tuple[float, float]
    """At its head and tail."""
    head: tuple[float, float, float]
    bend: tuple[float, float, float]
    """Largest turn about x, y and z in a pose (radians)."""
    flex: float = 0.0
    """A turn about x that only goes one way, up to this (radians)."""


def _limbs(sign: float, side: str) -> list[_Bone]:
    def at(x: float, y: float, z: float = 0.0) -> tuple[float, float, float]:
        return (sign * x, y, z)

    return [
        _Bone(f"arm.{side}", "chest", at(0.38, 1.16), (0.062, 0.048), at(0.17, 1.39), (0.5, 0.3, 0.35)),
        _Bone(f"forearm.{side}", f"arm.{side}", at(0.52, 0.96, 0.02), (0.047, 0.038), at(0.38, 1.16), (0.0, 0.3, 0.0), -1.2),
        _Bone(f"hand.{side}", f"forearm.{side}", at(0.60, 0.85, 0.03), (0.042, 0.034), at(0.52, 0.96, 0.02), (0.2, 0.2, 0.2)),
        _Bone(f"thigh.{side}", "hips", at(0.15, 0.50), (0.088, 0.062), at(0.105, 0.90), (0.5, 0.15, 0.15)),
        _Bone(f"shin.{side}", f"thigh.{side}", at(0.17, 0.09), (0.060, 0.042), at(0.15, 0.50), (0.0, 0.0, 0.0), 0.9),
        _Bone(f"foot.{side}", f"shin.{side}", at(0.19, 0.05, 0.15), (0.050, 0.040), at(0.17, 0.07, -0.02), (0.2, 0.1, 0.1)),
    ]


_BONES = (
    _Bone("hips", "", (0.0, 1.06, 0.0), (0.135, 0.120), (0.0, 0.93, 0.0), (0.1, 0.1, 0.05)),
    _Bone("chest", "hips", (0.0, 1.33, 0.0), (0.120, 0.150), (0.0, 1.10, 0.0), (0.2, 0.25, 0.12)),
    _Bone("neck", "chest", (0.0, 1.53, 0.01), (0.058, 0.054), (0.0, 1.44, 0.0), (0.15, 0.2, 0.1)),
    _Bone("skull", "neck", (0.0, 1.67, 0.025), (0.085, 0.098), (0.0, 1.58, 0.02), (0.25, 0.4, 0.15)),
    *_limbs(1.0, "l"),
    *_limbs(-1.0, "r"),
)
_INDEX = {bone.name: index for index, bone in enumerate(_BONES)}
_KINDS = sorted({bone.name.split(".")[0] for bone in _BONES})
"""Left and right share their proportions."""


@dataclass(frozen=True, slots=True)
class BodyTemplate:
    """The rest pose, which all bodies share their triangles with."""

    coordinates: Float64[np.ndarray, "vertex 3"]
    faces: Int32[np.ndarray, "face 3"]
    mirror: Int32[np.ndarray, " vertex"]
    """Vertex -> the one on the other side."""
    weights: Float64[np.ndarray, "vertex bone"]
    """How much each bone carries a vertex along; rows sum to 1."""


@lru_cache(maxsize=4)
def body_template(cell_m: float = 0.0325) -> BodyTemplate:
    """Return the rest pose on a grid of this cell (metres, at most 0.045).

    It has 2454 vertices at 0.0325 and 1602 at 0.04, where each edge joins two triangles; at some other sizes a few edges join four.
    """
    if not 0 < cell_m <= 0.045:
        raise ValueError(f"cell_m must be more than 0 and at most 0.045, got {cell_m}")
    low, size = np.array([-0.75, -0.1, -0.3]), np.array([1.5, 2.0, 0.65])
    half = int(np.ceil(-low[0] / cell_m))
    # Grid points at +-(i + 1/2) cells: no vertex lies where two thighs or arms could meet on the plane between them.
    x = (np.arange(-half, half) + 0.5) * cell_m
    y, z = (low[axis] + np.arange(int(size[axis] / cell_m) + 2) * cell_m for axis in (1, 2))
    grid = np.stack(np.meshgrid(x, y, z, indexing="ij"), axis=-1)
    vertices, faces = surface_net(_smooth_distance(grid))
    coordinates = np.array([x[0], y[0], z[0]]) + vertices * cell_m
    mirror = mirror_by_place(coordinates)
    assert mirror is not None
    return BodyTemplate(coordinates, faces, mirror, _weights(coordinates))


def body(template: BodyTemplate, seed: int, *, subject: int, mesh: int) -> Float64[np.ndarray, "vertex 3"]:
    """Return one body on the ground (metres, y up, facing +z), a pure function of (seed, subject, mesh)."""
    lengths, girths, widths = _proportions(_generator(seed, 0, subject))
    rng = _generator(seed, 1, subject, mesh)
    heads, turns = _pose(rng, lengths, girths, widths)
    placed = np.zeros_like(template.coordinates)
    for index, bone in enumerate(_BONES):
        stretch = _stretch(bone, lengths[index], girths[index])
        moved = (template.coordinates - bone.head) @ (turns[index] @ stretch).T + heads[index]
        placed += template.weights[:, index : index + 1] * moved
    placed += rng.normal(0, _NOISE_M, placed.shape)
    placed[:, 1] -= placed[:, 1].min()
    return placed


def write_body_folder(folder: Path, *, num_subjects: int, num_meshes: int, seed: int = 0, cell_m: float = 0.0325) -> None:
    """Write `subject_0001/mesh_000001.ply`, ... (binary, float32, with triangles) and `mirror.txt`; whole files of these settings stay.

    Args:
        num_meshes: Of each subject.
        seed: Each mesh is a pure function of (seed, subject, mesh).
        cell_m: Cell of the grid that the surface is made on; smaller means more vertices.

    Raises: CannotWrite, DiskFull.
    """
    template = body_template(cell_m)
    write_durably(folder / "mirror.txt", "".join(f"{vertex}\n" for vertex in template.mirror).encode())
    for subject in range(1, num_subjects + 1):
        for mesh in range(1, num_meshes + 1):
            path = folder / f"subject_{subject:04d}" / f"mesh_{mesh:06d}.ply"
            comment = f"synthetic body 1, seed {seed}, subject {subject}, mesh {mesh}, cell {cell_m}"
            if not _is_complete(path, comment):
                _write(path, body(template, seed, subject=subject, mesh=mesh), template.faces, comment)


def _smooth_distance(places: Float64[np.ndarray, "*grid 3"]) -> Float64[np.ndarray, "*grid"]:
    """A smooth minimum of the distances to all capsules, negative inside; the torso is flatter than wide."""
    total = np.zeros(places.shape[:-1])
    for bone in _BONES:
        flat = np.array([1.0, 1.0, 1.3]) if bone.name in {"hips", "chest"} else np.ones(3)
        distance, share = _to_segment(places * flat, np.array(bone.head) * flat, np.array(bone.tail) * flat)
        total += np.exp(-(distance - (bone.radii[0] + share * (bone.radii[1] - bone.radii[0]))) / (_BLEND_M / 2))
    return np.asarray(-np.log(np.maximum(total, 1e-300)))


def _weights(coordinates: Float64[np.ndarray, "vertex 3"]) -> Float64[np.ndarray, "vertex bone"]:
    """Bones count by how near their capsules are; a limb of the other side, which a distance alone could take along, doesn't count."""
    columns = []
    for bone in _BONES:
        distance, share = _to_segment(coordinates, np.array(bone.head), np.array(bone.tail))
        relative = distance / (bone.radii[0] + share * (bone.radii[1] - bone.radii[0]))
        other = (coordinates[:, 0] < 0) if bone.name.endswith(".l") else (coordinates[:, 0] > 0) if bone.name.endswith(".r") else False
        columns.append(np.where(other, 0.0, np.exp(-6.0 * relative)))
    weights = np.stack(columns, axis=1)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _to_segment(
    places: Float64[np.ndarray, "*grid 3"], head: Float64[np.ndarray, " 3"], tail: Float64[np.ndarray, " 3"]
) -> tuple[Float64[np.ndarray, "*grid"], Float64[np.ndarray, "*grid"]]:
    """Distance to a segment, and where along it the nearest place lies (0 to 1)."""
    along = tail - head
    share = np.clip(((places - head) * along).sum(axis=-1) / (along * along).sum(), 0, 1)
    offset = places - (head + share[..., None] * along)
    return np.sqrt((offset * offset).sum(axis=-1)), share


def _proportions(rng: np.random.Generator) -> tuple[list[float], list[float], dict[str, float]]:
    """Factors of each bone's length and girth, and of the widths of shoulders and hips."""
    stature, build = rng.normal(1.0, 0.05), rng.normal(1.0, 0.09)
    length = {kind: stature * rng.normal(1.0, 0.045) for kind in _KINDS}
    girth = {kind: stature * build * rng.normal(1.0, 0.06) for kind in _KINDS}
    girth["skull"] = length["skull"] * rng.normal(1.0, 0.03)  # heads hardly follow the build
    widths = {"arm": rng.normal(1.0, 0.05), "thigh": rng.normal(1.0, 0.05)}
    kinds = [bone.name.split(".")[0] for bone in _BONES]
    return [length[kind] for kind in kinds], [girth[kind] for kind in kinds], widths


def _pose(
    rng: np.random.Generator, lengths: list[float], girths: list[float], widths: dict[str, float]
) -> tuple[list[Float64[np.ndarray, " 3"]], list[Float64[np.ndarray, "3 3"]]]:
    """Where each bone begins, and how it is turned: its parent's turn, then its own."""
    heads: list[Float64[np.ndarray, " 3"]] = []
    turns: list[Float64[np.ndarray, "3 3"]] = []
    for bone in _BONES:
        turn = _turn(rng.uniform(-1, 1, 3) * bone.bend + np.array([bone.flex * rng.random(), 0.0, 0.0]))
        head = np.array(bone.head)
        if bone.parent:
            parent = _INDEX[bone.parent]
            stretch = _stretch(_BONES[parent], lengths[parent], girths[parent])
            offset = (head - _BONES[parent].head) * np.array([widths.get(bone.name.split(".")[0], 1.0), 1.0, 1.0])
            head, turn = heads[parent] + turns[parent] @ stretch @ offset, turns[parent] @ turn
        heads.append(head)
        turns.append(turn)
    return heads, turns


def _stretch(bone: _Bone, length: float, girth: float) -> Float64[np.ndarray, "3 3"]:
    """Scale along the bone by its length, across it by its girth."""
    axis = np.array(bone.tail) - bone.head
    axis /= np.linalg.norm(axis)
    return np.asarray(girth * np.eye(3) + (length - girth) * np.outer(axis, axis))


def _turn(angles: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, "3 3"]:
    """Rz @ Ry @ Rx."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        rotation = np.eye(3)
        rotation[one, one] = rotation[other, other] = np.cos(angle)
        rotation[other, one], rotation[one, other] = np.sin(angle), -np.sin(angle)
        turn = rotation @ turn
    return turn


def _write(path: Path, coordinates: Float64[np.ndarray, "vertex 3"], faces: Int32[np.ndarray, "face 3"], comment: str) -> None:
    header = ["ply", "format binary_little_endian 1.0", f"comment {comment}", f"element vertex {len(coordinates)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    triangles = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    triangles["count"], triangles["corners"] = 3, faces
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes("\n".join(header).encode() + coordinates.astype("<f4").tobytes() + triangles.tobytes())
        os.replace(partial, path)


def _is_complete(path: Path, comment: str) -> bool:
    try:
        return path.is_file() and comment in read_ply(path).comments
    except DataError:
        return False


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
