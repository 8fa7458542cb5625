"""A still picture of a mesh coloured at its vertices, from the camera of `poster.py` and in the light of the viewer (`stage.js`)."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from triform.report.poster import HEIGHT, SUPERSAMPLE, WIDTH, Frame, camera_axes, camera_coordinates, encode_png, focal_length, shrink

AMBIENT, DIFFUSE = 0.54, 0.50
LIGHT = np.array([-0.3, 0.5, 0.8124])
"""Direction to the light: right, above and behind the camera's picture plane. Both sides of a face take it."""

CANDIDATES = 1_000_000
"""Pixels tested at once: the greatest temporary arrays stay below 100 MB."""

PICTURE_WIDTH, PICTURE_HEIGHT = WIDTH * SUPERSAMPLE, HEIGHT * SUPERSAMPLE


class Corners(NamedTuple):
    """What is interpolated over a triangle, from its three corners."""

    columns: Float64[np.ndarray, "face 3"]
    rows: Float64[np.ndarray, "face 3"]
    nearness: Float64[np.ndarray, "face 3"]
    attributes: Float64[np.ndarray, "face 3 6"]


def draw_mesh_poster(
    vertices: Float64[np.ndarray, "vertex 3"], faces: Int64[np.ndarray, "face 3"], colours: UInt8[np.ndarray, "vertex 3"], frame: Frame
) -> bytes:
    """A PNG with a transparent ground; colours are mixed between vertices.

    Args:
        vertices: Coordinates, in the unit of `frame`.
        faces: Indices of each triangle's corners, in either sense of rotation.
        colours: One sRGB colour for each vertex.
    """
    corners = _corners(vertices, faces, colours, frame)
    nearest = np.zeros(PICTURE_WIDTH * PICTURE_HEIGHT)
    image = np.zeros((PICTURE_WIDTH * PICTURE_HEIGHT, 4), dtype=np.float32)
    for part in _parts(corners):
        _rasterize(image, nearest, part)
    return encode_png(shrink(image.reshape(PICTURE_HEIGHT, PICTURE_WIDTH, 4)))


def vertex_normals(vertices: Float64[np.ndarray, "vertex 3"], faces: Int64[np.ndarray, "face 3"]) -> Float64[np.ndarray, "vertex 3"]:
    """Unit normals, the mean of the faces at a vertex weighted by their areas; zero where there is none."""
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    normals = np.zeros_like(vertices)
    np.add.at(normals, faces, np.cross(second - first, third - first)[:, None, :])
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300))


def _corners(
    vertices: Float64[np.ndarray, "vertex 3"], faces: Int64[np.ndarray, "face 3"], colours: UInt8[np.ndarray, "vertex 3"], frame: Frame
) -> Corners:
    """The triangles wholly before the camera.

    Over the picture, 1 / depth is linear exactly; colours and normals are taken as linear too, because faces are small beside their
    distance.
    """
    right, above, depth = camera_coordinates(vertices, frame)
    focal = focal_length(PICTURE_HEIGHT)
    seen = (depth[faces] > 1e-6 * frame.distance(WIDTH / HEIGHT)).all(axis=1)
    kept = faces[seen]
    normals = vertex_normals(vertices, faces) @ camera_axes(frame).T
    nearness = 1 / np.where(depth > 0, depth, 1.0)
    columns, rows = PICTURE_WIDTH / 2 + focal * right * nearness, PICTURE_HEIGHT / 2 - focal * above * nearness
    attributes = np.concatenate([colours / 255.0, normals], axis=1)
    return Corners(columns[kept], rows[kept], nearness[kept], attributes[kept])


def _boxes(corners: Corners) -> tuple[Int64[np.ndarray, "face 2"], Int64[np.ndarray, "face 2"]]:
    """First pixel (column, row) of the box around each triangle, and its size; none has a part outside the picture."""
    places = np.stack([corners.columns, corners.rows], axis=2)
    first = np.maximum(np.ceil(places.min(axis=1)), 0).astype(np.int64)
    last = np.minimum(np.floor(places.max(axis=1)), [PICTURE_WIDTH - 1, PICTURE_HEIGHT - 1]).astype(np.int64)
    return first, np.maximum(last - first + 1, 0)


def _parts(corners: Corners) -> Iterator[Corners]:
    """Triangles whose boxes hold about `CANDIDATES` pixels together."""
    _, size = _boxes(corners)
    part = np.cumsum(size.prod(axis=1)) // CANDIDATES
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    for start, end in pairwise([*starts, len(part)]):
        yield Corners(*(values[start:end] for values in corners))


def _rasterize(image: np.ndarray, nearest: Float64[np.ndarray, " pixel"], corners: Corners) -> None:
    """Draw the triangles where they are nearer than what is there."""
    pixel, face, weights = _covered(corners)
    nearness = (corners.nearness[face] * weights).sum(axis=1)
    np.maximum.at(nearest, pixel, nearness)
    wins = nearness == nearest[pixel]
    mixed = np.einsum("pc,pcv->pv", weights[wins], corners.attributes[face[wins]])
    image[pixel[wins], :3] = np.minimum(mixed[:, :3] * _lit(mixed[:, 3:])[:, None], 1.0)
    image[pixel[wins], 3] = 1.0


def _covered(
    corners: Corners,
) -> tuple[Int64[np.ndarray, " covered"], Int64[np.ndarray, " covered"], Float64[np.ndarray, "covered 3"]]:
    """Every pair of a triangle and a pixel whose centre it covers, with the weights of the triangle's corners there."""
    first, size = _boxes(corners)
    counts = size.prod(axis=1)
    face = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(face)) - np.repeat(np.cumsum(counts) - counts, counts)
    x, y = first[face, 0] + place % size[face, 0], first[face, 1] + place // size[face, 0]
    weights = _weights(corners, face, x, y)
    inside = (weights >= -1e-9).all(axis=1)
    return y[inside] * PICTURE_WIDTH + x[inside], face[inside], weights[inside]


def _weights(
    corners: Corners, face: Int64[np.ndarray, " pair"], x: Int64[np.ndarray, " pair"], y: Int64[np.ndarray, " pair"]
) -> Float64[np.ndarray, "pair 3"]:
    """Barycentric coordinates; -1 for a triangle seen from its edge, which covers nothing."""
    (ax, bx, cx), (ay, by, cy) = corners.columns.T, corners.rows.T
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    scale = np.divide(1.0, area, out=np.zeros_like(area), where=np.abs(area) > 1e-9)[face]
    second = ((x - ax[face]) * (cy - ay)[face] - (cx - ax)[face] * (y - ay[face])) * scale
    third = ((bx - ax)[face] * (y - ay[face]) - (x - ax[face]) * (by - ay)[face]) * scale
    return np.where((scale == 0)[:, None], -1.0, np.stack([1 - second - third, second, third], axis=1))


def _lit(normals: Float64[np.ndarray, "pixel 3"]) -> Float64[np.ndarray, " pixel"]:
    upright = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    toward = np.where(upright[:, 2:] < 0, -upright, upright)
    return np.asarray(AMBIENT + DIFFUSE * np.maximum(toward @ LIGHT, 0))
