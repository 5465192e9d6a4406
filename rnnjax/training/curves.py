"""Curves of several runs over each other, as SVG that takes its colours from the page it is in."""

import io
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

from rnnjax.training.plots import column, label_of
from rnnjax.training.recorded_run import RecordedRun

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
except ImportError as error:
    raise ImportError(
        "rnnjax.training.curves needs matplotlib: pip install 'rnnjax-lib[train]'"
    ) from error

TRAIN, HELD_OUT = "train", "held_out"
FIRST = ("loss",)  # of the charts; then what is held out, then these, then the others by name
THEN = ("gradient_norm", "learning_rate", "steps_per_second")
ALWAYS_LOGARITHMIC = ("gradient_norm", "clipped_gradient_norm")
COLOURS = 7  # the page has so many, --run-0 to --run-6; later runs have them again, dashed
DASHES: tuple[Any, ...] = ("solid", (0, (4, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
MOST_POINTS = 1000  # of a curve; of more, the means of as many neighbours as need be

# Colours that nothing else has, replaced by the page's variables.
RUN, INK, GRID, LIMIT = "#0101{:02x}", "#020201", "#020202", "#020203"
VARIABLES = {INK: "var(--ink)", GRID: "var(--grid)", LIMIT: "var(--limit)"}
SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"


class Series(NamedTuple):
    """One curve: of which run, of training or held-out data."""

    run: int
    part: str
    steps: list[int]
    values: list[float]  # NaN is a gap


class Level(NamedTuple):
    """A horizontal line with a label: a baseline, or where gradients are clipped."""

    value: float
    label: str


class Drawing(NamedTuple):
    """An SVG element, and where its axes are, in its own units: for what follows the pointer."""

    svg: str
    is_logarithmic: bool
    left: float
    right: float
    top: float
    bottom: float
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]


class Chart(NamedTuple):
    """All curves of one quantity, drawn once or, where a logarithm is another choice, twice."""

    quantity: str
    title: str
    series: list[Series]
    drawings: list[Drawing]
    averaged: int  # how many neighbouring values the longest curve was thinned by; 1 for none


def charts(runs: Sequence[RecordedRun]) -> list[Chart]:
    """One chart for each quantity that a run logged as `train/NAME` or `held_out/NAME`."""
    logged = {name for run in runs for record in run.records for name in record if "/" in name}
    held_out = {name.partition("/")[2] for name in logged if name.startswith(f"{HELD_OUT}/")}
    quantities = {name.partition("/")[2] for name in logged}

    def place(quantity: str) -> tuple[int, str]:
        if quantity in FIRST:
            return 0, quantity
        if quantity in held_out:
            return 1, quantity
        return (2 + THEN.index(quantity), "") if quantity in THEN else (9, quantity)

    drawn = (_chart(runs, quantity) for quantity in sorted(quantities, key=place))
    return [chart for chart in drawn if chart is not None]


def _chart(runs: Sequence[RecordedRun], quantity: str) -> Chart | None:
    series, averaged = [], 1
    for number, run in enumerate(runs):
        for part in (TRAIN, HELD_OUT):
            steps, values = column(run.records, f"{part}/{quantity}")
            if any(map(math.isfinite, values)):
                every = math.ceil(len(steps) / MOST_POINTS)
                averaged = max(averaged, every)
                series.append(Series(number, part, *_thinned(steps, values, every)))
    if not series:
        return None
    levels = list(dict.fromkeys(_levels(runs, quantity)))
    finite = [value for one in series for value in one.values if math.isfinite(value)]
    scales = [False, True] if min(finite) > 0 else [False]
    if quantity in ALWAYS_LOGARITHMIC:
        scales = scales[-1:]
    name = re.sub(r"\W+", "-", quantity)
    drawings = [_drawing(name, quantity, series, levels, is_log, len(runs)) for is_log in scales]
    return Chart(quantity, label_of(quantity), series, drawings, averaged)


def _thinned(steps: list[int], values: list[float], every: int) -> tuple[list[int], list[float]]:
    starts = range(0, len(steps), every)
    groups = [values[start : start + every] for start in starts]
    last = [steps[min(start + every, len(steps)) - 1] for start in starts]
    return last, [sum(group) / len(group) for group in groups]


def _levels(runs: Sequence[RecordedRun], quantity: str) -> Iterator[Level]:
    for run in runs:
        if quantity == run.report.get("metric"):
            for name, value in run.report.get("baselines", {}).get("validation", {}).items():
                yield Level(value, f"{name} {value:.4g}")
        clip = run.config.get("optimizer.clip_norm")
        if quantity == "gradient_norm" and isinstance(clip, int | float):
            yield Level(clip, f"clipped to {clip:g}")


def _drawing(
    name: str,
    quantity: str,
    series: Sequence[Series],
    levels: Sequence[Level],
    is_logarithmic: bool,
    runs: int,
) -> Drawing:
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 9.5,
        "text.color": INK,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "text.parse_math": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(5, 3.1), dpi=72, layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        _draw(axes, quantity, series, levels, is_logarithmic)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # what follows must find the axes where they are now
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    box, (width, height) = axes.get_window_extent(), figure.canvas.get_width_height()
    scale = "log" if is_logarithmic else "linear"
    svg = _for_a_page(text.getvalue(), f"{name}-{scale}", runs)
    return Drawing(
        svg.replace("<svg ", f'<svg class="{scale}" viewBox="0 0 {width} {height}" ', 1),
        is_logarithmic,
        box.x0,
        box.x1,
        height - box.y1,
        height - box.y0,
        axes.get_xlim(),
        axes.get_ylim(),
    )


def _draw(
    axes: Axes,
    quantity: str,
    series: Sequence[Series],
    levels: Sequence[Level],
    is_logarithmic: bool,
) -> None:
    axes.set_facecolor("none")
    has_two_parts = {one.run for one in series if one.part == HELD_OUT} & {
        one.run for one in series if one.part == TRAIN
    }
    for run, part, steps, values in series:
        is_held_out = part == HELD_OUT
        axes.plot(
            steps,
            values,
            color=RUN.format(run % COLOURS),
            linestyle=DASHES[run // COLOURS % len(DASHES)],
            linewidth=1.7 if is_held_out else 1.2,
            alpha=0.55 if run in has_two_parts and not is_held_out else 1.0,
            marker="o" if is_held_out else "." if len(steps) == 1 else "",
            markersize=3 if is_held_out else 6,
            gid=f"run-{run}-{part}",
        )
    if is_logarithmic:
        axes.set_yscale("log")
        finite = [value for one in series for value in one.values if math.isfinite(value)]
        is_wide = max(finite) > 30 * min(finite)
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if is_wide else (1, 2, 3, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if quantity == "learning_rate":
            axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.set_xlabel("Training step")
    for value, label in levels:
        axes.axhline(value, color=LIMIT, linewidth=1, linestyle=(0, (5, 3)))
        axes.annotate(
            label,
            (1, value),
            (0, 2),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="bottom",
            color=LIMIT,
            fontsize=8.5,
        )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _for_a_page(document: str, prefix: str, runs: int) -> str:
    """The SVG element without what would reach beyond it: sizes, styles, names of its parts."""
    root = ElementTree.fromstring(document)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{SVG}metadata", f"{SVG}style"):
                parent.remove(child)
    for name in ("width", "height", "viewBox", "version"):
        root.attrib.pop(name, None)
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        if XLINK in element.attrib:
            element.set("href", element.attrib.pop(XLINK))
        for name, value in element.items():
            if name == "id":
                found = re.fullmatch(r"run-(\d+)-(\w+)", value)
                if found:
                    element.set("data-run", found[1])
                element.set("id", f"{prefix}-{value}")
            elif name == "href":
                element.set(name, value.replace("#", f"#{prefix}-"))
            else:
                element.set(name, value.replace("url(#", f"url(#{prefix}-"))
    root.set("aria-hidden", "true")  # the figure it stands in says in words what it shows
    text = ElementTree.tostring(root, encoding="unicode")
    variables = VARIABLES | {RUN.format(i): f"var(--run-{i})" for i in range(min(runs, COLOURS))}
    for colour, variable in variables.items():
        text = text.replace(colour, variable)
    return re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 system-ui, sans-serif", text)
