"""Pickled arrays without the pickle machine's power: arrays, dicts, lists, tuples, strings and numbers come in, nothing else.

A pickle is a program that names functions and calls them. Here the few names that NumPy's arrays need are bound to stand-ins that only
note what they are told; real arrays are made from the notes once the program has ended. NumPy's own `dtype.__setstate__` never sees a
file's content either: it takes flags at their word, and a false one makes bytes into pointers.
"""

import io
import pickle
import pickletools
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from triform.data.pickled_arrays import ADMITTED, settled
from triform.errors import DataError

_REFUSED = {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER", "EMPTY_SET", "FROZENSET", "ADDITEMS"}
_PUT, _GET = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}
_TUPLES = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_DEEPEST = 100
_UNSUSPECTED_BYTES, _LARGEST_RATIO = 1 << 30, 100
_FAILURES = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    RecursionError,
    NotImplementedError,
)


def read_plain(source: Path | bytes, *, name: str = "") -> Any:
    """What a pickle holds, Python 2's too.

    Args:
        name: What to call the source in messages (empty: its path).
    Raises: DataError: It is missing or broken, or asks for anything but arrays, dicts, lists, tuples, strings and numbers.
    """
    if isinstance(source, bytes):
        return _read(lambda: io.BytesIO(source), name or "a pickle")
    _refuse_missing(source)
    return _read(lambda: source.open("rb"), name or str(source))


def read_plain_npz(path: Path) -> dict[str, Any]:
    """Arrays of a .npz by name; one that wraps a single pickled object (`np.savez(positions=some_dict)`) as that object.

    Raises: DataError: As `read_plain`.
    """
    _refuse_missing(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            _refuse_flood(path, sum(info.file_size for info in members))
            return {info.filename[:-4]: _read_member(archive, info, f"{path}: {info.filename}") for info in members}
    except _FAILURES as error:
        raise _broken(str(path), error) from None


def _refuse_missing(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path} is not there", expected="this file", do="correct --data-dir, or put the file there")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Any:
    def opened() -> IO[bytes]:
        stream = archive.open(info)
        _header(stream)
        return stream

    with archive.open(info) as stream:
        _, _, dtype = _header(stream)
    if not dtype.hasobject:
        with archive.open(info) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    found = _read(opened, name)
    return found.item() if isinstance(found, np.ndarray) and found.shape == () else found


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def _read(opened: Callable[[], IO[bytes]], name: str) -> Any:
    """Args: opened: Gives a new stream at the pickle's beginning."""
    try:
        with opened() as stream:
            _refuse_tricks(stream, name)
        with opened() as stream:
            return settled(_PlainUnpickler(stream, name).load(), {})
    except _FAILURES as error:
        raise _broken(name, error) from None


def _refuse_flood(path: Path, size: int) -> None:
    """A few megabytes can unpack to more than any memory holds; no more comes out than is announced."""
    if size > max(_UNSUSPECTED_BYTES, _LARGEST_RATIO * path.stat().st_size):
        raise DataError(
            f"{path} would unpack to {size / 2**30:.3g} GiB, over {_LARGEST_RATIO} times its size",
            expected="arrays of measured numbers, which hardly shrink",
            do="get the file from its publisher",
        )


def _refuse_tricks(stream: IO[bytes], name: str) -> None:
    """Read the program without running it.

    Numbered places can't outnumber the bytes so far, but the machine makes room up to the largest number it is told.
    """
    depths = _TupleDepths()
    for opcode, argument, position in pickletools.genops(stream):
        if opcode.name in _REFUSED:
            raise _refused(name, f"the instruction {opcode.name}")
        if opcode.name in _PUT and not 0 <= int(argument or 0) <= (position or 0):
            raise _refused(name, f"the memory place {argument}")
        if depths.after(opcode, argument) > _DEEPEST:
            raise _refused(name, f"tuples in tuples {_DEEPEST} deep")


class _TupleDepths:
    """How deep the tuples on the machine's stack are: a dict's key is hashed by recursion that no limit stops but the process's end."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._marks: list[int] = []
        self._memo: dict[int, int] = {}
        """Of tuples alone: there are millions of names in a large file."""
        self._numbered: list[int] = [0, 0]
        """Places that the program numbered, and that the machine did."""

    def after(self, opcode: pickletools.OpcodeInfo, argument: Any) -> int:
        """Follow one instruction. Returns: the depth of the tuple it made, or 0. Raises: IndexError, UnpicklingError: none writes so."""
        name = opcode.name
        if name in _PUT or name == "MEMOIZE":
            self._note(argument)
        elif name in _GET:
            self._stack.append(self._memo.get(int(argument), 0))
        elif name == "DUP":
            self._stack.append(self._stack[-1])
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name == "POP" and self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            return self._replace(opcode)
        return 0

    def _note(self, place: Any) -> None:
        where = self._numbered[1] if place is None else int(place)
        self._numbered[place is None] += 1
        if all(self._numbered):
            raise pickle.UnpicklingError("its memory is numbered in two ways")
        self._memo.pop(where, None)
        if depth := self._stack[-1]:
            self._memo[where] = depth

    def _replace(self, opcode: pickletools.OpcodeInfo) -> int:
        """What the instruction takes from the stack, for what it leaves there."""
        below, taken = opcode.stack_before, 0
        if pickletools.markobject in below:
            below, start = below[: below.index(pickletools.markobject)], self._marks.pop()
            taken = max(self._stack[start:], default=0)
            del self._stack[start:]
        for _ in below:
            taken = max(taken, self._stack.pop())
        depth = 1 + taken if opcode.name in _TUPLES else 0
        self._stack += [depth] * len(opcode.stack_after)
        return depth


def _broken(name: str, error: Exception) -> DataError:
    reason = str(error) or type(error).__name__
    return DataError(f"{name} can't be read: {reason}", expected="a whole file of arrays", do="get the file again")


def _refused(name: str, wanted: str) -> DataError:
    return DataError(
        f"{name} asks for {wanted}, which plain arrays don't need; nothing of it was run",
        expected="a pickle of arrays, dicts, lists, tuples, strings and numbers",
        do="get the file from its publisher, and don't open this one in Python",
    )


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], name: str) -> None:
        super().__init__(stream, encoding="latin1")
        self._name = name

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise _refused(self._name, f"{module}.{name}")
        return ADMITTED[module, name]
