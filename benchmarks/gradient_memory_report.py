"""The report of `benchmarks.gradient_memory`: JSON, CSV, a table and a plot of its rows."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.report import csv_text, markdown_table, replace_figure, three_digits
from rnnjax.training.files import replace_text

COLOURS = ("black", "#4477aa", "#cc6633", "#228833", "#aa3377", "#66ccee", "#bbbbbb")
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Row:
    """The gradient of one recurrence over T steps under one plan."""

    recurrence: str
    time_steps: int
    plan: str
    unit_bytes: int  # T·B·H floats
    refusal: str | None = None  # why the plan could not serve
    temporary_bytes: int | None = None  # of a call, by XLA's account
    peak_resident_increase_bytes: int | None = None  # of a call, by the kernel's account


def write_report(
    folder: Path, command: str, date: str, conditions: Mapping[str, Any], rows: Sequence[Row]
) -> None:
    """Write `results.json`, `results.csv`, `table.md` and `plot.png`, each replaced atomically."""
    records = [asdict(row) for row in rows]
    results = {"command": command, "date": date, **conditions, "rows": records}
    replace_text(folder / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    replace_text(folder / "results.csv", csv_text(records))
    replace_text(folder / "table.md", report_text(command, date, conditions, rows))
    replace_figure(folder / "plot.png", plot(rows))


def report_text(command: str, date: str, conditions: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The tables as markdown, after a head that says what was measured where."""
    machine, versions = conditions["machine"], conditions["versions"]
    lines = [
        "# Memory of a gradient",
        "",
        f"`{command}`, {date}.",
        f"B = {conditions['batch_size']}, I = {conditions['input_size']}, "
        f"H = {conditions['hidden_size']}, {conditions['dtype']}.",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']} ({machine['architecture']}).",
        ", ".join(f"{name} {value}" for name, value in versions.items() if value) + ".",
        "",
        "What a call holds besides its inputs and outputs, to get the gradient, by the parameters, "
        "of a loss of the last carry. In MiB, and in brackets in units of T·B·H floats: autodiff "
        "of a plain scan of an LSTM keeps 12 of them; – was not measured.",
        "",
        "",
    ]
    sections = [
        ("By XLA's account", _table(rows, lambda row: row.temporary_bytes)),
        (
            "By the kernel's account: peak rise of resident memory",
            _table(rows, lambda row: row.peak_resident_increase_bytes),
        ),
    ]
    refusals = [
        f"- {r.recurrence}, T = {r.time_steps}, {r.plan}: {r.refusal}" for r in rows if r.refusal
    ]
    if refusals:
        sections.append(("Refused", "\n".join(refusals) + "\n"))
    return "\n".join(lines) + "\n".join(f"## {title}\n\n{text}" for title, text in sections)


def _table(rows: Sequence[Row], of: Callable[[Row], int | None]) -> str:
    plans = list(dict.fromkeys(row.plan for row in rows))
    found = {(row.recurrence, row.time_steps, row.plan): row for row in rows}
    lines = []
    for recurrence, time_steps in dict.fromkeys((r.recurrence, r.time_steps) for r in rows):
        of_plans = [found.get((recurrence, time_steps, plan)) for plan in plans]
        cells = ["–" if row is None else _cell(of(row), row.unit_bytes) for row in of_plans]
        lines.append([recurrence, str(time_steps), *cells])
    return markdown_table(["recurrence", "T", *plans], lines, labels=1)


def _cell(held: int | None, unit: int) -> str:
    if held is None:
        return "–"
    return f"{three_digits(held / MEBIBYTE)} ({three_digits(held / unit)})"


def plot(rows: Sequence[Row]) -> Figure:
    """Memory against T, a panel for each recurrence: lines by XLA, rings by the kernel."""
    recurrences = list(dict.fromkeys(row.recurrence for row in rows))
    plans = list(dict.fromkeys(row.plan for row in rows))
    colours = {plan: COLOURS[index % len(COLOURS)] for index, plan in enumerate(plans)}
    figure = Figure(figsize=(8, 0.8 + 4.2 * len(recurrences)), dpi=130, layout="constrained")
    panels = figure.subplots(len(recurrences), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    ends: list[list[tuple[float, str, str]]] = []
    for panel, recurrence in zip(panels, recurrences, strict=True):
        of_recurrence = [row for row in rows if row.recurrence == recurrence]
        labels = []
        for plan in plans:
            here = [row for row in of_recurrence if row.plan == plan]
            planned = [
                (row.time_steps, row.temporary_bytes / MEBIBYTE)
                for row in here
                if row.temporary_bytes
            ]
            measured = [
                (row.time_steps, row.peak_resident_increase_bytes / MEBIBYTE)
                for row in here
                if row.peak_resident_increase_bytes
            ]
            colour = colours[plan]
            if planned:
                panel.plot(*zip(*planned, strict=True), color=colour, linewidth=1.8)
                labels.append((planned[-1][1], plan, colour))
            if measured:
                style = {"linestyle": "none", "marker": "o", "markersize": 5, "fillstyle": "none"}
                panel.plot(*zip(*measured, strict=True), color=colour, **style)
        _arrange(panel, sorted({row.time_steps for row in of_recurrence}))
        ends.append(labels)
        panel.set_ylabel("MiB")
        panel.set_title(f"{recurrence}: memory of a gradient", loc="left")
    for panel, labels in zip(panels, ends, strict=True):  # once the shared limits are settled
        _label_at_the_right(panel, labels)
    panels[-1].set_xlabel("T  (lines: XLA's account; rings: measured peak rise of resident memory)")
    return figure


def _arrange(panel: Axes, time_steps: Sequence[int]) -> None:
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(time_steps)
    panel.xaxis.set_major_formatter("{x:.0f}")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.grid(visible=True, color="#dddddd", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def _label_at_the_right(panel: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Name lines beside the panel at their last values, moved up where they would overlap."""
    low, high = panel.get_ylim()
    panel.set_ylim(low, high)
    gap = 0.055 * log(high / low)
    place = float("-inf")
    for value, name, colour in sorted(labels):
        place = max(log(value / low), place + gap)
        height = place / log(high / low)
        panel.plot(
            [1.0, 1.03],
            [log(value / low) / log(high / low), height],
            transform=panel.transAxes,
            clip_on=False,
            color=colour,
            linewidth=0.8,
        )
        panel.text(1.035, height, name, transform=panel.transAxes, color=colour, va="center")
