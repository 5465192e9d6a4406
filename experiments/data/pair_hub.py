"""Translations of the Hugging Face hub: the field's standard benchmarks by name.

Their rows have a column for each language ("bentrevett/multi30k": en, de), or one column
`translation` of all of them ("wmt16:de-en").
"""

import datasets

from experiments.data.pair_rows import Pair, data_set
from experiments.data.text_hub import SPLITS, check_splits, fetched


def load(name: str, languages: tuple[str, str]) -> datasets.DatasetDict:
    """Splits train, validation and test of rows as `pair_rows` has them.

    Args:
        name: the id on the hub, with its configuration after a colon where it needs one.
        languages: the two that are read, as the columns are called.

    Raises:
        DataUnavailable: the hub cannot be reached or lacks the data set, and it is not cached.
        ValueError: the data set lacks a split or a language.
    """
    identifier, _, configuration = name.partition(":")
    return converted(identifier, fetched(identifier, configuration or None), languages)


def converted(
    identifier: str, parts: datasets.DatasetDict, languages: tuple[str, str]
) -> datasets.DatasetDict:
    """Rows with a column a language, or with `translation`, as rows of ours.

    Pairs with an empty side, which large corpora have, are left out.

    Raises:
        ValueError: a split or a language is missing.
    """
    check_splits(identifier, parts)
    splits: dict[str, list[Pair]] = {}
    for split in SPLITS:
        part = parts[split]
        if "translation" in part.column_names:
            part = part.flatten().rename_columns(
                {f"translation.{name}": name for name in part[0]["translation"]}
            )
        for language in languages:
            if language not in part.column_names:
                raise ValueError(
                    f"language: got {language!r}, expected one of {', '.join(part.column_names)}, "
                    f"those of {identifier!r}"
                )
        splits[split] = [
            Pair(identifier, (first.strip(), second.strip()))
            for first, second in zip(*(part[language] for language in languages), strict=True)
            if first.strip() and second.strip()
        ]
    return data_set(splits, languages)
