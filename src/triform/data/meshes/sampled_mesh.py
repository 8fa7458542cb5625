"""From one raw mesh to one prepared mesh: a pure function of its content, its name and what all meshes share."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from triform.data.meshes.config import MeshRecipe
from triform.data.meshes.raw_meshes import MeshArrays
from triform.data.meshes.template import Template
from triform.data.quarantine import BadFile
from triform.geometry.normals import estimated_normals, to_unit, vertex_normals

STEP_VERSION = 1
"""Raised whenever the same raw mesh would give other arrays: prepared meshes of another version are made anew."""


@dataclass(frozen=True, slots=True)
class SampledMesh:
    """The vertices that stay."""

    coordinates: Float32[np.ndarray, "vertex 3"]
    """In the raw unit and place."""
    normals: Float32[np.ndarray, "vertex 3"]
    """Unit vectors, of the whole raw mesh's surface."""
    content_sha256: str
    """Of all raw coordinates in float32: meshes that have it in common are one mesh."""

    @property
    def sha256(self) -> str:
        """Of both arrays."""
        return sha256_of(self.coordinates, self.normals)

    @property
    def mean_square(self) -> float:
        """Mean squared distance of a vertex from the centroid."""
        offsets = self.coordinates - self.coordinates.mean(axis=0, dtype=np.float64)
        return float((offsets * offsets).sum() / len(offsets))


def sha256_of(coordinates: Float32[np.ndarray, "vertex 3"], normals: Float32[np.ndarray, "vertex 3"]) -> str:
    """SHA-256 of a prepared mesh's arrays."""
    content = hashlib.sha256(np.ascontiguousarray(coordinates, "<f4").data)
    content.update(np.ascontiguousarray(normals, "<f4").data)
    return content.hexdigest()


def shared_sha256_of(faces: Int[np.ndarray, "face 3"] | None, mirror: Int[np.ndarray, " vertex"] | None) -> str:
    """SHA-256 of what prepared meshes share."""
    content = hashlib.sha256()
    for array in (faces, mirror):
        content.update(b"-" if array is None else f"{array.shape}".encode() + np.ascontiguousarray(array, "<i4").tobytes())
    return content.hexdigest()


def sample_mesh(raw: MeshArrays, template: Template, recipe: MeshRecipe, *, name: str) -> SampledMesh:
    """Check a mesh, give it normals where it has none, and take the vertices that stay.

    Args:
        name: with `split_seed` the key of an unregistered mesh's choice and order.

    Raises: BadFile.
    """
    check_raw(raw)
    coordinates = np.asarray(raw.coordinates, np.float64)
    _refuse_other_topology(raw, template, recipe)
    normals = _normals(raw, coordinates)
    content = hashlib.sha256(np.ascontiguousarray(coordinates + 0.0, "<f4").data).hexdigest()  # -0 becomes 0
    kept = template.kept if recipe.registered else _own_choice(len(coordinates), template.num_vertices, seed=recipe.split_seed, name=name)
    if kept is not None:
        coordinates, normals = coordinates[kept], normals[kept]
    return SampledMesh(coordinates.astype(np.float32), normals.astype(np.float32), content)


def check_raw(raw: MeshArrays) -> None:
    """Raises: BadFile: a number is not finite or too large, all vertices coincide, or a triangle names a vertex that is not there."""
    coordinates = np.asarray(raw.coordinates, np.float64)
    if not np.isfinite(coordinates).all():
        raise BadFile(f"{int((~np.isfinite(coordinates)).any(axis=1).sum())} vertices are not finite")
    if np.abs(coordinates).max() > 1e18:
        raise BadFile("coordinates are too large to be squared in float32")
    if (coordinates == coordinates[0]).all():
        raise BadFile("all vertices coincide")
    if raw.normals is not None and not np.isfinite(raw.normals).all():
        raise BadFile(f"{int((~np.isfinite(raw.normals)).any(axis=1).sum())} normals are not finite")
    faces = raw.faces
    if faces is not None and not _are_triangles(faces, len(coordinates)):
        raise BadFile(f"faces are no triangles of {len(coordinates)} vertices")


def _are_triangles(faces: np.ndarray[Any, Any], num_vertices: int) -> bool:
    if faces.dtype.kind not in "iu" or faces.ndim != 2 or faces.shape[1] != 3:
        return False
    return not len(faces) or bool(faces.min() >= 0 and faces.max() < num_vertices)


def _refuse_other_topology(raw: MeshArrays, template: Template, recipe: MeshRecipe) -> None:
    num_vertices = len(raw.coordinates)
    if not recipe.registered:
        if num_vertices < template.num_vertices:
            raise BadFile(f"{num_vertices} vertices, fewer than num_vertices {template.num_vertices}")
        return
    if num_vertices != template.num_source_vertices:
        raise BadFile(f"{num_vertices} vertices, where the first mesh has {template.num_source_vertices}")
    faces, first = raw.faces, template.source_faces
    if faces is not None and first is not None and not np.array_equal(faces, first):
        raise BadFile("its triangles are not those of the first mesh, so its vertices are not either; set registered to false")


def _normals(raw: MeshArrays, coordinates: Float64[np.ndarray, "vertex 3"]) -> Float[np.ndarray, "vertex 3"]:
    if raw.normals is not None:
        return to_unit(raw.normals, coordinates)
    if raw.faces is not None and len(raw.faces):
        return vertex_normals(coordinates, raw.faces)
    return estimated_normals(coordinates)


def _own_choice(num_source: int, num_vertices: int, *, seed: int, name: str) -> Int[np.ndarray, " vertex"]:
    """A random choice in random order, keyed by (seed, name)."""
    key = np.frombuffer(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], "<u8")
    return np.random.Generator(np.random.Philox(key=key)).permutation(num_source)[:num_vertices]
