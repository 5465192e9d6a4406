"""What `benchmarks.rivals` measured, as rows, tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.libraries.tasks import GATES, Compiled
from benchmarks.measure import Spread
from benchmarks.points import rows_of
from benchmarks.points_report import (
    COMPUTATION_NAMES,
    MEASURED,
    described_machine,
    sections_text,
    write_results,
)
from benchmarks.report import markdown_table, three_digits
from rnnjax.training.files import replace_text

OURS, AUTO = "ours", "auto"


@dataclass(frozen=True)
class RivalRow:
    """One program of one library at one point."""

    recurrence: str
    options: str  # "", "lengths" or "resets"
    batch_size: int
    time_steps: int
    input_size: int
    hidden_size: int
    computation: str  # "forward", "training", or "product": the machine's rate
    library: str
    plan: str  # of ours
    status: str  # MEASURED, or why not
    run_seconds: float | None = None  # the median, as are its quartiles, over the rounds
    run_seconds_lower_quartile: float | None = None
    run_seconds_upper_quartile: float | None = None
    rounds: int | None = None
    lower_seconds: float | None = None  # tracing by JAX
    compile_seconds: float | None = None  # XLA
    temporary_bytes: int | None = None  # of a call, by XLA's account
    output_bytes: int | None = None
    peak_resident_increase_bytes: int | None = None  # of a call, by the kernel's account
    difference: float | None = None  # of values from our reference's, relative to the largest

    def with_measured(
        self,
        spread: Spread,
        compiled: Compiled | None,
        peak: int | None,
        difference: float | None,
    ) -> "RivalRow":
        """The row with what was found out."""
        costs = {} if compiled is None else compiled._asdict()
        return replace(
            self,
            run_seconds=spread.median,
            run_seconds_lower_quartile=spread.lower_quartile,
            run_seconds_upper_quartile=spread.upper_quartile,
            rounds=spread.rounds,
            peak_resident_increase_bytes=peak,
            difference=difference,
            **costs,
        )


class Place(NamedTuple):
    """Where libraries are compared."""

    options: str
    computation: str
    recurrence: str
    batch_size: int
    time_steps: int
    input_size: int
    hidden_size: int

    def operations(self) -> float:
        """Floating point operations: 2 T B G H (I + H) forward, three times that in training."""
        forward = (
            2
            * self.time_steps
            * self.batch_size
            * GATES[self.recurrence]
            * self.hidden_size
            * (self.input_size + self.hidden_size)
        )
        return forward * (3 if self.computation == "training" else 1)


class Comparison(NamedTuple):
    """Ours against the best rival at one place."""

    place: Place
    seconds: float  # of ours, auto
    rival: str
    ratio: float  # the best rival's time relative to ours: above 1 ours is faster
    share: float | None  # of the machine's rate


def measured_at(rows: Sequence[RivalRow]) -> dict[Place, dict[tuple[str, str], RivalRow]]:
    """Place -> library and plan -> its row, if it was measured."""
    places: dict[Place, dict[tuple[str, str], RivalRow]] = {}
    for row in rows:
        place = Place(*(getattr(row, name) for name in Place._fields))
        if row.status == MEASURED:
            places.setdefault(place, {})[row.library, row.plan] = row
    return places


def rate_at(
    places: Mapping[Place, Mapping[tuple[str, str], RivalRow]], place: Place, operations: float
) -> float | None:
    """Operations a second of the fastest product of matrices that took turns there."""
    products = places.get(place._replace(computation="product"), {})
    times = [row.run_seconds for row in products.values() if row.run_seconds]
    return operations / min(times) if times else None


def comparisons(rows: Sequence[RivalRow], product_operations: float) -> list[Comparison]:
    """Ours, as auto runs it, against the best rival, wherever both were measured."""
    places, found = measured_at(rows), []
    for place, programs in places.items():
        ours = programs.get((OURS, AUTO))
        rivals = {row.library: row.run_seconds for row in programs.values() if row.library != OURS}
        if place.computation not in COMPUTATION_NAMES or ours is None or not rivals:
            continue
        best = min(rivals, key=lambda name: rivals[name] or 0.0)
        rate = rate_at(places, place, product_operations)
        seconds, best_seconds = ours.run_seconds, rivals[best]
        assert seconds is not None
        assert best_seconds is not None
        share = place.operations() / seconds / rate if rate else None
        found.append(Comparison(place, seconds, best, best_seconds / seconds, share))
    return found


def geometric_mean(values: Sequence[float]) -> float:
    """Exp of the mean of logarithms."""
    return exp(sum(map(log, values)) / len(values))


def in_one_line(point: Mapping[str, Any], rows: Sequence[RivalRow]) -> str:
    """What is told of a point as soon as it is measured."""
    places = measured_at(rows)
    sizes = "B={batch_size} T={time_steps} I={input_size} H={hidden_size}".format(**point)
    told = [
        f"{comparison.place.computation} {comparison.seconds * 1e3:.3g} ms, "
        f"{comparison.rival} ×{three_digits(comparison.ratio)}"
        for comparison in comparisons(rows, 1.0)
    ]
    del places
    return f"{point['recurrence']} {point['options']} {sizes}: {'; '.join(told)}"


def write_report(
    folder: Path,
    command: str,
    conditions: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
) -> None:
    """Write `results.json`, `results.csv` and `table.md`; see `write_results`."""
    rows = list(rows_of(records, RivalRow))
    date = write_results(folder, command, conditions, records, rows)
    replace_text(folder / "table.md", report_text(command, date, conditions, rows))


def report_text(
    command: str, date: str, conditions: Mapping[str, Any], rows: Sequence[RivalRow]
) -> str:
    """The tables as markdown, after a head that says what was measured where."""
    head = [
        "# rnnjax against other libraries",
        "",
        f"`{command}`, {date}.",
        *described_machine(conditions),
        "",
        "All of a line took turns, each library in a process of its own; times are medians. "
        "× is the time relative to that of ours, `auto`: above 1, ours is faster.",
    ]
    found = comparisons(rows, 2.0 * 1024**3)
    sections = [("In short", summary(found))]
    for options in dict.fromkeys(row.options for row in rows):
        for computation, name in COMPUTATION_NAMES.items():
            here = [
                c for c in found if (c.place.options, c.place.computation) == (options, computation)
            ]
            if here:
                title = f"{name}{f', with {options}' if options else ''}"
                sections.append((title, comparison_table(rows, here)))
    return sections_text(head, sections)


def summary(found: Sequence[Comparison]) -> str:
    """The figures that matter."""
    plain = [c for c in found if not c.place.options]
    if not plain:
        return ""
    worst = min(plain, key=lambda c: c.ratio)
    lines = [
        f"- Geometric mean over {len(plain)} places of the best rival's time ÷ ours: "
        f"{three_digits(geometric_mean([c.ratio for c in plain]))}.",
        f"- Worst: {three_digits(worst.ratio)} ({worst.rival}, {described(worst.place)}).",
    ]
    large = [
        c for c in plain if c.share and c.place.hidden_size >= 256 and c.place.batch_size >= 32
    ]
    if large:
        least = min(large, key=lambda c: c.share or 0)
        lines.append(
            "- Share of the machine's rate at H ≥ 256 and B ≥ 32: geometric mean "
            f"{100 * geometric_mean([c.share or 0 for c in large]):.0f} %, least "
            f"{100 * (least.share or 0):.0f} % ({described(least.place)})."
        )
    return "\n".join(lines) + "\n"


def described(place: Place) -> str:
    """A place in words."""
    sizes = f"B={place.batch_size} T={place.time_steps} I={place.input_size} H={place.hidden_size}"
    return f"{place.recurrence}, {place.computation}, {sizes}"


def comparison_table(rows: Sequence[RivalRow], found: Sequence[Comparison]) -> str:
    """Place × library and plan -> time."""
    places = measured_at(rows)
    names = dict.fromkeys(name for c in found for name in places[c.place])
    lines = []
    for c in found:
        here = places[c.place]
        sizes = [c.place.batch_size, c.place.time_steps, c.place.input_size, c.place.hidden_size]
        cells = [_cell(here.get(name), c.seconds) for name in names if name != (OURS, AUTO)]
        share = "–" if c.share is None else f"{100 * c.share:.0f} %"
        ours = f"{three_digits(c.seconds * 1e3)} ms"
        lines.append(
            [c.place.recurrence, *map(str, sizes), ours, three_digits(c.ratio), share, *cells]
        )
    header = ["recurrence", "B", "T", "I", "H", "ours", "best rival ÷ ours", "share of rate"]
    others = [
        f"{library} {plan}".strip() for library, plan in names if (library, plan) != (OURS, AUTO)
    ]
    return markdown_table([*header, *others], lines, labels=1)


def _cell(row: RivalRow | None, seconds: float) -> str:
    if row is None or row.run_seconds is None:
        return "–"
    return f"{three_digits(row.run_seconds * 1e3)} ms (×{three_digits(row.run_seconds / seconds)})"
