import contextlib
import io
import struct
from pathlib import Path

import meshio
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from triform.errors import DataError
from triform.geometry.ply import read_ply, write_ply

SHARED = Path(__file__).parents[2] / "../shared/data"
XYZ = "property double x\nproperty double y\nproperty double z\n"
SPELLINGS = {
    "b": ("char", "int8"),
    "B": ("uchar", "uint8"),
    "h": ("short", "int16"),
    "H": ("ushort", "uint16"),
    "i": ("int", "int32"),
    "I": ("uint", "uint32"),
    "f": ("float", "float32"),
    "d": ("double", "float64"),
}


def ply(elements: str, body: bytes, *, kind: str = "binary_little_endian") -> bytes:
    return f"ply\nformat {kind} 1.0\n{elements}end_header\n".encode() + body


def body_of(points: np.ndarray, order: str = "<") -> bytes:
    return points.astype(order + "f8").tobytes()


POINTS = np.array([[1.0, 2.0, 3.0], [-4.5, 0.25, 1e6]])


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 40), st.just(3)), elements=st.floats(-1e9, 1e9)),
    st.booleans(),
    st.lists(st.text("abc 0", max_size=9), max_size=3),
)
def test_what_was_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, points: np.ndarray, colored: bool, words: list[str]
) -> None:
    path = tmp_path_factory.mktemp("ply") / "a.ply"
    colors = (np.abs(points) % 256).astype(np.uint8) if colored else None
    write_ply(path, points, colors=colors, comments=words)
    cloud = read_ply(path)
    np.testing.assert_array_equal(cloud.points(), points)
    assert cloud.comments == tuple(" ".join(word.split()) for word in words)
    if colors is None:
        assert cloud.colors() is None
    else:
        np.testing.assert_array_equal(cloud.colors(), colors)


def test_the_written_header_is_the_one_scanners_write(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", POINTS, colors=np.array([[1, 2, 3], [4, 5, 6]], np.uint8))
    colors = "property uchar red\nproperty uchar green\nproperty uchar blue\n"
    expected = ply(f"element vertex 2\n{XYZ}{colors}", struct.pack("<dddBBBdddBBB", 1, 2, 3, 1, 2, 3, -4.5, 0.25, 1e6, 4, 5, 6))
    assert (tmp_path / "a.ply").read_bytes() == expected


@pytest.mark.parametrize("kind", ["binary_little_endian", "binary_big_endian", "ascii"])
@pytest.mark.parametrize("code", list(SPELLINGS))
@pytest.mark.parametrize("spelling", [0, 1])
def test_every_type_in_every_form(kind: str, code: str, spelling: int) -> None:
    name = SPELLINGS[code][spelling]
    header = f"element vertex 2\nproperty {name} extra\n" + "".join(f"property {name} {axis}\n" for axis in "xyz")
    rows = [(7, 1, 2, 3), (8, 100, 5, 6)]
    if kind == "ascii":
        body = b"".join(b"%d %d %d %d\n" % row for row in rows)
    else:
        body = b"".join(struct.pack((">" if "big" in kind else "<") + 4 * code, *row) for row in rows)
    cloud = read_ply(ply(header, body, kind=kind))
    np.testing.assert_array_equal(cloud.points(), [[1, 2, 3], [100, 5, 6]])
    np.testing.assert_array_equal(cloud.vertices["extra"], [7, 8])


@pytest.mark.parametrize("order", ["<", ">"])
def test_lists_before_inside_and_after_the_vertices(order: str) -> None:
    kind = "binary_little_endian" if order == "<" else "binary_big_endian"
    header = (
        "element face 2\nproperty uchar flag\nproperty list uchar int vertex_indices\n"
        "element camera 1\nproperty float focal\n"
        f"element vertex 2\n{XYZ.replace('property double y', 'property list ushort double weights' + chr(10) + 'property double y')}"
        "element edge 1\nproperty list uchar int ends\n"
    )
    before = struct.pack(order + "BBiiiBBf", 1, 3, 0, 1, 1, 1, 0, 50.0)
    vertices = struct.pack(order + "dHdddd", 1, 2, 9, 9, 2, 3) + struct.pack(order + "dHdd", -4.5, 0, 0.25, 1e6)
    np.testing.assert_array_equal(read_ply(ply(header, before + vertices + b"\x02", kind=kind)).points(), POINTS)


def test_lists_before_inside_and_after_the_vertices_in_ascii() -> None:
    header = f"element face 2\nproperty list uchar int vertex_indices\nelement vertex 2\n{XYZ}property list uchar int ids\nelement edge 1\n"
    body = b"3 0 1 1\n0\n1 2 3 2 8 9\n\n-4.5 .25 1e6 0\n"
    np.testing.assert_array_equal(read_ply(ply(header, body, kind="ascii")).points(), POINTS)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_line_breaks_comments_and_obj_info(newline: bytes, kind: str) -> None:
    first = np.array([[struct.unpack("<d", b"\n" + bytes(6) + b"@")[0], 0, 0]])
    header = f"comment end_header is not here\nobj_info num_cols 512\nelement vertex 1\n{XYZ}"
    text = ply(header, b"", kind=kind).replace(b"\n", newline)
    body = f"{float(first[0, 0])!r} 0 0".encode() + newline if kind == "ascii" else body_of(first)
    cloud = read_ply(text + body)
    np.testing.assert_array_equal(cloud.points(), first)
    assert cloud.comments == ("end_header is not here",)


def test_colors_of_other_types() -> None:
    header = "element vertex 1\n" + XYZ + "".join(f"property {{0}} {color}\n" for color in ("red", "green", "blue"))
    for kind, row, expected in [
        ("float", b"0 0.5 1", [0, 128, 255]),
        ("ushort", b"0 32768 65535", [0, 128, 255]),
        ("uchar", b"0 7 255", [0, 7, 255]),
    ]:
        colors = read_ply(ply(header.format(kind), b"0 0 0 " + row, kind="ascii")).colors()
        assert colors is not None
        assert colors.dtype == np.uint8
        assert colors[0].tolist() == expected


BROKEN = {
    "empty": (b"", "empty"),
    "not a PLY": (b"solid cube\nfacet\n", "not a PLY"),
    "no end of header": (b"ply\nformat ascii 1.0\nelement vertex 1\n", "the header has no end"),
    "no format": (b"ply\nelement vertex 0\n" + XYZ.encode() + b"end_header\n", "no format line"),
    "format": (ply(f"element vertex 0\n{XYZ}", b"", kind="binary_middle_endian"), "binary_middle_endian"),
    "version": (b"ply\nformat ascii 2.0\nend_header\n", "ascii 2.0"),
    "no vertex element": (ply("element face 0\nproperty list uchar int vertex_indices\n", b""), "no vertex element"),
    "no z": (ply("element vertex 1\nproperty float x\nproperty float y\n", bytes(8)), "have no z, only x, y"),
    "z is a list": (ply("element vertex 1\nproperty float x\nproperty float y\nproperty list uchar float z\n", bytes(9)), "have no z"),
    "twice": (ply(f"element vertex 1\n{XYZ}property float x\n", bytes(28)), "there twice"),
    "unknown type": (ply("element vertex 1\nproperty half x\n", b""), "property half x"),
    "real list length": (ply("element vertex 1\nproperty list float int x\n", b""), "property list float int x"),
    "property of nothing": (ply("property float x\n", b""), "property float x"),
    "unknown word": (ply("elements vertex 1\n", b""), "elements vertex 1"),
    "negative count": (ply(f"element vertex -1\n{XYZ}", b""), "element vertex -1"),
    "count of words": (ply(f"element vertex many\n{XYZ}", b""), "element vertex many"),
    "absurd count": (ply(f"element vertex 999999999999999\n{XYZ}", bytes(24)), "24 bytes are left"),
    "absurd count in ascii": (ply(f"element vertex 999999999999999\n{XYZ}", b"1 2 3\n", kind="ascii"), "1 rows of vertices"),
    "truncated": (ply(f"element vertex 2\n{XYZ}", bytes(47)), "47 bytes are left"),
    "truncated faces": (
        ply(f"element face 2\nproperty list uchar int i\nelement vertex 1\n{XYZ}", b"\x03" + bytes(12)),
        "truncated in row 1 of 'face'",
    ),
    "truncated last list": (
        ply(f"element vertex 1\n{XYZ}property list uchar int ids\n", bytes(24) + b"\x02" + bytes(7)),
        "last row of 'vertex'",
    ),
    "negative list": (ply(f"element vertex 1\n{XYZ}property list char int ids\n", bytes(24) + b"\xff"), "a list of -1 values"),
    "truncated ascii": (ply(f"element vertex 2\n{XYZ}", b"1 2 3\n", kind="ascii"), "1 rows of vertices"),
    "short ascii row": (ply(f"element vertex 2\n{XYZ}", b"1 2\n3 4 5\n", kind="ascii"), "vertex row 0 has 2 numbers"),
    "garbage": (ply(f"element vertex 1\n{XYZ}", b"1 2 three\n", kind="ascii"), "three"),
    "ascii list length": (ply(f"element vertex 1\n{XYZ}property list uchar int ids\n", b"1 2 3 x\n", kind="ascii"), "'ids' has no length"),
    "ascii list too short": (ply(f"element vertex 1\n{XYZ}property list uchar int ids\n", b"1 2 3 2 1\n", kind="ascii"), "5 words"),
    "out of range": (ply(f"element vertex 1\n{XYZ}property uchar red\n", b"1 2 3 256\n", kind="ascii"), "'red' is out of the range"),
    "no whole number": (ply(f"element vertex 1\n{XYZ}property uchar red\n", b"1 2 3 nan\n", kind="ascii"), "'red' is out of the range"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_broken_files_are_named(case: str) -> None:
    data, message = BROKEN[case]
    with pytest.raises(DataError) as caught:
        read_ply(data, name="0007.ply")
    assert message in caught.value.got
    assert caught.value.got.startswith("0007.ply: ")
    assert caught.value.expected
    assert caught.value.do


def test_truncation_says_what_is_needed() -> None:
    with pytest.raises(DataError, match="48 bytes"):
        read_ply(ply(f"element vertex 2\n{XYZ}", bytes(47)))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.ply"):
        read_ply(tmp_path / "absent.ply")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_never_raises_anything_else(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["ascii", "binary_big_endian"]))
    header = f"element face 1\nproperty list uchar int i\nelement vertex 2\n{XYZ}property uchar red\n"
    body = b"1 0\n1 2 3 4\n5 6 7 8\n" if kind == "ascii" else struct.pack(">BidddBdddB", 1, 0, 1, 2, 3, 4, 5, 6, 7, 8)
    content = bytearray(ply(header, body, kind=kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    with contextlib.suppress(DataError):
        assert read_ply(bytes(content)).points().shape[1] == 3


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_agrees_with_trimesh(encoding: str) -> None:
    mesh = trimesh.creation.icosphere(subdivisions=1)
    cloud = read_ply(trimesh.exchange.ply.export_ply(mesh, encoding=encoding))
    np.testing.assert_allclose(cloud.points(), mesh.vertices, atol=1e-7)


@pytest.mark.parametrize("binary", [True, False])
def test_agrees_with_meshio(tmp_path: Path, binary: bool) -> None:
    points = np.random.default_rng(0).normal(size=(20, 3))
    meshio.write(tmp_path / "a.ply", meshio.Mesh(points, [("triangle", np.array([[0, 1, 2]]))]), binary=binary)
    np.testing.assert_allclose(read_ply(tmp_path / "a.ply").points(), points, rtol=1e-12)
    write_ply(tmp_path / "b.ply", points)
    np.testing.assert_array_equal(meshio.read(tmp_path / "b.ply").points, points)


FILES = sorted([*SHARED.glob("ply/*.ply"), *SHARED.glob("corn/*.ply")])


@pytest.mark.skipif(not FILES, reason="the shared sample files are not here")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_files_agree_with_trimesh(path: Path) -> None:
    ours = read_ply(path)
    theirs = trimesh.exchange.ply.load_ply(io.BytesIO(path.read_bytes()), fix_texture=False)
    np.testing.assert_allclose(ours.points(), theirs["vertices"], rtol=1e-6)


def test_arguments_of_write_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="points and colors"):
        write_ply(tmp_path / "a.ply", POINTS[:, :2])
    with pytest.raises(ValueError, match="one line"):
        write_ply(tmp_path / "a.ply", POINTS, comments=["a\nend_header"])
