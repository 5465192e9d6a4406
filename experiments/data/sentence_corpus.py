"""The one door to a corpus of sentences in words, wherever its rows come from."""

from collections.abc import Callable
from pathlib import Path

import datasets

from experiments.data import brown, text_file, text_hub
from experiments.data.sentence_rows import Sentence, sentence_data_set
from experiments.data.text_corpus import Source
from rnnjax.text.tokenisers import words

PACKAGED = {"brown": brown.load}
TOKENISERS: dict[str, Callable[[str], list[str]]] = {"spaces": str.split, "words": words}


def load(
    source: Source = "package",
    name: str = "brown",
    path: str | Path | None = None,
    tokeniser: str = "spaces",
) -> datasets.DatasetDict:
    """A corpus in splits train, validation and test, rows {"document": string, "words": [string]}.

    Of hub and path a line is a sentence, an empty line one of no words, as in the published counts
    of WikiText.

    Args:
        source: "package" for a corpus out of a pinned package, "hub" for one of the Hugging Face
            hub, "path" for the user's own files, as `experiments.data.text_file` reads them.
        name: "brown" of the packages; or the id on the hub, with its configuration and the column
            of the text after colons where it needs them ("Salesforce/wikitext:wikitext-2-v1",
            "ID::sentence"). Not used with source="path".
        path: the file or folder of source="path"; the others take none.
        tokeniser: how the lines of hub and path are split: at "spaces", for a corpus whose tokens
            are apart already, or into "words" and marks.

    Raises:
        ValueError: the source, name or tokeniser is unknown, or the path is missing or superfluous.
        DataUnavailable: the data is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if tokeniser not in TOKENISERS:
        raise ValueError(f"tokeniser: got {tokeniser!r}, expected one of {', '.join(TOKENISERS)}")
    if source == "package":
        if name not in PACKAGED:
            raise ValueError(f"name: got {name!r}, expected one of {', '.join(PACKAGED)}")
        if tokeniser != "spaces":
            raise ValueError(f"tokeniser: got {tokeniser!r} with source='package', expected none")
        return PACKAGED[name]()
    if source == "hub":
        identifier, configuration, column = [*name.split(":"), "", ""][:3]
        texts = text_hub.load(identifier, configuration or None, column or "text")
    elif path is not None:
        texts = text_file.load(path)
    else:
        raise ValueError(f"source: got {source!r}, expected 'package', 'hub' or 'path'")
    return of_lines(texts, TOKENISERS[tokeniser])


def of_lines(
    texts: datasets.DatasetDict, split: Callable[[str], list[str]]
) -> datasets.DatasetDict:
    """Each line of each text as a sentence.

    Args:
        texts: rows {"title": string, "text": string}.
        split: a line -> its words.

    Raises:
        ValueError: a split has no words.
    """
    return sentence_data_set(
        {
            str(part): [
                Sentence(title, split(line))
                for title, text in zip(texts[part]["title"], texts[part]["text"], strict=True)
                for line in text.removesuffix("\n").split("\n")
            ]
            for part in texts
        }
    )
