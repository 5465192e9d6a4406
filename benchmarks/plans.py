"""Every plan on every recurrence: time, compile time and memory over T and H, and what auto takes.

    python -m benchmarks.plans --preset quick    # about a minute, for a first look
    python -m benchmarks.plans                   # preset full, see `PRESETS`

A point is one recurrence at one T and H, with I = H. It is measured in a process of its own, where
all plans take turns, forward and training step (value and gradient by parameters and inputs). Each
point is appended to `points.jsonl` in the output folder as soon as it is measured, so that the same
command goes on where a killed one ended; at the end `results.json`, `results.csv`, `table.md` and
`plot.png` replace the earlier ones, and `points.jsonl` goes.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import rnnjax
from benchmarks.child_process import Send, child_process
from benchmarks.measure import (
    Call,
    Spread,
    compile_program,
    interleaved_seconds,
    peak_resident_increase,
    spread,
)
from benchmarks.plans_report import ABOVE_LONGEST, PlanRow, write_report
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
from benchmarks.points_report import MEASURED
from rnnjax.plans.fixed_point import IterativePlan

PROGRAM = "python -m benchmarks.plans"
COMPUTATIONS = ("forward", "training")
UNROLLED = "unrolled"
GRID = ("elman", "minimal_gru", "gru", "gru_reset_before", "lstm", "sru", "gated_diagonal", "lru")

LONG_SECONDS = 0.5  # the peak of memory of a call that takes longer is measured once
FAR_SECONDS, FAR_RATIO = 0.1, 5.0  # what takes longer, and so many times the fastest, is far behind


@dataclass(frozen=True)
class Config:
    """Plans against each other: run time, compile time and memory over T and H.

    Raises:
        ValueError: A name is unknown or a number out of range.
    """

    preset: Literal["quick", "full"] = "full"
    """Where the defaults of all other flags come from."""
    recurrences: tuple[str, ...] = GRID
    """Names of the recurrences that are measured at every T and H."""
    time_steps: tuple[int, ...] = (32, 256, 2048)
    """T."""
    hidden_sizes: tuple[int, ...] = (32, 128, 512)
    """H, and I."""
    other_recurrences: tuple[str, ...] = tuple(
        n for n in rnnjax.recurrences.REGISTRY if n not in GRID
    )
    """Names of the recurrences that are measured at the following T and H."""
    other_time_steps: tuple[int, ...] = (32, 1024)
    """T."""
    other_hidden_size: int = 128
    """H, and I."""
    spatial_hidden_size: int = 16
    """H at the most where an input has more axes than one."""
    plans: tuple[str, ...] = tuple(rnnjax.plans.REGISTRY)
    """Names of plans; the reference is what all are compared with."""
    chunk_steps: tuple[int, ...] = (1,)
    """Steps a chunk of further associative plans; 1 is the textbook scan."""
    longest_unrolled: int = 32
    """T above which the loop is not written out: its compile time explodes."""
    batch_size: int = 16
    """B."""
    dtype: Literal["float32", "float64"] = "float32"
    """Of parameters and inputs."""
    budget_seconds: float = 2.0
    """About how long the timed rounds of one point and computation take."""
    least_rounds: int = 5
    """The fewest of them."""
    compile_limit_seconds: float = 60.0
    """A program whose compilation takes longer is left out."""
    run_limit_seconds: float = 3.0
    """A program of an iterative plan that runs longer, or is expected to, is left out."""
    jacobian_limit_bytes: int = 2**29
    """The newton plan is left out where the Jacobians of all steps take more."""
    out: Path = Path("docs/results/plans")
    """The output folder."""

    def __post_init__(self) -> None:
        for name in ("recurrences", "other_recurrences"):
            refuse_unknown(name, getattr(self, name), rnnjax.recurrences.REGISTRY)
        refuse_without_reference(self.plans)
        both = set(self.recurrences) & set(self.other_recurrences)
        if both:
            raise ValueError(
                f"other_recurrences: got {', '.join(sorted(both))}, "
                "expected none that is in recurrences"
            )
        refuse_out_of_range(
            self,
            once=(
                "recurrences",
                "other_recurrences",
                "time_steps",
                "hidden_sizes",
                "other_time_steps",
                "plans",
                "chunk_steps",
            ),
            at_least_1=(
                "time_steps",
                "hidden_sizes",
                "other_time_steps",
                "other_hidden_size",
                "spatial_hidden_size",
                "chunk_steps",
                "longest_unrolled",
                "batch_size",
                "least_rounds",
                "jacobian_limit_bytes",
            ),
            more_than_0=("budget_seconds", "compile_limit_seconds", "run_limit_seconds"),
        )
        on_grid = self.recurrences and self.time_steps and self.hidden_sizes
        if not (on_grid or (self.other_recurrences and self.other_time_steps)):
            raise ValueError("recurrences, T and H: got no point, expected at least one of each")


class Ready(NamedTuple):
    """What a child says first."""

    device: str
    auto: str  # the plan that auto takes
    ys_bytes: int  # of the outputs of all steps and rows


def points_of(config: Config) -> list[Point]:
    """Those of the grid, then the others; of each recurrence the small ones first."""
    grid = [
        (recurrence, time_steps, hidden_size)
        for recurrence in config.recurrences
        for hidden_size in sorted(config.hidden_sizes)
        for time_steps in sorted(config.time_steps)
    ]
    others = [
        (recurrence, time_steps, config.other_hidden_size)
        for recurrence in config.other_recurrences
        for time_steps in sorted(config.other_time_steps)
    ]
    names = (*config.recurrences, *config.other_recurrences)
    spatial = [name for name in names if len(input_shape(name)) > 1]
    points = [
        {
            "recurrence": recurrence,
            "hidden_size": min(hidden_size, config.spatial_hidden_size)
            if recurrence in spatial
            else hidden_size,
            "time_steps": time_steps,
        }
        for recurrence, time_steps, hidden_size in grid + others
    ]
    return [point for number, point in enumerate(points) if point not in points[:number]]


def input_shape(recurrence_name: str) -> tuple[int, ...]:
    """Of one input at I = H = 4, without its time and batch axes; nothing is computed."""
    recurrence = rnnjax.recurrences.REGISTRY[recurrence_name]
    return recurrence.input_shape(
        jax.eval_shape(lambda: recurrence.init(jax.random.key(0), 4, 4, dtype=jnp.float32))
    )


def plans_of(config: Config) -> dict[str, rnnjax.plans.Plan]:
    """Name -> plan, the reference first."""
    first = [rnnjax.plans.REGISTRY["reference"]]
    others = [rnnjax.plans.REGISTRY[name] for name in config.plans if name != "reference"]
    chunked = [rnnjax.plans.associative_by(steps) for steps in config.chunk_steps]
    return {plan.name: plan for plan in first + others + chunked}


def arguments_of(config: Config, point: Point) -> tuple[Any, Array]:
    """Parameters as `init` draws them, and standard normal inputs."""
    dtype, hidden_size = jnp.dtype(config.dtype), point["hidden_size"]
    key_params, key_xs = jax.random.split(jax.random.key(0))
    recurrence = rnnjax.recurrences.REGISTRY[point["recurrence"]]
    params = recurrence.init(key_params, hidden_size, hidden_size, dtype=dtype)
    shape = (point["time_steps"], config.batch_size, *recurrence.input_shape(params))
    return params, jax.random.normal(key_xs, shape, dtype)


def examine_in_child(send: Send, config: Config, point: Point, programs: Sequence[Program]) -> None:
    """`examine`, after the settings that hold for a whole process."""
    settings_of_a_process(config.dtype)
    examine(send, config, point, programs)


def examine(send: Send, config: Config, point: Point, programs: Sequence[Program]) -> None:
    """Compile and time the programs of one point.

    Sends a `Ready`; then for each program its compile cost and, once it has run, the seconds of
    that; and at last of all: program -> peak of resident memory, `Spread` of run times, and the
    plan whose program it is to the letter, if there is one before it: that is measured once. In
    place of the two of a program it may send why there is nothing to measure.
    """
    params, xs = arguments_of(config, point)
    recurrence, plans = rnnjax.recurrences.REGISTRY[point["recurrence"]], plans_of(config)
    # The first gradient of a process also pays for what XLA and the allocator set up once.
    first, _ = compile_program(training_step_of(recurrence, plans["reference"]), (params, xs[:2]))
    jax.block_until_ready(first(params, xs[:2]))
    _, ys = jax.eval_shape(FUNCTIONS["forward"](recurrence, plans["reference"]), params, xs)
    auto = rnnjax.explain_plan(recurrence, params, xs).plan
    send(Ready(jax.devices()[0].device_kind, auto, ys.size * ys.dtype.itemsize))

    calls: dict[Program, Call] = {}
    first_seconds: dict[Program, float] = {}
    originals: dict[tuple[str, str], str] = {}  # computation, text of a program -> its first plan
    twins: dict[Program, str] = {}
    for program in programs:
        plan = plans[program.plan]
        reason = jacobians_too_large(config, recurrence, params, xs, plan)
        if reason is not None:
            send(reason)
            continue
        try:
            function = FUNCTIONS[program.computation](recurrence, plan)
            compiled, cost = compile_program(function, (params, xs))
        except ValueError as error:  # of `scan`, or of a plan that sees why only when it is traced
            send(f"refused: {error}")
            continue
        send(cost)
        text = compiled.as_text()  # where there is none, a program is its own
        key = program.computation, canonical_text(text) if text else program.plan
        if key in originals:
            twins[program] = originals[key]
            send(None)
            continue
        results, seconds = timed(lambda compiled=compiled: compiled(params, xs))
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results)):
            send("the result is not finite")
            continue
        del results
        originals[key] = program.plan
        calls[program] = lambda compiled=compiled: compiled(params, xs)
        first_seconds[program] = seconds
        send(seconds)

    found: dict[Program, tuple[int | None, Spread, str | None]] = {}
    for computation in COMPUTATIONS:
        here = {p: seconds for p, seconds in first_seconds.items() if p.computation == computation}
        far = far_behind(here)
        near = {program.plan: calls[program] for program in here if program not in far}
        peaks = {
            plan: peak_resident_increase(
                call, repeats=1 if here[Program(computation, plan)] > LONG_SECONDS else 3
            )
            for plan, call in near.items()
        }
        rounds = interleaved_seconds(near, config.budget_seconds, least_rounds=config.least_rounds)
        for plan, seconds in rounds.items():
            found[Program(computation, plan)] = (peaks[plan], spread(seconds), None)
        for program in far:
            found[program] = (None, spread([timed(calls[program])[1]]), None)
    for program, original in twins.items():
        resident, run, _ = found[program._replace(plan=original)]
        found[program] = (resident, run, original)
    send(found)


def canonical_text(program: str) -> str:
    """The text of a compiled program without what does not change what it does.

    Where each operation came from is left out, and names become numbers in their order.
    """
    text = re.sub(r", metadata=\{[^}]*\}", "", program)
    text = re.sub(r"^HloModule [^,]*", "HloModule", text)
    # Tables of files, functions and lines, to which the metadata refer.
    text = re.sub(
        r"^(\d+ .*|FileNames|FunctionNames|FileLocations|StackFrames)\n", "", text, flags=re.M
    )
    numbers: dict[str, int] = {}
    return re.sub(r"%[\w.\-]+", lambda name: f"%{numbers.setdefault(name[0], len(numbers))}", text)


def timed(call: Call) -> tuple[Any, float]:
    """What a call returns, and its seconds."""
    start = time.perf_counter()
    results = jax.block_until_ready(call())
    return results, time.perf_counter() - start


def far_behind(first_seconds: Mapping[Program, float]) -> list[Program]:
    """Programs so slow, and so much slower than the fastest, that one more call says enough."""
    fastest = min(first_seconds.values(), default=0.0)
    least = max(FAR_SECONDS, FAR_RATIO * fastest)
    return [program for program, seconds in first_seconds.items() if seconds > least]


def jacobians_too_large(
    config: Config,
    recurrence: rnnjax.Recurrence,
    params: Any,
    xs: Array,
    plan: rnnjax.plans.Plan,
) -> str | None:
    """Why not to try the newton plan, whose Jacobians are `(T, B, D, D)`; None for other plans."""
    if plan.name != "newton":
        return None
    carry = jax.eval_shape(lambda params: recurrence.initial_carry(params, ()), params)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(carry))
    needed = xs.shape[0] * xs.shape[1] * numbers**2 * xs.dtype.itemsize
    if needed <= config.jacobian_limit_bytes:
        return None
    return f"not tried, Jacobians above {config.jacobian_limit_bytes / 2**30:.3g} GiB"


def reason_to_skip(
    config: Config, earlier: Sequence[PlanRow], point: Point, program: Program
) -> str | None:
    """Why not to try a program, from the sizes and from rows of the same recurrence."""
    plan, time_steps, hidden_size = program.plan, point["time_steps"], point["hidden_size"]
    if plan == UNROLLED and time_steps > config.longest_unrolled:
        return f"{ABOVE_LONGEST} {config.longest_unrolled}"
    if plan != UNROLLED and not is_iterative(plans_of(config)[plan]):
        return None
    for row in earlier:
        if (row.computation, row.plan) != program or (
            row.time_steps > time_steps or row.hidden_size > hidden_size
        ):
            continue
        if "given up" in row.status or "not tried, see" in row.status:
            return f"not tried, see T = {row.time_steps}, H = {row.hidden_size}"
        if plan == UNROLLED or row.run_seconds is None:
            continue
        # Once large, work grows at least so; where small, a call's own costs hide it.
        expected = row.run_seconds * time_steps / row.time_steps * hidden_size / row.hidden_size
        if expected > config.run_limit_seconds:
            return f"not tried, a run expected to take {expected:.0f} s"
    return None


def is_iterative(plan: rnnjax.plans.Plan) -> bool:
    """Whether it iterates to a solution, and so takes a time that is hard to foresee."""
    return isinstance(plan, IterativePlan)


def measure_point(
    config: Config,
    point: Point,
    earlier: Sequence[PlanRow],
    start_child: StartChild = child_process,
) -> tuple[str, list[PlanRow]]:
    """All programs of one point, in a child process that starts anew without what took too long.

    Args:
        config: Sizes, plans and limits.
        point: Recurrence, T and H.
        earlier: Rows of the same recurrence.
        start_child: How to run `examine_in_child`.

    Returns:
        The name of the device, and a row for each program.

    Raises:
        ChildTookTooLongError, ChildEndedError: See `examined_in_children`.
    """
    plans = plans_of(config)
    doubtful = [name for name, plan in plans.items() if name == UNROLLED or is_iterative(plan)]
    in_order = [*doubtful, *(name for name in plans if name not in doubtful)]
    programs = [Program(computation, plan) for plan in in_order for computation in COMPUTATIONS]
    left_out: dict[Program, str] = {}
    for program in programs:
        reason = reason_to_skip(config, earlier, point, program)
        if reason is not None:
            left_out[program] = reason
    ready, found, last = examined_in_children(
        lambda remaining: start_child(examine_in_child, config, point, remaining),
        programs,
        left_out,
        config.compile_limit_seconds,
        {name: config.run_limit_seconds for name, plan in plans.items() if is_iterative(plan)},
    )
    examined = {program: Examined(cost, *last[program][:2]) for program, (cost, _) in found.items()}
    twins = {program: last[program][2] for program in found}
    return ready.device, [
        completed(
            PlanRow(
                point["recurrence"],
                point["time_steps"],
                computation,
                plan,
                MEASURED,
                hidden_size=point["hidden_size"],
                ys_bytes=ready.ys_bytes,
                auto=ready.auto,
                same_program_as=twins.get(Program(computation, plan)),
            ),
            examined,
            left_out,
        )
        for computation in COMPUTATIONS
        for plan in plans
    ]


def conditions(config: Config) -> dict[str, Any]:
    """All that must be the same for points to stand in one table."""
    sizes = ("time_steps", "hidden_sizes", "other_time_steps", "other_hidden_size")
    free = ("preset", "recurrences", "other_recurrences", *sizes, "spatial_hidden_size", "out")
    return conditions_of({k: v for k, v in asdict(config).items() if k not in free})


def run(
    config: Config, command: str, start_child: StartChild = child_process
) -> list[dict[str, Any]]:
    """Measure the points that are not yet in the output folder (see `collect`), then report.

    Returns:
        The records of all points, as in `results.json`.
    """

    def measure(point: Point, earlier: Sequence[PlanRow]) -> tuple[dict[str, str], list[PlanRow]]:
        device, rows = measure_point(config, point, earlier, start_child)
        return {"device": device}, rows

    now = conditions(config)
    records = collect(config.out, now, points_of(config), measure, PlanRow)
    write_report(config.out, command, now, records)
    forget_points(config.out)
    return records


PRESETS: Mapping[str, Config] = {
    "full": Config(),  # more than an hour on 2 cores
    "quick": Config(
        preset="quick",
        recurrences=("elman",),
        time_steps=(8, 32),
        hidden_sizes=(4, 16),
        other_recurrences=("gated_diagonal",),
        other_time_steps=(8, 32),
        other_hidden_size=16,
        batch_size=4,
        budget_seconds=0.2,
        compile_limit_seconds=20.0,
        run_limit_seconds=2.0,
        out=Path("runs/plans_quick"),
    ),
}


parse = partial(parse_command_line, PROGRAM, PRESETS)
"""Words -> config, see `parse_command_line`."""

if __name__ == "__main__":
    run_command_line(PROGRAM, parse, run)
