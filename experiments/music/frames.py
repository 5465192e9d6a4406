"""A model of piano rolls: its data, its score beside others, and what it makes up."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.baselines import frame_ngram
from experiments.music.checks import Corpus
from experiments.music.config import Generate, Train
from experiments.music.events import Sounding
from experiments.music.files import piano_roll_bytes, write_piece
from experiments.music.task import Task, make_nats_of
from experiments.music.windows import (
    Steps,
    Window,
    training_windows,
    transposed,
    whole_windows,
)
from experiments.trained_run import made_by, params_to_use
from rnnjax.models.frame_model import (
    FrameBatch,
    FrameModelConfig,
    FrameModelParams,
    apply_frame_model,
    frame_model_loss,
    init_frame_model,
    initial_frame_state,
    nats_per_frame,
    sample_frame_model,
)
from rnnjax.training.files import replace_bytes, replace_text
from rnnjax.training.optimizer import build_optimizer
from rnnjax.training.run_folder import RunFolder
from rnnjax.training.step import TrainState, initial_train_state

KEYS, LOWEST = 88, 21
"""Of a piano, and the MIDI number of key 0; as in `experiments.data.piano_rolls`."""

METRIC, WITH_FIRST = "nats_per_frame", "nats_per_frame_with_first"
FREQUENCY, LAST_FRAME = "each key by its frequency", "last frame repeated, with noise"
N_GRAM = "n-gram of whole frames (the two before, back-off)"

PUBLISHED = {
    "JSB_Chorales": {
        "RNN (Bai et al. 2018)": 8.91,
        "GRU (Chung et al. 2014)": 8.54,
        "LSTM (Bai et al. 2018)": 8.45,
        "GRU (Bai et al. 2018)": 8.43,
        "TCN (Bai et al. 2018)": 8.10,
    },
    "Nottingham": {
        "RNN (Bai et al. 2018)": 4.05,
        "GRU (Bai et al. 2018)": 3.46,
        "LSTM (Bai et al. 2018)": 3.29,
        "TCN (Bai et al. 2018)": 3.07,
    },
}
"""Name of a file -> whose model -> nats per frame of its test part."""

QUARTERS_A_FRAME = {"JSB_Chorales": Fraction(1), "Nottingham": Fraction(1, 2)}
"""How long a frame lasts when it is heard: a beat, half a beat; of another file half a beat."""

SAMPLE_FRAMES = 128

_PUBLISHED = """Published figures are of the test part, and of models that learned from
all training pieces and were chosen by the validation part. All frames but the first of a piece
count in them, so they stand beside the first column."""


class Rolls(NamedTuple):
    """Pieces of each part of a file."""

    name: str
    parts: dict[str, list[np.ndarray]]  # (frames, 88) uint8 each


def load_rolls(path: Path | None) -> Rolls:
    """The file of `--data.path`.

    Raises:
        ValueError: There is none, or as `experiments.data.piano_rolls.load`.
    """
    if path is None:
        raise ValueError("path: got None with corpus='piano_rolls', expected a .mat file")
    from experiments.data import piano_rolls  # `datasets` takes seconds to import

    rows = piano_rolls.load(path)
    parts = {str(split): piano_rolls.as_rolls(rows[split]["frames"]) for split in rows}
    return Rolls(path.stem, parts)


def as_steps(pieces: Sequence[np.ndarray]) -> Steps:
    """Pieces as inputs, the frame before each (zeros before the first), and targets."""
    before = [np.concatenate([np.zeros_like(piece[:1]), piece[:-1]]) for piece in pieces]
    lengths = np.asarray([len(piece) for piece in pieces])
    return Steps(np.concatenate(before), np.concatenate(pieces), lengths)


def model_config(config: Train) -> FrameModelConfig:
    """The model's own record."""
    model = config.model
    return FrameModelConfig(KEYS, model.recurrence, model.hidden_sizes, model.components)


def checkpoint_metadata(config: Train) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this model."""
    return {"experiment": "music_generation", "of": "frames"} | json.loads(
        json.dumps(asdict(model_config(config)))
    )


def new_state(config: Train, frequencies: np.ndarray | None = None) -> TrainState:
    """The state before the first step."""
    model = model_config(config)
    key_params, key = jax.random.split(jax.random.key(config.seed))
    params = init_frame_model(key_params, model, frequencies)
    memory = initial_frame_state(model, params, (config.batch_size,))
    return initial_train_state(params, build_optimizer(config.optimizer), memory, key)


def frames_task(config: Train) -> Task:
    """The task of piano rolls.

    Raises:
        ValueError: As `load_rolls`, or the file has no part that is called `config.split`.
    """
    rolls = load_rolls(config.data.path)
    if config.split not in rolls.parts:
        raise ValueError(
            f"split: got {config.split!r}, expected one that the file has: {', '.join(rolls.parts)}"
        )
    model = model_config(config)
    train = as_steps(rolls.parts["train"])
    batches = training_windows(train, config.batch_size, config.window, config.seed)
    if config.transpose:
        batches = transposed(batches, config.transpose, config.seed)
    selection = whole_windows(as_steps(rolls.parts["selection"]), config.batch_size, config.window)
    loss_function = partial(
        frame_model_loss,
        model,
        dropout=config.model.dropout,
        input_dropout=config.model.input_dropout,
        plan=config.model.plan,
    )
    nats_of = _nats_of(config, model)
    return Task(
        METRIC,
        "frames",
        f"{len(train.targets):,} frames of {len(train.lengths)} pieces of {rolls.name}",
        rolls.parts,
        {},
        checkpoint_metadata(config),
        new_state(config, train.targets.mean(0)),
        loss_function,
        lambda step: FrameBatch(*batches(step)),
        lambda params: _scores(*nats_of(params, selection)),
        partial(_report, config, rolls),
    )


def _nats_of(config: Train, model: FrameModelConfig) -> Any:
    def losses_of(params: FrameModelParams, state: Any, window: Window) -> Any:
        state, prediction = apply_frame_model(
            model, params, state, window.inputs, window.resets, plan=config.model.plan
        )
        return state, nats_per_frame(prediction, window.targets, window.weights)

    return make_nats_of(
        losses_of, lambda params: initial_frame_state(model, params, (config.batch_size,))
    )


def _scores(of_firsts: float, of_others: float, firsts: int, others: int) -> dict[str, float]:
    """Nats per frame but the first of each piece, which is how it is published; and of all."""
    return {
        METRIC: of_others / others,
        WITH_FIRST: (of_firsts + of_others) / (firsts + others),
    }


def baseline_scores(
    train: Sequence[np.ndarray], held_out: Sequence[np.ndarray]
) -> dict[str, dict[str, float]]:
    """Name -> nats per frame of what is not a neural net."""
    found = {
        FREQUENCY: frame_ngram.by_frequency(train, held_out),
        LAST_FRAME: frame_ngram.by_last_frame(train, held_out),
        N_GRAM: frame_ngram.nats(frame_ngram.fit(train), held_out),
    }
    return {
        name: _scores(
            sum(float(one[0]) for one in nats),
            sum(float(one[1:].sum()) for one in nats),
            len(nats),
            sum(len(one) - 1 for one in nats),
        )
        for name, nats in found.items()
    }


def notes_of_frames(frames: np.ndarray, quarters: Fraction) -> list[Sounding]:
    """The notes of a piece `(frames, 88)`: a key that sounds on is one note.

    Args:
        frames: 1 where a key sounds.
        quarters: how long a frame lasts.
    """
    notes = []
    padded = np.pad(np.asarray(frames, np.int8), ((1, 1), (0, 0)))
    for key in np.flatnonzero(padded.any(0)):
        changes = np.flatnonzero(np.diff(padded[:, key]))
        for begin, end in zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True):
            times = begin * quarters, (end - begin) * quarters
            notes.append(Sounding(*times, int(key) + LOWEST, 0))
    return sorted(notes)


def _report(
    config: Train, rolls: Rolls, params: FrameModelParams, step: int, run: RunFolder
) -> dict[str, Any]:
    """Score the held-out pieces beside the baselines, draw the curves, and make up pieces."""
    from rnnjax.training.plots import plot_training

    folder, model = run.path, model_config(config)
    train, held_out = rolls.parts["train"], rolls.parts[config.split]
    windows = whole_windows(as_steps(held_out), config.batch_size, config.window)
    score = _scores(*_nats_of(config, model)(params, windows))
    baselines = baseline_scores(train, held_out)
    quarters = QUARTERS_A_FRAME.get(rolls.name, Fraction(1, 2))
    made_up = sample_pieces(config, params, config.seed, config.samples, SAMPLE_FRAMES)
    corpus = Corpus([_items(piece) for piece in train])
    runs = {
        "this model": [corpus.longest_run(_items(piece)) for piece in made_up],
        "held-out pieces": [corpus.longest_run(_items(piece)) for piece in held_out],
    }
    summary = run.start | {
        "seconds": run.seconds(),
        "metric": METRIC,
        "lower_is_better": True,
        "step": step,
        "corpus": rolls.name,
        "split": config.split,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "pieces": {part: len(pieces) for part, pieces in rolls.parts.items()},
        "frames": sum(map(len, held_out)),
        config.split: score,
        "baselines": {config.split: {name: of[METRIC] for name, of in baselines.items()}},
        "baselines_with_first": {name: of[WITH_FIRST] for name, of in baselines.items()},
        "published": PUBLISHED.get(rolls.name, {}),
        "longest_run": {name: max(of_name) for name, of_name in runs.items()},
        "median_run": {name: float(np.median(of_name)) for name, of_name in runs.items()},
        "sample_frames": SAMPLE_FRAMES,
        "temperature": config.temperature,
    }
    replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(folder / "report.md", report_page(summary))
    selection = baseline_scores(train, rolls.parts["selection"])
    plot_training(
        folder / "metrics.jsonl",
        folder / "training.png",
        {name: scores[METRIC] for name, scores in selection.items()},
        quantity=METRIC,
        clip_norm=config.optimizer.clip_norm,
    )
    pieces = [("this model", made_up[0]), (f"of the {config.split} part", held_out[0])]
    write_roll(folder / "piano_roll.png", pieces, quarters)
    for number, piece in enumerate(made_up, 1):
        write_piece(folder, f"sample_{number}", notes_of_frames(piece, quarters))
    print(f"\n{scores_table(summary)}\n{_runs_in_words(summary)}\n")
    print(f"In {folder}: report.md, training.png, piano_roll.png, sample_1.mid, sample_1.wav, …")
    return summary


def write_roll(path: Path, pieces: Sequence[tuple[str, np.ndarray]], quarters: Fraction) -> None:
    """A picture of pieces `(frames, 88)`, each with its title."""
    drawn = [(title, notes_of_frames(piece, quarters), 4.0) for title, piece in pieces]
    replace_bytes(path, piano_roll_bytes(drawn))


def sample_pieces(
    config: Train,
    params: FrameModelParams,
    seed: int,
    count: int,
    length: int,
    temperature: float | None = None,
) -> list[np.ndarray]:
    """Pieces made up from silence, `(frames, 88)` bool each.

    Raises:
        ValueError: As `sample_frame_model`.
    """
    frames = sample_frame_model(
        model_config(config),
        params,
        jax.random.key(seed),
        np.zeros((1, count, KEYS), np.float32),
        length,
        temperature=config.temperature if temperature is None else temperature,
    )
    return list(np.asarray(frames).transpose(1, 0, 2))


def _items(piece: np.ndarray) -> list[bytes]:
    """Frames as what is compared: one that is as the one before counts too."""
    return [frame.tobytes() for frame in np.asarray(piece, np.uint8)]


def scores_table(summary: dict[str, Any]) -> str:
    """Nats per frame of each model, the best first."""
    split = summary["split"]
    rows = {"**this model**": (summary[split][METRIC], summary[split][WITH_FIRST])}
    for name, score in summary["baselines"][split].items():
        rows[name] = score, summary["baselines_with_first"][name]
    lines = [
        f"| nats per frame, {summary['pieces'][split]} pieces ({split} part) | "
        "but the first of each piece | all |",
        "| --- | ---: | ---: |",
    ]
    for name in sorted(rows, key=lambda name: rows[name]):
        but_first, all_of_them = rows[name]
        lines.append(f"| {name} | {but_first:.3f} | {all_of_them:.3f} |")
    published = summary["published"].items()
    lines += [f"| published, test part: {name} | {score:.2f} | |" for name, score in published]
    return "\n".join(lines) + "\n"


def _runs_in_words(summary: dict[str, Any]) -> str:
    longest, median = summary["longest_run"], summary["median_run"]
    return (
        f"Of {summary['sample_frames']} frames that the model makes up, at most "
        f"{longest['this model']} in a row (in the median of pieces {median['this model']:.0f}) "
        "stand so in a training piece; of held-out pieces at most "
        f"{longest['held-out pieces']} ({median['held-out pieces']:.0f})."
    )


def report_page(summary: dict[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    parts = ", ".join(f"{count} {part}" for part, count in summary["pieces"].items())
    return f"""# Piano rolls: {summary["corpus"]}

{made_by(summary)} {summary["parameters"]:,} parameters, the best model (step {summary["step"]:,}).

{scores_table(summary)}
Pieces: {parts}. The best step was chosen by the part `selection`, every tenth training piece, which
the model did not learn from, and so were the settings; the {summary["split"]} part was read for
this table alone. {_PUBLISHED if summary["published"] else ""}

![loss, learning rate and gradient norm](training.png)

{_runs_in_words(summary)}

Sampled at temperature {summary["temperature"]} ([MIDI](sample_1.mid)), and a real piece below it:

![piano rolls](piano_roll.png)
"""


def generate(config: Generate, trained: Train, state: TrainState, name: str) -> list[Path]:
    """Write pieces, a picture of them all, and say where.

    Args:
        config: The command.
        trained: The config of the run.
        state: Its best.
        name: Of the corpus.

    Raises:
        ValueError: A group or filter is given, which frames have not, or as `sample_pieces`.
    """
    for option in ("group", "top_k", "top_p"):
        if getattr(config, option) is not None:
            raise ValueError(
                f"{option}: got {getattr(config, option)!r} with a model of frames, expected none"
            )
    pieces = sample_pieces(
        trained,
        params_to_use(trained, state),
        config.seed,
        config.count,
        SAMPLE_FRAMES if config.length is None else config.length,
        config.temperature,
    )
    quarters = QUARTERS_A_FRAME.get(name, Fraction(1, 2))
    folder = config.output or config.run / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, piece in enumerate(pieces, 1):
        notes = notes_of_frames(piece, quarters)
        written += write_piece(folder, f"piece_{number}", notes, config.quarters_per_minute)
    titled = [(f"piece {number}", piece) for number, piece in enumerate(pieces, 1)]
    write_roll(folder / "piano_roll.png", titled, quarters)
    return [*written, folder / "piano_roll.png"]
