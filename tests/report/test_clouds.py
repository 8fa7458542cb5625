"""Packed clouds come back within half a 16-bit step, colours and the camera are those computed by hand, posters are valid PNG."""

import base64
import gzip
import struct
import zlib

import numpy as np
import pytest
from sample import pair, plant

from triform.errors import DataError
from triform.report.clouds import ERROR_RAMP, clouds_fragment, ramp_colours
from triform.report.panels import CloudPair, CloudPairs
from triform.report.poster import HEIGHT, WIDTH, Frame, draw_poster, encode_png, fit_frame


def decode_png(png: bytes) -> np.ndarray:
    """The RGBA image of a PNG whose rows are differences to the row above."""
    width, height = struct.unpack(">II", png[16:24])
    length = struct.unpack(">I", png[33:37])[0]
    rows = np.frombuffer(zlib.decompress(png[41 : 41 + length]), dtype=np.uint8).reshape(height, 1 + 4 * width)
    assert (rows[:, 0] == 2).all()
    return np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8).reshape(height, width, 4)


def test_packed_points_come_back() -> None:
    shown = pair("Best", "", seed=1, blur_mm=3.0, count=300)
    ((_, data),) = clouds_fragment(CloudPairs("Clouds", (shown,), "mm", "z")).data
    packed = data["pairs"][0]
    raw = gzip.decompress(base64.b64decode(packed["packed"]))
    points = np.frombuffer(raw, dtype="<u2", count=1800).reshape(600, 3) / 65535 * packed["span"] + packed["low"]
    joined = np.concatenate([shown.input, shown.reconstruction])
    assert np.abs(points - joined).max() <= max(packed["span"]) / 65535 / 2 * 1.01
    assert packed["counts"] == [300, 300]
    assert len(raw) == 3600 + 600
    errors = np.frombuffer(raw, dtype=np.uint8, offset=3600)
    assert errors.max() == 255


def test_ramp_by_hand() -> None:
    assert ramp_colours(("#000000", "#ff0080"), np.array([0.0, 0.5, 1.0])).tolist() == [[0, 0, 0], [128, 0, 64], [255, 0, 128]]


def test_the_scale_is_shared_and_has_the_unit() -> None:
    cloud = np.zeros((4, 3), dtype=np.float32)
    small, large = np.full(4, 1, dtype=np.float32), np.full(4, 8, dtype=np.float32)
    pairs = (CloudPair("a", "", cloud, cloud, small, small), CloudPair("b", "", cloud, cloud, large, large))
    assert "\u2265 8 mm" in clouds_fragment(CloudPairs("Clouds", pairs, "mm", "y")).html


def test_without_errors_points_are_coloured_by_height() -> None:
    cloud = plant(np.random.default_rng(0), 50).astype(np.float32)
    html = clouds_fragment(CloudPairs("Clouds", (CloudPair("a", "", cloud, cloud),), "mm", "z")).html
    assert 'data-mode="height"' in html
    assert "data-colour" not in html


@pytest.mark.parametrize("up", [0, 1, 2])
def test_the_up_axis_points_up(up: int) -> None:
    points = np.zeros((2, 3))
    points[:, up] = [-1.0, 1.0]
    colours = np.array([[255, 0, 0], [0, 0, 255]], dtype=np.uint8)
    image = decode_png(draw_poster(points, colours, fit_frame(points, up), 0.05)).astype(int)
    rows, columns = np.nonzero(image[..., 3] > 128)
    assert image[rows.min() + 1, WIDTH // 2, 2] > 150 > image[rows.min() + 1, WIDTH // 2, 0]
    assert rows.min() < HEIGHT * 0.2
    assert rows.max() > HEIGHT * 0.7
    assert abs(columns.mean() - WIDTH / 2) < 2


def test_near_points_hide_far_ones() -> None:
    frame = Frame(np.zeros(3), 1.0, 1.0, 2)
    toward = np.array(
        [np.cos(np.radians(14)) * np.cos(np.radians(35)), np.cos(np.radians(14)) * np.sin(np.radians(35)), np.sin(np.radians(14))]
    )
    colours = np.array([[0, 255, 0], [255, 0, 0]], dtype=np.uint8)
    image = decode_png(draw_poster(np.stack([toward, -toward]), colours, frame, 0.3))
    assert image[HEIGHT // 2, WIDTH // 2].tolist() == [0, 255, 0, 255]


def test_a_png_has_the_pixels_given() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    np.testing.assert_array_equal(decode_png(encode_png(image)), image)


def test_a_stray_point_does_not_shrink_the_rest() -> None:
    points = np.random.default_rng(0).normal(0, 1, (2000, 3))
    points[0] = 1000.0
    assert fit_frame(points, 2).radius < 5


def test_empty_and_single_clouds_are_drawn() -> None:
    none, one = np.zeros((0, 3), dtype=np.float32), np.ones((1, 3), dtype=np.float32)
    html = clouds_fragment(CloudPairs("Clouds", (CloudPair("a", "", none, one), CloudPair("b", "", none, none)), "mm", "z")).html
    assert html.count("<img") == 4


@pytest.mark.parametrize("wrong", ["shape", "finite", "errors"])
def test_clouds_that_do_not_fit_are_refused(wrong: str) -> None:
    cloud = np.zeros((4, 2 if wrong == "shape" else 3), dtype=np.float32)
    cloud[0, 0] = np.nan if wrong == "finite" else 0.0
    error = np.zeros(3, dtype=np.float32) if wrong == "errors" else None
    with pytest.raises(DataError, match="'worst'"):
        clouds_fragment(CloudPairs("Clouds", (CloudPair("worst", "", cloud, cloud, error),), "mm", "z"))


def test_the_ramp_is_readable_on_both_grounds() -> None:
    """Luminance contrast of at least 1.5 to the light stage and 3 to the dark one (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for colour in ERROR_RAMP:
        assert (luminance("#f1f3f5") + 0.05) / (luminance(colour) + 0.05) >= 1.5
        assert (luminance(colour) + 0.05) / (luminance("#11161b") + 0.05) >= 3
