"""What `benchmarks.rivals` measured, as rows, tables and figures."""

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log, log2
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from benchmarks import libraries
from benchmarks.libraries.tasks import GATES, Product
from benchmarks.points import rows_of
from benchmarks.points_report import (
    MEASURED,
    Row,
    described_machine,
    sections_text,
    write_results,
)
from benchmarks.report import markdown_table, replace_figure, three_digits
from rnnjax.training.files import replace_text

OURS = "ours"
OUR_PLANS = ("auto", "sample_language_model", "one_step")  # what a user gets who names none
LARGE_HIDDEN, LARGE_BATCH = 256, 32  # from which on the share of the machine's rate is summed up
KIND_NAMES = {
    "plain": "plain",
    "lengths": "with lengths",
    "resets": "with resets",
    "generation": "generation",
    "streaming": "streaming",
}
NAMES = {
    "forward": "Forward",
    "training": "Training step",
    "generation": "Generation",
    "streaming": "Streaming",
}
LABELS = {
    OURS: "rnnjax",
    "pytorch": "PyTorch",
    "flax_linen": "Flax Linen",
    "flax_nnx": "Flax NNX",
    "dm_haiku": "Haiku",
    "equinox_cells": "Equinox",
    "keras_layers": "Keras",
    "numpy_product": "NumPy",
}

# Okabe and Ito's colours, told apart by the colour-blind too.
COLOURS = {
    OURS: "#222222",
    "pytorch": "#d55e00",
    "flax_linen": "#0072b2",
    "flax_nnx": "#56b4e9",
    "dm_haiku": "#009e73",
    "equinox_cells": "#cc79a7",
    "keras_layers": "#e69f00",
}


@dataclass(frozen=True)
class RivalRow(Row):
    """A `Row` of one library.

    Its `computation` is "forward", "training", "product" (the machine's rate), "generation", where
    `time_steps` is the tokens of each row, or "streaming", where it is the steps of a call; its
    `plan` is one of ours, or a way to do it that a library has.
    """

    library: str = field(kw_only=True)
    kind: str = field(kw_only=True)
    layers: int = field(kw_only=True)
    batch_size: int = field(kw_only=True)
    input_size: int = field(kw_only=True)
    hidden_size: int = field(kw_only=True)
    difference: float | None = None  # of values from ours, relative to the largest


class Place(NamedTuple):
    """Where libraries are compared."""

    kind: str
    computation: str
    recurrence: str
    layers: int
    batch_size: int
    time_steps: int
    input_size: int
    hidden_size: int

    def operations(self) -> float:
        """Of floating point: 2 T B G H (I + H) forward, three times that in training."""
        rows = self.time_steps * self.batch_size
        products = GATES[self.recurrence] * self.hidden_size * (self.input_size + self.hidden_size)
        return 2.0 * rows * products * (3 if self.computation == "training" else 1)

    def is_large(self) -> bool:
        """Whether the share of the machine's rate is summed up."""
        return self.hidden_size >= LARGE_HIDDEN and self.batch_size >= LARGE_BATCH

    def __str__(self) -> str:
        """In words."""
        return (
            f"{self.recurrence}, {self.computation}, B = {self.batch_size}, T = {self.time_steps}, "
            f"I = {self.input_size}, H = {self.hidden_size}"
        )


Programs = Mapping[tuple[str, str], RivalRow]
"""Library and plan -> its row."""


class Comparison(NamedTuple):
    """Ours against the best rival at one place."""

    place: Place
    ours: RivalRow
    rival: RivalRow
    share: float | None  # of the machine's rate

    @property
    def ratio(self) -> float:
        """The best rival's time relative to ours: above 1, ours is faster."""
        return _seconds(self.rival) / _seconds(self.ours)

    @property
    def within_spread(self) -> bool:
        """Whether the middle halves of both overlap."""
        one, other = sorted((self.ours, self.rival), key=_seconds)
        upper, lower = one.run_seconds_upper_quartile, other.run_seconds_lower_quartile
        assert upper is not None
        assert lower is not None
        return lower <= upper


def _seconds(row: RivalRow) -> float:
    assert row.run_seconds is not None
    return row.run_seconds


def measured_at(rows: Sequence[RivalRow]) -> dict[Place, dict[tuple[str, str], RivalRow]]:
    """Place -> library and plan -> its row, if it was measured."""
    places: dict[Place, dict[tuple[str, str], RivalRow]] = {}
    for row in rows:
        if row.status == MEASURED:
            place = Place(*(getattr(row, name) for name in Place._fields))
            places.setdefault(place, {})[row.library, row.plan] = row
    return places


def rate_at(places: Mapping[Place, Programs], place: Place, product: Product) -> float | None:
    """Operations a second of the fastest product of matrices that took turns at a place."""
    products = places.get(place._replace(computation="product"))
    return product.operations() / min(map(_seconds, products.values())) if products else None


def comparisons(rows: Sequence[RivalRow], product: Product) -> list[Comparison]:
    """Ours, as it runs where no plan is named, against the best rival wherever both were measured.

    Args:
        rows: Of all points.
        product: What the machine's rate was measured by.
    """
    places, found = measured_at(rows), []
    for place, programs in places.items():
        ours = [row for (name, plan), row in programs.items() if name == OURS and plan in OUR_PLANS]
        rivals = [row for (name, _), row in programs.items() if name != OURS]
        if place.computation == "product" or not ours or not rivals:
            continue
        rate = rate_at(places, place, product)
        share = place.operations() / _seconds(ours[0]) / rate if rate else None
        found.append(Comparison(place, ours[0], min(rivals, key=_seconds), share))
    return found


def geometric_mean(values: Sequence[float]) -> float:
    """Exp of the mean of the logarithms."""
    return exp(sum(map(log, values)) / len(values))


def in_one_line(point: Mapping[str, Any], rows: Sequence[RivalRow]) -> str:
    """What is said of a point once it is measured."""
    sizes = "{recurrence} {kind} B={batch_size} T={time_steps} I={input_size} H={hidden_size}"
    told = [
        f"{c.place.computation} {three_digits(_seconds(c.ours) * 1e3)} ms, "
        f"{LABELS[c.rival.library]} ×{three_digits(c.ratio)}"
        for c in comparisons(rows, Product(1))
    ]
    return f"{sizes.format(**point)}: {'; '.join(told) or 'nothing to compare'}"


def write_report(
    folder: Path,
    command: str,
    conditions: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
) -> None:
    """Write `results.json`, `results.csv`, `table.md` and the plots; see `write_results`."""
    kinds = list(KIND_NAMES)
    rows = sorted(rows_of(records, RivalRow), key=lambda row: kinds.index(row.kind))
    date = write_results(folder, command, conditions, records, rows)
    replace_text(folder / "table.md", report_text(command, date, conditions, rows))
    found = comparisons(rows, Product(conditions["product_size"]))
    if any(c.place.kind == "plain" for c in found):
        replace_figure(folder / "plot.png", plot(found))
        replace_figure(folder / "plot_libraries.png", plot_libraries(rows, found))
    if any(c.place.kind in ("generation", "streaming") for c in found):
        replace_figure(folder / "plot_generation.png", plot_generation(rows))


def report_text(
    command: str, date: str, conditions: Mapping[str, Any], rows: Sequence[RivalRow]
) -> str:
    """The tables as markdown, after a head that says what was measured where."""
    product = Product(conditions["product_size"])
    found = comparisons(rows, product)
    rounds = [row.rounds for row in rows if row.rounds is not None and row.rounds > 1]
    head = [
        "# rnnjax against other libraries",
        "",
        f"`{command}`, {date}.",
        *described_machine(conditions),
        "",
        "Each library had a process of its own. All of a line took turns, in an order shuffled "
        f"anew each of {min(rounds, default=0)} to {max(rounds, default=0)} rounds (as many as "
        f"{conditions['budget_seconds']:g} s allow); a turn is a call that is not timed, then "
        f"calls for about {conditions['turn_seconds']:g} s, at least one, and ends when its "
        "process computes no more. Times are medians over the rounds of the medians of turns, in "
        "float32. A training step is the value and the gradient by parameters and inputs of "
        "½ Σ ys² + ½ Σ carry². All libraries have the same weights, inputs and loss, and their "
        "values were compared with ours before.",
        "",
        '“rnnjax” is `plan="auto"`. × is a time relative to it: above 1, ours is faster. – was '
        "not measured, see the end. What was over five times slower than the fastest rival, and "
        "took over 0.1 s, was timed once. A share is of the rate of the fastest product of two "
        f"{product.size} × {product.size} matrices that took turns there, of the operations "
        "2 T B G H (I + H) forward, three times that in training.",
    ]
    sections = [("In short", summary(found)), ("Where ours is behind", behind_table(found))]
    for kind in ("plain", "lengths", "resets"):
        for computation in ("training", "forward"):
            here = [c for c in found if c.place[:2] == (kind, computation)]
            title = f"{NAMES[computation]}, {KIND_NAMES[kind]}"
            sections.append((f"{title}: run time", comparison_table(rows, here)))
    sections += [
        ("Generation: tokens a second, of all rows together", generation_table(rows)),
        ("Streaming at B = 1: µs a step", streaming_table(rows)),
        ("Our plans: run time relative to auto", plans_table(rows)),
    ]
    for computation in ("training", "forward"):
        here = [row for row in rows if (row.kind, row.computation) == ("plain", computation)]
        name = NAMES[computation]
        compiling = f"{name}: compile time in seconds, tracing and XLA together"
        memory = f"{name}: MiB by which resident memory rises in a call at most"
        sections += [
            (compiling, library_table(here, _compile_cell)),
            (memory, library_table(here, _memory_cell)),
        ]
    sections += [
        (
            f"The machine's rate: GFLOP/s of {product.size} × {product.size}",
            rate_table(rows, product),
        ),
        ("How each library is used", usage()),
        ("What was not measured", missing_table(rows)),
    ]
    return sections_text(head, sections)


def summary(found: Sequence[Comparison]) -> str:
    """The figures that matter, and the geometric means in parts."""
    plain = [c for c in found if c.place.kind == "plain"]
    if not plain:
        return ""
    worst = min(plain, key=lambda c: c.ratio)
    behind = [c for c in plain if c.ratio < 1]
    apart = [c for c in behind if not c.within_spread]
    lines = [
        f"- The best rival's time ÷ ours, geometric mean over {len(plain)} places: "
        f"**{geometric_mean([c.ratio for c in plain]):.2f}**.",
        f"- The least of them: **{worst.ratio:.2f}** ({LABELS[worst.rival.library]}; "
        f"{worst.place}). Ours is behind at {len(behind)} of {len(plain)} places, at {len(apart)} "
        "of them by more than the quartiles of both.",
    ]
    shares = [(c.share, c.place) for c in plain if c.share is not None and c.place.is_large()]
    if shares:
        least, place = min(shares, key=lambda pair: pair[0])
        mean = geometric_mean([share for share, _ in shares])
        lines.append(
            f"- Share of the machine's rate at H ≥ {LARGE_HIDDEN} and B ≥ {LARGE_BATCH}: geometric "
            f"mean **{100 * mean:.0f} %**, least **{100 * least:.0f} %** ({place})."
        )
    bounds = [c.ratio / c.share for c in plain if c.share is not None]
    if bounds:
        lines.append(
            "- Had ours run at the machine's rate at every place, the first of these would be "
            f"**{geometric_mean(bounds):.2f}**."
        )
    return "\n".join([*lines, "", means_table(found)])


def means_table(found: Sequence[Comparison]) -> str:
    """Kind and computation × recurrence -> geometric mean of the best rival's time ÷ ours."""
    parts = dict.fromkeys(c.place[:2] for c in found)
    recurrences = dict.fromkeys(c.place.recurrence for c in found)
    lines = []
    for part in parts:
        here = [c for c in found if c.place[:2] == part]
        kind, computation = part
        groups = [[c.ratio for c in here if c.place.recurrence == name] for name in recurrences]
        groups.append([c.ratio for c in here])
        cells = [three_digits(geometric_mean(group)) if group else "–" for group in groups]
        least = three_digits(min(c.ratio for c in here))
        names = dict.fromkeys([NAMES[computation].lower(), KIND_NAMES[kind]])
        lines.append([", ".join(names), *cells, least])
    return markdown_table(["best rival ÷ ours", *recurrences, "all", "least"], lines, labels=1)


def behind_table(found: Sequence[Comparison]) -> str:
    """Every place where a rival's median is below ours, the worst first; empty if none."""
    lines = [
        [
            KIND_NAMES[c.place.kind],
            c.place.computation,
            LABELS[c.rival.library],
            *_place_cells(c.place),
            f"{c.ratio:.3f}",
            "yes" if c.within_spread else "no",
        ]
        for c in sorted(found, key=lambda c: c.ratio)
        if c.ratio < 1
    ]
    header = ["kind", "computation", "rival", *PLACE_HEADER, "rival ÷ ours", "within quartiles"]
    return markdown_table(header, lines, labels=4) if lines else ""


PLACE_HEADER = ("recurrence", "B", "T", "I", "H")


def _place_cells(place: Place) -> list[str]:
    sizes = (place.batch_size, place.time_steps, place.input_size, place.hidden_size)
    return [place.recurrence, *map(str, sizes)]


def _libraries(rows: Sequence[RivalRow]) -> list[str]:
    """Those that do more than products, ours first."""
    return list(dict.fromkeys(row.library for row in rows if row.library != "numpy_product"))


def comparison_table(rows: Sequence[RivalRow], found: Sequence[Comparison]) -> str:
    """Place × library -> time."""
    if not found:
        return ""
    places = measured_at(rows)
    rivals = [name for name in _libraries(rows) if name != OURS]
    lines = []
    for c in found:
        here, ours = places[c.place], _seconds(c.ours)
        cells = [_run_cell(here.get((name, "")), ours) for name in rivals]
        share = "–" if c.share is None else f"{100 * c.share:.0f} %"
        time = f"{three_digits(ours * 1e3)} ms"
        lines.append([*_place_cells(c.place), time, three_digits(c.ratio), share, *cells])
    shares = any(c.share is not None for c in found)
    header = [*PLACE_HEADER, "rnnjax", "best rival ÷ ours", "share", *(LABELS[n] for n in rivals)]
    if not shares:
        column = header.index("share")
        header.pop(column)
        for line in lines:
            line.pop(column)
    return markdown_table(header, lines, labels=1)


def _run_cell(row: RivalRow | None, ours: float) -> str:
    if row is None:
        return "–"
    seconds = _seconds(row)
    return f"{three_digits(seconds * 1e3)} ms (×{three_digits(seconds / ours)})"


def _ways_table(
    rows: Sequence[RivalRow],
    kind: str,
    header: Sequence[str],
    sizes: Callable[[Place], Sequence[int]],
    value: Callable[[RivalRow], float],
) -> str:
    """Place × library and way -> a value, and the best rival's time relative to ours."""
    places = {p: programs for p, programs in measured_at(rows).items() if p.kind == kind}
    ratios = {c.place: c.ratio for c in comparisons(rows, Product(1))}
    ways = list(dict.fromkeys(way for programs in places.values() for way in programs))
    lines = [
        [
            place.recurrence,
            *map(str, sizes(place)),
            three_digits(ratios.get(place)),
            *(three_digits(value(here[way])) if way in here else "–" for way in ways),
        ]
        for place, here in places.items()
    ]
    names = [f"{LABELS[library]} `{way}`" for library, way in ways]
    return (
        markdown_table(["recurrence", *header, "best rival ÷ ours", *names], lines, labels=1)
        if lines
        else ""
    )


def tokens_a_second(row: RivalRow) -> float:
    """Of all rows together."""
    return row.time_steps * row.batch_size / _seconds(row)


def microseconds_a_step(row: RivalRow) -> float:
    """The mean over the steps of a call."""
    return _seconds(row) / row.time_steps * 1e6


def generation_table(rows: Sequence[RivalRow]) -> str:
    """Place × library and way -> tokens a second."""
    return _ways_table(
        rows,
        "generation",
        ("B", "layers", "H"),
        lambda place: (place.batch_size, place.layers, place.hidden_size),
        tokens_a_second,
    )


def streaming_table(rows: Sequence[RivalRow]) -> str:
    """Place × library and way -> microseconds a step."""
    return _ways_table(
        rows, "streaming", ("H",), lambda place: (place.hidden_size,), microseconds_a_step
    )


def plans_table(rows: Sequence[RivalRow]) -> str:
    """Place × plan -> time relative to auto's; "auto" where auto takes it."""
    kinds = ("plain", "lengths", "resets")
    ours = [row for row in rows if row.library == OURS and row.kind in kinds]
    ours = [row for row in ours if row.computation != "product"]
    plans = [name for name in dict.fromkeys(row.plan for row in ours) if name != "auto"]
    found: dict[Place, dict[str, RivalRow]] = {}
    for row in ours:
        place = Place(*(getattr(row, name) for name in Place._fields))
        found.setdefault(place, {})[row.plan] = row
    lines = []
    for place, here in found.items():
        auto = here["auto"]
        if auto.status != MEASURED:
            continue
        cells = []
        for plan in plans:
            row = here.get(plan)
            if row is None or row.status != MEASURED:
                takes_it = row is not None and row.status == "auto takes it"
                cells.append("auto" if takes_it else "–")
            else:
                cells.append(f"×{three_digits(_seconds(row) / _seconds(auto))}")
        lines.append([KIND_NAMES[place.kind], place.computation, *_place_cells(place), *cells])
    header = ["kind", "computation", *PLACE_HEADER, *plans]
    return markdown_table(header, lines, labels=3) if lines else ""


def library_table(rows: Sequence[RivalRow], cell: Callable[[RivalRow], str]) -> str:
    """Place × library -> a cell; of ours that of auto."""
    names = _libraries(rows)
    lines = []
    for place, here in measured_at(rows).items():
        of_library = [here.get((name, "auto" if name == OURS else "")) for name in names]
        cells = ["–" if row is None else cell(row) for row in of_library]
        lines.append([*_place_cells(place), *cells])
    header = [*PLACE_HEADER, *(LABELS[name] for name in names)]
    return markdown_table(header, lines, labels=1) if lines else ""


def _compile_cell(row: RivalRow) -> str:
    if row.lower_seconds is None or row.compile_seconds is None:
        return "–"
    return three_digits(row.lower_seconds + row.compile_seconds)


def _memory_cell(row: RivalRow) -> str:
    peak = row.peak_resident_increase_bytes
    return "–" if peak is None else f"{peak / 2**20:.1f}"


def rate_table(rows: Sequence[RivalRow], product: Product) -> str:
    """Library -> the median over all points, the least and the largest."""
    rates: dict[str, list[float]] = {}
    for row in rows:
        if row.computation == "product" and row.status == MEASURED:
            rates.setdefault(row.library, []).append(product.operations() / _seconds(row) / 1e9)
    lines = [
        [LABELS[name], *(f"{statistic(found):.0f}" for statistic in (median, min, max))]
        for name, found in rates.items()
    ]
    return markdown_table(["product of", "median", "least", "largest"], lines, labels=1)


def usage() -> str:
    """What the docstrings of the libraries' modules say, read without importing any of them."""
    folder = Path(libraries.__path__[0])
    texts = []
    for name in LABELS:
        source = (folder / f"{name}.py").read_text("utf-8")
        texts.append("- " + " ".join((ast.get_docstring(ast.parse(source)) or "").split()))
    return "\n".join(texts) + "\n"


def missing_table(rows: Sequence[RivalRow]) -> str:
    """Library, plan and reason -> where; of what auto takes itself nothing is missing."""
    where: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row.status not in (MEASURED, "auto takes it") and row.library != "numpy_product":
            place = f"{row.recurrence} {KIND_NAMES[row.kind]}"
            where.setdefault((LABELS[row.library], row.plan, row.status), []).append(place)
    lines = [[*key, ", ".join(dict.fromkeys(places))] for key, places in sorted(where.items())]
    return markdown_table(["library", "plan", "reason", "where"], lines, labels=4) if lines else ""


def plot(found: Sequence[Comparison]) -> Figure:
    """Shape × recurrence and computation: the best rival's time relative to ours, and its name."""
    plain = [c for c in found if c.place.kind == "plain"]
    shapes = list(dict.fromkeys(c.place[4:] for c in plain))
    columns = list(dict.fromkeys((c.place.computation, c.place.recurrence) for c in plain))
    columns.sort(key=lambda column: column[0], reverse=True)  # training first
    figure = Figure(
        figsize=(2.6 + 1.25 * len(columns), 1.5 + 0.55 * len(shapes)), dpi=120, layout="constrained"
    )
    panel = figure.subplots()
    least = min(min(log2(c.ratio) for c in plain), -1.0)
    largest = max(max(log2(c.ratio) for c in plain), 1.0)
    grid = [[float("nan")] * len(columns) for _ in shapes]
    for c in plain:
        line = shapes.index(c.place[4:])
        column = columns.index((c.place.computation, c.place.recurrence))
        grid[line][column] = log2(c.ratio)
        strong = log2(c.ratio) > 0.6 * largest or log2(c.ratio) < 0.6 * least
        panel.text(
            column,
            line,
            f"{c.ratio:.2f}\n{LABELS[c.rival.library]}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if strong else "black",
        )
    image = panel.imshow(grid, cmap="PuOr", norm=TwoSlopeNorm(0, least, largest), aspect="auto")
    panel.set_xticks(
        range(len(columns)), [f"{recurrence}\n{name}" for name, recurrence in columns], fontsize=8
    )
    panel.set_yticks(
        range(len(shapes)),
        [f"B {b}  T {t}  " + (f"H {h}" if i == h else f"I {i}  H {h}") for b, t, i, h in shapes],
        fontsize=8,
    )
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_title(
        "The best rival's time ÷ ours: above 1 (violet) rnnjax is faster", fontsize="medium"
    )
    bar = figure.colorbar(image, ax=panel, shrink=0.6)
    ticks = [n for n in range(-4, 6) if least <= n <= largest]
    bar.set_ticks(ticks, labels=[f"{2.0**n:g}" for n in ticks])
    return figure


def plot_libraries(rows: Sequence[RivalRow], found: Sequence[Comparison]) -> Figure:
    """Library × recurrence: geometric mean over the shapes of its time relative to ours."""
    places = measured_at(rows)
    names = [name for name in _libraries(rows) if name != OURS]
    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, computation in zip(panels, ("training", "forward"), strict=True):
        here = [c for c in found if c.place[:2] == ("plain", computation)]
        recurrences = list(dict.fromkeys(c.place.recurrence for c in here))
        for number, name in enumerate(names):
            for at, recurrence in enumerate(recurrences):
                ratios = [
                    _seconds(places[c.place][name, ""]) / _seconds(c.ours)
                    for c in here
                    if c.place.recurrence == recurrence and (name, "") in places[c.place]
                ]
                if not ratios:
                    continue
                x = at + 0.8 * ((number + 0.5) / len(names) - 0.5)
                mean = geometric_mean(ratios)
                panel.bar(x, mean, 0.8 / len(names), color=COLOURS[name], label=LABELS[name])
                panel.text(x, mean, f" {mean:.1f}", ha="center", va="bottom", rotation=90, size=7)
        panel.axhline(1, color=COLOURS[OURS], linewidth=1)
        panel.set_xticks(range(len(recurrences)), recurrences)
        panel.set_title(NAMES[computation], fontsize="medium")
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(y=0.15)
    panels[0].set_ylabel("time ÷ that of rnnjax (the line)")
    _legend(figure, panels)
    return figure


def plot_generation(rows: Sequence[RivalRow]) -> Figure:
    """Above, tokens a second of sampling; below, microseconds a step of streaming over H.

    Of a library the fastest way.
    """
    best: dict[Place, dict[str, RivalRow]] = {}
    for place, programs in measured_at(rows).items():
        for (name, _), row in programs.items():
            fastest = best.setdefault(place, {}).setdefault(name, row)
            if _seconds(row) < _seconds(fastest):
                best[place][name] = row
    best = {p: programs for p, programs in best.items() if p.kind in ("generation", "streaming")}
    recurrences = list(dict.fromkeys(place.recurrence for place in best))
    width = 4.5 * len(recurrences)
    figure = Figure(figsize=(max(width, 6), 6.4), dpi=120, layout="constrained")
    panels = figure.subplots(2, len(recurrences), squeeze=False)
    for column, recurrence in enumerate(recurrences):
        here = {place: best[place] for place in best if place.recurrence == recurrence}
        _bars(panels[0, column], {p: b for p, b in here.items() if p.kind == "generation"})
        _lines(panels[1, column], {p: b for p, b in here.items() if p.kind == "streaming"})
        panels[0, column].set_title(recurrence, fontsize="medium")
    panels[0, 0].set_ylabel("sampling: speed ÷ that of rnnjax")
    panels[1, 0].set_ylabel("streaming, B = 1: µs a step")
    _legend(figure, panels.ravel())
    return figure


def _bars(panel: Axes, places: Mapping[Place, Mapping[str, RivalRow]]) -> None:
    for at, programs in enumerate(places.values()):
        for number, (name, row) in enumerate(programs.items()):
            x = at + 0.8 * ((number + 0.5) / len(programs) - 0.5)
            height = _seconds(programs[OURS]) / _seconds(row)
            panel.bar(x, height, 0.8 / len(programs), color=COLOURS[name], label=LABELS[name])
            text = f" {tokens_a_second(row):,.0f}/s"
            panel.text(x, height, text, ha="center", va="bottom", size=7, rotation=90)
    labels = [f"B {p.batch_size}\n{p.layers} × H {p.hidden_size}" for p in places]
    panel.set_xticks(range(len(places)), labels, fontsize=8)
    panel.margins(y=0.3)
    panel.spines[["top", "right"]].set_visible(False)


def _lines(panel: Axes, places: Mapping[Place, Mapping[str, RivalRow]]) -> None:
    for name in dict.fromkeys(name for programs in places.values() for name in programs):
        found = sorted(
            (place.hidden_size, microseconds_a_step(programs[name]))
            for place, programs in places.items()
            if name in programs
        )
        panel.plot(*zip(*found, strict=True), "o-", color=COLOURS[name], label=LABELS[name])
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", base=2)
    panel.yaxis.set_major_formatter("{x:g}")
    sizes = sorted({place.hidden_size for place in places})
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.set_xlabel("H")
    panel.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, panels: Iterable[Axes]) -> None:
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
    )
