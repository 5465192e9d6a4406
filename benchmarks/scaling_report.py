"""The report of `benchmarks.scaling`: JSON, CSV, tables and a plot of its rows, and the model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from benchmarks.points_report import described_machine, sections_text
from benchmarks.report import csv_text, markdown_table, replace_figure, three_digits
from benchmarks.scaling_model import (
    ACCELERATORS,
    ASSUMPTIONS,
    DEVICES,
    LongScan,
    LSTMTraining,
    all_reduce_seconds,
    rounds_of_exchange,
    sequence_efficiency,
    strong_efficiency,
    weak_efficiency,
)
from rnnjax.training.files import replace_text

ALONE = "time, associative on one device"
ROWS_A_DEVICE, ROWS_IN_ALL = 64, 4096
COLOURS = {"rows": "#4477aa", "rows, parameters sharded": "#cc6633", "time": "#228833"}
STYLES = {"TPU v5p": "-", "H100": "--"}


@dataclass(frozen=True)
class Row:
    """One computation over so many devices."""

    computation: str
    devices: int
    collectives: str  # number and bytes of results of each kind, on each device
    sent_bytes: int  # by each device, where the devices are a ring
    seconds_lower_quartile: float
    seconds: float  # the median
    seconds_upper_quartile: float
    rounds: int


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


def efficiency_of(rows: Sequence[Row], row: Row) -> float:
    """The time of one device divided by that of a row, for the same work on the same cores."""
    wanted = ALONE if row.computation == "time" else row.computation
    (base,) = (r for r in rows if r.computation == wanted and r.devices == 1)
    return base.seconds / row.seconds


def report_text(command: str, date: str, conditions: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The tables as markdown, after a head that says what was measured where."""
    c = conditions
    head = [
        "# More devices",
        "",
        f"`{command}`, {date}.",
        f"Rows: a training step of an LSTM language model, B = {c['batch_size']}, "
        f"T = {c['time_steps']}, H = {c['hidden_size']}, V = {c['vocabulary_size']}. "
        f"Time: value and gradient of {c['linear_recurrence']}, B = {c['long_batch_size']}, "
        f"T = {c['long_time_steps']}, H = {c['hidden_size']}. All in float32.",
        *described_machine(conditions),
    ]
    return sections_text(
        head,
        [
            ("Communication of a step", _communication(rows)),
            ("Simulated devices", _simulated(rows, conditions)),
            ("A model on paper", _model()),
        ],
    )


def _communication(rows: Sequence[Row]) -> str:
    lines = [
        [r.computation, str(r.devices), r.collectives or "–", three_digits(r.sent_bytes / 2**20)]
        for r in rows
        if r.devices > 1
    ]
    header = ["computation", "devices", "collectives, and bytes of their results", "MiB sent"]
    return (
        "Read off the compiled program, on each device. Sent is what a device sends where they "
        "are a ring: 2 (n − 1) / n of an all-reduce, (n − 1) / n of an all-gather, all of a "
        "permutation.\n\n" + markdown_table(header, lines, labels=1)
    )


def _simulated(rows: Sequence[Row], conditions: Mapping[str, Any]) -> str:
    lines = [
        [
            row.computation,
            str(row.devices),
            f"{three_digits(row.seconds * 1e3)} "
            f"({three_digits(row.seconds_lower_quartile * 1e3)} … "
            f"{three_digits(row.seconds_upper_quartile * 1e3)})",
            f"{efficiency_of(rows, row):.0%}",
        ]
        for row in rows
    ]
    cores = conditions["machine"]["cores"]
    return (
        f"The devices share {cores} cores, which one device has to itself. This is no speed-up of "
        "devices: efficiency is the time of one device divided by that of the row, for the same "
        "work on the same cores, and 100 % says that sharing it costs nothing. More than that are "
        "cores which one device leaves idle in part of its work, and less is what the exchange, "
        "smaller products and waiting for each other take. Of time, one device runs "
        "`associative`. In milliseconds, median and quartiles of calls by turns.\n\n"
        + markdown_table(["computation", "devices", "ms", "efficiency"], lines, labels=1)
    )


def _model() -> str:
    training, scan = LSTMTraining(), LongScan()
    lines = []
    for accelerator in ACCELERATORS.values():
        for n in DEVICES:
            sum_seconds = all_reduce_seconds(accelerator, n, training.parameter_bytes)
            lines.append(
                [
                    accelerator.name,
                    str(n),
                    three_digits(sum_seconds * 1e3),
                    f"{weak_efficiency(accelerator, training, n, ROWS_A_DEVICE):.0%}",
                    f"{strong_efficiency(accelerator, training, n, ROWS_IN_ALL):.1%}",
                    str(rounds_of_exchange(n)),
                    f"{sequence_efficiency(accelerator, scan, n):.1%}",
                ]
            )
    header = [
        "accelerator", "devices", "sum of gradients, ms", "rows, weak", "rows, strong",
        "rounds each way", "time, strong",
    ]  # fmt: skip
    assumptions = "".join(f"- Assumed: {text}.\n" for text in ASSUMPTIONS)
    sources = "".join(f"- {a.name}: {a.source}.\n" for a in ACCELERATORS.values())
    return (
        "Nothing of this was measured. Efficiency is the speed-up over one accelerator divided by "
        f"their number. Rows: {training.layers} layers of LSTM, I = H = {training.hidden_size}, "
        f"T = {training.time_steps}, {three_digits(training.parameter_bytes / 2**20)} MiB of "
        f"gradients; weak with {ROWS_A_DEVICE} rows a device, strong with {ROWS_IN_ALL} in all. "
        f"Time: a minimal GRU, I = H = {scan.hidden_size}, {scan.rows} row of T = "
        f"{scan.time_steps}, {scan.sent_a_round} bytes a round.\n\n"
        f"{sources}{assumptions}\n" + markdown_table(header, lines, labels=1)
    )


def plot(rows: Sequence[Row]) -> Figure:
    """Left the efficiency on simulated devices, right that of the model."""
    figure = Figure(figsize=(10, 4.4), dpi=130, layout="constrained")
    measured, model = figure.subplots(1, 2)
    for computation, colour in COLOURS.items():
        here = [row for row in rows if row.computation == computation]
        measured.plot(
            [row.devices for row in here],
            [efficiency_of(rows, row) for row in here],
            color=colour,
            marker="o",
            label=computation,
        )
    measured.set_title("measured: simulated devices on the same cores", loc="left", fontsize=10)
    training, scan = LSTMTraining(), LongScan()
    for accelerator in ACCELERATORS.values():
        for label, colour, of in (
            ("rows, weak", "#4477aa", lambda a, n: weak_efficiency(a, training, n, ROWS_A_DEVICE)),
            (
                "rows, strong",
                "#66ccee",
                lambda a, n: strong_efficiency(a, training, n, ROWS_IN_ALL),
            ),
            ("time, strong", "#228833", lambda a, n: sequence_efficiency(a, scan, n)),
        ):
            model.plot(
                DEVICES,
                [of(accelerator, n) for n in DEVICES],
                color=colour,
                linestyle=STYLES[accelerator.name],
                label=f"{label}, {accelerator.name}",
            )
    model.set_title("model on paper: accelerators", loc="left", fontsize=10)
    for panel, devices in ((measured, sorted({row.devices for row in rows})), (model, DEVICES)):
        panel.set_xscale("log", base=2)
        panel.set_xticks(devices)
        panel.xaxis.set_major_formatter("{x:.0f}")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
        panel.set_ylim(0, max(1.05, panel.get_ylim()[1]))
        panel.set_xlabel("devices")
        panel.grid(visible=True, color="#dddddd", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8)
    measured.set_ylabel("efficiency")
    return figure
