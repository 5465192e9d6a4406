"""The rows of DNA that has a class: a sequence each."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets

from experiments.data.fasta import read_text
from rnnjax.text.nucleotides import encode_bases


class Labelled(NamedTuple):
    """Bases, and what they are."""

    sequence: str
    label: str


def data_set(
    splits: Mapping[str, Iterable[Labelled]], classes: Sequence[str]
) -> datasets.DatasetDict:
    """Rows {"sequence": string, "label": ClassLabel} by split.

    Raises:
        ValueError: A split has no row, or a label is none of the classes.
    """
    features = datasets.Features(
        {
            "sequence": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list(classes)),
        }
    )
    made: dict[str | datasets.NamedSplit, datasets.Dataset] = {}
    for split, of_split in splits.items():
        rows = list(of_split)
        if not rows:
            raise ValueError(f"split {split}: got no sequence, expected at least one")
        for row in rows:
            if row.label not in classes:
                expected = ", ".join(classes)
                raise ValueError(f"label: got {row.label!r}, expected one of {expected}")
        columns = {
            "sequence": [row.sequence for row in rows],
            "label": [classes.index(row.label) for row in rows],
        }
        made[split] = datasets.Dataset.from_dict(columns, features=features)
    return datasets.DatasetDict(made)


def rows_of(split: datasets.Dataset) -> list[Labelled]:
    """The rows of a split, labels as text."""
    names = split.features["label"].names
    return [
        Labelled(sequence, names[label])
        for sequence, label in zip(split["sequence"], split["label"], strict=True)
    ]


def distinct(rows: Iterable[Labelled]) -> list[Labelled]:
    """The rows without those whose sequence an earlier one has, whatever its class."""
    found: dict[str, Labelled] = {}
    for row in rows:
        found.setdefault(row.sequence, row)
    return list(found.values())


def split_by_sequence(rows: Iterable[Labelled]) -> dict[str, list[Labelled]]:
    """70 % train, 10 % validation and 20 % test, by a hash of the sequence."""
    splits: dict[str, list[Labelled]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        percent = int.from_bytes(hashlib.sha256(row.sequence.encode()).digest()[:8]) % 100
        split = "test" if percent < 20 else "validation" if percent < 30 else "train"
        splits[split].append(row)
    return splits


def read_uci(path: Path, file: str) -> list[Labelled]:
    """The rows of a file of the UCI repository, `CLASS, NAME, BASES` a line.

    Args:
        path: The file, or its folder.
        file: Its name in a folder.

    Raises:
        ValueError: A line has other fields, a letter stands for no base, sequences differ in
            length, or there is none.
        OSError: It cannot be read.
    """
    place = path / file if path.is_dir() else path
    rows = []
    for number, line in enumerate(read_text(place).splitlines(), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 3:
            raise ValueError(
                f"path: got {len(fields)} fields in line {number} of {str(place)!r}, "
                "expected a class, a name and bases, by commas"
            )
        label, _, sequence = fields
        encode_bases(sequence, f"line {number} of {str(place)!r}")
        rows.append(Labelled(sequence.upper(), label))
        if len(sequence) != len(rows[0].sequence):
            raise ValueError(
                f"path: got {len(sequence)} bases in line {number} of {str(place)!r}, "
                f"expected {len(rows[0].sequence)}, as in the first"
            )
    if not rows:
        raise ValueError(f"path: got no line in {str(place)!r}, expected one for each sequence")
    return rows
