"""rnnjax against other libraries: Elman, GRU and LSTM, forward and training step.

    python -m benchmarks.rivals --preset quick    # about 2 minutes: ours and PyTorch, four shapes
    python -m benchmarks.rivals                   # preset full, see `PRESETS`

It needs the other libraries, which `make bench-rivals` installs. Each of them has a process of its
own (see `benchmarks.turns`) for the whole run; `benchmarks/libraries` says how each is used. A
point is one recurrence at one shape, plain, with lengths or with resets; there all libraries and
all our plans take turns, forward and training step, and with them products of matrices, which are
the machine's rate. What a library computes is compared with our reference before it is timed. Each
point is appended to `points.jsonl` in the output folder as soon as it is measured, so that the same
command goes on where a killed one ended; at the end `results.json`, `results.csv`, `table.md` and
the plots replace the earlier ones, and `points.jsonl` goes.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.child_process import ChildEndedError, ChildTookTooLongError
from benchmarks.libraries.tasks import GATES, Product, Sequences, Task, within_lengths
from benchmarks.measure import Spread
from benchmarks.points import (
    START_SECONDS,
    Point,
    collect,
    conditions_of,
    forget_points,
    parse_command_line,
    refuse_out_of_range,
    refuse_unknown,
    run_command_line,
)
from benchmarks.points_report import MEASURED
from benchmarks.rivals_report import OURS, RivalRow, in_one_line, write_report
from benchmarks.turns import (
    Ask,
    Contestant,
    Forget,
    MeasurePeak,
    Prepare,
    Ready,
    Refused,
    by_turns,
    library_process,
)

PROGRAM = "python -m benchmarks.rivals"
LIBRARIES: Mapping[str, str] = {
    "ours": "benchmarks.libraries.ours",
    "torch": "benchmarks.libraries.torch",
    "numpy": "benchmarks.libraries.numpy",
}
"""Name -> module."""
COMPUTATIONS = ("forward", "training")
KINDS = ("", "lengths", "resets")
PLANS = ("reference", "auto", "native", "fused", "checkpointed", "unrolled")
PRODUCT_SIZE = 1024
TOLERANCE = 1e-3  # of values, relative to the largest; those of float32 stay well below
FAR_SECONDS, FAR_RATIO = 0.1, 5.0  # what takes longer, and so many times the fastest, is far behind

Shape = tuple[int, int, int, int]  # B, T, I, H

SHAPES: tuple[Shape, ...] = (
    (1, 512, 64, 64),
    (1, 256, 256, 256),
    (1, 64, 1024, 1024),
    (16, 256, 128, 128),
    (32, 128, 256, 256),
    (64, 32, 512, 512),
    (128, 128, 128, 128),
    (128, 64, 256, 256),
    (32, 16, 1024, 1024),
    (128, 8, 1024, 1024),
    (32, 128, 64, 256),
)


@dataclass(frozen=True)
class Config:
    """rnnjax against other libraries.

    Raises:
        ValueError: A name is unknown or a number out of range.
    """

    preset: Literal["quick", "full"] = "full"
    """Where the defaults of all other flags come from."""
    libraries: tuple[str, ...] = tuple(LIBRARIES)
    """Names of libraries; ours is what all are compared with."""
    recurrences: tuple[str, ...] = tuple(GATES)
    """Names of recurrences."""
    plans: tuple[str, ...] = PLANS
    """Names of our plans, the reference and auto among them."""
    shapes: tuple[Shape, ...] = SHAPES
    """B, T, I and H."""
    option_shapes: tuple[Shape, ...] = ((16, 128, 128, 128), (32, 64, 256, 256), (64, 32, 512, 512))
    """Likewise, with lengths and with resets."""
    longest_unrolled: int = 32
    """T above which the loop is not written out: its compile time explodes."""
    budget_seconds: float = 12.0
    """About how long the timed rounds of one point take."""
    least_rounds: int = 5
    """The fewest of them."""
    turn_seconds: float = 0.05
    """About how long the timed calls of a turn take; a call that takes longer is made once."""
    compile_limit_seconds: float = 120.0
    """A program that is not compiled and called twice within is left out."""
    out: Path = Path("docs/results/rivals")
    """The output folder."""

    def __post_init__(self) -> None:
        refuse_unknown("libraries", self.libraries, LIBRARIES)
        refuse_unknown("recurrences", self.recurrences, GATES)
        if OURS not in self.libraries:
            raise ValueError(
                f"libraries: got {', '.join(self.libraries)}, expected ours among them"
            )
        for name in ("reference", "auto"):
            if name not in self.plans:
                raise ValueError(f"plans: got {', '.join(self.plans)}, expected {name} among them")
        for name in ("shapes", "option_shapes"):
            for shape in getattr(self, name):
                if min(shape) < 1:
                    raise ValueError(f"{name}: got {shape}, expected at least 1 of each")
        refuse_out_of_range(
            self,
            once=("libraries", "recurrences", "plans", "shapes", "option_shapes"),
            at_least_1=("longest_unrolled", "least_rounds"),
            more_than_0=("budget_seconds", "turn_seconds", "compile_limit_seconds"),
        )


def points_of(config: Config) -> list[Point]:
    """The plain ones of each recurrence, then those with options."""
    return [
        {
            "recurrence": recurrence,
            "options": options,
            "batch_size": batch_size,
            "time_steps": time_steps,
            "input_size": input_size,
            "hidden_size": hidden_size,
        }
        for options in KINDS
        for recurrence in config.recurrences
        for batch_size, time_steps, input_size, hidden_size in (
            config.option_shapes if options else config.shapes
        )
    ]


def contestants_of(config: Config, point: Point) -> list[Contestant]:
    """All that take turns at a point, our reference first."""
    plans = ["reference", *(plan for plan in config.plans if plan != "reference")]
    if point["time_steps"] > config.longest_unrolled:
        plans = [plan for plan in plans if plan != "unrolled"]
    found = [
        Contestant(library, Sequences(computation=computation, plan=plan, **point))
        for library in config.libraries
        for plan in (plans if library == OURS else [""])
        for computation in COMPUTATIONS
    ]
    return found + [Contestant(library, Product(PRODUCT_SIZE)) for library in config.libraries]


class Processes:
    """The processes of libraries: started when first asked, ended with the block."""

    def __init__(self, start: Callable[[str], AbstractContextManager[tuple[str, Ask]]]) -> None:
        self._start = start
        self._running: dict[str, tuple[ExitStack, Ask]] = {}
        self.versions: dict[str, str] = {}

    def ask(self, library: str) -> Ask:
        """How to ask a library."""
        if library not in self._running:
            stack = ExitStack()
            version, ask = stack.enter_context(self._start(library))
            self._running[library] = (stack, ask)
            self.versions[library] = version
        return self._running[library][1]

    def end(self, library: str) -> None:
        """End the process of a library; it starts anew when asked again."""
        stack, _ = self._running.pop(library)
        stack.close()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for library in list(self._running):
            self.end(library)


def start_library(name: str) -> AbstractContextManager[tuple[str, Ask]]:
    """A library's process."""
    return library_process(LIBRARIES[name], START_SECONDS)


def prepare_library(
    processes: Processes,
    library: str,
    tasks: Sequence[Task],
    limit_seconds: float,
    left_out: dict[Contestant, str],
) -> dict[Contestant, Ready]:
    """Prepare the tasks of one library, anew without what took too long or ended its process."""
    while True:
        found: dict[Contestant, Ready] = {}
        for task in tasks:
            contestant = Contestant(library, task)
            if contestant in left_out:
                continue
            try:
                answer = processes.ask(library)(Prepare(task), limit_seconds)
            except (ChildTookTooLongError, ChildEndedError) as error:
                left_out[contestant] = str(error)
                processes.end(library)
                break
            if isinstance(answer, Refused):
                left_out[contestant] = f"refused: {answer.reason}"
            else:
                found[contestant] = answer
        else:
            return found


def error_of_values(task: Task, found: Ready, expected: Ready) -> float:
    """The largest difference of what was computed, relative to the largest value; inf for NaN."""
    worst = 0.0
    for name, value in expected.results.items():
        other = found.results[name]
        if other.shape != value.shape:
            raise ValueError(f"{name}: got shape {other.shape}, expected {value.shape}, of {task}")
        if isinstance(task, Sequences) and task.options == "lengths" and value.ndim == 3:
            mask = within_lengths(task)[..., None]
            value, other = np.where(mask, value, 0), np.where(mask, other, 0)
        difference = np.abs(other - value).max() / np.abs(value).max()
        worst = max(worst, float(difference)) if np.isfinite(difference) else np.inf
    return worst


def measure_point(config: Config, point: Point, processes: Processes) -> list[RivalRow]:
    """All contestants of one point.

    Args:
        config: Limits and budget.
        point: Its sizes.
        processes: Of the libraries.

    Returns:
        A row for each contestant.
    """
    contestants = contestants_of(config, point)
    left_out: dict[Contestant, str] = {}
    ready: dict[Contestant, Ready] = {}
    for library in config.libraries:
        tasks = [contestant.task for contestant in contestants if contestant.library == library]
        ready |= prepare_library(processes, library, tasks, config.compile_limit_seconds, left_out)

    errors: dict[Contestant, float] = {}
    for contestant in list(ready):
        if not isinstance(contestant.task, Sequences):
            continue
        computation = contestant.task.computation
        reference = Sequences(computation=computation, plan="reference", **point)
        error = error_of_values(
            contestant.task, ready[contestant], ready[Contestant(OURS, reference)]
        )
        errors[contestant] = error
        if error > TOLERANCE:
            left_out[contestant] = f"values differ by {error:.1g}"
            del ready[contestant]

    fastest: dict[str, float] = {}
    for contestant, found in ready.items():
        key = computation_of(contestant.task)
        fastest[key] = min(found.seconds, fastest.get(key, np.inf))
    far = [
        contestant
        for contestant, found in ready.items()
        if found.seconds > max(FAR_SECONDS, FAR_RATIO * fastest[computation_of(contestant.task)])
    ]
    near = [contestant for contestant in ready if contestant not in far]
    peaks = {c: processes.ask(c.library)(MeasurePeak(c.task), None) for c in near}
    asks = {library: processes.ask(library) for library in config.libraries}
    spreads = by_turns(
        asks,
        near,
        {c: found.seconds for c, found in ready.items()},
        config.budget_seconds,
        config.turn_seconds,
        least_rounds=config.least_rounds,
    )
    for c in far:
        spreads[c] = Spread(*(ready[c].seconds,) * 3, rounds=1)
    for library in config.libraries:
        processes.ask(library)(Forget(), None)

    rows = []
    for c in contestants:
        row = RivalRow(
            **point,
            computation=computation_of(c.task),
            library=c.library,
            plan=c.task.plan,
            status=left_out.get(c, MEASURED),
        )
        if c in spreads:
            compiled = ready[c].compiled
            row = row.with_measured(spreads[c], compiled, peaks.get(c), errors.get(c))
        rows.append(row)
    return rows


def computation_of(task: Task) -> str:
    """What a task computes, as it stands in a row."""
    return task.computation if isinstance(task, Sequences) else type(task).__name__.lower()


def conditions(config: Config) -> dict[str, Any]:
    """All that must be the same for points to stand in one table."""
    free = ("preset", "recurrences", "shapes", "option_shapes", "out")
    return conditions_of({k: v for k, v in asdict(config).items() if k not in free})


def run(
    config: Config,
    command: str,
    start: Callable[[str], AbstractContextManager[tuple[str, Ask]]] = start_library,
) -> list[dict[str, Any]]:
    """Measure the points that are not yet in the output folder (see `collect`), then report.

    Returns:
        The records of all points, as in `results.json`.
    """
    with Processes(start) as processes:
        for library in config.libraries:
            processes.ask(library)
        now = conditions(config)
        now["versions"] |= processes.versions

        def measure(point: Point, _: Sequence[RivalRow]) -> tuple[dict[str, str], list[RivalRow]]:
            return {}, measure_point(config, point, processes)

        records = collect(
            config.out, now, points_of(config), measure, RivalRow, in_one_line=in_one_line
        )
    write_report(config.out, command, now, records)
    forget_points(config.out)
    return records


PRESETS: Mapping[str, Config] = {
    "full": Config(),
    "quick": Config(
        preset="quick",
        libraries=("ours", "torch"),
        plans=("reference", "auto", "native", "fused"),
        shapes=((1, 256, 256, 256), (16, 256, 128, 128), (32, 128, 256, 256), (64, 32, 512, 512)),
        option_shapes=(),
        budget_seconds=3.0,
        out=Path("runs/rivals_quick"),
    ),
}


parse = partial(parse_command_line, PROGRAM, PRESETS)
"""Words -> config, see `parse_command_line`."""

if __name__ == "__main__":
    run_command_line(PROGRAM, parse, run)
