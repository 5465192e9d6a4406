"""The compiled library of the native plan: where it is, whether it can be had, what it offers."""

import ctypes
import threading
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

FILE = "_native.so"
HANDLERS = ("rnnjax_forward", "rnnjax_backward")

_registering = threading.Lock()


class Library(NamedTuple):
    """What could be loaded, or why nothing could; one of the two is None."""

    handle: ctypes.CDLL | None
    missing: str | None


def _found() -> Path | None:
    """Beside the package's modules, or where an editable installation built it."""
    package = find_spec("rnnjax")
    folders = (package.submodule_search_locations or ()) if package else ()
    paths = (Path(folder) / FILE for folder in folders)
    return next((path for path in paths if path.exists()), None)


@lru_cache
def _loaded(path: Path | None) -> Library:
    if path is None:
        return Library(
            None,
            "rnnjax was installed without its compiled kernels: where it was built there was no "
            "C++ compiler, see docs/guide/08-native-plan.md",
        )
    try:
        handle = ctypes.CDLL(str(path))
    except OSError as error:
        return Library(None, f"its compiled kernels cannot be loaded: {error}")
    handle.rnnjax_instructions.restype = ctypes.c_char_p
    handle.rnnjax_activation.restype = ctypes.c_bool
    for name in HANDLERS:
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(handle, name)), platform="cpu")
    return Library(handle, None)


@lru_cache
def library() -> Library:
    """The library with its handlers registered, loaded when first asked for."""
    path = _found()
    with _registering:
        return _loaded(path)


def instruction_sets() -> tuple[str, ...]:
    """Those that were compiled and that this processor runs, best first; none without a library."""
    handle = library().handle
    return () if handle is None else tuple(handle.rnnjax_instructions().decode().split(","))


def activation(name: str, instructions: str, values: np.ndarray) -> np.ndarray:
    """The kernels' "sigmoid" or "tanh" of float32 numbers, to measure its accuracy.

    Raises:
        ValueError: There is no library, or the processor does not run the instruction set.
    """
    found = library()
    if found.handle is None:
        raise ValueError(f"activation: {found.missing}")
    values = np.ascontiguousarray(values, np.float32)
    results = np.empty_like(values)
    pointer = ctypes.POINTER(ctypes.c_float)
    ran = found.handle.rnnjax_activation(
        instructions.encode(),
        name.encode(),
        values.ctypes.data_as(pointer),
        results.ctypes.data_as(pointer),
        ctypes.c_long(values.size),
    )
    if not ran:
        raise ValueError(
            f"instructions: got {instructions!r}, expected one of {', '.join(instruction_sets())}"
        )
    return results
