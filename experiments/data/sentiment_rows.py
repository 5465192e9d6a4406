"""The rows every corpus of opinions has: a text, and what its writer thinks of a thing."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import datasets

Target = Literal["binary", "stars"]
CLASSES: dict[str, tuple[str, ...]] = {
    "binary": ("negative", "positive"),
    "stars": ("1", "2", "3", "4", "5"),
}
"""The classes of each target, the least favourable first."""

SPLITS = ("train", "validation", "test")


class Opinion(NamedTuple):
    """One text and its class, a place in `CLASSES[target]`."""

    text: str
    label: int


def check_target(target: str) -> None:
    """Raise ValueError unless the target is one of `CLASSES`."""
    if target not in CLASSES:
        raise ValueError(f"target: got {target!r}, expected one of {', '.join(CLASSES)}")


def features(target: Target) -> datasets.Features:
    """The types of the columns "text" and "label"."""
    label = datasets.ClassLabel(names=list(CLASSES[target]))
    return datasets.Features({"text": datasets.Value("string"), "label": label})


def data_set(splits: Mapping[str, Iterable[Opinion]], target: Target) -> datasets.DatasetDict:
    """Opinions by split, as rows {"text": string, "label": class}.

    Raises:
        ValueError: a split has no row, or the training part has no text of some class.
    """
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split, opinions in splits.items():
        rows = list(opinions)
        if not rows:
            raise ValueError(f"split {split}: got no text, expected at least one")
        missing = set(range(len(CLASSES[target]))) - {row.label for row in rows}
        if split == "train" and missing:
            names = ", ".join(CLASSES[target][label] for label in sorted(missing))
            raise ValueError(f"split train: got no text of class {names}, expected some of each")
        columns = {"text": [row.text for row in rows], "label": [row.label for row in rows]}
        made[split] = datasets.Dataset.from_dict(columns, features=features(target))
    return datasets.DatasetDict(made)


def split_of(text: str) -> str:
    """The split of a text, 80/10/10, by a hash of its letters: equal texts fall on one side.

    Spelling differences in case, spaces and marks do not matter.
    """
    letters = re.sub(r"\W", "", text.casefold())
    percent = int.from_bytes(hashlib.sha256(letters.encode()).digest()[:8]) % 100
    return "test" if percent < 10 else "validation" if percent < 20 else "train"


def split_by_text(opinions: Iterable[Opinion]) -> dict[str, list[Opinion]]:
    """Opinions by `split_of` their texts, in order."""
    splits: dict[str, list[Opinion]] = {split: [] for split in SPLITS}
    for opinion in opinions:
        splits[split_of(opinion.text)].append(opinion)
    return splits
