"""Recordings of your own: a folder of CSV files and a table of what each of them is.

`index.csv` has the columns file, subject, side ("left" or "right") and exercise. Each file has a
line with names of columns, among them the six axes, and then a line a sample, 50 a second.
"""

import csv
import io
from pathlib import Path

import datasets
import numpy as np

from experiments.data.recording_rows import AXES, SIDES, Recording, data_set

INDEX = "index.csv"


def load(folder: Path) -> datasets.DatasetDict:
    """One split, "recordings", of rows as `recording_rows` has them.

    Raises:
        ValueError: a file is empty, of another form, or lacks a column.
        OSError: a file cannot be read.
    """
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"path: got {str(folder)!r}, expected a folder with {INDEX}")
    rows = _table(folder / INDEX, ("file", "subject", "side", "exercise"))
    found = []
    for number, (file, subject, side, exercise) in enumerate(rows, start=2):
        if side not in SIDES:
            raise ValueError(
                f"side: got {side!r} in {INDEX} line {number}, expected one of {', '.join(SIDES)}"
            )
        found.append(Recording(read_signal(folder / file), exercise, subject, side))
    return data_set(found, sorted({row.exercise for row in found}))


def read_signal(path: Path) -> np.ndarray:
    """The six axes of one file, `(Tx, 6)` float32.

    Raises:
        ValueError: the file is empty, is no UTF-8 text, lacks an axis, or has something that is
            not a finite number.
        OSError: it cannot be read.
    """
    rows = _table(path, AXES)
    try:
        signal = np.asarray(rows, np.float32)
    except ValueError as error:
        raise ValueError(f"file: {path.name} has something else than numbers ({error})") from None
    if not np.isfinite(signal).all():
        line = int(np.argwhere(~np.isfinite(signal))[0, 0]) + 2
        raise ValueError(f"file: {path.name} line {line} is not finite, expected numbers")
    return signal


def _table(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    """The named columns of a CSV file, at least one row."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"file: {path.name} is not UTF-8 text ({error})") from None
    header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    names = [name.strip() for name in header]
    missing = [name for name in columns if name not in names]
    if not text.strip():
        raise ValueError(f"file: {path.name} is empty, expected a line of names and then rows")
    if missing:
        raise ValueError(
            f"file: {path.name} has no column {', '.join(missing)}, expected {', '.join(columns)}"
        )
    places = [names.index(name) for name in columns]
    rows = [row for row in rows if row]
    if not rows:
        raise ValueError(f"file: {path.name} has no row below its line of names, expected some")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise ValueError(
                f"file: {path.name} row {number} has {len(row)} fields, expected {len(names)}"
            )
    return [[row[place].strip() for place in places] for row in rows]
