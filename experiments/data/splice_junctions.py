"""Splice junctions of primates: 60 bases, and whether an exon or an intron ends in the middle.

Source: the Debian package `r-cran-mlbench` 2.1-3-1 (GPL-2), whose `DNA.rda` holds the data set
"Molecular Biology (Splice-junction Gene Sequences)" of the UCI repository (CC BY 4.0), given by
Towell, Noordewier and Shavlik in 1992, without the four sequences that have ambiguous letters:
3,186 rows. They are stored as three indicators a base: 100 is A, 010 is C, 001 is G, 000 is T.

EI: an exon ends and an intron begins (a donor); IE: the other way round (an acceptor); N: neither.
185 rows have the sequence of an earlier one and are left out before the split, by a hash of the
sequence, 70/10/20; else a sequence of the test part may have been learned from.
"""

from pathlib import Path
from typing import Literal

import datasets
import numpy as np

from experiments.data.converted import converted_once
from experiments.data.labelled_sequences import (
    Labelled,
    data_set,
    distinct,
    read_uci,
    split_by_sequence,
)
from experiments.data.package_files import fetch_debian, read_members
from experiments.data.r_data import data_frame

PACKAGE = (
    "r-cran-mlbench",
    "2.1-3-1",
    "2f1127f7b5e7d08703b13b52ef1976a0c355a7660d6ac575e29b87b13921bc06",
)
CLASSES = ("EI", "IE", "N")
HUB = "InstaDeepAI/nucleotide_transformer_downstream_tasks:splice_sites_all"

_LOADER_VERSION = 1
_INDICATORS = {(1, 0, 0): "A", (0, 1, 0): "C", (0, 0, 1): "G", (0, 0, 0): "T"}


def load(
    source: Literal["package", "hub", "path"] = "package",
    name: str = HUB,
    path: Path | None = None,
) -> datasets.DatasetDict:
    """Splits train, validation and test of rows as `labelled_sequences` has them.

    Args:
        source: "package"; "path": UCI's own `splice.data`; "hub": a data set with columns
            "sequence" and "label" by its id.
        name: the id of source="hub", with its configuration after a colon.
        path: the file of source="path", or its folder.

    Raises:
        ValueError: the path is missing or superfluous, or what it holds is something else.
        DataUnavailable: the data is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if path is not None:
        return data_set(split_by_sequence(distinct(read_uci(path, "splice.data"))), CLASSES)
    if source == "hub":
        return _from_hub(name)
    return converted_once("splice_junctions", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def from_indicators(indicators: np.ndarray) -> str:
    """Bases from three indicators each, `(3 T,)` of 0 and 1.

    Raises:
        ValueError: They are something else.
    """
    try:
        return "".join(_INDICATORS[int(a), int(c), int(g)] for a, c, g in indicators.reshape(-1, 3))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"indicators: got {error} in {indicators.shape}, expected 100, 010, 001 or 000 a base"
        ) from None


def _convert() -> datasets.DatasetDict:
    archive = fetch_debian(*PACKAGE)
    (content,) = read_members(archive, "*/mlbench/data/DNA.rda").values()
    frame = data_frame(content, "DNA")
    labels = [str(label).upper() for label in frame["Class"]]
    indicators = frame.drop(columns="Class").to_numpy().astype(int)
    rows = [
        Labelled(from_indicators(row), label) for row, label in zip(indicators, labels, strict=True)
    ]
    return data_set(split_by_sequence(distinct(rows)), CLASSES)


def _from_hub(name: str) -> datasets.DatasetDict:
    """A data set of the hub; where it has no validation part, a ninth of train by hash is it."""
    from experiments.data.text_hub import fetched

    identifier, _, configuration = name.partition(":")
    parts = fetched(identifier, configuration or None, splits=("train", "test"))
    for column in ("sequence", "label"):
        if column not in parts["train"].column_names:
            raise ValueError(
                f"name: {name!r} has columns {', '.join(parts['train'].column_names)}, "
                "expected 'sequence' and 'label'"
            )
    labels = sorted({str(label) for part in parts.values() for label in part["label"]})
    rows = {
        str(split): distinct(
            Labelled(sequence.upper(), str(label))
            for sequence, label in zip(part["sequence"], part["label"], strict=True)
        )
        for split, part in parts.items()
    }
    if "validation" not in rows:
        by_hash = split_by_sequence(rows["train"])
        rows["train"] = by_hash["train"] + by_hash["test"]
        rows["validation"] = by_hash["validation"]
    return data_set({split: rows[split] for split in ("train", "validation", "test")}, labels)
