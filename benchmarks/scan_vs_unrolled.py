"""Scan against the loop written out, and every other plan: time, compile time and memory.

    python -m benchmarks.scan_vs_unrolled --preset quick    # about a minute, for a first look
    python -m benchmarks.scan_vs_unrolled                   # preset full, see `PRESETS`

A point is one recurrence at one T. It is measured in a process of its own, where all plans take
turns, forward and training step (value and gradient by parameters and inputs). Each point is
appended to `points.jsonl` in the output folder as soon as it is measured, so that the same
command goes on where a killed one ended; at the end `results.json`, `results.csv`, `table.md` and
the plots replace the earlier ones, and `points.jsonl` goes.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from math import log
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import tyro
from jax import Array

import rnnjax
from benchmarks.child_process import (
    ChildEndedError,
    ChildTookTooLongError,
    Receive,
    Send,
    child_process,
)
from benchmarks.machine import versions_record
from benchmarks.measure import (
    CompileCost,
    Spread,
    compile_program,
    interleaved_seconds,
    peak_resident_increase,
    spread,
    without_stored_programs,
)
from benchmarks.report import append_record, read_records
from benchmarks.scan_vs_unrolled_report import MEASURED, Row, write_report
from rnnjax.training.machine import machine_record

COMPUTATIONS = ("training", "forward")
UNROLLED = "unrolled"
POINTS = "points.jsonl"
START_SECONDS = 300.0  # for a child to import JAX and compile a first program

StartChild = Callable[..., AbstractContextManager[Receive]]


def _refuse_unknown(argument: str, names: Sequence[str], known: Mapping[str, object]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{argument}: got {name!r}, expected some of {', '.join(known)}")


@dataclass(frozen=True)
class Config:
    """Scan against unrolled: run time, compile time and memory of every plan.

    Raises:
        ValueError: A name is unknown or a number out of range.
    """

    preset: Literal["quick", "full"] = "full"
    """Where the defaults of all other flags come from."""
    recurrences: tuple[str, ...] = tuple(rnnjax.recurrences.REGISTRY)
    """Names of recurrences."""
    time_steps: tuple[int, ...] = (16, 64, 256, 1024, 4096)
    """T."""
    plans: tuple[str, ...] = ("reference", UNROLLED, "fused", "checkpointed")
    """Names of plans; the reference is what all are compared with."""
    unroll_by: tuple[int, ...] = (2, 4, 8)
    """Steps an iteration of the partly unrolled scans."""
    batch_size: int = 16
    """B."""
    input_size: int = 64
    """I."""
    hidden_size: int = 64
    """H."""
    dtype: Literal["float32", "float64"] = "float32"
    """Of parameters and inputs."""
    budget_seconds: float = 5.0
    """About how long the timed rounds of one point and computation take; at least 5 rounds."""
    compile_limit_seconds: float = 180.0
    """A program whose compilation takes longer, or is expected to, is left out."""
    out: Path = Path("docs/results/scan_vs_unrolled")
    """The output folder."""

    def __post_init__(self) -> None:
        _refuse_unknown("recurrences", self.recurrences, rnnjax.recurrences.REGISTRY)
        _refuse_unknown("plans", self.plans, rnnjax.plans.REGISTRY)
        if "reference" not in self.plans:
            raise ValueError(
                f"plans: got {', '.join(self.plans)}, expected the reference among them"
            )
        for name in ("time_steps", "unroll_by", "recurrences", "plans"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: got {values}, expected each once")
        if not self.recurrences or not self.time_steps:
            raise ValueError("recurrences and time_steps: expected at least one of each")
        for name in ("time_steps", "unroll_by", "batch_size", "input_size", "hidden_size"):
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if number < 1:
                    raise ValueError(f"{name}: got {number}, expected at least 1")
        for name in ("budget_seconds", "compile_limit_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected more than 0")


PRESETS: Mapping[str, Config] = {
    "full": Config(),  # estimated 40 to 60 minutes on 2 cores, much of it compilations given up
    "quick": Config(
        preset="quick",
        recurrences=("elman", "lstm"),
        time_steps=(8, 32),
        plans=("reference", UNROLLED, "fused"),
        unroll_by=(2,),
        budget_seconds=0.5,
        compile_limit_seconds=5.0,
        out=Path("runs/scan_vs_unrolled_quick"),
    ),
}


class Program(NamedTuple):
    """What is compiled and timed as one."""

    computation: str
    plan: str


class Examined(NamedTuple):
    """What was found out about one program."""

    cost: CompileCost
    run_resident_bytes: int | None
    run_seconds: Spread


def plans_of(config: Config) -> dict[str, rnnjax.plans.Plan]:
    """Name -> plan, the reference first, then the partly unrolled scans, then the others."""
    partly = [rnnjax.plans.unrolled_by(steps) for steps in config.unroll_by]
    others = [rnnjax.plans.REGISTRY[name] for name in config.plans if name != "reference"]
    return {plan.name: plan for plan in (rnnjax.plans.REGISTRY["reference"], *partly, *others)}


def forward_of(recurrence: rnnjax.Recurrence, plan: rnnjax.plans.Plan) -> Callable[..., Any]:
    """`(params, xs) -> (carry, ys)`."""
    return lambda params, xs: rnnjax.scan(recurrence, params, xs, plan=plan)


def training_step_of(recurrence: rnnjax.Recurrence, plan: rnnjax.plans.Plan) -> Callable[..., Any]:
    """`(params, xs) -> (loss, (dparams, dxs))`.

    loss = ½ (Σ ys² + Σ carry²), so that every output has a cotangent of its own.
    """

    def loss(params: Any, xs: Array) -> Array:
        leaves = jax.tree.leaves(rnnjax.scan(recurrence, params, xs, plan=plan))
        return sum(jnp.vdot(leaf, leaf) for leaf in leaves) / jnp.asarray(2, xs.dtype)

    return jax.value_and_grad(loss, argnums=(0, 1))


FUNCTIONS: Mapping[str, Callable[..., Callable[..., Any]]] = {
    "forward": forward_of,
    "training": training_step_of,
}


def examine_in_child(
    send: Send, config: Config, recurrence_name: str, time_steps: int, programs: Sequence[Program]
) -> None:
    """`examine`, after the settings that hold for a whole process."""
    without_stored_programs()
    jax.config.update("jax_enable_x64", config.dtype == "float64")
    examine(send, config, recurrence_name, time_steps, programs)


def examine(
    send: Send, config: Config, recurrence_name: str, time_steps: int, programs: Sequence[Program]
) -> None:
    """Compile and time the programs of one point.

    Sends the device's name once ready, then for each program its compile cost and its peak of
    resident memory, and at last the run times of all: program -> `Spread`.
    """
    dtype = jnp.dtype(config.dtype)
    recurrence = rnnjax.recurrences.REGISTRY[recurrence_name]
    key_params, key_xs = jax.random.split(jax.random.key(0))
    params = recurrence.init(key_params, config.input_size, config.hidden_size, dtype=dtype)
    shape = (time_steps, config.batch_size, config.input_size)
    xs = jax.random.normal(key_xs, shape, dtype)
    plans = plans_of(config)
    # The first gradient of a process also pays for what XLA and the allocator set up once.
    first, _ = compile_program(training_step_of(recurrence, plans["reference"]), (params, xs))
    jax.block_until_ready(first(params, xs))
    send(jax.devices()[0].device_kind)

    calls: dict[Program, Callable[[], object]] = {}
    for program in programs:
        function = FUNCTIONS[program.computation](recurrence, plans[program.plan])
        compiled, cost = compile_program(function, (params, xs))
        send(cost)
        calls[program] = lambda compiled=compiled: compiled(params, xs)
        send(peak_resident_increase(calls[program]))

    seconds: dict[Program, Spread] = {}
    for computation in COMPUTATIONS:
        of_one = {p.plan: call for p, call in calls.items() if p.computation == computation}
        if of_one:
            timed = interleaved_seconds(of_one, config.budget_seconds)
            seconds |= {Program(computation, plan): spread(s) for plan, s in timed.items()}
    send(seconds)


def expected_compile_seconds(earlier: Sequence[tuple[int, float]], time_steps: int) -> float:
    """Compile time at T from those at smaller T: the power law through the last two.

    The exponent is at least 1, and 1 where there is only one time; so it errs low, and what is
    tried in vain is ended by the limit. 0 where there is none.
    """
    if not earlier:
        return 0.0
    last_steps, last = earlier[-1]
    exponent = 1.0
    if len(earlier) > 1:
        steps, seconds = earlier[-2]
        exponent = max(1.0, log(last / seconds) / log(last_steps / steps))
    return last * (time_steps / last_steps) ** exponent


def reason_to_skip(
    earlier: Sequence[Row], program: Program, time_steps: int, limit_seconds: float
) -> str | None:
    """Why not to try the full unroll at T, from the rows of the same recurrence at smaller T."""
    if program.plan != UNROLLED:
        return None
    rows = sorted(
        (
            row
            for row in earlier
            if (row.computation, row.plan) == program and row.time_steps < time_steps
        ),
        key=lambda row: row.time_steps,
    )
    for row in rows:
        if row.status != MEASURED:
            return f"not tried, see T = {row.time_steps}"
    times = [(row.time_steps, _compile_total(row)) for row in rows]
    expected = expected_compile_seconds(times, time_steps)
    if expected > limit_seconds:
        return f"not tried, compilation expected to take {expected:.0f} s or more"
    return None


def measure_point(
    config: Config,
    recurrence: str,
    time_steps: int,
    earlier: Sequence[Row],
    start_child: StartChild = child_process,
) -> tuple[str, list[Row]]:
    """All programs of one point, in a child process that starts anew without what took too long.

    Args:
        config: Sizes, plans and limits.
        recurrence: Its name.
        time_steps: T.
        earlier: Rows of the same recurrence.
        start_child: How to run `examine_in_child`.

    Returns:
        The name of the device, and a row for each program.

    Raises:
        ChildTookTooLongError: A child did not even start.
        ChildEndedError: Likewise, or one ended while it was timing.
    """
    # The loop written out comes first and its gradient before all: once that has compiled, so
    # will the rest, and hardly anything is compiled twice.
    plans = sorted(plans_of(config), key=lambda plan: plan != UNROLLED)
    programs = [Program(computation, plan) for plan in plans for computation in COMPUTATIONS]
    left_out: dict[Program, str] = {}
    for program in programs:
        reason = reason_to_skip(earlier, program, time_steps, config.compile_limit_seconds)
        if reason is not None:
            left_out[program] = reason
    while True:
        remaining = [program for program in programs if program not in left_out]
        with start_child(examine_in_child, config, recurrence, time_steps, remaining) as receive:
            device = receive(START_SECONDS)
            found = _compiled(receive, remaining, config.compile_limit_seconds, left_out)
            if found is None:
                continue
            seconds = receive(None)
        examined = {p: Examined(*found[p], seconds[p]) for p in remaining}
        in_order = [Program(c, plan) for c in COMPUTATIONS[::-1] for plan in plans_of(config)]
        return device, [
            _row(recurrence, time_steps, program, examined, left_out) for program in in_order
        ]


def _compiled(
    receive: Receive, programs: Sequence[Program], limit: float, left_out: dict[Program, str]
) -> dict[Program, tuple[CompileCost, int | None]] | None:
    """What the child reports of each program; None if one failed, which is then left out."""
    found = {}
    for program in programs:
        try:
            cost = receive(limit)
            found[program] = (cost, receive(None))
        except ChildTookTooLongError:
            left_out[program] = f"compilation given up after {limit:g} s"
            return None
        except ChildEndedError as error:
            left_out[program] = str(error)
            return None
    return found


def _row(
    recurrence: str,
    time_steps: int,
    program: Program,
    examined: Mapping[Program, Examined],
    left_out: Mapping[Program, str],
) -> Row:
    row = Row(recurrence, time_steps, program.computation, program.plan, MEASURED)
    if program in left_out:
        return replace(row, status=left_out[program])
    cost, resident, run = examined[program]
    reference = examined.get(Program(program.computation, "reference"))
    return replace(
        row,
        run_seconds=run.median,
        run_seconds_lower_quartile=run.lower_quartile,
        run_seconds_upper_quartile=run.upper_quartile,
        rounds=run.rounds,
        ratio_to_reference=run.median / reference.run_seconds.median if reference else None,
        lower_seconds=cost.lower_seconds,
        compile_seconds=cost.compile_seconds,
        temporary_bytes=cost.temporary_bytes,
        output_bytes=cost.output_bytes,
        peak_resident_increase_bytes=resident,
    )


def _compile_total(row: Row) -> float:
    assert row.lower_seconds is not None
    assert row.compile_seconds is not None
    return row.lower_seconds + row.compile_seconds


def conditions(config: Config) -> dict[str, Any]:
    """All that must be the same for points to stand in one table."""
    free = ("preset", "recurrences", "time_steps", "out")
    settings = {name: value for name, value in asdict(config).items() if name not in free}
    settings |= {"plans": list(config.plans), "unroll_by": list(config.unroll_by)}
    return settings | {"machine": machine_record(), "versions": versions_record()}


def run(
    config: Config, command: str, start_child: StartChild = child_process
) -> list[dict[str, Any]]:
    """Measure the points that are not yet in the output folder, then write the report.

    Returns:
        The records of all points, as in `results.json`.

    Raises:
        ValueError: The folder has points of other conditions.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / POINTS
    now = conditions(config)
    records = read_records(path)
    for record in records:
        for name, value in now.items():
            if record["conditions"].get(name) != value:
                raise ValueError(
                    f"out: got {path} with points of {name} {record['conditions'].get(name)}, "
                    f"expected {value}; give another folder or move that file away"
                )
    done = {(record["recurrence"], record["time_steps"]) for record in records}
    points = [
        (recurrence, time_steps)
        for recurrence in config.recurrences
        for time_steps in sorted(config.time_steps)
        if (recurrence, time_steps) not in done
    ]
    if done:
        _say(f"{len(done)} points are in {path} already")
    start = time.monotonic()
    for number, (recurrence, time_steps) in enumerate(points, start=1):
        earlier = [row for row in rows_of(records) if row.recurrence == recurrence]
        device, rows = measure_point(config, recurrence, time_steps, earlier, start_child)
        record = {
            "recurrence": recurrence,
            "time_steps": time_steps,
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": device,
            "conditions": now,
            "rows": [asdict(row) for row in rows],
        }
        append_record(path, record)
        records.append(record)
        minutes = (time.monotonic() - start) / 60
        _say(f"point {number} of {len(points)}, {minutes:.1f} min: {_in_one_line(rows)}")
    order = list(rnnjax.recurrences.REGISTRY)
    records.sort(key=lambda record: (order.index(record["recurrence"]), record["time_steps"]))
    write_report(config.out, command, now, records)
    path.unlink(missing_ok=True)
    return records


def rows_of(records: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """The rows of all points."""
    for record in records:
        for row in record["rows"]:
            yield Row(**row)


def _in_one_line(rows: Sequence[Row]) -> str:
    ratios = [
        f"{row.plan} ×{row.ratio_to_reference:.2f}"
        if row.ratio_to_reference is not None
        else f"{row.plan} –"
        for row in rows
        if row.computation == "training" and row.plan != "reference"
    ]
    return f"{rows[0].recurrence} T={rows[0].time_steps}, training step: {', '.join(ratios)}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, ChildEndedError, ChildTookTooLongError) as error:
        raise SystemExit(f"error: {error}") from None


def parse(arguments: Sequence[str]) -> Config:
    """The config of a command line; `--preset` says where the other flags' defaults come from.

    Raises:
        SystemExit: An unknown flag or a value of the wrong kind.
        ValueError: A value out of range.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=list(PRESETS), default="full")
    preset = first.parse_known_args(list(arguments))[0].preset
    return tyro.cli(
        Config,
        prog="python -m benchmarks.scan_vs_unrolled",
        args=list(arguments),
        default=PRESETS[preset],
    )


def main() -> None:
    """Run the benchmark that the command line asks for."""
    arguments = sys.argv[1:]
    with _one_line_errors():
        config = parse(arguments)
        command = " ".join(["python -m benchmarks.scan_vs_unrolled", *arguments])
        run(config, command)
    print(config.out / "table.md")


if __name__ == "__main__":
    main()
