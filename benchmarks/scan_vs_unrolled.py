"""Scan against the loop written out, and every other plan: time, compile time and memory.

    python -m benchmarks.scan_vs_unrolled --preset quick    # about a minute, for a first look
    python -m benchmarks.scan_vs_unrolled                   # preset full, see `PRESETS`

A point is one recurrence at one T. It is measured in a process of its own, where all plans take
turns, forward and training step (value and gradient by parameters and inputs). Each point is
appended to `points.jsonl` in the output folder as soon as it is measured, so that the same
command goes on where a killed one ended; at the end `results.json`, `results.csv`, `table.md` and
the plots replace the earlier ones, and `points.jsonl` goes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import log
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

import rnnjax
from benchmarks.child_process import Send, child_process
from benchmarks.measure import (
    Spread,
    compile_program,
    interleaved_seconds,
    peak_resident_increase,
    spread,
)
from benchmarks.points import (
    FUNCTIONS,
    Examined,
    Point,
    Program,
    StartChild,
    collect,
    completed,
    conditions_of,
    examined_in_children,
    forget_points,
    parse_command_line,
    refuse_out_of_range,
    refuse_unknown,
    refuse_without_reference,
    run_command_line,
    settings_of_a_process,
    training_step_of,
)
from benchmarks.points_report import MEASURED, Row
from benchmarks.scan_vs_unrolled_report import write_report

COMPUTATIONS = ("training", "forward")
UNROLLED = "unrolled"
PROGRAM = "python -m benchmarks.scan_vs_unrolled"


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
        refuse_unknown("recurrences", self.recurrences, rnnjax.recurrences.REGISTRY)
        refuse_without_reference(self.plans)
        if not self.recurrences or not self.time_steps:
            raise ValueError("recurrences and time_steps: expected at least one of each")
        refuse_out_of_range(
            self,
            once=("time_steps", "unroll_by", "recurrences", "plans"),
            at_least_1=("time_steps", "unroll_by", "batch_size", "input_size", "hidden_size"),
            more_than_0=("budget_seconds", "compile_limit_seconds"),
        )


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


def plans_of(config: Config) -> dict[str, rnnjax.plans.Plan]:
    """Name -> plan, the reference first, then the partly unrolled scans, then the others."""
    partly = [rnnjax.plans.unrolled_by(steps) for steps in config.unroll_by]
    others = [rnnjax.plans.REGISTRY[name] for name in config.plans if name != "reference"]
    return {plan.name: plan for plan in (rnnjax.plans.REGISTRY["reference"], *partly, *others)}


def examine_in_child(
    send: Send, config: Config, recurrence_name: str, time_steps: int, programs: Sequence[Program]
) -> None:
    """`examine`, after the settings that hold for a whole process."""
    settings_of_a_process(config.dtype)
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
    device, found, seconds = examined_in_children(
        lambda remaining: start_child(examine_in_child, config, recurrence, time_steps, remaining),
        programs,
        left_out,
        config.compile_limit_seconds,
        run_limits={},
    )
    examined = {p: Examined(*reports, seconds[p]) for p, reports in found.items()}
    in_order = [Program(c, plan) for c in COMPUTATIONS[::-1] for plan in plans_of(config)]
    return device, [
        completed(Row(recurrence, time_steps, *program, MEASURED), examined, left_out)
        for program in in_order
    ]


def _compile_total(row: Row) -> float:
    assert row.lower_seconds is not None
    assert row.compile_seconds is not None
    return row.lower_seconds + row.compile_seconds


def conditions(config: Config) -> dict[str, Any]:
    """All that must be the same for points to stand in one table."""
    free = ("preset", "recurrences", "time_steps", "out")
    settings = {name: value for name, value in asdict(config).items() if name not in free}
    return conditions_of(settings)


def run(
    config: Config, command: str, start_child: StartChild = child_process
) -> list[dict[str, Any]]:
    """Measure the points that are not yet in the output folder, then write the report.

    Returns:
        The records of all points, as in `results.json`.

    Raises:
        ValueError: The folder has points of other conditions.
    """
    now = conditions(config)
    points: list[Point] = [
        {"recurrence": recurrence, "time_steps": time_steps}
        for recurrence in config.recurrences
        for time_steps in sorted(config.time_steps)
    ]

    def measure(point: Point, earlier: Sequence[Row]) -> tuple[dict[str, str], list[Row]]:
        device, rows = measure_point(
            config, point["recurrence"], point["time_steps"], earlier, start_child
        )
        return {"device": device}, rows

    records = collect(config.out, now, points, measure, Row)
    write_report(config.out, command, now, records)
    forget_points(config.out)
    return records


parse = partial(parse_command_line, PROGRAM, PRESETS)
"""Words -> config, see `parse_command_line`."""

if __name__ == "__main__":
    run_command_line(PROGRAM, parse, run)
