"""What fresh memory costs a training step: glibc as it is, and glibc keeping what is freed.

    python -m benchmarks.allocation --preset quick    # about a minute, for a first look
    python -m benchmarks.allocation                   # preset full, some minutes

XLA asks the C library for all temporaries of a program in one block, anew each call. glibc maps
blocks above 32 MB afresh every time, whatever its threshold is set to, and the kernel fills each
page with zeros at its first touch. The environment variables `KEEP` have it take such blocks from
its heap and keep them there. They are read when a process starts, so each measurement has a process
of its own; those of a place take turns. The output folder gets `results.json`, `results.csv` and
`table.md`.
"""

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax

import rnnjax
from benchmarks.child_process import Send, child_process
from benchmarks.measure import compile_program
from benchmarks.points import (
    StartChild,
    conditions_of,
    parse_command_line,
    refuse_out_of_range,
    refuse_unknown,
    run_command_line,
    settings_of_a_process,
    training_step_of,
)
from benchmarks.report import csv_text, markdown_table, three_digits
from rnnjax.training.files import replace_text

PROGRAM = "python -m benchmarks.allocation"
KEEP = {
    "MALLOC_ARENA_MAX": "1",  # one heap, which grows without bound; those of other threads do not
    "MALLOC_MMAP_MAX_": "0",  # nothing is mapped by itself
    "MALLOC_TRIM_THRESHOLD_": str(2**33),  # bytes at the heap's end that are kept
    "MALLOC_TOP_PAD_": str(2**26),  # bytes by which the heap grows
}
ALLOCATORS: Mapping[str, Mapping[str, str]] = {"as it is": {}, "keeps": KEEP}
START_SECONDS = 300.0

Place = tuple[str, int, int, int]


@dataclass(frozen=True)
class Config:
    """Training steps with fresh memory and with kept memory.

    Raises:
        ValueError: A name is unknown or a number out of range.
    """

    preset: Literal["quick", "full"] = "full"
    """Where the defaults of all other flags come from."""
    places: tuple[Place, ...] = (
        ("lstm", 128, 64, 256),
        ("gru", 128, 64, 256),
        ("lstm", 128, 8, 1024),
        ("lstm", 16, 512, 512),
        ("lstm", 32, 128, 256),
    )
    """Recurrence, B, T and H, with I = H."""
    plans: tuple[str, ...] = ("native", "fused", "reference")
    """Names of plans."""
    turns: int = 5
    """Processes of each kind."""
    calls: int = 15
    """Timed calls of a process."""
    out: Path = Path("docs/results/allocation")
    """The output folder."""

    def __post_init__(self) -> None:
        refuse_unknown("places", [p[0] for p in self.places], rnnjax.recurrences.REGISTRY)
        refuse_unknown("plans", self.plans, rnnjax.plans.REGISTRY)
        for argument in ("places", "plans"):
            if not getattr(self, argument):
                raise ValueError(f"{argument}: got none, expected at least one")
        for place in self.places:
            if min(place[1:]) < 1:
                raise ValueError(f"places: got {place}, expected at least 1 of each size")
        refuse_out_of_range(
            self, once=("places", "plans"), at_least_1=("turns", "calls"), more_than_0=()
        )


PRESETS: Mapping[str, Config] = {
    "full": Config(),
    "quick": Config(
        preset="quick",
        places=(("lstm", 128, 64, 256),),
        turns=2,
        calls=5,
        out=Path("runs/allocation_quick"),
    ),
}


@dataclass(frozen=True)
class Measured:
    """One process: medians over its calls, and what a call cost the kernel in the mean."""

    seconds: float
    page_faults: float
    system_seconds: float  # of all threads
    temporary_bytes: int | None


@dataclass(frozen=True)
class Row:
    """One plan at one place under one allocator: medians over the processes."""

    recurrence: str
    batch_size: int
    time_steps: int
    hidden_size: int
    plan: str
    allocator: str
    seconds: float
    least_seconds: float
    most_seconds: float
    page_faults: float
    system_seconds: float
    temporary_bytes: int | None


def examine_in_child(send: Send, place: Place, plan: str, calls: int) -> None:
    """`examine`, after the settings that hold for a whole process."""
    settings_of_a_process("float32")
    send(examine(place, plan, calls))


def examine(place: Place, plan: str, calls: int) -> Measured:
    """Time training steps in this process."""
    name, batch_size, time_steps, hidden_size = place
    recurrence = rnnjax.recurrences.REGISTRY[name]
    params = recurrence.init(jax.random.key(0), hidden_size, hidden_size, dtype="float32")
    xs = jax.random.normal(jax.random.key(1), (time_steps, batch_size, hidden_size), "float32")
    step = training_step_of(recurrence, rnnjax.plans.REGISTRY[plan])
    compiled, cost = compile_program(step, (params, xs))
    for _ in range(2):
        jax.block_until_ready(compiled(params, xs))
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        jax.block_until_ready(compiled(params, xs))
        seconds.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return Measured(
        statistics.median(seconds),
        (after.ru_minflt - before.ru_minflt) / calls,
        (after.ru_stime - before.ru_stime) / calls,
        cost.temporary_bytes,
    )


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables for the processes started meanwhile; none of `KEEP` but these."""
    earlier = {name: os.environ.pop(name) for name in KEEP if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(earlier)


def measure_place(
    config: Config, place: Place, plan: str, start_child: StartChild = child_process
) -> list[Row]:
    """A row for each allocator; their processes take turns."""
    measured: dict[str, list[Measured]] = {allocator: [] for allocator in ALLOCATORS}
    for _ in range(config.turns):
        for allocator, variables in ALLOCATORS.items():
            with (
                environment(variables),
                start_child(examine_in_child, place, plan, config.calls) as receive,
            ):
                measured[allocator].append(receive(START_SECONDS))
    return [
        Row(
            *place,
            plan,
            allocator,
            statistics.median(m.seconds for m in of_one),
            min(m.seconds for m in of_one),
            max(m.seconds for m in of_one),
            statistics.median(m.page_faults for m in of_one),
            statistics.median(m.system_seconds for m in of_one),
            of_one[0].temporary_bytes,
        )
        for allocator, of_one in measured.items()
    ]


def run(config: Config, command: str, start_child: StartChild = child_process) -> list[Row]:
    """Measure all places, and write the report."""
    rows: list[Row] = []
    for place in config.places:
        for plan in config.plans:
            rows += measure_place(config, place, plan, start_child)
            print(f"{place} {plan}: done", file=sys.stderr, flush=True)
    conditions = conditions_of(asdict(config) | {"out": str(config.out)})
    date = datetime.now(UTC).isoformat(timespec="seconds")
    write_report(config.out, command, date, conditions, rows)
    return rows


def write_report(
    folder: Path, command: str, date: str, conditions: Mapping[str, Any], rows: Sequence[Row]
) -> None:
    """Write `results.json`, `results.csv` and `table.md`, each replaced atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [asdict(row) for row in rows]
    results = {"command": command, "date": date, **conditions, "rows": records}
    replace_text(folder / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    replace_text(folder / "results.csv", csv_text(records))
    replace_text(folder / "table.md", report_text(command, date, conditions, rows))


def report_text(command: str, date: str, conditions: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The table as markdown, after a head that says what was measured where."""
    machine, versions = conditions["machine"], conditions["versions"]
    keep = " ".join(f"{name}={value}" for name, value in KEEP.items())
    lines = [
        "# Fresh memory and kept memory",
        "",
        f"`{command}`, {date}.",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']} ({machine['architecture']}).",
        ", ".join(f"{name} {value}" for name, value in versions.items() if value) + ".",
        "",
        f"A training step, I = H, float32. “Keeps” is glibc with `{keep}`. Each measurement had a "
        f"process of its own, {conditions['turns']} of each kind by turns, of "
        f"{conditions['calls']} calls; times are medians of medians, in brackets the least and the "
        "most of them. Page faults and the system's time, of all threads, are for one call.",
        "",
        "",
    ]
    by_place = {
        (*_place(row), row.plan): {r.allocator: r for r in rows if _same(r, row)} for row in rows
    }
    header = ("recurrence", "B", "T", "H", "plan", "temporaries", "as it is", "keeps", "keeps ÷")
    header += ("page faults", "keeps", "system's time", "keeps")
    cells = [
        (
            *map(str, place),
            "–" if fresh.temporary_bytes is None else f"{fresh.temporary_bytes / 2**20:.0f} MiB",
            *map(_spread, (fresh, kept)),
            three_digits(kept.seconds / fresh.seconds),
            *(f"{row.page_faults:.0f}" for row in (fresh, kept)),
            *(f"{row.system_seconds * 1e3:.1f} ms" for row in (fresh, kept)),
        )
        for place, (fresh, kept) in ((p, by.values()) for p, by in by_place.items())
    ]
    return "\n".join(lines) + markdown_table(header, cells, labels=5)


def _place(row: Row) -> Place:
    return row.recurrence, row.batch_size, row.time_steps, row.hidden_size


def _same(row: Row, other: Row) -> bool:
    return (_place(row), row.plan) == (_place(other), other.plan)


def _spread(row: Row) -> str:
    least, most = (f"{seconds * 1e3:.1f}" for seconds in (row.least_seconds, row.most_seconds))
    return f"{row.seconds * 1e3:.1f} ms ({least} … {most})"


parse = partial(parse_command_line, PROGRAM, PRESETS)
"""Words -> config, see `parse_command_line`."""

if __name__ == "__main__":
    run_command_line(PROGRAM, parse, run)
