"""Opinions of the user's own: a table of labels and texts, or a folder with one for each split."""

import csv
from pathlib import Path

import datasets

from experiments.data.sentiment_rows import (
    CLASSES,
    SPLITS,
    Opinion,
    Target,
    data_set,
    split_by_text,
)

SPELLINGS = {
    "binary": {"negative": 0, "neg": 0, "0": 0, "positive": 1, "pos": 1, "1": 1},
    "stars": {name: place for place, name in enumerate(CLASSES["stars"])},
}
_DELIMITERS = {".tsv": "\t", ".csv": ","}
_HEADER = ["label", "text"]


def load(path: str | Path, target: Target) -> datasets.DatasetDict:
    """Splits train, validation and test of rows {"text": string, "label": class}.

    A row of the table is a label and a text. In a `.tsv` they are parted by a tab, and nothing is
    quoted; a `.csv` has commas and quotes. A first row "label", "text" is passed over, and so are
    empty lines. One file is split by a hash of the text, 80/10/10; a folder holds `train`,
    `validation` and `test`, each `.tsv` or `.csv`.

    Args:
        path: the file or the folder.
        target: says which labels there are: negative (or neg, 0) and positive (pos, 1), or the
            stars 1 to 5.

    Raises:
        ValueError: nothing is there, a file is empty or not UTF-8, a row has other than two fields,
            no text or an unknown label, or the training part has no text of some class.
    """
    place = Path(path)
    if place.is_file():
        return data_set(split_by_text(read_table(place, target)), target)
    splits = {}
    for split in SPLITS:
        files = [file for end in _DELIMITERS if (file := place / f"{split}{end}").is_file()]
        if len(files) != 1:
            raise ValueError(
                f"path: got {str(path)!r} with {len(files)} files of the split {split}, "
                f"expected a table, or a folder of {', '.join(SPLITS)}, each .tsv or .csv"
            )
        splits[split] = read_table(files[0], target)
    return data_set(splits, target)


def read_table(file: Path, target: Target) -> list[Opinion]:
    """The rows of a table; see `load`.

    Raises:
        ValueError: as `load`.
    """
    if file.suffix not in _DELIMITERS:
        raise ValueError(f"path: got {file.name!r}, expected a file .tsv or .csv")
    delimiter = _DELIMITERS[file.suffix]
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, delimiter=delimiter, quoting=quoting)
            rows = [(row, f"{file.name} line {reader.line_num}") for row in reader if row]
    except UnicodeDecodeError as error:
        raise ValueError(f"path: {str(file)!r} is not UTF-8 text ({error})") from None
    except csv.Error as error:
        raise ValueError(f"path: {str(file)!r} is no table ({error})") from None
    if rows and [name.strip().lower() for name in rows[0][0]] == _HEADER:
        del rows[0]
    if not rows:
        raise ValueError(f"path: got {str(file)!r} without a row, expected labels and texts")
    return [_opinion(row, where, target) for row, where in rows]


def _opinion(row: list[str], where: str, target: Target) -> Opinion:
    if len(row) != 2:
        raise ValueError(f"path: got {len(row)} fields in {where}, expected a label and a text")
    label, text = row[0].strip(), row[1].strip()
    known = SPELLINGS[target]
    if label.lower() not in known:
        raise ValueError(f"label: got {label!r} in {where}, expected one of {', '.join(known)}")
    if not text:
        raise ValueError(f"text: got none in {where}, expected at least a word")
    return Opinion(text, known[label.lower()])
