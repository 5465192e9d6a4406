"""The one door to a corpus of opinions, wherever its rows come from."""

from pathlib import Path
from typing import Literal

import datasets

from experiments.data import pang_lee_reviews, sentiment_file, sentiment_hub, vader_snippets
from experiments.data.sentiment_rows import Target, check_target

Source = Literal["package", "hub", "path"]
PACKAGED = (*vader_snippets.FILES, "reviews")


def load(
    source: Source = "package",
    name: str = "movies",
    path: str | Path | None = None,
    target: Target = "binary",
) -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"text": string, "label": class}.

    Args:
        source: "package" for a corpus out of a pinned package, "hub" for one of the Hugging Face
            hub, "path" for the user's own files.
        name: "movies", "tweets", "amazon", "nyt" (sentences) or "reviews" (whole film reviews) of
            the packages; or the id on the hub, with its configuration after a colon where it needs
            one. Not used with source="path".
        path: the file or folder of source="path"; the others take none.
        target: "binary", or "stars" from 1 to 5.

    Raises:
        ValueError: an argument is unknown, the path is missing or superfluous, or the corpus has no
            such labels.
        DataUnavailable: the data is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    check_target(target)
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if path is not None:
        return sentiment_file.load(path, target)
    if source == "hub":
        identifier, _, configuration = name.partition(":")
        return sentiment_hub.load(identifier, configuration or None, target)
    if source != "package":
        raise ValueError(f"source: got {source!r}, expected 'package', 'hub' or 'path'")
    if name not in PACKAGED:
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(PACKAGED)}")
    if name == "reviews":
        return pang_lee_reviews.load(target)
    return vader_snippets.load(name, target)
