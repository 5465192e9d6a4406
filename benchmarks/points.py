"""Benchmarks that measure point by point, each in a process of its own, and can be killed.

A point is what the programs that take turns have in common: a recurrence and sizes. Each point is
appended to `points.jsonl` in the output folder as soon as it is measured, so that the same command
goes on where a killed one ended.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import tyro
from jax import Array

import rnnjax
from benchmarks.child_process import ChildEndedError, ChildTookTooLongError, Receive
from benchmarks.machine import versions_record
from benchmarks.measure import CompileCost, Spread, without_stored_programs
from benchmarks.points_report import AnyRow, Row
from benchmarks.report import append_record, read_records
from rnnjax.training.machine import machine_record

POINTS = "points.jsonl"
START_SECONDS = 300.0  # for a child to import JAX and compile a first program

StartChild = Callable[..., AbstractContextManager[Receive]]
Point = Mapping[str, Any]
"""Name -> value, "recurrence" first; a record of the point has the same names."""

AnyConfig = TypeVar("AnyConfig")


class Program(NamedTuple):
    """What is compiled and timed as one."""

    computation: str
    plan: str


class Examined(NamedTuple):
    """What was found out about one program."""

    cost: CompileCost
    run_resident_bytes: int | None
    run_seconds: Spread


def forward_of(recurrence: rnnjax.Recurrence, plan: rnnjax.plans.Plan) -> Callable[..., Any]:
    """`(params, xs) -> (carry, ys)`."""
    return lambda params, xs: rnnjax.scan(recurrence, params, xs, plan=plan)


def training_step_of(recurrence: rnnjax.Recurrence, plan: rnnjax.plans.Plan) -> Callable[..., Any]:
    """`(params, xs) -> (loss, (dparams, dxs))`.

    loss = ½ (Σ |ys|² + Σ |carry|²), so that every output has a cotangent of its own.
    """

    def loss(params: Any, xs: Array) -> Array:
        leaves = jax.tree.leaves(rnnjax.scan(recurrence, params, xs, plan=plan))
        return sum(jnp.vdot(leaf, leaf).real for leaf in leaves) / jnp.asarray(2, xs.dtype)

    return jax.value_and_grad(loss, argnums=(0, 1))


FUNCTIONS: Mapping[str, Callable[..., Callable[..., Any]]] = {
    "forward": forward_of,
    "training": training_step_of,
}


def settings_of_a_process(dtype: str) -> None:
    """What must hold from the first compilation of a child on."""
    without_stored_programs()
    jax.config.update("jax_enable_x64", dtype == "float64")


def examined_in_children(
    start: Callable[[Sequence[Program]], AbstractContextManager[Receive]],
    programs: Sequence[Program],
    left_out: dict[Program, str],
    compile_limit: float,
    run_limits: Mapping[str, float],
) -> tuple[Any, dict[Program, tuple[CompileCost, Any]], Any]:
    """What children report of the programs of one point.

    A child reports what it is ready with, then twice of each program, once it is compiled and once
    it has run, and at last of all together. In place of either a string says why the program is
    left out. A child that takes too long or ends over a program is started anew without it.

    Args:
        start: Starts a child with the programs it is to examine.
        programs: In the order of examination, the doubtful first: then hardly anything is compiled
            twice.
        left_out: Program -> why; those in it are not examined, and more are added.
        compile_limit: Seconds that a compilation may take.
        run_limits: Plan -> seconds from the end of the compilation to the second report, where
            there is a limit.

    Returns:
        The first report, the two of each program, and the last.

    Raises:
        ChildTookTooLongError: A child did not even start.
        ChildEndedError: Likewise, or one ended before its last report.
    """
    while True:
        remaining = [program for program in programs if program not in left_out]
        with start(remaining) as receive:
            first = receive(START_SECONDS)
            found = _found(receive, remaining, left_out, compile_limit, run_limits)
            if found is not None:
                return first, found, receive(None)


def _found(
    receive: Receive,
    programs: Sequence[Program],
    left_out: dict[Program, str],
    compile_limit: float,
    run_limits: Mapping[str, float],
) -> dict[Program, tuple[CompileCost, Any]] | None:
    """What the child reports of each program; None if it failed over one, then left out."""
    found = {}
    for program in programs:
        doing, limit = "compilation", compile_limit
        try:
            cost = receive(limit)
            if isinstance(cost, str):
                left_out[program] = cost
                continue
            doing, limit = "run", run_limits.get(program.plan)
            ran = receive(limit)
        except ChildTookTooLongError:
            left_out[program] = f"{doing} given up after {limit:g} s"
        except ChildEndedError as error:
            left_out[program] = str(error)
        else:
            if isinstance(ran, str):
                left_out[program] = ran
            else:
                found[program] = (cost, ran)
            continue
        training = Program("training", program.plan)
        if program.computation == "forward" and training in programs and training not in found:
            left_out.setdefault(training, "not tried, see forward")
        return None
    return found


def completed(
    row: AnyRow, examined: Mapping[Program, Examined], left_out: Mapping[Program, str]
) -> AnyRow:
    """A row of a program with what was found out about it, or why it was left out."""
    program = Program(row.computation, row.plan)
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


def conditions_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that must be the same for points to stand in one table, as JSON gives it back."""
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    return lists | {"machine": machine_record(), "versions": versions_record()}


def collect(
    folder: Path,
    conditions: Mapping[str, Any],
    points: Sequence[Point],
    measure: Callable[[Point, Sequence[AnyRow]], tuple[Mapping[str, Any], Sequence[AnyRow]]],
    row_type: type[AnyRow],
    in_one_line: Callable[[Point, Sequence[AnyRow]], str] | None = None,
) -> list[dict[str, Any]]:
    """Measure the points that are not yet in a folder, appending each to it.

    Args:
        folder: Made if it is not there.
        conditions: From `conditions_of`.
        points: All that are wanted, in the order of measuring.
        measure: Given a point and the rows of earlier ones of its recurrence, returns what else
            its record says and its rows.
        row_type: Of the rows.
        in_one_line: What is said of a point once it is measured; None is the ratios to the
            reference.

    Returns:
        The records of all points in the folder: by recurrence, then by the values of their names.

    Raises:
        ValueError: The folder has points of other conditions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / POINTS
    records = read_records(path)
    for record in records:
        for name, value in conditions.items():
            if record["conditions"].get(name) != value:
                raise ValueError(
                    f"out: got {path} with points of {name} {record['conditions'].get(name)}, "
                    f"expected {value}; give another folder or move that file away"
                )
    names = list(points[0])
    done = [{name: record[name] for name in names} for record in records]
    missing = [point for point in points if point not in done]
    if done:
        _say(f"{len(done)} points are in {path} already")
    start = time.monotonic()
    for number, point in enumerate(missing, start=1):
        earlier = [
            row for row in rows_of(records, row_type) if row.recurrence == point["recurrence"]
        ]
        facts, rows = measure(point, earlier)
        record = {
            **point,
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
            "conditions": conditions,
            "rows": [asdict(row) for row in rows],
        }
        append_record(path, record)
        records.append(record)
        minutes = (time.monotonic() - start) / 60
        to_go = minutes / number * (len(missing) - number)
        _say(
            f"point {number} of {len(missing)}, {minutes:.1f} min, about {to_go:.0f} to go: "
            f"{(in_one_line or _in_one_line)(point, rows)}"
        )
    order = list(rnnjax.recurrences.REGISTRY)
    records.sort(
        key=lambda record: (
            order.index(record["recurrence"]),
            *(record[name] for name in names if name != "recurrence"),
        )
    )
    return records


def forget_points(folder: Path) -> None:
    """Remove what `collect` appended to, once the report is written."""
    (folder / POINTS).unlink(missing_ok=True)


def rows_of(records: Sequence[Mapping[str, Any]], row_type: type[AnyRow]) -> Iterator[AnyRow]:
    """The rows of all points."""
    for record in records:
        for row in record["rows"]:
            yield row_type(**row)


def _in_one_line(point: Point, rows: Sequence[Row]) -> str:
    ratios = [
        f"{row.plan} ×{row.ratio_to_reference:.2f}"
        if row.ratio_to_reference is not None
        else f"{row.plan} –"
        for row in rows
        if row.computation == "training" and row.plan != "reference"
    ]
    letters = {"time_steps": "T", "hidden_size": "H"}
    described = " ".join(
        f"{letters[name]}={value}" if name in letters else str(value)
        for name, value in point.items()
    )
    return f"{described}, training step: {', '.join(ratios)}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def refuse_unknown(argument: str, names: Sequence[str], known: Mapping[str, object]) -> None:
    """Raise ValueError, naming the argument, if a name is not known."""
    for name in names:
        if name not in known:
            raise ValueError(f"{argument}: got {name!r}, expected some of {', '.join(known)}")


def refuse_out_of_range(
    config: object, *, once: Sequence[str], at_least_1: Sequence[str], more_than_0: Sequence[str]
) -> None:
    """Raise ValueError, naming the field, if one of a config is not what it must be.

    Args:
        config: A record.
        once: Names of fields whose values must differ from each other.
        at_least_1: Names of fields that are such a number or several.
        more_than_0: Likewise, of one number.
    """
    for name in once:
        values = getattr(config, name)
        if len(set(values)) != len(values):
            raise ValueError(f"{name}: got {values}, expected each once")
    for name in at_least_1:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number < 1:
                raise ValueError(f"{name}: got {number}, expected at least 1")
    for name in more_than_0:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name}: got {getattr(config, name)}, expected more than 0")


def refuse_without_reference(plans: Sequence[str]) -> None:
    """Raise ValueError unless the reference, which all are compared with, is among the plans."""
    refuse_unknown("plans", plans, rnnjax.plans.REGISTRY)
    if "reference" not in plans:
        raise ValueError(f"plans: got {', '.join(plans)}, expected the reference among them")


def parse_command_line(
    program: str, presets: Mapping[str, AnyConfig], arguments: Sequence[str]
) -> AnyConfig:
    """The config of a command line; `--preset` says where the other flags' defaults come from.

    Args:
        program: How it is called.
        presets: Name -> config, "full" among them.
        arguments: The words after the program.

    Raises:
        SystemExit: An unknown flag or a value of the wrong kind.
        ValueError: A value out of range.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=list(presets), default="full")
    preset = presets[first.parse_known_args(list(arguments))[0].preset]
    return tyro.cli(type(preset), prog=program, args=list(arguments), default=preset)


def run_command_line(
    program: str, parse: Callable[[Sequence[str]], Any], run: Callable[[Any, str], object]
) -> None:
    """Run what the words after the program ask for; end in one line where that cannot be done.

    Args:
        program: How it is called.
        parse: Words -> config, which has the folder `out`.
        run: Given the config and the whole command, writes the report.
    """
    arguments = sys.argv[1:]
    try:
        config = parse(arguments)
        run(config, " ".join([program, *arguments]))
    except (ValueError, ChildEndedError, ChildTookTooLongError) as error:
        raise SystemExit(f"error: {error}") from None
    print(config.out / "table.md")
