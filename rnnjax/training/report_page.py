"""A page that compares runs: one HTML file that needs nothing else and shows what happened."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rnnjax.training.curves import COLOURS, DASHES, HELD_OUT, TRAIN, Chart, Drawing, charts
from rnnjax.training.plots import label_of
from rnnjax.training.recorded_run import RecordedRun, flattened

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
except ImportError as error:
    raise ImportError(
        "rnnjax.training.report_page needs jinja2: pip install 'rnnjax-lib[train]'"
    ) from error

ABSENT = "–"
MAIN = {"loss", "gradient_norm", "learning_rate"}  # and the metric; the rest is folded away
PARTS = {TRAIN: "training", HELD_OUT: "held-out"}
DIGITS = 4


class Row(NamedTuple):
    """A line of a table: a cell for each run; `differs` if they are not all the same."""

    label: str
    cells: list[str]
    best: tuple[int, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether the runs differ here."""
        return len(set(self.cells)) > 1


def report_page(runs: Sequence[RecordedRun]) -> str:
    """The page, as text: curves, scores beside baselines, configs, samples and origins of runs.

    Everything read from a run is escaped. Without scripts all but the legend's switches and the
    values under the pointer is there.

    Raises:
        ValueError: there is no run.
    """
    if not runs:
        raise ValueError("runs: got none, expected at least one")
    drawn = charts(runs)
    metrics = {run.report["metric"] for run in runs if "metric" in run.report}
    held_out = {one.quantity for one in drawn if any(s.part == HELD_OUT for s in one.series)}
    main = [chart for chart in drawn if chart.quantity in MAIN | (metrics or held_out)]
    more = [chart for chart in drawn if chart not in main]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    settings = _rows([run.config for run in runs])
    return environment.get_template("report.html").render(
        runs=runs,
        colours=COLOURS,
        dashes=len(DASHES),
        charts=main,
        more_charts=more,
        described=[_described(chart, runs) for chart in main + more],
        data=[_data(chart) for chart in main + more],
        scores=list(_scores(runs)),
        is_other_data=_other_data(runs),
        baselines=list(_baselines(runs)),
        baseline_unit=f": {label_of(*metrics).lower()}" if len(metrics) == 1 else "",
        settings=settings,
        origins=_rows([dict(_origin(run)) for run in runs]),
        samples=[_samples(run) for run in runs],
    )


def _number(value: float) -> str:
    """Integers in full, others to four digits or to the unit."""
    is_whole = isinstance(value, int) or abs(value) >= 10**DIGITS
    return f"{value:,.0f}" if is_whole else f"{value:.{DIGITS}g}"


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    return value if isinstance(value, str) else repr(value)


def _rows(columns: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row for each name that any run has."""
    names = dict.fromkeys(name for column in columns for name in column)
    return [
        Row(name, [_text(column[name]) if name in column else ABSENT for column in columns])
        for name in names
    ]


def _origin(run: RecordedRun) -> Iterator[tuple[str, Any]]:
    """What the last start was, and when the first one."""
    if not run.starts:
        return
    last = dict(flattened(run.starts[-1]))
    yield "command", last.pop("command", ABSENT)
    yield "started", " · ".join(_text(start.get("started", ABSENT)) for start in run.starts)
    for name, value in last.items():
        is_digest = name.startswith("fingerprint.") and isinstance(value, str)
        yield name, value[:12] if is_digest else value


def _other_data(runs: Sequence[RecordedRun]) -> bool:
    """Whether runs that have a report say that they were made with different data."""
    return len(set[str]().union(*(run.digests("data") for run in runs if run.report))) > 1


def _scores(runs: Sequence[RecordedRun]) -> Iterator[Row]:
    """What the reports say of the test split."""
    tests = [run.report.get("test", {}) for run in runs]
    for name in dict.fromkeys(name for test in tests for name in test):
        values = [test.get(name) for test in tests]
        best: tuple[int, ...] = ()
        senses = {
            run.report.get("lower_is_better")
            for run in runs
            if run.report.get("metric") == name and name in run.report.get("test", {})
        }
        known = [value for value in values if value is not None]
        if len(senses) == 1 and None not in senses and len(known) > 1 and not _other_data(runs):
            target = min(known) if senses == {True} else max(known)
            best = tuple(i for i, value in enumerate(values) if value == target)
        cells = [ABSENT if value is None else _number(value) for value in values]
        yield Row(label_of(name), cells, best)
    for name in ("parameters", "step"):
        cells = [_number(run.report[name]) if name in run.report else ABSENT for run in runs]
        if set(cells) != {ABSENT}:
            yield Row("Step of the model" if name == "step" else label_of(name), cells)


def _baselines(runs: Sequence[RecordedRun]) -> Iterator[Row]:
    tests = [run.report.get("baselines", {}).get("test", {}) for run in runs]
    for name in dict.fromkeys(name for test in tests for name in test):
        yield Row(name, [_number(test[name]) if name in test else ABSENT for test in tests])


def _samples(run: RecordedRun) -> list[list[tuple[str, str]]]:
    """Each a list of (what it is, text)."""
    given = run.report.get("samples", [])
    if "sample" in run.report:
        given = [run.report["sample"], *given]
    return [[("", one)] if isinstance(one, str) else list(one.items()) for one in given]


def _described(chart: Chart, runs: Sequence[RecordedRun]) -> str:
    """The picture in words."""
    parts = []
    for run, part, steps, values in chart.series:
        finite = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
        (first_step, first), (last_step, last) = finite[0], finite[-1]
        parts.append(
            f"{runs[run].name}, {PARTS[part]}: {_number(first)} at step "
            f"{first_step:,}, {_number(last)} at step {last_step:,}"
        )
    return f"{chart.title} by training step. {'; '.join(parts)}."


def _data(chart: Chart) -> dict[str, Any]:
    """What the page's script needs to show values under the pointer."""
    return {
        "series": [
            {
                "run": one.run,
                "part": PARTS[one.part],
                "steps": one.steps,
                "values": [float(f"{v:.6g}") if math.isfinite(v) else None for v in one.values],
            }
            for one in chart.series
        ],
        "drawings": [_axes(drawing) for drawing in chart.drawings],
    }


def _axes(drawing: Drawing) -> dict[str, Any]:
    fields = drawing._asdict()
    del fields["svg"]
    return {name: list(map(float, v)) if isinstance(v, tuple) else v for name, v in fields.items()}
