"""The rows every corpus of written music has: a group, which is read first, and a piece as tokens.

Also what reads a folder of files that are not trusted.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets

SPLITS = ("train", "validation", "test")
LARGEST_FILE = 10_000_000
"""Bytes of a file that is read whole."""

FEATURES = datasets.Features(
    {
        "title": datasets.Value("string"),
        "group": datasets.Value("string"),
        "tokens": datasets.List(datasets.Value("string")),
    }
)


class Piece(NamedTuple):
    """A piece of music."""

    title: str
    group: str
    tokens: Sequence[str]


def split_of(mark: str) -> str:
    """The split of what has this mark, 80/10/10: pieces of one mark fall on the same side."""
    percent = int.from_bytes(hashlib.sha256(mark.encode()).digest()[:8]) % 100
    return "test" if percent < 10 else "validation" if percent < 20 else "train"


def data_set(
    splits: Mapping[str, Iterable[Piece]], fewest_of_group: int = 1
) -> datasets.DatasetDict:
    """Pieces by split, as rows of `FEATURES`.

    Args:
        splits: pieces of train, validation and test.
        fewest_of_group: groups of fewer pieces in the training part are left out of all parts.

    Raises:
        ValueError: a split has no piece.
    """
    pieces = {split: list(of_split) for split, of_split in splits.items()}
    counts: dict[str, int] = {}
    for piece in pieces["train"]:
        counts[piece.group] = counts.get(piece.group, 0) + 1
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split, of_split in pieces.items():
        kept = [piece for piece in of_split if counts.get(piece.group, 0) >= fewest_of_group]
        if not kept:
            raise ValueError(
                f"split {split}: got no piece of the {sum(map(len, pieces.values()))} in all, "
                "expected some in each (about 50 in all)"
            )
        columns = {name: [getattr(piece, name) for piece in kept] for name in Piece._fields}
        made[split] = datasets.Dataset.from_dict(columns, features=FEATURES)
    return datasets.DatasetDict(made)


def read_files(path: str | Path, suffixes: Sequence[str]) -> dict[str, bytes]:
    """The content of a file, or of those files of a folder that end so, by name.

    Raises:
        ValueError: there is no such file, or one is empty or too large.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(f for f in place.rglob("*") if f.suffix.lower() in suffixes and f.is_file())
    else:
        files = [place] if place.is_file() and place.suffix.lower() in suffixes else []
    if not files:
        raise ValueError(
            f"path: got {str(path)!r}, expected a file or folder of {', '.join(suffixes)}"
        )
    contents = {}
    for file in files:
        size = file.stat().st_size
        if not 0 < size <= LARGEST_FILE:
            raise ValueError(
                f"path: {str(file)!r} has {size:,} bytes, expected 1 … {LARGEST_FILE:,}"
            )
        contents[str(file)] = file.read_bytes()
    return contents
