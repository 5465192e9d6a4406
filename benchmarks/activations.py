"""How exact the tanh and sigmoid of the native plan are, over all float32 numbers.

    python -m benchmarks.activations --preset quick    # every 997th number, some seconds
    python -m benchmarks.activations                   # preset full: all of them, some minutes

For each instruction set that this processor runs, and for XLA, the largest error in units in the
last place (ulp) of the exact result, and where it is. Exact is NumPy in float64. The output folder
gets `results.json`, `results.csv` and `table.md`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.points import (
    conditions_of,
    parse_command_line,
    refuse_out_of_range,
    run_command_line,
)
from benchmarks.report import csv_text, markdown_table, three_digits
from rnnjax.plans.native_library import activation, instruction_sets, library
from rnnjax.training.files import replace_text

PROGRAM = "python -m benchmarks.activations"
OF_ALL = 2**32  # float32 numbers, by their bits
AT_ONCE = 2**22
SPECIAL = np.array([np.inf, -np.inf, np.nan], np.float32)
LEAST_NORMAL = 2.0**-126


def _sigmoid(x: np.ndarray) -> np.ndarray:
    decay = np.exp(-np.abs(x))
    return np.where(x < 0, decay, 1.0) / (1 + decay)


FUNCTIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {"tanh": np.tanh, "sigmoid": _sigmoid}
)
"""Name -> the function in float64."""

OF_XLA = MappingProxyType({"tanh": jax.jit(jnp.tanh), "sigmoid": jax.jit(jax.nn.sigmoid)})


def errors_in_ulps(name: str, values: np.ndarray, results: np.ndarray) -> np.ndarray:
    """How far float32 results are from the exact ones, in units in the last place of these.

    A zero in place of a result below the least normal number is no error: XLA flushes those.

    Args:
        name: Of `FUNCTIONS`.
        values: Float32, none of them NaN.
        results: What was made of them.
    """
    exact = FUNCTIONS[name](values.astype(np.float64))
    _, exponents = np.frexp(np.maximum(np.abs(exact), LEAST_NORMAL))
    flushed = (np.abs(exact) < LEAST_NORMAL) & (results == 0)
    errors = np.where(flushed, 0, np.abs(results.astype(np.float64) - exact))
    return np.ldexp(errors, 24 - exponents)


@dataclass(frozen=True)
class Config:
    """Accuracy of the activations, instruction set by instruction set.

    Raises:
        ValueError: A number is out of range.
    """

    preset: Literal["quick", "full"] = "full"
    """Where the defaults of all other flags come from."""
    every: int = 1
    """Of all float32 numbers, in the order of their bits, every so many are taken."""
    out: Path = Path("docs/results/activations")
    """The output folder."""

    def __post_init__(self) -> None:
        refuse_out_of_range(self, once=(), at_least_1=("every",), more_than_0=())


PRESETS: Mapping[str, Config] = {
    "full": Config(),
    "quick": Config(preset="quick", every=997, out=Path("runs/activations_quick")),
}


@dataclass(frozen=True)
class Row:
    """One function, as one instruction set or XLA computes it."""

    function: str
    by: str
    numbers: int  # that it was tried on, infinities among them, NaN not
    most_ulps: float
    at: float
    most_absolute: float
    as_xla_at_infinity_and_nan: bool


def taken(every: int) -> Iterator[np.ndarray]:
    """Float32 numbers but NaN, in the order of their bits, some millions at a time."""
    for first in range(0, OF_ALL, AT_ONCE * every):
        bits = np.arange(first, min(first + AT_ONCE * every, OF_ALL), every, dtype=np.uint64)
        values = bits.astype(np.uint32).view(np.float32)
        yield values[~np.isnan(values)]


def measure(name: str, function: Callable[[np.ndarray], Any], by: str, every: int) -> Row:
    """Try one function on all numbers that are taken."""
    numbers, most_ulps, at, most_absolute = 0, 0.0, 0.0, 0.0
    for values in taken(every):
        if not values.size:
            continue
        results = np.asarray(function(values))
        ulps = errors_in_ulps(name, values, results)
        worst = int(ulps.argmax())
        if ulps[worst] > most_ulps:
            most_ulps, at = float(ulps[worst]), float(values[worst])
        exact = FUNCTIONS[name](values.astype(np.float64))
        most_absolute = max(most_absolute, float(np.abs(results - exact).max()))
        numbers += values.size
    as_xla = np.array_equal(function(SPECIAL), OF_XLA[name](SPECIAL), equal_nan=True)
    return Row(name, by, numbers, most_ulps, at, most_absolute, bool(as_xla))


def run(config: Config, command: str) -> None:
    """Measure all functions and write the report.

    Raises:
        ValueError: There is no compiled library.
    """
    missing = library().missing
    if missing is not None:
        raise ValueError(f"native: {missing}")
    rows = []
    for name in FUNCTIONS:
        functions = {s: partial(activation, name, s) for s in instruction_sets()}
        for by, function in {**functions, "XLA": OF_XLA[name]}.items():
            rows.append(measure(name, function, by, config.every))
            print(rows[-1], flush=True)
    conditions = conditions_of({"every": config.every}) | {"library_sha256": library_digest()}
    write_report(
        config.out, command, datetime.now(UTC).isoformat(timespec="seconds"), conditions, rows
    )


def library_digest() -> str:
    """The first 12 digits of the SHA-256 of the compiled library."""
    handle = library().handle
    assert handle is not None
    return hashlib.sha256(Path(handle._name).read_bytes()).hexdigest()[:12]


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
    which = "All" if conditions["every"] == 1 else f"Every {conditions['every']}th of all"
    lines = [
        "# Accuracy of the activations",
        "",
        f"`{command}`, {date}.",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['system']} ({machine['architecture']}).",
        ", ".join(f"{name} {value}" for name, value in versions.items() if value) + ".",
        f"library_sha256 {conditions['library_sha256']}.",
        "",
        f"{which} float32 numbers but NaN. Errors in units in the last place of the exact result, "
        "where the largest one is, and the largest absolute error. A zero in place of a result "
        "below the least normal number counts as exact.",
        "",
        "",
    ]
    header = (
        "function",
        "by",
        "most ulp",
        "at",
        "most absolute",
        "infinities and NaN as XLA",
        "numbers",
    )
    cells = [
        (
            row.function,
            row.by,
            three_digits(row.most_ulps),
            f"{row.at:.9g}",
            f"{row.most_absolute:.2e}",
            "yes" if row.as_xla_at_infinity_and_nan else "no",
            str(row.numbers),
        )
        for row in rows
    ]
    return "\n".join(lines) + markdown_table(header, cells, labels=2)


def parse(arguments: Sequence[str]) -> Config:
    """The config of a command line, as `parse_command_line`."""
    return parse_command_line(PROGRAM, PRESETS, arguments)


if __name__ == "__main__":
    run_command_line(PROGRAM, parse, run)
