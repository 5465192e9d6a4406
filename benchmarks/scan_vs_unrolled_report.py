"""The report of `benchmarks.scan_vs_unrolled`: JSON, CSV, tables and plots of its rows."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.report import csv_text, markdown_table, replace_figure, three_digits
from rnnjax.training.files import replace_text

MEASURED = "measured"

MARKERS = "osD^vPX*"
BLUES = ("#9ecae1", "#4292c6", "#08519c", "#08306b")  # the partly unrolled scans, a family
COLOURS = ("black", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2")


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


def write_report(
    folder: Path,
    command: str,
    conditions: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
) -> None:
    """Write `results.json`, `results.csv`, `table.md`, `plot.png` and `plot_forward.png`.

    Args:
        folder: Where to; each file is replaced atomically.
        command: What was run.
        conditions: Settings, machine and versions, the same for all records.
        records: One for each point.
    """
    rows = [Row(**row) for record in records for row in record["rows"]]
    points = [
        {name: value for name, value in record.items() if name != "conditions"}
        for record in records
    ]
    date = max(record["measured"] for record in records)
    results = {"command": command, "date": date, **conditions, "points": points}
    replace_text(folder / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    replace_text(folder / "results.csv", csv_text([asdict(row) for row in rows]))
    replace_text(folder / "table.md", report_text(command, date, conditions, rows))
    replace_figure(folder / "plot.png", plot(rows, "training"))
    replace_figure(folder / "plot_forward.png", plot(rows, "forward"))


def report_text(command: str, date: str, conditions: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The tables as markdown, after a head that says what was measured where."""
    machine, versions = conditions["machine"], conditions["versions"]
    lines = [
        "# Scan against unrolled",
        "",
        f"`{command}`, {date}.",
        f"B = {conditions['batch_size']}, I = {conditions['input_size']}, "
        f"H = {conditions['hidden_size']}, {conditions['dtype']}.",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']} ({machine['architecture']}).",
        ", ".join(f"{name} {value}" for name, value in versions.items() if value) + ".",
        "",
        "All plans of a line took turns; times are medians. A training step is the value and the "
        "gradient by parameters and inputs. × is the time relative to that of the reference, less "
        "is faster; – was not measured, for the reasons at the end.",
        "",
        "",
    ]
    return "\n".join(lines) + "\n".join(
        f"## {title}\n\n{text}" for title, text in _sections(rows) if text
    )


def _sections(rows: Sequence[Row]) -> list[tuple[str, str]]:
    names = {"forward": "Forward", "training": "Training step"}
    sections = [
        (
            f"{name}: geometric mean of × over the T that were measured",
            means_table([row for row in rows if row.computation == computation]),
        )
        for computation, name in names.items()
    ]
    for computation, name in names.items():
        here = [row for row in rows if row.computation == computation]
        if not here:
            continue
        sections += [
            (f"{name}: run time", _table(here, _run_cell)),
            (f"{name}: compile time in seconds, tracing + XLA", _table(here, _compile_cell)),
            (
                f"{name}: memory of a call in MiB, XLA's temporaries + outputs "
                "(in brackets the measured peak rise of resident memory)",
                _table(here, _memory_cell),
            ),
        ]
    return [*sections, ("Where the full unroll ends", explosion_table(rows))]


def _table(rows: Sequence[Row], cell: Callable[[Row], str]) -> str:
    plans = list(dict.fromkeys(row.plan for row in rows))
    points = list(dict.fromkeys((row.recurrence, row.time_steps) for row in rows))
    found = {(row.recurrence, row.time_steps, row.plan): row for row in rows}
    lines = []
    for recurrence, time_steps in points:
        of_plans = [found.get((recurrence, time_steps, plan)) for plan in plans]
        cells = ["–" if row is None or row.status != MEASURED else cell(row) for row in of_plans]
        lines.append([recurrence, str(time_steps), *cells])
    return markdown_table(["recurrence", "T", *plans], lines, labels=1)


def means_table(rows: Sequence[Row]) -> str:
    """Recurrence × plan -> the geometric mean of the times relative to the reference's."""
    plans = list(dict.fromkeys(row.plan for row in rows))
    lines = []
    for recurrence in dict.fromkeys(row.recurrence for row in rows):
        ratios = {
            plan: [
                row.ratio_to_reference
                for row in rows
                if (row.recurrence, row.plan) == (recurrence, plan) and row.ratio_to_reference
            ]
            for plan in plans
        }
        means = [
            three_digits(geometric_mean(ratios[plan]) if ratios[plan] else None) for plan in plans
        ]
        lines.append([recurrence, *means])
    return markdown_table(["recurrence", *plans], lines, labels=1) if lines else ""


def _run_cell(row: Row) -> str:
    assert row.run_seconds is not None
    time = f"{three_digits(row.run_seconds * 1e3)} ms"
    if row.plan == "reference" or row.ratio_to_reference is None:
        return time
    return f"{time} (×{three_digits(row.ratio_to_reference)})"


def _compile_cell(row: Row) -> str:
    return f"{three_digits(row.lower_seconds)} + {three_digits(row.compile_seconds)}"


def _memory_cell(row: Row) -> str:
    measured = row.peak_resident_increase_bytes
    brackets = "" if measured is None else f" ({measured / 2**20:.1f})"
    if row.temporary_bytes is None or row.output_bytes is None:
        return f"–{brackets}"
    return f"{row.temporary_bytes / 2**20:.1f} + {row.output_bytes / 2**20:.1f}{brackets}"


def explosion_table(rows: Sequence[Row]) -> str:
    """For each program that could not be measured at some T: the last T that could, and why not.

    Empty if all were measured.
    """
    programs = dict.fromkeys((row.recurrence, row.computation, row.plan) for row in rows)
    lines = []
    for recurrence, computation, plan in programs:
        here = sorted(
            (
                row
                for row in rows
                if (row.recurrence, row.computation, row.plan) == (recurrence, computation, plan)
            ),
            key=lambda row: row.time_steps,
        )
        missing = [row for row in here if row.status != MEASURED]
        if not missing:
            continue
        compiled = ", ".join(
            f"{row.time_steps}: {three_digits(row.lower_seconds + row.compile_seconds)} s"
            for row in here
            if row.lower_seconds is not None and row.compile_seconds is not None
        )
        lines.append(
            [
                recurrence,
                computation,
                plan,
                compiled or "none",
                f"{missing[0].time_steps}: {missing[0].status}",
            ]
        )
    if not lines:
        return ""
    header = ["recurrence", "computation", "plan", "compile time at T", "ends at T"]
    return markdown_table(header, lines, labels=5)


def plot(rows: Sequence[Row], computation: str) -> Figure:
    """Run time a step and compile time against T, a line of two panels for each recurrence."""
    rows = [row for row in rows if row.computation == computation and row.status == MEASURED]
    recurrences = list(dict.fromkeys(row.recurrence for row in rows))
    plans = list(dict.fromkeys(row.plan for row in rows))
    blues, others = cycle(BLUES), cycle(COLOURS)
    colours = {p: next(blues if p.startswith("unrolled_by") else others) for p in plans}
    figure = Figure(figsize=(10, 1 + 2.6 * max(1, len(recurrences))), dpi=120, layout="constrained")
    panels = figure.subplots(max(1, len(recurrences)), 2, sharex=True, sharey="col", squeeze=False)
    for (left, right), recurrence in zip(panels, recurrences, strict=False):
        for index, plan in enumerate(plans):
            here = [row for row in rows if (row.recurrence, row.plan) == (recurrence, plan)]
            steps = [row.time_steps for row in here]
            style = {
                "color": colours[plan],
                "marker": MARKERS[index % len(MARKERS)],
                "markersize": 5,
                "linewidth": 1.4,
                "label": plan,
            }
            run = [
                1e6 * row.run_seconds / row.time_steps
                for row in here
                if row.run_seconds is not None
            ]
            compile_ = [
                row.lower_seconds + row.compile_seconds
                for row in here
                if row.lower_seconds is not None and row.compile_seconds is not None
            ]
            left.plot(steps, run, **style)
            right.plot(steps, compile_, **style)
        left.set_ylabel(f"{recurrence}\nµs a step")
        right.set_ylabel("compile time, s")
        for panel in (left, right):
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            panel.grid(visible=True, which="both", linewidth=0.3, alpha=0.6)
            panel.set_xticks(sorted({row.time_steps for row in rows}))
            panel.xaxis.set_major_formatter("{x:.0f}")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter(NullFormatter())
    name = {"training": "Training step", "forward": "Forward"}[computation]
    panels[0][0].set_title(f"{name}: run time a step")
    panels[0][1].set_title(f"{name}: compile time")
    for panel in panels[-1]:
        panel.set_xlabel("T")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure
