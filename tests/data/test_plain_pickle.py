"""Pickles of arrays come in bit for bit; all others are refused, and nothing of them runs."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triform.data.plain_pickle import read_plain, read_plain_npz
from triform.errors import DataError

ARRAYS = [
    np.arange(6, dtype="<f4").reshape(2, 3),
    np.arange(6, dtype=">i2").reshape(3, 2),
    np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    np.arange(20.0)[::2],
    np.array([True, False]),
    np.array(["S1", "Sitting"]),
    np.array([b"abc", b"d"]),
    np.zeros((0, 17, 3)),
    np.array(1.5),
    np.array([1 + 2j]),
    np.array([1, "a", None, {"x": np.arange(3)}], dtype=object),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_of_every_kind_and_protocol(array: np.ndarray, protocol: int) -> None:
    found = read_plain(pickle.dumps(array, protocol))
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    if array.dtype != object:
        np.testing.assert_array_equal(found, array)
    else:
        assert list(found[:3]) == [1, "a", None]
        np.testing.assert_array_equal(found[3]["x"], np.arange(3))


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_back(protocol: int) -> None:
    value = {"a": [1, 2.5, None, True, b"\xff\x00"], 3: ("b", np.float32(0.1), np.int64(7)), "big": 2**100, "o": OrderedDict(x=1)}
    found = read_plain(pickle.dumps(value, protocol))
    assert found == value
    assert isinstance(found[3][1], np.float32)
    assert type(found["o"]) is dict


def test_what_is_shared_stays_shared() -> None:
    array = np.arange(3)
    found = read_plain(pickle.dumps({"a": array, "b": [array], "c": (array,)}))
    assert found["a"] is found["b"][0] is found["c"][0]


def test_pickle_of_python_2() -> None:
    # What Python 2.7 with NumPy 1.16 writes at protocol 2 for {"a": np.float32([1, -2])}: strings stand for bytes.
    bits = np.array([1, -2], "<f4").tobytes()
    program = (
        b"\x80\x02}q\x00U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04(K\x01K\x02\x85"
        b"cnumpy\ndtype\nq\x05U\x02f4K\x00K\x01\x87Rq\x06(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08" + bits + b"tbs."
    )
    np.testing.assert_array_equal(read_plain(program)["a"], np.array([1, -2], np.float32))


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_command_is_not_run(tmp_path: Path, protocol: int, wrapped: bool) -> None:
    trace = tmp_path / "trace"
    evil = Calls(os.system, f"touch {trace}")
    pickle.loads(pickle.dumps(evil, protocol))
    assert trace.exists(), "the attack itself must work"
    trace.unlink()
    content = pickle.dumps({"positions": [np.arange(3), evil]} if wrapped else evil, protocol)
    with pytest.raises(DataError, match=r"asks for (posix|nt)\.system, which plain arrays don't need; nothing of it was run"):
        read_plain(content, name="evil.pkl")
    assert not trace.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("builtins eval", "builtins exec", "builtins getattr", "builtins print", "__builtin__ eval", "os system", "subprocess Popen"),
        *(
            "numpy load",
            "numpy f2py",
            "numpy fromfile",
            "numpy memmap",
            "numpy.core.multiarray fromfile",
            "numpy.core.multiarray frombuffer",
        ),
        *("numpy.ctypeslib load_library", "numpy.testing runstring", "copyreg _reconstructor", "functools partial", "_codecs decode"),
        *("numpy._core.multiarray _reconstruct.__globals__", "collections OrderedDict.fromkeys", "numpy ndarray.tofile"),
    ],
)
def test_only_the_names_of_arrays_are_admitted(name: str) -> None:
    module, attribute = name.split()
    text = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(attribute)]) + attribute.encode() + b"\x93."
    with pytest.raises(DataError, match=rf"asks for {module}\.{attribute}"):
        read_plain(text)


GLOBAL_ARRAY = b"cnumpy\nndarray\n"
RECONSTRUCT = b"cnumpy._core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (b"Pan id\n.", "the instruction PERSID"),
        (b"Nq\x00Q.", "the instruction BINPERSID"),
        (b"\x80\x02\x82\x01.", "the instruction EXT1"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", "the instruction EXT4"),
        (b"Nr" + struct.pack("<I", 2**31 - 1) + b".", "the memory place"),
        (b"Np999999999\n.", "the memory place"),
        (b"\x80\x05\x97.", "the instruction NEXT_BUFFER"),
        (b"\x80\x05\x96\x02\0\0\0\0\0\0\0ab\x98.", "the instruction READONLY_BUFFER"),
        (b"\x80\x04\x8f(" + GLOBAL_ARRAY + b"\x90.", "the instruction EMPTY_SET"),
        (b"\x80\x04(K\x01\x91.", "the instruction FROZENSET"),
        (GLOBAL_ARRAY + b".", "it holds a function"),
        (RECONSTRUCT + b"}b.", "__setstate__"),
        (RECONSTRUCT + b"N}U\x01xK\x01s\x86b.", "__setstate__"),
        (b"cnumpy\ndtype\nU\x02O8\x85R.", "it holds a function"),
        (b"cnumpy\ndtype\nU\x0af4,f4,(9)O\x85R.", "neither numbers nor strings"),
        (b"\x80\x04Nq\x010N\x94.", "numbered in two ways"),
        (b"\x80\x04N\x940Nq\x01.", "numbered in two ways"),
        (b"(" * 1_000_000 + b".", "can't be read"),
        (b"", "can't be read"),
        (b"}", "can't be read"),
        (b"not a pickle at all", "can't be read"),
        (b"(lp0\n" + b"(l" * 100_000 + b"a" * 100_000 + b".", "can't be read"),
    ],
)
def test_tricks_are_refused(program: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_plain(program)


TOWER = b"N" + b"\x85" * 3_000_000
STAIRS = b"N\x94" + b"".join(b"0j" + struct.pack("<I", step) + b"\x85\x94" for step in range(300))


@pytest.mark.parametrize(
    "program",
    [
        *(b"\x80\x04}" + TOWER + b"Ns.", b"\x80\x04}(" + TOWER + b"Nu.", b"\x80\x04}" + STAIRS + b"Ns."),
        b"\x80\x02}" + b"(" * 200 + b"N" + b"t" * 200 + b"Ns.",
        b"\x80\x02}N" + b"2\x86" * 200 + b"Ns.",
    ],
)
def test_keys_that_would_end_the_process(program: bytes) -> None:
    with pytest.raises(DataError, match="tuples in tuples 100 deep"):
        read_plain(program)


def test_tuples_of_usual_depth_come_back() -> None:
    shared = ("a", (1, 2))
    loop: tuple[Any, ...] = ([],)
    loop[0].append(loop)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert read_plain(pickle.dumps({shared: [shared, (), ((((5,),),),)]}, protocol)) == {shared: [shared, (), ((((5,),),),)]}
        # An own part is written once more, and thrown away where the tuple turns out to be known.
        assert len(read_plain(pickle.dumps(loop, protocol))[0]) == 1


def array_program(shape: tuple[int, ...], code: str, state: tuple[Any, ...], content: Any) -> bytes:
    """A pickle of an array as NumPy writes it, with any of its parts false."""

    class Dtype:
        def __reduce__(self) -> Any:
            return np.dtype, (code, False, True), state

    class Array:
        def __reduce__(self) -> Any:
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, shape, Dtype(), False, content)  # type: ignore[attr-defined]

    return pickle.dumps(Array(), 4)


PLAIN = (3, "<", None, None, None, -1, -1, 0)


def test_false_arrays_are_refused() -> None:
    np.testing.assert_array_equal(read_plain(array_program((2,), "f4", PLAIN, b"\0" * 8)), np.zeros(2))
    with pytest.raises(DataError, match="has other content"):
        read_plain(array_program((10**12,), "f4", PLAIN, b"\0" * 8))
    with pytest.raises(DataError, match="has other content"):
        read_plain(array_program((1,), "O8", PLAIN, b"\x10" * 8))
    with pytest.raises(DataError, match="no known form"):
        read_plain(array_program((-2,), "f4", PLAIN, b"\0" * 8))
    # Flags that hide an object's pointer among plain bytes.
    hidden = (3, "|", None, ("x",), {"x": (np.dtype(object), 0)}, 8, 1, 0)
    with pytest.raises(DataError, match="an array's type has parts"):
        read_plain(array_program((1,), "f8", hidden, b"\x10" * 8))
    with pytest.raises(DataError, match="neither numbers nor strings"):
        read_plain(array_program((1,), "V8", PLAIN, b"\x10" * 8))


def test_cycles_and_deep_nests_end() -> None:
    loop: list[Any] = []
    loop.append(loop)
    found = read_plain(pickle.dumps(loop))
    assert found[0] is found
    shared: list[Any] = [1]
    for _ in range(60):
        shared = [shared, shared]
    assert read_plain(pickle.dumps(shared))[0] is not None


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    positions = {"S1": {"Walking": np.arange(6, dtype=np.float32).reshape(1, 2, 3)}}
    np.savez_compressed(path, plain=np.arange(4), positions=positions, many=np.array([{"a": 1}, None], dtype=object))  # type: ignore[arg-type]
    found = read_plain_npz(path)
    np.testing.assert_array_equal(found["plain"], np.arange(4))
    np.testing.assert_array_equal(found["positions"]["S1"]["Walking"], positions["S1"]["Walking"])
    assert found["many"].tolist() == [{"a": 1}, None]


def test_npz_that_runs_a_command(tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "a.npz"
    np.savez(path, data=np.array(Calls(os.system, f"touch {trace}"), dtype=object))
    with pytest.raises(DataError, match=r"a\.npz: data\.npy asks for \w+\.system"):
        read_plain_npz(path)
    assert not trace.exists()


def test_a_file_that_unpacks_to_more_than_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, data=np.zeros(2**18), more={"x": np.zeros(2**18)})  # type: ignore[arg-type]
    assert read_plain_npz(path)["more"]["x"].shape == (2**18,)
    monkeypatch.setattr("triform.data.plain_pickle._UNSUSPECTED_BYTES", 2**20)
    with pytest.raises(DataError, match=r"a\.npz would unpack to 0\.0039\d* GiB, over 100 times its size"):
        read_plain_npz(path)


def test_memory_places_are_counted_from_what_was_read(tmp_path: Path) -> None:
    # An archive's table may announce any size; the pickle's own bytes may not be outnumbered.
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("data.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|O", "fortran_order": False, "shape": ()})
        member.write(b"Nr" + struct.pack("<I", 2**20) + b"." + b"\0" * 2**20)
    with pytest.raises(DataError, match="the memory place 1048576"):
        read_plain_npz(path)


def test_broken_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b\.npz is not there"):
        read_plain_npz(tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"b\.pkl is not there"):
        read_plain(tmp_path / "b.pkl")
    stream = io.BytesIO()
    np.savez(stream, a=np.arange(100), b={"x": np.arange(100)})  # type: ignore[arg-type]
    path = tmp_path / "b.npz"
    content = bytearray(stream.getvalue())
    path.write_bytes(content[:-200])
    with pytest.raises(DataError, match="can't be read"):
        read_plain_npz(path)
    content[200] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match="can't be read"):
        read_plain_npz(path)
