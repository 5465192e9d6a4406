"""The report of `benchmarks.scan_vs_unrolled`: JSON, CSV, tables and plots of its rows."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.points_report import (
    COMPUTATION_NAMES,
    MEASURED,
    Row,
    computation_sections,
    described_machine,
    sections_text,
    write_results,
)
from benchmarks.report import markdown_table, replace_figure, three_digits
from rnnjax.training.files import replace_text

MARKERS = "osD^vPX*"
BLUES = ("#9ecae1", "#4292c6", "#08519c", "#08306b")  # the partly unrolled scans, a family
COLOURS = ("black", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2")


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
    date = write_results(folder, command, conditions, records, rows)
    replace_text(folder / "table.md", report_text(command, date, conditions, rows))
    replace_figure(folder / "plot.png", plot(rows, "training"))
    replace_figure(folder / "plot_forward.png", plot(rows, "forward"))


def report_text(command: str, date: str, conditions: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The tables as markdown, after a head that says what was measured where."""
    head = [
        "# Scan against unrolled",
        "",
        f"`{command}`, {date}.",
        f"B = {conditions['batch_size']}, I = {conditions['input_size']}, "
        f"H = {conditions['hidden_size']}, {conditions['dtype']}.",
        *described_machine(conditions),
        "",
        "All plans of a line took turns; times are medians. A training step is the value and the "
        "gradient by parameters and inputs. × is the time relative to that of the reference, less "
        "is faster; – was not measured, for the reasons at the end.",
    ]
    return sections_text(head, _sections(rows))


def _sections(rows: Sequence[Row]) -> list[tuple[str, str]]:
    means = [
        (
            f"{COMPUTATION_NAMES[computation]}: geometric mean of × over the T that were measured",
            means_table([row for row in rows if row.computation == computation]),
        )
        for computation in ("forward", "training")
    ]
    return [
        *means,
        *computation_sections(rows, {"recurrence": "recurrence", "T": "time_steps"}, labels=1),
        ("Where the full unroll ends", explosion_table(rows)),
    ]


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
    name = COMPUTATION_NAMES[computation]
    panels[0][0].set_title(f"{name}: run time a step")
    panels[0][1].set_title(f"{name}: compile time")
    for panel in panels[-1]:
        panel.set_xlabel("T")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure
