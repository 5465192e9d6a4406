"""The settings of `experiments.music_generation`: what its command line is made of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig

RUN = Path("runs/music_generation")
MAY_DIFFER = ("split", "samples", "temperature")
"""What may be another one when a run goes on: they are of its report."""


@dataclass(frozen=True)
class Data:
    """Which music is learned.

    Attributes:
        corpus: "chorales": four parts, event by event; "tunes": ABC notation, character by
            character; "piano_rolls": frames of 88 keys, by path only.
        source: "package": a pinned package, fetched once; "path": your own files.
        path: Of source=path: the folder of scores (.mxl), the .abc file or folder of them, or the
            .mat file of piano rolls.
    """

    corpus: Literal["chorales", "tunes", "piano_rolls"] = "chorales"
    source: Literal["package", "path"] = "package"
    path: Path | None = None


@dataclass(frozen=True)
class Model:
    """What the network is made of.

    Attributes:
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        hidden_sizes: H of each layer, bottom first.
        embedding_size: E of a learned embedding of tokens; frames have none.
        dropout: The rate at which outputs of layers, and vectors of tokens read, are dropped.
        components: K kinds of frames, given which keys are independent; 1 is what is published.
            Tokens have none.
        input_dropout: The rate at which keys of frames read are dropped; tokens have none.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (256, 256)
    embedding_size: int = 64
    dropout: float = 0.3
    components: int = 1
    input_dropout: float = 0.0
    plan: str = "auto"


@dataclass(frozen=True)
class Train:
    """Train a model, or go on training the one in the run folder; then report on held-out music.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns chorales in minutes on two cores,
            "tunes" folk tunes, "jsb_chorales" and "nottingham" the piano rolls of these names (give
            --data.path), "smoke" only shows in seconds that everything runs, "full" is a published
            set-up.
        data: Which music is learned.
        model: What the network is made of.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps.
        batch_size: B, rows of pieces read side by side.
        window: T, steps of a window of truncated BPTT.
        transpose: Keys, up or down, by which piano rolls are moved at most while training: in each
            epoch half of the rows, each by its own number. 0 moves none. Written music has a key
            of its own.
        seed: Of parameters, of the order of pieces and of the samples.
        split: The part that the report is on.
        samples: Pieces made up for the report.
        temperature: Of these pieces.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full", "tunes", "jsb_chorales", "nottingham"] = "demo"
    data: Data = Data()
    model: Model = Model()
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: LoopConfig(evaluate_every=100, checkpoint_every=200, log_every=20)
    )
    batch_size: int = 16
    window: int = 128
    transpose: int = 0
    seed: int = 0
    split: Literal["validation", "test"] = "test"
    samples: int = 20
    temperature: float = 1.0


@dataclass(frozen=True)
class Generate:
    """Make up music with the best model of a run: MIDI, WAV and a picture of each piece.

    Attributes:
        group: x<1>, such as "minor 4/4" of chorales or "6/8 1/8 D" of tunes; None is the most
            frequent one. Piano rolls have none.
        run: The run folder.
        output: The folder that is written to; None is `generated` in the run folder.
        count: How many pieces.
        length: Tokens (or frames) after which a piece that has not ended is cut; None is about
            that of long pieces of the corpus.
        temperature: Below 1 what is likely becomes likelier; 0 always takes the likeliest.
        top_k: Draw among the k likeliest tokens.
        top_p: Draw among the likeliest tokens that together hold this probability.
        quarters_per_minute: The tempo.
        seed: The same seed makes the same pieces.
    """

    group: str | None = None
    run: Path = RUN
    output: Path | None = None
    count: int = 4
    length: int | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    quarters_per_minute: float = 90.0
    seed: int = 0


PRESETS = {
    "demo": Train(
        model=Model(dropout=0.3),
        optimizer=OptimizerConfig(
            learning_rate=5e-3,
            warmup_steps=50,
            total_steps=1200,
            clip_norm=20.0,
            final_fraction=0.02,
        ),
        batch_size=32,
        window=64,
    ),
    "smoke": Train(
        run=RUN.with_name("music_generation_smoke"),
        preset="smoke",
        model=Model(hidden_sizes=(16,), embedding_size=8),
        optimizer=OptimizerConfig(
            learning_rate=1e-2, warmup_steps=5, total_steps=20, clip_norm=20.0
        ),
        loop=LoopConfig(evaluate_every=10, checkpoint_every=10, log_every=5),
        batch_size=4,
        window=16,
        samples=2,
    ),
    # After BachBot (Liang et al. 2017): three layers of 256, vectors of 32, windows of 128.
    "full": Train(
        run=RUN.with_name("music_generation_full"),
        preset="full",
        model=Model(hidden_sizes=(256, 256, 256), embedding_size=32, dropout=0.3),
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=100, total_steps=10_000, clip_norm=40.0
        ),
        batch_size=50,
        samples=50,
    ),
    "tunes": Train(
        run=RUN.with_name("music_tunes"),
        preset="tunes",
        data=Data(corpus="tunes"),
        model=Model(dropout=0.1),
        optimizer=OptimizerConfig(
            learning_rate=5e-3,
            warmup_steps=50,
            total_steps=800,
            clip_norm=20.0,
            final_fraction=0.02,
        ),
        batch_size=32,
        window=64,
    ),
    "jsb_chorales": Train(
        run=RUN.with_name("music_jsb_chorales"),
        preset="jsb_chorales",
        data=Data(corpus="piano_rolls", source="path"),
        model=Model(hidden_sizes=(320,), dropout=0.6, input_dropout=0.2),
        optimizer=OptimizerConfig(
            learning_rate=4e-3,
            warmup_steps=20,
            total_steps=320,
            clip_norm=200.0,
            final_fraction=0.02,
            average_decay=0.98,
        ),
        loop=LoopConfig(evaluate_every=20, checkpoint_every=80, log_every=20),
        batch_size=16,
        window=64,
        split="validation",
        samples=4,
    ),
    "nottingham": Train(
        run=RUN.with_name("music_nottingham"),
        preset="nottingham",
        data=Data(corpus="piano_rolls", source="path"),
        model=Model(hidden_sizes=(256,), dropout=0.25, input_dropout=0.05),
        optimizer=OptimizerConfig(
            learning_rate=4e-3,
            warmup_steps=50,
            total_steps=2000,
            clip_norm=200.0,
            final_fraction=0.02,
            average_decay=0.99,
        ),
        loop=LoopConfig(evaluate_every=200, checkpoint_every=400, log_every=20),
        batch_size=32,
        window=64,
        split="validation",
        samples=4,
    ),
}
