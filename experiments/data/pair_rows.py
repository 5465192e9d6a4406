"""The rows every corpus of translations has: one text in several languages."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import datasets

SPLITS = ("train", "validation", "test")


class Pair(NamedTuple):
    """What stands in one language, and what stands for it in the other."""

    document: str  # what it is of: pairs of a document may be like one another
    texts: tuple[str, str]  # in the order of the languages


def data_set(
    splits: Mapping[str, Sequence[Pair]], languages: tuple[str, str]
) -> datasets.DatasetDict:
    """Pairs by split, as rows {"document": string, language: string, other language: string}.

    Raises:
        ValueError: the languages are no two names, a split is empty, or a side of a pair is.
    """
    if len(set(languages)) != 2 or not all(languages) or "document" in languages:
        raise ValueError(f"languages: got {languages}, expected two different ones")
    features = datasets.Features(
        {name: datasets.Value("string") for name in ("document", *languages)}
    )
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split in SPLITS:
        if split not in splits:
            continue
        pairs = splits[split]
        if not pairs:
            raise ValueError(f"split {split}: got no pairs, expected at least one")
        for number, pair in enumerate(pairs, start=1):
            for language, text in zip(languages, pair.texts, strict=True):
                if not text.strip():
                    raise ValueError(
                        f"split {split}: pair {number} ({pair.document}) has no {language}, "
                        "expected a text on both sides"
                    )
        columns = {"document": [pair.document for pair in pairs]}
        for side, language in enumerate(languages):
            columns[language] = [pair.texts[side] for pair in pairs]
        made[split] = datasets.Dataset.from_dict(columns, features=features)
    return datasets.DatasetDict(made)


def languages_of(rows: datasets.DatasetDict) -> tuple[str, ...]:
    """The languages that a data set of pairs has."""
    columns = next(iter(rows.values())).column_names
    return tuple(name for name in columns if name != "document")
