"""The one door to a corpus of named entities, wherever its rows come from."""

from pathlib import Path
from typing import Literal

import datasets

from experiments.data import conll_columns, entity_hub, entity_tweets, peoples_daily

Source = Literal["package", "hub", "path"]
PACKAGED = {"tweets": entity_tweets.load, "peoples_daily": peoples_daily.load}


def load(
    source: Source = "package", name: str = "tweets", path: str | Path | None = None
) -> datasets.DatasetDict:
    """A corpus in splits train, validation and test, of rows as `tagged_rows` has them.

    Args:
        source: "package" for a corpus out of a pinned package, "hub" for one of the Hugging Face
            hub, "path" for the user's own files.
        name: "tweets" or "peoples_daily" of the packages; "wnut_17", "conll2003" or an id on the
            hub. Not used with source="path".
        path: the folder of CoNLL files of source="path"; the others take none. It may lack the
            test part.

    Raises:
        ValueError: the source or name is unknown, or the path is missing or superfluous, or the
            rows are no named entities.
        DataUnavailable: the data is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if path is not None:
        return conll_columns.load(path)
    if source == "hub":
        return entity_hub.load(name)
    if source != "package":
        raise ValueError(f"source: got {source!r}, expected 'package', 'hub' or 'path'")
    if name not in PACKAGED:
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(PACKAGED)}")
    return PACKAGED[name]()
