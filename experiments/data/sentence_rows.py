"""The rows every corpus of sentences has: one sentence each, in words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import datasets

FEATURES = datasets.Features(
    {"document": datasets.Value("string"), "words": datasets.List(datasets.Value("string"))}
)


class Sentence(NamedTuple):
    """One sentence, and what it stands in: sentences of a document follow one another."""

    document: str
    words: Sequence[str]


def sentence_data_set(splits: Mapping[str, Iterable[Sentence]]) -> datasets.DatasetDict:
    """Sentences by split, as rows of `FEATURES`.

    Raises:
        ValueError: a split has no words.
    """
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split, sentences in splits.items():
        rows = list(sentences)
        if not any(row.words for row in rows):
            raise ValueError(f"split {split}: got no words, expected at least one")
        columns = {
            "document": [row.document for row in rows],
            "words": [list(row.words) for row in rows],
        }
        made[split] = datasets.Dataset.from_dict(columns, features=FEATURES)
    return datasets.DatasetDict(made)
