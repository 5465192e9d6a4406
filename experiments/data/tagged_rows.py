"""The rows every corpus of named entities has: a sentence each, with a BIO tag a token."""

import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import datasets

from rnnjax.text.bio import bio_labels, repair_bio, split_tag


class Sentence(NamedTuple):
    """Tokens, and a tag for each."""

    tokens: list[str]
    tags: list[str]


def data_set(splits: Mapping[str, Iterable[Sentence]]) -> datasets.DatasetDict:
    """Sentences by split, as rows {"tokens": list of strings, "tags": list of ClassLabel}.

    The labels are those of the kinds of entities in all splits. Malformed tags are mended as
    `rnnjax.text.bio.repair_bio` does it, and a line on standard error says how many.

    Raises:
        ValueError: a split has no sentence, the training part no entity, or a tag is none.
    """
    rows = {split: list(sentences) for split, sentences in splits.items()}
    kinds = set[str]()
    for split, sentences in rows.items():
        if not sentences:
            raise ValueError(f"split {split}: got no sentence, expected at least one")
        found = {split_tag(tag)[1] for sentence in sentences for tag in sentence.tags} - {""}
        if split == "train" and not found:
            raise ValueError("split train: got no entity, only tags O, expected at least one")
        kinds |= found
    labels = bio_labels(kinds)
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "tags": datasets.List(datasets.ClassLabel(names=list(labels))),
        }
    )
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split, sentences in rows.items():
        repaired = [repair_bio(sentence.tags) for sentence in sentences]
        count = sum(
            before != after
            for sentence, tags in zip(sentences, repaired, strict=True)
            for before, after in zip(sentence.tags, tags, strict=True)
        )
        if count:
            print(f"split {split}: {count} tags I- began an entity, read as B-", file=sys.stderr)
        columns = {"tokens": [sentence.tokens for sentence in sentences], "tags": repaired}
        made[split] = datasets.Dataset.from_dict(columns, features=features)
    return datasets.DatasetDict(made)


def label_names(rows: datasets.DatasetDict) -> tuple[str, ...]:
    """All tags in the order of their ids."""
    feature = next(iter(rows.values())).features["tags"].feature
    return tuple(feature.names)


def sentences_of(rows: datasets.Dataset) -> list[Sentence]:
    """The rows of a split, tags as text."""
    names = rows.features["tags"].feature.names
    return [
        Sentence(list(tokens), [names[tag] for tag in tags])
        for tokens, tags in zip(rows["tokens"], rows["tags"], strict=True)
    ]
