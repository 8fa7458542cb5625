"""A still picture of a cloud: what the page shows before its viewer has started, without WebGL, and on paper.

The camera is the viewer's first one (`viewer/source/orbit.js` has the same formulas): it looks from `AZIMUTH` and `ELEVATION` at the
centre of the upright cylinder around the pair, from so far that the cylinder stays in the picture when it is turned.
"""

import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AZIMUTH, ELEVATION, FIELD_OF_VIEW = math.radians(35.0), math.radians(14.0), math.radians(30.0)
WIDTH, HEIGHT, SUPERSAMPLE = 640, 560, 2
FARTHEST_ALPHA = 0.55
RIM_SHADE = 0.38
UP_FILTER = 2

Colours = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frame:
    """The upright cylinder that holds a pair of clouds: what both views of the pair are aimed at."""

    center: NDArray[np.float64]
    radius: float
    half_height: float
    up: int

    def distance(self, aspect: float) -> float:
        """How far from the centre the camera stands, in the clouds' unit, for a picture of width / height `aspect`."""
        half = math.tan(FIELD_OF_VIEW / 2)
        cos, sin = math.cos(ELEVATION), math.sin(ELEVATION)
        rims = [(self.half_height * end, self.radius * side) for end in (1, -1) for side in (1, -1)]
        upright = max(abs(up * cos - out * sin) / half + out * cos + up * sin for up, out in rims)
        across = self.radius / math.sin(math.atan(half * aspect))
        return max(upright, across)


def fit_frame(points: NDArray[np.float64], up: int) -> Frame:
    """The cylinder around `points` (n, 3) along axis number `up`; the farthest half per cent may stick out, so no stray counts."""
    if not len(points):
        return Frame(np.zeros(3), 1.0, 1.0, up)
    low, high = np.quantile(points, [0.0025, 0.9975], axis=0)
    center = (low + high) / 2
    level = [(up + 1) % 3, (up + 2) % 3]
    radius = float(np.quantile(np.hypot(*(points - center)[:, level].T), 0.995))
    size = max(radius, float(high[up] - low[up]) / 2) or 1.0
    return Frame(center, max(radius, 0.02 * size), max(float(high[up] - low[up]) / 2, 0.02 * size), up)


def draw_poster(points: NDArray[np.float64], colours: Colours, frame: Frame, diameter: float) -> bytes:
    """A PNG with a transparent ground, so that it suits a light page and a dark one.

    Args:
        points: The cloud (n, 3); every point is drawn as a round dot of `diameter`, in the cloud's unit.
        colours: One sRGB colour for each point (n, 3).
    """
    width, height = WIDTH * SUPERSAMPLE, HEIGHT * SUPERSAMPLE
    right, above, depth = camera_coordinates(points, frame)
    focal = focal_length(height)
    seen = depth > 1e-6 * frame.distance(WIDTH / HEIGHT)
    order = np.flatnonzero(seen)[np.argsort(-depth[seen], kind="stable")]
    right, above, depth = right[order], above[order], depth[order]
    columns, rows = width / 2 + focal * right / depth, height / 2 - focal * above / depth
    radii = np.clip(focal * diameter / depth / 2, 1.2 * SUPERSAMPLE, 14 * SUPERSAMPLE)
    image = np.zeros((height, width, 4), dtype=np.float32)
    _paint(image, columns, rows, radii, np.concatenate([colours[order] / 255.0, _alpha(depth, frame)[:, None]], axis=1))
    return encode_png(shrink(image))


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """An RGBA image (height, width, 4) as PNG, the same bytes each time.

    Every row is stored as its difference to the row above: a shaded face takes 91 kB so, 151 kB without, and dots no more than before.

    Source: PNG specification, third edition, sections 5, 9.2 (filter type 2, Up) and 11.
    """
    height, width, _ = image.shape
    raw = np.full((height, 1 + 4 * width), UP_FILTER, dtype=np.uint8)
    raw[:, 1:] = np.diff(image.reshape(height, -1), axis=0, prepend=np.uint8(0))
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw.tobytes(), 9)), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def focal_length(height: int) -> float:
    """Distance of the picture plane, in pixels of a picture of `height` pixels."""
    return height / (2 * math.tan(FIELD_OF_VIEW / 2))


def camera_axes(frame: Frame) -> NDArray[np.float64]:
    """Directions to the right, above and to the camera, as rows (3, 3)."""
    first, second, up = (np.eye(3)[(frame.up + turn) % 3] for turn in (1, 2, 0))
    level = math.cos(AZIMUTH) * first + math.sin(AZIMUTH) * second
    back = math.cos(ELEVATION) * level + math.sin(ELEVATION) * up
    right = np.cross(up, level)
    return np.stack([right, np.cross(back, right), back])


def camera_coordinates(points: NDArray[np.float64], frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Right, above and in front of the camera, each (n,)."""
    right, above, back = ((points - frame.center) @ axis for axis in camera_axes(frame))
    return right, above, frame.distance(WIDTH / HEIGHT) - back


def _alpha(depth: NDArray[np.float64], frame: Frame) -> NDArray[np.float64]:
    """The depth cue: near points are opaque, far ones fade into the ground."""
    size = max(frame.radius, frame.half_height)
    far = (depth - frame.distance(WIDTH / HEIGHT) + size) / (2 * size)
    return np.asarray(1 - (1 - FARTHEST_ALPHA) * np.clip(far, 0, 1))


def _paint(
    image: NDArray[np.float32],
    columns: NDArray[np.float64],
    rows: NDArray[np.float64],
    radii: NDArray[np.float64],
    colours: NDArray[np.float64],
) -> None:
    """Draw dots from far to near: NumPy keeps the last value written to a pixel, so the nearest dot stays."""
    height, width, _ = image.shape
    reach = math.ceil(float(radii.max(initial=0.0)))
    grid = np.arange(-reach, reach + 1)
    dy, dx = (part.ravel() for part in np.meshgrid(grid, grid, indexing="ij"))
    for part in np.array_split(np.arange(len(radii)), max(1, len(radii) * dx.size // 2_000_000)):
        inside = (dx**2 + dy**2)[None, :] / radii[part, None] ** 2
        x, y = np.rint(columns[part, None]).astype(np.int64) + dx, np.rint(rows[part, None]).astype(np.int64) + dy
        drawn = (inside <= 1) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        which = np.broadcast_to(part[:, None], drawn.shape)[drawn]
        shade = 1 - RIM_SHADE * inside[drawn] ** 2
        image[y[drawn], x[drawn]] = colours[which] * np.stack([shade, shade, shade, np.ones_like(shade)], axis=1)


def shrink(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Average blocks of pixels, each weighted by its opacity."""
    weighted = np.concatenate([image[..., :3] * image[..., 3:], image[..., 3:]], axis=2)
    height, width = image.shape[0] // SUPERSAMPLE, image.shape[1] // SUPERSAMPLE
    mean = weighted.reshape(height, SUPERSAMPLE, width, SUPERSAMPLE, 4).mean(axis=(1, 3))
    mean[..., :3] /= np.maximum(mean[..., 3:], 1e-6)
    return np.asarray(np.rint(mean * 255), dtype=np.uint8)
