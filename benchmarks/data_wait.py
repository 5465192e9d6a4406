"""What share of its time the training loop waits for data.

    python -m benchmarks.data_wait --preset quick    # a first look
    python -m benchmarks.data_wait                   # the model and batches of `make demo`

The loop is that of every run, `rnnjax.training.loop.train`, and the share is what a run logs as
`train/waiting_for_data`. Batches come from three sources: windows of continuous streams, as in
`make demo`; rows packed from a `datasets.Dataset`; and the streams with a pause before each batch,
of half the time of a step, as a slow disk would make. Each with batches made beforehand, and with
each made when it is asked for. The output folder gets `results.json`, `results.csv` and `table.md`.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import datasets
import jax
import numpy as np

from benchmarks.points import conditions_of, parse_command_line, run_command_line
from benchmarks.report import csv_text, markdown_table, three_digits
from rnnjax.models.language_model import (
    LanguageModelConfig,
    init_language_model,
    initial_state,
    language_model_loss,
)
from rnnjax.plans.protocol import check_size
from rnnjax.text.packing import packed_batches
from rnnjax.text.streams import TextBatch, lay_out, window
from rnnjax.training.files import replace_text
from rnnjax.training.loop import train
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.step import TrainState, initial_train_state, make_train_step

PROGRAM = "python -m benchmarks.data_wait"
PAUSE = 0.5  # of a step, before each batch of the slow source


@dataclass(frozen=True)
class Config:
    """The share of time that training waits for data.

    Raises:
        ValueError: A number is below one.
    """

    preset: Literal["quick", "full"] = "full"
    """Where the defaults of all other flags come from."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """H of each LSTM, bottom first."""
    embedding_size: int = 64
    """E."""
    vocabulary_size: int = 96
    """V."""
    batch_size: int = 32
    """B."""
    window: int = 64
    """T."""
    tokens: int = 1_000_000
    """Tokens of the corpus, drawn at random."""
    steps: int = 30
    """Steps of a measurement, after one that is not counted."""
    rounds: int = 3
    """How often each is measured, all taking turns; medians are reported."""
    batches_ahead: int = 2
    """How many batches are made beforehand, where any are."""
    out: Path = Path("docs/results/data_wait")
    """The output folder."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "window", "tokens", "steps", "rounds", "batches_ahead"):
            check_size(name, getattr(self, name))


PRESETS: Mapping[str, Config] = {
    "full": Config(),
    "quick": Config(
        preset="quick",
        hidden_sizes=(16,),
        embedding_size=8,
        batch_size=8,
        window=16,
        tokens=20_000,
        steps=10,
        rounds=1,
        out=Path("runs/data_wait_quick"),
    ),
}


@dataclass(frozen=True)
class Row:
    """One source of batches."""

    source: str
    batches_ahead: int
    batch_ms: float  # to make one batch, with nothing beside it
    steps_per_second: float
    waiting_share: float


def sources(config: Config, pause_seconds: float) -> dict[str, Callable[[int], TextBatch]]:
    """Name -> `batch_at`."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, config.vocabulary_size, config.tokens, dtype=np.int32)
    streams = lay_out(tokens, config.batch_size, begin_id=0)
    lengths = rng.integers(1, config.window + 1, config.tokens // config.window)
    rows = np.split(tokens[: lengths.sum()], np.cumsum(lengths)[:-1])
    inputs = [np.concatenate([[0], row[:-1]]) for row in rows]
    data = datasets.Dataset.from_dict({"inputs": inputs, "targets": rows})
    packed = packed_batches(
        data, ["inputs", "targets"], steps=config.window, batch_size=config.batch_size
    )

    def from_packed(step: int) -> TextBatch:
        batch = packed(step)
        return TextBatch(
            batch.columns["inputs"], batch.columns["targets"], batch.resets, batch.weights
        )

    def slowly(step: int) -> TextBatch:
        time.sleep(pause_seconds)
        return window(streams, step, config.window)

    return {
        "streams": lambda step: window(streams, step, config.window),
        "packed": from_packed,
        "streams, slow": slowly,
    }


def run(config: Config, command: str) -> list[Row]:
    """Measure each source with and without batches made beforehand, and write the report."""
    model = LanguageModelConfig(
        config.vocabulary_size, "lstm", config.hidden_sizes, config.embedding_size
    )
    optimizer = build_optimizer(OptimizerConfig(total_steps=config.steps + 1))
    params = init_language_model(jax.random.key(0), model)
    memory = initial_state(model, params, (config.batch_size,))
    train_step = make_train_step(partial(language_model_loss, model), optimizer)

    def new_state() -> TrainState:
        return initial_train_state(params, optimizer, memory, jax.random.key(1))

    def measure(name: str, batch_at: Callable[[int], TextBatch], ahead: int) -> Row:
        started = time.monotonic()
        for step in range(5):
            batch_at(step)
        batch_ms = (time.monotonic() - started) / 5 * 1e3
        total = config.steps + 1
        metrics = train(
            new_state(),
            train_step,
            batch_at,
            total_steps=total,
            log_every=total,
            batches_ahead=ahead,
        ).metrics
        rate, share = metrics["steps_per_second"], metrics["waiting_for_data"]
        print(f"{name}, {ahead} ahead: {share:.1%}", file=sys.stderr, flush=True)
        return Row(name, ahead, batch_ms, rate, share)

    streams = sources(config, 0.0)["streams"]
    step_seconds = 1 / measure("to warm up", streams, config.batches_ahead).steps_per_second
    points = [
        (name, batch_at, ahead)
        for name, batch_at in sources(config, PAUSE * step_seconds).items()
        for ahead in (config.batches_ahead, 0)
    ]
    # Every other round goes backwards, so that none is always first.
    measured: list[list[Row]] = [[] for _ in points]
    for round_number in range(config.rounds):
        for index in range(len(points))[:: -1 if round_number % 2 else 1]:
            measured[index].append(measure(*points[index]))
    rows = [median_row(of_point) for of_point in measured]
    write_report(config, command, rows)
    return rows


def median_row(rows: list[Row]) -> Row:
    """The medians of several measurements of one source."""
    names = ("batch_ms", "steps_per_second", "waiting_share")
    return replace(rows[0], **{n: median(getattr(row, n) for row in rows) for n in names})


def write_report(config: Config, command: str, rows: list[Row]) -> None:
    """Write `results.json`, `results.csv` and `table.md`, each replaced atomically."""
    config.out.mkdir(parents=True, exist_ok=True)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    conditions = conditions_of(asdict(config) | {"out": str(config.out)})
    records: list[dict[str, Any]] = [asdict(row) for row in rows]
    results = {"command": command, "date": date, **conditions, "rows": records}
    replace_text(config.out / "results.json", json.dumps(results, indent=1) + "\n")
    replace_text(config.out / "results.csv", csv_text(records))
    replace_text(config.out / "table.md", report_text(command, date, conditions, rows))


def report_text(command: str, date: str, conditions: Mapping[str, Any], rows: list[Row]) -> str:
    """The table as markdown, after a head that says what was measured where."""
    machine, versions = conditions["machine"], conditions["versions"]
    table = markdown_table(
        ("batches", "made beforehand", "ms a batch", "steps/s", "waiting for data"),
        [
            (
                row.source,
                str(row.batches_ahead),
                three_digits(row.batch_ms),
                three_digits(row.steps_per_second),
                f"{row.waiting_share:.1%}",
            )
            for row in rows
        ],
        labels=1,
    )
    return f"""# Waiting for data

`{command}`, {date}.
{machine["cpu"]}, {machine["cores"]} cores, {machine["system"]} ({machine["architecture"]}).
{", ".join(f"{name} {value}" for name, value in versions.items() if value)}.

LSTMs of {conditions["hidden_sizes"]} units, B = {conditions["batch_size"]},
T = {conditions["window"]}.
Medians of {conditions["rounds"]} measurements of {conditions["steps"]} steps, all taking turns.
"Slow" pauses for half the time of a step before each batch.

{table}"""


parse = partial(parse_command_line, PROGRAM, PRESETS)
"""Words -> config, see `parse_command_line`."""

if __name__ == "__main__":
    run_command_line(PROGRAM, parse, run)
