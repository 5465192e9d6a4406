"""Memory probes: which recurrences solve the adding problem and copy memory, at what length?

    python -m experiments.memory_probes

The adding problem: T random numbers, two of them marked; their sum is asked for at the end. Copy
memory: ten symbols, T − 1 blanks, a delimiter, and then the ten symbols are to be said again. There
is nothing in either but to remember. Every recurrence of the registry that reads vectors gets the
same number of parameters, the same encoder and head, the same optimiser and the same data; some
take part a second time with weights that begin with a long memory. Each begins with the shortest
T, goes on to the next one, from new weights, once it has solved the one before, and stops as soon
as it has solved one. Several rates of learning run side by side, and the first one to solve it
counts. Shown are the steps it took, and the loss beside that of who remembers nothing: 1/6 for
always saying 1, 10 ln 8 / (T + 20) for guessing ten symbols. "Solved" is a tenth of that.

Sequences are generated (`experiments.data.memory_tasks`), new ones each step. Each network, task
and T is a point of its own in the run folder: a run that was killed goes on, by the same command,
at the points it was at.

Published (Bai et al. 2018, arXiv:1803.01271, table 1), at equal parameters too, and much longer:
adding at T = 600 is solved by a GRU (5.3e-5) and not by an LSTM (0.164) or an RNN (0.177); copy
memory at T = 1000 by none of the three (0.0204, 0.0197, 0.0202, where guessing is 0.0204).

Recorded: of 25 networks, solved adding at T = 32 by 20, first in 100 steps (who remembers nothing
loses 0.167), adding at T = 128 by 19, first in 200 steps (who remembers nothing loses 0.167), copy
at T = 32 by 1, first in 200 steps (who remembers nothing loses 0.400), copy at T = 128 by 1, first
in 1,400 steps (who remembers nothing loses 0.141). `python -m experiments.memory_probes`, 7.8
minutes on 2 cores of AMD EPYC (docs/results/memory_probes/report.md).
"""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array

import rnnjax
from benchmarks.report import append_record, markdown_table, read_records
from experiments import agreement
from experiments.agreement import Network, hidden_size_of
from experiments.command_line import one_line_errors, preset_named, say
from experiments.data.memory_tasks import (
    ADDING_BASELINE,
    BLANK,
    DELIMITER,
    adding_batch,
    copy_baseline,
    copy_batch,
)
from experiments.side_by_side import Problem, each_done, make_train_some, new_runs
from experiments.trained_run import code_of, made_by
from rnnjax.layers.checks import check_size
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.feed_forward import apply_feed_forward, init_feed_forward
from rnnjax.losses.cross_entropy import mean_cross_entropy
from rnnjax.models.checks import reads_vectors
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.initializers import Initializers
from rnnjax.recurrences.protocol import Params, Recurrence
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.run_folder import RunFolder, open_run_folder

RUN = Path("runs/memory_probes")
POINTS = "points.jsonl"

SOLVED = 0.1
"""Below this share of the loss of who remembers nothing a task is solved."""

HEADS = 8
"""Of the mLSTM: with one, its matrix would be as large as all its parameters, for every row."""

PUBLISHED = {
    "adding": (600, {"lstm": 0.164, "gru": 5.3e-5, "elman": 0.177}),
    "copy": (1000, {"lstm": 0.0204, "gru": 0.0197, "elman": 0.0202}),
}
"""Task -> T, and losses by recurrence: Bai, Kolter and Koltun (2018), arXiv:1803.01271, table 1."""


# The tasks


class Task(NamedTuple):
    """What is to be learned.

    Attributes:
        title: For people.
        input_size: Of x^<t>.
        output_size: Of what the head says.
        draw: `(key, T, B) -> (xs (time, B, input_size), answers)`.
        loss: `(outputs, answers) -> ()`.
        read: `(ys) -> ` those of the outputs over time that the head reads.
        baseline: `(T) ->` the loss of who remembers nothing.
    """

    title: str
    input_size: int
    output_size: int
    draw: Callable[[Array, int, int], tuple[Array, Array]]
    loss: Callable[[Array, Array], Array]
    read: Callable[[Array], Array]
    baseline: Callable[[int], float]


def _draw_adding(key: Array, time_steps: int, batch_size: int) -> tuple[Array, Array]:
    batch = adding_batch(key, time_steps, batch_size)
    return batch.xs[..., :2], batch.sums  # it is always asked for at the end


def _draw_copy(key: Array, blanks: int, batch_size: int) -> tuple[Array, Array]:
    batch = copy_batch(key, blanks, batch_size)
    return jax.nn.one_hot(batch.tokens, DELIMITER + 1, dtype=jnp.float32), batch.targets


TASKS: Mapping[str, Task] = {
    "adding": Task(
        "The adding problem",
        2,
        1,
        _draw_adding,
        lambda outputs, sums: jnp.mean((outputs[..., 0] - sums) ** 2),
        lambda ys: ys[-1],
        lambda _: ADDING_BASELINE,
    ),
    "copy": Task(
        "Copy memory",
        DELIMITER + 1,
        BLANK + 1,
        _draw_copy,
        mean_cross_entropy,
        lambda ys: ys,
        copy_baseline,
    ),
}
"""Name -> task."""


# The networks


def _of_registry(recurrence: Recurrence) -> Network:
    def init(key: Array, input_size: int, hidden_size: int, longest: int) -> Params:
        del longest
        return recurrence.init(key, input_size, hidden_size)

    return Network(recurrence, init, recurrence.summary)


def _mlstm(key: Array, input_size: int, hidden_size: int, longest: int) -> Params:
    del longest
    return rnnjax.mlstm.init(key, input_size, HEADS * hidden_size, heads=HEADS)


def _identity(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    del key
    return jnp.eye(*shape, dtype=dtype)


def _elman_relu_identity(key: Array, input_size: int, hidden_size: int, longest: int) -> Params:
    del longest
    return rnnjax.elman_relu.init(
        key, input_size, hidden_size, initializers=Initializers(recurrent=_identity)
    )


def _lru_ring(key: Array, input_size: int, hidden_size: int, longest: int) -> Params:
    # A state is left by a half to nearly all of it over the longest memory that is asked for.
    kept = 0.5 ** (1 / longest)
    return rnnjax.lru.init(key, input_size, hidden_size, r_min=kept, r_max=kept**0.01)


NETWORKS: Mapping[str, Network] = {
    **{name: _of_registry(r) for name, r in REGISTRY.items() if reads_vectors(name)},
    "mlstm": Network(rnnjax.mlstm, _mlstm, f"{rnnjax.mlstm.summary}; {HEADS} heads"),
    "elman_relu_identity": Network(
        rnnjax.elman_relu, _elman_relu_identity, "from the identity: IRNN of Le et al. (2015)"
    ),
    "gru_chrono": agreement.NETWORKS["gru_chrono"],
    "lstm_chrono": agreement.NETWORKS["lstm_chrono"],
    "lru_ring": Network(
        rnnjax.lru, _lru_ring, "from eigenvalues that leave half of a state, or more, after T steps"
    ),
}
"""Name -> network: those of the registry as they begin by default, some also otherwise."""


class ProbeParams(NamedTuple):
    """An encoder of each input, one layer, and a head with a hidden layer.

    Encoder and head are not linear, so that a recurrence need not be.
    """

    encoder: DenseParams
    layer: Params
    head: tuple[DenseParams, ...]


@dataclass(frozen=True)
class Train:
    """Train each network on each task, at one length after the other, or go on; then compare.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" takes minutes on two cores, "smoke" only shows
            that everything runs, "full" has more parameters, steps and lengths.
        tasks: Names in `TASKS`.
        networks: Names in `NETWORKS`; None is all.
        lengths: T, ascending; each is tried by those that solved the one before.
        parameters: Of the recurrence, about: H is chosen by it.
        encoded_size: Of what the recurrence reads.
        head_size: Of the head's hidden layer.
        learning_rates: Of Adam, side by side.
        clip_norm: The largest gradient norm let through.
        batch_size: B, new sequences each step.
        steps: After which a task counts as not solved.
        score_every: Steps between scores.
        test_size: Sequences that are scored.
        seed: Of parameters and sequences.
        workers: Points trained at the same time.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    tasks: tuple[str, ...] = tuple(TASKS)
    networks: tuple[str, ...] | None = None
    lengths: tuple[int, ...] = (32, 128)
    parameters: int = 5_000
    encoded_size: int = 16
    head_size: int = 32
    learning_rates: tuple[float, ...] = (1e-3, 1e-2)
    clip_norm: float = 1.0
    batch_size: int = 32
    steps: int = 1_500
    score_every: int = 100
    test_size: int = 256
    seed: int = 0
    workers: int = 2


PRESETS = {
    "demo": Train(),
    "smoke": Train(
        run=RUN.with_name("memory_probes_smoke"),
        preset="smoke",
        networks=("elman", "min_gru"),
        lengths=(4, 6),
        parameters=300,
        encoded_size=4,
        head_size=8,
        batch_size=8,
        steps=40,
        score_every=20,
        test_size=16,
    ),
    "full": Train(
        run=RUN.with_name("memory_probes_full"),
        preset="full",
        lengths=(32, 64, 128, 256, 512, 1024),
        parameters=70_000,
        encoded_size=64,
        head_size=128,
        learning_rates=(3e-4, 1e-3, 3e-3, 1e-2),
        batch_size=64,
        steps=50_000,
        score_every=500,
        test_size=1_000,
    ),
}


def check(config: Train) -> tuple[str, ...]:
    """Refuse what would fail only after the run folder is made.

    Returns:
        The names of the networks.

    Raises:
        ValueError: A number is out of range, a name is unknown, or something is given twice.
    """
    for name in (
        "parameters", "encoded_size", "head_size", "batch_size", "steps", "score_every",
        "test_size", "workers",
    ):  # fmt: skip
        check_size(name, getattr(config, name))
    names = tuple(NETWORKS) if config.networks is None else config.networks
    for argument, given, known in (
        ("tasks", config.tasks, TASKS),
        ("networks", names, NETWORKS),
    ):
        for name in given:
            if name not in known:
                raise ValueError(f"{argument}: got {name!r}, expected some of {', '.join(known)}")
        if not given or len(set(given)) < len(given):
            raise ValueError(
                f"{argument}: got {', '.join(given) or 'none'}, expected at least one, none twice"
            )
    lengths = config.lengths
    if not lengths or list(lengths) != sorted(set(lengths)) or lengths[0] < 4:
        raise ValueError(f"lengths: got {list(lengths)}, expected some of at least 4, ascending")
    for name, values in (
        ("learning_rates", config.learning_rates),
        ("clip_norm", (config.clip_norm,)),
    ):
        if not values or not all(0 < value < math.inf for value in values):
            raise ValueError(f"{name}: got {list(values)}, expected finite numbers above 0")
    if config.steps % config.score_every:
        raise ValueError(
            f"score_every: got {config.score_every}, expected a divisor of steps = {config.steps}"
        )
    return names


def output_size(recurrence: Recurrence, params: Params) -> int:
    """Of y^<t>; nothing is computed."""

    def one(params: Params) -> Array:
        x = jnp.zeros(recurrence.input_shape(params), jnp.float32)
        carry = recurrence.initial_carry(params, ())
        return recurrence.step(params, carry, recurrence.project(params, x))[1]

    return jax.eval_shape(one, params).shape[-1]


def hidden_size(recurrence: Recurrence, params: Params) -> int:
    """H, with which its parameters were drawn."""
    assert recurrence.sizes is not None, recurrence.name
    return recurrence.sizes(params)["hidden_size"]


def init_params(config: Train, task: Task, name: str, length: int) -> ProbeParams:
    """Draw the parameters of a network."""
    network = NETWORKS[name]
    size = hidden_size_of(network, config.encoded_size, config.parameters)
    keys = jax.random.split(jax.random.key(config.seed), 3)
    layer = network.init(keys[1], config.encoded_size, size, length)
    return ProbeParams(
        init_dense(keys[0], task.input_size, config.encoded_size),
        layer,
        init_feed_forward(
            keys[2],
            output_size(network.recurrence, layer),
            (config.head_size, task.output_size),
        ),
    )


def outputs_of(recurrence: Recurrence, task: Task, params: ProbeParams, xs: Array) -> Array:
    """What the head says: `(*, B, output_size)`, time first where the task reads all of it."""
    encoded = jnp.tanh(apply_dense(params.encoder, xs))
    # The plan that has a batching rule for what is hand-written: rates run side by side.
    _, ys = rnnjax.scan(recurrence, params.layer, encoded, plan="fused")
    return apply_feed_forward(params.head, task.read(ys))


def problem_of(config: Train, task: Task, recurrence: Recurrence, length: int) -> Problem:
    """A task at a length, for `experiments.side_by_side`."""

    def loss(params: ProbeParams, batch: tuple[Array, Array]) -> Array:
        xs, answers = batch
        return task.loss(outputs_of(recurrence, task, params, xs), answers)

    def score(params: ProbeParams) -> Array:
        key = jax.random.key(config.seed + 1)  # none that a step draws from
        return loss(params, task.draw(key, length, config.test_size))

    return Problem(loss, lambda key: task.draw(key, length, config.batch_size), score)


# A run


def train_point(config: Train, name: str, task: Task, length: int) -> dict[str, Any]:
    """Train a network from its beginning at one length, until it is solved or the steps end.

    Returns:
        solved: Whether it is.
        steps: How many were made.
        loss: The least of those scored at the end, one a rate; None where none is finite.
        learning_rate: The rate that has it.
        curves: The loss after every `score_every` steps, a list a rate.
        skipped: Steps that were skipped, a number a rate.
        hidden_size: H.
        parameters: Of the recurrence.
    """
    recurrence, rates = NETWORKS[name].recurrence, config.learning_rates
    problem = problem_of(config, task, recurrence, length)
    key = jax.random.fold_in(jax.random.key(config.seed), length)
    runs = new_runs(
        [init_params(config, task, name, length)] * len(rates),
        jnp.stack([key] * len(rates)),
        rates,
        config.clip_norm,
    )
    train_some = make_train_some(problem, steps=config.score_every, clip_norm=config.clip_norm)
    curves: list[np.ndarray] = []
    steps, is_solved = 0, False
    while steps < config.steps and not is_solved:
        runs, _, scores = train_some(runs, jnp.asarray(steps, jnp.int32))
        curves.append(np.asarray(scores, np.float64))
        steps += config.score_every
        is_solved = bool((curves[-1] < SOLVED * task.baseline(length)).any())
    last = np.where(np.isfinite(curves[-1]), curves[-1], np.inf)
    best = int(np.argmin(last))
    layer = jax.tree.map(lambda leaf: leaf[best], runs.params.layer)
    return {
        "solved": is_solved,
        "steps": steps,
        "loss": finite_or_none(last[best]),
        "learning_rate": rates[best],
        "curves": [[finite_or_none(loss) for loss in curve] for curve in np.transpose(curves)],
        "skipped": np.asarray(runs.skipped).tolist(),
        "hidden_size": hidden_size(recurrence, layer),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(layer)),
    }


def finite_or_none(value: float) -> float | None:
    """JSON has no word for what is not finite."""
    return float(value) if math.isfinite(value) else None


def run_fingerprint(config: Train) -> dict[str, str]:
    """Digests of the first sequences, of the settings that decide the result, and of the code."""
    here, key = Path(__file__), jax.random.key(config.seed)
    first = {name: TASKS[name].draw(key, config.lengths[0], 2) for name in config.tasks}
    return fingerprint(
        data={name: [np.asarray(part) for part in batch] for name, batch in first.items()},
        config=config,
        code=code_of(
            here.with_name("agreement.py"),
            here.with_name("equal_parameters.py"),
            here.with_name("side_by_side.py"),
            here,
        ),
        without=("run", "preset", "workers"),
    )


def train(config: Train) -> dict[str, Any]:
    """Train every network on every task at one length after the other, or go on; then compare.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    names = check(config)
    with open_run_folder(
        config.run, config, may_differ=("workers",), fingerprint=run_fingerprint(config)
    ) as run:
        path, lock = run.path / POINTS, Lock()
        known = {(r["task"], r["network"], r["length"]): r for r in read_records(path)}

        def climb(task: str, name: str) -> None:
            for length in config.lengths:
                point = known.get((task, name, length))
                if point is None:
                    point = {"task": task, "network": name, "length": length}
                    point |= train_point(config, name, TASKS[task], length)
                    with lock:
                        known[task, name, length] = point
                        append_record(path, point)
                    told = (
                        f"solved in {point['steps']:,} steps" if point["solved"] else "not solved"
                    )
                    say(f"{task}, {name}, T = {length}: {told}, loss {loss_text(point['loss'])}")
                if not point["solved"]:
                    break

        chains = [partial(climb, task, name) for task in config.tasks for name in names]
        each_done(chains, config.workers)
        return report(config, names, run, list(known.values()))


def loss_text(loss: float | None) -> str:
    """Two digits."""
    return "not finite" if loss is None else f"{loss:.2g}"


def report(
    config: Train, names: Sequence[str], run: RunFolder, points: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Write the report and its pictures, and print what it says."""
    order = {name: place for place, name in enumerate(NETWORKS)}
    points = sorted(points, key=lambda p: (p["task"], order[p["network"]], p["length"]))
    summary = run.start | {
        "seconds": run.seconds(),
        "config": run.config,
        "tasks": {
            name: {
                "title": TASKS[name].title,
                "baseline": {str(T): TASKS[name].baseline(T) for T in config.lengths},
                "published": {"length": PUBLISHED[name][0], "loss": PUBLISHED[name][1]},
            }
            for name in config.tasks
        },
        "networks": {name: NETWORKS[name].summary for name in names},
        "points": points,
    }
    # Keys of JSON are strings: the page is made of what the file says.
    summary = json.loads(json.dumps(summary, allow_nan=False))
    replace_text(run.path / "report.json", json.dumps(summary, ensure_ascii=False) + "\n")
    replace_text(run.path / "report.md", report_page(summary))
    draw_solved(summary, run.path / "solved.png")
    draw_curves(summary, run.path / "curves.png")
    for task in config.tasks:
        print(f"{TASKS[task].title}:\n{table(summary, task)}")
    print(f"In {run.path}: report.md, solved.png, curves.png")
    return summary


Cells = dict[str, dict[int, Mapping[str, Any]]]
"""Network -> T -> point."""


def ranked(summary: Mapping[str, Any], task: str) -> Cells:
    """The points of a task, the network first that went furthest, in the fewest steps."""
    cells: Cells = {name: {} for name in summary["networks"]}
    for point in summary["points"]:
        if point["task"] == task and point["network"] in cells:
            cells[point["network"]][point["length"]] = point

    def rank(of_network: dict[int, Mapping[str, Any]]) -> tuple[float, ...]:
        solved = [point["steps"] for point in of_network.values() if point["solved"]]
        last = max(of_network.items())[1]
        return -len(solved), *reversed(solved), math.inf if last["loss"] is None else last["loss"]

    return dict(sorted(cells.items(), key=lambda item: rank(item[1])))


def table(summary: Mapping[str, Any], task: str) -> str:
    """Steps to solve a task by length, or the loss where it was not, as Markdown."""
    config, of_task = summary["config"], summary["tasks"][task]
    lengths = config["lengths"]
    published = of_task["published"]
    head = ["network", "H", *(f"T = {T}" for T in lengths), f"published, T = {published['length']}"]
    rows = []
    for name, of_network in ranked(summary, task).items():
        cells = [_cell(of_network.get(T)) for T in lengths]
        loss = published["loss"].get(name)
        size = str(next(iter(of_network.values()))["hidden_size"])
        rows.append([f"`{name}`", size, *cells, "" if loss is None else f"{loss:.3g}"])
    floors = [f"{of_task['baseline'][str(T)]:.3g}" for T in lengths]
    floor = f"{TASKS[task].baseline(published['length']):.3g}"
    rows.append(["who remembers nothing", "", *floors, floor])
    return markdown_table(head, rows, labels=1)


def _cell(point: Mapping[str, Any] | None) -> str:
    if point is None:
        return "–"
    if point["solved"]:
        return f"**{point['steps']:,}**"
    return loss_text(point["loss"])


def report_page(summary: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    config = summary["config"]
    rates = " and ".join(f"{rate:g}" for rate in config["learning_rates"])
    networks = "\n".join(f"- `{name}`: {line}" for name, line in summary["networks"].items())
    skipped = sorted({p["network"] for p in summary["points"] if any(p["skipped"])})
    tables = "\n".join(
        f"## {of_task['title']}\n\n{table(summary, name)}"
        for name, of_task in summary["tasks"].items()
    )
    return f"""# Memory probes

{made_by(summary)}

In bold the steps after which a task was solved: the loss on {config["test_size"]} sequences never
seen is below a tenth of that of who remembers nothing; it is scored every {config["score_every"]}
steps. Else the loss after {config["steps"]:,} steps. A length is tried by those that solved the one
before: – is not tried. About {config["parameters"]:,} parameters in the recurrence,
B = {config["batch_size"]}, Adam at rates of {rates} side by side, of which the best counts; one
seed. Published are losses of Bai et al. (2018), arXiv:1803.01271, table 1, of networks with 70,000
parameters (adding) and 16,000 (copy), and of longer sequences.

{tables}
![steps to solve](solved.png)

The loss of each network's best rate, as far as it was trained:

![loss curves](curves.png)

Steps skipped, since loss or gradient was not finite: {", ".join(skipped) or "none"}.

{networks}
"""


def family(name: str) -> str:
    """How a recurrence's state comes to its next step."""
    recurrence = NETWORKS[name].recurrence
    if recurrence.name.startswith(("elman", "indrnn")):
        return "no gates"
    return "linear in the state" if recurrence.linear is not None else "gates that see the state"


def draw_solved(summary: Mapping[str, Any], png_path: Path) -> None:
    """A cell for each network and length: dark is solved in few steps, grey is not solved."""
    from matplotlib import colormaps

    from rnnjax.diagnostics.plots import picture

    lengths, most = summary["config"]["lengths"], summary["config"]["steps"]
    least = summary["config"]["score_every"]
    shades = colormaps["viridis"]
    count = len(summary["networks"])
    tasks = summary["tasks"]
    with picture(
        png_path, 1, len(tasks), width=5 * len(tasks), height=1.4 + 0.26 * count
    ) as panels:
        for axes, task in zip(panels[0], tasks, strict=True):
            cells = ranked(summary, task)
            for row, of_network in enumerate(cells.values()):
                for column, T in enumerate(lengths):
                    point, color, ink = of_network.get(T), "#f6f6f6", "#555555"
                    if point is not None and point["solved"]:
                        place = math.log(point["steps"] / least) / math.log(most / least)
                        color, ink = shades(place), "white" if place < 0.6 else "black"
                    elif point is not None:
                        color = "#dddddd"
                    axes.fill_between(
                        [column - 0.47, column + 0.47], row - 0.45, row + 0.45, color=color
                    )
                    text = _cell(point).strip("*").replace("–", "")
                    axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
            axes.set_yticks(range(count), list(cells), fontsize=8)
            axes.set_xticks(range(len(lengths)), [f"T = {T}" for T in lengths])
            axes.set_ylim(count - 0.4, -0.6)
            axes.set_xlim(-0.55, len(lengths) - 0.45)
            axes.set_title(f"{tasks[task]['title']}: steps to solve, or loss", fontsize=11)


def draw_curves(summary: Mapping[str, Any], png_path: Path) -> None:
    """The loss of each network over the steps, and of who remembers nothing."""
    from rnnjax.diagnostics.plots import COLORS, picture

    tasks, config = summary["tasks"], summary["config"]
    lengths, every = config["lengths"], config["score_every"]
    colors: dict[str, str] = dict(
        zip(
            ("no gates", "gates that see the state", "linear in the state"),
            COLORS,
            strict=False,
        )
    )
    shape = len(tasks), len(lengths)
    with picture(png_path, *shape, width=3.6 * shape[1] + 1, height=2.9 * shape[0] + 0.4) as panels:
        for row, task in zip(panels, tasks, strict=True):
            for axes, T in zip(row, lengths, strict=True):
                for point in summary["points"]:
                    if (point["task"], point["length"]) != (task, T):
                        continue
                    best = config["learning_rates"].index(point["learning_rate"])
                    curve = [math.nan if v is None else v for v in point["curves"][best]]
                    kind = family(point["network"])
                    steps = every * np.arange(1, len(curve) + 1)
                    axes.plot(steps, curve, color=colors[kind], linewidth=1, alpha=0.7)
                    if point["solved"]:
                        axes.plot(steps[-1], curve[-1], "o", color=colors[kind], markersize=3)
                floor = tasks[task]["baseline"][str(T)]
                axes.axhline(floor, color="black", linewidth=1, linestyle=(0, (5, 3)))
                axes.axhline(SOLVED * floor, color="black", linewidth=1, linestyle=(0, (1, 2)))
                axes.set_yscale("log")
                axes.set_ylim(SOLVED * floor / 30, 4 * floor)
                axes.set_xlim(0, config["steps"])
                axes.set_title(f"{tasks[task]['title']}, T = {T}", fontsize=10)
                axes.set_xlabel("Training step")
            row[0].set_ylabel("Loss on new sequences")
        for kind, color in colors.items():
            panels[0, -1].plot([], [], color=color, label=kind)
        panels[0, -1].plot([], [], color="black", linestyle=(0, (5, 3)), label="remembers nothing")
        panels[0, -1].plot([], [], color="black", linestyle=(0, (1, 2)), label="solved")
        panels[0, -1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def parse(arguments: list[str]) -> Train:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    return tyro.cli(
        Train,
        args=arguments,
        default=preset_named(arguments, PRESETS),
        description=(__doc__ or "").split("\n\n")[0],
    )


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        train(parse(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    main()
