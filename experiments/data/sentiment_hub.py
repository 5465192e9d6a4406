"""A corpus of opinions of the Hugging Face hub, by its id: the field's standard benchmarks.

`cornell-movie-review-data/rotten_tomatoes` is MR with its own labels, `stanfordnlp/sst` the
Stanford Sentiment Treebank with its degrees from 0 to 1, `SetFit/sst5` the same in five classes.
"""

from collections.abc import Iterable
from typing import Any

import datasets

from experiments.data import text_hub
from experiments.data.sentiment_rows import SPLITS, Opinion, Target, data_set


def load(
    identifier: str, configuration: str | None = None, target: Target = "binary"
) -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"text": string, "label": class}.

    Args:
        identifier: the data set's id on the hub.
        configuration: which of its configurations, where it has several.
        target: as `opinions` takes it.

    Raises:
        DataUnavailable: the hub cannot be reached or lacks the data set, and it is not cached.
        ValueError: the data set lacks a split or a column, or its labels are not of the target.
    """
    parts = text_hub.fetched(identifier, configuration)
    return data_set({split: opinions(parts[split], target) for split in SPLITS}, target)


def opinions(rows: datasets.Dataset, target: Target) -> list[Opinion]:
    """Rows of a benchmark with classes of ours.

    A label from 0 to 1 is cut as the Treebank's authors do: stars at 0.2, 0.4, 0.6 and 0.8, and of
    two classes up to 0.4 and above 0.6, without what lies between. Of five classes the middle one
    is left out likewise. Two classes are no stars.

    Raises:
        ValueError: there is no column of texts or labels, or the labels are of another kind, or
            hidden, as −1 is.
    """
    texts = next((name for name in ("text", "sentence") if name in rows.column_names), None)
    if texts is None or "label" not in rows.column_names:
        raise ValueError(
            f"columns: got {', '.join(rows.column_names)}, expected text or sentence, and label"
        )
    labels = list(rows["label"])
    is_degree = getattr(rows.features["label"], "dtype", "").startswith("float")
    stars = [_star(label) for label in labels] if is_degree else _classes(labels, target)
    return list(_chosen(rows[texts], stars, target))


def _star(degree: float) -> int:
    if not 0 <= degree <= 1:
        raise ValueError(f"label: got {degree}, expected within 0..1")
    return sum(degree > bound for bound in (0.2, 0.4, 0.6, 0.8))


def _classes(labels: list[Any], target: Target) -> list[int]:
    """Of two classes the outermost of five."""
    found = set(labels)
    if found <= {0, 1} and target == "binary":
        return [4 * label for label in labels]
    if found <= {0, 1, 2, 3, 4} and len(found) > 2:
        return labels
    expected = "0 and 1, or 0 to 4" if target == "binary" else "0 to 4, or degrees from 0 to 1"
    got = ", ".join(map(str, sorted(found)[:8]))
    raise ValueError(f"label: got {got} with target={target!r}, expected {expected}")


def _chosen(texts: Iterable[str], stars: list[int], target: Target) -> Iterable[Opinion]:
    for text, star in zip(texts, stars, strict=True):
        if target == "stars":
            yield Opinion(text.strip(), star)
        elif star != 2:
            yield Opinion(text.strip(), int(star > 2))
