"""What is in a pickled NumPy array, without running anything in the pickle.

A pickle is a program: it names functions, and loading calls them. Here the names that an array is
pickled with lead to stand-ins of ours, which note what they are given; every other name is refused.
So neither a function of a library nor NumPy itself is ever called by a file.
"""

import io
import pickle
import re
import struct
from typing import Any

import numpy as np

_NUMBERS = re.compile(r"[biuf][1248]|[SU]\d+")
_BROKEN = (  # what loading a damaged pickle may raise
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def read_object_array(content: bytes, name: str) -> Any:
    """The Python value in a .npy file of one pickled object.

    Args:
        content: the file.
        name: what an error calls it.

    Returns:
        What is in it: numbers, text, lists, tuples, dictionaries, and arrays of numbers or text;
        an array of objects is a list of them, or the one that it holds.

    Raises:
        ValueError: it is empty or damaged, no such file, or names anything but a plain array.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"version {version}")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except ValueError as error:
        raise ValueError(f"{name}: got no .npy file ({error}), expected one") from None
    if not dtype.hasobject or shape != ():
        raise ValueError(
            f"{name}: got an array {dtype} of shape {shape}, expected one pickled object"
        )
    try:
        return _plain(_Unpickler(stream).load())
    except _BROKEN as error:
        raise ValueError(f"{name}: got a pickle that cannot be read ({error})") from None


class _NDArray:
    """Stands for `numpy.ndarray`: what an array is begun as."""


class _DType:
    """Stands for a `numpy.dtype`."""

    def __init__(self, code: str, align: object = False, copy: object = True) -> None:
        del align, copy
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Stands for an array: what the pickle says is in it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.is_fortran, self.content = state


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    del shape, code
    if kind is not _NDArray:
        raise pickle.UnpicklingError(f"it begins an array as {kind!r}")
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """How bytes are written in an old pickle."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it has text in {encoding!r}")
    return text.encode("latin-1")


_ALLOWED: dict[str, Any] = {
    "_codecs.encode": _encode,
    "numpy.dtype": _DType,
    "numpy.ndarray": _NDArray,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if f"{module}.{name}" not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no array needs")
        return _ALLOWED[f"{module}.{name}"]


def _plain(value: Any) -> Any:
    """The value with arrays in place of their stand-ins."""
    if isinstance(value, _Array):
        return _array(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise pickle.UnpicklingError(f"it has a {type(value).__name__}")


def _array(stand_in: _Array) -> Any:
    code, content = stand_in.dtype.code, stand_in.content
    if re.fullmatch("O8?", code) and isinstance(content, list):
        return _plain(content if stand_in.shape else content[0])
    if not _NUMBERS.fullmatch(code) or not isinstance(content, bytes):
        raise pickle.UnpicklingError(f"it has an array of {code!r}")
    flat = np.frombuffer(content, np.dtype(stand_in.dtype.order + code))
    return flat.reshape(stand_in.shape, order="F" if stand_in.is_fortran else "C").copy()
