"""What more devices cost: bytes sent a step, time on simulated devices, and a model on paper.

    python -m benchmarks.scaling --preset quick    # about a minute, for a first look
    python -m benchmarks.scaling                   # preset full, see `PRESETS`

Three computations, each the same work however many devices share it: a training step of an LSTM
language model with its rows over the devices, the same with its parameters sharded along hidden
units too, and the gradient of a linear recurrence with its time over the devices. What is sent is
read off the compiled program. The devices are simulated: they share the cores of one processor, so
that what is measured is no speed-up, but what it costs to share the same work. Each number of
devices has a process of its own, and all take turns, so that noise of the machine hits all alike.
The output folder gets `results.json`, `results.csv`, `table.md` and `plot.png`.
"""

import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from math import ceil
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import rnnjax
from benchmarks.child_process import Receive, Send, child_process
from benchmarks.collectives import collectives_in
from benchmarks.measure import spread
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
from benchmarks.turns import come_to_rest
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
LEAST_ROUNDS, MOST_ROUNDS = 7, 100


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
    budget_seconds: float = 60.0
    """For all rounds together."""
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
        budget_seconds=5.0,
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
    xs = jax.random.normal(jax.random.key(1), shape, jnp.float32)
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


class Facts(NamedTuple):
    """What a program sends, and how long its second call took."""

    collectives: str
    sent_bytes: int
    seconds: float


class Call(NamedTuple):
    """One call of one computation over so many devices."""

    devices: int
    computation: str


def examine_in_child(send: Send, requests: Connection, config: Config, devices: int) -> None:
    """`examine`, in a process with so many simulated devices."""
    settings_of_a_process("float32")
    jax.config.update("jax_num_cpu_devices", devices)
    examine(send, requests, config, devices)


def examine(send: Send, requests: Connection, config: Config, devices: int) -> None:
    """Send computation -> `Facts`, then the seconds of a call for each one that is asked for."""
    if jax.device_count() != devices:
        raise ValueError(f"devices: got {jax.device_count()}, expected {devices}")
    programs = programs_of(config, devices)
    send({name: facts_of(program, devices) for name, program in programs.items()})
    while (computation := requests.recv()) is not None:
        seconds = _seconds_of(programs[computation])
        come_to_rest()
        send(seconds)


def facts_of(program: Program, devices: int) -> Facts:
    """Read off a compiled program, after two calls."""
    found = collectives_in(program.compiled.as_text() or "", devices)
    described = []
    for kind in dict.fromkeys(one.kind for one in found):
        sizes = [one.result_bytes for one in found if one.kind == kind]
        described.append(f"{len(sizes)} {kind} of {sum(sizes)} B")
    _seconds_of(program)
    sent = round(sum(one.sent_bytes for one in found))
    return Facts("; ".join(described), sent, _seconds_of(program))


def _seconds_of(program: Program) -> float:
    start = time.perf_counter()
    jax.block_until_ready(program.call())
    return time.perf_counter() - start


def run(config: Config, command: str, start_child: StartChild = child_process) -> list[Row]:
    """Compile for all numbers of devices, let all programs take turns, and write the report."""
    config.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        facts: dict[Call, Facts] = {}
        asks: dict[int, tuple[Connection, Receive]] = {}
        for devices in sorted(config.devices):
            requests, to_child = multiprocessing.get_context("spawn").Pipe(duplex=False)
            stack.enter_context(requests)
            stack.enter_context(to_child)
            arguments = (examine_in_child, requests, config, devices)
            asks[devices] = to_child, stack.enter_context(start_child(*arguments))
            found = asks[devices][1](CHILD_SECONDS)
            facts |= {Call(devices, name): of_one for name, of_one in found.items()}
            print(f"{devices} devices: compiled", file=sys.stderr, flush=True)
        seconds = _by_turns(config, facts, asks)
        for to_child, _ in asks.values():
            to_child.send(None)
    rows = [
        Row(call.computation, call.devices, *one[:2], *spread(seconds[call]))
        for call, one in facts.items()
    ]
    conditions = conditions_of(asdict(config) | {"out": str(config.out)})
    date = datetime.now(UTC).isoformat(timespec="seconds")
    write_report(config.out, command, date, conditions, rows)
    return rows


def _by_turns(
    config: Config,
    facts: Mapping[Call, Facts],
    asks: Mapping[int, tuple[Connection, Receive]],
) -> dict[Call, list[float]]:
    """Seconds of each round, every round in an order shuffled anew."""
    one_round = sum(one.seconds for one in facts.values())
    rounds = min(max(ceil(config.budget_seconds / one_round), LEAST_ROUNDS), MOST_ROUNDS)
    seconds: dict[Call, list[float]] = {call: [] for call in facts}
    order, shuffling = list(facts), random.Random(0)
    for _ in range(rounds):
        shuffling.shuffle(order)
        for call in order:
            to_child, receive = asks[call.devices]
            to_child.send(call.computation)
            seconds[call].append(receive(CHILD_SECONDS))
    return seconds


parse = partial(parse_command_line, PROGRAM, PRESETS)
"""Words -> config, see `parse_command_line`."""

if __name__ == "__main__":
    run_command_line(PROGRAM, parse, run)
