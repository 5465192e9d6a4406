"""Dates of many languages into ISO 8601: many-to-many with Tx ≠ Ty, an encoder and a decoder.

    python -m experiments.date_translation train
    python -m experiments.date_translation translate --locale de "Sonntag, 5. Juli 2026"
    python -m experiments.date_translation compare

A bidirectional GRU (or any recurrence of the registry) reads the name of a locale and then a date
as it is written there, letter by letter; another one writes the ten characters of the day and ends.
Before each character attention says where in the text to look. The score is exact match: all ten
are right, of days that were never seen, in no locale and no style. It stands beside babel's own
parser, which knows the order of numbers in each locale, and beside a program that counts which
number and which word goes with which year, month and day. `compare` trains decoders without
attention, with additive and with multiplicative attention, and one that reads some of its own
characters while it learns (scheduled sampling), and writes greedily and by beams. Interrupted, the
same command goes on from the last checkpoint.

The task is the course's; its exercise publishes no score of exact match. `--preset full` is its
set-up: 10,000 English dates, an LSTM of 32 units in each direction, one of 64 that writes.

Recorded: exact match 99.99 % of 9,900 dates of days never seen in 33 locales, against 99.7 % of
numbers and words, counted and 17.2 % of babel.dates.parse_date; `python -m
experiments.date_translation train`, 8.2 minutes on 2 cores of AMD EPYC
(docs/results/date_translation/report.md). `compare`, by attention: 16.31 % none, 100.00 % additive,
99.99 % dot, 99.94 % general, 100.00 % general, scheduled sampling; `python -m
experiments.date_translation compare`, 3.5 minutes on 2 cores of AMD EPYC
(docs/results/date_translation_compared/report.md).
"""

import json
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.command_line import one_line_errors, preset_named, say
from experiments.date_pages import (
    METRIC,
    comparison_page,
    comparison_table,
    report_page,
    scores_table,
)
from experiments.trained_run import best_state, code_of, params_to_use
from rnnjax.decoding.beam_search import Hypotheses
from rnnjax.layers.checks import check_size
from rnnjax.layers.dropout import check_rate
from rnnjax.models.encoder_decoder import (
    ATTENTIONS,
    AttentionName,
    EncoderDecoderConfig,
    EncoderDecoderParams,
    TranslationBatch,
    attention_weights,
    encoder_decoder_loss,
    init_encoder_decoder,
    scheduled_sampling_loss,
    translate_greedily,
)
from rnnjax.models.encoder_decoder import translate as translate_by_beam
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.plans.protocol import Plan
from rnnjax.text.batches import Batches, pad, padded_batches
from rnnjax.text.vocabulary import END, UNKNOWN, Vocabulary, from_json
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.placement import make_placed_train_step, place_rows, plan_of
from rnnjax.training.precision import PrecisionPolicy
from rnnjax.training.run_folder import RunFolder, open_run_folder, read_config
from rnnjax.training.step import LossFunction, TrainState, initial_train_state

if TYPE_CHECKING:
    from experiments.attention_pictures import AttentionMap

RUN = Path("runs/date_translation")
TARGET = Vocabulary((UNKNOWN, END, "-", *"0123456789"), end=END)
"""What is written; the end token stands also before the first character, y^<0>."""

LENGTH = 11  # characters of a day and its end
ROWS_AT_A_TIME = 256  # dates decoded in one call, filled up with empty ones: one shape for all
TIMED_BATCHES = 10
COMPARED_STEPS = 1000  # by default: with attention that is enough
SHOWN_LOCALE, SHOWN_END = "◆", "■"  # in pictures
BABEL, COUNTS = "babel.dates.parse_date", "numbers and words, counted"


@dataclass(frozen=True)
class Data:
    """Where the dates come from.

    Attributes:
        source: "package": written by babel; "path": a table of your own.
        path: The .tsv file of source=path, with a locale, a text and YYYY-MM-DD on each line.
        locales: Of source=package, as babel names them; none are those of
            experiments.data.dates.LOCALES.
        training_days: Of source=package: how many are written in each locale and style to learn
            from.
        test_days: Likewise to be tested on.
    """

    source: Literal["package", "path"] = "package"
    path: Path | None = None
    locales: tuple[str, ...] = ()
    training_days: int = 700
    test_days: int = 100


@dataclass(frozen=True)
class Model:
    """What the network is made of.

    Attributes:
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        encoder_hidden_sizes: H of each layer that reads, bottom first; of one direction.
        decoder_hidden_sizes: H of each layer that writes, bottom first.
        embedding_size: E of the learned vectors of characters.
        bidirectional: Whether the date is read from its end too.
        attention: "none", "additive", or, multiplicative, "dot" and "general".
        attention_size: Hidden units of attention=additive.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    recurrence: str = "gru"
    encoder_hidden_sizes: tuple[int, ...] = (64,)
    decoder_hidden_sizes: tuple[int, ...] = (128,)
    embedding_size: int = 32
    bidirectional: bool = True
    attention: AttentionName = "general"
    attention_size: int = 64
    plan: str = "auto"


@dataclass(frozen=True)
class Decoding:
    """How a date is written.

    Attributes:
        beam_width: K; 1 is greedy search.
        length_exponent: The α of log P ÷ Ty^α, by which finished dates are compared.
    """

    beam_width: int = 5
    length_exponent: float = 0.7

    @property
    def name(self) -> str:
        """What a table calls it."""
        if self.beam_width == 1:
            return "greedy"
        return f"beam of {self.beam_width}, α = {self.length_exponent:g}"


GREEDY = Decoding(1)


@dataclass(frozen=True)
class Train:
    """Train a model, or go on training the one in the run folder; then report on held-out days.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns in minutes on two cores, "smoke" only
            shows in seconds that everything runs, "full" is the set-up of the course's exercise.
        data: Where the dates come from.
        model: What the network is made of.
        decoding: How dates are written for the report, beside greedy search.
        precision: In which dtypes it is trained and used.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps.
        batch_size: B.
        growth: How coarsely lengths are rounded up, see rnnjax.text.batches.bucket_steps.
        dropout: Of character vectors, between layers, and before the softmax.
        own_tokens: How often, at the end of training, the decoder reads a character it has drawn
            itself in place of the true one; it begins with 0, which is teacher forcing, and rises
            evenly (scheduled sampling).
        seed: Of parameters, order and draws.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    data: Data = Data()
    model: Model = Model()
    decoding: Decoding = Decoding()
    precision: PrecisionPolicy = field(default_factory=PrecisionPolicy)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    batch_size: int = 64
    growth: float = 3.0
    dropout: float = 0.0
    own_tokens: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Translate:
    """Write dates in ISO 8601 with the best model of a run.

    Attributes:
        texts: The dates.
        file: Or a file, a date a line.
        locale: As whose dates they are read, as "en" or "de".
        run: The run folder.
        decoding: How they are written.
        count: How many of the best hypotheses are printed of each.
        picture: A .png to be drawn of where the decoder looked.
    """

    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    file: Path | None = None
    locale: str = "en"
    run: Path = RUN
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = Decoding()
    count: int = 1
    picture: Path | None = None


@dataclass(frozen=True)
class Compare:
    """Train decoders with each attention, and one with scheduled sampling, and compare them.

    Attributes:
        template: All else, as of `train`.
        attentions: Which ones.
        scheduled_own_tokens: The `own_tokens` of the one with scheduled sampling, which has the
            template's attention; 0 leaves it out.
    """

    template: Annotated[Train, tyro.conf.arg(name="")]
    attentions: tuple[AttentionName, ...] = ATTENTIONS
    scheduled_own_tokens: float = 0.5


PRESETS = {
    "demo": Train(
        optimizer=OptimizerConfig(
            learning_rate=4e-3, warmup_steps=100, total_steps=3000, clip_norm=10.0
        ),
        loop=LoopConfig(evaluate_every=250, checkpoint_every=500, log_every=50),
    ),
    "smoke": Train(
        run=RUN.with_name("date_translation_smoke"),
        preset="smoke",
        data=Data(locales=("en", "de", "ja"), training_days=200, test_days=10),
        model=Model(
            encoder_hidden_sizes=(8,),
            decoder_hidden_sizes=(16,),
            embedding_size=8,
            attention_size=8,
        ),
        decoding=Decoding(beam_width=1),
        optimizer=OptimizerConfig(
            learning_rate=1e-2, warmup_steps=5, total_steps=20, clip_norm=10.0
        ),
        loop=LoopConfig(evaluate_every=10, checkpoint_every=10, log_every=5),
        batch_size=16,
        growth=9.0,
    ),
    "full": Train(
        run=RUN.with_name("date_translation_full"),
        preset="full",
        data=Data(locales=("en",), training_days=3333, test_days=1000),
        model=Model(
            recurrence="lstm",
            encoder_hidden_sizes=(32,),
            decoder_hidden_sizes=(64,),
            attention="additive",
            attention_size=10,
        ),
        optimizer=OptimizerConfig(
            learning_rate=5e-3, schedule="constant", total_steps=5000, clip_norm=None
        ),
        loop=LoopConfig(evaluate_every=250, checkpoint_every=500, log_every=50),
        batch_size=100,
    ),
}


class Dates(NamedTuple):
    """Dates of one split, as they are written and in ISO 8601."""

    texts: list[str]
    locales: list[str]
    styles: list[str]
    isos: list[str]


class Corpus(NamedTuple):
    """Dates by split, and the characters and locales of the training part."""

    train: Dates
    validation: Dates
    test: Dates
    vocabulary: Vocabulary


@dataclass(frozen=True)
class Encoded:
    """Dates as ids, `rnnjax.text.batches.Examples`."""

    sources: list[np.ndarray]
    targets: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, places: list[int]) -> dict[str, Any]:
        return {
            "sources": [self.sources[place] for place in places],
            "targets": [self.targets[place] for place in places],
        }


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is out of range, or the plan is unknown.
    """
    for name in ("batch_size", "data.training_days", "data.test_days"):
        of, _, field_ = name.rpartition(".")
        check_size(name, getattr(config.data if of else config, field_))
    check_decoding(config.decoding)
    if not config.growth > 1:
        raise ValueError(f"growth: got {config.growth}, expected above 1")
    check_rate("dropout", config.dropout)
    check_share("own_tokens", config.own_tokens)
    if config.model.plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {config.model.plan!r}, expected one of {known}")


def check_decoding(decoding: Decoding) -> None:
    """Raise ValueError unless there is a beam, and an exponent of at least 0."""
    check_size("beam_width", decoding.beam_width)
    if not decoding.length_exponent >= 0:
        raise ValueError(f"length_exponent: got {decoding.length_exponent}, expected at least 0")


def check_share(name: str, share: float) -> None:
    """Raise ValueError unless it is within 0 … 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: got {share}, expected 0 … 1")


def load_corpus(data: Data) -> Corpus:
    """The dates, and the vocabulary of their training part.

    Raises:
        ValueError: As `experiments.data.dates.load`, or a locale is held out alone.
    """
    from experiments.data import dates  # `datasets` takes seconds to import

    days = data.training_days, dates.DAYS[1], data.test_days
    rows = dates.load(data.source, data.path, data.locales or dates.LOCALES, days)
    train, validation, test = (
        Dates(*(list(rows[split][name]) for name in ("text", "locale", "style", "iso")))
        for split in dates.SPLITS
    )
    new = {*validation.locales, *test.locales} - {*train.locales}
    if new:
        raise ValueError(
            f"data: got no date of locale {min(new)!r} to learn from, expected some of each"
        )
    characters = sorted(set("".join(map(normalised, train.texts))))
    locales = map(locale_token, dict.fromkeys(train.locales))
    vocabulary = Vocabulary((UNKNOWN, *characters, *locales))
    return Corpus(train, validation, test, vocabulary)


def normalised(text: str) -> str:
    """A date as the network reads it: lower case, plain spaces, no marks of direction."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return re.sub(r"\s+", " ", text).strip()


def locale_token(locale: str) -> str:
    """The token that stands for a locale; no character is spelled so."""
    return f"<{locale}>"


def locales_of(vocabulary: Vocabulary) -> list[str]:
    """The locales that a vocabulary has tokens for, in order."""
    return [token[1:-1] for token in vocabulary.tokens if len(token) > 1 and token != UNKNOWN]


def tokens_of(locale: str, text: str) -> list[str]:
    """x^<1>, …, x^<Tx>: the locale, as the language in Johnson et al. (2017), and the letters."""
    return [locale_token(locale), *normalised(text)]


def encode_sources(vocabulary: Vocabulary, dates: Dates) -> list[np.ndarray]:
    """The ids of each date as it is written."""
    pairs = zip(dates.locales, dates.texts, strict=True)
    return [vocabulary.encode(tokens_of(locale, text)) for locale, text in pairs]


def encode_targets(isos: Sequence[str]) -> list[np.ndarray]:
    """The ids of each day, `(11,)`, the end counted."""
    return [TARGET.encode([*iso, END]) for iso in isos]


def text_of(tokens: np.ndarray) -> str:
    """What was written, up to its end."""
    return "".join(TARGET.decode(tokens)).partition(END)[0]


def model_config(config: Train, vocabulary: Vocabulary) -> EncoderDecoderConfig:
    """The model's own record."""
    model, precision = config.model, config.precision
    return EncoderDecoderConfig(
        len(vocabulary),
        len(TARGET),
        TARGET.end_id,
        TARGET.end_id,
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


def checkpoint_metadata(model: EncoderDecoderConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this model."""
    tokens = sha256(vocabulary.to_json().encode()).hexdigest()
    return {"experiment": "date_translation", "tokens": tokens} | json.loads(
        json.dumps(asdict(model))
    )


def run_fingerprint(config: Train | Compare, corpus: Corpus) -> dict[str, str]:
    """Digests of the dates, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    prefix = "template." if isinstance(config, Compare) else ""
    return fingerprint(
        data={name: getattr(corpus, name)._asdict() for name in ("train", "validation", "test")},
        config=config,
        code=code_of(
            here.with_name("date_pages.py"), here.with_name("attention_pictures.py"), here
        ),
        without=[prefix + name for name in ("run", "preset", "data.path")],
    )


def new_state(config: Train, model: EncoderDecoderConfig) -> TrainState:
    """The state before the first step; with scheduled sampling its memory counts steps."""
    key_params, key = jax.random.split(jax.random.key(config.seed))
    params = init_encoder_decoder(key_params, model)
    memory = jnp.zeros((), jnp.float32) if config.own_tokens else ()
    optimizer, loss_scale = build_optimizer(config.optimizer), config.precision.loss_scale()
    return initial_train_state(params, optimizer, memory, key, loss_scale)


def loss_function(
    config: Train, model: EncoderDecoderConfig, plan: str | Plan = "auto"
) -> LossFunction:
    """Teacher forcing, or scheduled sampling with ε = 1 − own_tokens · step / total_steps.

    References:
        Bengio et al. (2015), arXiv:1506.03099, section 2.4, linear decay.
    """
    options: dict[str, Any] = {"dropout": config.dropout, "plan": plan}
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


def training_batches(config: Train, vocabulary: Vocabulary, dates: Dates) -> Batches:
    """Like lengths together, shuffled anew each epoch; B is the last axis of each array."""
    padded = padded_batches(
        Encoded(encode_sources(vocabulary, dates), encode_targets(dates.isos)),
        ["sources", "targets"],
        batch_size=config.batch_size,
        growth=config.growth,
        seed=config.seed,
    )

    def make(epoch: int, index: int) -> TranslationBatch:
        columns, lengths, weights = padded.make(epoch, index)
        return TranslationBatch(
            columns["sources"], lengths["sources"], columns["targets"], lengths["targets"], weights
        )

    return Batches(padded.per_epoch, make)


class Trained(NamedTuple):
    """A model and what its ids stand for."""

    model: EncoderDecoderConfig
    plan: str
    params: EncoderDecoderParams
    vocabulary: Vocabulary
    steps: int  # Tx that every date is padded to, so that decoding is compiled once


class Written(NamedTuple):
    """What was written of N dates, the best hypothesis of each."""

    texts: list[str]
    characters: int  # in all, ends counted


def batches_to_decode(
    trained: Trained, sources: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """`(Tx, B)`, `(B,)` and how many of them are dates; always of one shape."""
    for begin in range(0, len(sources), ROWS_AT_A_TIME):
        chosen = sources[begin : begin + ROWS_AT_A_TIME]
        yield *pad(chosen, trained.steps, ROWS_AT_A_TIME), len(chosen)


def write(trained: Trained, sources: Sequence[np.ndarray], decoding: Decoding) -> Written:
    """Write each date, greedily or by a beam."""
    model, params = trained.model, trained.params
    texts, count = [], 0
    for tokens, lengths, kept in batches_to_decode(trained, sources):
        if decoding.beam_width == 1:
            found, sizes = translate_greedily(
                model, params, tokens, lengths, length=LENGTH, plan=trained.plan
            )
        else:
            hypotheses = by_beam(trained, tokens, lengths, decoding)
            found, sizes = hypotheses.tokens[..., 0], hypotheses.lengths[..., 0]
        texts += [text_of(row) for row in np.asarray(found).T[:kept]]
        count += int(np.asarray(sizes)[:kept].sum())
    return Written(texts, count)


def characters_per_second(
    trained: Trained, sources: Sequence[np.ndarray], decoding: Decoding
) -> float:
    """The fastest of three times through some batches, reading included, compilation not."""
    some, rates = sources[: TIMED_BATCHES * ROWS_AT_A_TIME], []
    write(trained, some[:ROWS_AT_A_TIME], decoding)
    for _ in range(3):
        start = time.perf_counter()
        written = write(trained, some, decoding)
        rates.append(written.characters / (time.perf_counter() - start))
    return max(rates)


def by_beam(
    trained: Trained, tokens: np.ndarray, lengths: np.ndarray, decoding: Decoding, count: int = 1
) -> Hypotheses:
    """The best hypotheses of each date."""
    return translate_by_beam(
        trained.model,
        trained.params,
        tokens,
        lengths,
        length=LENGTH,
        beam_width=decoding.beam_width,
        length_exponent=decoding.length_exponent,
        count=count,
        plan=trained.plan,
    )


def exact_match(found: Sequence[str | None], true: Sequence[str]) -> float:
    """The share that is right to the last character."""
    return float(np.mean([a == b for a, b in zip(found, true, strict=True)]))


def shares_by(
    names: Sequence[str], found: Sequence[str | None], true: Sequence[str]
) -> dict[str, float]:
    """Exact match of each group, such as of each locale, in order of appearance."""
    totals, right = Counter(names), Counter[str]()
    for name, a, b in zip(names, found, true, strict=True):
        right[name] += a == b
    return {name: right[name] / total for name, total in totals.items()}


def padded_steps(corpus: Corpus) -> int:
    """Tx of the longest date, in any split."""
    parts = (corpus.train, corpus.validation, corpus.test)
    return max(1 + len(normalised(text)) for part in parts for text in part.texts)


@lru_cache
def compiled_attention(model: EncoderDecoderConfig, plan: str) -> Callable[..., jax.Array]:
    """`(params, sources, targets, source lengths, target lengths) -> (Ty, B, Tx)`."""
    return jax.jit(partial(attention_weights, model, plan=plan))


def look(trained: Trained, sources: Sequence[np.ndarray], texts: Sequence[str]) -> list[np.ndarray]:
    """Where the decoder looked for each character of what it wrote, and for the end: `(Ty, Tx)`."""
    function = compiled_attention(trained.model, trained.plan)
    written, found = encode_targets(texts), []
    done = 0
    for tokens, lengths, kept in batches_to_decode(trained, sources):
        own = written[done : done + kept]
        targets, target_lengths = pad(own, max(LENGTH, *map(len, own)), len(lengths))
        weights = function(trained.params, tokens, targets, lengths, target_lengths)
        for row, one in enumerate(np.moveaxis(np.asarray(weights), 1, 0)[:kept]):
            found.append(one[: len(own[row]), : lengths[row]])
        done += kept
    return found


def attention_on_year(dates: Dates, maps: Sequence[np.ndarray]) -> float | None:
    """How much of the attention for y^<1>, …, y^<4> lies on the year or beside it, in the mean.

    Of dates that spell all digits of the year, once; None if there is no such date.
    """
    shares = []
    for locale, text, iso, weights in zip(
        dates.locales, dates.texts, dates.isos, maps, strict=True
    ):
        spelled = "".join(tokens_of(locale, text)[1:])
        if spelled.count(iso[:4]) == 1:
            first = 1 + spelled.index(iso[:4])
            shares.append(weights[:4, first - 1 : first + 5].sum(-1).mean())
    return float(np.mean(shares)) if shares else None


class Outcome(NamedTuple):
    """The best model of a training run, its step, and the run."""

    trained: Trained
    step: int
    run: RunFolder


def train_one(config: Train, corpus: Corpus) -> Outcome:
    """Train in the run folder to the end, or go on there."""
    from rnnjax.training.runs import train_in_folder

    vocabulary = corpus.vocabulary
    model, steps = model_config(config, vocabulary), padded_steps(corpus)
    state = new_state(config, model)  # refuses what it cannot be made of, before the folder
    batches = training_batches(config, vocabulary, corpus.train)
    held_out = encode_sources(vocabulary, corpus.validation)
    total = config.optimizer.total_steps

    def evaluate(state: TrainState) -> dict[str, float]:
        trained = Trained(model, config.model.plan, params_to_use(config, state), vocabulary, steps)
        found = write(trained, held_out, GREEDY).texts
        return {METRIC: exact_match(found, corpus.validation.isos)}

    made_of = run_fingerprint(config, corpus)
    with open_run_folder(config.run, config, fingerprint=made_of) as run:
        replace_text(run.path / "vocabulary.json", vocabulary.to_json())
        replace_text(run.path / "task.json", json.dumps({"steps": steps}))
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        say(
            f"{len(corpus.train.texts):,} dates to learn from, "
            f"{len(locales_of(vocabulary))} locales, {len(vocabulary):,} tokens, Tx up to {steps}; "
            f"{config.model.recurrence} {list(config.model.encoder_hidden_sizes)} and "
            f"{list(config.model.decoder_hidden_sizes)}, attention {config.model.attention}, "
            f"{count:,} parameters; {total:,} steps of {config.batch_size} dates, "
            f"{total / batches.per_epoch:.1f} times through them"
        )
        placement = place_rows(config.batch_size, rows_axis=TranslationBatch(1, 0, 1, 0, 0))
        result = train_in_folder(
            run,
            state,
            make_placed_train_step(
                placement,
                loss_function(config, model, plan_of(placement, config.model.plan)),
                build_optimizer(config.optimizer),
            ),
            batches,
            total_steps=total,
            evaluate=evaluate,
            metric=METRIC,
            lower_is_better=False,
            loop=config.loop,
            placement=placement,
            metadata=checkpoint_metadata(model, vocabulary),
            items_per_step=config.batch_size,
            unit="dates",
        )
        params = params_to_use(config, result.best.state)
        trained = Trained(model, config.model.plan, params, vocabulary, steps)
        return Outcome(trained, result.best.step, run)


def decodings_of(decoding: Decoding) -> list[Decoding]:
    """Greedy search; the beam asked for, one twice as wide, and it without length normalisation."""
    wider = replace(decoding, beam_width=2 * decoding.beam_width)
    asked = [GREEDY, replace(decoding, length_exponent=0.0), decoding, wider]
    return list(dict.fromkeys(one if one.beam_width > 1 else GREEDY for one in asked))


def baseline_answers(corpus: Corpus, dates: Dates) -> dict[str, list[str | None]]:
    """What is not a neural net reads."""
    from experiments.baselines.date_rules import Example, fit_counts, read_by_babel, read_by_counts
    from experiments.data.dates import OWN_STYLE

    known = corpus.train
    counts = fit_counts(map(Example, known.locales, known.texts, known.isos))
    styles = ["medium" if style == OWN_STYLE else style for style in dates.styles]
    return {
        BABEL: list(map(read_by_babel, dates.locales, dates.texts, styles)),
        COUNTS: [
            read_by_counts(counts, locale, text)
            for locale, text in zip(dates.locales, dates.texts, strict=True)
        ],
    }


def train(config: Train) -> dict[str, Any]:
    """Train to the end, or resume; then report on the test part.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from experiments.attention_pictures import draw_attention
    from rnnjax.training.plots import plot_training

    check(config)
    corpus = load_corpus(config.data)
    trained, step, run = train_one(config, corpus)
    folder, test = config.run, corpus.test
    sources = encode_sources(corpus.vocabulary, test)
    decodings = decodings_of(config.decoding)
    written = {one.name: write(trained, sources, one).texts for one in decodings}
    answers: dict[str, Sequence[str | None]] = dict(written)
    baselines = baseline_answers(corpus, test)
    held_out = baseline_answers(corpus, corpus.validation)
    answers |= baselines
    best = written[config.decoding.name]
    summary = run.start | {
        "metric": METRIC,
        "lower_is_better": False,
        "step": step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(trained.params)),
        "dates": {name: len(getattr(corpus, name).texts) for name in corpus._fields[:3]},
        "locales": len(locales_of(corpus.vocabulary)),
        "attention": config.model.attention,
        "decoding": config.decoding.name,
        "test": {METRIC: exact_match(best, test.isos)},
        "baselines": {
            "validation": {n: exact_match(f, corpus.validation.isos) for n, f in held_out.items()},
            "test": {name: exact_match(found, test.isos) for name, found in baselines.items()},
        },
        "decodings": {
            one.name: {
                METRIC: exact_match(written[one.name], test.isos),
                "characters_per_second": characters_per_second(trained, sources, one),
            }
            for one in decodings
        },
        "batch_size": ROWS_AT_A_TIME,
        "by_locale": {n: shares_by(test.locales, f, test.isos) for n, f in answers.items()},
        "by_style": {n: shares_by(test.styles, f, test.isos) for n, f in answers.items()},
        "examples": dict(zip(test.locales, test.texts, strict=True)),
        "samples": mistakes(test, best),
        "attention_on_year": None,
    }
    if config.model.attention != "none":
        maps = look(trained, sources, best)
        summary["attention_on_year"] = attention_on_year(test, maps)
        draw_attention(folder / "attention.png", shown_maps(test, best, maps, 6), columns=2)
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
    print(f"\n{scores_table(summary)}")
    worst = min(summary["by_locale"][config.decoding.name].items(), key=lambda item: item[1])
    print(f"The worst locale is {worst[0]}: {worst[1]:.1%}.")
    print("The exercise of the course that this follows publishes no exact match.")
    looked = "" if config.model.attention == "none" else " attention.png,"
    print(f"\nIn {folder}: report.md, training.png,{looked} metrics.jsonl, tensorboard/")
    return summary


def mistakes(dates: Dates, found: Sequence[str], count: int = 12) -> list[dict[str, str]]:
    """The first dates that were not written right."""
    rows = zip(dates.locales, dates.texts, dates.isos, found, strict=True)
    return [
        {"locale": locale, "text": text, "true": iso, "written": one}
        for locale, text, iso, one in rows
        if one != iso
    ][:count]


def shown_maps(
    dates: Dates, found: Sequence[str], maps: Sequence[np.ndarray], count: int
) -> "list[AttentionMap]":
    """Maps to be drawn: the first date in full of locales that the font has, evenly spaced.

    So nobody chose them by how well they look.
    """
    from experiments.attention_pictures import in_font

    first: dict[str, int] = {}
    for place, (locale, style) in enumerate(zip(dates.locales, dates.styles, strict=True)):
        if style == dates.styles[-1] and in_font(normalised(dates.texts[place])):
            first.setdefault(locale, place)
    places = list(first.values()) or [0]
    apart = (len(places) - 1) / max(1, count - 1)
    chosen = dict.fromkeys(places[round(number * apart)] for number in range(count))
    return [map_of(dates, found[place], maps[place], place) for place in chosen]


def map_of(
    dates: Dates, found: str, weights: np.ndarray, place: int, title: str | None = None
) -> "AttentionMap":
    """One map with its tokens, the locale and the end as signs."""
    from experiments.attention_pictures import AttentionMap

    locale, text = dates.locales[place], dates.texts[place]
    source = [SHOWN_LOCALE, *tokens_of(locale, text)[1:]]
    return AttentionMap(title or locale, source, [*found, SHOWN_END], weights)


def variants(config: Compare) -> dict[str, Train]:
    """What is compared, by name."""
    template = replace(config.template, own_tokens=0.0)
    found = {
        attention: replace(template, model=replace(template.model, attention=attention))
        for attention in config.attentions
    }
    if config.scheduled_own_tokens:
        name = f"{template.model.attention}, scheduled sampling"
        found[name] = replace(template, own_tokens=config.scheduled_own_tokens)
    return {
        name: replace(one, run=config.template.run / "models" / re.sub(r"[^a-z]+", "_", name))
        for name, one in found.items()
    }


def compare(config: Compare) -> dict[str, Any]:
    """Train each variant, or the rest of them; then write the test dates with each.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from experiments.attention_pictures import draw_attention
    from experiments.date_pages import draw_curves

    template = config.template
    check(template)
    check_share("scheduled_own_tokens", config.scheduled_own_tokens)
    if not config.attentions or not set(config.attentions) <= set(ATTENTIONS):
        raise ValueError(f"attentions: got {config.attentions}, expected some of {ATTENTIONS}")
    corpus = load_corpus(template.data)
    for one in variants(config).values():  # refuses what it cannot be made of, before the folder
        new_state(one, model_config(one, corpus.vocabulary))
    test = corpus.test
    sources = encode_sources(corpus.vocabulary, test)
    made_of = run_fingerprint(config, corpus)
    with open_run_folder(template.run, config, fingerprint=made_of) as run:
        cells: dict[str, dict[str, Any]] = {}
        pictures: list[list[AttentionMap]] = []
        for name, one in variants(config).items():
            say(f"{name}:")
            trained, step, own = train_one(one, corpus)
            minutes = own.seconds() / 60
            decodings = list(dict.fromkeys((GREEDY, template.decoding)))
            written = {of.name: write(trained, sources, of).texts for of in decodings}
            best = written[template.decoding.name]
            cells[name] = {
                "step": step,
                "minutes": minutes,
                "parameters": sum(leaf.size for leaf in jax.tree.leaves(trained.params)),
                "decodings": {
                    of.name: {
                        METRIC: exact_match(written[of.name], test.isos),
                        "characters_per_second": characters_per_second(trained, sources, of),
                    }
                    for of in decodings
                },
                "by_locale": shares_by(test.locales, best, test.isos),
                "by_style": shares_by(test.styles, best, test.isos),
                "attention_on_year": None,
            }
            if one.model.attention != "none":
                maps = look(trained, sources, best)
                cells[name]["attention_on_year"] = attention_on_year(test, maps)
                shown = shown_maps(test, best, maps, 3)
                pictures.append([m._replace(title=f"{name}: {m.title}") for m in shown])
        baselines = baseline_answers(corpus, test)
        summary = run.start | {
            "seconds": run.seconds(),
            "metric": METRIC,
            "lower_is_better": False,
            "dates": {name: len(getattr(corpus, name).texts) for name in corpus._fields[:3]},
            "locales": len(locales_of(corpus.vocabulary)),
            "own_tokens": config.scheduled_own_tokens,
            "decoding": template.decoding.name,
            "batch_size": ROWS_AT_A_TIME,
            "cells": cells,
            "baselines": {
                "test": {name: exact_match(found, test.isos) for name, found in baselines.items()}
            },
        }
        folder = run.path
        replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
        replace_text(folder / "report.md", comparison_page(summary))
        draw_curves(
            folder / "curves.png",
            {name: one.run / "metrics.jsonl" for name, one in variants(config).items()},
        )
        if pictures:
            by_date = [one for together in zip(*pictures, strict=True) for one in together]
            draw_attention(folder / "attention.png", by_date, columns=len(pictures))
        print(f"\n{comparison_table(summary)}")
        print(f"In {folder}: report.md, curves.png, attention.png, models/")
        return summary


def load_trained(run: Path) -> Trained:
    """The best model of a run, or its last one if it was never evaluated.

    Raises:
        FileNotFoundError: There is no run of this experiment in the folder, or no checkpoint.
        ValueError: The checkpoint is of another model or of another vocabulary.
    """
    if not all((run / name).exists() for name in ("config.json", "vocabulary.json", "task.json")):
        raise FileNotFoundError(
            f"run: got {run}, expected the folder of a run of `experiments.date_translation train`"
        )
    config = read_config(run, Train)
    vocabulary = from_json((run / "vocabulary.json").read_text("utf-8"))
    steps = json.loads((run / "task.json").read_text("utf-8"))["steps"]
    model = model_config(config, vocabulary)
    template, metadata = new_state(config, model), checkpoint_metadata(model, vocabulary)
    state = best_state(run, template, metadata, METRIC, lower_is_better=False)
    return Trained(model, config.model.plan, params_to_use(config, state), vocabulary, steps)


class Translation(NamedTuple):
    """A hypothesis."""

    text: str
    probability: float


def translate(config: Translate) -> list[list[Translation]]:
    """Print each date in ISO 8601 with its probability, and what could not be read of it."""
    check_decoding(config.decoding)
    check_size("count", config.count)
    texts = list(config.texts)
    if config.file is not None:
        try:
            lines = config.file.read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"file: {str(config.file)!r} is not UTF-8 text ({error})") from None
        texts += [line for line in lines if line.strip()]
    if not texts or not all(map(normalised, texts)):
        raise ValueError("texts: got an empty text or none, expected at least one date")
    if config.picture is not None and config.picture.suffix != ".png":
        raise ValueError(f"picture: got {config.picture.name!r}, expected a name ending in .png")
    trained = load_trained(config.run)
    check_texts(trained, config.locale, texts)
    if config.picture is not None and trained.model.attention == "none":
        raise ValueError(f"picture: got a model without attention in {config.run}, expected with")
    dates = Dates(texts, [config.locale] * len(texts), [""] * len(texts), [""] * len(texts))
    sources = encode_sources(trained.vocabulary, dates)
    found: list[list[Translation]] = []
    for tokens, lengths, kept in batches_to_decode(trained, sources):
        best = by_beam(trained, tokens, lengths, config.decoding, config.count)
        written, sure = np.asarray(best.tokens), np.exp(np.asarray(best.log_probabilities))
        found += [
            [
                Translation(text_of(written[:, row, place]), float(sure[row, place]))
                for place in range(config.count)
                if sure[row, place] > 0
            ]
            for row in range(kept)
        ]
    for text, hypotheses in zip(texts, found, strict=True):
        for place, (written, probability) in enumerate(hypotheses):
            note = "" if is_day(written) else "   not a day"
            print(f"{written:10}  {probability:6.1%}  {text if place == 0 else ''}{note}".rstrip())
        unknown = sorted(set(normalised(text)) - set(trained.vocabulary.tokens))
        if unknown:
            print(f"    unknown to the model, read as {UNKNOWN}: {''.join(unknown)!r}")
    if config.picture is not None:
        from experiments.attention_pictures import draw_attention

        best = [hypotheses[0].text for hypotheses in found]
        maps = look(trained, sources, best)
        draw_attention(
            config.picture,
            [
                map_of(dates, *pair, place)
                for place, pair in enumerate(zip(best, maps, strict=True))
            ],
        )
        print(f"In {config.picture}")
    return found


def check_texts(trained: Trained, locale: str, texts: Sequence[str]) -> None:
    """Refuse what the model was not made for.

    Raises:
        ValueError: The locale is unknown, or a text is longer than any it was trained or tested on.
    """
    known = locales_of(trained.vocabulary)
    if locale not in known:
        raise ValueError(f"locale: got {locale!r}, expected one of {', '.join(known)}")
    longest = max(len(normalised(text)) for text in texts)
    if longest > trained.steps - 1:
        raise ValueError(
            f"texts: got one of {longest} characters, expected at most {trained.steps - 1}, "
            "the length of the longest date that the model was made for"
        )


def is_day(text: str) -> bool:
    """Whether a text is a day YYYY-MM-DD."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def parse(arguments: list[str]) -> Train | Translate | Compare:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    default = preset_named(arguments, PRESETS)
    compared = Compare(
        replace(
            default,
            run=default.run.with_name(f"{default.run.name}_compared"),
            optimizer=replace(
                default.optimizer,
                total_steps=min(default.optimizer.total_steps, COMPARED_STEPS),
            ),
        )
    )
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=default)]
        | Annotated[Translate, tyro.conf.subcommand("translate")]
        | Annotated[Compare, tyro.conf.subcommand("compare", default=compared)]
    )
    return tyro.cli(commands, args=arguments, description=(__doc__ or "").split("\n\n")[0])


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        config = parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(config, Train):
            train(config)
        elif isinstance(config, Translate):
            translate(config)
        else:
            compare(config)


if __name__ == "__main__":
    main()
