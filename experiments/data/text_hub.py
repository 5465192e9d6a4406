"""A text corpus of the Hugging Face hub, by its id: the field's standard benchmarks.

Wikitext in its four configurations and its like hold one line of text a row, in a column "text";
the lines of a split are joined into one document, as their published scores are computed.
"""

from collections.abc import Sequence

import datasets
import datasets.exceptions

from experiments.data.package_files import DataUnavailable
from experiments.data.text_rows import Document, data_set

SPLITS = ("train", "validation", "test")


def load(
    identifier: str, configuration: str | None = None, column: str = "text"
) -> datasets.DatasetDict:
    """Splits train, validation and test of one row {"title": string, "text": string} each.

    Args:
        identifier: the data set's id on the hub.
        configuration: which of its configurations, where it has several.
        column: the column that holds the text.

    Raises:
        DataUnavailable: the hub cannot be reached or lacks the data set, and it is not cached.
        ValueError: the data set lacks a split or the column.
    """
    return joined(identifier, fetched(identifier, configuration), column)


def fetched(
    identifier: str, configuration: str | None = None, splits: Sequence[str] = SPLITS
) -> datasets.DatasetDict:
    """A data set of the hub as it is there, in all of the splits at least.

    Raises:
        DataUnavailable: the hub cannot be reached or lacks the data set, and it is not cached.
        ValueError: the data set lacks a split.
    """
    try:
        parts = datasets.load_dataset(identifier, configuration)
    except (OSError, datasets.exceptions.DatasetsError) as error:
        call = f"datasets.load_dataset({identifier!r}, {configuration!r})"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataUnavailable(
            f"hub data set {identifier!r} is not cached and could not be fetched ({reason}); where "
            f'there is a network run `python -c "import datasets; {call}"`, or use '
            "source='package'"
        ) from None
    check_splits(identifier, parts, splits)
    return parts


def check_splits(
    identifier: str, parts: datasets.DatasetDict, splits: Sequence[str] = SPLITS
) -> None:
    """Raise ValueError unless a data set has all of the splits."""
    missing = [split for split in splits if split not in parts]
    if missing:
        raise ValueError(
            f"identifier: {identifier!r} has splits {', '.join(map(str, parts))}, "
            f"expected {', '.join(splits)}"
        )


def joined(identifier: str, parts: datasets.DatasetDict, column: str) -> datasets.DatasetDict:
    """The rows of each split joined by line ends into one document.

    Raises:
        ValueError: a split or the column is missing.
    """
    check_splits(identifier, parts)
    splits: dict[str, list[Document]] = {}
    for split in SPLITS:
        names = parts[split].column_names
        if column not in names:
            raise ValueError(f"column: got {column!r}, expected one of {', '.join(names)}")
        lines = (str(line).rstrip("\n") for line in parts[split][column])
        splits[split] = [Document(f"{identifier} ({split})", "\n".join(lines) + "\n")]
    return data_set(splits)
