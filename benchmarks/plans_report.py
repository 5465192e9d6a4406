"""The report of `benchmarks.plans`: JSON, CSV, tables and a heat map of its rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch, Rectangle

from benchmarks.points import rows_of
from benchmarks.points_report import (
    COMPUTATION_NAMES,
    MEASURED,
    Row,
    computation_sections,
    described_machine,
    plan_table,
    sections_text,
    write_results,
)
from benchmarks.report import markdown_table, replace_figure, three_digits
from rnnjax.training.files import replace_text

TOLERANCE = 1.10  # how much longer than the best what auto takes may take
CLOSE = 1.05  # a second that takes at most so much longer is not told apart from the winner
PARALLEL = ("associative", "newton", "quasi_newton")  # in time; with options as "name(...)"
POINT = {"recurrence": "recurrence", "H": "hidden_size", "T": "time_steps"}

ABOVE_LONGEST = "not tried above T ="  # the beginning of a status

# Okabe and Ito's colours, told apart by the colour-blind too.
COLOURS = {
    "reference": "#bbbbbb",
    "native": "#222222",
    "unrolled": "#f0e442",
    "fused": "#0072b2",
    "checkpointed": "#e69f00",
    "associative": "#009e73",
    "associative_by(1)": "#56b4e9",
    "newton": "#d55e00",
    "quasi_newton": "#cc79a7",
}
PALE = 0.4
OTHER_COLOURS = ("#8c564b", "#6a3d9a", "#b2df8a", "#444444")


@dataclass(frozen=True)
class PlanRow(Row):
    """A `Row` at one H, with what its point has."""

    hidden_size: int = field(kw_only=True)
    ys_bytes: int = field(kw_only=True)  # of the outputs of all steps and rows
    auto: str = field(kw_only=True)  # the plan that auto takes at this point
    same_program_as: str | None = None  # the plan whose compiled program is this one to the letter


class Place(NamedTuple):
    """Where plans are compared."""

    recurrence: str
    hidden_size: int
    time_steps: int
    computation: str


class AutoCheck(NamedTuple):
    """How the plan that auto takes does at one place."""

    place: Place
    chosen: str
    best: str
    ratio_to_best: float | None  # of medians; None if what is chosen was not measured
    beyond_spread: float | None  # its lower quartile relative to the least upper quartile of others


def read_rows(path: Path) -> list[PlanRow]:
    """The rows in a `results.json`."""
    return list(rows_of(json.loads(path.read_text("utf-8"))["points"], PlanRow))


def measured_at(rows: Sequence[PlanRow]) -> dict[Place, dict[str, PlanRow]]:
    """Place -> plan -> its row, if it was measured; the fastest first."""
    places: dict[Place, dict[str, PlanRow]] = {}
    for row in sorted(rows, key=lambda row: row.run_seconds or 0.0):
        place = Place(row.recurrence, row.hidden_size, row.time_steps, row.computation)
        if row.status == MEASURED:
            places.setdefault(place, {})[row.plan] = row
    in_order = dict.fromkeys(
        Place(row.recurrence, row.hidden_size, row.time_steps, row.computation) for row in rows
    )
    return {place: places[place] for place in in_order if place in places}


def auto_check(rows: Sequence[PlanRow]) -> list[AutoCheck]:
    """For each place the plan that auto takes, and its time relative to the best of all plans."""
    checks = []
    for place, plans in measured_at(rows).items():
        best = next(iter(plans.values()))
        chosen = plans.get(best.auto)
        checks.append(
            AutoCheck(place, best.auto, best.plan, _ratio(chosen, best), _beyond(chosen, plans))
        )
    return checks


def _beyond(row: PlanRow | None, plans: Mapping[str, PlanRow]) -> float | None:
    """How much slower a program is at the least, whatever its own noise and that of the others."""
    uppers = [p.run_seconds_upper_quartile for p in plans.values()]
    known = [upper for upper in uppers if upper is not None]
    if row is None or row.run_seconds_lower_quartile is None or not known:
        return None
    return row.run_seconds_lower_quartile / min(known)


def _ratio(row: PlanRow | None, other: PlanRow | None) -> float | None:
    if row is None or other is None or row.run_seconds is None or other.run_seconds is None:
        return None
    return row.run_seconds / other.run_seconds


def write_report(
    folder: Path,
    command: str,
    conditions: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
) -> None:
    """Write `results.json`, `results.csv`, `table.md` and `plot.png`; see `write_results`."""
    rows = list(rows_of(records, PlanRow))
    date = write_results(folder, command, conditions, records, rows)
    replace_text(folder / "table.md", report_text(command, date, conditions, rows))
    replace_figure(folder / "plot.png", plot(rows))


def report_text(
    command: str, date: str, conditions: Mapping[str, Any], rows: Sequence[PlanRow]
) -> str:
    """The tables as markdown, after a head that says what was measured where."""
    head = [
        "# Plans against each other",
        "",
        f"`{command}`, {date}.",
        f"B = {conditions['batch_size']}, I = H, {conditions['dtype']}.",
        *described_machine(conditions),
        "",
        "All plans of a line took turns; times are medians. A training step is the value and the "
        "gradient by parameters and inputs. × is the time relative to that of the reference, less "
        "is faster; – was not measured: the plan refuses, or for the reasons at the end. What was "
        "far behind was timed once, without its resident memory; two plans that compile to one "
        "program share its times. The loop was written out up to "
        f"T = {conditions['longest_unrolled']}.",
    ]
    sections = [
        ("What auto takes", auto_table(rows)),
        ("Parallel in time: time relative to fused", parallel_table(rows)),
        (
            "Memory of a gradient: XLA's temporaries relative to the outputs, T·B·H floats",
            units_table(rows),
        ),
        *computation_sections(rows, POINT, labels=1),
        ("What was not tried or given up", missing_table(rows)),
    ]
    return sections_text(head, sections)


def auto_table(rows: Sequence[PlanRow]) -> str:
    """A sentence that counts, and the places where auto takes what is not within tolerance."""
    checks = auto_check(rows)
    missed = [
        check for check in checks if check.ratio_to_best is None or check.ratio_to_best > TOLERANCE
    ]
    percent = round(100 * (TOLERANCE - 1))
    text = (
        f"At {len(checks) - len(missed)} of {len(checks)} places the plan that auto takes is the "
        f"fastest of all or within {percent} % of it.\n"
    )
    lines = [
        [
            check.place.recurrence,
            check.place.computation,
            check.chosen,
            check.best,
            str(check.place.hidden_size),
            str(check.place.time_steps),
            three_digits(check.ratio_to_best),
        ]
        for check in missed
    ]
    header = ["recurrence", "computation", "auto takes", "the fastest", "H", "T", "auto ÷ fastest"]
    return text + (f"\n{markdown_table(header, lines, labels=4)}" if lines else "")


def parallel_table(rows: Sequence[PlanRow]) -> str:
    """Place × plan that is parallel in time -> its time relative to `fused`; less than 1 wins."""
    names = dict.fromkeys(row.plan for row in rows if row.plan.partition("_by(")[0] in PARALLEL)
    lines = []
    for place, plans in measured_at(rows).items():
        ratios = [_ratio(plans.get(name), plans.get("fused")) for name in names]
        if all(ratio is None for ratio in ratios):
            continue
        cells = [
            f"**{three_digits(ratio)}**" if ratio is not None and ratio < 1 else three_digits(ratio)
            for ratio in ratios
        ]
        sizes = [str(place.hidden_size), str(place.time_steps)]
        lines.append([place.recurrence, place.computation, *sizes, *cells])
    header = ["recurrence", "computation", "H", "T", *names]
    return markdown_table(header, lines, labels=2) if lines else ""


def units_table(rows: Sequence[PlanRow]) -> str:
    """Recurrence and H at its largest T × plan -> temporaries of a training step in T·B·H floats.

    Where the outputs of a step are not H numbers, they are the unit. What a call returns, the
    gradients by inputs (a unit where I = H) and by weights, comes on top.
    """
    largest: dict[tuple[str, int], int] = {}
    for row in rows:
        size = (row.recurrence, row.hidden_size)
        largest[size] = max(largest.get(size, 0), row.time_steps)
    here = [
        row
        for row in rows
        if row.computation == "training"
        and row.time_steps == largest[row.recurrence, row.hidden_size]
    ]
    return plan_table(here, POINT, lambda row: three_digits(units(row)), labels=1) if here else ""


def units(row: PlanRow) -> float | None:
    """Temporaries of a call relative to the outputs of all steps."""
    return None if row.temporary_bytes is None else row.temporary_bytes / row.ys_bytes


def missing_table(rows: Sequence[PlanRow]) -> str:
    """Plan and reason -> where; of what neither was refused nor is too long to be unrolled.

    Empty if there is none.
    """
    where: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for row in rows:
        if row.status != MEASURED and not row.status.startswith(("refused", ABOVE_LONGEST)):
            key = (row.plan, row.computation, row.status)
            sizes = where.setdefault(key, {}).setdefault(row.recurrence, [])
            sizes.append(f"{row.hidden_size} × {row.time_steps}")
    lines = [
        [*key, "; ".join(f"{name} {', '.join(sizes)}" for name, sizes in of_names.items())]
        for key, of_names in sorted(where.items())
    ]
    header = ["plan", "computation", "reason", "where, H × T"]
    return markdown_table(header, lines, labels=4) if lines else ""


def plot(rows: Sequence[PlanRow]) -> Figure:
    """Who wins where: above the training step, below forward.

    A panel for each recurrence that was measured at several H, T × H; the others in a strip.
    """
    places = measured_at(rows)
    sizes: dict[str, set[int]] = {}
    for place in places:
        sizes.setdefault(place.recurrence, set()).add(place.hidden_size)
    grid = [name for name, hidden_sizes in sizes.items() if len(hidden_sizes) > 1]
    others = [name for name in sizes if name not in grid]
    colours = _colours(rows)
    columns = min(4, max(1, len(grid)))
    lines = max(1, -(-len(grid) // columns))
    height = max(2.3 * lines, 1.0 + 0.24 * len(others)) + 0.5
    width = 3.1 * columns + 4.3 * bool(others)
    figure = Figure(figsize=(max(width, 7), 2 * height + 0.8), dpi=120, layout="constrained")
    blocks = figure.subfigures(2, 1, squeeze=False).ravel()
    for block, computation in zip(blocks, ("training", "forward"), strict=True):
        here = {place: plans for place, plans in places.items() if place.computation == computation}
        block.suptitle(
            f"{COMPUTATION_NAMES[computation]}: the fastest plan, and its time relative to the "
            "reference's",
            fontsize="medium",
        )
        parts: list[SubFigure] = [block]
        if grid and others:
            parts = [*block.subfigures(1, 2, width_ratios=[3.1 * columns, 4.3])]
        if grid:
            panels = parts[0].subplots(lines, columns, squeeze=False).ravel()
            for panel, name in zip(panels, grid, strict=False):
                _panel(panel, name, here, colours)
            for panel in panels[len(grid) :]:
                panel.set_axis_off()
        if others:
            _strip(parts[-1].subplots(), others, here, colours)
    won = {next(iter(plans)) for plans in places.values()}
    handles = [Patch(color=colours[plan], label=plan) for plan in colours if plan in won]
    figure.legend(
        handles=handles,
        title=f"pale: the second is within {round(100 * (CLOSE - 1))} % of it",
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
    )
    return figure


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    others = cycle(OTHER_COLOURS)
    plans = dict.fromkeys(row.plan for row in rows)
    return {plan: COLOURS.get(plan) or next(others) for plan in plans}


def _panel(
    panel: Axes, name: str, places: Mapping[Place, Mapping[str, PlanRow]], colours: dict[str, str]
) -> None:
    """T × H of one recurrence."""
    here = {place: plans for place, plans in places.items() if place.recurrence == name}
    steps = sorted({place.time_steps for place in here})
    sizes = sorted({place.hidden_size for place in here})
    for place, plans in here.items():
        at = steps.index(place.time_steps), sizes.index(place.hidden_size)
        _cell(panel, *at, plans, colours, between="\n")
    _frame(panel, [str(t) for t in steps], [str(h) for h in sizes])
    panel.set_title(name, fontsize="medium")
    panel.set_xlabel("T", fontsize="small")
    panel.set_ylabel("H", fontsize="small")


def _strip(
    panel: Axes,
    names: Sequence[str],
    places: Mapping[Place, Mapping[str, PlanRow]],
    colours: dict[str, str],
) -> None:
    """T of the recurrences that were measured at one H each."""
    here = {place: plans for place, plans in places.items() if place.recurrence in names}
    steps = sorted({place.time_steps for place in here})
    labels = {place.recurrence: f"{place.recurrence}, H = {place.hidden_size}" for place in here}
    order = list(reversed(labels))  # the first on top
    for place, plans in here.items():
        at = steps.index(place.time_steps), order.index(place.recurrence)
        _cell(panel, *at, plans, colours, between=" ")
    _frame(panel, [str(t) for t in steps], [labels[name] for name in order])
    panel.set_xlabel("T", fontsize="small")


def _cell(
    panel: Axes,
    column: int,
    line: int,
    plans: Mapping[str, PlanRow],
    colours: dict[str, str],
    between: str,
) -> None:
    """The winner's colour, name and ratio; `plans` begins with the fastest."""
    winner, *rest = plans.values()
    second = _ratio(rest[0], winner) if rest else None
    strength = PALE if second is not None and second <= CLOSE else 1.0
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(colours[winner.plan]))
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
    panel.add_patch(
        Rectangle(
            (column - 0.5, line - 0.5),
            1,
            1,
            facecolor=(red, green, blue),
            edgecolor="white",
            linewidth=1.5,
        )
    )
    ratio = winner.ratio_to_reference
    text = winner.plan if ratio is None else f"{winner.plan}{between}×{three_digits(ratio)}"
    panel.text(
        column,
        line,
        text.replace("associative_by", f"associative{between}by"),
        ha="center",
        va="center",
        fontsize=7.5,
        color="white" if dark else "black",
    )


def _frame(panel: Axes, columns: Sequence[str], lines: Sequence[str]) -> None:
    if not (columns and lines):
        panel.set_axis_off()
        return
    panel.set_xlim(-0.5, len(columns) - 0.5)
    panel.set_ylim(-0.5, len(lines) - 0.5)
    panel.set_xticks(range(len(columns)), columns, fontsize="small")
    panel.set_yticks(range(len(lines)), lines, fontsize="small")
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
