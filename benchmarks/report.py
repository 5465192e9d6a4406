"""Results as files: CSV, markdown tables, figures, and records appended one by one."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rnnjax.training.files import replace_text


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with a header; None is an empty cell.

    Raises:
        ValueError: There are no rows, or their columns differ.
    """
    if not rows:
        raise ValueError("rows: got none, expected at least one")
    columns = list(rows[0])
    for number, row in enumerate(rows):
        if list(row) != columns:
            raise ValueError(
                f"rows: got columns {list(row)} in row {number}, expected {columns}, as the first"
            )
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, labels: int) -> str:
    """A markdown table, its first `labels` columns to the left and the others to the right.

    Raises:
        ValueError: A row is longer or shorter than the header.
    """
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(
                f"rows: got {len(row)} cells in row {number}, expected {len(header)}, as the header"
            )
    rule = ["---" if column < labels else "---:" for column in range(len(header))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *rows))


def three_digits(value: float | None) -> str:
    """A number to three significant digits, whole from 100 on; "–" for None."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def replace_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG to a temporary neighbour and rename it to `path`."""
    temporary = path.with_name(f".{path.name}.incomplete")
    figure.savefig(temporary, format="png")
    temporary.replace(path)


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON object as a line, on the disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records that `append_record` wrote; none if there is no file.

    A last line that was cut short by a kill is dropped from the file, so that the next record
    does not join it.

    Raises:
        ValueError: Another line is not a record.
    """
    if not path.exists():
        return []
    text = path.read_text("utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        replace_text(path, whole)
    records = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise ValueError(f"path: got {path} whose line {number} is no record, expected JSON")
        records.append(record)
    return records
