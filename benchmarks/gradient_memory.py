"""How much memory backpropagation through time takes under each plan, against T.

    python -m benchmarks.gradient_memory --preset quick    # about a minute, for a first look
    python -m benchmarks.gradient_memory                   # preset full, see `PRESETS`

Measured is the gradient, by the parameters, of a loss of the last carry: what grows with T is then
what a plan keeps, and no output. The memory of a call is told twice: by XLA, which plans it when
it compiles, and by the kernel, as the peak rise of resident memory. Each recurrence and T has a
process of its own. The output folder gets `results.json`, `results.csv`, `table.md` and `plot.png`.
"""

import ctypes
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

import rnnjax
from benchmarks.child_process import Send, child_process
from benchmarks.gradient_memory_report import Row, write_report
from benchmarks.measure import compile_program, peak_resident_increase
from benchmarks.points import (
    StartChild,
    conditions_of,
    parse_command_line,
    refuse_out_of_range,
    refuse_unknown,
    run_command_line,
    settings_of_a_process,
)
from rnnjax.plans.checkpointed import checkpointed_nested, checkpointed_within

PROGRAM = "python -m benchmarks.gradient_memory"
POINT_SECONDS = 600.0  # for a child to start, or to measure one plan


@dataclass(frozen=True)
class Config:
    """Memory of a gradient against T, plan by plan.

    Raises:
        ValueError: A name is unknown or a number out of range.
    """

    preset: Literal["quick", "full"] = "full"
    """Where the defaults of all other flags come from."""
    recurrences: tuple[str, ...] = ("lstm", "gru")
    """Names of recurrences."""
    time_steps: tuple[int, ...] = (64, 256, 1024, 4096, 16384)
    """T."""
    plans: tuple[str, ...] = ("reference", "fused", "checkpointed")
    """Names of plans."""
    levels: tuple[int, ...] = (2,)
    """Levels of nested checkpoints."""
    budgets: tuple[int, ...] = (8, 1)
    """Memory budgets in MiB, for the plan that keeps to one."""
    batch_size: int = 16
    """B."""
    input_size: int = 64
    """I."""
    hidden_size: int = 64
    """H."""
    dtype: Literal["float32", "float64"] = "float32"
    """Of parameters and inputs."""
    out: Path = Path("docs/results/gradient_memory")
    """The output folder."""

    def __post_init__(self) -> None:
        refuse_unknown("recurrences", self.recurrences, rnnjax.recurrences.REGISTRY)
        refuse_unknown("plans", self.plans, rnnjax.plans.REGISTRY)
        for argument in ("recurrences", "time_steps", "plans"):
            if not getattr(self, argument):
                raise ValueError(f"{argument}: got none, expected at least one")
        sizes = ("batch_size", "input_size", "hidden_size")
        refuse_out_of_range(
            self,
            once=("recurrences", "time_steps", "plans", "levels", "budgets"),
            at_least_1=("time_steps", "levels", "budgets", *sizes),
            more_than_0=(),
        )


PRESETS: Mapping[str, Config] = {
    "full": Config(),  # some minutes on 2 cores
    "quick": Config(
        preset="quick",
        recurrences=("lstm",),
        time_steps=(64, 512),
        budgets=(1,),
        out=Path("runs/gradient_memory_quick"),
    ),
}


def plans_of(config: Config) -> dict[str, rnnjax.plans.Plan]:
    """Label -> plan."""
    plans = {name: rnnjax.plans.REGISTRY[name] for name in config.plans}
    plans |= {f"checkpointed_nested({n})": checkpointed_nested(n) for n in config.levels}
    return plans | {
        f"checkpointed_within({n} MiB)": checkpointed_within(n * 2**20) for n in config.budgets
    }


def gradient_of(recurrence: rnnjax.Recurrence, plan: rnnjax.plans.Plan) -> Callable[..., Any]:
    """`(params, xs) -> dparams` of ½ Σ carry² after the last step."""

    def loss(params: Any, xs: Array) -> Array:
        carry, _ = rnnjax.scan(recurrence, params, xs, plan=plan)
        leaves = jax.tree.leaves(carry)
        return sum(jnp.vdot(leaf, leaf) for leaf in leaves) / jnp.asarray(2, xs.dtype)

    return jax.grad(loss)


def examine_in_child(send: Send, config: Config, recurrence_name: str, time_steps: int) -> None:
    """`examine`, after the settings that hold for a whole process."""
    settings_of_a_process(config.dtype)
    _give_freed_memory_back()
    examine(send, config, recurrence_name, time_steps)


def _give_freed_memory_back() -> None:
    """Have glibc return every larger block when it is freed: what it holds back hides a rise."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)
    mallopt(-3, 64 * 1024)  # M_MMAP_THRESHOLD; set, it also stays where it is


def examine(send: Send, config: Config, recurrence_name: str, time_steps: int) -> None:
    """Send the device's name, then a `Row` for each plan, or the reason why it refuses."""
    dtype = jnp.dtype(config.dtype)
    recurrence = rnnjax.recurrences.REGISTRY[recurrence_name]
    key_params, key_xs = jax.random.split(jax.random.key(0))
    params = recurrence.init(key_params, config.input_size, config.hidden_size, dtype=dtype)
    shape = (time_steps, config.batch_size, config.input_size)
    xs = jax.random.normal(key_xs, shape, dtype)
    send(jax.devices()[0].device_kind)
    unit = time_steps * config.batch_size * config.hidden_size * dtype.itemsize
    for label, plan in plans_of(config).items():
        try:
            compiled, cost = compile_program(gradient_of(recurrence, plan), (params, xs))
        except ValueError as refusal:
            send(Row(recurrence_name, time_steps, label, unit, str(refusal)))
            continue
        resident = peak_resident_increase(lambda compiled=compiled: compiled(params, xs))
        send(
            Row(
                recurrence_name,
                time_steps,
                label,
                unit,
                temporary_bytes=cost.temporary_bytes,
                peak_resident_increase_bytes=resident,
            )
        )


def run(config: Config, command: str, start_child: StartChild = child_process) -> list[Row]:
    """Measure all points, and write the report."""
    config.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    devices = set()
    for recurrence in config.recurrences:
        for time_steps in sorted(config.time_steps):
            with start_child(examine_in_child, config, recurrence, time_steps) as receive:
                devices.add(receive(POINT_SECONDS))
                rows += [receive(POINT_SECONDS) for _ in plans_of(config)]
            print(f"{recurrence} T={time_steps}: done", file=sys.stderr, flush=True)
    settings = asdict(config) | {"out": str(config.out), "devices": sorted(devices)}
    conditions = conditions_of(settings)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    write_report(config.out, command, date, conditions, rows)
    return rows


parse = partial(parse_command_line, PROGRAM, PRESETS)
"""Words -> config, see `parse_command_line`."""

if __name__ == "__main__":
    run_command_line(PROGRAM, parse, run)
