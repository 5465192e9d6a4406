"""Depth, direction, and a deep head on y^<t>: what each is worth, at equal parameters.

    python -m experiments.depth_and_direction

One to four recurrent layers, in one direction or in both, and on top of them one dense layer or a
feed-forward network; all with the same number of parameters, so that what is deep is also narrow.
Each learns two tasks, from the same data, with several seeds side by side:

- agreement: a sentence with a gap for its verb, was or were, k words from the subject that tells
  it. In half of the sentences the subject stands before the gap; the other half is read from its
  end, so that it stands behind.
- adding: random numbers, two of them marked, and a step at which their sum is asked for. In half of
  the sequences that is the last step; in the other half it lies between the two marks.

In both, half of the questions can be answered from the past alone, and the other half only by who
sees the future too. Thus one table shows what a second direction costs where it is not needed and
what it is worth where it is; and both tasks can be solved by one layer, so that it shows what depth
costs where it is not needed. Scores are errors: the share of verbs told wrong, and the squared
error of the sum. Beside them stands what needs no network: who remembers nothing errs in 1/2 of the
verbs and by 1/6; who knows all of the past and nothing of the future still in 1/2, and by 1/12.

There is no published score: the tasks are ours. Each network and task is a point of its own in the
run folder: a run that was killed goes on, by the same command, at the points it was at.

Recorded: where the past does not answer, in the mean of all networks, agreement: share of verbs
told wrong 0.502 in one direction and 0.376 in both, against 0.500 of who knows the past alone;
adding: squared error 0.089 in one direction and 0.014 in both, against 0.083 of who knows the past
alone. `python -m experiments.depth_and_direction`, 4.6 minutes on 2 cores of AMD EPYC
(docs/results/depth_and_direction/report.md).
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array

from benchmarks.report import append_record, markdown_table, read_records
from experiments.command_line import one_line_errors, preset_named, say
from experiments.data.agreement_sentences import VERBS, WORDS, draw_pairs
from experiments.data.memory_tasks import ADDING_BASELINE, ONE_UNKNOWN, adding_batch
from experiments.equal_parameters import nearest, parameter_count
from experiments.side_by_side import Problem, each_done, make_train_some, new_runs
from experiments.trained_run import code_of, made_by
from rnnjax.layers.checks import check_size
from rnnjax.layers.deep import Layer, init_deep, scan_deep
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.feed_forward import apply_feed_forward, init_feed_forward
from rnnjax.losses.cross_entropy import cross_entropy_per_step
from rnnjax.models.checks import check_recurrence
from rnnjax.recurrences import REGISTRY
from rnnjax.recurrences.protocol import Params
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.run_folder import RunFolder, open_run_folder

RUN = Path("runs/depth_and_direction")
POINTS = "points.jsonl"

SOLVED = 0.1
"""Below this share of the error of who remembers nothing a task is solved."""

GAP = len(WORDS)
"""The token in the place of the verb."""

HALVES = ("past", "both")
"""Where that lies which answers a question: before it, or on both sides of it or after it."""


class Shape(NamedTuple):
    """What a network is made of."""

    depth: int
    bidirectional: bool
    deep_head: bool

    @property
    def name(self) -> str:
        """Such as "2 layers, both directions, deep head"."""
        layers = "1 layer" if self.depth == 1 else f"{self.depth} layers"
        direction = "both directions" if self.bidirectional else "one direction"
        return f"{layers}, {direction}, {'deep' if self.deep_head else 'dense'} head"


class Questions(NamedTuple):
    """B sequences with a question each; the first half of them are not answered by the past."""

    xs: Array  # (T, B, I) float32
    asked: Array  # (B,) int32: the step of the question
    answers: Array  # (B,)


@dataclass(frozen=True)
class Train:
    """Train each network on each task, or go on; then compare.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" takes minutes on two cores, "smoke" only shows
            that everything runs, "full" has larger networks, longer sequences and more seeds.
        tasks: Names in `TASKS`.
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        depths: How many recurrent layers.
        parameters: Of layers and head together, about: H is chosen by it.
        encoded_size: Of what the lowest layer reads.
        head_sizes: Of the hidden layers of a deep head.
        distance: k, words from the subject to the gap.
        sentences: How many pairs of them are learned from; a pair differs in the subject's number.
        length: T of the adding problem.
        learning_rate: Of Adam.
        clip_norm: The largest gradient norm let through.
        batch_size: B, even.
        steps: At most; a network whose every seed has solved both halves is done.
        score_every: Steps between scores.
        test_size: Sequences that are scored, even.
        seeds: Of parameters and batches, side by side.
        seed: The first one.
        workers: Points trained at the same time.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    tasks: tuple[str, ...] = ("agreement", "adding")
    recurrence: str = "lstm"
    depths: tuple[int, ...] = (1, 2, 3, 4)
    parameters: int = 10_000
    encoded_size: int = 16
    head_sizes: tuple[int, ...] = (32, 32)
    distance: int = 40
    sentences: int = 2_000
    length: int = 40
    learning_rate: float = 5e-3
    clip_norm: float = 1.0
    batch_size: int = 32
    steps: int = 600
    score_every: int = 50
    test_size: int = 1_000
    seeds: int = 3
    seed: int = 0
    workers: int = 2


PRESETS = {
    "demo": Train(),
    "smoke": Train(
        run=RUN.with_name("depth_and_direction_smoke"),
        preset="smoke",
        recurrence="gru",
        depths=(1, 2),
        parameters=500,
        encoded_size=4,
        head_sizes=(6,),
        distance=3,
        sentences=40,
        length=6,
        batch_size=8,
        steps=40,
        score_every=20,
        test_size=20,
        seeds=2,
    ),
    "full": Train(
        run=RUN.with_name("depth_and_direction_full"),
        preset="full",
        parameters=100_000,
        encoded_size=32,
        head_sizes=(64, 64),
        distance=100,
        sentences=20_000,
        length=200,
        learning_rate=2e-3,
        steps=20_000,
        score_every=200,
        test_size=2_000,
        seeds=5,
    ),
}


# The tasks


Draw = Callable[[Array, int], Questions]
"""`(key, B) -> Questions`."""


class Task(NamedTuple):
    """What is to be learned.

    Attributes:
        title: For people.
        error: What is counted, in a word or two.
        input_size: I.
        output_size: Of what the head says.
        questions: `(config, "train" or "test") -> ((key, B) -> Questions)`, which is traced.
        loss: `(outputs (B, output_size), answers) -> (B,)`, what is made small.
        errors: `(outputs, answers) -> (B,)`, what is counted.
        nothing: The mean error of who remembers nothing, in either half.
        past_only: The least mean error of who sees the past alone, in the half that asks for more.
    """

    title: str
    error: str
    input_size: int
    output_size: int
    questions: Callable[[Train, str], Draw]
    loss: Callable[[Array, Array], Array]
    errors: Callable[[Array, Array], Array]
    nothing: float
    past_only: float


def sentences_with_gaps(rng: Random, distance: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Sentences that end with the gap, k words after their subject.

    Args:
        rng: What the words are drawn from.
        distance: k.
        pairs: How many of one sentence with a singular and a plural subject.

    Returns:
        tokens: `(k + 2, 2 pairs)` int32.
        verbs: `(2 pairs,)` int32, 0 was, 1 were.
    """
    drawn = draw_pairs(rng, [distance] * pairs, distance + 1)
    gaps = np.full((1, 2 * pairs), GAP, np.int32)
    return np.concatenate([drawn.tokens, gaps]), drawn.verbs


def _agreement(config: Train, part: str) -> Draw:
    rng = Random(f"{part} {config.seed}")
    tokens, verbs = map(jnp.asarray, sentences_with_gaps(rng, config.distance, config.sentences))

    def draw(key: Array, batch_size: int) -> Questions:
        places = jax.random.randint(key, (batch_size,), 0, len(verbs), jnp.int32)
        sentences = tokens[:, places]
        is_turned = jnp.arange(batch_size) < batch_size // 2
        read = jnp.where(is_turned, sentences[::-1], sentences)
        xs = jax.nn.one_hot(read, GAP + 1, dtype=jnp.float32)
        asked = jnp.where(is_turned, 0, len(tokens) - 1).astype(jnp.int32)
        return Questions(xs, asked, verbs[places])

    return draw


def _adding(config: Train, part: str) -> Draw:
    del part  # sequences are new ones each step

    def draw(key: Array, batch_size: int) -> Questions:
        batch = adding_batch(key, config.length, batch_size, share_in_the_middle=0.5)
        return Questions(batch.xs, batch.asked, batch.sums)

    return draw


def _is_wrong(outputs: Array, verbs: Array) -> Array:
    told = jax.lax.argmax(outputs, outputs.ndim - 1, jnp.int32)
    return (told != verbs).astype(jnp.float32)


def _squared_error(outputs: Array, sums: Array) -> Array:
    return (outputs[..., 0] - sums) ** 2


TASKS: Mapping[str, Task] = {
    "agreement": Task(
        "Agreement", "share of verbs told wrong", GAP + 1, len(VERBS), _agreement,
        cross_entropy_per_step, _is_wrong, nothing=0.5, past_only=0.5,
    ),
    "adding": Task(
        "Adding", "squared error", 3, 1, _adding,
        _squared_error, _squared_error, nothing=ADDING_BASELINE, past_only=ONE_UNKNOWN,
    ),
}  # fmt: skip
"""Name -> task."""


# The networks


class NetworkParams(NamedTuple):
    """An encoder of each input, the layers, and a head for one step's outputs."""

    encoder: DenseParams
    layers: tuple[Params, ...]
    head: tuple[DenseParams, ...]


def shapes_of(config: Train) -> list[Shape]:
    """All networks that are compared, in the order of the table."""
    kinds = product((False, True), (False, True), config.depths)
    return [Shape(depth, bidirectional, deep_head) for bidirectional, deep_head, depth in kinds]


def layer_of(config: Train, shape: Shape) -> Layer:
    """What each layer of a network computes."""
    recurrence = REGISTRY[config.recurrence]
    return Layer(recurrence, recurrence if shape.bidirectional else None)


def init_layers_and_head(
    key: Array, config: Train, task: Task, shape: Shape, hidden_size: int
) -> tuple[tuple[Params, ...], tuple[DenseParams, ...]]:
    """Draw what counts as parameters."""
    key_layers, key_head = jax.random.split(key)
    layer, below = layer_of(config, shape), config.encoded_size
    layers = init_deep(key_layers, layer, below, (hidden_size,) * shape.depth)
    x = jax.ShapeDtypeStruct((1, below), jnp.float32)
    _, ys = jax.eval_shape(partial(scan_deep, layer, plan="reference"), layers, x)
    hidden = config.head_sizes if shape.deep_head else ()
    return layers, init_feed_forward(key_head, ys.shape[-1], (*hidden, task.output_size))


def hidden_size_of(config: Train, task: Task, shape: Shape) -> int:
    """H of every layer, of each direction, with which the number of parameters comes closest."""

    def count(hidden_size: int) -> int:
        return parameter_count(
            lambda key: init_layers_and_head(key, config, task, shape, hidden_size)
        )

    return nearest(count, config.parameters)


def init_params(
    key: Array, config: Train, task: Task, shape: Shape, hidden_size: int
) -> NetworkParams:
    """Draw the parameters of a network."""
    key_encoder, key_rest = jax.random.split(key)
    encoder = init_dense(key_encoder, task.input_size, config.encoded_size)
    layers, head = init_layers_and_head(key_rest, config, task, shape, hidden_size)
    return NetworkParams(encoder, layers, head)


def outputs_of(config: Train, shape: Shape, params: NetworkParams, questions: Questions) -> Array:
    """What the head says at the step of each question, `(B, output_size)`."""
    xs = jnp.tanh(apply_dense(params.encoder, questions.xs))
    # The plan that has a batching rule for what is hand-written: seeds run side by side.
    _, ys = scan_deep(layer_of(config, shape), params.layers, xs, plan="fused")
    at_question = jnp.take_along_axis(ys, questions.asked[None, :, None], axis=0)[0]
    return apply_feed_forward(params.head, at_question)


def problem_of(config: Train, task: Task, shape: Shape, key: Array) -> Problem:
    """A task for a network, for `experiments.side_by_side`; `key` draws the test."""
    draw, draw_test = (task.questions(config, part) for part in ("train", "test"))

    def loss(params: NetworkParams, questions: Questions) -> Array:
        return jnp.mean(task.loss(outputs_of(config, shape, params, questions), questions.answers))

    def score(params: NetworkParams) -> Array:
        """The mean error of each half, in the order of `HALVES`."""
        questions = draw_test(key, config.test_size)
        errors = task.errors(outputs_of(config, shape, params, questions), questions.answers)
        both, past = jnp.split(errors, 2)
        return jnp.stack([jnp.mean(past), jnp.mean(both)])

    return Problem(loss, lambda key: draw(key, config.batch_size), score)


# A run


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made.

    Raises:
        ValueError: A number is out of range, a name is unknown, or something is given twice.
    """
    for name in (
        "parameters", "encoded_size", "distance", "sentences", "batch_size", "steps",
        "score_every", "test_size", "seeds", "workers",
    ):  # fmt: skip
        check_size(name, getattr(config, name))
    for name in ("depths", "head_sizes"):
        for size in getattr(config, name):
            check_size(name, size)
    for name in ("tasks", "depths"):
        given = getattr(config, name)
        if not given or len(set(given)) < len(given):
            raise ValueError(f"{name}: got {list(given)}, expected at least one, and none twice")
    for name in config.tasks:
        if name not in TASKS:
            raise ValueError(f"tasks: got {name!r}, expected some of {', '.join(TASKS)}")
    check_recurrence(config.recurrence)
    if not config.head_sizes:
        raise ValueError("head_sizes: got none, expected at least one hidden layer")
    for name in ("batch_size", "test_size"):
        if getattr(config, name) % 2:
            raise ValueError(f"{name}: got {getattr(config, name)}, expected an even number")
    if config.length < 4:
        raise ValueError(f"length: got {config.length}, expected at least 4")
    for name in ("learning_rate", "clip_norm"):
        value = getattr(config, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: got {value}, expected a finite number above 0")
    if config.steps % config.score_every:
        raise ValueError(
            f"score_every: got {config.score_every}, expected a divisor of steps = {config.steps}"
        )


def train_point(config: Train, task: Task, shape: Shape) -> dict[str, Any]:
    """Train a network with every seed, until all have solved both halves or the steps end.

    Returns:
        hidden_size: H.
        parameters: Of layers and head.
        steps: How many were made.
        curves: Of each half the mean errors after every `score_every` steps, a list a seed.
        skipped: Steps that were skipped, since loss or gradient was not finite, a number a seed.
    """
    size = hidden_size_of(config, task, shape)
    *keys, test_key = jax.random.split(jax.random.key(config.seed), config.seeds + 1)
    params = [init_params(key, config, task, shape, size) for key in keys]
    problem = problem_of(config, task, shape, test_key)
    runs = new_runs(
        params, jnp.stack(keys), [config.learning_rate] * config.seeds, config.clip_norm
    )
    train_some = make_train_some(problem, steps=config.score_every, clip_norm=config.clip_norm)
    scores: list[np.ndarray] = []  # (seeds, halves) each
    steps, is_done = 0, False
    while steps < config.steps and not is_done:
        runs, _, found = train_some(runs, jnp.asarray(steps, jnp.int32))
        scores.append(np.asarray(found, np.float64))
        steps += config.score_every
        is_done = bool((scores[-1] < SOLVED * task.nothing).all())
    by_half = np.transpose(scores, (2, 1, 0))
    return {
        "hidden_size": size,
        "parameters": sum(
            leaf.size for leaf in jax.tree.leaves((params[0].layers, params[0].head))
        ),
        "steps": steps,
        "curves": {
            half: [
                [float(error) if math.isfinite(error) else None for error in curve]
                for curve in curves
            ]
            for half, curves in zip(HALVES, by_half, strict=True)
        },
        "skipped": np.asarray(runs.skipped).tolist(),
    }


def run_fingerprint(config: Train) -> dict[str, str]:
    """Digests of the first questions, of the settings that decide the result, and of the code."""
    here, key = Path(__file__), jax.random.key(config.seed)
    return fingerprint(
        data={
            name: [np.asarray(part) for part in TASKS[name].questions(config, "train")(key, 4)]
            for name in config.tasks
        },
        config=config,
        code=code_of(
            here.with_name("equal_parameters.py"), here.with_name("side_by_side.py"), here
        ),
        without=("run", "preset", "workers"),
    )


def train(config: Train) -> dict[str, Any]:
    """Train every network on every task, or go on; then compare.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    check(config)
    with open_run_folder(
        config.run, config, may_differ=("workers",), fingerprint=run_fingerprint(config)
    ) as run:
        path, lock = run.path / POINTS, Lock()
        points = {(point["task"], point["network"]): point for point in read_records(path)}

        def make(task: str, shape: Shape) -> None:
            point = {"task": task, "network": shape.name, **shape._asdict()}
            point |= train_point(config, TASKS[task], shape)
            with lock:
                points[task, shape.name] = point
                append_record(path, point)
            told = " and ".join(f"{np.mean(last_errors(point, half)):.3f}" for half in HALVES)
            say(f"{task}, {shape.name}: errors {told} after {point['steps']:,} steps")

        missing = [
            partial(make, task, shape)
            for task in config.tasks
            for shape in shapes_of(config)
            if (task, shape.name) not in points
        ]
        each_done(missing, config.workers)
        return report(config, run, points)


# The report


def last_errors(point: Mapping[str, Any], half: str) -> list[float]:
    """The error of each seed at the end; ∞ where it is not finite."""
    return [math.inf if curve[-1] is None else curve[-1] for curve in point["curves"][half]]


def steps_to_solve(point: Mapping[str, Any], half: str, every: int) -> list[int | None]:
    """Of each seed the steps after which it first had solved a half; None if it never had."""
    level = SOLVED * TASKS[point["task"]].nothing
    return [
        next(
            (
                every * number
                for number, error in enumerate(curve, start=1)
                if error is not None and error < level
            ),
            None,
        )
        for curve in point["curves"][half]
    ]


def report(
    config: Train, run: RunFolder, points: Mapping[tuple[str, str], Mapping[str, Any]]
) -> dict[str, Any]:
    """Write the report and its picture, and print what it says."""
    summary = run.start | {
        "seconds": run.seconds(),
        "config": run.config,
        "tasks": {
            name: {
                "title": TASKS[name].title,
                "error": TASKS[name].error,
                "nothing": TASKS[name].nothing,
                "past_only": TASKS[name].past_only,
            }
            for name in config.tasks
        },
        "points": [
            points[task, shape.name] for task in config.tasks for shape in shapes_of(config)
        ],
    }
    summary = json.loads(json.dumps(summary, allow_nan=False))
    replace_text(run.path / "report.json", json.dumps(summary, ensure_ascii=False) + "\n")
    replace_text(run.path / "report.md", report_page(summary))
    draw(summary, run.path / "errors.png")
    for task in config.tasks:
        print(f"{TASKS[task].title}, {TASKS[task].error}:\n{table(summary, task)}")
    print(f"In {run.path}: report.md, errors.png")
    return summary


def points_of(summary: Mapping[str, Any], task: str) -> Iterator[Mapping[str, Any]]:
    """The points of a task, in the order of the table."""
    return (point for point in summary["points"] if point["task"] == task)


def table(summary: Mapping[str, Any], task: str) -> str:
    """Errors in either half, and after how many steps each was solved, as Markdown."""
    every, of_task = summary["config"]["score_every"], summary["tasks"][task]
    head = ["network", "H", "parameters"]
    for what in ("answered by the past", "asks for the future"):
        head += [what, "solved by", "after steps"]
    rows = []
    for point in points_of(summary, task):
        row = [point["network"], str(point["hidden_size"]), f"{point['parameters']:,}"]
        for half in HALVES:
            found = [n for n in steps_to_solve(point, half, every) if n is not None]
            row += [
                f"{np.mean(last_errors(point, half)):.3f}",
                f"{len(found)} of {summary['config']['seeds']}",
                f"{np.median(found):,.0f}" if found else "–",
            ]
        rows.append(row)
    for what, past, both in (
        ("who remembers nothing", of_task["nothing"], of_task["nothing"]),
        ("who knows the past alone", 0.0, of_task["past_only"]),
    ):
        rows.append([what, "", "", f"{past:.3f}", "", "", f"{both:.3f}", "", ""])
    return markdown_table(head, rows, labels=1)


def report_page(summary: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    config = summary["config"]
    tables = "\n".join(
        f"## {of_task['title']}: {of_task['error']}\n\n{table(summary, name)}"
        for name, of_task in summary["tasks"].items()
    )
    skipped = sorted({point["network"] for point in summary["points"] if any(point["skipped"])})
    hidden = " and ".join(map(str, config["head_sizes"]))
    return f"""# Depth and direction

{made_by(summary)}

Networks of `{config["recurrence"]}` with about {config["parameters"]:,} parameters in layers and
head; a deep head has hidden layers of {hidden} units, a dense one none; H is of each direction.
Sentences have k = {config["distance"]} words between subject and gap, the adding problem
T = {config["length"]} steps. {config["seeds"]} seeds, {config["steps"]:,} steps of Adam at most
at a rate of {config["learning_rate"]:g}, B = {config["batch_size"]}. Errors are means over seeds
at the end, on {config["test_size"] // 2} sequences of either half never seen. "Solved" is an
error below a tenth of that of who remembers nothing; steps are the median of the seeds that solved
it, scored every {config["score_every"]} steps.

{tables}
![errors by depth](errors.png)

Steps skipped, since loss or gradient was not finite: {", ".join(skipped) or "none"}.
"""


NOTHING, PAST_ONLY = (0, (6, 3)), (0, (1, 2))
"""How the floors are drawn."""


def draw(summary: Mapping[str, Any], png_path: Path) -> None:
    """Errors by depth, a panel for each task and half, a dot for each seed."""
    from rnnjax.diagnostics.plots import COLORS, picture

    tasks, depths = summary["tasks"], summary["config"]["depths"]
    titles = {"past": "answered by the past", "both": "asks for the future too"}
    with picture(png_path, len(tasks), 2, width=10, height=3.2 * len(tasks) + 0.3) as panels:
        for row, (task, of_task) in zip(panels, tasks.items(), strict=True):
            for axes, half in zip(row, HALVES, strict=True):
                kinds = [(b, d) for b in (False, True) for d in (False, True)]
                for place, (bidirectional, deep_head) in enumerate(kinds):
                    points = [
                        point
                        for point in points_of(summary, task)
                        if (point["bidirectional"], point["deep_head"])
                        == (bidirectional, deep_head)
                    ]
                    errors = np.asarray([last_errors(point, half) for point in points])
                    beside = np.asarray(depths) + 0.08 * (place - 1.5)
                    direction = "both directions" if bidirectional else "one direction"
                    axes.plot(
                        beside,
                        errors.mean(axis=1),
                        color=COLORS[bidirectional],
                        linestyle="-" if deep_head else (0, (4, 2)),
                        label=f"{direction}, {'deep' if deep_head else 'dense'} head",
                    )
                    axes.plot(beside, errors, "o", color=COLORS[bidirectional], markersize=3)
                axes.axhline(of_task["nothing"], color="black", linewidth=1, linestyle=NOTHING)
                if half == "both":
                    axes.axhline(
                        of_task["past_only"], color="black", linewidth=1, linestyle=PAST_ONLY
                    )
                axes.set_ylim(-0.04 * of_task["nothing"], 1.25 * of_task["nothing"])
                axes.set_xticks(depths)
                axes.set_xlabel("Recurrent layers")
                axes.set_title(f"{of_task['title']}: {titles[half]}", fontsize=11)
            row[0].set_ylabel(of_task["error"].capitalize())
        for what, style in (("remembers nothing", NOTHING), ("knows the past alone", PAST_ONLY)):
            panels[0, -1].plot([], [], color="black", linewidth=1, linestyle=style, label=what)
        panels[0, -1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))


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
