"""The rows every text corpus has: one document each."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import datasets

FEATURES = datasets.Features({"title": datasets.Value("string"), "text": datasets.Value("string")})


class Document(NamedTuple):
    """One document of a corpus."""

    title: str
    text: str


def data_set(splits: Mapping[str, Iterable[Document]]) -> datasets.DatasetDict:
    """Documents by split, as rows of `FEATURES`.

    Raises:
        ValueError: a split has no text.
    """
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split, documents in splits.items():
        rows = list(documents)
        if not any(row.text for row in rows):
            raise ValueError(f"split {split}: got no text, expected at least one character")
        columns = {"title": [row.title for row in rows], "text": [row.text for row in rows]}
        made[split] = datasets.Dataset.from_dict(columns, features=FEATURES)
    return datasets.DatasetDict(made)
