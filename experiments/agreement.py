"""Vanishing gradients made visible: a verb that agrees with a subject up to 200 words back.

    python -m experiments.agreement --preset demo

"The cat, which already ate …, was full; the cats, which already ate …, were full." A recurrent
network reads the sentence up to its verb and tells was from were: many-to-one, with one loss at the
end. Elman's network, the course's simplified GRU, the GRU and the LSTM get the same number of
parameters, the same sentences and the same optimiser; how their weights begin is varied too, since
much depends on it. Each is trained twice over: on sentences of one distance k from subject to verb
alone, so that the gradient has to come back k words or nothing is learned; and on sentences of all
distances, where short ones can teach what long ones need. Shown are the accuracy by distance, where
each network breaks, and what of the gradient is left at the subject, ‖∂L/∂h‖ k words back. Beside
them stand three that are not neural networks: one that always says was, one that looks at the last
noun, and n-grams.

Sentences are generated (`experiments.data.agreement_sentences`): nouns in between mislead as often
as they help, so that there is no short cut. Each network and distance is a point of its own in the
run folder: a run that was killed goes on, by the same command, at the point it was at.

Recorded: the distance at which fewer than 75% of the verbs are right, learned at that distance
alone: elman 80, elman_glorot 80, minimal_gru 120, gru 40, lstm 80, gru_chrono 200, lstm_chrono 200,
always was 1, number of the last noun 5, n-grams of up to 5 words 5. `python -m
experiments.agreement --preset demo`, 3.9 minutes on 2 cores of AMD EPYC
(docs/results/agreement/report.md).
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array

import rnnjax
from benchmarks.report import append_record, read_records
from experiments.command_line import one_line_errors, preset_named, say
from experiments.data.agreement_sentences import (
    NUMBER_OF,
    SUBJECT,
    VERBS,
    WORDS,
    Sentences,
    draw_pairs,
    draw_sentences,
    sentences_as_words,
)
from experiments.equal_parameters import nearest, parameter_count
from experiments.trained_run import code_of, made_by
from rnnjax.layers.checks import check_size
from rnnjax.layers.dense import DenseParams, apply_dense, init_dense
from rnnjax.layers.embedding import EmbeddingParams, embed, init_embedding
from rnnjax.losses.cross_entropy import cross_entropy_per_step
from rnnjax.recurrences.initializers import Initializers
from rnnjax.recurrences.protocol import Params, Recurrence
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.run_folder import RunFolder, open_run_folder
from rnnjax.training.step import initial_train_state, make_train_step

RUN = Path("runs/agreement")
POINTS = "points.jsonl"
ALL = "all"
"""The point of a network that is trained on all distances."""

ALWAYS_WAS, LAST_NOUN, N_GRAM = "always was", "number of the last noun", "n-grams of up to 5 words"
ORDER = 4
"""Words before the verb that the n-gram baseline looks at: with the verb 5."""

BREAKS_BELOW = 0.75
"""Half way between guessing and knowing."""

SOLVED = 25
"""A network is done that told every verb of so many batches in a row."""


# The networks


class Network(NamedTuple):
    """A recurrence whose output is the first part of its carry, and how its weights begin.

    Attributes:
        recurrence: What is computed in one step.
        init: `(key, input_size, hidden_size, longest) -> params`.
        summary: In a line.
    """

    recurrence: Recurrence
    init: Callable[[Array, int, int, int], Params]
    summary: str


def _plain(recurrence: Recurrence, **options: Any) -> Callable[[Array, int, int, int], Params]:
    def init(key: Array, input_size: int, hidden_size: int, longest: int) -> Params:
        del longest
        return recurrence.init(key, input_size, hidden_size, **options)

    return init


def chrono_logits(key: Array, hidden_size: int, longest: int) -> Array:
    """Biases of gates that keep the state for u words, u uniform in 1 … `longest` − 1; `(H,)`.

    σ(log(u)) = u / (u + 1) is kept of the state each word.

    References:
        Tallec and Ollivier (2018), arXiv:1804.11188, section 3, equation 16.
    """
    times = jax.random.uniform(key, (hidden_size,), jnp.float32, 1.0, max(2.0, longest - 1.0))
    return jnp.log(times)


def _chrono_lstm(key: Array, input_size: int, hidden_size: int, longest: int) -> Params:
    key, key_times = jax.random.split(key)
    params = rnnjax.lstm.init(key, input_size, hidden_size, forget_bias=0.0)
    kept = chrono_logits(key_times, hidden_size, longest)
    of_gates = jnp.concatenate([-kept, kept, jnp.zeros(2 * hidden_size, jnp.float32)])
    return params._replace(b=params.b + of_gates)


def _chrono_gru(key: Array, input_size: int, hidden_size: int, longest: int) -> Params:
    key, key_times = jax.random.split(key)
    params = rnnjax.gru.init(key, input_size, hidden_size)
    zeros = jnp.zeros(hidden_size, jnp.float32)
    kept = chrono_logits(key_times, hidden_size, longest)
    return params._replace(b_x=params.b_x + jnp.concatenate([zeros, kept, zeros]))


_GLOROT = Initializers(recurrent=jax.nn.initializers.glorot_uniform())

NETWORKS: Mapping[str, Network] = {
    "elman": Network(rnnjax.elman, _plain(rnnjax.elman), "orthogonal recurrent weights"),
    "elman_glorot": Network(
        rnnjax.elman, _plain(rnnjax.elman, initializers=_GLOROT), "Glorot's recurrent weights"
    ),
    "minimal_gru": Network(
        rnnjax.minimal_gru, _plain(rnnjax.minimal_gru), "gates half open: biases zero"
    ),
    "gru": Network(rnnjax.gru, _plain(rnnjax.gru), "gates half open: biases zero"),
    "lstm": Network(rnnjax.lstm, _plain(rnnjax.lstm), "forget gate with a bias of 1"),
    "gru_chrono": Network(
        rnnjax.gru, _chrono_gru, "gates that keep for 1 … longest words (Tallec and Ollivier 2018)"
    ),
    "lstm_chrono": Network(
        rnnjax.lstm,
        _chrono_lstm,
        "gates that keep for 1 … longest words (Tallec and Ollivier 2018)",
    ),
}
"""Name -> network. All recurrent weights are orthogonal but Glorot's."""


@dataclass(frozen=True)
class Train:
    """Train each network at each distance, or go on; then compare them on sentences never seen.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" shows it in minutes on two cores, "smoke" only
            that everything runs, "full" has larger networks and takes more of everything.
        networks: Names in `NETWORKS`.
        parameters: Of the recurrence, about: H is chosen by it.
        embedding_size: E.
        distances: k of the sentences a network is trained on alone, and tested on.
        longest: The largest distance where it is trained on all.
        batch_size: B, sentences a step.
        optimizer: The algorithm, clipping and decay; steps beyond what it takes are not made.
        seed: Of parameters and sentences.
        pairs: Of test sentences at each distance; each has a singular and a plural one.
        gram_sentences: How many sentences the n-gram baseline learns from.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    networks: tuple[str, ...] = tuple(NETWORKS)
    parameters: int = 10_000
    embedding_size: int = 16
    distances: tuple[int, ...] = (10, 20, 40, 80, 120, 200)
    longest: int = 200
    batch_size: int = 64
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=3e-3, schedule="linear", total_steps=400, warmup_steps=20, clip_norm=1.0
        )
    )
    seed: int = 0
    pairs: int = 200
    gram_sentences: int = 20_000


PRESETS = {
    "demo": Train(),
    "smoke": Train(
        run=RUN.with_name("agreement_smoke"),
        preset="smoke",
        networks=("elman", "lstm_chrono"),
        parameters=600,
        embedding_size=4,
        distances=(3, 12),
        longest=12,
        batch_size=8,
        optimizer=OptimizerConfig(
            learning_rate=1e-2, schedule="linear", total_steps=20, warmup_steps=2, clip_norm=1.0
        ),
        pairs=10,
        gram_sentences=200,
    ),
    "full": Train(
        run=RUN.with_name("agreement_full"),
        preset="full",
        parameters=40_000,
        embedding_size=32,
        distances=(5, 10, 20, 40, 60, 80, 100, 120, 160, 200),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, schedule="linear", total_steps=5000, warmup_steps=100, clip_norm=1.0
        ),
        pairs=1000,
        gram_sentences=200_000,
    ),
}


class AgreementParams(NamedTuple):
    """An embedding, one layer, and a head that reads its last output."""

    embedding: EmbeddingParams
    layer: Params
    head: DenseParams  # (H, 2)


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made.

    Raises:
        ValueError: A number is below one, a network is unknown, or something is given twice.
    """
    for name in (
        "parameters",
        "embedding_size",
        "longest",
        "batch_size",
        "pairs",
        "gram_sentences",
    ):
        check_size(name, getattr(config, name))
    for name in ("networks", "distances"):
        given = getattr(config, name)
        if not given or len(set(given)) < len(given):
            raise ValueError(f"{name}: got {list(given)}, expected at least one, and none twice")
    for name in config.networks:
        if name not in NETWORKS:
            raise ValueError(f"networks: got {name!r}, expected some of {', '.join(NETWORKS)}")
    for distance in config.distances:
        check_size("distances", distance)
        if distance > config.longest:
            raise ValueError(
                f"distances: got {distance}, expected at most longest = {config.longest}"
            )


@cache
def hidden_size_of(network: Network, input_size: int, parameters: int) -> int:
    """H with which a network's recurrence comes closest to a number of parameters."""

    def count(hidden_size: int) -> int:
        return parameter_count(lambda key: network.init(key, input_size, hidden_size, 2))

    return nearest(count, parameters)


def init_params(config: Train, name: str) -> AgreementParams:
    """Draw the parameters of a network."""
    network = NETWORKS[name]
    size = hidden_size_of(network, config.embedding_size, config.parameters)
    keys = jax.random.split(jax.random.key(config.seed), 3)
    return AgreementParams(
        init_embedding(keys[0], len(WORDS), config.embedding_size),
        network.init(keys[1], config.embedding_size, size, config.longest),
        init_dense(keys[2], size, len(VERBS)),
    )


def logits_of(recurrence: Recurrence, params: AgreementParams, sentences: Sentences) -> Array:
    """What the head says of was and were, `(N, 2)`, from the output at the last word."""
    xs = embed(params.embedding, sentences.tokens)
    _, ys = rnnjax.scan(recurrence, params.layer, xs, lengths=sentences.lengths)
    last = jnp.asarray(sentences.lengths)[None, :, None] - 1
    return apply_dense(params.head, jnp.take_along_axis(ys, last, axis=0)[0])


def agreement_loss(
    recurrence: Recurrence, params: AgreementParams, memory: tuple[()], batch: Sentences, key: Array
) -> tuple[Array, tuple[tuple[()], dict[str, Array]]]:
    """The mean cross-entropy at the verb, nats, as `rnnjax.training` takes it."""
    del key
    logits = logits_of(recurrence, params, batch)
    right = jnp.argmax(logits, axis=-1).astype(jnp.int32) == batch.verbs
    loss = jnp.mean(cross_entropy_per_step(logits, batch.verbs))
    return loss, (memory, {"accuracy": jnp.mean(right.astype(jnp.float32))})


# The sentences


def buckets(longest: int) -> list[tuple[int, int]]:
    """Ranges of distances, each up to four times the one before: a batch is of one of them.

    So short sentences are not padded to the length of long ones.
    """
    ends = sorted({max(1, longest // 16), max(1, longest // 4), longest})
    return [(begin + 1, end) for begin, end in zip([0, *ends], ends, strict=False)]


def batch_of_all(config: Train, step: int) -> Sentences:
    """The sentences of a step: distances from 1 to the longest, uniform in their logarithm."""
    rng = Random(f"all {config.seed} {step}")
    ranges = buckets(config.longest)
    begin, end = rng.choices(ranges, [math.log((e + 1) / b) for b, e in ranges])[0]
    distances = [
        min(end, int(math.exp(rng.uniform(math.log(begin), math.log(end + 1)))))
        for _ in range(config.batch_size)
    ]
    return draw_sentences(rng, distances, end + 1)


def batch_of_one(config: Train, distance: int, step: int) -> Sentences:
    """The sentences of a step, all of one distance."""
    rng = Random(f"{distance} {config.seed} {step}")
    return draw_sentences(rng, [distance] * config.batch_size, distance + 1)


def tested_distances(config: Train) -> list[int]:
    """Distances at which all are tested: short ones too, which nobody is trained on alone."""
    return sorted({k for k in (1, 2, 3, 5) if k <= config.longest} | set(config.distances))


def test_sentences(config: Train) -> Sentences:
    """Pairs of each tested distance."""
    distances = [k for k in tested_distances(config) for _ in range(config.pairs)]
    return draw_pairs(Random(f"test {config.seed}"), distances, max(distances) + 1)


def of_distance(sentences: Sentences, distance: int) -> Sentences:
    """Those of one distance, without padding."""
    places = np.flatnonzero(sentences.lengths - SUBJECT == distance)
    return Sentences(
        sentences.tokens[: distance + 1, places], sentences.lengths[places], sentences.verbs[places]
    )


def told_right(
    recurrence: Recurrence, params: AgreementParams, sentences: Sentences
) -> dict[int, float]:
    """Distance -> the share of verbs that a network tells right, one distance after the other."""
    found = {}
    for distance in np.unique(sentences.lengths - SUBJECT):
        some = of_distance(sentences, int(distance))
        verbs = np.argmax(np.asarray(logits_of(recurrence, params, some)), axis=-1)
        found |= accuracy_by_distance(verbs, some)
    return found


def accuracy_by_distance(predicted: np.ndarray, sentences: Sentences) -> dict[int, float]:
    """Distance -> the share of verbs that were told right."""
    distances = sentences.lengths - SUBJECT
    right = predicted == sentences.verbs
    return {int(k): float(np.mean(right[distances == k])) for k in np.unique(distances)}


def breaks_at(accuracy: Mapping[int, float]) -> int | None:
    """The least distance at which accuracy is below `BREAKS_BELOW`; None if nowhere."""
    return next((k for k in sorted(accuracy) if accuracy[k] < BREAKS_BELOW), None)


# What is no neural network


def last_noun_number(words: Sequence[str]) -> int:
    """The number of the noun closest to the verb: of the subject, only if there is no other."""
    return next(NUMBER_OF[word] for word in reversed(words) if word in NUMBER_OF)


Votes = dict[tuple[str, ...], int]


def fit_n_grams(sentences: Iterable[tuple[list[str], int]]) -> Votes:
    """Of every 0 … ORDER words before a verb: how much oftener it was "were" than "was"."""
    votes: Counter[tuple[str, ...]] = Counter()
    for words, number in sentences:
        for size in range(min(ORDER, len(words)) + 1):
            votes[tuple(words[len(words) - size :])] += 2 * number - 1
    return dict(votes)


def n_gram_number(votes: Votes, words: Sequence[str]) -> int:
    """What the longest words before the verb with a majority say; 0 if none has one."""
    for size in reversed(range(min(ORDER, len(words)) + 1)):
        majority = votes.get(tuple(words[len(words) - size :]), 0)
        if majority:
            return int(majority > 0)
    return 0


def baseline_accuracies(config: Train, test: Sentences) -> dict[str, dict[int, float]]:
    """Name -> accuracy by distance, of what is not a neural network."""
    batches = math.ceil(config.gram_sentences / config.batch_size)
    learned = (
        (words, int(verb))
        for step in range(batches)
        for batch in (batch_of_all(config, step),)
        for words, verb in zip(sentences_as_words(batch), batch.verbs, strict=True)
    )
    votes = fit_n_grams(learned)
    told = {
        ALWAYS_WAS: [0 for _ in test.verbs],
        LAST_NOUN: [last_noun_number(words) for words in sentences_as_words(test)],
        N_GRAM: [n_gram_number(votes, words) for words in sentences_as_words(test)],
    }
    return {name: accuracy_by_distance(np.asarray(numbers), test) for name, numbers in told.items()}


# What the gradient does


LOOKED_AT, LOOKED_CLOSELY_AT = 64, 4
"""Sentences for gradient norms, and for what takes H² numbers a word."""


def look(config: Train, recurrence: Recurrence, params: AgreementParams) -> dict[str, Any]:
    """What the diagnostics say of a network reading sentences of the longest distance.

    Returns:
        gradient_norms: Medians of ‖∂L/∂h‖ at distances 1 … k from the verb, L that of a sentence.
        largest_exponent: The largest Lyapunov exponent, nats a word, the median.
        memory_length: The effective memory length, words, the median.
        gates: Name -> the shares of its values that are nearly open and nearly shut.
    """
    from rnnjax.diagnostics.gates import gate_saturation, gate_values
    from rnnjax.diagnostics.gradient_through_time import gradient_norms_through_time
    from rnnjax.diagnostics.lyapunov import lyapunov_exponents
    from rnnjax.diagnostics.memory import effective_memory_length, memory_profile

    rng = Random(f"look {config.seed}")
    sentences = draw_pairs(rng, [config.longest] * (LOOKED_AT // 2), config.longest + 1)
    xs = embed(params.embedding, sentences.tokens)

    def loss(carry: Any, ys: Array) -> Array:
        del ys
        logits = apply_dense(params.head, jax.tree.leaves(carry)[0])
        return jnp.sum(cross_entropy_per_step(logits, sentences.verbs))

    norms = np.asarray(gradient_norms_through_time(recurrence, params.layer, xs, loss))
    few = xs[:, :LOOKED_CLOSELY_AT]
    key = jax.random.key(config.seed)
    exponents = lyapunov_exponents(recurrence, params.layer, few, key, count=1)
    lengths = effective_memory_length(memory_profile(recurrence, params.layer, few))
    gates = {
        name: gate_saturation(values)
        for name, values in gate_values(recurrence, params.layer, xs).items()
    }
    # The verb is told from h^<k+1>, k − 1 steps after the subject, which h^<2> has just read.
    by_distance = np.median(norms, axis=1)[::-1][: config.longest]
    return {
        "gradient_norms": [float(norm) for norm in by_distance],
        "largest_exponent": float(np.median(exponents)),
        "memory_length": float(np.median(lengths)),
        "gates": {
            name: {"open": float(np.mean(gate.open)), "shut": float(np.mean(gate.shut))}
            for name, gate in gates.items()
        },
    }


# A run


def train_point(config: Train, name: str, distance: int | None, test: Sentences) -> dict[str, Any]:
    """Train a network from its beginning on one distance, or on all, until it is solved or ends.

    Returns:
        steps: How many were made.
        accuracy: Of the test sentences of that distance, or of all distances.
        after: What `look` says, of a network that was trained on all.
    """
    recurrence = NETWORKS[name].recurrence
    optimizer = build_optimizer(config.optimizer)
    state = initial_train_state(
        init_params(config, name), optimizer, (), jax.random.key(config.seed)
    )
    train_step = make_train_step(partial(agreement_loss, recurrence), optimizer)
    batch_at = partial(batch_of_all, config)
    if distance is not None:
        batch_at = partial(batch_of_one, config, distance)
    steps = right_in_a_row = 0
    while steps < config.optimizer.total_steps and right_in_a_row < SOLVED:
        state, metrics = train_step(state, batch_at(steps))
        right_in_a_row = right_in_a_row + 1 if float(metrics["accuracy"]) == 1 else 0
        steps += 1
    if distance is not None:
        accuracy = told_right(recurrence, state.params, of_distance(test, distance))
        return {"steps": steps, "accuracy": accuracy}
    return {
        "steps": steps,
        "accuracy": told_right(recurrence, state.params, test),
        "after": look(config, recurrence, state.params),
    }


def first_point(config: Train, name: str) -> dict[str, Any]:
    """What a network is before any training."""
    params = init_params(config, name)
    return {
        "summary": NETWORKS[name].summary,
        "hidden_size": params.head.w.shape[0],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params.layer)),
        "before": look(config, NETWORKS[name].recurrence, params),
    }


def run_fingerprint(config: Train, test: Sentences) -> dict[str, str]:
    """Digests of the test sentences, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    return fingerprint(
        data=test._asdict(),
        config=config,
        code=code_of(here.with_name("equal_parameters.py"), here),
        without=("run", "preset"),
    )


def train(config: Train) -> dict[str, Any]:
    """Train every network at every distance, or go on; then compare.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    check(config)
    test = test_sentences(config)
    with open_run_folder(config.run, config, fingerprint=run_fingerprint(config, test)) as run:
        path = run.path / POINTS
        records = read_records(path)
        done = {(record["network"], record["trained_on"]) for record in records}
        for name in config.networks:
            for trained_on in ("nothing", ALL, *config.distances):
                if (name, trained_on) in done:
                    continue
                if trained_on == "nothing":
                    found = first_point(config, name)
                else:
                    distance = None if trained_on == ALL else int(trained_on)
                    found = train_point(config, name, distance, test)
                    say(
                        f"{name}, {trained_on}: {np.mean(list(found['accuracy'].values())):.2f} "
                        f"right after {found['steps']} steps"
                    )
                append_record(path, {"network": name, "trained_on": trained_on} | found)
        return report(config, run, read_records(path), baseline_accuracies(config, test))


def report(
    config: Train,
    run: RunFolder,
    records: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, Mapping[int, float]],
) -> dict[str, Any]:
    """Write the report and its pictures, and print what it says."""
    networks: dict[str, dict[str, Any]] = {}
    for record in records:
        network = networks.setdefault(record["network"], {"alone": {}, "steps": {}})
        match record["trained_on"]:
            case "nothing":
                network |= {k: v for k, v in record.items() if k not in ("network", "trained_on")}
            case "all":
                network |= {"all": record["accuracy"], "after": record["after"]}
                network["steps"][ALL] = record["steps"]
            case distance:
                network["alone"] |= record["accuracy"]
                network["steps"][str(distance)] = record["steps"]
        networks[record["network"]] = network
    for network in networks.values():
        alone = {int(k): accuracy for k, accuracy in network["alone"].items()}
        network["breaks_at"] = breaks_at(alone)
    example = draw_pairs(Random("example"), [min(16, config.longest)], config.longest + 1)
    summary = run.start | {
        "seconds": run.seconds(),
        "trained_distances": list(config.distances),
        "tested_distances": tested_distances(config),
        "longest": config.longest,
        "most_steps": config.optimizer.total_steps,
        "test_sentences_a_distance": 2 * config.pairs,
        "breaks_below": BREAKS_BELOW,
        "networks": networks,
        "baselines": baselines,
        "example": " ".join(next(sentences_as_words(example))),
    }
    # Keys of JSON are strings: the page is made of what the file says.
    summary = json.loads(json.dumps(summary, allow_nan=False))
    replace_text(run.path / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(run.path / "report.md", report_page(summary))
    draw(summary, run.path)
    print(f"Trained on one distance alone:\n{alone_table(summary)}\n")
    print(f"Trained on all distances up to {config.longest}:\n{all_table(summary)}\n")
    print(f"In {run.path}: report.md, accuracy.png, gradient.png")
    return summary


def where_it_breaks(network: Mapping[str, Any]) -> str:
    """In words."""
    return "nowhere" if network["breaks_at"] is None else f"at {network['breaks_at']}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def alone_table(summary: Mapping[str, Any]) -> str:
    """Accuracy where trained on one distance alone, the steps it took, and where it breaks."""
    distances = [str(k) for k in summary["trained_distances"]]
    rows = [
        [
            name,
            *(f"{n['alone'][k]:.2f} ({n['steps'][k]})" for k in distances),
            where_it_breaks(n),
        ]
        for name, n in summary["networks"].items()
    ]
    rows += [
        [name, *(f"{accuracy[k]:.2f}" for k in distances), ""]
        for name, accuracy in summary["baselines"].items()
    ]
    return _table(["k", *distances, "breaks"], rows)


def all_table(summary: Mapping[str, Any]) -> str:
    """Accuracy where trained on all distances, by the distance tested."""
    distances = [str(k) for k in summary["tested_distances"]]
    rows = {name: (n["all"], n["steps"][ALL]) for name, n in summary["networks"].items()}
    rows |= {name: (accuracy, "") for name, accuracy in summary["baselines"].items()}
    return _table(
        ["k", *distances, "steps"],
        [
            [name, *(f"{accuracy[k]:.2f}" for k in distances), f"{steps}"]
            for name, (accuracy, steps) in rows.items()
        ],
    )


def left_at(network: Mapping[str, Any], when: str, distance: int) -> float:
    """‖∂L/∂h‖ at a distance relative to that beside the verb."""
    norms = network[when]["gradient_norms"]
    return norms[distance - 1] / norms[0]


def gradient_table(summary: Mapping[str, Any]) -> str:
    """What is left of the gradient k words before the verb, before training."""
    distances = summary["trained_distances"]
    return _table(
        ["k", *map(str, distances)],
        [
            [name, *(f"{left_at(n, 'before', k):.0e}" for k in distances)]
            for name, n in summary["networks"].items()
        ],
    )


def look_table(summary: Mapping[str, Any]) -> str:
    """What the diagnostics say before training and after training on all distances."""
    head = ["", "H", "parameters", "exponent before", "after", "memory before", "after"]
    rows = []
    for name, n in summary["networks"].items():
        both = n["before"], n["after"]
        rows.append(
            [
                name,
                str(n["hidden_size"]),
                f"{n['parameters']:,}",
                *(f"{b['largest_exponent']:.3f}" for b in both),
                *(f"{b['memory_length']:.0f}" for b in both),
            ]
        )
    return _table(head, rows)


def report_page(summary: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    longest = summary["longest"]
    networks = "\n".join(f"- `{name}`: {n['summary']}" for name, n in summary["networks"].items())
    gates = "\n".join(
        f"- `{name}` {when} training: "
        + ", ".join(
            f"{gate} {part['open']:.0%} open and {part['shut']:.0%} shut"
            for gate, part in n[when]["gates"].items()
        )
        for name, n in summary["networks"].items()
        for when in ("before", "after")
        if n[when]["gates"]
    )
    return f"""# Agreement at a distance

{made_by(summary)}

Was or were? The share of verbs told right, by the distance k from subject to verb, of
{summary["test_sentences_a_distance"]} sentences a distance never seen, half of them singular.
Guessing is 0.50. A sentence without its verb: "{summary["example"]}".

{networks}

## Trained on one distance alone

The gradient has to come back k words, or nothing is learned. In brackets the steps of training:
{summary["most_steps"]} at most, fewer where {SOLVED} batches in a row were told right. "Breaks":
the least of these distances with an accuracy below {summary["breaks_below"]}.

{alone_table(summary)}

![accuracy by distance](accuracy.png)

What is left of the gradient before training: the norm of ∂L/∂h k words before the verb, relative to
that beside it; sentences with k = {longest}, the median.

{gradient_table(summary)}

![norm of the gradient by distance](gradient.png)

## Trained on all distances

From 1 to {longest}, uniform in their logarithm: short sentences teach what long ones need.

{all_table(summary)}

## Looking inside

The largest Lyapunov exponent, in nats a word, and the number of last words that hold 95 % of the
memory profile ({longest + 2} at most), before training and after training on all distances;
sentences with k = {longest}.

{look_table(summary)}

Gates over those sentences: the share of values above 0.9 and below 0.1.

{gates}
"""


def draw(summary: Mapping[str, Any], folder: Path) -> None:
    """Accuracy by distance, and the gradient's norm by distance before and after training."""
    from rnnjax.diagnostics.plots import COLORS, picture

    networks, distances = summary["networks"], summary["trained_distances"]
    colors = dict(zip(networks, COLORS * len(networks), strict=False))
    with picture(folder / "accuracy.png", height=4.5) as panels:
        axes = panels[0, 0]
        for place, (name, network) in enumerate(networks.items()):
            values = [network["alone"][str(k)] for k in distances]
            # A little to the side of each other: several break at the same distance.
            beside = [k * 1.025 ** (place - (len(networks) - 1) / 2) for k in distances]
            axes.plot(
                beside,
                values,
                color=colors[name],
                marker="o",
                markersize=4,
                linewidth=1.4,
                label=name,
            )
        styles = ((0, (5, 3)), (0, (1, 1.5)), (0, (3, 1, 1, 1)))
        for (name, accuracy), style in zip(summary["baselines"].items(), styles, strict=True):
            values = [accuracy[str(k)] for k in distances]
            axes.plot(distances, values, color="#555555", linewidth=1, linestyle=style, label=name)
        axes.set_xscale("log")
        axes.set_xticks(distances, [str(k) for k in distances])
        axes.minorticks_off()
        axes.set_ylim(min(0.4, axes.get_ylim()[0]), 1.03)
        axes.set_xlabel("Distance k from subject to verb (words), in training and test")
        axes.set_ylabel("Verbs told right (share)")
        axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    with picture(folder / "gradient.png", 1, 2, width=10, height=4.2) as panels:
        titles = {"before": "Before training", "after": "After training on all distances"}
        for axes, (when, title) in zip(panels[0], titles.items(), strict=True):
            for name, network in networks.items():
                norms = np.asarray(network[when]["gradient_norms"])
                relative = np.where(norms > 0, norms, np.nan) / norms[0]
                axes.plot(np.arange(1, len(norms) + 1), relative, color=colors[name], label=name)
            axes.set_yscale("log")
            axes.set_title(title, fontsize=11)
            axes.set_xlabel("Words before the verb")
        low = min(axes.get_ylim()[0] for axes in panels[0])
        high = max(axes.get_ylim()[1] for axes in panels[0])
        for axes in panels[0]:
            axes.set_ylim(max(low, 1e-20), high)
        panels[0, 0].set_ylabel("Norm of ∂L/∂h, relative to that beside the verb")
        panels[0, 1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))


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
