"""What more devices cost: bytes sent a step, time on simulated devices, and a model on paper.

    python -m benchmarks.scaling --preset quick    # about a minute, for a first look
    python -m benchmarks.scaling                   # preset full, see `PRESETS`

Three computations, each the same work however many devices share it: a training step of an LSTM
language model with its rows over the devices, the same with its parameters sharded along hidden
units too, and the gradient of a linear recurrence with its time over the devices. What is sent is
read off the compiled program. The devices are simulated: they share the cores of one processor, so
that no time can fall; what is measured is how much it rises. Each number of devices has a process
of its own. The output folder gets `results.json`, `results.csv`, `table.md` and `plot.png`.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import rnnjax
from benchmarks.child_process import Send, child_process
from benchmarks.collectives import collectives_in
from benchmarks.measure import interleaved_seconds, spread
from benchmarks.points import (
    StartChild,
    conditions_of,
    parse_command_line,
    refuse_out_of_range,
    refuse_unknown,
    run_command_line,
    settings_of_a_process,
)
from benchmarks.scaling_report import ALONE, Row, write_report
from rnnjax.models.language_model import (
    LanguageModelConfig,
    init_language_model,
    initial_state,
    language_model_loss,
)
from rnnjax.plans.data_parallel import data_parallel
from rnnjax.plans.sequence_parallel import sequence_parallel
from rnnjax.text.streams import TextBatch
from rnnjax.training.devices import (
    make_mesh,
    make_train_step_over,
    place_batch,
    place_state,
    state_shardings,
)
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.step import initial_train_state

PROGRAM = "python -m benchmarks.scaling"
CHILD_SECONDS = 600.0  # for a child to start, compile and measure
TIME = "time"


@dataclass(frozen=True)
class Config:
    """Bytes sent and time against the number of devices.

    Raises:
        ValueError: A name is unknown or a number out of range.
    """

    preset: Literal["quick", "full"] = "full"
    """Where the defaults of all other flags come from."""
    devices: tuple[int, ...] = (1, 2, 4, 8)
    """How many simulated devices; each divides the batch, the sizes and the long T."""
    batch_size: int = 64
    """B of the language model."""
    time_steps: int = 64
    """T of the language model."""
    hidden_size: int = 256
    """H of both."""
    vocabulary_size: int = 128
    """V of the language model."""
    linear_recurrence: str = "min_gru"
    """Whose time is shared: a name of a recurrence that is linear in its carry."""
    long_time_steps: int = 4096
    """T of it."""
    long_batch_size: int = 4
    """B of it."""
    budget_seconds: float = 15.0
    """For all rounds of one number of devices."""
    out: Path = Path("docs/results/scaling")
    """The output folder."""

    def __post_init__(self) -> None:
        registry = rnnjax.recurrences.REGISTRY
        linear = {name: r for name, r in registry.items() if r.linear is not None}
        refuse_unknown("linear_recurrence", (self.linear_recurrence,), linear)
        sizes = ("batch_size", "hidden_size", "long_time_steps")
        refuse_out_of_range(
            self,
            once=("devices",),
            at_least_1=("devices", *sizes, "time_steps", "vocabulary_size", "long_batch_size"),
            more_than_0=("budget_seconds",),
        )
        if 1 not in self.devices:
            raise ValueError(f"devices: got {self.devices}, expected 1 among them, to compare with")
        for name in sizes:
            for devices in self.devices:
                if getattr(self, name) % devices:
                    raise ValueError(
                        f"{name}: got {getattr(self, name)}, expected a multiple of all devices, "
                        f"{devices} too"
                    )


PRESETS: Mapping[str, Config] = {
    "full": Config(),  # about two minutes on 2 cores
    "quick": Config(
        preset="quick",
        devices=(1, 4),
        time_steps=16,
        hidden_size=64,
        long_time_steps=512,
        budget_seconds=2.0,
        out=Path("runs/scaling_quick"),
    ),
}


class Program(NamedTuple):
    """What is compiled and timed."""

    compiled: jax.stages.Compiled
    call: Callable[[], Any]


def training_step(config: Config, hidden: int) -> Program:
    """Of the language model over all devices, `hidden` of which share its parameters."""
    mesh = make_mesh(hidden=hidden)
    model = LanguageModelConfig(
        config.vocabulary_size,
        hidden_sizes=(config.hidden_size,),
        embedding_size=config.hidden_size,
    )
    optimizer = build_optimizer(OptimizerConfig())
    params = init_language_model(jax.random.key(0), model)
    memory = initial_state(model, params, (config.batch_size,))
    state = initial_train_state(params, optimizer, memory, jax.random.key(1))
    shardings = state_shardings(mesh, state)
    state = place_state(state, shardings)
    loss = partial(language_model_loss, model, plan=data_parallel(mesh))
    step = make_train_step_over(mesh, shardings, loss, optimizer)
    shape = (config.time_steps, config.batch_size)
    tokens = np.random.default_rng(0).integers(0, config.vocabulary_size, (2, *shape), np.int32)
    inputs, targets = tokens
    batch = TextBatch(inputs, targets, np.zeros(shape, bool), np.ones(shape, np.float32))
    batch = place_batch(mesh, batch)
    compiled = step.lower(state, batch).compile()

    def call() -> Any:
        nonlocal state
        state, metrics = compiled(state, batch)
        return metrics

    return Program(compiled, call)


def long_gradient(config: Config, devices: int, *, shared: bool) -> Program:
    """Of the linear recurrence by its parameters; its time over the devices, or on one of them."""
    recurrence = rnnjax.recurrences.REGISTRY[config.linear_recurrence]
    mesh = jax.make_mesh((devices,), (TIME,), axis_types=(AxisType.Auto,))
    plan = sequence_parallel(mesh, TIME) if shared else "associative"
    shape = (config.long_time_steps, config.long_batch_size, config.hidden_size)
    params = recurrence.init(jax.random.key(0), config.hidden_size, config.hidden_size)
    xs = jax.random.normal(jax.random.key(1), shape)
    params = jax.device_put(params, NamedSharding(mesh, P()))
    xs = jax.device_put(xs, NamedSharding(mesh, P(TIME)))

    def loss(params: Any, xs: jax.Array) -> jax.Array:
        _, ys = rnnjax.scan(recurrence, params, xs, plan=plan)
        return jnp.sum(ys**2) / 2

    compiled = jax.jit(jax.value_and_grad(loss)).lower(params, xs).compile()
    return Program(compiled, lambda: compiled(params, xs))


def programs_of(config: Config, devices: int) -> dict[str, Program]:
    """Label -> program, for as many devices as JAX has."""
    programs = {
        "rows": training_step(config, 1),
        "rows, parameters sharded": training_step(config, devices),
        "time": long_gradient(config, devices, shared=True),
    }
    if devices == 1:
        programs[ALONE] = long_gradient(config, devices, shared=False)
    return programs


def examine_in_child(send: Send, config: Config, devices: int) -> None:
    """`examine`, in a process with so many simulated devices."""
    settings_of_a_process("float32")
    jax.config.update("jax_num_cpu_devices", devices)
    examine(send, config, devices)


def examine(send: Send, config: Config, devices: int) -> None:
    """Send a list of `Row`s, one for each computation."""
    if jax.device_count() != devices:
        raise ValueError(f"devices: got {jax.device_count()}, expected {devices}")
    programs = programs_of(config, devices)
    calls = {name: program.call for name, program in programs.items()}
    seconds = interleaved_seconds(calls, config.budget_seconds)
    rows = []
    for name, program in programs.items():
        time = spread(seconds[name])
        sent: dict[str, tuple[int, int]] = {}
        total = 0.0
        found = collectives_in(program.compiled.as_text() or "", devices)
        for one in found:
            count, size = sent.get(one.kind, (0, 0))
            sent[one.kind] = count + 1, size + one.result_bytes
            total += one.sent_bytes
        described = "; ".join(f"{count} {kind} of {size} B" for kind, (count, size) in sent.items())
        rows.append(Row(name, devices, described, round(total), *time))
    send(rows)


def run(config: Config, command: str, start_child: StartChild = child_process) -> list[Row]:
    """Measure all numbers of devices, and write the report."""
    config.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for devices in sorted(config.devices):
        with start_child(examine_in_child, config, devices) as receive:
            rows += receive(CHILD_SECONDS)
        print(f"{devices} devices: done", file=sys.stderr, flush=True)
    conditions = conditions_of(asdict(config) | {"out": str(config.out)})
    date = datetime.now(UTC).isoformat(timespec="seconds")
    write_report(config.out, command, date, conditions, rows)
    return rows


parse = partial(parse_command_line, PROGRAM, PRESETS)
"""Words -> config, see `parse_command_line`."""

if __name__ == "__main__":
    run_command_line(PROGRAM, parse, run)
