"""What is decided once for all meshes of a data set: which vertices stay, the triangles between them, and which mirrors which."""

import hashlib
import io
import warnings
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Int, Int32, Int64

from triform.data.meshes.config import MeshRecipe
from triform.data.meshes.raw_meshes import MeshArrays
from triform.errors import DataError
from triform.geometry.mesh_graph import nearest_of
from triform.geometry.template import farthest_vertices, is_involution, reduce_faces, reduce_mirror


@dataclass(frozen=True, slots=True)
class Template:
    """Shared by all meshes where they are registered; unregistered meshes share a number only."""

    num_source_vertices: int
    """Vertices of a raw mesh."""
    num_vertices: int
    """Vertices of a prepared mesh."""
    kept: Int64[np.ndarray, " vertex"] | None = None
    """Raw vertices that stay; None: all, in their order."""
    faces: Int32[np.ndarray, "face 3"] | None = None
    """Of the prepared vertices."""
    source_faces: Int32[np.ndarray, "source_face 3"] | None = None
    mirror: Int32[np.ndarray, " vertex"] | None = None

    def as_npz(self) -> bytes:
        """An .npz archive of all that is known. Equal templates give equal bytes."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        file = io.BytesIO()
        np.savez(file, **{name: np.asarray(array) for name, array in arrays.items() if array is not None})  # type: ignore[arg-type, unused-ignore]
        return file.getvalue()

    @property
    def sha256(self) -> str:
        """Of what `as_npz` gives."""
        return hashlib.sha256(self.as_npz()).hexdigest()


def template_from_npz(data: bytes) -> Template:
    """Read what `as_npz` made. Raises: ValueError, KeyError, zipfile.BadZipFile: it is something else."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        lists = {name: arrays[name] for name in ("kept", "faces", "source_faces", "mirror") if name in arrays}
        return Template(int(arrays["num_source_vertices"]), int(arrays["num_vertices"]), **lists)


def make_template(
    raw: MeshArrays, recipe: MeshRecipe, *, indices: Int64[np.ndarray, " index"] | None, mirror: Int[np.ndarray, " vertex"] | None
) -> Template:
    """Decide from the first mesh.

    Args:
        indices: the user's list of vertices to keep; None: farthest point sampling, symmetric where the mirror is known.
        mirror: raw vertex -> its mirror image.

    Raises: DataError: the mesh has too few vertices, or a list doesn't fit it.
    """
    num_source = len(raw.coordinates)
    num_vertices = recipe.num_vertices or (num_source if indices is None else len(indices))
    if not recipe.registered:
        if indices is not None:
            raise DataError("vertex_indices need registered meshes", do="leave vertex_indices out, or set registered to true")
        return Template(num_source, num_vertices)
    if num_vertices > num_source:
        raise DataError(
            f"The meshes have {num_source} vertices, fewer than num_vertices {num_vertices}",
            expected="meshes of at least as many vertices",
            do=f"set num_vertices to {num_source} or less (0: all)",
        )
    mirror = None if mirror is None else _checked_mirror(mirror, num_source)
    source_faces = None if raw.faces is None else np.asarray(raw.faces, np.int32)
    if indices is None and num_vertices == num_source:
        return Template(num_source, num_vertices, None, source_faces, source_faces, mirror)
    kept = (
        farthest_vertices(raw.coordinates, num_vertices, mirror=mirror) if indices is None else _checked(indices, num_vertices, num_source)
    )
    owner = nearest_of(kept, np.asarray(raw.coordinates, np.float64), source_faces)
    faces = None if source_faces is None else reduce_faces(source_faces, owner)
    return Template(num_source, num_vertices, kept, faces, source_faces, _reduced_mirror(mirror, kept, owner))


def _checked(indices: Int64[np.ndarray, " index"], num_vertices: int, num_source: int) -> Int64[np.ndarray, " index"]:
    if len(indices) != num_vertices or indices.max() >= num_source or len(np.unique(indices)) != len(indices):
        raise DataError(
            f"vertex_indices are {len(indices)} numbers up to {indices.max()}",
            expected=f"num_vertices ({num_vertices}) different vertices of {num_source}",
            do="correct the list, or set num_vertices to 0 to take as many as it has",
        )
    return indices


def _checked_mirror(mirror: Int[np.ndarray, " vertex"], num_source: int) -> Int[np.ndarray, " vertex"]:
    if mirror.shape != (num_source,) or not is_involution(mirror):
        raise DataError(
            f"The list of mirrored vertices has {mirror.size} numbers, of which not each leads back to where it came from",
            expected=f"for each of {num_source} vertices the one that mirrors it",
            do="correct mirror_indices or the data's own list",
        )
    return mirror


def _reduced_mirror(
    mirror: Int[np.ndarray, " vertex"] | None, kept: Int64[np.ndarray, " kept"], owner: Int64[np.ndarray, " vertex"]
) -> Int32[np.ndarray, " kept"] | None:
    if mirror is None:
        return None
    reduced = reduce_mirror(mirror, kept, owner)
    if reduced is None:
        warnings.warn("The kept vertices are not symmetric: which mirrors which is forgotten, and mirroring refused", stacklevel=2)
    return reduced
