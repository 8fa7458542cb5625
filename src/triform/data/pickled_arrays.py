"""What a pickle gets in place of NumPy's functions: notes of what it said, from which real arrays are made once it has ended."""

import math
import pickle
import re
from typing import Any

import numpy as np

_CODE = re.compile(r"[<>|=]?([biufcSU?O]|[biufcSU][0-9]{1,4}|O8)")


class _StandIn:
    """What a pickle gets in a function's place; a pickle can't set its attributes."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes a function")


class _Dtype(_StandIn):
    """`numpy.dtype`: of plain numbers, strings or objects."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise pickle.UnpicklingError(f"an array's type {code!r} is neither numbers nor strings")
        self.code = code
        self.order: Any = "="

    def __setstate__(self, state: object) -> None:
        """`state` is NumPy's (version, byte order, subtype, names, fields, size, alignment, flags); the code has said all else."""
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "=") or any(state[2:5]):
            raise pickle.UnpicklingError("an array's type has parts")
        self.order = state[1]

    def real(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)


class _Array(_StandIn):
    """`numpy.ndarray`, to be made at the end."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        """`state` is NumPy's (version, shape, dtype, Fortran order, bytes or list of objects); the version may be missing."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise pickle.UnpicklingError("an array of no known form")
        self.state = state[-4:]

    def real(self, done: dict[int, tuple[Any, Any]]) -> np.ndarray[Any, Any]:
        shape, dtype, fortran, content = self.state or ((0,), _Dtype("f8"), False, b"")
        content = settled(content, done) if isinstance(content, list) else content
        return _make_array(content, dtype, shape, "F" if fortran else "C")


def _make_array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    plain_shape = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not isinstance(dtype, _Dtype) or not plain_shape or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array of no known form")
    real = dtype.real()
    if isinstance(content, str):
        # Python 2 has no bytes: what it calls a string arrives as text.
        return _make_array(content.encode("latin1"), dtype, shape, order)
    length = math.prod(shape) * (1 if real.hasobject else real.itemsize)
    if not isinstance(content, list if real.hasobject else bytes | bytearray) or len(content) != length or real.itemsize == 0:
        raise pickle.UnpicklingError(f"an array {shape} of {dtype.code} has other content")
    return _array_of_objects(content, shape, order) if isinstance(content, list) else np.ndarray(shape, real, buffer=content, order=order)


def _array_of_objects(parts: list[Any], shape: tuple[int, ...], order: Any) -> np.ndarray[Any, Any]:
    array = np.empty(len(parts), object)
    for i, part in enumerate(parts):
        array[i] = part
    return array.reshape(shape, order=order)


class _Reconstruct(_StandIn):
    """`numpy.core.multiarray._reconstruct(ndarray, (0,), b"b")`."""

    def __new__(cls, of: object, *_: object) -> Any:
        if of is not _Array:
            raise pickle.UnpicklingError("an array of no known form")
        return _Array()


class _Scalar(_StandIn):
    """`numpy.core.multiarray.scalar(dtype, bytes)`."""

    def __new__(cls, dtype: object, content: object) -> Any:
        array = _make_array(content, dtype, (), "C")
        if array.dtype.hasobject:
            raise pickle.UnpicklingError("a number that is an object")
        return array[()]


class _FromBuffer(_StandIn):
    """`numpy.core.numeric._frombuffer(buffer, dtype, shape, order, axes)`, protocol 5."""

    def __new__(cls, content: object, dtype: object, shape: object, order: object, axes: Any = None) -> Any:
        if order == "K":
            return _make_array(content, dtype, shape, "C").transpose(axes)
        return _make_array(content, dtype, shape, order)


class _Encode(_StandIn):
    """`_codecs.encode(text, "latin1")`: how protocol 2 writes bytes."""

    def __new__(cls, text: object, encoding: object = "latin1") -> Any:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("bytes of no known form")
        return text.encode("latin1")


class _NoBytes(_StandIn):
    """`bytes()`: how protocol 2 writes none."""

    def __new__(cls) -> Any:
        return b""


ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encode,
    ("__builtin__", "bytes"): _NoBytes,
    # A plain dict keeps its order too, and has no attributes that a pickle could set.
    ("collections", "OrderedDict"): dict,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FromBuffer for core in ("core", "_core")},
}


def settled(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """Real arrays in the stand-ins' places.

    Args:
        done: By identity, what was settled - kept, so that nothing else gets its identity - and the result: the shared is settled once.
    """
    if isinstance(value, str | int | float) or value is None:
        return value
    if id(value) in done:
        return done[id(value)][1]
    found = value
    if isinstance(value, _Array):
        found = value.real(done)
    elif isinstance(value, dict):
        done[id(value)] = value, value
        parts = [(settled(key, done), settled(part, done)) for key, part in value.items()]
        value.clear()
        value.update(parts)
    elif isinstance(value, list):
        done[id(value)] = value, value
        value[:] = [settled(part, done) for part in value]
    elif isinstance(value, tuple):
        found = tuple(settled(part, done) for part in value)
    elif isinstance(value, _StandIn | type) or (isinstance(value, np.ndarray) and value.dtype.hasobject):
        raise pickle.UnpicklingError("it holds a function")
    done[id(value)] = value, found
    return found
