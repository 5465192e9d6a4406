"""What a result was made of: digests of its data, config and code, the same on every machine.

Two results of one fingerprint are results of one computation, whatever folder, cache or version
number it had. Digests are SHA-256 in hexadecimal.
"""

import hashlib
import struct
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rnnjax.training.run_folder import resolved_config

SOURCES = frozenset({".py", ".cc", ".h"})


def fingerprint(
    *, data: Any, config: Any, code: Collection[Path], without: Collection[str] = ()
) -> dict[str, str]:
    """The digests "data", "config" and "code" of a run, and "all", which is that of the three.

    Args:
        data: all rows that the run reads, as `digest_of_data` takes them.
        config: the run's, as `open_run_folder` takes it.
        code: the files and folders that decide the result, as `digest_of_code` takes them.
        without: dotted names of fields of the config that do not decide the result: where the
            run folder is, how long a sample is.

    Raises:
        ValueError: the data or the config is not of the kind above, a field of `without` is
            not in the config, or `code` holds no source.
        OSError: a file of `code` cannot be read.
    """
    fields = resolved_config(config)
    for name in without:
        _remove(fields, name)
    parts = {
        "data": digest_of_data(data),
        "config": digest_of_data(fields),
        "code": digest_of_code(*code),
    }
    return parts | {"all": digest_of_data(parts)}


def digest_of_data(data: Any) -> str:
    """The digest of the content of rows, however they are stored.

    Data is None, a boolean, a number, a string, bytes, a numpy array, a mapping with string keys
    (in any order) or any other iterable (in its order), nested. So a `datasets.DatasetDict` has
    the digest of a dict of lists of dicts with the same rows.

    Raises:
        ValueError: a value is of another kind, as a set is, which has no order.
    """
    digest = hashlib.sha256()
    _feed(digest, data)
    return digest.hexdigest()


def digest_of_code(*parts: Path) -> str:
    """The digest of the sources (Python and C++) in files and folders, by their names there.

    Raises:
        ValueError: a folder holds no source.
        OSError: there is no such file, or it cannot be read.
    """
    digests = []
    for part in parts:
        files = sorted(path for path in part.rglob("*") if path.suffix in SOURCES)
        if part.is_dir() and not files:
            raise ValueError(f"code: got {part} without a source, expected {sorted(SOURCES)} in it")
        digests.append((part.name, digest_of_files(part.parent, files or [part])))
    return digest_of_data(sorted(digests))


def digest_of_files(root: Path, files: Iterable[Path]) -> str:
    """The digest of files' content and names relative to `root`, in the order given.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(root).as_posix().encode() + b"\0")
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """Each value after a letter for its kind and, where it has one, its length: no two collide."""
    if value is None or isinstance(value, bool | np.bool_):
        digest.update(
            {None: b"n", False: b"f", True: b"t"}[value if value is None else bool(value)]
        )
    elif isinstance(value, int | np.integer):
        digest.update(b"i%d;" % int(value))
    elif isinstance(value, float | np.floating):
        digest.update(b"d" + struct.pack("<d", float(value)))
    elif isinstance(value, str):
        _feed_bytes(digest, b"s", value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, bytes):
        _feed_bytes(digest, b"b", value)
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        little = value.astype(value.dtype.newbyteorder("<"))
        _feed_bytes(digest, b"a", f"{little.dtype.str}{little.shape}".encode())
        digest.update(np.ascontiguousarray(little).tobytes())
    elif isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        digest.update(b"{")
        for key in sorted(value):
            _feed(digest, key)
            _feed(digest, value[key])
        digest.update(b"}")
    elif isinstance(value, Iterable) and not isinstance(value, set | frozenset | Mapping):
        digest.update(b"[")
        for item in value:
            _feed(digest, item)
        digest.update(b"]")
    else:
        raise ValueError(
            f"data: got a value of type {type(value).__name__}, expected numbers, strings, bytes, "
            "arrays of them, mappings with string keys and ordered iterables"
        )


def _feed_bytes(digest: Any, kind: bytes, content: bytes) -> None:
    digest.update(kind + b"%d:" % len(content))
    digest.update(content)


def _remove(fields: dict[str, Any], name: str) -> None:
    *path, last = name.split(".")
    inner: Any = fields
    for key in path:
        inner = inner.get(key) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or last not in inner:
        raise ValueError(f"without: got {name!r}, expected a field of the config: {list(fields)}")
    del inner[last]
