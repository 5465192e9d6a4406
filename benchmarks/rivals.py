"""rnnjax against other libraries: Elman, GRU and LSTM, forward and training step, generation.

    python -m benchmarks.rivals --preset quick    # under 3 minutes: ours, PyTorch, four shapes
    python -m benchmarks.rivals                   # preset full, see `PRESETS`

It needs the other libraries, which `make bench-rivals` installs. Each of them has a process of its
own for the whole run (see `benchmarks.turns`); `benchmarks/libraries` says how each is used. A
point is one recurrence at one shape: plain, with lengths or with resets; sampled from as a
character model; or called step by step at B = 1. There all libraries and all our plans take turns,
and with the plain ones products of matrices, which are the machine's rate. What a library computes
is compared with our reference before it is timed. Each point is appended to `points.jsonl` in the
output folder as soon as it is measured, so that the same command goes on where a killed one ended;
at the end `results.json`, `results.csv`, `table.md` and the plots replace the earlier ones, and
`points.jsonl` goes.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.libraries.tasks import (
    GATES,
    Generation,
    Product,
    Reading,
    Sequences,
    Streaming,
    Task,
    Timed,
    within_lengths,
)
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
    MakeReady,
    Processes,
    Ready,
    Start,
    by_turns,
    library_process,
    make_ready,
    peaks_of,
)
from rnnjax.plans.native_library import FILE

PROGRAM = "python -m benchmarks.rivals"
LIBRARIES = (
    OURS,
    "pytorch",
    "flax_linen",
    "flax_nnx",
    "dm_haiku",
    "equinox_cells",
    "keras_layers",
    "numpy_product",
)
"""Names of modules in `benchmarks/libraries`."""
COMPUTATIONS = ("forward", "training")
PLANS = (
    "reference",
    "auto",
    "native",
    "fused",
    "checkpointed",
    "unrolled",
    "quasi_newton",
    "newton",
)
WAYS: Mapping[tuple[type, str], tuple[str, ...]] = {
    (Generation, OURS): ("sample_language_model",),
    (Generation, "pytorch"): ("module", "cells"),
    (Generation, "flax_linen"): ("scan", "calls"),
    (Generation, "flax_nnx"): ("scan", "calls"),
    (Streaming, OURS): ("one_step",),
    (Streaming, "pytorch"): ("module", "cells"),
    (Streaming, "flax_linen"): ("calls",),
    (Streaming, "flax_nnx"): ("calls",),
}
"""Kind of task, library -> ways to do it, each timed."""

PRODUCT_SIZE = 1024
TOLERANCE = 1e-3  # of values, relative to the largest; those of float32 stay well below
FAR_SECONDS, FAR_RATIO = 0.1, 5.0  # what takes longer, and so many times the fastest, is far behind

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Config:
    """rnnjax against other libraries.

    Raises:
        ValueError: A name is unknown or a number out of range.
    """

    preset: Literal["quick", "full"] = "full"
    """Where the defaults of all other flags come from."""
    libraries: tuple[str, ...] = LIBRARIES
    """Names of libraries; ours is what all are compared with."""
    recurrences: tuple[str, ...] = tuple(GATES)
    """Names of recurrences."""
    plans: tuple[str, ...] = PLANS
    """Names of our plans, the reference and auto among them."""
    shapes: tuple[Shape, ...] = (
        (1, 1024, 64, 64),
        (1, 1024, 256, 256),
        (1, 64, 1024, 1024),
        (16, 512, 128, 128),
        (32, 128, 256, 256),
        (64, 32, 512, 512),
        (128, 128, 128, 128),
        (128, 64, 256, 256),
        (32, 16, 1024, 1024),
        (128, 8, 1024, 1024),
        (32, 128, 64, 256),
    )
    """B, T, I and H."""
    option_shapes: tuple[Shape, ...] = ((16, 128, 128, 128), (32, 128, 256, 256))
    """Likewise, with lengths and with resets."""
    generation_shapes: tuple[Shape, ...] = (
        (1, 500, 1, 256),
        (64, 200, 1, 256),
        (1, 200, 2, 512),
        (64, 100, 2, 512),
    )
    """B, tokens, layers and H of sampling."""
    streaming_sizes: tuple[int, ...] = (64, 256, 512, 1024)
    """H, and I, of streaming."""
    streaming_steps: int = 200
    """Steps of a call of streaming."""
    longest_unrolled: int = 16
    """T above which the loop is not written out: its compile time explodes."""
    most_newton: int = 2**25
    """Numbers in the Jacobians of all steps, or 128 times those in the carries of all steps, above
    which the newton plans are not tried: they are far behind (see `docs/results/plans`)."""
    budget_seconds: float = 10.0
    """About how long the timed rounds of one point take."""
    least_rounds: int = 7
    """The fewest of them."""
    turn_seconds: float = 0.05
    """About how long the timed calls of a turn take; a call that takes longer is made once."""
    compile_limit_seconds: float = 120.0
    """A program that is not compiled and called twice within is left out."""
    out: Path = Path("docs/results/rivals")
    """The output folder."""

    def __post_init__(self) -> None:
        refuse_unknown("libraries", self.libraries, dict.fromkeys(LIBRARIES))
        refuse_unknown("recurrences", self.recurrences, GATES)
        refuse_unknown("plans", self.plans, dict.fromkeys(PLANS))
        if OURS not in self.libraries:
            raise ValueError(f"libraries: got {', '.join(self.libraries)}, expected {OURS} too")
        for name in ("reference", "auto"):
            if name not in self.plans:
                raise ValueError(f"plans: got {', '.join(self.plans)}, expected {name} too")
        shapes = ("shapes", "option_shapes", "generation_shapes")
        for name in shapes:
            for shape in getattr(self, name):
                if min(shape) < 1:
                    raise ValueError(f"{name}: got {shape}, expected at least 1 of each")
        refuse_out_of_range(
            self,
            once=("libraries", "recurrences", "plans", "streaming_sizes", *shapes),
            at_least_1=(
                "streaming_sizes",
                "streaming_steps",
                "longest_unrolled",
                "most_newton",
                "least_rounds",
            ),
            more_than_0=("budget_seconds", "turn_seconds", "compile_limit_seconds"),
        )
        if not points_of(self):
            raise ValueError("recurrences and shapes: got no point, expected at least one of each")


def points_of(config: Config) -> list[Point]:
    """The plain ones of each recurrence, then those with options, generation and streaming."""

    def point(recurrence: str, kind: str, layers: int, *shape: int) -> Point:
        sizes = ("batch_size", "time_steps", "input_size", "hidden_size")
        named = dict(zip(sizes, shape, strict=True))
        return {"recurrence": recurrence, "kind": kind, "layers": layers, **named}

    gated = [name for name in config.recurrences if name != "elman"]
    return [
        *(point(r, "plain", 1, *shape) for r in config.recurrences for shape in config.shapes),
        *(
            point(r, kind, 1, *shape)
            for kind in ("lengths", "resets")
            for r in config.recurrences
            for shape in config.option_shapes
        ),
        *(
            point(r, "generation", layers, b, t, h, h)
            for r in gated
            for b, t, layers, h in config.generation_shapes
        ),
        *(
            point(r, "streaming", 1, 1, config.streaming_steps, h, h)
            for r in gated
            for h in config.streaming_sizes
        ),
    ]


def contestants_of(config: Config, point: Point) -> list[Contestant]:
    """All that take turns at a point; of a plain one our reference is the first."""
    recurrence, size = point["recurrence"], point["hidden_size"]
    task: Timed
    if point["kind"] == "generation":
        task = Generation(
            recurrence, point["batch_size"], point["layers"], size, point["time_steps"]
        )
    elif point["kind"] == "streaming":
        task = Streaming(recurrence, size, point["time_steps"])
    else:
        sizes = {name: value for name, value in point.items() if name != "layers"}
        found = [
            Contestant(library, Sequences(computation=computation, plan=plan, **sizes))
            for library in config.libraries
            for plan in (plans_of(config, point) if library == OURS else [""])
            for computation in COMPUTATIONS
        ]
        if point["kind"] == "plain":
            found += [Contestant(library, Product(PRODUCT_SIZE)) for library in config.libraries]
        return found
    return [
        Contestant(library, replace(task, plan=way))
        for library in config.libraries
        for way in WAYS.get((type(task), library), ())
    ]


def plans_of(config: Config, point: Point) -> list[str]:
    """Names of the plans to try at a point, the reference first."""
    rows = point["batch_size"] * point["time_steps"]
    numbers = point["hidden_size"] * (2 if point["recurrence"] == "lstm" else 1)
    too_large = {
        "unrolled": point["time_steps"] > config.longest_unrolled,
        "newton": rows * numbers**2 > config.most_newton,
        "quasi_newton": rows * numbers * 128 > config.most_newton,
    }
    others = [plan for plan in config.plans if plan != "reference" and not too_large.get(plan)]
    return ["reference", *others]


def computation_of(task: Timed) -> str:
    """What a task computes, as it stands in a row."""
    return task.computation if isinstance(task, Sequences) else type(task).__name__.lower()


def start_library(name: str) -> AbstractContextManager[tuple[str, Ask]]:
    """A library's process."""
    return library_process(f"benchmarks.libraries.{name}", START_SECONDS)


def differences_of(
    processes: Processes, ready: Mapping[Contestant, Ready], limit_seconds: float
) -> dict[Contestant, float]:
    """How far values are from ours, relative to the largest; nothing where there are none.

    Sequences are compared with our reference of what they compute, a sample's last logits with
    those that our model has after reading the sample, a stream's outputs with ours.
    """
    expected: dict[Task, Mapping[str, np.ndarray]] = {}
    for (library, task), found in ready.items():
        if library == OURS:
            expected[task] = found.results
    differences = {}
    for contestant, found in ready.items():
        task, mask = contestant.task, None
        check: Task
        if isinstance(task, Sequences):
            recurrence = found.computes or task.recurrence
            check = replace(task, recurrence=recurrence, plan="reference")
            if task.kind == "lengths":
                mask = within_lengths(task)[..., None]
        elif isinstance(task, Generation) and "logits" in found.results:
            check = Reading(task, found.results["tokens"].tobytes())
        elif isinstance(task, Streaming):
            check = replace(task, plan="one_step")
        else:
            continue
        if check not in expected:
            expected[check] = processes.ask(OURS, MakeReady(check), limit_seconds).results
        differences[contestant] = max(
            difference_of(found.results[name], values, mask)
            for name, values in expected[check].items()
        )
    return differences


def difference_of(found: np.ndarray, expected: np.ndarray, mask: np.ndarray | None) -> float:
    """The largest, relative to the largest expected; inf if a number is not finite.

    Args:
        found: What was computed.
        expected: What should have been.
        mask: (T, B, 1) bool, which steps of (T, B, …) count; None is all.

    Raises:
        ValueError: The shapes differ.
    """
    if found.shape != expected.shape:
        raise ValueError(f"found: got shape {found.shape}, expected {expected.shape}")
    if mask is not None and found.ndim == mask.ndim:
        found, expected = np.where(mask, found, 0), np.where(mask, expected, 0)
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    return difference if np.isfinite(difference) else np.inf


def far_behind(ready: Mapping[Contestant, Ready]) -> list[Contestant]:
    """Those so much slower than the fastest that one call says enough; rivals apart from ours.

    Never what a user gets of ours: that call may have been disturbed.
    """
    fastest: dict[tuple[str, bool], float] = {}
    for (library, task), found in ready.items():
        group = computation_of(task), library == OURS
        fastest[group] = min(found.seconds, fastest.get(group, np.inf))
    return [
        contestant
        for contestant, found in ready.items()
        if (contestant.library, contestant.task.plan) != (OURS, "auto")
        and found.seconds
        > max(
            FAR_SECONDS,
            FAR_RATIO * fastest[computation_of(contestant.task), contestant.library == OURS],
        )
    ]


def measure_point(config: Config, point: Point, processes: Processes) -> list[RivalRow]:
    """All contestants of one point.

    Args:
        config: Limits and budget.
        point: Its sizes.
        processes: Of the libraries.

    Returns:
        A row for each contestant.

    Raises:
        ChildTookTooLongError: A library did not start.
        ChildEndedError: Likewise, or it ended after all its tasks were ready.
    """
    contestants = contestants_of(config, point)
    left_out: dict[Contestant, str] = {}
    ready: dict[Contestant, Ready] = {}
    for library in config.libraries:
        tasks = [contestant.task for contestant in contestants if contestant.library == library]
        ready |= make_ready(processes, library, tasks, config.compile_limit_seconds, left_out)

    differences = differences_of(processes, ready, config.compile_limit_seconds)
    for contestant, difference in differences.items():
        if difference > TOLERANCE:
            left_out[contestant] = f"values differ by {difference:.1g}"
            del ready[contestant]

    far = far_behind(ready)
    near = {c: found.seconds for c, found in ready.items() if c not in far}
    peaks = peaks_of(processes, near)
    spreads = by_turns(
        processes,
        near,
        config.budget_seconds,
        config.turn_seconds,
        least_rounds=config.least_rounds,
    )
    spreads |= {c: Spread(*(ready[c].seconds,) * 3, rounds=1) for c in far}
    for library in config.libraries:
        processes.ask(library, Forget())

    rows = []
    for c in contestants:
        run = spreads.get(c)
        row = RivalRow(
            **point,
            computation=computation_of(c.task),
            library=c.library,
            plan=c.task.plan,
            status=left_out.get(c, MEASURED),
        )
        if run is not None:
            reference = spreads.get(Contestant(OURS, replace(c.task, plan="reference")))
            row = replace(
                row,
                run_seconds=run.median,
                run_seconds_lower_quartile=run.lower_quartile,
                run_seconds_upper_quartile=run.upper_quartile,
                rounds=run.rounds,
                ratio_to_reference=run.median / reference.median if reference else None,
                peak_resident_increase_bytes=peaks.get(c),
                difference=differences.get(c),
                **(ready[c].compiled or {}),
            )
        rows.append(row)
    return rows


def kernels_digest() -> str:
    """The first 12 digits of the SHA-256 of the compiled kernels that are installed, "" if none."""
    package = find_spec("rnnjax")
    folders = (package.submodule_search_locations or ()) if package else ()
    for folder in folders:
        if (Path(folder) / FILE).exists():
            return sha256((Path(folder) / FILE).read_bytes()).hexdigest()[:12]
    return ""


def conditions(config: Config, versions: Mapping[str, str]) -> dict[str, Any]:
    """All that must be the same for points to stand in one table."""
    shapes = ("shapes", "option_shapes", "generation_shapes", "streaming_sizes", "streaming_steps")
    free = ("preset", "recurrences", *shapes, "out")
    found = conditions_of({k: v for k, v in asdict(config).items() if k not in free})
    found["product_size"] = PRODUCT_SIZE
    found["versions"] |= {"rnnjax_kernels_sha256": kernels_digest()}
    found["versions"] |= {name: version for name, version in versions.items() if name != OURS}
    return found


def run(config: Config, command: str, start: Start = start_library) -> list[dict[str, Any]]:
    """Measure the points that are not yet in the output folder (see `collect`), then report.

    Returns:
        The records of all points, as in `results.json`.
    """
    with Processes(start) as processes:
        for library in config.libraries:
            processes.ask(library, Forget(), START_SECONDS)
        now = conditions(config, processes.versions)

        def measure(point: Point, _: Sequence[RivalRow]) -> tuple[dict[str, str], list[RivalRow]]:
            return {}, measure_point(config, point, processes)

        points = points_of(config)
        records = collect(config.out, now, points, measure, RivalRow, in_one_line)
    write_report(config.out, command, now, records)
    forget_points(config.out)
    return records


PRESETS: Mapping[str, Config] = {
    "full": Config(),
    "quick": Config(
        preset="quick",
        libraries=(OURS, "pytorch"),
        plans=("reference", "auto", "native", "fused"),
        shapes=((1, 256, 256, 256), (16, 256, 128, 128), (32, 128, 256, 256), (64, 32, 512, 512)),
        option_shapes=(),
        generation_shapes=(),
        streaming_sizes=(),
        budget_seconds=3.0,
        least_rounds=5,
        out=Path("runs/rivals_quick"),
    ),
}


parse = partial(parse_command_line, PROGRAM, PRESETS)
"""Words -> config, see `parse_command_line`."""

if __name__ == "__main__":
    run_command_line(PROGRAM, parse, run)
