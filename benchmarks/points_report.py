"""What the reports of benchmarks that measure point by point have in common: rows and tables."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.report import csv_text, markdown_table, three_digits
from rnnjax.training.files import replace_text

MEASURED = "measured"
COMPUTATION_NAMES = {"training": "Training step", "forward": "Forward"}


@dataclass(frozen=True)
class Row:
    """One program: a computation of one recurrence at one T by one plan."""

    recurrence: str
    time_steps: int
    computation: str  # "forward", or "training": value and gradient by parameters and inputs
    plan: str
    status: str  # MEASURED, or why not
    run_seconds: float | None = None  # the median, as are its quartiles, over the rounds
    run_seconds_lower_quartile: float | None = None
    run_seconds_upper_quartile: float | None = None
    rounds: int | None = None
    ratio_to_reference: float | None = None  # of medians
    lower_seconds: float | None = None  # tracing by JAX
    compile_seconds: float | None = None  # XLA
    temporary_bytes: int | None = None  # of a call, by XLA's account
    output_bytes: int | None = None
    peak_resident_increase_bytes: int | None = None  # of a call, by the kernel's account


AnyRow = TypeVar("AnyRow", bound=Row)


def write_results(
    folder: Path,
    command: str,
    conditions: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    rows: Sequence[Row],
) -> str:
    """Write `results.json` and `results.csv`, each replaced atomically.

    Args:
        folder: Where to.
        command: What was run.
        conditions: Settings, machine and versions, the same for all records.
        records: One for each point.
        rows: Those of all records.

    Returns:
        The date of the last point.
    """
    points = [
        {name: value for name, value in record.items() if name != "conditions"}
        for record in records
    ]
    date = max(record["measured"] for record in records)
    results = {"command": command, "date": date, **conditions, "points": points}
    replace_text(folder / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    replace_text(folder / "results.csv", csv_text([asdict(row) for row in rows]))
    return date


def described_machine(conditions: Mapping[str, Any]) -> list[str]:
    """Two lines: the machine, and the versions."""
    machine, versions = conditions["machine"], conditions["versions"]
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']} ({machine['architecture']}).",
        ", ".join(f"{name} {value}" for name, value in versions.items() if value) + ".",
    ]


def sections_text(head: Sequence[str], sections: Sequence[tuple[str, str]]) -> str:
    """A page of markdown: a head, and the sections that are not empty under their titles."""
    return "\n".join([*head, "", ""]) + "\n".join(
        f"## {title}\n\n{text}" for title, text in sections if text
    )


def plan_table(
    rows: Sequence[AnyRow], point: Mapping[str, str], cell: Callable[[AnyRow], str], labels: int
) -> str:
    """Point × plan -> a cell, "–" where a plan was not measured.

    Args:
        rows: Of one computation.
        point: Header -> attribute of a row, for what makes a point.
        cell: The text of a row that was measured.
        labels: How many of the columns of a point stand to the left.
    """
    plans = list(dict.fromkeys(row.plan for row in rows))
    found: dict[tuple[Any, ...], dict[str, AnyRow]] = {}
    for row in rows:
        of_point = tuple(getattr(row, name) for name in point.values())
        found.setdefault(of_point, {})[row.plan] = row
    lines = []
    for of_point, of_plan in found.items():
        of_plans = [of_plan.get(plan) for plan in plans]
        cells = ["–" if row is None or row.status != MEASURED else cell(row) for row in of_plans]
        lines.append([*map(str, of_point), *cells])
    return markdown_table([*point, *plans], lines, labels=labels)


def run_cell(row: Row) -> str:
    """Milliseconds, and the time relative to that of the reference."""
    assert row.run_seconds is not None
    time = f"{three_digits(row.run_seconds * 1e3)} ms"
    if row.plan == "reference" or row.ratio_to_reference is None:
        return time
    return f"{time} (×{three_digits(row.ratio_to_reference)})"


def compile_cell(row: Row) -> str:
    """Seconds of tracing and of XLA."""
    return f"{three_digits(row.lower_seconds)} + {three_digits(row.compile_seconds)}"


def memory_cell(row: Row) -> str:
    """MiB by XLA's account and, in brackets, by the kernel's."""
    measured = row.peak_resident_increase_bytes
    brackets = "" if measured is None else f" ({measured / 2**20:.1f})"
    if row.temporary_bytes is None or row.output_bytes is None:
        return f"–{brackets}"
    return f"{row.temporary_bytes / 2**20:.1f} + {row.output_bytes / 2**20:.1f}{brackets}"


def computation_sections(
    rows: Sequence[Row], point: Mapping[str, str], labels: int
) -> list[tuple[str, str]]:
    """Title and table of run time, compile time and memory, of each computation that is there."""
    sections = []
    for computation in dict.fromkeys(row.computation for row in rows):
        here = [row for row in rows if row.computation == computation]
        name = COMPUTATION_NAMES[computation]
        sections += [
            (f"{name}: run time", plan_table(here, point, run_cell, labels)),
            (
                f"{name}: compile time in seconds, tracing + XLA",
                plan_table(here, point, compile_cell, labels),
            ),
            (
                f"{name}: memory of a call in MiB, XLA's temporaries + outputs "
                "(in brackets the measured peak rise of resident memory)",
                plan_table(here, point, memory_cell, labels),
            ),
        ]
    return sections
