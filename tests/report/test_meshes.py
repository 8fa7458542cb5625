"""Packed meshes come back, colours share one scale, and posters have the pixels, colours and light computed by hand."""

import base64
import gzip
from typing import Any

import numpy as np
import pytest
from sample import ball, saliency
from test_clouds import decode_png

from triform.errors import DataError
from triform.report.mesh_poster import draw_mesh_poster, vertex_normals
from triform.report.meshes import meshes_fragment
from triform.report.panels import MeshView, MeshViews
from triform.report.poster import AZIMUTH, ELEVATION, FIELD_OF_VIEW, HEIGHT, WIDTH, Frame

FRAME = Frame(np.zeros(3), 1.0, 1.0, 2)
BACK = np.array([np.cos(ELEVATION) * np.cos(AZIMUTH), np.cos(ELEVATION) * np.sin(AZIMUTH), np.sin(ELEVATION)])
RIGHT = np.array([-np.sin(AZIMUTH), np.cos(AZIMUTH), 0.0])
ABOVE = np.cross(BACK, RIGHT)
ONE_FACE = np.array([[0, 1, 2]])


def facing(size: float, toward: float = 0.0) -> np.ndarray:
    """A triangle around the middle of the picture, parallel to it and so far nearer to the camera."""
    return np.stack([-RIGHT - ABOVE, RIGHT - ABOVE, ABOVE]) * size + toward * BACK


def view(**changes: Any) -> MeshView:
    """A small valid mesh; `changes` replace fields of it."""
    fields: dict[str, Any] = {
        "name": "worst",
        "caption": "",
        "vertices": np.eye(3, dtype=np.float32),
        "faces": np.array([[0, 1, 2]], dtype=np.int32),
        "values": np.ones(3, dtype=np.float32),
    }
    return MeshView(**(fields | changes))


def fragment_data(*views: MeshView) -> dict[str, Any]:
    """What the page's script gets."""
    ((kind, data),) = meshes_fragment(MeshViews("Meshes", views, "mm", "z")).data
    assert kind == "meshes"
    return data


def test_packed_meshes_come_back() -> None:
    ((_, data),) = meshes_fragment(saliency()).data
    for shown, packed in zip(saliency().views, data["views"], strict=True):
        raw, count = gzip.decompress(base64.b64decode(packed["packed"])), len(shown.vertices)
        places = np.frombuffer(raw, dtype="<u2", count=3 * count).reshape(count, 3) / 65535 * packed["span"] + packed["low"]
        assert np.abs(places - shown.vertices).max() <= max(packed["span"]) / 65535 / 2 * 1.01
        levels = np.frombuffer(raw, dtype=np.uint8, offset=6 * count)
        top = np.quantile(np.concatenate([each.values for each in saliency().views]), 0.98)
        assert np.abs(levels / 255 - np.clip(shown.values / top, 0, 1)).max() <= 0.5 / 255 + 1e-6
    faces = np.frombuffer(gzip.decompress(base64.b64decode(data["faces"][0]["packed"])), dtype="<u4").reshape(-1, 3)
    np.testing.assert_array_equal(faces, ball()[1])


def test_shared_faces_are_in_the_page_once() -> None:
    other = np.array([[2, 1, 0]], dtype=np.int32)
    data = fragment_data(view(), view(), view(faces=other), view(faces=None))
    assert len(data["faces"]) == 2
    assert [each["faces"] for each in data["views"]] == [0, 0, 1, -1]


@pytest.mark.parametrize("moved", [0.0, 1e6])
def test_a_face_far_from_the_origin_looks_the_same(moved: float) -> None:
    frame = Frame(np.full(3, moved), 1.0, 1.0, 2)
    image = decode_png(draw_mesh_poster(facing(0.4) + moved, ONE_FACE, np.full((3, 3), 200, dtype=np.uint8), frame))
    assert image[HEIGHT // 2, WIDTH // 2, 0] == 189


def test_meshes_of_two_sizes_keep_their_proportion() -> None:
    data = fragment_data(view(vertices=3 * np.eye(3, dtype=np.float32)), view(vertices=np.eye(3, dtype=np.float32) + 9))
    assert data["frame"]["half_height"] == pytest.approx(1.5, rel=0.02)
    np.testing.assert_allclose(data["views"][1]["center"], [9.5, 9.5, 9.5], atol=0.01)


def test_the_scale_starts_at_zero_unless_a_value_is_negative() -> None:
    values = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    plain = meshes_fragment(MeshViews("Meshes", (view(values=values),), "mm", "z", "gradient")).html
    assert "<span>0</span><span>1.5</span><span>\u2265 3</span>" in plain
    assert "gradient" in plain
    signed = meshes_fragment(MeshViews("Meshes", (view(values=values - 2),), "mm", "z")).html
    assert "<span>\u2264 \u22120.96</span><span>0</span><span>\u2265 0.96</span>" in signed


def test_a_screen_reader_hears_what_is_shown() -> None:
    html = meshes_fragment(saliency()).html
    assert 'aria-label="3D view of subject_0001, subject_0002, subject_0003, coloured by gradient (1/mm). Arrow keys turn all,' in html
    assert 'alt="subject_0002, mesh_000001, 864 vertices, 26 mm high, gradient (1/mm): median 0, largest 8.74"' in html


def test_equal_values_and_empty_panels_are_drawn() -> None:
    assert meshes_fragment(MeshViews("Meshes", (view(values=np.zeros(3, dtype=np.float32)),), "mm", "z")).html.count("<img") == 1
    none = view(vertices=np.zeros((0, 3), dtype=np.float32), faces=np.zeros((0, 3), dtype=np.int32), values=np.zeros(0, dtype=np.float32))
    assert meshes_fragment(MeshViews("Meshes", (none,), "mm", "z")).html.count("<img") == 1
    assert "stage" in meshes_fragment(MeshViews("Meshes", (), "mm", "z")).html


@pytest.mark.parametrize(
    "wrong",
    [
        {"vertices": np.zeros((3, 2), dtype=np.float32)},
        {"vertices": np.full((3, 3), np.nan, dtype=np.float32)},
        {"values": np.zeros(2, dtype=np.float32)},
        {"values": np.full(3, np.inf, dtype=np.float32)},
        {"faces": np.array([[0, 1, 3]], dtype=np.int32)},
        {"faces": np.array([[0, 1, -1]], dtype=np.int32)},
        {"faces": np.array([[0, 1, 2, 0]], dtype=np.int32)},
    ],
)
def test_meshes_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="'worst'"):
        fragment_data(view(**wrong))


def test_normals_by_hand() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [9, 9, 9]], dtype=np.float64)
    normals = vertex_normals(square, np.array([[0, 1, 2], [0, 2, 3], [4, 4, 4]]))
    np.testing.assert_allclose(normals, [[0, 0, 1]] * 4 + [[0, 0, 0]], atol=1e-15)
    folded = np.array([[0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float64)
    normals = vertex_normals(folded, np.array([[0, 1, 2], [0, 2, 3]]))
    np.testing.assert_allclose(normals[0], np.array([1, 0, 2]) / 5**0.5, atol=1e-15)


def test_a_face_covers_its_area_in_its_light() -> None:
    colours = np.full((3, 3), 200, dtype=np.uint8)
    image = decode_png(draw_mesh_poster(facing(0.4), ONE_FACE, colours, FRAME))
    pixels = HEIGHT / (2 * np.tan(FIELD_OF_VIEW / 2)) / FRAME.distance(WIDTH / HEIGHT)
    assert image[..., 3].sum() / 255 == pytest.approx(0.4 * 0.8 * pixels**2, rel=0.02)
    np.testing.assert_array_equal(image[HEIGHT // 2, WIDTH // 2], [*[round(200 * (0.54 + 0.50 * 0.8124))] * 3, 255])


def test_colours_are_mixed_between_vertices() -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
    image = decode_png(draw_mesh_poster(facing(0.6), ONE_FACE, colours, FRAME)).astype(float)
    middle = image[HEIGHT // 2, WIDTH // 2, :3]
    np.testing.assert_allclose(middle / middle.sum(), [0.25, 0.25, 0.5], atol=0.01)


def test_near_faces_hide_far_ones_in_any_order() -> None:
    vertices = np.concatenate([facing(0.4, 0.5), facing(0.9, -0.5)])
    colours = np.repeat(np.array([[255, 0, 0], [0, 0, 255]], dtype=np.uint8), 3, axis=0)
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    images = [decode_png(draw_mesh_poster(vertices, order, colours, FRAME)) for order in (faces, faces[::-1])]
    np.testing.assert_array_equal(images[0], images[1])
    assert images[0][HEIGHT // 2, WIDTH // 2, 0] > 200
    assert images[0][HEIGHT // 2, WIDTH // 2, 2] == 0


def test_the_sense_of_rotation_does_not_matter() -> None:
    vertices, faces = ball(rings=8, turns=12)
    colours, frame = np.full((len(vertices), 3), 180, dtype=np.uint8), Frame(np.zeros(3), 12.0, 12.0, 1)
    images = [decode_png(draw_mesh_poster(vertices.astype(float), order, colours, frame)) for order in (faces, faces[:, ::-1])]
    assert np.abs(images[0].astype(int) - images[1]).max() <= 1
    assert (images[0][..., 3] > 0).mean() > 0.2


def test_faces_behind_the_camera_are_left_out() -> None:
    image = decode_png(draw_mesh_poster(facing(0.4, 50.0), ONE_FACE, np.full((3, 3), 200, dtype=np.uint8), FRAME))
    assert not image.any()
