"""The one door to a corpus of translations, wherever its rows come from."""

from pathlib import Path
from typing import Literal

import datasets

from experiments.data import pair_files, pair_hub, verses
from experiments.data.pair_rows import languages_of

Source = Literal["package", "hub", "path"]
PACKAGED = {"verses": verses.load}


def load(
    source: Source = "package",
    name: str = "verses",
    path: str | Path | None = None,
    languages: tuple[str, str] = ("en", "es"),
) -> datasets.DatasetDict:
    """A corpus in splits train, validation and test, of rows as `pair_rows` has them.

    Args:
        source: "package" for a corpus out of pinned packages, "hub" for one of the Hugging Face
            hub, "path" for the user's own files.
        name: "verses" of the packages, or an id on the hub. Not used with source="path".
        path: the folder of source="path"; the others take none. It may lack the test part.
        languages: the two that are wanted, such as ("en", "es").

    Raises:
        ValueError: the source, name or a language is unknown, or the path is missing or
            superfluous, or the rows are no translations.
        DataUnavailable: the data is not in the cache, and cannot be fetched.
        DataMismatch: the mirror holds another archive than the pinned one.
    """
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if languages[0] == languages[1]:
        raise ValueError(f"languages: got {languages[0]!r} twice, expected two different ones")
    if path is not None:
        return pair_files.load(path, languages)
    if source == "hub":
        return pair_hub.load(name, languages)
    if source != "package":
        raise ValueError(f"source: got {source!r}, expected 'package', 'hub' or 'path'")
    if name not in PACKAGED:
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(PACKAGED)}")
    rows = PACKAGED[name]()
    known = languages_of(rows)
    for language in languages:
        if language not in known:
            raise ValueError(f"language: got {language!r}, expected one of {', '.join(known)}")
    return rows
