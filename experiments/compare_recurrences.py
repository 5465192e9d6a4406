"""All recurrences as character language models: at equal parameters and steps, and at equal time.

    python -m experiments.compare_recurrences
    python -m experiments.compare_recurrences --recurrences lstm gru --out runs/two_of_them

Each recurrence of the registry that reads vectors takes its turn in the same network (an embedding,
two layers, a softmax), its H chosen so that the whole network has as many parameters as the others
within 2 %. It is trained on the same windows of the same text by the same optimiser, and scored in
bits per character of held-out text twice: after the same number of steps, and after as many steps
as it makes in the same time. The rate of learning is constant and the same for all, and what is
scored is a moving average of the parameters, so that one run serves both marks.

First the training steps of all are timed, in turns, which wants a machine that does nothing else;
the steps of a time follow from that, so that training itself may be disturbed. Time is that of
training steps with their data; compilation and scoring do not count.

Times, and each recurrence once it is trained, are kept in the output folder: a run that was killed
goes on there, by the same command. One recurrence is run with several seeds, which tells what a
difference is worth.

Recorded: gru at equal time, 2.380 bits per character, and gru_layer_norm at equal steps, 2.451 bits
per character, against 2.475 of order 3, modified Kneser–Ney; `python -m
experiments.compare_recurrences`, on 2 cores of AMD EPYC
(docs/results/compare_recurrences/table.md).
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from math import isfinite
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

import rnnjax
from benchmarks.report import (
    append_record,
    csv_text,
    markdown_table,
    read_records,
    replace_figure,
    three_digits,
)
from experiments.character_language_model import (
    METRIC,
    ORDER_3,
    UNIGRAM,
    Corpus,
    Data,
    baseline_scores,
    beginning,
    load_corpus,
    make_evaluate,
    streams_of,
)
from experiments.command_line import one_line_errors, preset_named, say
from experiments.equal_parameters import nearest
from experiments.trained_run import made_by
from rnnjax.layers.checks import check_size
from rnnjax.models.checks import reads_vectors
from rnnjax.models.language_model import (
    LanguageModelConfig,
    init_language_model,
    initial_state,
    language_model_loss,
)
from rnnjax.recurrences import REGISTRY
from rnnjax.text.streams import TokenStreams, window, windows_per_epoch
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.machine import machine_record
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.optimizer_links import averaged_params
from rnnjax.training.run_folder import RunFolder, open_run_folder
from rnnjax.training.step import initial_train_state, make_train_step
from rnnjax.training.versions import installed_versions

TIMES, POINTS = "times.jsonl", "points.jsonl"
MARKS = ("bits_at_equal_steps", "bits_at_equal_time")
WITHIN = 0.02  # by which the number of parameters may differ
STEPS_OF_A_TURN = 5  # of which the first does not count: caches are another network's
SHARES = (0.125, 0.25, 0.5, 1.0)  # of either mark, after which the model is scored


@dataclass(frozen=True)
class Compare:
    """Compare recurrences as character language models.

    Attributes:
        out: The folder of points and report.
        preset: Defaults for the flags below: "demo" takes a quarter of an hour on two cores,
            "smoke" only shows that everything runs, "full" is the long comparison.
        data: Where the text comes from.
        recurrences: Names in rnnjax.recurrences.REGISTRY; None is all that read vectors.
        parameters: Of the whole network.
        layers: L, all of one H.
        embedding_size: E.
        learning_rate: Constant after the warm-up.
        warmup_steps: Steps of linear warm-up.
        clip_norm: The largest gradient norm let through.
        average_decay: Of the moving average of the parameters, which is what is scored.
        batch_size: B, streams read side by side.
        window: T, steps of a window of truncated BPTT.
        steps: Training steps at the first mark.
        seconds: Time of training at the second mark.
        longest: Seconds of training that the first mark may take; else it is given up.
        turns: How often each is timed, the others in between.
        evaluation_characters: How much validation text is scored.
        repeated: The recurrence that is run with several seeds.
        seeds: How many.
        seed: The first one, which all have.
    """

    out: Path = Path("runs/compare_recurrences")
    preset: Literal["demo", "smoke", "full"] = "demo"
    data: Data = field(default_factory=Data)
    recurrences: tuple[str, ...] | None = None
    parameters: int = 150_000
    layers: int = 2
    embedding_size: int = 32
    learning_rate: float = 4e-3
    warmup_steps: int = 50
    clip_norm: float = 20.0
    average_decay: float = 0.99
    batch_size: int = 32
    window: int = 64
    steps: int = 500
    seconds: float = 8.0
    longest: float = 30.0
    turns: int = 12
    evaluation_characters: int = 100_000
    repeated: str = "lstm"
    seeds: int = 3
    seed: int = 0


PRESETS = {
    "demo": Compare(),
    "smoke": Compare(
        out=Path("runs/compare_recurrences_smoke"),
        preset="smoke",
        recurrences=("elman", "lstm"),
        parameters=6_000,
        layers=1,
        embedding_size=8,
        warmup_steps=5,
        batch_size=8,
        window=16,
        steps=20,
        seconds=0.2,
        longest=2.0,
        turns=1,
        evaluation_characters=2_000,
        seeds=2,
    ),
    "full": Compare(
        out=Path("runs/compare_recurrences_full"),
        preset="full",
        parameters=1_000_000,
        embedding_size=64,
        learning_rate=2e-3,
        average_decay=0.999,
        batch_size=64,
        window=128,
        steps=20_000,
        seconds=3_600.0,
        longest=4 * 3_600.0,
        evaluation_characters=250_000,
    ),
}


class Network(NamedTuple):
    """A network ready to be trained."""

    state: Any
    step: Callable[[Any, Any], tuple[Any, Any]]  # compiled
    compile_seconds: float
    score: Callable[[Any], float | None]  # state -> bits per character; None if not finite


def check(config: Compare) -> tuple[str, ...]:
    """Refuse what cannot be run before anything is.

    Returns:
        The names of the recurrences.

    Raises:
        ValueError: A number is out of range, or a recurrence is unknown, reads images or is named
            twice.
    """
    for name in (
        "parameters", "layers", "embedding_size", "batch_size", "window", "steps",
        "evaluation_characters", "seeds", "turns",
    ):  # fmt: skip
        check_size(name, getattr(config, name))
    if not 0 < config.seconds <= config.longest:
        raise ValueError(
            f"seconds, longest: got {config.seconds}, {config.longest}, "
            "expected 0 < seconds <= longest"
        )
    can_be = tuple(name for name in REGISTRY if reads_vectors(name))
    names = can_be if config.recurrences is None else config.recurrences
    for argument, given in (("recurrences", names), ("repeated", (config.repeated,))):
        for name in given:
            if name not in can_be:
                raise ValueError(f"{argument}: got {name!r}, expected some of {', '.join(can_be)}")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"recurrences: got {', '.join(names) or 'none'}, expected each once")
    return names


def points_of(config: Compare, names: Sequence[str]) -> list[tuple[str, int]]:
    """Recurrence and seed of each point, in the order of measuring."""
    more = range(1, config.seeds) if config.repeated in names else ()
    return [(name, config.seed) for name in names] + [
        (config.repeated, config.seed + number) for number in more
    ]


def parameter_count(model: LanguageModelConfig) -> int:
    """The number of parameters of a network; nothing is computed."""
    params = jax.eval_shape(lambda key: init_language_model(key, model), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def fitting_model(config: Compare, vocabulary_size: int, recurrence: str) -> LanguageModelConfig:
    """The network whose number of parameters is nearest to the one asked for.

    Raises:
        ValueError: The nearest one is not near enough.
    """

    def model(hidden_size: int) -> LanguageModelConfig:
        sizes = (hidden_size,) * config.layers
        return LanguageModelConfig(vocabulary_size, recurrence, sizes, config.embedding_size)

    @cache
    def count(hidden_size: int) -> int:
        return parameter_count(model(hidden_size))

    hidden_size = nearest(count, config.parameters)
    found = count(hidden_size)
    if abs(found / config.parameters - 1) > WITHIN:
        raise ValueError(
            f"parameters: got {config.parameters:,}, which {recurrence} meets by {found:,} at best "
            f"(H = {hidden_size}), expected a number that all meet within {WITHIN:.0%}"
        )
    return model(hidden_size)


def prepared(
    config: Compare,
    model: LanguageModelConfig,
    seed: int,
    train: TokenStreams,
    held_out: TokenStreams,
) -> Network:
    """Draw the parameters and compile the training step."""
    optimizer = build_optimizer(
        OptimizerConfig(
            config.learning_rate,
            "constant",
            config.warmup_steps,
            total_steps=max(1, config.warmup_steps),
            clip_norm=config.clip_norm,
            average_decay=config.average_decay,
        )
    )
    params = jax.jit(init_language_model, static_argnums=1)(jax.random.key(seed), model)
    memory = initial_state(model, params, (config.batch_size,))
    state = initial_train_state(params, optimizer, memory, jax.random.key(seed))
    average = jax.jit(partial(averaged_params, config.average_decay))

    evaluate = make_evaluate(model, "auto", held_out, config.window)

    def score(state: Any) -> float | None:
        bits = evaluate(average(state.params, state.optimizer_state))[METRIC]
        return bits if isfinite(bits) else None

    train_step: Any = make_train_step(partial(language_model_loss, model), optimizer)
    start = perf_counter()
    compiled = train_step.lower(state, window(train, 0, config.window)).compile()
    return Network(state, compiled, perf_counter() - start, score)


def timed(
    config: Compare,
    models: Mapping[str, LanguageModelConfig],
    train: TokenStreams,
    held_out: TokenStreams,
    clock: Callable[[], float] = perf_counter,
) -> list[dict[str, Any]]:
    """How long a training step of each takes, with its data, and by which plan.

    That is the fastest step: what disturbs one only makes it slower.
    """
    networks, states = {}, {}
    for name, model in models.items():
        say(f"compiling {name}")
        networks[name] = prepared(config, model, config.seed, train, held_out)
        states[name] = networks[name].state
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(config.turns):
        for name, network in networks.items():
            for position in range(STEPS_OF_A_TURN):
                start = clock()
                batch = window(train, turn * STEPS_OF_A_TURN + position, config.window)
                states[name], _ = network.step(states[name], batch)
                jax.block_until_ready(states[name].params)
                if position:
                    times[name].append(clock() - start)
        say(f"timed, turn {turn + 1} of {config.turns}")
    example = np.zeros((config.window, config.batch_size, config.embedding_size), np.float32)
    resets = np.zeros(example.shape[:2], bool)
    return [
        {
            "recurrence": name,
            "hidden_size": model.hidden_sizes[0],
            "parameters": parameter_count(model),
            "plan": rnnjax.explain_plan(
                REGISTRY[name], states[name].params.layers[0], example, resets=resets
            ).plan,
            "compile_seconds": networks[name].compile_seconds,
            "step_seconds": min(times[name]),
            "median_step_seconds": median(times[name]),
        }
        for name, model in models.items()
    ]


def trained(
    config: Compare,
    model: LanguageModelConfig,
    seed: int,
    step_seconds: float,
    train: TokenStreams,
    held_out: TokenStreams,
) -> dict[str, Any]:
    """Train one network past both marks, and score it there and on the way."""
    at_time = max(1, int(config.seconds / step_seconds))
    is_given_up = config.steps * step_seconds > config.longest
    ends = [at_time] if is_given_up else [at_time, config.steps]
    marks = {max(1, round(end * share)) for end in ends for share in SHARES}
    state, step, _, score = prepared(config, model, seed, train, held_out)
    bits = {0: score(state)}
    for position in range(max(ends)):
        state, _ = step(state, window(train, position, config.window))
        if position + 1 in marks:
            bits[position + 1] = score(state)
    return {
        "bits_at_equal_steps": None if is_given_up else bits[config.steps],
        "steps_at_equal_time": at_time,
        "bits_at_equal_time": bits[at_time],
        "skipped_steps": int(state.counters.skipped),
        "curve": [{"step": step, "bits": found} for step, found in bits.items()],
    }


def compare(config: Compare) -> dict[str, Any]:
    """Measure the points that are not yet in the folder, then write the report.

    Returns:
        What is in `results.json`.

    Raises:
        ValueError: As `check`, or the folder has points of other settings, text or machine.
    """
    names = check(config)
    corpus = load_corpus(config.data)
    text = beginning(corpus.validation, config.evaluation_characters)
    # Scored as the test part only in the sense of the baselines: nothing is chosen by it.
    corpus = corpus._replace(validation=text, test=text)
    models = {name: fitting_model(config, len(corpus.vocabulary), name) for name in names}
    train = streams_of(corpus.train, corpus.vocabulary, config.batch_size)
    windows_per_epoch(train, config.window)  # refuses a text that is too short
    held_out = streams_of(text, corpus.vocabulary, 2 * config.batch_size)
    made_of = run_fingerprint(config, corpus)
    may_differ = ("recurrences", "out")
    with open_run_folder(config.out, config, may_differ=may_differ, fingerprint=made_of) as run:
        now = {"machine": machine_record(), "versions": installed_versions()}
        times, points = (_read(run.path / name, now) for name in (TIMES, POINTS))
        known = {record["recurrence"]: record for record in times}
        wanted = points_of(config, names)
        done = {(point["recurrence"], point["seed"]) for point in points}
        if known:
            say(f"{len(known)} are timed and {len(done)} trained in {run.path} already")
        untimed = {name: models[name] for name in names if name not in known}
        for record in timed(config, untimed, train, held_out) if untimed else ():
            known[record["recurrence"]] = record | now
            append_record(run.path / TIMES, record | now)
            say(f"{record['recurrence']}: {three_digits(1e3 * record['step_seconds'])} ms a step")
        jax.clear_caches()  # else the programs of all are held to the end
        missing = [point for point in wanted if point not in done]
        begun = perf_counter()
        for number, (name, seed) in enumerate(missing, start=1):
            point: dict[str, Any] = {"recurrence": name, "seed": seed}
            point |= {"measured": datetime.now(UTC).isoformat(timespec="seconds")}
            step_seconds = known[name]["step_seconds"]
            point |= trained(config, models[name], seed, step_seconds, train, held_out) | now
            append_record(run.path / POINTS, point)
            points.append(point)
            jax.clear_caches()
            minutes = (perf_counter() - begun) / 60
            say(
                f"point {number} of {len(missing)}, {minutes:.1f} min, about "
                f"{minutes / number * (len(missing) - number):.1f} to go: {name}, seed {seed}: "
                f"{_bits(point['bits_at_equal_steps'])} at equal steps, "
                f"{_bits(point['bits_at_equal_time'])} at equal time"
            )
        order = list(REGISTRY)
        points.sort(key=lambda point: (order.index(point["recurrence"]), point["seed"]))
        together = [known[point["recurrence"]] | point for point in points]
        return report(config, corpus, together, run)


def _read(path: Path, now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records of a file.

    Raises:
        ValueError: They are of another machine or of other versions than those of now.
    """
    records = read_records(path)
    for record in records:
        for name, value in now.items():
            if record[name] != value:
                raise ValueError(
                    f"out: got {path} with records of {name} {record[name]}, expected {value}; "
                    "give another folder"
                )
    return records


def run_fingerprint(config: Compare, corpus: Corpus) -> dict[str, str]:
    """Digests of the text, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    return fingerprint(
        data={"train": corpus.train, "held_out": corpus.test},
        config=config,
        code=[
            Path(rnnjax.__file__).parent,
            here.parents[1] / "native",
            here.parent / "data",
            here.parent / "baselines",
            here.parent / "character_language_model.py",
            here.parent / "equal_parameters.py",
            here,
        ],
        without=("out", "preset", "data.path", "recurrences"),
    )


def _bits(bits: float | None) -> str:
    return "–" if bits is None else f"{bits:.3f}"


def report(
    config: Compare, corpus: Corpus, records: Sequence[Mapping[str, Any]], run: RunFolder
) -> dict[str, Any]:
    """Write `results.json`, `results.csv`, `table.md` and `plot.png`."""
    baselines = baseline_scores(corpus, xz=False)["test"]
    about = ("machine", "versions")
    points = [
        {name: value for name, value in record.items() if name not in about} for record in records
    ]
    results = run.start | {
        "seconds": run.seconds(),
        "config": run.config,
        "train_characters": sum(map(len, corpus.train)),
        "held_out_characters": sum(map(len, corpus.test)),
        "baselines": baselines,
        "points": points,
    }
    folder = run.path
    replace_text(folder / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    rows = [{name: v for name, v in point.items() if name != "curve"} for point in points]
    replace_text(folder / "results.csv", csv_text(rows))
    replace_text(folder / "table.md", page(results))
    replace_figure(folder / "plot.png", plot(results))
    print(f"\n{table(results)}\n{noise(config.repeated, points)}\n")
    for name, bits in baselines.items():
        print(f"  {bits:6.3f}  {name}")
    print(f"\nIn {folder}: table.md, plot.png, results.csv, results.json")
    return results


def table(results: Mapping[str, Any]) -> str:
    """A line for each recurrence, the best at equal steps first, of the seed that all have."""
    steps = results["config"]["steps"]
    ranked = sorted(_of_first_seed(results), key=_rank)
    header = [
        "recurrence", "plan", "H", "parameters", "ms a step", "compile, s", "bits, equal steps",
        "after s", "bits, equal time", "after steps",
    ]  # fmt: skip
    lines = [
        [
            point["recurrence"],
            point["plan"],
            str(point["hidden_size"]),
            f"{point['parameters']:,}",
            three_digits(1e3 * point["step_seconds"]),
            three_digits(point["compile_seconds"]),
            _bits(point["bits_at_equal_steps"]),
            three_digits(steps * point["step_seconds"]),
            _bits(point["bits_at_equal_time"]),
            f"{point['steps_at_equal_time']:,}",
        ]
        for point in ranked
    ]
    return markdown_table(header, lines, labels=2)


def _of_first_seed(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [point for point in results["points"] if point["seed"] == results["config"]["seed"]]


def _rank(point: Mapping[str, Any]) -> float:
    bits = point["bits_at_equal_steps"]
    return np.inf if bits is None else bits


def noise(repeated: str, points: Sequence[Mapping[str, Any]]) -> str:
    """What the seeds of the repeated recurrence differ by, in a sentence."""
    same = [point for point in points if point["recurrence"] == repeated]
    found = []
    for mark in MARKS:
        bits = [point[mark] for point in same if point[mark] is not None]
        if len(bits) > 1:
            found.append(f"{', '.join(map(_bits, bits))} at {mark.removeprefix('bits_at_')}")
    if not found:
        return "No recurrence was run with several seeds."
    words = "; ".join(found).replace("_", " ")
    return f"`{repeated}` with {len(same)} seeds: {words}."


def page(results: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    config = results["config"]
    baselines = "".join(f"| {name} | {bits:.3f} |\n" for name, bits in results["baselines"].items())
    skipped = [
        f"`{point['recurrence']}` {point['skipped_steps']}"
        for point in results["points"]
        if point["skipped_steps"]
    ]
    return f"""# Recurrences compared

{made_by(results)}

{config["layers"]} layers, {config["parameters"]:,} parameters within {WITHIN:.0%} in the whole
network, B = {config["batch_size"]}, T = {config["window"]}, learning rate {config["learning_rate"]}
for all. Bits per character of {results["held_out_characters"]:,} held-out characters after
{config["steps"]:,} steps, and after as many steps as take {config["seconds"]:g} s. Time is that of
steps with their data, the fastest, without compilation and scoring; – would have taken more than
{config["longest"]:g} s.

{table(results)}
{noise(config["repeated"], results["points"])}
Steps skipped, since loss or gradient was not finite: {", ".join(skipped) or "none"}.

| beside them, on the same text | bits per character |
| --- | ---: |
{baselines}
![bits per character at equal steps and at equal time, and the time of a step](plot.png)
"""


def plot(results: Mapping[str, Any]) -> Figure:
    """Bits per character of each recurrence at both marks, and how long a step takes."""
    points = sorted(_of_first_seed(results), key=_rank, reverse=True)
    config, places = results["config"], np.arange(len(points))
    figure = Figure(figsize=(10, 2.2 + 0.28 * len(points)), dpi=150, layout="constrained")
    scores, times = figure.subplots(1, 2, sharey=True, width_ratios=(2.2, 1))
    labels = (f"after {config['steps']:,} steps", f"after {config['seconds']:g} s of training")
    for mark, marker, color, label in zip(MARKS, "oD", ("#4477aa", "#cc6633"), labels, strict=True):
        bits = [np.nan if point[mark] is None else point[mark] for point in points]
        scores.plot(bits, places, marker, color=color, markersize=6, label=label)
    low, high = scores.get_xlim()
    # What is worse than characters by frequency has learned nothing, and would squeeze the rest.
    high = min(high, results["baselines"][UNIGRAM] + 0.1)
    for name, style in ((ORDER_3, (0, (5, 3))), (UNIGRAM, ":")):
        bits = results["baselines"][name]
        if not low < bits < high:
            continue
        scores.axvline(bits, color="#555555", linewidth=1, linestyle=style)
        scores.text(
            bits, 1.01, f"{name} {bits:.2f}", transform=scores.get_xaxis_transform(),
            ha="left" if bits < (low + high) / 2 else "right", va="bottom", fontsize=8,
            color="#555555",
        )  # fmt: skip
    for place, point in zip(places, points, strict=True):
        beyond = [f"{point[mark]:.2f}" for mark in MARKS if (point[mark] or 0) > high]
        if beyond:
            scores.text(high, place, f"{', '.join(beyond)} ▸ ", ha="right", va="center", fontsize=8)
    scores.set_xlim(low, high)
    scores.set_yticks(places, [point["recurrence"] for point in points])
    scores.set_xlabel("Bits per character of held-out text (less is better)")
    scores.legend(loc="upper right", fontsize=8)
    milliseconds = [1e3 * point["step_seconds"] for point in points]
    times.barh(places, milliseconds, color="#88aacc")
    for place, time, point in zip(places, milliseconds, points, strict=True):
        text = f" {three_digits(time)}, {point['plan']}"
        times.text(time, place, text, va="center", fontsize=7)
    times.set_xscale("log")
    times.set_xlim(min(milliseconds) / 2, 8 * max(milliseconds))
    times.xaxis.set_major_formatter(FuncFormatter(lambda time, _: f"{time:g}"))
    times.xaxis.set_minor_formatter(NullFormatter())
    times.set_xlabel("Training step, ms, and its plan")
    for axes in (scores, times):
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def parse(arguments: list[str]) -> Compare:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    return tyro.cli(
        Compare,
        args=arguments,
        default=preset_named(arguments, PRESETS),
        description=(__doc__ or "").split("\n\n")[0],
    )


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        config = parse(sys.argv[1:] if arguments is None else arguments)
        try:
            compare(config)
        except KeyboardInterrupt:
            say("interrupted; run the same command to go on at the point that was not finished")
            sys.exit(130)


if __name__ == "__main__":
    main()
